"""Recommenders that rank by one fitted signal: bm25, cooccurrence, ease, knn.

Where the signal is silent, and between equal scores, popularity decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from crscli import metrics
from crscli.catalogue import Catalogue
from crscli.dialogue import Context
from crscli.progress import Progress, silent
from crscli.recommender import FitData, Ranking
from crscli.signals import Signal
from crscli.signals.mentions import Cooccurrence, Ease, Popularity
from crscli.signals.words import Bm25, Neighbours


@dataclass(frozen=True)
class SignalConfig:
    """Settings of the single-signal models; each signal reads its own."""

    signal: str = field(default="cooccurrence", metadata={"fixed": True})
    """Which signal ranks; the model's name decides it."""
    decay: float = 0.85
    """Weight of a mention relative to the next newer one (cooccurrence, ease)."""
    shrinkage: float = 10.0
    """Added to an item's number of pairs (cooccurrence)."""
    ridge: float = 50.0
    """Regularisation (ease)."""
    neighbours: int = 100
    """Training contexts that vote (knn)."""
    k1: float = 1.2
    """Saturation of repeated words (bm25)."""
    b: float = 0.75
    """Weight of a document's length (bm25)."""

    def __post_init__(self) -> None:
        if self.signal not in _SIGNALS:
            raise ValueError(f"signal {self.signal!r} is none of {', '.join(_SIGNALS)}")
        if not 0 < self.decay <= 1 or self.shrinkage < 0 or self.ridge <= 0 or self.neighbours < 1:
            raise ValueError("decay in (0, 1], shrinkage >= 0, ridge > 0, neighbours >= 1 expected")


_SIGNALS: dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]] = {
    "cooccurrence": (Cooccurrence, ("shrinkage", "decay"), ("decay",)),
    "ease": (Ease, ("ridge", "decay"), ("decay",)),
    "knn": (Neighbours, ("neighbours",), ("neighbours",)),
    "bm25": (Bm25, ("k1", "b"), ("k1", "b")),
}
"""Name -> (signal, settings read when fitting, settings read when loading)."""


class SignalModel:
    """Ranks by one signal, then by popularity."""

    tasks: frozenset[Literal["rank", "respond"]] = frozenset({"rank"})
    config_class = SignalConfig

    def __init__(self, catalogue: Catalogue, signal: Signal, popularity: Popularity) -> None:
        self.catalogue = catalogue
        self.signal = signal
        self.popularity = popularity
        self._by_popularity = metrics.top_k(popularity.counts[None], len(catalogue))[0]

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        data: FitData,
        config: SignalConfig,
        *,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Self:
        """Fit the configured signal."""
        signal, keys, _ = _SIGNALS[config.signal]
        fitted = signal.fit(catalogue, data.learnable, **{k: getattr(config, k) for k in keys})
        return cls(catalogue, fitted, Popularity.fit(catalogue, data.learnable))

    def save(self, directory: Path) -> None:
        """Write the signal's arrays and the counts."""
        self.signal.save(directory)
        self.popularity.save(directory)

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: SignalConfig) -> Self:
        """Read what `save` wrote."""
        signal, _, keys = _SIGNALS[config.signal]
        fitted = signal.load(directory, catalogue, **{k: getattr(config, k) for k in keys})
        return cls(catalogue, fitted, Popularity.load(directory))

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Rank for each context."""
        if not contexts:
            return []
        scores = self.signal.scores(contexts)
        # Columns in the order of popularity: equal scores then fall into that order by themselves.
        ordered = scores[:, self._by_popularity]
        best = metrics.top_k(ordered, k)
        return [Ranking(self._by_popularity[b], row[b]) for b, row in zip(best, ordered, strict=True)]
