"""People who are called by their surname."""

import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Link, Turn
from crscli.session.surnames import Surnames

FILMS = [
    ("Se7en", "David Fincher", "Brad Pitt"), ("Zodiac", "David Fincher", "Jake Gyllenhaal"),
    ("Hitch", "Andy Tennant", "Will Smith"), ("I, Robot", "Alex Proyas", "Will Smith"),
    ("Unforgiven", "Clint Eastwood", "Gene Hackman"), ("Gran Torino", "Clint Eastwood", "Bee Vang"),
]  # fmt: skip
SURNAMES = Surnames(Catalogue([Item(t, t, directors=(d,), cast=(c,)) for t, d, c in FILMS]))


def named(text, links=(), before=()):
    return [link.id for link in SURNAMES.with_called(text, links, before)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fincher", "David Fincher"),
        ("drop fincher", "David Fincher"),
        ("something by Fincher maybe, if you have it", "David Fincher"),
        ("do leave out Mr Eastwood, I never could warm to him", "Clint Eastwood"),
        ("any of the eastwood films that are not too long for a weekday", "Clint Eastwood"),
    ],
)
def test_a_surname_is_its_owner(text, name):
    assert named(text) == [name]


@pytest.mark.parametrize("text", ["smith", "a tennant of the house", "gyllenhaal", "nothing", ""])
def test_words_and_people_of_one_film_are_left_to_the_linker(text):
    assert named(text) == []


def test_who_was_named_is_called_by_either_name():
    before = [Turn("seeker", "with Will Smith", (Link("person", "Will Smith", 5, 15),))]
    assert named("no smith after all, and nothing too long please", before=before) == ["Will Smith"]
    assert named("without Will then, but otherwise the same as before", before=before) == ["Will Smith"]
    assert named("we will watch it some time next week I think", before=before) == []
    assert named("Smith", [Link("person", "Will Smith", 0, 5)], before) == ["Will Smith"]
