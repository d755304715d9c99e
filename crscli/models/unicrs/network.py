"""UniCRS's network for one stage: a decoder that reads a text after a prompt, and the stage's loss.

Knows token ids, nodes and tensors; nothing of dialogues and files. Source: Wang et al., KDD 2022, sections 3.2 to 3.4;
RUCAIBox/UniCRS, train_pre.py, train_conv.py, train_rec.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crscli.backbone import Backbone, Prefix
from crscli.backbone.states import FrozenStates
from crscli.graph_encoder import Nodes
from crscli.models.unicrs.config import UnicrsConfig
from crscli.models.unicrs.layout import Asked, Layout, Said
from crscli.models.unicrs.prompts import Prompts
from crscli.training import moved

Stage = Literal["fusion", "conversation", "recommendation"]


@dataclass
class PromptBatch:
    """Texts with what their prompts are made of.

    `ids` (B, T) int64, padded to the right, and `lengths` (B,). `states` (B, W, D') of the encoder and
    `state_lengths` (B,). `nodes` (B, E) of the contexts and `node_counts` (B,). What is learnt: `rows` (G,) and
    `expected` (G,): a row's target (node or item), or, in the conversation stage, flat places in (B, T) and the next
    token there.
    """

    ids: Tensor
    lengths: Tensor
    states: Tensor
    state_lengths: Tensor
    nodes: Tensor
    node_counts: Tensor
    rows: Tensor
    expected: Tensor
    counts: Mapping[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> "PromptBatch":
        """The batch on a device."""
        return moved(self, device)


@dataclass
class Read:
    """What the decoder made of texts: `hidden` (B, T, D), and `pooled` (B, D) of their prompts.

    `candidates` (N, D) are vectors of the nodes or items that are scored; `kept` are keys and values, where asked for.
    """

    hidden: Tensor
    pooled: Tensor
    candidates: Tensor | None
    kept: Prefix | None


class UnicrsNetwork(nn.Module):
    """Prompts and decoder of one stage; the Trainable of the training loop."""

    items: Tensor

    def __init__(
        self, stage: Stage, decoder: Backbone, states: FrozenStates, layout: Layout, config: UnicrsConfig, *,
        encoder_width: int, seed: int = 0,
    ) -> None:  # fmt: skip
        """Put the parts together.

        Args:
            stage: what is learnt.
            decoder: frozen, or trained with the prompts.
            states: of the encoder.
            layout: of the same decoder.
            config: settings.
            encoder_width: of the states.
            seed: of the prompts.
        """
        super().__init__()
        self.stage, self.decoder, self.layout, self.config = stage, decoder, layout, config
        self.states = states
        nodes: Nodes = layout.nodes
        soft = {"fusion": 0, "conversation": config.conversation_soft_tokens}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 2)
            self.prompts = Prompts(
                nodes, config, width=decoder.width, encoder_width=encoder_width, prefix=decoder.prefix_shape(),
                soft_tokens=soft.get(stage, config.recommendation_soft_tokens),
            )  # fmt: skip
        self.register_buffer("items", torch.from_numpy(nodes.items), persistent=False)
        self.item_of: dict[int, int] = {int(node): num for num, node in reversed(list(enumerate(nodes.items)))}
        self.weights = {stage: 1.0}
        self.slower: dict[str, float] = {}
        if stage == "recommendation" and config.decoder_rate != 1:
            self.slower = {n: config.decoder_rate for n in self.trained() if n.startswith("decoder.")}
        self._nodes: Tensor | None = None

    def train(self, mode: bool = True) -> "UnicrsNetwork":
        """The decoder drops nothing out, as in the reference; node vectors that were kept for reading are forgotten."""
        super().train(mode)
        self._nodes = None
        return self

    def trained(self) -> dict[str, nn.Parameter]:
        """The prompts; the decoder where it is tuned; the placeholder's row where replies are learnt."""
        found = {name: p for name, p in self.named_parameters() if name.startswith("prompts.")}
        if self.config.tune == "full":
            found |= {name: p for name, p in self.named_parameters() if name.startswith("decoder.")}
        elif self.stage == "conversation" and self.config.trained_placeholder:
            found["decoder.special_rows"] = self.decoder.special_rows
        return found

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.decoder.device

    def node_vectors(self) -> Tensor:
        """(N, D) of all nodes, kept while nothing is trained."""
        if self.training or torch.is_grad_enabled():
            return self.prompts.entities()
        if self._nodes is None:
            self._nodes = self.prompts.entities()
        return self._nodes

    # ---- reading ----------------------------------------------------------------------------------------------

    def batch(self, texts: Sequence[tuple[int, ...]], sources: Sequence[Asked | Said]) -> PromptBatch:
        """Texts with the words and entities of their sources."""
        lengths = torch.tensor([len(t) for t in texts])
        ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
        for num, text in enumerate(texts):
            ids[num, : len(text)] = torch.tensor(text)
        counts = torch.tensor([len(s.nodes) for s in sources])
        nodes = torch.full((len(sources), int(counts.max())), self.layout.nodes.none, dtype=torch.long)
        for num, source in enumerate(sources):
            nodes[num, : len(source.nodes)] = torch.tensor(source.nodes)
        if self.config.use_words:
            states, state_lengths = self.states([s.words for s in sources])
        else:
            states, state_lengths = torch.zeros(len(texts), 1, 1), torch.ones(len(texts), dtype=torch.long)
        none = torch.zeros(0, dtype=torch.long)
        return PromptBatch(ids, lengths, states, state_lengths, nodes, counts, none, none)

    def read(self, batch: PromptBatch, *, keep: bool = False) -> Read:
        """Read texts after their prompts.

        Args:
            batch: on the device.
            keep: give keys and values of prompts and texts too, to continue from.
        """
        talks = self.stage == "conversation"
        entities, candidates = self._nodes_of(batch)
        words = _first(batch.state_lengths, batch.states.shape[1])
        named = _first(batch.node_counts, batch.nodes.shape[1])
        prompt, pooled = self.prompts(batch.states.float(), words, entities, named, to_words=talks)
        hidden, kept = self.decoder.encode(
            self.decoder.embed(batch.ids), prefix=prompt, lengths=batch.lengths if keep else None,
            mask=_first(batch.lengths, batch.ids.shape[1]),
        )  # fmt: skip
        return Read(hidden, pooled, candidates, kept)

    def _nodes_of(self, batch: PromptBatch) -> tuple[Tensor, Tensor | None]:
        """Vectors of the batch's entities (B, E, D), and of what is scored: all nodes, or the items, (N, D).

        While it is trained the graph is encoded once, at no more rows than are needed.
        """
        reads_all = self.stage == "fusion" or (self.training and self.config.item_loss == "nodes")
        if not self.training or (reads_all and self.stage != "conversation"):
            every = self.node_vectors()
            return every[batch.nodes], every if reads_all else every[self.items]
        scored = self.items if self.stage == "recommendation" else self.items[:0]
        chosen, places = torch.cat([scored, batch.nodes.flatten()]).unique(return_inverse=True)
        vectors = self.prompts.entities(chosen)
        items, entities = vectors[places[: len(scored)]], vectors[places[len(scored) :]]
        return entities.view(*batch.nodes.shape, -1), items if len(scored) else None

    def scores(self, read: Read, lengths: Tensor) -> Tensor:
        """(B, N) of what is scored: its vectors times the query of each text (`lengths` (B,) tokens).

        The query is the state of the last real token, or the mean over all of them.
        """
        assert read.candidates is not None, "something is scored"
        hidden = read.hidden.float()
        if self.config.pooling == "last":
            query = hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
        else:
            real = _first(lengths, hidden.shape[1])
            query = torch.einsum("bt,btd->bd", real.float() / lengths[:, None], hidden)
        if self.config.query_residual:
            query = query + read.pooled
        return query @ read.candidates.T

    # ---- the training loop's side -----------------------------------------------------------------------------

    def length(self, example: Asked | Said) -> int:
        """Tokens of an example."""
        return len(example)

    def draw(self, examples: Sequence[Asked | Said], rng: np.random.Generator) -> None:
        """Nothing is drawn."""

    def collate(self, examples: Sequence[Asked | Said], drawn: None, rows: Sequence[int]) -> PromptBatch:
        """Examples as tensors."""
        if self.stage == "conversation":
            return self._collate_said([e for e in examples if isinstance(e, Said)])
        asked = [e for e in examples if isinstance(e, Asked)]
        batch = self.batch([a.ids for a in asked], asked)
        of_row = [num for num, a in enumerate(asked) for _ in a.targets]
        targets = [t for a in asked for t in a.targets]
        if self.stage == "recommendation" and self.config.item_loss != "nodes":
            targets = [self.item_of[t] for t in targets]
        counts: dict[str, int] = {self.stage: len(targets)}
        return replace(batch, rows=torch.tensor(of_row), expected=torch.tensor(targets), counts=counts)

    def _collate_said(self, examples: Sequence[Said]) -> PromptBatch:
        batch = self.batch([(*s.context, *s.response) for s in examples], examples)
        width, opening = batch.ids.shape[1], len(self.layout.opening)
        places: list[int] = []
        for num, said in enumerate(examples):
            first = 1 if self.config.reads_aloud else len(said.context) + opening
            places += range(num * width + first - 1, num * width + len(said) - 1)
        at = torch.tensor(places, dtype=torch.long)
        return replace(batch, rows=at, expected=batch.ids.flatten()[at + 1], counts={self.stage: len(places)})

    def losses(self, batch: PromptBatch) -> dict[str, Tensor]:
        """The stage's loss, summed over targets or tokens."""
        read = self.read(batch)
        if self.stage == "conversation":
            logits = self.decoder.logits(read.hidden.flatten(0, 1)[batch.rows])
            return {self.stage: F.cross_entropy(logits, batch.expected, reduction="sum")}
        return {self.stage: self._item_loss(self.scores(read, batch.lengths), batch)}

    def _item_loss(self, logits: Tensor, batch: PromptBatch) -> Tensor:
        """Of scores (B, N) and the targets of the rows; a row's logarithms are taken once for all its targets."""
        logs = logits.log_softmax(1)
        own = logs[batch.rows, batch.expected]
        if self.stage == "fusion" or self.config.item_loss != "bce":
            return -own.sum()
        # Eq. 9: besides the target's, what each other item's probability leaves.
        left = torch.log1p(-logs.exp().clamp(max=1 - 1e-6))
        others = left.sum(1)[batch.rows] - left[batch.rows, batch.expected]
        return -(own + others).sum()

    def memory_bytes(self, rows: int) -> int:
        """About what training on so many examples at once takes.

        Weights, and for trained ones gradient and two moments; activations of the decoder, through which gradients pass
        though it is frozen; the prompt's keys and values; the graph's aggregated bases.
        """
        config, decoder = self.config, self.decoder
        size = 2 if self.device.type == "cuda" else 4
        trained = sum(p.numel() for p in self.trained().values())
        frozen = sum(p.numel() for p in self.parameters()) - trained
        tokens = rows * (config.context_tokens + (config.response_tokens if self.stage == "conversation" else 0))
        layers, heads, head = self.prompts.shape
        prompt = rows * (config.context_tokens + 64) * layers * 2 * heads * head * 4 * 3
        graph = len(self.prompts.entities.table) * self.prompts.entities.table.shape[1] * (config.bases + 6) * 4
        scores = rows * (decoder.vocabulary * config.response_tokens if self.stage == "conversation" else len(
            self.prompts.entities.table)) * 4 * 3  # fmt: skip
        work = tokens * layers * decoder.width * 40 * size
        return int(frozen * size + trained * 16 + work + prompt + graph + scores + 5e8)


def _first(lengths: Tensor, width: int) -> Tensor:
    """(B, W) bool, the first `lengths` (B,) of each row."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]
