"""Marked dialogues written in other ways: without years, in other cases, with typos in the titles.

The marks move with the text. Knows nothing about linking.
"""

import random
import string
from collections.abc import Callable
from dataclasses import replace

from crscli.catalogue import split_title
from crscli.dialogue import Dialogue, Turn
from crscli.linking.statistics import marks_of

Rewrite = Callable[[str], str]

TYPO_LETTERS = 8
"""A title of fewer letters gets no typo; digits stay as they are."""


def rewritten(turn: Turn, rewrite: Rewrite, lower: bool = False) -> Turn:
    """A turn with its marked films written anew and no other links.

    A blank parts a mark from a letter that touches it.
    """
    parts: list[str] = []
    links = []
    length = at = 0
    by_place = {(x.start, x.end): x for x in turn.links if x.kind == "item" and x.start >= 0}
    for start, end, _ in marks_of(turn):
        if start < at:
            continue
        before = turn.text[at:start]
        if before[-1:].isalnum() or (not before and length):
            before += " "
        elif before.endswith("@"):
            before = before[:-1]
        title = rewrite(turn.text[start:end])
        links.append(replace(by_place[start, end], start=length + len(before), end=length + len(before) + len(title)))
        after = " " if turn.text[end : end + 1].isalnum() else ""
        parts += [before, title, after]
        length += len(before) + len(title) + len(after)
        at = end
    parts.append(turn.text[at:])
    text = "".join(parts)
    # A letter whose small form is longer would move the places.
    small = "".join(c.lower() if len(c.lower()) == 1 else c for c in text) if lower else text
    return replace(turn, text=small, links=tuple(links))


def without_year(title: str) -> str:
    """A title as written, without its year in brackets."""
    return split_title(title)[0] or title


def with_typo(title: str, draw: random.Random) -> str:
    """A title with one letter inserted, left out, replaced, or swapped with the next; a short one as it is."""
    places = [at for at, c in enumerate(title) if c.isalpha()]
    if len(places) < TYPO_LETTERS:
        return title
    for _ in range(50):
        at = draw.choice(places)
        kind = draw.randrange(4)
        letter = draw.choice(string.ascii_lowercase)
        if kind == 0:
            changed = title[:at] + letter + title[at:]
        elif kind == 1:
            changed = title[:at] + title[at + 1 :]
        elif kind == 2:
            changed = title[:at] + letter + title[at + 1 :]
        else:
            changed = title[:at] + title[at + 1 : at + 2] + title[at] + title[at + 2 :]
        if changed.lower() != title.lower():
            return changed
    return title


def in_another_case(title: str, draw: random.Random) -> str:
    """All small, only the first letter a capital, or a leading article small."""
    kind = draw.randrange(3)
    if kind == 0:
        return title.lower()
    if kind == 1:
        return title[:1].upper() + title[1:].lower()
    first, _, rest = title.partition(" ")
    return f"{first.lower()} {rest}" if rest and first.lower() in ("the", "a", "an") else title.lower()


def variant(dialogue: Dialogue, letter: str, draw: random.Random) -> Dialogue:
    """A dialogue in one of the ways a to e.

    Args:
        dialogue: its item links carry places.
        letter: a as it is, b without years, c also all small, d without years and with typos, e without years and
            three titles of ten in another case.
        draw: of typos and cases.
    """
    rewrites: dict[str, Rewrite] = {
        "a": lambda title: title,
        "b": without_year,
        "c": without_year,
        "d": lambda title: with_typo(without_year(title), draw),
        "e": lambda title: in_another_case(without_year(title), draw) if draw.random() < 0.3 else without_year(title),
    }
    rewrite, lower = rewrites[letter], letter == "c"
    return replace(dialogue, turns=tuple(rewritten(turn, rewrite, lower) for turn in dialogue.turns))
