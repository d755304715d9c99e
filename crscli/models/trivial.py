"""The baselines that every table needs: popularity, the items of the context, and both.

They have nothing to learn but counts. Source: the trivial rows of a conversational recommendation table; on INSPIRED
"copy, then popularity" stands above most published systems.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from crscli import metrics
from crscli.catalogue import Catalogue
from crscli.dialogue import Context
from crscli.progress import Progress, silent
from crscli.recommender import FitData, Ranking, Reason
from crscli.signals.mentions import Popularity as PopularitySignal


@dataclass(frozen=True)
class TrivialConfig:
    """The trivial baselines have no settings."""


class _Counted:
    """Ranks copied items first (if `copies`), then by popularity (if `counts`), ties by item number."""

    copies = False
    counts = False
    tasks: frozenset[Literal["rank", "respond"]] = frozenset({"rank"})
    config_class = TrivialConfig

    def __init__(self, catalogue: Catalogue, popularity: PopularitySignal) -> None:
        self.catalogue = catalogue
        self.popularity = popularity
        every = metrics.top_k(popularity.counts[None], len(catalogue))[0]
        self._order = every if self.counts else every[:0]

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        data: FitData,
        config: TrivialConfig | None = None,
        *,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Self:
        """Count what recommenders named."""
        return cls(catalogue, PopularitySignal.fit(catalogue, data.learnable))

    def save(self, directory: Path) -> None:
        """Write the counts."""
        self.popularity.save(directory)

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: TrivialConfig | None = None) -> Self:
        """Read the counts."""
        return cls(catalogue, PopularitySignal.load(directory))

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Rank for each context; `copy` gives at most as many items as the context names."""
        base = self.popularity.counts
        rankings = []
        for context in contexts:
            first = self.catalogue.vocabulary.nums(context.mentions) if self.copies else self._order[:0]
            # The k most popular without the copied ones are among the k + copied most popular.
            rest = self._order[: k + len(first)]
            rest = rest[~np.isin(rest, first)]
            items = np.concatenate([first, rest])[:k]
            places = np.arange(len(first), 0, -1, dtype=np.float32) + base.max(initial=0.0)
            rankings.append(Ranking(items, np.concatenate([places, base[rest]])[:k].astype(np.float32)))
        return rankings

    def explain(self, context: Context, item_nums: Sequence[int]) -> list[tuple[Reason, ...]]:
        """Named before, or popular."""
        mentioned = set(context.mentions) if self.copies else set()
        ids = [self.catalogue[n].item_id for n in item_nums]
        return [(Reason("repeat", i, 1.0) if i in mentioned else Reason("popularity", "", 1.0),) for i in ids]


class Popularity(_Counted):
    """Items by how often recommenders named them in training."""

    counts = True


class Copy(_Counted):
    """Items of the context, the last mentioned first; nothing else."""

    copies = True


class CopyPopularity(_Counted):
    """Items of the context first, then the others by popularity."""

    copies = True
    counts = True
