"""What a message asks for in its dialogue: themes, spans of years, what is taken back, replaced and added."""

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Link, Turn
from crscli.recommender import Ranking
from crscli.session import Host, Memory, Session
from crscli.session.limits import Shelf
from crscli.session.themes import themes
from crscli.wishes.measures import lengths, said_languages
from crscli.wishes.periods import periods

ALL = range(1, 41)
KEYWORDS = {1: ("space",), 2: ("serial killer", "london"), 3: ("pirates",), 4: ("american football",), 5: ("boxing",)}
FILMS = Catalogue(
    Item(str(n), f"Film {n}", 1960 + n, ("Comedy",) if n % 2 else ("Drama",), ("Ann Lee",), ("Bo Ray",),
         keywords=KEYWORDS.get(n, ()), plot="A beekeeper sells honey." if n == 6 else "", language="en")
    for n in ALL
)  # fmt: skip
SHELF = Shelf(FILMS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("set in space", ["space"]),
        ("a film about a serial killer in London", ["serial killer", "london"]),
        ("pirate movie", ["pirate"]),
        ("boxing", ["boxing"]),
        ("ok, boxing please", ["boxing"]),
        ("something with pirates or boxing", ["pirates", "boxing"]),
        ("I'm into drama, big worlds and pirates", ["pirates"]),
        ("no pirates", ["-pirates"]),
        ("not football", ["-football"]),
        ("enough boxing", ["-boxing"]),
        ("about a beekeeper", ["beekeeper"]),
        ("a beekeeper", []),  # no keyword, and nothing says that it shall be about one
        ("my uncle boxing taught me to swim", []),
        ("what is it about", []),
        ("about two hours", []),
        ("something about zeppelins", []),
        ("with friends", []),
    ],
)
def test_themes_that_a_catalogue_has(text, found):
    read = [f"{'' if w.wanted else '-'}{w.value}" for w in themes(Turn("seeker", text), 0, SHELF)]
    assert read == found


def test_what_is_named_is_no_theme():
    turn = Turn("seeker", "about Space Pirates", (Link("item", "1", 6, 19),))
    assert list(themes(turn, 0, SHELF)) == []
    assert list(themes(Turn("seeker", "set in space"), 0, SHELF, [(7, 12)])) == []


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("prior to 1990", ["-1989"]),
        ("older than 1980", ["-1979"]),
        ("pre-2000", ["-1999"]),
        ("nothing newer than 1999", ["-1999", "2000-"]),  # the reader of both knows that the second is refused
        ("between 1980 and 1995", ["1980-1995"]),
        ("1990 or later", ["1990-"]),
        ("the last ten years", ["2010-"]),
        ("past couple of decades", ["2000-"]),
        ("from this century", ["2000-"]),
        ("a 1994 movie", ["1994-1994"]),
        ("1994", ["1994-1994"]),
        ("it cost 2000 dollars", []),
        ("last year", []),
    ],
)
def test_spans_of_years(text, values):
    found = [value for value, *_ in periods(text, 2020)]
    assert found == values or found == values[:1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("under two hours", "-120"),
        ("it can't be longer than two and a half hours", "-150"),
        ("no more than 90min", "-90"),
        ("1h30 max", "-90"),
        ("<2h", "-120"),
        ("over 2.5 hours", "150-"),
        ("not too long", "-100"),
    ],
)
def test_lengths(text, value):
    assert [v for v, *_ in lengths(text)] == [value]


def test_languages():
    assert [code for code, *_ in said_languages("he hates subtitles")] == ["en"]
    assert [code for code, *_ in said_languages("maybe foreign")] == ["foreign"]
    assert [code for code, *_ in said_languages("something in french")] == ["fr"]


class InOrder:
    tasks = frozenset({"rank"})

    def __init__(self, catalogue):
        self.catalogue = catalogue

    def rank(self, contexts, k):
        every = np.arange(len(self.catalogue))[:k]
        return [Ranking(every, -every.astype(np.float32)) for _ in contexts]


def after(*said):
    talk = Session(Host(InOrder(FILMS), lambda text, before: (), 2))
    for text in said:
        talk.say(text)
    return [limit.words for limit in talk.memory.limits()]


@pytest.mark.parametrize(
    ("said", "limits"),
    [
        (("a comedy from the 80s", "any decade is fine"), ["comedy"]),
        (("a comedy from the 80s", "the year doesn't matter"), ["comedy"]),
        (("a comedy from the 80s", "forget the 80s"), ["comedy"]),
        (("a comedy from the 80s", "it doesn't have to be a comedy"), ["the 1980s"]),
        (("a comedy from the 80s", "actually make that a drama"), ["the 1980s", "drama"]),
        (("a comedy from the 80s", "a drama too"), ["comedy", "the 1980s", "drama"]),
        (("a comedy about pirates", "forget the pirates"), ["comedy"]),
        (("a comedy or a drama", "ok, the drama"), ["drama"]),
        (("something in french", "or italian"), ["French or Italian"]),
        (("something in french", "not necessarily french"), []),
        (("no horror", "horror is fine too"), ["horror"]),
        (("horror", "no slashers"), ["horror", "no slashers"]),  # of a sort, not of all
        (("a drama", "nothing older than 2000"), ["drama", "2000 or later"]),
        (("a drama", "before 1990, so older"), ["drama", "1989 or earlier"]),
        (("something for my niece, she's nine",), ["something for kids"]),
        (("by Ann Lee", "I've seen everything with Ann Lee"), ["no Ann Lee"]),
        (("war is ok",), ["war"]),
    ],
)
def test_what_holds_after_a_change_of_mind(said, limits):
    assert after(*said) == limits


def test_a_dialogue_with_all_kinds_of_wishes_goes_through_json_and_back():
    talk = Session(Host(InOrder(FILMS), lambda text, before: (), 2))
    for text in (
        "a comedy or a drama about pirates",
        "or boxing",
        "no guns, nothing older than 1970",
        "seen it",
        "why?",
    ):
        talk.say(text)
    plain = talk.memory.to_json()
    kept = Memory.from_json(FILMS, plain)
    assert kept == talk.memory
    assert kept.limits() == talk.memory.limits()
    assert kept.to_json() == plain
    fewer = Memory.from_json(Catalogue(list(FILMS)[10:]), plain)
    assert all(i in fewer.catalogue for row in fewer.offered for i in row)
