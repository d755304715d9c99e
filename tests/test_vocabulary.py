import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crscli.vocabulary import Vocabulary, natural_order

quick = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def test_ids_are_numbered_in_the_order_given():
    vocabulary = Vocabulary(["b", "a", "c"])
    assert vocabulary.ids == ("b", "a", "c")
    assert [vocabulary.num(i) for i in "abc"] == [1, 0, 2]
    assert len(vocabulary) == 3
    assert "a" in vocabulary
    assert "z" not in vocabulary
    assert None not in vocabulary


def test_unknown_ids_have_no_number_and_are_left_out_of_many():
    vocabulary = Vocabulary(["b", "a"])
    with pytest.raises(KeyError):
        vocabulary.num("z")
    assert vocabulary.nums(["a", "z", "b", "a"]).tolist() == [1, 0, 1]
    assert vocabulary.nums([]).dtype == np.int64


def test_an_id_that_occurs_twice_is_refused_by_name():
    with pytest.raises(ValueError, match="id 'b' occurs twice"):
        Vocabulary(["a", "b", "c", "b"])


def test_the_digest_tells_numberings_apart():
    assert Vocabulary("ab").digest == Vocabulary(["a", "b"]).digest
    assert len({Vocabulary(ids).digest for ids in ("ab", "ba", "abc", "")}) == 4
    assert Vocabulary(["\ud800"]).digest


@pytest.mark.parametrize(
    ("ids", "want"),
    [
        (["10", "9", "100"], ["9", "10", "100"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["7", "07", "007"], ["007", "07", "7"]),
        (["10", "-9"], ["-9", "10"]),
        (["10", "９"], ["10", "９"]),
        (["10", "²"], ["10", "²"]),
        (["b", "B", "a"], ["B", "a", "b"]),
        (["10", ""], ["", "10"]),
        ([], []),
    ],
)
def test_ids_stand_as_numbers_when_all_are_numbers_else_as_text(ids, want):
    assert natural_order(ids) == want


@quick
@given(st.lists(st.text()))
def test_the_order_does_not_depend_on_the_order_given(ids):
    assert natural_order(ids) == natural_order(reversed(ids))
    assert sorted(natural_order(ids)) == sorted(ids)
