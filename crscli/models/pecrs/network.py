"""PECRS's network: item vectors from text, a query at [REC], scores of candidates, and the three losses.

Knows token ids and tensors; nothing of dialogues, files or the catalogue's fields.
Source: Ravaut et al., EACL 2024, section 3; Ravoxsg/efficient_unified_crs, model.py. Differs: an item's vector does not
depend on its batch (the reference's pooling normaliser counts padding); each distinct item of a batch is encoded once;
one pass over the context serves all three losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crscli.backbone import Backbone, Prefix
from crscli.models.pecrs.config import PecrsConfig
from crscli.models.pecrs.layout import Layout, Point
from crscli.training import moved

_POOLED = 1024
"""Places for which the pooling has a weight."""
_TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 65_536}
"""Slots of a chunk of item texts."""
_CANDIDATES_AT_ONCE = 256


@dataclass
class PecrsBatch:
    """Points as tensors.

    `ids` (B, T) int64, padded to the right; items as base + a place in `items`. `contexts` (B,) tokens of each context;
    `lengths` (B,) of each row. `places` (G,) flat places in (B, T) whose next token `expected` (G,) is learnt, of row
    `rows` (G,), each weighted by `share` (G,), one over the row's number of them. `with_item` (R,) rows that have a
    target, `targets` (R,) its place in `items`. `negatives` (R or 1, M) places in `items` for recall, `others` for
    rerank.
    """

    ids: Tensor
    contexts: Tensor
    lengths: Tensor
    items: Tensor
    places: Tensor
    expected: Tensor
    share: Tensor
    with_item: Tensor
    targets: Tensor
    negatives: Tensor
    others: Tensor
    counts: Mapping[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> "PecrsBatch":
        """The batch on a device."""
        return moved(self, device)


@dataclass(frozen=True)
class Drawn:
    """Negatives of a step: item numbers, (1, M) for all rows or (B, M) by row of the global batch."""

    recall: np.ndarray
    rerank: np.ndarray


def _head(width: int, out: int, depth: int) -> nn.Module:
    """One linear layer (code), or two with a ReLU (paper)."""
    if depth == 1:
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _last_layer(head: nn.Module) -> nn.Linear:
    """The last linear layer of a head."""
    return [m for m in head.modules() if isinstance(m, nn.Linear)][-1]


class ItemEncoder(nn.Module):
    """Hidden states of an item's text -> the item's vector.

    Source: p = sum w_k H_k / sum w_k over real tokens; e = A2(A1(p) + p); v = P(e), P shared by everything that uses
    an item.
    """

    def __init__(self, width: int, config: PecrsConfig) -> None:
        super().__init__()
        self.pooling = config.pooling
        if self.pooling == "learned":
            self.weights = nn.Parameter(torch.ones(_POOLED))
        self.has_head = config.item_head
        if self.has_head:
            self.residual = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width))
            self.mix = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(X, L, D) states and (X,) lengths, 1 or more -> (X, D)."""
        width = hidden.shape[1]
        real = torch.arange(width, device=hidden.device) < lengths[:, None]
        if self.pooling == "last":
            pooled = hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1].float()
        else:
            weights = self.weights[:width] if self.pooling == "learned" else hidden.new_ones(width, dtype=torch.float32)
            masked = torch.where(real, weights, 0.0)
            share = masked / masked.sum(1, keepdim=True).clamp(min=1e-6)
            pooled = torch.einsum("xl,xld->xd", share, hidden.float())
        return self.project(self.mix(self.residual(pooled) + pooled) if self.has_head else pooled)


class PecrsNetwork(nn.Module):
    """Backbone, item encoder and heads; the Trainable of the training loop."""

    def __init__(
        self,
        backbone: Backbone,
        layout: Layout,
        config: PecrsConfig,
        *,
        seed: int = 0,
        texts: Sequence[tuple[int, ...]],
    ) -> None:
        """Put the parts together.

        Args:
            backbone: a decoder.
            layout: of the same backbone.
            config: settings.
            seed: of the heads.
            texts: token ids of every item's text.
        """
        super().__init__()
        self.backbone, self.layout, self.config, self.texts = backbone, layout, config, list(texts)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 2)
            self.item_encoder = ItemEncoder(backbone.width, config)
            self.query = _head(backbone.width, backbone.width, config.head_depth)
            self.score = _head(backbone.width, 1, config.head_depth)
            begin_at_zero = []
            if config.lexical:
                self.attention = nn.Parameter(torch.zeros(backbone.width))
                begin_at_zero += [self.item_encoder.project, _last_layer(self.query)]
            if config.rerank_residual:
                begin_at_zero.append(_last_layer(self.score))
            for layer in begin_at_zero:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        names = ("recall", "rerank", "generation")
        table = backbone.lm.get_input_embeddings().weight
        self.slower = {n: config.embedding_rate for n, p in self.named_parameters() if p is table}
        self.weights = {n: w for n in names if (w := getattr(config, f"{n}_weight")) > 0}
        self._cached: list[tuple[Tensor, Tensor, Tensor]] = []
        self._cache_age = 0

    def trained(self) -> dict[str, nn.Parameter]:
        """Adapters (or the backbone), the special tokens' rows, item encoder and heads."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.backbone.device

    # ---- items ------------------------------------------------------------------------------------------------

    def item_vectors(self, numbers: Sequence[int] | Tensor, texts: Sequence[tuple[int, ...]] | None = None) -> Tensor:
        """Vectors of items: (X, D), in the given order.

        Args:
            numbers: (X,) item numbers.
            texts: token ids of all items, where they are not the model's own.
        """
        texts = self.texts if texts is None else texts
        chosen = [int(n) for n in numbers]
        order = sorted(range(len(chosen)), key=lambda place: len(texts[chosen[place]]))
        parts: list[Tensor] = []
        for chunk in self._chunks([len(texts[chosen[place]]) for place in order]):
            rows = [texts[chosen[order[at]]] for at in chunk]
            parts.append(self._encoded(*self._text_states(rows)))
        if not parts:
            return torch.zeros(0, self.backbone.width, device=self.device)
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
        return torch.cat(parts)[back.to(self.device)]

    def _chunks(self, lengths: Sequence[int]) -> list[range]:
        """Runs of texts, ordered by length, whose padded slots fit at once."""
        slots = _TOKENS_AT_ONCE.get(self.device.type, 4096)
        chunks, start = [], 0
        for at in range(len(lengths) + 1):
            if at == len(lengths) or (at - start + 1) * lengths[at] > slots:
                if at > start:
                    chunks.append(range(start, at))
                start = at
        return chunks

    def _text_states(self, rows: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states of texts (X, L, D), without dropout, and without gradient unless asked for; ids and lengths."""
        lengths = torch.tensor([len(r) for r in rows])
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for num, row in enumerate(rows):
            ids[num, : len(row)] = torch.tensor(row)
        ids, lengths = ids.to(self.device), lengths.to(self.device)
        was_training = self.backbone.training
        self.backbone.eval()
        with torch.set_grad_enabled(self.config.item_gradient and torch.is_grad_enabled()):
            hidden, _ = self.backbone.encode(self.backbone.embed(ids))
        self.backbone.train(was_training)
        return hidden, ids, lengths

    def _encoded(self, hidden: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        """(X, D) vectors of items from their texts' states."""
        vectors = self.item_encoder(hidden, lengths)
        return vectors + self._mean_embedding(self.backbone.embed(ids), lengths) if self.config.lexical else vectors

    def _batch_items(self, batch: PecrsBatch) -> Tensor:
        """(X, D) of the batch's distinct items, and behind them the whole catalogue where it is the candidate set."""
        if not self.config.item_cache:
            return self.item_vectors(batch.items.tolist())
        if not self._cached or self._cache_age >= self.config.item_cache:
            self._cached, self._cache_age = self._all_states(), 0
        vectors = torch.cat([self._encoded(*states) for states in self._cached])
        return vectors[self._cached_places.to(self.device)][batch.items]

    @torch.no_grad()
    def _all_states(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Hidden states of all items in chunks of like length, in 16 bits on a GPU."""
        order = sorted(range(len(self.texts)), key=lambda num: len(self.texts[num]))
        self._cached_places = torch.empty(len(order), dtype=torch.long)
        self._cached_places[torch.tensor(order)] = torch.arange(len(order))
        made = []
        for chunk in self._chunks([len(self.texts[num]) for num in order]):
            made.append(self._text_states([self.texts[order[at]] for at in chunk]))
        return made

    def memory_bytes(self, rows: int) -> int:
        """About what training on `rows` points at once takes.

        Weights, and for trained ones gradient and two moments; for each token that a gradient passes, about 40 values
        of a layer's width (found with GPT-2 small on a CPU); the vocabulary's scores of the responses, three times.
        """
        config, backbone = self.config, self.backbone
        size = 2 if self.device.type == "cuda" else 4
        trained = sum(p.numel() for p in self.trained().values())
        frozen = sum(p.numel() for p in self.parameters()) - trained
        candidates = config.negatives + 1 if self.has_item_loss and config.rerank_weight else 0
        tokens = rows * (config.context_tokens + config.turn_tokens + 3 + candidates)
        items = min(len(self.texts), config.negatives + 1 + 4 * rows)
        per_item = sum(len(t) for t in self.texts) / max(1, len(self.texts))
        tokens += round(items * per_item) if config.item_gradient else 0
        layers = backbone.lm.config.num_hidden_layers
        scores = rows * config.turn_tokens * backbone.vocabulary * 4 * 3
        return int(frozen * size + trained * 16 + tokens * layers * backbone.width * 40 * size + scores + 5e8)

    # ---- the training loop's side -----------------------------------------------------------------------------

    def length(self, example: Point) -> int:
        """Tokens of a point."""
        return len(example)

    def draw(self, examples: Sequence[Point], rng: np.random.Generator) -> Drawn:
        """Negatives for a batch: none of its targets, the same for every row and both losses unless set otherwise.

        Source: PECRS, engine.py draws 149 a row, pools them, removes targets and takes 149; the same as one draw.
        """
        self._cache_age += 1  # once a step, however many parts the batch has; a resumed run begins with new states
        number, size = len(self.texts), self.config.negatives
        if size == 0 or size >= number - 1:  # every other item
            others = np.stack([np.delete(np.arange(number), max(p.target, 0)) for p in examples])
            return Drawn(others, others)
        targets = {p.target for p in examples if p.target >= 0}
        allowed = np.array([n for n in range(number) if n not in targets], dtype=np.int64)
        rows = 1 if self.config.share_batch else len(examples)
        size = min(size, len(allowed))
        recall = np.stack([rng.choice(allowed, size, replace=False) for _ in range(rows)])
        if self.config.share_tasks:
            return Drawn(recall, recall)
        return Drawn(recall, np.stack([rng.choice(allowed, size, replace=False) for _ in range(rows)]))

    def collate(self, examples: Sequence[Point], drawn: Drawn, rows: Sequence[int]) -> PecrsBatch:
        """Points as tensors; `drawn` for all points of the batch, of which these are `rows`."""
        layout, base = self.layout, self.layout.base
        with_item = [num for num, p in enumerate(examples) if p.target >= 0]
        use_items = self.has_item_loss
        recall, rerank = (d if len(d) == 1 else d[[rows[n] for n in with_item]] for d in (drawn.recall, drawn.rerank))
        named = {t - base for p in examples for t in p.context if t >= base} | {examples[n].target for n in with_item}
        if with_item and use_items:
            named |= set(recall.ravel().tolist()) | set(rerank.ravel().tolist())
        items = np.array(sorted(named), dtype=np.int64)
        sequences = []
        for p in examples:
            context = [t if t < base else base + int(np.searchsorted(items, t - base)) for t in p.context]
            offer = [layout.rec, base + int(np.searchsorted(items, p.target)), layout.rec_end] if p.target >= 0 else []
            sequences.append([*context, *offer, *p.response])
        ids = torch.zeros(len(examples), max(len(s) for s in sequences), dtype=torch.long)
        for num, sequence in enumerate(sequences):
            ids[num, : len(sequence)] = torch.tensor(sequence)
        places, expected, share, of_row = self._learnt(examples, ids)
        many = len(with_item) if use_items else 0
        return PecrsBatch(
            ids,
            torch.tensor([len(p.context) for p in examples]),
            torch.tensor([len(s) for s in sequences]),
            torch.from_numpy(items),
            places,
            expected,
            share,
            torch.tensor(with_item, dtype=torch.long),
            torch.from_numpy(np.searchsorted(items, [examples[n].target for n in with_item])).long(),
            torch.from_numpy(np.searchsorted(items, recall)).long(),
            torch.from_numpy(np.searchsorted(items, rerank)).long(),
            {"recall": many, "rerank": many, "generation": len(set(of_row))},
        )

    @property
    def has_item_loss(self) -> bool:
        """Whether finding or ordering items is learnt."""
        return "recall" in self.weights or "rerank" in self.weights

    def _learnt(self, examples: Sequence[Point], ids: Tensor) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """Flat places whose next token is learnt, these tokens, and each one's share of its row.

        With an item: [REC] after the context, and the response from its second token on. Without: the response from its
        second token on, and its first one too if the model is to learn that no item follows. Where the context is read
        aloud, its tokens (not its items) have a share of their own.
        """
        width = ids.shape[1]
        places: list[int] = []
        expected: list[int] = []
        share: list[float] = []
        of_row: list[int] = []
        if "generation" not in self.weights:
            examples = ()
        for num, p in enumerate(examples):
            begin = len(p.context) + (3 if p.target >= 0 else 0)
            next_tokens = list(range(begin + 1, begin + len(p.response)))
            if p.target >= 0 or self.config.no_item_target:
                next_tokens = [len(p.context), *next_tokens]
            read = [at for at in range(1, len(p.context)) if ids[num, at] < self.layout.base]
            for learnt in filter(None, (next_tokens, read if self.config.reads_aloud else [])):
                places += [num * width + at - 1 for at in learnt]
                expected += [int(ids[num, at]) for at in learnt]
                share += [1 / len(learnt)] * len(learnt)
                of_row += [num] * len(learnt)
        at, tokens = (torch.tensor(numbers, dtype=torch.long) for numbers in (places, expected))
        return at, tokens, torch.tensor(share), of_row

    def losses(self, batch: PecrsBatch) -> dict[str, Tensor]:
        """Sums over rows: recall and rerank over rows with a target, generation over all (each row's mean)."""
        vectors = self._batch_items(batch)
        asks = bool(len(batch.with_item)) and self.has_item_loss
        embeds = self.backbone.embed(batch.ids, vectors)
        hidden, kept = self.backbone.encode(embeds, lengths=batch.lengths if asks else None)
        made: dict[str, Tensor] = {}
        if "generation" in self.weights:
            logits = self.backbone.logits(hidden.reshape(-1, hidden.shape[-1])[batch.places])
            each = F.cross_entropy(logits, batch.expected, reduction="none", label_smoothing=self.config.smoothing)
            made["generation"] = (each * batch.share).sum()
        if not asks or kept is None:
            zero = hidden.sum() * 0.0
            return {name: made.get(name, zero) for name in self.weights}
        rows, at = batch.with_item, batch.contexts[batch.with_item]
        queries = self.queries(hidden[rows], embeds[rows], at)
        if "recall" in self.weights:
            logits = self._similarities(queries, vectors, batch.negatives, batch.targets) / self.config.temperature
            made["recall"] = F.cross_entropy(logits, self._last(logits), reduction="sum")
        if "rerank" in self.weights:
            candidates = torch.cat([batch.others.expand(len(rows), -1), batch.targets[:, None]], dim=1)
            scores = self.scores(kept.select(rows).first(at + 1), vectors[candidates])
            if self.config.rerank_residual:
                similar = self._similarities(queries, vectors, batch.others, batch.targets)
                scores = scores + similar.detach() / self.config.temperature
            scores = scores / self.config.rerank_temperature
            made["rerank"] = F.cross_entropy(scores, self._last(scores), reduction="sum")
        return {name: made[name] for name in self.weights}

    def queries(self, hidden: Tensor, embeds: Tensor, at: Tensor) -> Tensor:
        """(R, D) of states and input vectors (R, T, D) and the place (R,) of [REC]; what comes later is not seen."""
        made = self.query(hidden[torch.arange(len(hidden), device=hidden.device), at].float())
        if not self.config.lexical:
            return made
        read = torch.arange(embeds.shape[1], device=embeds.device) < at[:, None]
        heard = hidden.float() @ self.attention * self.backbone.width**0.5
        share = heard.masked_fill(~read, -torch.inf).softmax(1)
        return made + torch.einsum("rt,rtd->rd", share, embeds.float())

    @staticmethod
    def _mean_embedding(embeds: Tensor, lengths: Tensor) -> Tensor:
        """(R, D) mean of the first `lengths` (R,) input vectors (R, T, D)."""
        real = torch.arange(embeds.shape[1], device=embeds.device) < lengths[:, None]
        return torch.einsum("rt,rtd->rd", real.float() / lengths[:, None], embeds.float())

    @staticmethod
    def _last(logits: Tensor) -> Tensor:
        """The target stands last."""
        return torch.full((len(logits),), logits.shape[1] - 1, device=logits.device)

    def _similarities(self, queries: Tensor, vectors: Tensor, negatives: Tensor, targets: Tensor) -> Tensor:
        """(R, M + 1) of each query with its negatives and, last, its target."""
        left, right = self._comparable(queries), self._comparable(vectors)
        own = (left * right[targets]).sum(1, keepdim=True)
        if len(negatives) == 1:
            others = left @ right[negatives[0]].T
        else:
            others = torch.einsum("rd,rmd->rm", left, right[negatives])
        both = torch.cat([others, own], dim=1)
        return -torch.sqrt((2 - 2 * both).clamp(min=1e-6)) if self.config.similarity == "angular" else both

    def _comparable(self, vectors: Tensor) -> Tensor:
        """Vectors whose inner product orders as the similarity does."""
        return vectors if self.config.similarity == "dot" else F.normalize(vectors, dim=-1)

    # ---- scores of candidates ---------------------------------------------------------------------------------

    def scores(self, prefix: Prefix, candidates: Tensor) -> Tensor:
        """Rerank scores after the context and [REC].

        Args:
            prefix: of R rows, up to [REC].
            candidates: (R, M, D) item vectors.

        Returns:
            (R, M), higher is better. A candidate does not see the others, unless set so, nor its place among them.
        """
        together = self.config.candidates_see == "each-other"
        step = candidates.shape[1] if together else _CANDIDATES_AT_ONCE
        parts = []
        for start in range(0, candidates.shape[1], max(step, 1)):
            part = candidates[:, start : start + step]
            many = part.shape[1]
            visible = torch.ones(1, many, device=part.device) if together else torch.eye(many, device=part.device)
            embeds, positions = self._placed(part.to(prefix.layers[0][0].dtype), prefix)
            hidden, _ = self.backbone.encode(embeds, prefix=prefix, visible=visible.bool(), positions=positions)
            states = hidden.float()
            states = self.query(states) if self.config.rerank_through_query else states
            parts.append(self.score(states)[..., 0])
        return torch.cat(parts, dim=1)

    def _placed(self, candidates: Tensor, prefix: Prefix) -> tuple[Tensor, Tensor]:
        """Candidates with all the same position: none, or place zero; the next one where positions are rotary."""
        table = self.backbone.position_table
        rows, many = candidates.shape[:2]
        if table is None:
            places = (
                prefix.lengths[:, None] if self.config.candidate_positions == "none" else prefix.lengths[:, None] * 0
            )
            return candidates, places.expand(rows, many)
        zero = torch.zeros(rows, many, dtype=torch.long, device=candidates.device)
        if self.config.candidate_positions == "none":
            candidates = candidates - table[0].to(candidates.dtype)  # what the model is about to add
        return candidates, zero
