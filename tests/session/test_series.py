"""Films that are named together."""

import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Link
from crscli.session.series import Series

TITLES = [
    "Toy Story", "Toy Story 2", "Toy Story 3", "Harry Potter and the Goblet of Fire",
    "Harry Potter and the Deathly Hallows: Part 2", "Good Will Hunting", "Good Morning, Vietnam", "The Matrix",
    "The Matrix Reloaded", "Shrek", "Shrek the Third", "Shrek 2", "Mission: Impossible", "Mission: Impossible II",
    "In the Bedroom", "In the Line of Fire", "Rocky II", "Rocky", "Big", "Star Wars",
]  # fmt: skip
SERIES = Series(Catalogue([Item(title, title) for title in TITLES]))


def named(text, *links):
    return {(link.id, link.opinion) for link in SERIES.with_all(text, links, ())}


@pytest.mark.parametrize(
    ("text", "series", "opinion"),
    [
        ("I have seen all the toy story films", "Toy Story", "seen"),
        ("I love the Harry Potter series", "Harry Potter", "liked"),
        ("we watched every mission impossible movie", "Mission", "seen"),
        ("I hated all of the Rocky movies", "Rocky", "disliked"),
    ],
)
def test_a_series_is_all_its_films(text, series, opinion):
    assert named(text) == {(title, opinion) for title in TITLES if title.startswith(series)}


def test_a_film_that_is_linked_brings_its_sequels():
    assert named("i loved the shrek movies", Link("item", "Shrek", 12, 17)) == {
        ("Shrek", "liked"),
        ("Shrek 2", "liked"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "all the good movies",
        "In the movies",
        "big films",
        "toy story",
        "the star wars saga",
        "no rocky films",
        "movies",
    ],
)
def test_other_words_before_films_are_no_series(text):
    assert named(text) == set()


def test_other_links_stay():
    tom = Link("person", "Tom Hanks", 0, 9)
    found = SERIES.with_all("Tom Hanks is in all the Toy Story films", [tom], ())
    assert [link.kind for link in found].count("item") == 3
    assert [link.id for link in found if link.kind == "person"] == ["Tom Hanks"]
