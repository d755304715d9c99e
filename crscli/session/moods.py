"""Moods that people ask for or against in words that name no genre: "nothing violent", "something light", "darker".

A mood is a wish for a theme; which films have it follows from their genres and what their plots speak of (`holds`).
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from crscli.catalogue import Catalogue
from crscli.dialogue import Turn
from crscli.genres import said
from crscli.names import singular
from crscli.wishes import Wish, is_negated, masked

_SAID: dict[str, re.Pattern[str]] = {
    "violence": re.compile(
        r"\b(?:violen(?:t|ce)|blood(?:y|shed)?|gor[ey]|brutal(?:ity)?|graphic|killings?|murders?|gun\s*fights?)\b", re.I
    ),
    "sadness": re.compile(
        r"\b(?:sad(?:der)?|depressing|heartbreaking|tragic|tear[- ]?jerkers?|bleak|heavy|makes?\s+me\s+cry)\b", re.I
    ),
    "light": re.compile(
        r"\b(?:light(?:er)?(?:[- ]?hearted)?(?!\s*year)|feel[- ]?good|uplifting|cheerful|heart-?warming|co[sz]y|"
        r"wholesome|cheer(?:ing)?\s+(?:me\s+|us\s+)?up|(?:a\s+)?good\s+laugh|easy\s+(?:to\s+watch|watch)|happy)\b",
        re.I,
    ),
    "dark": re.compile(
        r"\b(?:dark(?:er)?(?!\s+(?:knight|tower|horse|city))|gloomy|gloomier|grim|gritty|grittier|twisted)\b", re.I
    ),
}
_CLEAR = re.compile(r"feel[- ]?good|uplifting|heart-?warming|wholesome|light[- ]?hearted|gritty|cheer.*", re.I)
_PLACED = re.compile(
    r"\b(?:something|anything|more|bit|little|too|really|very|so|movie|film|one|stuff|but|nothing|not|no|and|a|want|like"
    r"|need|mood\s+for|please|less)\b",
    re.I,
)
_BLOOD = frozenset(
    {"murder", "murderer", "killer", "killing", "kill", "serial", "blood", "gang", "mafia", "massacre", "assassin",
     "torture", "rape", "violence", "violent", "slaughter", "revenge"}
)  # fmt: skip
_ABOUT = re.compile(
    r"\b(?:(?<!how )(?<!what )about|involving|featuring|(?:takes?\s+place|set|is|are)\s+(?:in|on)|deal(?:s|ing)?\s+with"
    r"|with|to\s+do\s+with)\s+"
    r"(?:(?:an?|the|some|lots\s+of|a\s+lot\s+of|real|any)\s+)?([a-z][a-z'-]+(?:\s+[a-z][a-z'-]+)?)",
    re.I,
)
_NO_THEME = (
    "a an and the both last hour night day time people person year years lot bit end idea problem thanks way "
    "need worries more preference preferences one from by into over under than then also just like from that "
    "this it its them him her me you my your his our more less some any one ones movie movies film films "
    "something anything things thing stuff kind kinds plot story wife husband girlfriend boyfriend friend "
    "friends kids children family parents grandparents son daughter mom dad mum date two hours minutes please "
    "tonight today evening good great nice old new same actor actress director subtitles what which who how "
    "why is are was be been to of for in on at but or not no nothing "
)
"""Words that no film is asked to be about."""
_NONE = re.compile(r"\bno\s+(?:more\s+)?([a-z]{4,}s)\b", re.I)
_KIND_OF = re.compile(
    r"\b([a-z][a-z-]{2,})\s+(?:movies?|films?|flicks?|thrillers?|comed(?:y|ies)|dramas?|stor(?:y|ies))\b|^\W*([a-z]{4,})\W*$",
    re.I,
)
_MOST_ABOUT = 0.08
_LIGHT_GENRES = {"comedy", "family", "musical", "animation"}
_DARK_GENRES = {"thriller", "crime", "horror", "mystery"}


def moods(turn: Turn, number: int) -> Iterator[Wish]:
    """The moods that a seeker's turn asks for or refuses; a word alone ("sad!") is none.

    Args:
        turn: the message, with its links.
        number: of the turn in the dialogue.
    """
    text = masked(turn)
    for mood, pattern in _SAID.items():
        for found in pattern.finditer(text):
            wanted = not is_negated(text, *found.span())
            placed = _PLACED.search(text[max(0, found.start() - 40) : found.start()])
            # Violence and sadness are spoken of more often than wished for: they count where they are refused.
            sure = placed or _CLEAR.fullmatch(found.group())
            if not wanted or (sure and mood in ("light", "dark")):
                yield Wish("theme", mood, wanted, True, number, *found.span())


def themes(turn: Turn, number: int, shelf: "Knows") -> Iterator[Wish]:
    """What films shall be about, where plots or keywords of some, but of no great part of all, have the words.

    Args:
        turn: the message, with its links.
        number: of the turn in the dialogue.
        shelf: tells which items are about some words.
    """
    text = masked(turn)
    for found in _NONE.finditer(text):
        word = found.group(1).lower()
        if word not in _NO_THEME.split() and not any(said(word)) and len(shelf.about([word])) > 0:
            yield Wish("theme", word, False, True, number, found.start(1), found.end(1))
    for found in _KIND_OF.finditer(text):
        word = (found.group(1) or found.group(2)).lower()
        if singular(word) in shelf.keywords and not any(said(word)) and word not in _NO_THEME.split():
            wanted = not is_negated(text, found.start(), found.end())
            yield Wish("theme", word, wanted, True, number, *found.span())
    people = [x for x in turn.links if x.kind == "person" and x.start >= 0]
    for found in _ABOUT.finditer(text):
        start, end = found.span(1)
        words = [w for w in found.group(1).lower().split() if w not in _NO_THEME.split()]
        if not words or any(x.start < end and start < x.end for x in people) or any(said(found.group(1))):
            continue
        for chosen in (found.group(1).lower().split(), words, words[:1], words[-1:]):
            count = len(shelf.about(chosen))
            if count and count <= max(3, _MOST_ABOUT * len(shelf.catalogue)):
                yield Wish(
                    "theme", " ".join(chosen), not is_negated(text, found.start(), end), True, number, start, end
                )
                break


def holds(mood: str, genres: Collection[str], words: Collection[str]) -> bool:
    """Whether a film of these genres, whose plot and keywords have these words, is in a mood."""
    own = set(genres)
    violent = bool(own & {"war", "horror", "crime"}) or (bool(own & {"action", "thriller"}) and "family" not in own)
    violent = violent or bool(_BLOOD & set(words))
    if mood == "violence":
        return violent
    if mood == "sadness":
        return "drama" in own and not own & _LIGHT_GENRES
    if mood == "light":
        return bool(own & _LIGHT_GENRES) and not violent
    return bool(own & _DARK_GENRES)


MOODS = frozenset(_SAID)
"""Themes that are moods."""


class Knows(Protocol):
    """What tells which items are about some words: the shelf of `limits`."""

    catalogue: Catalogue
    keywords: frozenset[str]

    def about(self, words: Sequence[str]) -> list[int]:
        """Item numbers."""
        ...
