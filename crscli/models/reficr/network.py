"""ReFICR's network: one decoder that embeds texts by reading them both ways, and answers by reading them forwards.

Knows token ids and tensors; nothing of dialogues and files. Source: Yang & Chen, RecSys 2024, section 3; the released
code is GritLM's. Differs: what a row is not to be told apart from is masked; own and in-batch negatives are switched
apart (the code's switch changes nothing); every row of both kinds is visited once an epoch; questions about the same
dialogue are learnt in one reading of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from crscli.backbone import Backbone
from crscli.models.reficr.config import ReficrConfig
from crscli.models.reficr.layout import Embedded
from crscli.models.reficr.rows import Asked, Conversation, Sought
from crscli.training import moved

_SLOTS_AT_ONCE = {"cpu": 8192, "cuda": 131_072}
"""Slots of texts that are embedded together without gradient."""
_KINDS = ("items", "conversations")
_APART = 1_000_000
"""More than any text has tokens: rows of one kind make one batch."""


@dataclass
class ReficrBatch:
    """Rows as tensors.

    Of what is sought: `queries` (R, T) token ids, `query_spans` (R, 2) where the text begins and ends, `passages`
    (P, T'), `passage_spans` (P, 2), `positive` and `negative` (R, P) bool, `kinds` (R,). Of what is asked: `ids`
    (A, U), `segments` (A, U) 0 for the dialogue, b for its b-th question, -1 for padding, `positions` (A, U), `places`
    (G,) flat places whose next token `expected` (G,) is learnt, `aloud` (G,) whether it is of the dialogue.
    """

    queries: Tensor
    query_spans: Tensor
    passages: Tensor
    passage_spans: Tensor
    positive: Tensor
    negative: Tensor
    kinds: Tensor
    ids: Tensor
    segments: Tensor
    positions: Tensor
    places: Tensor
    expected: Tensor
    aloud: Tensor
    counts: Mapping[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> "ReficrBatch":
        """The batch on a device."""
        return moved(self, device)


@dataclass(frozen=True)
class Drawn:
    """What a batch is compared with: item numbers and store places, `chosen` the positives and negatives of each row.

    `chosen[r]` (positives, own negatives) of each row of the batch, as places among items, then conversations; `shared`
    places of items that are negatives of every row.
    """

    items: np.ndarray
    conversations: np.ndarray
    chosen: list[tuple[list[int], list[int]]]
    shared: list[int]


def contrastive(
    similar: Tensor, positive: Tensor, negative: Tensor, *, temperature: float, margin: float = 0.0
) -> Tensor:
    """(R,) the mean over a row's positives of -log(e^s / (e^s + sum of its negatives' e^s)), s = cosine / temperature.

    Args:
        similar: (R, P) cosines.
        positive: (R, P) bool; one or more a row.
        negative: (R, P) bool; other passages do not count.
        temperature: divides cosines.
        margin: a negative whose cosine is above the row's best positive by more is left out; 0 leaves none out.

    Source: the paper's Eq. 4, for several positives.
    """
    if margin > 0:
        best = similar.masked_fill(~positive, -2.0).amax(1, keepdim=True)
        negative = negative & (similar.detach() <= best.detach() + margin)
    scores = similar / temperature
    others = scores.masked_fill(~negative, -1e4).logsumexp(1, keepdim=True)
    each = torch.logaddexp(scores, others) - scores
    return (each * positive).sum(1) / positive.sum(1).clamp(min=1)


class ReficrNetwork(nn.Module):
    """Backbone and losses; the Trainable of the training loop."""

    def __init__(
        self,
        backbone: Backbone,
        config: ReficrConfig,
        *,
        items: Sequence[Embedded],
        conversations: Sequence[Embedded] = (),
        store: Sequence[Conversation] = (),
        titles: Sequence[int] = (),
    ) -> None:
        """Put the parts together.

        Args:
            backbone: a decoder.
            config: settings.
            items: every item's text.
            conversations: every stored conversation's text.
            store: the conversations themselves.
            titles: of each item the first item of its title.
        """
        super().__init__()
        self.backbone, self.config = backbone, config
        self.items, self.conversations, self.store = list(items), list(conversations), list(store)
        self._titles = np.array(titles, dtype=np.int64)
        if config.lexical:
            self.attention = nn.Parameter(torch.zeros(backbone.width))
            self.gate = nn.Parameter(torch.zeros(backbone.width))
        self.weights: dict[str, float] = {}
        table = backbone.lm.get_input_embeddings().weight
        self.slower = {n: config.embedding_rate for n, p in self.named_parameters() if p is table}
        self.begin_stage(first=True)

    def begin_stage(self, *, first: bool) -> None:
        """The first stage learns to find by what else is in the batch; the second by what was mined, and to answer."""
        config = self.config
        self.own = 0 if first else config.negatives
        self.in_batch = True if first else config.in_batch
        conversations = config.conversation_weight if config.learns_conversations else 0.0
        weights = {"items": config.item_weight, "conversations": conversations}
        if not first:
            weights |= {"answers": config.language_weight}
            weights |= {"reading": config.language_weight * config.reads_aloud}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}

    def learnt(self, rows: Sequence[Sought | Asked]) -> list[Sought | Asked]:
        """The rows that have a loss in this stage."""
        loss = {Sought: lambda row: f"{row.kind}s", Asked: lambda row: "answers"}
        return [row for row in rows if loss[type(row)](row) in self.weights]

    def trained(self) -> dict[str, nn.Parameter]:
        """Adapters (or the backbone), and the special tokens' rows."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.backbone.device

    # ---- embedding --------------------------------------------------------------------------------------------

    def embedded(self, ids: Tensor, spans: Tensor) -> Tensor:
        """(X, D) unit vectors of texts: the mean over their own tokens of what a reading both ways makes of them.

        Args:
            ids: (X, T) token ids.
            spans: (X, 2) where each text begins and ends; before it stand its instruction and tags.
        """
        places = torch.arange(ids.shape[1], device=ids.device)
        real = places < spans[:, 1:]
        own = real & (places >= spans[:, :1])
        embeds = self.backbone.embed(ids)
        hidden = self.backbone.read_both_ways(embeds, real).float()
        share = own.float() / own.sum(1, keepdim=True).clamp(min=1)
        made = torch.einsum("xt,xtd->xd", share, hidden)
        if self.config.lexical:
            heard = (hidden @ self.attention * self.backbone.width**0.5).masked_fill(~own, -torch.inf)
            heard = torch.where(own.any(1, keepdim=True), heard, 0.0).softmax(1)
            made = torch.einsum("xt,xtd->xd", heard, embeds.float()) + self.gate * made
        return F.normalize(made, dim=-1)

    def _in_chunks(self, ids: Tensor, spans: Tensor) -> Tensor:
        """The same, a chunk of like length at a time; in training each is read again when its gradient is needed.

        That is GradCache (Gao et al., RepL4NLP 2021): vectors first, the loss and its gradient of them, then each
        chunk's own gradient with the same dropout. Memory is that of one chunk, the result that of the whole batch.
        """
        limit = self.config.chunk_tokens if torch.is_grad_enabled() else _SLOTS_AT_ONCE.get(ids.device.type, 8192)
        lengths = spans[:, 1].cpu()
        order = lengths.argsort()
        parts, start = [], 0
        while start < len(order):
            end = len(order)
            if limit:
                end = start + 1
                while end < len(order) and (end + 1 - start) * int(lengths[order[end]]) <= limit:
                    end += 1
            rows = order[start:end].to(ids.device)
            some = ids[rows, : int(lengths[order[start:end]].max())], spans[rows]
            cached = torch.is_grad_enabled() and self.config.chunk_tokens > 0
            parts.append(checkpoint(self.embedded, *some, use_reentrant=False) if cached else self.embedded(*some))
            start = end
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return torch.cat(parts)[back.to(ids.device)]

    @torch.no_grad()
    def vectors(self, texts: Sequence[Embedded]) -> Tensor:
        """(X, D) float32 unit vectors of texts, on the CPU; a text's vector does not depend on the others."""
        if not texts:
            return torch.zeros(0, self.backbone.width)
        return self._in_chunks(*(t.to(self.device) for t in _padded(texts))).float().cpu()

    # ---- the training loop's side -----------------------------------------------------------------------------

    def length(self, example: Sought | Asked) -> int:
        """Tokens of a row; those of different kinds are far apart, so that a batch is of one kind."""
        if isinstance(example, Asked):
            return len(example)
        return len(example) + _APART * (1 + (example.kind == "conversation"))

    def draw(self, examples: Sequence[Sought | Asked], rng: np.random.Generator) -> Drawn:
        """Positives and negatives for a batch, the same whatever parts it is computed in."""
        picked: list[tuple[str, list[int], list[int]]] = []
        for row in examples:
            if isinstance(row, Asked):
                picked.append(("item", [], []))
                continue
            every = row.kind == "item" and self.config.every_positive
            positives = list(row.positives) if every else [int(rng.choice(row.positives))]
            size = min(self.own, len(row.mined))
            negatives = rng.choice(row.mined, size, replace=False).tolist() if size else []
            picked.append((row.kind, positives, negatives))
        needed: dict[str, set[int]] = {"item": set(), "conversation": set()}
        for kind, positives, negatives in picked:
            needed[kind] |= {*positives, *negatives}
        count = self.config.random_negatives if needed["item"] else 0
        drawn = rng.choice(len(self.items), min(count, len(self.items)), replace=False).tolist() if count else []
        items = sorted(needed["item"] | set(drawn))
        conversations = sorted(needed["conversation"])
        place = {
            "item": {n: at for at, n in enumerate(items)},
            "conversation": {n: at + len(items) for at, n in enumerate(conversations)},
        }
        chosen = [([place[kind][n] for n in p], [place[kind][n] for n in q]) for kind, p, q in picked]
        shared = [place["item"][n] for n in drawn]
        return Drawn(np.array(items, dtype=np.int64), np.array(conversations, dtype=np.int64), chosen, shared)

    def collate(self, examples: Sequence[Sought | Asked], drawn: Drawn, rows: Sequence[int]) -> ReficrBatch:
        """Rows as tensors; `drawn` for the whole batch, in which these are `rows`."""
        sought = [e for e in examples if isinstance(e, Sought)]
        asked = [e for e in examples if isinstance(e, Asked)]
        chosen = [drawn.chosen[num] for num, e in zip(rows, examples, strict=True) if isinstance(e, Sought)]
        positive, negative = self._compared(sought, drawn, chosen)
        used = np.flatnonzero((positive | negative).any(0)) if len(sought) else np.zeros(0, dtype=np.int64)
        texts = [self.items[n] for n in drawn.items] + [self.conversations[n] for n in drawn.conversations]
        queries, query_spans = _padded([e.query for e in sought])
        passages, passage_spans = _padded([texts[n] for n in used])
        kinds = torch.tensor([int(e.kind == "conversation") for e in sought], dtype=torch.long)
        answers = _branched(asked, aloud="reading" in self.weights)
        counts = {name: int((kinds == num).sum()) for num, name in enumerate(_KINDS)}
        aloud = answers["aloud"]
        counts |= {"answers": int((~aloud).sum()), "reading": int(aloud.sum())}
        right, wrong = torch.from_numpy(positive[:, used]), torch.from_numpy(negative[:, used])
        return ReficrBatch(
            queries, query_spans, passages, passage_spans, right, wrong, kinds, counts=counts, **answers
        )  # fmt: skip

    def _compared(
        self, sought: Sequence[Sought], drawn: Drawn, chosen: Sequence[tuple[list[int], list[int]]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(R, P) which passages are positives of each row, and which are negatives."""
        number = len(drawn.items) + len(drawn.conversations)
        is_item = np.arange(number) < len(drawn.items)
        positive, negative = np.zeros((2, len(sought), number), dtype=bool)
        for num, (row, (own_positives, own_negatives)) in enumerate(zip(sought, chosen, strict=True)):
            positive[num, own_positives] = True
            negative[num, own_negatives] = True
            if row.kind == "item":
                negative[num, drawn.shared] = True
            if self.in_batch:
                negative[num] |= is_item == (row.kind == "item")
            if self.config.mask_false_negatives:
                negative[num] &= ~self._may_be_right(row, drawn)
        return positive, negative & ~positive

    def _may_be_right(self, row: Sought, drawn: Drawn) -> np.ndarray:
        """(P,) passages that a row must not be told apart from."""
        found = np.zeros(len(drawn.items) + len(drawn.conversations), dtype=bool)
        if row.kind == "item":
            spared = np.array([*row.targets, *row.spared], dtype=np.int64)
            found[: len(drawn.items)] = np.isin(self._titles[drawn.items], self._titles[spared])
            return found
        targets = set(row.targets)
        for num, place in enumerate(drawn.conversations, start=len(drawn.items)):
            other = self.store[place]
            found[num] = other.dialogue_id == row.dialogue_id or not targets.isdisjoint(other.targets)
        return found

    def losses(self, batch: ReficrBatch) -> dict[str, Tensor]:
        """Sums: over rows of the losses of finding, over tokens of those of answers and of reading."""
        zero = self.backbone.special_rows.sum() * 0.0
        made = dict.fromkeys(self.weights, zero)
        if len(batch.kinds):
            queries = self._in_chunks(batch.queries, batch.query_spans)
            passages = self._in_chunks(batch.passages, batch.passage_spans)
            each = contrastive(
                queries @ passages.T, batch.positive, batch.negative, temperature=self.config.temperature,
                margin=self.config.margin,
            )  # fmt: skip
            made |= {n: each[batch.kinds == k].sum() for k, n in enumerate(_KINDS) if n in self.weights}
        if len(batch.places) and "answers" in self.weights:
            hidden = self.answered(batch.ids, batch.segments, batch.positions)
            logits = self.backbone.logits(hidden.reshape(-1, hidden.shape[-1])[batch.places])
            each = F.cross_entropy(logits, batch.expected, reduction="none")
            made["answers"] = each[~batch.aloud].sum()
            if "reading" in self.weights:
                made["reading"] = each[batch.aloud].sum()
        return made

    def answered(self, ids: Tensor, segments: Tensor, positions: Tensor) -> Tensor:
        """(A, U, D) hidden states of dialogues and the questions after them; no question sees another."""
        width = ids.shape[1]
        earlier = torch.ones(width, width, dtype=torch.bool, device=ids.device).tril()
        same = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
        return self.backbone.encode(self.backbone.embed(ids), visible=earlier & same, positions=positions)[0]

    def memory_bytes(self, rows: int) -> int:
        """About what training on `rows` rows at once takes: weights, gradients and moments, hidden states, scores.

        For each token that a gradient passes, about 40 values of a layer's width, or a few where layers are computed
        again; passages by the chunk, where there is a chunk.
        """
        config, backbone = self.config, self.backbone
        size = 2 if self.device.type == "cuda" else 4
        trained = sum(p.numel() for p in self.trained().values())
        frozen = sum(p.numel() * p.element_size() for p in self.parameters() if not p.requires_grad)
        passages = rows * (1 + self.own) + config.random_negatives
        tokens = rows * config.query_tokens + passages * config.passage_tokens
        tokens = min(tokens, config.chunk_tokens) if config.chunk_tokens else tokens
        tokens = max(tokens, rows * (config.prompt_tokens + config.reply_tokens))
        layers, values = backbone.lm.config.num_hidden_layers, 4 if config.checkpointing else 40
        scores = rows * config.reply_tokens * backbone.vocabulary * 4 * 3
        return int(frozen + trained * 16 + tokens * layers * backbone.width * values * size + scores + 5e8)


def _padded(texts: Sequence[Embedded]) -> tuple[Tensor, Tensor]:
    """(X, T) token ids padded to the right, and (X, 2) where each text begins and ends."""
    ids = torch.zeros(len(texts), max((len(t.ids) for t in texts), default=0), dtype=torch.long)
    for num, text in enumerate(texts):
        ids[num, : len(text.ids)] = torch.tensor(text.ids)
    spans = torch.tensor([(t.start, len(t.ids)) for t in texts], dtype=torch.long).reshape(len(texts), 2)
    return ids, spans


def _branched(asked: Sequence[Asked], *, aloud: bool) -> dict[str, Any]:
    """Dialogues with their questions side by side, and what is learnt of them."""
    width = max((len(row) for row in asked), default=0)
    ids, positions = torch.zeros(2, len(asked), width, dtype=torch.long)
    segments = torch.full((len(asked), width), -1)
    places: list[int] = []
    expected: list[int] = []
    read: list[bool] = []
    for num, row in enumerate(asked):
        stem = len(row.stem)
        tokens = [*row.stem]
        counted = [*range(stem)]
        of = [0] * stem
        if aloud:
            places += [num * width + at - 1 for at in range(stem - row.fresh, stem)]
            expected += row.stem[stem - row.fresh :]
            read += [True] * row.fresh
        for which, branch in enumerate(row.branches, start=1):
            answer = len(tokens) + len(branch.prompt)
            places += [num * width + answer - 1 + at for at in range(len(branch.answer))]
            expected += branch.answer
            read += [False] * len(branch.answer)
            tokens += [*branch.prompt, *branch.answer]
            counted += range(stem, stem + len(branch))
            of += [which] * len(branch)
        ids[num, : len(tokens)] = torch.tensor(tokens)
        positions[num, : len(tokens)] = torch.tensor(counted)
        segments[num, : len(tokens)] = torch.tensor(of)
    return {
        "ids": ids, "segments": segments, "positions": positions,
        "places": torch.tensor(places, dtype=torch.long), "expected": torch.tensor(expected, dtype=torch.long),
        "aloud": torch.tensor(read, dtype=torch.bool),
    }  # fmt: skip
