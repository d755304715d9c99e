"""Runs of one model beside each other: what a setting gives, and what more dialogues give.

Runs that differ in nothing but their seed are one group. Intervals resample dialogues and seeds, the same dialogues for
both groups of a difference. Knows settings and ranks; nothing of files and models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crscli import figures
from crscli.evaluation import Estimate

KINDS = ("ablation", "scarcity")
KS = (1, 10, 50)
_SHARE = ("share", "share_of")
_INDIFFERENT = ("micro_batch", "kept_gb")
"""Settings that change no result."""

Rows = list[list[Any]]


@dataclass(frozen=True)
class Measured:
    """A run: its settings, its seed, and the rank of each label of each row (see `metrics.ranks`)."""

    settings: Mapping[str, Any]
    seed: int
    ranks: Sequence[np.ndarray]


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    `recall` over labels, the mean over seeds, by k; `difference` from the first group, with 95 % intervals.
    """

    label: str
    share: float
    share_of: str
    seeds: int
    recall: dict[int, Estimate]
    difference: dict[int, Estimate]

    def told_apart(self) -> str:
        """The figures whose interval leaves out zero."""
        apart = [f"R@{k}" for k, d in self.difference.items() if not d.low <= 0 <= d.high]
        return ", ".join(apart) or "none: noise"


def label(kind: str, first: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """What sets a run apart from the first one, "" for nothing; None where it does not belong into the comparison."""
    names = [n for n in {**first, **settings} if n not in _INDIFFERENT and first.get(n) != settings.get(n)]
    changed = [f"{n}={settings.get(n)}" for n in names]
    by_share = [n in _SHARE for n in names]
    if kind == "scarcity":
        return ", ".join(changed) if all(by_share) else None
    return None if any(by_share) else ", ".join(changed)


def compare(kind: str, runs: Sequence[Measured], dialogue_nums: np.ndarray, *, draws: int, seed: int) -> list[Group]:
    """Group runs and compare the groups with that of the first run.

    Args:
        kind: of KINDS.
        runs: all on the same rows.
        dialogue_nums: (R,) the dialogue of each row.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    grouped: dict[str, list[Measured]] = {}
    for run in runs:
        if (found := label(kind, runs[0].settings, run.settings)) is not None:
            grouped.setdefault(found, []).append(run)
    rng = np.random.default_rng(seed)
    _, nums = np.unique(dialogue_nums, return_inverse=True)
    count = int(nums.max()) + 1
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    labels = np.bincount(nums, [len(r) for r in runs[0].ranks], count)
    values = {name: _recalls([_hits(r, nums, count) for r in group], labels, weights, rng)
              for name, group in grouped.items()}  # fmt: skip
    base, base_drawn = values[""]
    made = []
    for name, group in grouped.items():
        mean, drawn = values[name]
        settings = group[0].settings
        made.append(
            Group(
                name, float(settings.get("share", 1.0)), str(settings.get("share_of", "all")), len(group),
                _estimates(mean, drawn), _estimates(mean - base, drawn - base_drawn),
            )
        )  # fmt: skip
    return made


def _hits(run: Measured, nums: np.ndarray, count: int) -> np.ndarray:
    """(D, K) labels of each dialogue among the first k."""
    found = np.array([[((row > 0) & (row <= k)).sum() for k in KS] for row in run.ranks])
    return np.stack([np.bincount(nums, column, count) for column in found.T], axis=1)


def _recalls(
    hits: Sequence[np.ndarray], labels: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds (K,), and the same of drawn dialogues and seeds (draws, K)."""
    by_seed = np.stack([weights @ h / np.maximum(1, weights @ labels)[:, None] for h in hits])  # (S, draws, K)
    chosen = rng.integers(len(hits), size=(len(hits), len(weights)))
    drawn = np.take_along_axis(by_seed, chosen[:, :, None], axis=0).mean(0)
    return np.mean([h.sum(0) for h in hits], axis=0) / max(1, labels.sum()), drawn


def _estimates(mean: np.ndarray, drawn: np.ndarray) -> dict[int, Estimate]:
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {k: Estimate(float(m), float(a), float(b)) for k, m, a, b in zip(KS, mean, low, high, strict=True)}


def table(found: Mapping[str, Sequence[Group]]) -> tuple[list[str], Rows]:
    """Columns and rows: recall of each group, and its difference from the first."""
    columns = ["model", "changed", "seeds", *(f"R@{k}" for k in KS), *(f"R@{k}, difference" for k in KS), "told apart"]
    rows: Rows = []
    for model, groups in found.items():
        for num, group in enumerate(groups):
            recalls = [f"{e.value:.3f} [{e.low:.3f}-{e.high:.3f}]" for e in group.recall.values()]
            apart = [f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for e in group.difference.values()]
            compared = [*apart, group.told_apart()] if num else [""] * (len(KS) + 1)
            rows.append([model, group.label or "(nothing)", group.seeds, *recalls, *compared])
    return columns, rows


def draw(kind: str, found: Mapping[str, Sequence[Group]], path: Path, *, title: str) -> None:
    """Differences as bars, or recall by the share of dialogues as lines; at 10."""
    if kind == "ablation":
        named = [(model, g) for model, groups in found.items() for g in groups[1:]]
        shown = [f"{model}: {g.label}" if len(found) > 1 else g.label for model, g in named]
        at_10 = [g.difference[10] for _, g in named]
        figures.bars(
            shown, [e.value for e in at_10], path, title=f"{title}: what a setting changes", axis="R@10, difference",
            intervals=[(e.low, e.high) for e in at_10],
        )  # fmt: skip
        return
    shares = sorted({g.share for groups in found.values() for g in groups})
    lines: dict[str, list[float]] = {}
    bands: dict[str, list[tuple[float, float]]] = {}
    for model, groups in found.items():
        whole = [g for g in groups if g.share == 1.0]
        for mode in dict.fromkeys(g.share_of for g in groups if g.share < 1.0):
            at = {g.share: g.recall[10] for g in [*whole, *(g for g in groups if g.share_of == mode)]}
            known = [at.get(s, Estimate(np.nan, np.nan, np.nan)) for s in shares]
            lines[f"{model}, share of {mode}"] = [e.value for e in known]
            bands[f"{model}, share of {mode}"] = [(e.low, e.high) for e in known]
    figures.lines(
        [100 * s for s in shares], lines, path, title=f"{title}: fewer dialogues to learn from", y_label="R@10",
        x_label="% of the train dialogues", intervals=bands,
    )  # fmt: skip
