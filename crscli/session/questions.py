"""Which question to a seeker narrows the catalogue most.

A question splits the items that are still likely; what it is worth is the entropy of its answers over them, less what
goes to those who have no opinion. Source: information gain as in 20 questions; the weights of items are the shares that
a softmax over their places in the ranking gives. Knows no wording.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crscli.session.limits import GENRES, Shelf
from crscli.wishes import Wish, WishKind

Topic = Literal["liked", "genre", "years", "length", "kids", "person"]

_ANSWERED: dict[Topic, float] = {"genre": 0.9, "years": 0.7, "length": 0.6, "kids": 0.8, "person": 0.45}
"""How many of those who are asked can answer: guesses, chosen so that a person is asked for last."""
_HALF_LIFE = 60.0
"""Places of the ranking after which an item counts half."""
_NEVER_ASKED = ("short", "music", "sport", "war", "western", "history", "biography")
_FAMOUS = 4


@dataclass(frozen=True)
class Question:
    """What is asked, and the answers that are offered: genres, a year, minutes, people."""

    topic: Topic
    options: tuple[str, ...] = ()


def best_question(shelf: Shelf, order: np.ndarray, known: Collection[Topic]) -> Question | None:
    """The question that tells most about what is wanted.

    Args:
        shelf: what holds of the items.
        order: (M,) items that are still possible, best first.
        known: topics that were spoken of, which are not asked again.

    Returns:
        None where no question would tell much.
    """
    if len(order) < 8:
        return None
    weights = 0.5 ** (np.arange(len(order)) / _HALF_LIFE)
    weights /= weights.sum()
    found: list[tuple[float, Question]] = []
    for topic, make in (
        ("genre", _of_genres), ("years", _of_years), ("length", _of_length), ("kids", _of_kids), ("person", _of_people),
    ):  # fmt: skip
        if topic not in known:
            gain, question = make(shelf, order, weights)
            found.append((gain * _ANSWERED[topic], question))  # type: ignore[index]
    best = max(found, key=lambda pair: pair[0], default=(0.0, None))
    return best[1] if best[0] > 0.2 else None


def stated_by(text: str, question: Question, turn: int) -> list[Wish]:
    """The wish that a short answer to a question states: "older", "yes, the kids too", "the first".

    Args:
        text: the answer.
        question: what was asked.
        turn: number of the answer's turn.
    """
    values: list[tuple[WishKind, str]] = []
    said = next((v for topic, p, v in _SHORT_ANSWERS if topic == question.topic and p.search(text)), None)
    if said is not None:
        first = int(question.options[0]) if question.options else 0
        values = [(_KINDS[question.topic], said.format(first=first, before=first - 1))]
    elif question.topic == "genre" and len(text.split()) <= _CHOOSES:
        places = [num for num, pattern in enumerate(_PLACES) if pattern.search(text)]
        values = [("genre", question.options[num]) for num in places if num < len(question.options)]
    return [Wish(kind, value, True, True, turn, 0, 0) for kind, value in values]


_KINDS: dict[Topic, WishKind] = {"kids": "audience", "years": "years", "length": "length"}
_SHORT_ANSWERS: tuple[tuple[Topic, re.Pattern[str], str], ...] = (
    (
        "kids",
        re.compile(r"^\W*(?:yes|yeah|yep|yup|sure|definitely|of course)\b|\b(?:kids?|children|family)\b", re.I),
        "kids",
    ),
    ("years", re.compile(r"\b(?:new|newer|recent|after|modern)\b", re.I), "{first}-"),
    ("years", re.compile(r"\b(?:older?|before|earlier|classics?)\b", re.I), "-{before}"),
    ("length", re.compile(r"\b(?:short\w*|under|less|quick|not\s+long)\b", re.I), "-{first}"),
)
_CHOOSES = 6
"""Words of an answer that chooses by place; longer ones speak of other things: "both films are on my list now"."""
_PLACES = (re.compile(r"\b(?:first|former|both)\b", re.I), re.compile(r"\b(?:second|latter|last|both)\b", re.I))


def _entropy(shares: Sequence[float]) -> float:
    kept = np.array([s for s in shares if s > 0])
    return float(-(kept * np.log2(kept)).sum())


def _of_genres(shelf: Shelf, order: np.ndarray, weights: np.ndarray) -> tuple[float, Question]:
    """The two genres that split best into one, the other, both and neither."""
    names = [n for n, g in enumerate(GENRES) if g not in _NEVER_ASKED]
    table = shelf.genres[order][:, names]
    best: tuple[float, Question] = (0.0, Question("genre"))
    mass = weights @ table
    tops = np.argsort(-mass)[:8]
    for x, one in enumerate(tops):
        for other in tops[x + 1 :]:
            a, b = table[:, one], table[:, other]
            shares = [float(weights[m].sum()) for m in (a & ~b, ~a & b, a & b, ~a & ~b)]
            # Genres that go together make a poor choice between them.
            gain = _entropy(shares) * (1 - shares[2])
            if gain > best[0]:
                best = gain, Question("genre", (GENRES[names[one]], GENRES[names[other]]))
    return best


def _of_years(shelf: Shelf, order: np.ndarray, weights: np.ndarray) -> tuple[float, Question]:
    """Before or after the turn of the decade that is nearest to the middle."""
    years = shelf.years[order]
    dated = years > 0
    if dated.sum() < 8:
        return 0.0, Question("years")
    total = float(weights[dated].sum())
    decades = [int(y) for y in range(1950, shelf.last_year, 10)]
    older = {y: float(weights[dated & (years < y)].sum()) / total for y in decades}
    year = min(older, key=lambda y: abs(older[y] - 0.5), default=2000)
    share = older.get(year, 0.0)
    return _entropy([share, 1 - share]) * total, Question("years", (str(year),))


def _of_length(shelf: Shelf, order: np.ndarray, weights: np.ndarray) -> tuple[float, Question]:
    runtimes = shelf.runtimes[order]
    told = runtimes > 0
    total = float(weights[told].sum())
    if total < 0.5:
        return 0.0, Question("length")
    share = float(weights[told & (runtimes <= 120)].sum()) / total
    return _entropy([share, 1 - share]) * total, Question("length", ("120",))


def _of_kids(shelf: Shelf, order: np.ndarray, weights: np.ndarray) -> tuple[float, Question]:
    family = shelf.genres[order, GENRES.index("family")] | shelf.genres[order, GENRES.index("animation")]
    share = float(weights[family].sum())
    return _entropy([share, 1 - share]), Question("kids")


def _of_people(shelf: Shelf, order: np.ndarray, weights: np.ndarray) -> tuple[float, Question]:
    """Two of the people who are in most of the likely films."""
    counts: dict[str, float] = {}
    films: dict[str, int] = {}
    for num, weight in zip(order[:400].tolist(), weights, strict=False):
        item = shelf.catalogue[num]
        for name in (*item.cast[:3], *item.directors[:1]):
            counts[name] = counts.get(name, 0.0) + float(weight)
            films[name] = films.get(name, 0) + 1
    famous = sorted((n for n in counts if films[n] >= _FAMOUS), key=lambda n: -counts[n])[:2]
    if len(famous) < 2:
        return 0.0, Question("person")
    shares = [counts[n] for n in famous]
    return _entropy([*shares, max(0.0, 1 - sum(shares))]), Question("person", tuple(famous))
