import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crscli import metrics


def one(function, ranks, k):
    return float(function(np.asarray(ranks, dtype=np.int64).reshape(1, -1), k)[0])


def test_hand_worked():
    r = metrics.ranks([7, 3, 9, 1], [3, 1, 5])
    assert r.tolist() == [2, 4, 0]
    assert one(metrics.recall_at_k, r, 1) == 0
    assert one(metrics.recall_at_k, r, 2) == pytest.approx(1 / 3)
    assert one(metrics.recall_at_k, r, 50) == pytest.approx(2 / 3)
    assert metrics.best(r[None]).tolist() == [[2]]
    assert one(metrics.mrr_at_k, r, 10) == 0.5
    dcg = 1 / math.log2(3) + 1 / math.log2(5)
    assert one(metrics.ndcg_at_k, r, 10) == pytest.approx(dcg / (1 + 1 / math.log2(3) + 0.5))


def test_rows_of_different_length():
    r = metrics.padded([np.array([1, 0]), np.array([3]), np.array([], dtype=int)])
    assert r.tolist() == [[1, 0], [3, -1], [-1, -1]]
    assert metrics.recall_at_k(r, 2)[:2].tolist() == [0.5, 0.0]
    assert metrics.best(r).tolist() == [[1], [3], [-1]]
    for function, k in metrics.METRICS.values():
        assert math.isnan(function(r, k)[2])  # no gold item: nothing to judge


def test_ties_go_to_the_lower_number():
    scores = np.array([[1.0, 3.0, 3.0, 3.0, 0.0, 3.0, 0.0, 0.0]])
    assert metrics.top_k(scores, 3).tolist() == [[1, 2, 3]]
    assert metrics.top_k(scores, 5).tolist() == [[1, 2, 3, 5, 0]]
    assert metrics.top_k(np.zeros((2, 5)), 9).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert metrics.top_k(np.zeros((2, 5)), 0).shape == (2, 0)


# ---- conformance: another author's definition of each metric, on random cases -----------------------------------


def slow_ranking(scores, k):
    return [i for _, i in sorted((-s, i) for i, s in enumerate(scores))][:k]


def slow_recall(ranking, gold, k):
    """Counts gold one by one (duplicates count as often as they stand there)."""
    return sum(1 for g in gold if g in ranking[:k]) / len(gold)


def slow_mrr(ranking, gold, k):
    for place, item in enumerate(ranking[:k], 1):
        if item in gold:
            return 1 / place
    return 0.0


def slow_ndcg(ranking, gold, k):
    dcg = sum(1 / math.log2(place + 1) for place, item in enumerate(ranking[:k], 1) if item in gold)
    return dcg / sum(1 / math.log2(place + 1) for place in range(1, min(len(gold), k) + 1))


def random_cases(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = int(rng.integers(1, 60))
        scores = rng.integers(0, 6, n).astype(np.float32)  # few values: many ties
        gold = rng.integers(0, n, int(rng.integers(0, 5))).tolist()  # may be empty, may repeat
        yield scores, gold


def test_conformance_on_1000_random_cases():
    seen_empty = seen_duplicate = 0
    for scores, gold in random_cases(1000):
        ranking = metrics.top_k(scores[None], len(scores))[0].tolist()
        assert ranking == slow_ranking(scores, len(scores))
        for k in (1, 3, 5, 10, 50):
            assert metrics.top_k(scores[None], k)[0].tolist() == slow_ranking(scores, k)
            found = metrics.ranks(ranking, gold)[None]
            distinct = metrics.ranks(ranking, sorted(set(gold)))[None]
            if not gold:
                seen_empty += 1
                assert math.isnan(metrics.recall_at_k(metrics.padded(found), k)[0])
                continue
            seen_duplicate += len(set(gold)) < len(gold)
            assert one(metrics.recall_at_k, found, k) == pytest.approx(slow_recall(ranking, gold, k))
            assert one(metrics.recall_at_k, metrics.best(found), k) == float(slow_recall(ranking, gold, k) > 0)
            assert one(metrics.mrr_at_k, found, k) == pytest.approx(slow_mrr(ranking, gold, k))
            assert one(metrics.ndcg_at_k, distinct, k) == pytest.approx(slow_ndcg(ranking, set(gold), k))
    assert seen_empty > 100
    assert seen_duplicate > 100


@given(st.lists(st.integers(0, 30), unique=True, min_size=1), st.sets(st.integers(0, 30), min_size=1), st.data())
def test_bounds_and_growth(ranking, gold, data):
    found = metrics.ranks(ranking, sorted(gold))
    k = data.draw(st.integers(1, 30))
    for function in (metrics.recall_at_k, metrics.mrr_at_k, metrics.ndcg_at_k):
        assert 0 <= one(function, found, k) <= 1
    assert one(metrics.recall_at_k, found, k) <= one(metrics.recall_at_k, found, k + 1)
    assert one(metrics.mrr_at_k, found, k) <= one(metrics.mrr_at_k, found, k + 1)
