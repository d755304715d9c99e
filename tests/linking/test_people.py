import time
from itertools import pairwise

import numpy as np
import pytest
import redial_films
from hypothesis import given
from hypothesis import strategies as st

from crscli.catalogue import Catalogue, Item
from crscli.linking.people import People
from crscli.names import tokens

FILMS = [
    Item(
        "1", "Click", 2006, cast=("Adam Sandler", "Kate Beckinsale"), plot="A remote lets him close a house and cruise."
    ),
    Item("2", "Jumanji", 2017, cast=("Dwayne Johnson", "Kevin Hart", "Jack Black")),
    Item("3", "The Rock", 1996, cast=("Sean Connery", "Nicolas Cage"), directors=("Michael Bay",)),
    Item("4", "Django", 2012, cast=("Samuel L. Jackson", "Leonardo DiCaprio"), directors=("Quentin Tarantino",)),
    Item("5", "Iron Man", 2008, cast=("Robert Downey Jr.", "Terrence Howard")),
    Item("6", "Top Gun", 1986, cast=("Tom Cruise", "Val Kilmer")),
    Item("7", "Damages", 2007, cast=("Glenn Close", "Sinbad", "The Who")),
    Item("8", "Amelie", 2001, cast=("Audrey Tautou",), writers=("Jean-Pierre Jeunet", "Guillaume Laurant")),
    Item("9", "Logan", 2017, cast=("Hugh Jackman", "Pedro Almodóvar"), writers=("John Logan",)),
]
WORDS = [
    "Adam",
    "Sandler",
    "Sandler's",
    " ",
    ". ",
    ", ",
    "the rock",
    "Johnson",
    "adan",
    "&amp;",
    "Almodóvar",
    "with",
    "Jr",
]
KNOWN = {"1": 90, "2": 80, "6": 70}


@pytest.fixture(scope="module")
def people():
    catalogue = Catalogue(FILMS)
    return People(catalogue, np.array([KNOWN.get(item.item_id, 1) for item in catalogue]))


def found(people, text):
    """(name, words of the text) of each link."""
    links = people.find(tokens(text), text)
    assert all(link.kind == "person" and link.reason for link in links)
    return [(link.id, text[link.start : link.end]) for link in links]


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("I love Adam Sandler!", "Adam Sandler", "Adam Sandler"),
        ("anything with adam sandler in it", "Adam Sandler", "adam sandler"),
        ("ADAM SANDLER’S best", "Adam Sandler", "ADAM SANDLER"),
        ("Adan Sandler rules", "Adam Sandler", "Adan Sandler"),
        ("films by Adam Sadnler", "Adam Sandler", "Adam Sadnler"),
        ("an adamsandler movie", "Adam Sandler", "adamsandler"),
        ("I like Sandler too", "Adam Sandler", "Sandler"),
        ("Sandler's older stuff", "Adam Sandler", "Sandler"),
        ("one with sandler please", "Adam Sandler", "sandler"),
        ("a sandler movie", "Adam Sandler", "sandler"),
        ("was that Samuel Jackson?", "Samuel L. Jackson", "Samuel Jackson"),
        ("Samuel L Jackson", "Samuel L. Jackson", "Samuel L Jackson"),
        ("robert downey was great", "Robert Downey Jr.", "robert downey"),
        ("Robert Downey, Jr. again", "Robert Downey Jr.", "Robert Downey, Jr"),
        ("with Leonardo Di Caprio", "Leonardo DiCaprio", "Leonardo Di Caprio"),
        ("the jean pierre jeunet film", "Jean-Pierre Jeunet", "jean pierre jeunet"),
        ("Pedro Almodovar", "Pedro Almodóvar", "Pedro Almodovar"),
        ("Quinten Tarentino", "Quentin Tarantino", "Quinten Tarentino"),
        ("an rdj movie", "Robert Downey Jr.", "rdj"),
        ("Jumanji, the one with The Rock in it", "Dwayne Johnson", "The Rock"),
        ("Kevin Hart and the rock are funny", "Dwayne Johnson", "the rock"),
        ('Dwayne "The Rock" Johnson', "Dwayne Johnson", 'Dwayne "The Rock" Johnson'),
        ("any leo movies?", "Leonardo DiCaprio", "leo"),
    ],
)
def test_people_are_found_as_they_are_typed(people, text, name, words):
    assert (name, words) in found(people, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i love the rock",
        "leo is my son",
        "Sinbad was fun",
        "who is in it? The Who",
        "a close call",
        "Logan was great",
        "a sandler is a tool",
        "Marc Sandler is my neighbour",
        "go to Sandler Street",
        "cruise control",
        "the sender was adam",
    ],
)
def test_what_is_no_person_is_left(people, text):
    assert found(people, text) == []


@pytest.mark.parametrize("text", ["Adam, Sandler is over there", "I saw it with Adam. Sandler came later"])
def test_a_stop_or_comma_parts_a_name(people, text):
    assert found(people, text) == [("Adam Sandler", "Sandler")]


def test_several_people_come_by_place_and_do_not_overlap(people):
    text = "Jack Black, kevin hart & Adam Sandlers"
    links = people.find(tokens(text), text)
    assert [link.id for link in links] == ["Jack Black", "Kevin Hart", "Adam Sandler"]
    assert [link.reason for link in links] == ["full name", "full name", "misspelt name"]
    assert [link.score for link in links] == [1.0, 1.0, pytest.approx(0.8)]
    assert [text[link.start : link.end] for link in links] == ["Jack Black", "kevin hart", "Adam Sandlers"]


def test_people_whom_the_catalogue_does_not_have_have_no_nickname(people):
    assert found(people, "jlo and denzel") == []


def test_a_catalogue_without_people_finds_nobody():
    people = People(Catalogue([Item("1", "Heat")]), np.zeros(1))
    assert people.find(tokens("Adam Sandler"), "Adam Sandler") == []


@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
def test_links_have_a_place_and_do_not_overlap(people, text):
    links = people.find(tokens(text), text)
    assert all(0 <= link.start < link.end <= len(text) for link in links)
    assert all(left.end <= right.start for left, right in pairwise(links))


@pytest.mark.realdata
def test_people_of_redial(shared_data):
    """675 hits outside film spans; of 200 drawn with seed 0 all were read as right."""
    world = redial_films.load(shared_data)
    people = People(world.catalogue, world.popularity)
    turns = [turn for dialogue in world.test for turn in dialogue.turns]
    split = [(tokens(turn.text), turn.text) for turn in turns]
    started = time.process_time()
    links = [people.find(*pair) for pair in split]
    took = time.process_time() - started
    reasons = [
        link.reason
        for turn, found in zip(turns, links, strict=True)
        for link in found
        if not any(film.start < link.end and link.start < film.end for film in turn.links)
    ]
    assert len(turns) == 23952
    assert {reason: reasons.count(reason) for reason in sorted(set(reasons))} == {
        "full name": 507,
        "misspelt name": 71,
        "nickname": 72,
        "surname": 25,
    }
    assert took / len(turns) < 0.0002
