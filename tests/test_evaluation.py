import math

import numpy as np
import pytest

from crscli import evaluation, metrics
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.protocols import PROTOCOLS, select
from crscli.recommender import Ranking


class Fixed:
    """Ranks all items in a given order, whatever the context; remembers how deep it was asked."""

    tasks = frozenset({"rank"})

    def __init__(self, catalogue, order):
        self.catalogue, self.order, self.asked = catalogue, np.array(order), []

    def rank(self, contexts, k):
        self.asked.append(k)
        return [Ranking(self.order[:k], -np.arange(len(self.order[:k]), dtype=np.float32)) for _ in contexts]


def say(role, *ids):
    return Turn(role, "x", tuple(Link("item", i) for i in ids))


@pytest.fixture
def catalogue():
    return Catalogue(Item(str(n), f"t{n}") for n in range(6))


@pytest.fixture
def splits():
    one = Dialogue("a", (say("seeker", "0"), say("recommender", "1", "0"), say("seeker"), say("recommender", "2")))
    two = Dialogue("b", (say("seeker"), say("recommender", "5")))
    return {"test": [one, two]}


def measured(catalogue, splits, order, protocol="turns", exclude=False, **options):
    test_set = select(PROTOCOLS[protocol], splits, "test", catalogue, corpus="x", form="jsonl", **options)
    model = Fixed(catalogue, order)
    return evaluation.predict("fixed", model, test_set, exclude_mentioned=exclude), model


def test_ranks_of_every_label_are_stored(catalogue, splits):
    predictions, _ = measured(catalogue, splits, [0, 1, 2, 3, 4, 5])
    assert [r.tolist() for r in predictions.ranks] == [[2, 1], [3], [6]]
    assert [r.repeated for r in predictions.test_set.rows] == [(False, True), (False,), (False,)]


def test_mentioned_items_can_be_left_out_and_a_label_among_them_is_missed(catalogue, splits):
    predictions, model = measured(catalogue, splits, [0, 1, 2, 3, 4, 5], exclude=True)
    assert [r.tolist() for r in predictions.ranks] == [[1, 0], [1], [6]]
    assert model.asked == [6]


def test_only_candidates_are_ranked(catalogue, splits):
    predictions, _ = measured(catalogue, splits, [0, 1, 2, 3, 4, 5], listed=np.array([1, 5]))
    assert [r.tolist() for r in predictions.ranks] == [[1, 0], [0], [2]]
    assert predictions.test_set.counts["labels_outside_candidates"] == 2


def test_figures_by_hand(catalogue, splits):
    predictions, _ = measured(catalogue, splits, [0, 1, 2, 3, 4, 5])
    found = evaluation.figures(predictions, draws=50)
    at_1 = {a: found.estimates[a]["all"]["recall@1"].value for a in evaluation.AGGREGATIONS}
    assert at_1 == {"micro": 1 / 4, "row": 0.5 / 3, "any": 1 / 3}
    assert found.estimates["row"]["new"]["recall@5"].value == 2 / 3
    assert found.estimates["micro"]["repeated"]["recall@1"].value == 1
    assert found.units["row"] == {"all": 3, "new": 3, "repeated": 1}
    assert found.distinct_items == {1: 1, 10: 6}


def test_nothing_to_judge_is_not_a_number(catalogue):
    splits = {"test": [Dialogue("a", (say("seeker"), say("recommender")))]}
    predictions, _ = measured(catalogue, splits, [0, 1, 2, 3, 4, 5])
    found = evaluation.figures(predictions, draws=20)
    assert math.isnan(found.estimates["row"]["all"]["recall@1"].value)


def random_predictions(catalogue, rows=300, per_dialogue=3, seed=0, chance=0.3):
    rng = np.random.default_rng(seed)
    turn = [say("seeker"), say("recommender", "1")]
    dialogues = [Dialogue(str(n), tuple(turn * per_dialogue)) for n in range(rows // per_dialogue)]
    test_set = select(PROTOCOLS["turns"], {"test": dialogues}, "test", catalogue, corpus="x", form="jsonl")
    ranks = [np.array([1 if rng.random() < chance else 30]) for _ in test_set.rows]
    return evaluation.Predictions("m", test_set, ranks, [np.array([0])] * len(ranks), False)


def test_bootstrap_equals_a_slow_loop_over_dialogues(catalogue):
    predictions = random_predictions(catalogue)
    estimate = evaluation.figures(predictions, draws=400, seed=5).estimates["row"]["all"]["recall@1"]
    hits = np.array([float(r[0] == 1) for r in predictions.ranks])
    by_dialogue = [hits[predictions.test_set.dialogue_nums == n] for n in range(100)]
    rng = np.random.default_rng(5)
    means = []
    for drawn in rng.multinomial(100, np.full(100, 0.01), size=400):
        values = np.concatenate([np.tile(by_dialogue[n], times) for n, times in enumerate(drawn) if times])
        means.append(values.mean())
    assert estimate.value == hits.mean()
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_the_interval_covers_the_truth_about_19_times_in_20(catalogue):
    covered = 0
    for seed in range(60):
        e = evaluation.figures(random_predictions(catalogue, 90, seed=seed), draws=200).estimates["row"]["all"][
            "recall@1"
        ]
        covered += e.low <= 0.3 <= e.high
    assert 50 <= covered <= 60


def test_equal_models_do_not_differ_and_unequal_ones_do(catalogue):
    one, other = random_predictions(catalogue, seed=1), random_predictions(catalogue, seed=2)
    better = random_predictions(catalogue, seed=3, chance=0.6)
    names = ("recall@1",)
    same = evaluation.compare([one, other], aggregation="row", names=names, draws=2000)[0]
    different = evaluation.compare([better, one], aggregation="row", names=names, draws=2000)[0]
    assert same.p_value > 0.05
    assert different.p_value < 0.01
    assert different.difference > 0
    assert evaluation.compare([one, one], aggregation="row", names=names)[0].p_value == 1.0


def test_p_values_are_uniform_where_nothing_differs(catalogue):
    rng = np.random.default_rng(0)
    values = [evaluation._sign_test(rng.normal(size=40), 400, rng) for _ in range(300)]
    assert abs(np.mean(np.array(values) < 0.5) - 0.5) < 0.12


def test_holm_by_hand():
    assert evaluation.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert evaluation.holm([]) == []


def test_an_example_context_is_what_chat_would_build(catalogue, splits):
    predictions, _ = measured(catalogue, splits, [0, 1, 2, 3, 4, 5])
    assert predictions.test_set.rows[0].context == Context((say("seeker", "0"),))
    assert metrics.NONE == -1
