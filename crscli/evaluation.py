"""Predictions of a recommender on the rows of a protocol, and what can be said of them.

Stores the rank of every label; micro, row-mean and any-hit, and all | new | repeated, are derived from the ranks.
Intervals resample dialogues, since rows of one dialogue are not independent; models are compared in pairs.
Knows nothing about files or tables.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from crscli import metrics
from crscli.answers import Answer, Speaking, answer
from crscli.progress import Progress, silent
from crscli.protocols import TestSet
from crscli.recommender import Ranking, Recommender

Aggregation = Literal["micro", "row", "any"]
Subset = Literal["all", "new", "repeated"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
SUBSETS: tuple[Subset, ...] = get_args(Subset)

DEPTH = 100
"""Ranks past this are stored as missed; no metric looks further than 50."""

_SCORES_AT_ONCE = 16_000_000


@dataclass(frozen=True)
class Predictions:
    """Rankings of one model on the rows of a test set.

    `ranks[r]` (G,) the rank of each label of row r, MISSED past DEPTH; `top[r]` (<= 50,) the item numbers ranked
    first, as they stood after exclusions.
    """

    model: str
    test_set: TestSet
    ranks: list[np.ndarray]
    top: list[np.ndarray]
    exclude_mentioned: bool
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % bootstrap interval over dialogues; NaN where there was nothing to judge."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Figures:
    """One model's figures: aggregation -> subset -> metric -> estimate."""

    model: str
    estimates: dict[Aggregation, dict[Subset, dict[str, Estimate]]]
    distinct_items: dict[int, int]
    units: dict[Aggregation, dict[Subset, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A paired randomisation test between two models on one metric.

    `difference` is first minus second; `p_value` is two-sided, `adjusted` by Holm over all pairs and metrics of
    the report.
    """

    first: str
    second: str
    metric: str
    difference: float
    p_value: float
    adjusted: float


def predict(
    name: str,
    recommender: Recommender,
    test_set: TestSet,
    *,
    exclude_mentioned: bool,
    speaking: Speaking | None = None,
    progress: Progress = silent,
) -> Predictions:
    """Rank the candidates for every row; and reply to every turn of the test set, if asked to.

    A reply names items of the ranking as the protocol leaves it. Ranking and reply share one reading of the context.

    Args:
        name: how the report calls the model.
        recommender: asked for deep enough rankings that DEPTH items remain after exclusions.
        test_set: rows and candidates.
        exclude_mentioned: take items mentioned in the context out of the ranking; a label among them is missed.
        speaking: how to reply; for a Responder.
        progress: told of rows done.
    """
    catalogue = recommender.catalogue
    allowed = np.zeros(len(catalogue), dtype=bool)
    allowed[test_set.candidates] = True
    outside = int((~allowed).sum())
    batch = max(1, min(256, _SCORES_AT_ONCE // max(len(catalogue), 1), getattr(recommender, "rows_at_once", 256)))
    judged = {id(row) for row in test_set.rows}
    ranks: list[np.ndarray] = []
    top: list[np.ndarray] = []
    answers: list[Answer] = []
    rows = test_set.responses if speaking else test_set.rows
    for start in range(0, len(rows), batch):
        chunk = rows[start : start + batch]
        contexts = [r.context for r in chunk]
        mentioned = [catalogue.vocabulary.nums(c.mentions) for c in contexts]
        depth = DEPTH + outside + (max((len(m) for m in mentioned), default=0) if exclude_mentioned else 0)
        rankings = recommender.rank(contexts, min(depth, len(catalogue)))
        kept = [
            _kept(ranking, allowed, seen if exclude_mentioned else seen[:0])
            for ranking, seen in zip(rankings, mentioned, strict=True)
        ]
        for row, ranking in zip(chunk, kept, strict=True):
            if id(row) in judged:
                gold = [catalogue.vocabulary.num(label) if label in catalogue else -1 for label in row.labels]
                ranks.append(metrics.ranks(ranking.item_nums, gold))
                top.append(ranking.item_nums[:50])
        if speaking:
            answers += answer(recommender, chunk, kept, speaking)  # type: ignore[arg-type]  # its tasks tell
        progress(f"{'answering' if speaking else 'ranking'} with {name}", min(start + batch, len(rows)), len(rows))
    return Predictions(name, test_set, ranks, top, exclude_mentioned, answers)


def _kept(ranking: Ranking, allowed: np.ndarray, excluded: np.ndarray) -> Ranking:
    """The first DEPTH items of a ranking that may be recommended."""
    items = ranking.item_nums
    keep = allowed[items]
    if len(excluded):
        keep &= ~np.isin(items, excluded)
    return Ranking(items[keep][:DEPTH], ranking.scores[keep][:DEPTH])


def figures(predictions: Predictions, *, draws: int = 1000, seed: int = 0) -> Figures:
    """All metrics in all aggregations and subsets, with intervals.

    Args:
        predictions: of one model.
        draws: bootstrap draws; the same dialogues are drawn for every model of one seed.
        seed: of the draws.
    """
    dialogues = predictions.test_set.dialogue_nums
    weights = _bootstrap_weights(int(dialogues.max(initial=-1)) + 1, draws, seed)
    estimates: dict[Aggregation, dict[Subset, dict[str, Estimate]]] = {}
    counts: dict[Aggregation, dict[Subset, int]] = {}
    for aggregation in AGGREGATIONS:
        estimates[aggregation], counts[aggregation] = {}, {}
        for subset in SUBSETS:
            ranks, of_dialogue = _units(predictions, aggregation, subset)
            counts[aggregation][subset] = len(ranks)
            estimates[aggregation][subset] = {
                name: _estimate(function(ranks, k), of_dialogue, weights)
                for name, (function, k) in metrics.METRICS.items()
            }
    distinct = {k: len({int(i) for t in predictions.top for i in t[:k]}) for k in (1, 10)}
    return Figures(predictions.model, estimates, distinct, counts)


def _units(predictions: Predictions, aggregation: Aggregation, subset: Subset) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the units that are averaged, (U, G), and the dialogue number of each, (U,).

    micro: every label alone; row: all labels of a row together; any: the best placed label of a row.
    """
    rows = predictions.test_set.rows
    chosen = [
        ranks if subset == "all" else ranks[np.array(row.repeated, dtype=bool) == (subset == "repeated")]
        for ranks, row in zip(predictions.ranks, rows, strict=True)
    ]
    dialogues = predictions.test_set.dialogue_nums
    if aggregation == "micro":
        flat = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
        return flat[:, None], np.repeat(dialogues, [len(c) for c in chosen])
    judged = np.array([len(c) > 0 for c in chosen], dtype=bool)
    ranks = metrics.padded([c for c in chosen if len(c)])
    return (metrics.best(ranks) if aggregation == "any" else ranks), dialogues[judged]


def share_of(holds: Sequence[bool], of_dialogue: Sequence[str], *, draws: int = 1000, seed: int = 0) -> Estimate:
    """How often something holds, with its interval over dialogues.

    Args:
        holds: (U,) whether it does.
        of_dialogue: (U,) the dialogue of each.
        draws: bootstrap draws.
        seed: of the draws.
    """
    numbers = {name: num for num, name in enumerate(dict.fromkeys(of_dialogue))}
    groups = np.array([numbers[name] for name in of_dialogue], dtype=np.int64)
    return _estimate(np.array(holds, dtype=np.float64), groups, _bootstrap_weights(len(numbers), draws, seed))


def _bootstrap_weights(dialogues: int, draws: int, seed: int) -> np.ndarray:
    """How often each dialogue is drawn: (draws, dialogues)."""
    if dialogues == 0:
        return np.zeros((draws, 0))
    rng = np.random.default_rng(seed)
    return rng.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=draws).astype(np.float64)


def _estimate(values: np.ndarray, of_dialogue: np.ndarray, weights: np.ndarray) -> Estimate:
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"))
    size = weights.shape[1]
    sums = weights @ np.bincount(of_dialogue, values, minlength=size)
    units = weights @ np.bincount(of_dialogue, minlength=size)
    means = sums[units > 0] / units[units > 0]
    low, high = np.percentile(means, [2.5, 97.5]) if len(means) else (float("nan"), float("nan"))
    return Estimate(float(values.mean()), float(low), float(high))


def compare(
    predictions: Sequence[Predictions],
    *,
    aggregation: Aggregation,
    subset: Subset = "all",
    names: Sequence[str] = ("recall@1", "recall@10", "recall@50"),
    draws: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Paired randomisation tests between all pairs of models on the same rows.

    The sums of a metric's differences in each dialogue get random signs; the p-value is the share of draws at least
    as far from zero as the found difference, the found one included.

    Args:
        predictions: of the models, on the same rows.
        aggregation: of the metric.
        subset: which labels count.
        names: metrics compared.
        draws: random sign vectors.
        seed: of the signs.
    """
    found: list[tuple[str, str, str, float, float]] = []
    for first in range(len(predictions)):
        for second in range(first + 1, len(predictions)):
            ranks_a, of_dialogue = _units(predictions[first], aggregation, subset)
            ranks_b, _ = _units(predictions[second], aggregation, subset)
            if not len(ranks_a):
                continue
            for name in names:
                function, k = metrics.METRICS[name]
                difference = function(ranks_a, k) - function(ranks_b, k)
                sums = np.bincount(of_dialogue, difference)
                pair = predictions[first].model, predictions[second].model
                # A pair's signs do not depend on which other models are in the report.
                rng = np.random.default_rng([seed, zlib.crc32("/".join((*pair, name)).encode())])
                p_value = _sign_test(sums[sums != 0], draws, rng)
                found.append((*pair, name, float(difference.mean()), p_value))
    adjusted = holm([p for *_, p in found])
    return [Comparison(*row, adjusted=a) for row, a in zip(found, adjusted, strict=True)]


def _sign_test(sums: np.ndarray, draws: int, rng: np.random.Generator) -> float:
    if not len(sums):
        return 1.0
    at_least = 0
    for start in range(0, draws, 1000):
        signs = rng.integers(0, 2, size=(min(1000, draws - start), len(sums)), dtype=np.int8) * 2.0 - 1.0
        at_least += int((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12).sum())
    return (at_least + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for the number of tests (Holm 1979): the family-wise error stays below the level."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.zeros(len(p_values))
    running = 0.0
    for place, num in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[num]))
        adjusted[num] = running
    return adjusted.tolist()
