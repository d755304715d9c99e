import math
from collections import Counter

import numpy as np
import pytest
import scipy.sparse as sp

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.signals import mentions, words


def mention(*ids):
    return tuple(Link("item", i) for i in ids)


@pytest.fixture(scope="module")
def catalogue():
    return Catalogue(Item(str(n), f"Title{n}", 2000 + n) for n in range(12))


@pytest.fixture(scope="module")
def dialogues():
    rng = np.random.default_rng(3)
    made = []
    for num in range(40):
        turns = [
            Turn(
                ("seeker", "recommender")[t % 2],
                f"word{rng.integers(9)} film",
                mention(*map(str, rng.integers(0, 12, 2))),
            )
            for t in range(4)
        ]
        made.append(Dialogue(str(num), tuple(turns), order=num))
    return made


@pytest.fixture(scope="module")
def contexts():
    return [
        Context(
            (Turn("seeker", "word1 and word2", mention("3", "5")), Turn("recommender", "word3", mention("5", "7")))
        ),
        Context((Turn("seeker", "nothing known"),)),
        Context((Turn("seeker", "word4", mention("unknown", "11")),)),
    ]


def test_popularity_counts_every_mention_of_recommenders(catalogue, dialogues):
    counts = Counter(i for d in dialogues for t in d.turns if t.role == "recommender" for i in t.items)
    found = mentions.Popularity.fit(catalogue, dialogues).counts
    assert found.tolist() == [counts[str(n)] for n in range(12)]


def test_cooccurrence_equals_a_slow_loop(catalogue, dialogues, contexts):
    pairs = np.zeros((12, 12))
    for d in dialogues:
        named = {int(i) for t in d.turns for i in t.items}
        for a in named:
            for b in named - {a}:
                pairs[a, b] += 1
    rows = pairs / (pairs.sum(axis=1, keepdims=True) + 10)
    scores = mentions.Cooccurrence.fit(catalogue, dialogues).scores(contexts)
    weights = np.array([1, 0.85, 0.85**2]) / np.linalg.norm([1, 0.85, 0.85**2])
    wanted = weights[0] * rows[7] + weights[1] * rows[5] + weights[2] * rows[3]
    assert np.allclose(scores[0], wanted, atol=1e-6)
    assert not scores[1].any()
    assert np.allclose(scores[2], rows[11], atol=1e-6)


def test_ease_solves_its_own_problem(catalogue, dialogues):
    """Each column of B is the ridge regression of an item on the others: no other weights fit better."""
    ease = mentions.Ease.fit(catalogue, dialogues, ridge=5.0)
    x = mentions.item_sets(dialogues, catalogue).toarray()[:, ease.items].astype(np.float64)
    assert not np.diag(ease.weights).any()
    for column in range(x.shape[1]):
        others = [n for n in range(x.shape[1]) if n != column]
        a = x[:, others]
        wanted = np.linalg.solve(a.T @ a + 5.0 * np.eye(len(others)), a.T @ x[:, column])
        assert np.allclose(ease.weights[others, column], wanted, atol=1e-4)


def test_ease_keeps_to_its_limit(catalogue, dialogues):
    ease = mentions.Ease.fit(catalogue, dialogues, limit=4)
    assert ease.weights.shape == (4, 4)
    named = Counter(i for d in dialogues for i in {i for t in d.turns for i in t.items})
    least = min(named[str(n)] for n in ease.items)
    assert sum(count > least for count in named.values()) <= 4


def test_inverse_is_an_inverse_and_refuses_what_has_none():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 30)).astype(np.float32)
    spd = np.asfortranarray(a @ a.T + 5 * np.eye(30, dtype=np.float32))
    assert np.allclose(mentions.inverse(spd.copy(order="F")) @ spd, np.eye(30), atol=1e-3)
    with pytest.raises(ValueError, match="ridge"):
        mentions.inverse(np.asfortranarray(-np.eye(3, dtype=np.float32)))
    assert mentions.inverse(np.zeros((0, 0), dtype=np.float32)).shape == (0, 0)


def test_neighbours_equal_a_slow_loop(catalogue, dialogues, contexts):
    fitted = words.Neighbours.fit(catalogue, dialogues, neighbours=5)
    vectors, targets = fitted.vectors.toarray(), fitted.targets.toarray()
    query = words._vectors([Counter(words._terms(contexts[0]))], fitted.vocabulary, fitted.idf).toarray()[0]
    similar = vectors @ query
    best = sorted((-s, n) for n, s in enumerate(similar) if s)[:5]
    wanted = sum(-s * targets[n] for s, n in best)
    assert np.allclose(fitted.scores(contexts)[0], wanted, atol=1e-5)
    assert math.isclose(np.linalg.norm(vectors[0]), 1, abs_tol=1e-5)


def test_titles_in_the_text_do_not_count_as_words(catalogue):
    turn = Turn("seeker", "I liked Title3 a lot", (Link("item", "3", 8, 14),))
    assert list(words._terms(Context((turn,)))) == ["i", "liked", "a", "lot", "@3"]


def test_bm25_finds_the_item_whose_words_are_said(catalogue):
    scores = words.Bm25.fit(catalogue).scores([Context((Turn("seeker", "did you like title7?"),)), Context(())])
    assert scores[0].argmax() == 7
    assert not scores[1].any()


def test_nothing_is_dense_past_the_limit():
    """A catalogue of 300,000 items with few mentions is fitted and asked in memory that follows the mentions."""
    catalogue = Catalogue(Item(str(n), f"t{n}") for n in range(300_000))
    dialogue = Dialogue("d", (Turn("seeker", "x", mention("1", "299999")), Turn("recommender", "y", mention("7"))))
    fitted = mentions.Cooccurrence.fit(catalogue, [dialogue])
    assert sp.issparse(fitted.matrix)
    assert fitted.matrix.nnz == 6
    assert mentions.Ease.fit(catalogue, [dialogue]).weights.shape == (3, 3)
