import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crscli.catalogue import Item
from crscli.datasets.corpus import (
    check_splits_apart,
    clean,
    cut_valid,
    distinct,
    in_time_order,
    items_from_names,
    with_marks_in_text,
)
from crscli.dialogue import Dialogue, Link, Turn
from crscli.errors import DataError

quick = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def dialogue(num, order=None, text="hi"):
    return Dialogue(f"d{num}", (Turn("seeker", text),), order=order)


def ids(dialogues):
    return [d.dialogue_id for d in dialogues]


def timed(count):
    """Dialogues whose order is the reverse of their place."""
    return [dialogue(n, order=count - n) for n in range(count)]


@pytest.mark.parametrize(
    ("total", "share", "count"),
    [(100, 0.12, 12), (100, 0.07, 7), (101, 0.12, 13), (4755, 0.12, 571), (8, 0.12, 1), (2, 0.9, 1), (1, 0.12, 0)],
)
def test_the_latest_share_rounded_up_is_cut_off_but_train_keeps_one(total, share, count):
    train, valid = cut_valid(timed(total), share=share)
    assert (len(train), len(valid)) == (total - count, count)
    assert ids(train + valid) == ids(reversed(timed(total)))
    assert all(a.order < b.order for a in train for b in valid)


def test_equal_order_is_settled_by_the_id():
    same = [dialogue(n, order=1) for n in (3, 1, 2)]
    assert ids(cut_valid(same, share=0.3)[1]) == ["d3"]


def test_a_share_of_nothing_cuts_nothing():
    train, valid = cut_valid(timed(10), share=0.0)
    assert (ids(train), valid) == (ids(reversed(timed(10))), [])
    assert cut_valid([], share=0.5) == ([], [])
    assert ids(cut_valid([dialogue(1)], rule="random", share=0.0)[0]) == ["d1"]


def test_a_random_cut_is_settled_by_its_seed_and_keeps_the_order():
    given_ones = timed(50)
    train, valid = cut_valid(given_ones, rule="random", share=0.2, seed=3)
    assert (len(train), len(valid)) == (40, 10)
    assert sorted(ids(train + valid)) == sorted(ids(given_ones))
    assert ids(train) == [i for i in ids(given_ones) if i in set(ids(train))]
    assert (train, valid) == cut_valid(given_ones, rule="random", share=0.2, seed=3)
    assert valid != cut_valid(given_ones, rule="random", share=0.2, seed=4)[1]


def test_without_an_order_everywhere_the_latest_is_random():
    mixed = [dialogue(n, order=n if n else None) for n in range(20)]
    assert cut_valid(mixed, rule="latest", seed=5) == cut_valid(mixed, rule="random", seed=5)


def test_time_order_needs_an_order_everywhere():
    assert ids(in_time_order([dialogue(1, 5), dialogue(2, 0), dialogue(3, 2)])) == ["d2", "d3", "d1"]
    assert ids(in_time_order([dialogue(1, 5), dialogue(2), dialogue(3, 2)])) == ["d1", "d2", "d3"]


def test_equal_duplicates_are_dropped_with_a_note():
    notes = []
    assert ids(distinct([dialogue(1), dialogue(2), dialogue(1), dialogue(1)], notes, "train")) == ["d1", "d2"]
    assert notes == ["train: 2 dialogues stood there twice and were read once"]
    notes.clear()
    assert ids(distinct([dialogue(1), dialogue(2)], notes, "train")) == ["d1", "d2"]
    assert notes == []


@pytest.mark.parametrize("other", [dialogue(1, text="no"), dialogue(1, order=1), Dialogue("d1", ())])
def test_different_dialogues_of_one_id_are_refused(other):
    with pytest.raises(DataError, match="valid: dialogue id 'd1' stands for two different dialogues") as caught:
        distinct([dialogue(1), other], [], "valid")
    assert caught.value.hint == "give every dialogue an id of its own"


def test_overlapping_splits_are_refused():
    check_splits_apart({"train": [dialogue(1)], "valid": [], "test": [dialogue(2)]})
    with pytest.raises(DataError, match="dialogue 'd2' is in train and in test"):
        check_splits_apart({"train": [dialogue(1), dialogue(2)], "test": [dialogue(2)]})


@quick
@given(st.text(st.characters(exclude_categories=())))
def test_a_cleaned_text_can_be_stored_and_keeps_its_length(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert len(cleaned) == len(text)
    assert cleaned == re.sub("[\ud800-\udfff]", "\ufffd", text)


def test_marks_take_the_first_free_place_and_leave_other_links_alone():
    turn = Turn(
        "seeker",
        "It, it and Drama",
        (Link("genre", "it"), Link("item", "a", 0, 2), Link("item", "a"), Link("item", "a"), Link("item", "b")),
    )
    found = with_marks_in_text(turn, {"a": ("", "It (2017)", "It")}).links
    assert [(x.kind, x.start, x.end) for x in found] == [
        ("genre", -1, -1),
        ("item", 0, 2),
        ("item", 4, 6),
        ("item", -1, -1),
        ("item", -1, -1),
    ]


@pytest.mark.parametrize(
    ("name", "text"), [("What?", "see What? now"), ("(500)", "the (500)!"), ("M*A*S*H", "m*a*s*h")]
)
def test_names_with_signs_are_found_as_they_are(name, text):
    turn = with_marks_in_text(Turn("seeker", text, (Link("item", "a"),)), {"a": (name,)})
    assert text[turn.links[0].start : turn.links[0].end].lower() == name.lower()


def test_items_of_names_are_distinct_and_in_natural_order():
    assert [i.item_id for i in items_from_names(["10", "9", "10"], lambda n: Item(n, n))] == ["9", "10"]
    assert [i.item_id for i in items_from_names(["10", "9", "a"], lambda n: Item(n, n))] == ["10", "9", "a"]
