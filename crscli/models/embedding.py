"""Items and dialogues embedded by an encoder that learns nothing: the nearest items are recommended.

Any encoder or decoder will do, by folder or hub name; `minilm` is a sentence encoder that a package brings along.
Source: the embedding baselines of ReFICR's Table 2 and NBCRS; frozen encoder, item card against dialogue.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch.nn import functional as F

from crscli.backbone import Adapter, Backbone, Shape, pick_device
from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Dialogue
from crscli.index import ItemIndex
from crscli.progress import Progress, silent
from crscli.recommender import FitData, Ranking
from crscli.training import memory_errors

_FIELDS = ("title", "name", "year", "cast", "directors", "writers", "genres", "keywords", "companies", "plot")
_SLOTS_AT_ONCE = {"cpu": 8192, "cuda": 131_072}
_SPEAKERS = {"seeker": "Seeker: ", "recommender": "Recommender: "}


@dataclass(frozen=True)
class EmbeddingConfig:
    """Settings of embedding."""

    encoder: str = "minilm"
    """minilm (the extra minilm), a folder, a hub id, or tiny with random weights, which knows nothing."""
    kind: str = "encoder"
    """Whether it is an encoder or a decoder; a decoder is read both ways, but for pooling=last."""
    pooling: str = "mean"
    """Of hidden states: mean, cls (the first) or last."""
    similarity: str = "cosine"
    """cosine or dot."""
    query_instruction: str = ""
    """Stands before a dialogue."""
    item_instruction: str = ""
    """Stands before an item."""
    item_fields: str = "name,genres,directors,cast,keywords,plot"
    """Of an item's text, in this order, three names of a cast."""
    speakers: bool = False
    """Whether turns say who speaks."""
    context_tokens: int = 256
    """Newest whole turns of a dialogue that are read."""
    item_tokens: int = 256
    """Of an item's text that are read."""

    def __post_init__(self) -> None:
        choices = {"kind": ("encoder", "decoder"), "pooling": ("mean", "cls", "last"), "similarity": ("cosine", "dot")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if unknown := set(self.fields) - set(_FIELDS):
            raise ValueError(f"item_fields: {', '.join(sorted(unknown))} unknown; known: {', '.join(_FIELDS)}")
        if min(self.context_tokens, self.item_tokens) < 1:
            raise ValueError("context_tokens and item_tokens must be at least 1")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an item's text."""
        return tuple(name.strip() for name in self.item_fields.split(",") if name.strip())


class Embedding:
    """A frozen encoder with the catalogue's items."""

    tasks: frozenset[Literal["rank"]] = frozenset({"rank"})
    config_class = EmbeddingConfig
    rows_at_once = 256
    takes_offline: ClassVar[bool] = True
    """Whether its encoder may come from the hub."""

    def __init__(self, catalogue: Catalogue, backbone: Backbone, config: EmbeddingConfig) -> None:
        self.catalogue, self.backbone, self.config = catalogue, backbone.eval(), config
        self._index: ItemIndex | None = None
        marks = backbone.marks if config.kind == "encoder" else {}
        self._before = tuple(marks[n] for n in ("cls",) if n in marks)
        self._after = tuple(marks[n] for n in ("sep",) if n in marks)
        if config.kind == "decoder" and config.pooling != "last":
            backbone.check_both_ways()

    @classmethod
    def fit(
        cls, catalogue: Catalogue, data: FitData, config: EmbeddingConfig, *, seed: int = 0,
        progress: Progress = silent, offline: bool = False,
    ) -> Self:  # fmt: skip
        """Load the encoder; there is nothing to learn."""
        corpus = _corpus(catalogue, data.train, config)
        return cls(catalogue, _loaded(config, seed, corpus=corpus, offline=offline), config).on(pick_device())

    def save(self, directory: Path) -> None:
        """Write what encoder it is, and the items' vectors."""
        self.backbone.save_tokenizer(directory / "tokenizer")
        (directory / "encoder.json").write_text(json.dumps(self.backbone.describe(), indent=1), encoding="utf-8")
        self.index.save(directory / "items")

    @classmethod
    def load(
        cls, directory: Path, catalogue: Catalogue, config: EmbeddingConfig, *, seed: int = 0, offline: bool = False
    ) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactMissing: the encoder of that name is another one now.
        """
        backbone = _loaded(config, seed, tokenizer=directory / "tokenizer", offline=offline)
        record = json.loads((directory / "encoder.json").read_text(encoding="utf-8"))
        backbone.require(record, f"run {directory.name}", "make the run again with this encoder")
        model = cls(catalogue, backbone, config).on(pick_device())
        model.use_index(ItemIndex.load(directory / "items"))
        return model

    def on(self, device: str) -> Self:
        """Move to a device."""
        self.backbone.on(device)
        return self

    # ---- embedding --------------------------------------------------------------------------------------------

    def _tokens(self, instruction: str, text: Sequence[int], room: int) -> tuple[int, ...]:
        """A text with what stands around it; never empty."""
        told = tuple(self.backbone.tokenize([instruction + " "])[0]) if instruction else ()
        room = min(room, self.backbone.positions - len(told) - len(self._before) - len(self._after))
        inner = (*told, *text[:room])
        whole = (*self._before, *inner, *self._after)
        return whole or (0,)

    def _query(self, context: Context) -> tuple[int, ...]:
        """The newest whole turns that fit, oldest first."""
        lines = [(_SPEAKERS[t.role] if self.config.speakers else "") + t.text for t in context.turns if t.text]
        rows = self.backbone.tokenize(lines[-64:])
        room = min(self.config.context_tokens, self.backbone.positions - 8)
        kept: list[list[int]] = []
        for row in reversed(rows):
            if len(row) > room:
                kept += [] if kept else [row[len(row) - room :]]
                break
            kept.append(row)
            room -= len(row)
        text = [token for row in reversed(kept) for token in row]
        return self._tokens(self.config.query_instruction, text, self.config.context_tokens)

    @torch.no_grad()
    def _vectors(self, rows: Sequence[tuple[int, ...]]) -> np.ndarray:
        """(X, D) float32, like lengths together; a row's vector does not depend on the others."""
        made = torch.zeros(len(rows), self.backbone.width)
        order = sorted(range(len(rows)), key=lambda num: len(rows[num]))
        slots, start = _SLOTS_AT_ONCE.get(self.backbone.device.type, 8192), 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(rows[order[end]]) <= slots:
                end += 1
            some = order[start:end]
            ids = torch.zeros(len(some), len(rows[some[-1]]), dtype=torch.long)
            mask = torch.zeros_like(ids, dtype=torch.bool)
            for place, num in enumerate(some):
                ids[place, : len(rows[num])] = torch.tensor(rows[num])
                mask[place, : len(rows[num])] = True
            with memory_errors():
                made[some] = self._pooled(ids.to(self.backbone.device), mask.to(self.backbone.device)).float().cpu()
            start = end
        return made.numpy()

    def _pooled(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        embeds = self.backbone.embed(ids)
        if self.config.kind == "decoder" and self.config.pooling == "last":
            hidden, _ = self.backbone.encode(embeds, mask=mask)
        else:
            hidden = self.backbone.read_both_ways(embeds, mask)
        if self.config.pooling == "cls":
            made = hidden[:, 0]
        elif self.config.pooling == "last":
            made = hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
        else:
            made = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(made.float(), dim=-1) if self.config.similarity == "cosine" else made

    def _item_rows(self, catalogue: Catalogue, fields: Sequence[str] | None = None) -> list[tuple[int, ...]]:
        chosen = self.config.fields if fields is None else fields
        texts = [item.text(chosen, cast=3) for item in catalogue]
        rows = self.backbone.tokenize(texts)
        return [self._tokens(self.config.item_instruction, row, self.config.item_tokens) for row in rows]

    def encode_items(
        self, catalogue: Catalogue, *, fields: Sequence[str] | None = None, numbers: Sequence[int] | None = None
    ) -> np.ndarray:
        """(N, D) float32 vectors of items, from all of their fields or the named ones; of some items if asked."""
        rows = self._item_rows(catalogue, fields)
        return self._vectors(rows if numbers is None else [rows[n] for n in numbers])

    def encode_queries(self, contexts: Sequence[Context]) -> np.ndarray:
        """(B, D) float32: what is searched for in the index."""
        return self._vectors([self._query(context) for context in contexts])

    @property
    def item_digest(self) -> str:
        """Of all that an item's vector depends on: encoder, texts, and where they are cut."""
        parts = [self.backbone.fingerprint, self.config.pooling, self.config.kind, self._item_rows(self.catalogue)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def similarity(self) -> Literal["dot", "cosine"]:
        """What the index searches by."""
        return "dot" if self.config.similarity == "dot" else "cosine"

    @property
    def index(self) -> ItemIndex:
        """Of the catalogue's items; made when it is first needed, unless one was given."""
        if self._index is None:
            ids = self.catalogue.vocabulary.ids
            self._index = ItemIndex(self.encode_items(self.catalogue), ids, self.item_digest, self.similarity)
        return self._index

    def use_index(self, index: ItemIndex) -> None:
        """Search an index that was made before.

        Raises:
            ArtifactMissing: it was made by another encoder or of other items.
        """
        index.check(self.item_digest)
        self._index = index

    def without_field(self, name: str) -> None:
        """Read items without one of their fields from now on."""
        fields = [f for f in self.config.fields if f != name]
        vectors = self.encode_items(self.catalogue, fields=fields)
        self._index = ItemIndex(vectors, self.catalogue.vocabulary.ids, f"without {name}", self.similarity)

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """The nearest items."""
        rankings: list[Ranking] = []
        for start in range(0, len(contexts), self.rows_at_once):
            nums, scores = self.index.search(self.encode_queries(contexts[start : start + self.rows_at_once]), k)
            rankings += [Ranking(items, row) for items, row in zip(nums, scores, strict=True)]
        return rankings


def _loaded(config: EmbeddingConfig, seed: int, **given: Any) -> Backbone:
    return Backbone.load(
        config.encoder,
        adapter=Adapter("none"),
        shape=Shape(vocabulary=2048, positions=1024),
        encoder=config.kind == "encoder",
        seed=seed,
        **given,
    )


def _corpus(catalogue: Catalogue, dialogues: Sequence[Dialogue], config: EmbeddingConfig) -> Iterable[str]:
    """Texts, for the tokenizer of an encoder with random weights."""
    for dialogue in dialogues:
        yield from (turn.text for turn in dialogue.turns)
    for item in catalogue:
        yield item.text(config.fields)
