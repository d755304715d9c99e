"""Names of films, titles one edit away, and ways of writing marked dialogues."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Dialogue, Link, Turn
from crscli.linking.aliases import numerals, parts, without_article
from crscli.linking.choice import Choice
from crscli.linking.features import longer_ones
from crscli.linking.films import Films
from crscli.linking.fuzzy import HalfIndex
from crscli.linking.message import Message
from crscli.linking.statistics import count
from crscli.linking.variants import variant, with_typo, without_year
from crscli.linking.weights import fit, probability


def test_numerals_parts_and_articles_have_other_forms():
    assert set(numerals("the godfather part ii")) == {"the godfather part 2", "the godfather 2", "the godfather ii"}
    assert "frozen ii" in set(numerals("frozen 2"))
    assert set(numerals("ford v ferrari")) == {"ford vs ferrari", "ford versus ferrari"}
    assert list(numerals("malcolm x")) == []
    assert without_article("the ring") == "ring"
    assert without_article("the") is None
    assert parts("Star Wars: Episode VIII – The Last Jedi") == ["star wars", "episode viii", "the last jedi"]
    assert parts("Heat") == []


def test_what_stands_before_the_colon_names_a_film_only_if_no_other_shares_it():
    titles = ["Borat: Cultural Learnings", "Alien: Covenant Rises", "Alien: The Return"]
    films = Films(Catalogue(Item(str(n), title) for n, title in enumerate(titles)))
    assert films.name(films.index.get("borat")).kind == "front"
    assert films.index.get("alien") is None
    assert films.name(films.index.get("covenant rises")).titles == (films.index.get("alien covenant rises"),)


def test_items_of_one_title_and_nearly_one_year_are_one_film():
    years = [2004, 2003, None, 1987]
    catalogue = Catalogue(Item(str(n), "Saw", year) for n, year in enumerate(years))
    films = Films(catalogue)
    choice = Choice(films, np.array([5, 1, 2, 3]))
    assert choice.films_of((0,)) == [[0, 2, 1], [3]]
    assert choice.with_year((0,), 1988) == [[3], [0, 2, 1]]
    assert choice.with_year((0,), 1988, 0) == choice.with_year((0,), 1950) == []


def test_titles_that_differ_in_the_article_are_related():
    catalogue = Catalogue([Item("1", "The Notebook", 2004), Item("2", "Notebook", 2006)])
    films = Films(catalogue)
    assert Choice(films, np.array([500, 1])).films_of((films.index.get("notebook"),)) == [[0], [1]]
    assert Choice(films, np.array([50, 1])).films_of((films.index.get("notebook"),)) == [[1], [0]]


@given(st.lists(st.text("abcde", min_size=8, max_size=12), min_size=1, max_size=20, unique=True), st.data())
def test_every_name_one_edit_away_is_found_and_no_other(names, data):
    index = HalfIndex(names)
    name = data.draw(st.sampled_from(names))
    window = with_typo(name, random.Random(data.draw(st.integers(0, 999))))
    wanted = {n for n, other in enumerate(names) if OSA.distance(window, other) <= 1}
    assert {number for number, _ in index.near(window)} == wanted
    assert list(index.same(name)) == [names.index(name)]


def test_short_and_long_windows_are_near_nothing():
    index = HalfIndex(["seven", "a" * 60])
    assert list(index.near("seven")) == list(index.near("a" * 60)) == list(index.same("seven")) == []


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4)), max_size=12, unique=True))
def test_places_inside_longer_ones(places):
    spans = sorted((first, first + length) for first, length in places)
    slow = [any(f <= a and b <= s and s - f > b - a for f, s in spans) for a, b in spans]
    assert longer_ones(spans) == slow


def test_a_year_in_brackets_is_no_word():
    message = Message("Heat (1995) and (500) Days ( 2009 ) or 1984 (")
    assert message.words == ["heat", "and", "500", "days", "or", "1984"]
    assert message.years == {0: (1995, 11), 3: (2009, 35)}


def test_capitals_and_starts_of_sentences():
    message = Message("Hi. We saw It and I SAW")
    assert message.capital == [True, True, False, True, False, True, True]
    assert message.starts == [True, True, False, False, False, False, False]
    assert message.inner_capitals[-1] == 2
    assert Message("GET OUT").shouts
    assert not Message("IT").shouts


def test_counts_stand_apart_for_marks_and_other_words():
    films = Films(Catalogue([Item("1", "Her", 2013), Item("2", "Big", 1988)]))
    turn = Turn("seeker", "I told her to see Her (2013), big fan", (Link("item", "1", 18, 28),))
    found = count([Dialogue("d", (turn,))], films.index)
    assert (found.marks["her"], found.others["her"], found.others["big"]) == (1, 1, 1)
    assert found.popularity == {"1": 1}
    assert found.pairs["big fan"] == 1
    assert (found - found).words == {}


TURN = Turn(
    "seeker", "I liked The Ring (2002)and @Carriers a lot", (Link("item", "1", 8, 23), Link("item", "2", 28, 36))
)


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("a", "I liked The Ring (2002) and Carriers a lot"),
        ("b", "I liked The Ring and Carriers a lot"),
        ("c", "i liked the ring and carriers a lot"),
    ],
)
def test_marks_move_with_the_text(letter, text):
    (turn,) = variant(Dialogue("d", (TURN,)), letter, random.Random(0)).turns
    assert turn.text == text
    assert [turn.text[link.start : link.end].lower() for link in turn.links][1] == "carriers"


def test_typos_are_one_edit_and_only_in_titles_of_eight_letters():
    draw = random.Random(3)
    for _ in range(200):
        assert OSA.distance(with_typo("The Exorcist", draw), "The Exorcist") == 1
    assert with_typo("Jumanji", draw) == "Jumanji"
    assert without_year("2012 (2009)") == "2012"


def test_a_regression_learns_what_separates():
    rows = [[("a", 1.0), ("b", float(n % 3))] if n % 2 else [("c", 1.0), ("rare" + str(n), 1.0)] for n in range(200)]
    found = fit(rows, [bool(n % 2) for n in range(200)])
    assert set(found.weights) <= {"a", "b", "c"}
    assert probability(found.bias + found.logit(rows[1])) > 0.9
    assert probability(found.bias + found.logit(rows[0])) < 0.1
    assert probability(-5000.0) == 0.0
