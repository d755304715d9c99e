"""The realiser: a recommendation in words, for models without language. Knows items and reasons, no model.

Which wording is taken follows from the dialogue itself, so that the same dialogue always reads the same; within a
dialogue the wordings are taken in turn, so that two replies in a row do not read alike.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context
from crscli.recommender import Reason

T = TypeVar("T")

_OFFERS = (
    "How about {item}?",
    "You might enjoy {item}.",
    "I would go for {item}.",
    "{item} could be the one.",
    "Have you seen {item}?",
    "My pick for you is {item}.",
)
_BY_MENTION = (
    "People who talk about {evidence} often bring it up.",
    "It comes up a lot next to {evidence}.",
    "I thought of it because of {evidence}.",
)
_BY_WORD = (
    'You said "{evidence}", and that is when it gets recommended.',
    'It fits what you said about "{evidence}".',
    'Hearing "{evidence}" made me think of it.',
)
_BY_REQUEST = (
    "You asked for {evidence}.",
    "You wanted {evidence}, and it fits.",
    "It should suit you if you are after {evidence}.",
)
_BY_NAME = (
    "You brought up {evidence}.",
    "I thought of it when you said {evidence}.",
    "{evidence} made me think of it.",
)
_BY_METADATA = (
    "It has {evidence} in common with what we spoke of.",
    "Like what you named, it has to do with {evidence}.",
    "What links it to the others is {evidence}.",
)
_BY_DIALOGUES = (
    "Others who asked for much the same were happy with it.",
    "It went down well in conversations like this one.",
)
_BY_POPULARITY = ("It is a favourite of many.", "A lot of people get it recommended.")
_BY_REPEAT = ("You brought it up yourself, and it still looks right.", "We spoke of it before; it still fits.")
_ABOUT = ("{genres}{by}.", "In short: {genres}{by}.")
_NOTHING = "I have nothing left to offer that we have not spoken about."


def realise(catalogue: Catalogue, context: Context, items: Sequence[Item], reasons: Sequence[Sequence[Reason]]) -> str:
    """A reply that offers the items and gives the first one's strongest reason.

    Args:
        catalogue: names the items that reasons point to.
        context: the dialogue so far; it decides the wording.
        items: best first; may be empty.
        reasons: of each item, the strongest first.
    """
    if not items:
        return _NOTHING
    opening = context.turns[0].text if context.turns else ""
    seed = hashlib.sha256(opening.encode("utf-8", "replace")).digest()
    before = sum(turn.role == "recommender" for turn in context.turns)
    parts = [_pick(_OFFERS, seed[0] + before).format(item=items[0].name)]
    if reasons and reasons[0]:
        parts.append(_because(catalogue, reasons[0][0], seed[1] + before))
    if about := _about(items[0], seed[2] + before):
        parts.append(about)
    if len(items) > 1:
        others = [item.name for item in items[1:]]
        parts.append(f"Or, if that is not it: {_listed(others)}.")
    return " ".join(parts)


def _because(catalogue: Catalogue, reason: Reason, seed: int) -> str:
    wordings: Mapping[str, Sequence[str]] = {
        "mention": _BY_MENTION,
        "word": _BY_WORD,
        "request": _BY_REQUEST,
        "name": _BY_NAME,
        "metadata": _BY_METADATA,
        "dialogues": _BY_DIALOGUES,
        "popularity": _BY_POPULARITY,
        "repeat": _BY_REPEAT,
    }
    evidence = reason.evidence
    if reason.kind == "mention" and evidence in catalogue:
        evidence = catalogue.item(evidence).name
    return _pick(wordings[reason.kind], seed).format(evidence=evidence)


def _about(item: Item, seed: int) -> str:
    """Genres and director where the catalogue has them."""
    named = [genre for genre in item.genres if genre][:2]
    if not named:
        return ""
    genres = _listed(named)
    by = f", directed by {_listed(list(item.directors[:2]))}" if item.directors else ""
    about = _pick(_ABOUT, seed).format(genres=genres, by=by)
    return about[0].upper() + about[1:]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _pick(wordings: Sequence[T], seed: int) -> T:
    return wordings[seed % len(wordings)]
