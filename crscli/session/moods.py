"""Moods that people ask for or against in words that name no genre: "nothing violent", "something light", "darker".

A mood is a wish for a theme; which films have it follows from their genres and what their plots speak of (`holds`).
"""

import re
from collections.abc import Collection, Iterator

from crscli.dialogue import Turn
from crscli.wishes import Wish, is_negated, masked

_SAID: dict[str, re.Pattern[str]] = {
    "violence": re.compile(
        r"\b(?:violen(?:t|ce)|blood(?:y|shed)?|gor[ey]|brutal(?:ity)?|graphic|killings?|murders?|gun\s*fights?)\b", re.I
    ),
    "sadness": re.compile(
        r"\b(?:sad(?:der)?|depressing|heartbreaking|tragic|bleak|heavy|"
        r"tear[- ]?jerkers?|weep(?:y|ies?)|(?:makes?\s+(?:me|us)|want\s+to|good|proper|"
        r"need\s+(?:a\s+|to\s+)?)\s*cry(?:\s+my\s+eyes\s+out)?)\b",
        re.I,
    ),
    "light": re.compile(
        r"\b(?:light(?:er)?(?:[- ]?hearted)?(?!\s*year)|feel[- ]?good|uplifting|cheerful|heart-?warming|co[sz]y|"
        r"wholesome|cheer(?:ing)?\s+(?:me\s+|us\s+)?up|(?:a\s+)?good\s+laugh|easy\s+(?:to\s+watch|watch)|happy|"
        r"(?<=more )fun|(?<=something )fun|(?<=anything )fun)\b",
        re.I,
    ),
    "dark": re.compile(
        r"\b(?:dark(?:er)?(?!\s+(?:knight|tower|horse|city))|gloomy|gloomier|grim|gritty|grittier|twisted)\b", re.I
    ),
}
_CRY = re.compile(r"tear.*|weep.*|(?:want|need|good|proper).*", re.I)
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
            if not wanted or (sure and mood in ("light", "dark")) or _CRY.fullmatch(found.group()):
                yield Wish("theme", mood, wanted, True, number, *found.span())


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
