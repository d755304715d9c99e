"""Ranking metrics, each with its conventions spelled out. Pure numpy; knows nothing about models or protocols.

Everything derives from ranks: the place (from 1) of each gold item in a ranking. Equal scores are settled before, by
`top_k`: the lower item number comes first.
"""

from collections.abc import Callable, Sequence

import numpy as np

MISSED = 0
"""In a matrix of ranks: the gold item is not in the ranking."""
NONE = -1
"""In a matrix of ranks: the row has no further gold item."""


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best columns of each row, best first; equal scores by the lower column.

    Args:
        scores: (B, N), finite or -inf.
        k: how many, cut to N.

    Returns:
        (B, min(k, N)) column numbers.
    """
    width = scores.shape[1]
    k = min(k, width)
    if k == 0:
        return np.zeros((len(scores), 0), dtype=np.int64)
    if k >= width // 2:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    # The k-th largest value of a row separates what is surely in from ties that are taken in column order.
    threshold = np.partition(scores, width - k, axis=1)[:, width - k]
    best = np.empty((len(scores), k), dtype=np.int64)
    for row, (values, least) in enumerate(zip(scores, threshold, strict=True)):
        above = np.flatnonzero(values > least)
        tied = np.flatnonzero(values == least)[: k - len(above)]
        taken = np.concatenate([above, tied])
        taken.sort()
        best[row] = taken[np.argsort(-values[taken], kind="stable")]
    return best


def ranks(ranking: Sequence[int] | np.ndarray, gold: Sequence[int] | np.ndarray) -> np.ndarray:
    """The rank of each gold item: (G,), from 1; MISSED where the ranking does not hold it.

    A repeated gold item gets its rank each time; of an item that a ranking holds twice the better place counts.
    """
    place: dict[int, int] = {}
    for rank, item in enumerate(np.asarray(ranking).tolist(), start=1):
        place.setdefault(item, rank)
    return np.array([place.get(g, MISSED) for g in np.asarray(gold).tolist()], dtype=np.int64)


def padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Ranks of R rows with different numbers of gold items as one (R, G) matrix, filled up with NONE."""
    width = max((len(r) for r in rows), default=0)
    matrix = np.full((len(rows), max(width, 1)), NONE, dtype=np.int64)
    for num, row in enumerate(rows):
        matrix[num, : len(row)] = row
    return matrix


def best(ranks: np.ndarray) -> np.ndarray:
    """Each row's best placed gold item alone, (R, 1): a metric of it asks whether any gold item was found."""
    found = np.where(ranks > 0, ranks, np.iinfo(np.int64).max).min(axis=1)
    nothing = np.where((ranks != NONE).any(axis=1), MISSED, NONE)
    return np.where((ranks > 0).any(axis=1), found, nothing)[:, None]


def recall_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Share of a row's gold items among the first k: (R,) in [0, 1], NaN in rows without gold items.

    Args:
        ranks: (R, G) from 1, MISSED, or NONE where a row has fewer than G gold items. A gold item given twice
            counts twice, in this and in every metric.
        k: length of the list that is looked at.
    """
    return _per_row(((ranks > 0) & (ranks <= k)).sum(axis=1), (ranks != NONE).sum(axis=1))


def mrr_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / rank of the best placed gold item if it is among the first k, else 0: (R,), NaN without gold items."""
    first = best(ranks)[:, 0]
    gain = np.where((first > 0) & (first <= k), 1.0 / np.maximum(first, 1), 0.0)
    return np.where(first == NONE, np.nan, gain)


def ndcg_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain with binary gains: (R,) in [0, 1], NaN without gold items.

    A gold item at rank r gains 1 / log2(r + 1); the sum is divided by that of the first min(gold items, k) ranks.

    Source: Järvelin & Kekäläinen, TOIS 2002, binary gains as in trec_eval.
    """
    inside = (ranks > 0) & (ranks <= k)
    gain = np.where(inside, 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0).sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1.0))])
    gold = (ranks != NONE).sum(axis=1)
    return np.minimum(_per_row(gain, ideal[np.minimum(gold, k)]), 1.0)


def _per_row(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    empty = denominator == 0
    return np.where(empty, np.nan, numerator / np.where(empty, 1, denominator))


METRICS: dict[str, tuple[Callable[[np.ndarray, int], np.ndarray], int]] = {
    **{f"recall@{k}": (recall_at_k, k) for k in (1, 5, 10, 50)},
    "mrr@10": (mrr_at_k, 10),
    "ndcg@10": (ndcg_at_k, 10),
}
"""Name -> (function of (R, G) ranks and k, k), in the order of the tables."""


def recall_figures(ranks: Sequence[np.ndarray]) -> dict[str, float]:
    """Recall over all labels at 1, 10 and 50, and `recall`, the mean of the three: what trainings are chosen by.

    Args:
        ranks: (G,) of each row, the rank of each of its labels.
    """
    flat = np.concatenate([*ranks, np.zeros(0, dtype=np.int64)])[:, None]
    figures = {f"recall@{k}": float(recall_at_k(flat, k).mean()) if len(flat) else 0.0 for k in (1, 10, 50)}
    return {**figures, "recall": sum(figures.values()) / 3}
