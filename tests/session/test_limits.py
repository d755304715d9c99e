import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.session.limits import Limit, Shelf, limits_of, narrow
from crscli.wishes import Wish

FILMS = Catalogue(
    [
        Item("a", "Night", 1984, ("Horror",), ("Ann Lee",), plot="A house is haunted.", runtime=95, language="en"),
        Item("b", "Laughs", 1995, ("Comedy",), ("Bo Ray",), plot="A wedding.", runtime=150, language="fr"),
        Item(
            "c", "Toys", 2018, ("Animation", "Family"), keywords=("robot", "space station"), runtime=80, language="en"
        ),
        Item("d", "Dunes", 1986, ("Drama",), ("Bo Ray",), plot="Three sisters cross a desert.", language="ja"),
        Item("e", "Blank"),
    ]
)
SHELF = Shelf(FILMS)
ORDER = np.arange(len(FILMS))


def wish(kind, value, wanted=True, turn=0, start=0, end=1, than=""):
    return Wish(kind, value, wanted, True, turn, start, end, than)


def kept(*wishes, count=9):
    found = narrow(SHELF, ORDER, [Limit((w,)) for w in wishes], count)
    return [FILMS[n].item_id for n in found.items], [limit.words for limit in found.relaxed]


@pytest.mark.parametrize(
    ("limit", "ids"),
    [
        (wish("genre", "comedy"), "b"),
        (wish("genre", "comedy", False), "acd"),  # of unknown genre is not surely without it
        (wish("person", "Bo Ray"), "bd"),
        (wish("person", "Bo Ray", False), "ace"),
        (wish("years", "1980-1989"), "ad"),
        (wish("years", "newer", than="a"), "bcd"),
        (wish("length", "-100"), "ac"),
        (wish("language", "foreign"), "bd"),
        (wish("audience", "kids"), "c"),
        (wish("theme", "robots"), "c"),
        (wish("theme", "sisters"), "d"),
        (wish("theme", "robot", False), "abd"),
    ],
)
def test_what_keeps_to_a_limit(limit, ids):
    assert kept(limit) == (list(ids), [])


def test_what_is_refused_is_never_given_up_and_the_least_is_given_up_first():
    assert kept(wish("genre", "comedy", False), wish("person", "Bo Ray"), wish("years", "2000-")) == (
        ["d"],
        ["2000 or later"],
    )
    assert kept(*(wish("person", x, False) for x in ("Ann Lee", "Bo Ray")), wish("genre", "horror")) == (
        ["c", "e"],
        ["horror"],
    )
    every = [wish("genre", g, False) for g in ("horror", "comedy", "animation", "drama", "family")]
    assert kept(*every) == ([], [])


def test_the_nearest_come_first_where_years_are_given_up():
    assert kept(wish("years", "1987-1989"), wish("language", "en"))[0] == ["a", "c"]
    assert kept(wish("years", "1987-1989"), wish("language", "en"), count=1) == (["a"], ["1987 to 1989"])


def test_an_older_wish_is_given_up_before_a_newer_one_of_its_kind():
    old, new = wish("genre", "horror", turn=0), wish("genre", "comedy", turn=8)
    assert kept(old, new) == (["b"], ["horror"])


def test_many_limits_are_narrowed_at_once():
    many = [wish("theme", f"nothing{n}", turn=n) for n in range(40)]
    ids, relaxed = kept(*many)
    assert len(ids) == len(FILMS)
    assert len(relaxed) == 40


def test_alternatives_of_a_turn_are_one_limit():
    text = "a comedy or a drama with robots"
    wishes = [
        wish("genre", "comedy", start=2, end=8),
        wish("genre", "drama", start=14, end=19),
        wish("theme", "robots", start=25, end=31),
    ]
    assert [limit.words for limit in limits_of(wishes, [text])] == ["comedy or drama", "robots"]
    both = [wish("genre", "comedy", start=2, end=8), wish("genre", "drama", start=15, end=20)]
    assert [limit.words for limit in limits_of(both, ["a comedy and a drama"])] == ["comedy", "drama"]
    years = [wish("years", "1980-1989"), wish("years", "1990-1999", start=9, end=12)]
    assert len(limits_of(years, ["80s and 90s"])) == 1
    refused = [wish("genre", "comedy", False, start=3), wish("genre", "drama", False, start=13)]
    assert [limit.words for limit in limits_of(refused, ["no comedy or drama"])] == ["no comedy", "no drama"]


def test_what_a_catalogue_is_about():
    assert SHELF.about(["Sisters".lower()]) == SHELF.about(["sister"]) == [3]
    assert SHELF.about(["robot", "desert"]) == SHELF.about([]) == []
    assert SHELF.themes == {"robot", "space station"}
    assert SHELF.knows_words("tell me of robots")
    assert not SHELF.knows_words("asdf qwer")
    bare = Shelf(Catalogue([Item("x", "Bare")]))
    assert not bare.tells("genre")
    assert not bare.tells("years")
