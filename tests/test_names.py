from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crscli.names import NameIndex, Token, key, normalised, tokens


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("Amélie’s", "amelies"), ("&", "and"), ("O'Hara", "ohara"), ("STRASSE", "strasse"), ("Straße", "strasse")],
)
def test_words_are_normalised(word, wanted):
    assert normalised(word) == wanted


def test_tokens_keep_their_places():
    text = "Léon: The Professional, don't!"
    assert [(t.word, text[t.start : t.end]) for t in tokens(text)] == [
        ("leon", "Léon"),
        ("the", "The"),
        ("professional", "Professional"),
        ("dont", "don't"),
    ]


def test_entities_read_as_what_they_stand_for_at_their_own_place():
    text = "Law &amp; Order &#39;90 rock&#39;n&#39;roll"
    assert [(t.word, text[t.start : t.end]) for t in tokens(text)] == [
        ("law", "Law"),
        ("and", "&amp;"),
        ("order", "Order"),
        ("90", "90"),
        ("rocknroll", "rock&#39;n&#39;roll"),
    ]


@pytest.mark.parametrize(
    "name", ["Spider-Man: Homecoming", "spider man homecoming", "SPIDER-MAN   (Homecoming)", "Spider_Man Homecoming"]
)
def test_one_key_for_all_ways_of_writing(name):
    assert key(name) == "spider man homecoming"


@pytest.mark.parametrize("name", ["", "...", "(  )"])
def test_a_name_without_words_has_an_empty_key(name):
    assert key(name) == ""


def test_the_index_finds_every_name_also_inside_and_across_others():
    names = ["star wars", "star", "wars episode", "", "star wars", "new hope"]
    index = NameIndex(names)
    words = ["a", "star", "wars", "episode"]
    assert list(index.find(words)) == [(1, 2, 1), (1, 3, 0), (2, 4, 2)]
    assert len(index) == 4
    assert (index.get("new hope"), index.get("hope"), "star" in index, "" in index) == (5, None, True, False)


def test_a_name_that_the_text_cuts_short_is_not_found():
    assert list(NameIndex(["star wars"]).find(["star"])) == []


@given(st.text(max_size=80))
def test_tokens_stand_in_order_inside_the_text(text):
    found = tokens(text)
    assert all(isinstance(token, Token) and 0 <= token.start < token.end <= len(text) for token in found)
    assert all(left.end <= right.start for left, right in pairwise(found))


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=12), st.data())
def test_the_index_equals_a_slow_search(words, data):
    spans = st.tuples(st.integers(0, len(words) - 1), st.integers(1, 4))
    names = [" ".join(words[first : first + size]) for first, size in data.draw(st.lists(spans, max_size=5))]
    wanted = {
        (first, stop, names.index(name))
        for first in range(len(words))
        for stop in range(first + 1, len(words) + 1)
        if (name := " ".join(words[first:stop])) in names
    }
    assert set(NameIndex(names).find(words)) == wanted
