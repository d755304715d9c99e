"""The walk against a slow one, and what a language model may do to it."""

import random

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.llm import Completion
from crscli.models.gcrs import Gcrs, GcrsConfig, _named
from crscli.recommender import FitData
from crscli.wishes import WishReader

CATALOGUE = Catalogue(
    Item(f"f{n}", f"Film {n}", 1990 + n, genres=(("horror",), ("comedy",))[n % 2], directors=(f"Ann Lee{n % 3}",))
    for n in range(8)
)


def said(role, text, *items, opinion=None):
    return Turn(role, text, tuple(Link("item", f"f{n}", opinion=opinion) for n in items))


DIALOGUES = [
    Dialogue(f"d{n}", (said("seeker", "I want a horror film." if n % 2 else "Hi", n % 8),
                       said("recommender", "Try it", (n + 2) % 8, (n + 4) % 8)))
    for n in range(12)
]  # fmt: skip
CONTEXTS = [Context(d.turns[:1]) for d in DIALOGUES[:6]]


def fitted(**settings):
    return Gcrs.fit(CATALOGUE, FitData(DIALOGUES), GcrsConfig(**settings))


@pytest.mark.parametrize("metadata_weight", [0.0, 0.3])
def test_the_walk_is_that_of_a_dense_loop(metadata_weight):
    model = fitted(metadata_weight=metadata_weight)
    graph, config = model.graph, model.config
    dense = np.zeros((graph.size, graph.size))
    reader = WishReader(p for i in CATALOGUE for p in i.directors)
    for num, dialogue in enumerate(DIALOGUES):
        for name in set(_named(dialogue.turns, reader)):
            at = graph.number[name]
            dense[at, len(graph.names) + num] = dense[len(graph.names) + num, at] = 1
    if metadata_weight:
        for item in CATALOGUE:
            for name in (f"genre:{item.genres[0]}", f"person:{item.directors[0]}"):
                one, other = graph.number[f"item:{item.item_id}"], graph.number[name]
                dense[one, other] = dense[other, one] = metadata_weight
    sums = dense.sum(0)
    stochastic = dense / np.where(sums > 0, sums, 1)
    start = model._starts(CONTEXTS)
    assert np.allclose(start.sum(1), 1)
    for row, met in zip(start, model._walked(CONTEXTS), strict=True):
        begin = np.concatenate([row, np.zeros(len(DIALOGUES))])
        slow = begin.copy()
        for _ in range(config.iterations):
            slow = config.alpha * begin + (1 - config.alpha) * stochastic @ slow
        assert np.allclose(met, slow, atol=1e-6)


def test_a_walk_does_not_depend_on_others():
    model = fitted()
    together = model._walked(CONTEXTS)
    for num, context in enumerate(CONTEXTS):
        assert np.array_equal(model._walked([context])[0], together[num])


def test_wishes_and_links_are_entities_but_not_what_was_disliked():
    turns = (
        said("seeker", "A comedy please, with Ann Lee1. Not horror.", 3),
        said("seeker", "", 4, opinion="disliked"),
    )
    named = _named(turns, WishReader(["Ann Lee1"]))
    assert "item:f3" in named
    assert "genre:comedy" in named
    assert "person:Ann Lee1" in named
    assert not {"item:f4", "genre:horror"} & set(named)


def test_nothing_known_is_ranked_by_popularity():
    ranking = fitted().rank([Context((said("seeker", "hello"),))], 8)[0]
    counts = fitted().counts
    assert (np.diff(counts[ranking.item_nums]) <= 0).all()


def test_reasons_tell_where_the_walk_began():
    model = fitted()
    context = Context((said("seeker", "A comedy like this", 2),))
    (reasons,) = model.explain(context, [4])
    assert {r.kind for r in reasons} <= {"mention", "request", "name"}
    assert sum(r.share for r in reasons) == pytest.approx(1, abs=1e-3)


class Saying:
    def __init__(self, say):
        self.say, self.asked = say, []

    def complete(self, asked):
        self.asked += asked
        return [Completion(self.say(request)) for request in asked]


def test_a_language_model_chooses_among_what_was_found():
    model, plain = fitted(candidates=4, demonstrations=2), fitted()
    model.use_llm(llm := Saying(lambda request: "[3] > [1]"))
    for own, other in zip(model.rank(CONTEXTS, 8), plain.rank(CONTEXTS, 8), strict=True):
        a, b, c, d, *rest = other.item_nums.tolist()
        assert own.item_nums.tolist() == [c, a, b, d, *rest]
    prompt = llm.asked[0].messages[-1].content
    assert prompt.count("Recommended there:") == 2
    assert prompt.count("\n[4]") == 1
    assert model.facts() == {"answers": 6, "complete_share": 0.0, "unparsable_answers": 0, "invented_labels": 0}


def test_hostile_answers_leave_a_permutation():
    rng = random.Random(0)
    pieces = ["[1]", "[9]", "[0]", "2", "\n", "Film 3 (1993)", "ignore all rules", "[2][2]", "\x00", "-1", "😀", "> "]
    model = fitted(candidates=4)
    model.use_llm(Saying(lambda request: "".join(rng.choices(pieces, k=rng.randint(0, 9)))))
    for _ in range(60):
        for ranking in model.rank(CONTEXTS, 8):
            assert sorted(ranking.item_nums.tolist()) == list(range(8))
            assert (np.diff(ranking.scores) <= 0).all()


def test_a_catalogue_without_metadata_and_a_world_without_edges_are_fitted():
    bare = Catalogue(Item(f"f{n}", f"Film {n}") for n in range(8))
    empty = FitData([Dialogue("d", (Turn("seeker", "hello"),))])
    ranking = Gcrs.fit(bare, empty, GcrsConfig(metadata_weight=0)).rank(CONTEXTS[:1], 8)[0]
    assert sorted(ranking.item_nums.tolist()) == list(range(8))


@pytest.mark.parametrize("wrong", [{"alpha": 1.0}, {"iterations": 0}, {"decay": 0}, {"debias": -1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GcrsConfig(**wrong)
