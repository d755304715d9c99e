import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.session.limits import Shelf
from crscli.session.questions import Question, best_question, stated_by

YEARS, GENRES = Question("years", ("2000",)), Question("genre", ("comedy", "drama"))


@pytest.mark.parametrize(
    ("question", "answer", "stated"),
    [
        (YEARS, "older", ["years -1999"]),
        (YEARS, "something newer please", ["years 2000-"]),
        (YEARS, "no idea", []),
        (Question("length", ("120",)), "short", ["length -120"]),
        (Question("length", ("120",)), "long is fine", []),
        (Question("kids"), "yes", ["audience kids"]),
        (Question("kids"), "no, just me", []),
        (GENRES, "the first", ["genre comedy"]),
        (GENRES, "the latter", ["genre drama"]),
        (GENRES, "both", ["genre comedy", "genre drama"]),
        (GENRES, "yes", []),
        (Question("person", ("A B", "C D")), "nobody", []),
        (Question("liked"), "yes", []),
    ],
)
def test_short_answers(question, answer, stated):
    assert [f"{w.kind} {w.value}" for w in stated_by(answer, question, 3)] == stated
    assert all(w.turn == 3 and w.wanted and w.asked for w in stated_by(answer, question, 3))


def test_what_splits_best_is_asked_and_nothing_twice():
    films = Catalogue(
        Item(str(n), f"F{n}", 1980 if n % 2 else 2010, ("Comedy",) if n % 4 < 2 else ("Drama",), runtime=100)
        for n in range(40)
    )
    shelf, order = Shelf(films), np.arange(40)
    first = best_question(shelf, order, set())
    assert first.topic == "genre"
    assert set(first.options) == {"comedy", "drama"}
    second = best_question(shelf, order, {"genre"})
    assert (second.topic, len(second.options)) == ("years", 1)
    assert best_question(shelf, order, {"genre", "years"}) is None
    assert best_question(shelf, order[:5], set()) is None
