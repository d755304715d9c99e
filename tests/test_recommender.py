from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from crscli import phrasing
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Dialogue, Link, Turn
from crscli.recommender import FitData, Ranking, Reason, Session, without_recommenders_of

TITLES = ["Alien", "Aliens", "Brazil", "Casablanca", "Alien 3", "Dune", "Eraserhead", "Fargo", "Gilda", "Heat", "Ikiru"]


class Counting:
    """Ranks all items by number, whatever was said."""

    tasks = frozenset({"rank"})

    def __init__(self, catalogue):
        self.catalogue = catalogue
        self.asked = []

    def rank(self, contexts, k):
        self.asked += contexts
        every = np.arange(len(self.catalogue))[:k]
        return [Ranking(every, -every.astype(np.float32)) for _ in contexts]


class Explaining(Counting):
    def explain(self, context, item_nums):
        return [(Reason("word", f"word{n}", 1.0),) for n in item_nums]


@pytest.fixture
def catalogue():
    return Catalogue(Item(f"i{num:02}", title) for num, title in enumerate(TITLES))


def session(recommender, shown=1, links=None):
    catalogue = recommender.catalogue
    found = links or {}
    return Session(recommender, lambda text, before: found.get(text, ()), partial(phrasing.realise, catalogue), shown)


def test_what_was_mentioned_or_offered_is_not_offered_again(catalogue):
    links = {"I loved Aliens": (Link("item", "i01", 8, 14), Link("item", "unknown"))}
    talk = session(Counting(catalogue), links=links)
    offered = [talk.say(text).items for text in ["I loved Aliens", *["More!"] * 9, "And?", "What else?"]]
    ids = [item.item_id for items in offered for item in items]
    assert ids == [i.item_id for i in catalogue if i.item_id != "i01"]
    assert offered[-2:] == [(), ()]
    assert [t.role for t in talk.turns] == ["seeker", "recommender"] * 12
    assert talk.turns[-1].text
    assert talk.turns[-1].links == ()


def test_the_recommender_hears_all_that_was_said_with_its_links(catalogue):
    recommender = Counting(catalogue)
    talk = session(recommender, links={"Heat!": (Link("item", "i09", 0, 4),)})
    first = talk.say("Heat!")
    talk.say("Next")
    assert first.links == (Link("item", "i09", 0, 4),)
    assert recommender.asked[0].mentions == ("i09",)
    assert recommender.asked[1].mentions == (first.items[0].item_id, "i09")
    assert [t.text for t in recommender.asked[1].turns] == ["Heat!", first.text, "Next"]


@pytest.mark.parametrize("shown", [1, 3, 6])
def test_links_of_a_reply_point_at_the_names_of_its_items_and_do_not_overlap(catalogue, shown):
    talk = session(Explaining(catalogue), shown)
    for text in ("Hi", "Seen", "No", "Well"):
        reply = talk.say(text)
        links = talk.turns[-1].links
        assert [link.id for link in links] == [item.item_id for item in reply.items]
        assert [reply.text[link.start : link.end] for link in links] == [item.name for item in reply.items]
        spans = sorted((link.start, link.end) for link in links)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_a_name_inside_a_longer_one_is_not_taken_for_it(catalogue):
    alien = catalogue[0]
    said = "Like Aliens or Alien 3 and (Alien)?"
    talk = Session(Counting(catalogue), lambda text, before: (), lambda *_: said, shown=5)
    talk.say("Hi")
    starts = {link.id: link.start for link in talk.turns[-1].links}
    assert starts == {"i00": 28, "i01": 5, "i02": -1, "i03": -1, "i04": 15}
    assert talk.turns[-1].links[2].end == -1
    assert talk.turns[-1].text[28:33] == alien.name


def test_reasons_come_from_a_recommender_that_can_explain_and_are_empty_without(catalogue):
    told = session(Explaining(catalogue), 2).say("Hi")
    assert [[r.evidence for r in reasons] for reasons in told.reasons] == [["word0"], ["word1"]]
    silent = session(Counting(catalogue), 2).say("Hi")
    assert silent.reasons == ((), ())
    assert len(silent.items) == 2


# ---- what may be learnt from ----------------------------------------------------------------------------------


def dialogue(dialogue_id, recommender_id=None):
    return Dialogue(dialogue_id, (Turn("seeker", "Hi"),), recommender_id=recommender_id)


def ids(dialogues):
    return [d.dialogue_id for d in dialogues]


def test_a_choice_on_valid_is_not_fitted_on_its_recommenders():
    train = [dialogue("a", "x"), dialogue("b", "y"), dialogue("c"), dialogue("d", "x")]
    valid = [dialogue("e", "y"), dialogue("f")]
    chosen = FitData(train, valid, refit=False)
    assert ids(chosen.for_choice) == ids(chosen.learnable) == ["a", "c", "d"]  # an unknown recommender bars nobody
    assert ids(FitData(train, valid).learnable) == ["a", "b", "c", "d", "e", "f"]
    assert ids(FitData(train, refit=False).learnable) == ids(train)
    assert ids(without_recommenders_of(train, [])) == ids(train)


def test_what_is_refused_is_not_offered_and_years_are_heeded():
    films = Catalogue(
        [
            Item("1", "Night", 1984, ("Horror",), ("Ann Lee",)),
            Item("2", "Laughs", 1995, ("Comedy",), (), ("Bo Ray",)),
            Item("3", "Toys", 2018, ("Animation",)),
            Item("4", "Dunes", 1986, ("Drama",)),
        ]
    )

    def offered(*said, links=()):
        talk = Session(Counting(films), lambda text, before: links, lambda context, items, why: items[0].name)
        return [talk.say(text).text for text in said]

    assert offered("Hello") == ["Night (1984)"]
    assert offered("No horror please, and not Bo Ray") == ["Toys (2018)"]
    assert offered("Something from the 80s, nothing scary") == ["Dunes (1986)"]
    assert offered("Something from the 40s") == ["Night (1984)"]  # none fits: the ranking as it is
    named = (Link("item", "2", 5, 11),)
    assert offered("Like Laughs but newer", links=named) == ["Toys (2018)"]
