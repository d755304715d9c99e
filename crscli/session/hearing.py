"""What a seeker's message does in a dialogue: asks, accepts, refuses, points back, greets, or is about something else.

Patterns over words, with the titles that were linked masked. Knows no catalogue and makes no reply; what is wished for
is read by `wishes`, what is named by `linking`.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from crscli import genres
from crscli.dialogue import Link, Turn
from crscli.wishes import is_negated, masked

Act = Literal[
    "greet", "thank", "bye", "help", "ask", "why", "more", "accept", "refuse", "seen", "alike", "start over",
    "surprise", "abuse", "aside", "foreign", "silent", "recommend",
]  # fmt: skip
"""What a message can do; it may do several."""
Asked = Literal[
    "plot", "cast", "directors", "writers", "year", "genres", "runtime", "language", "kids", "genre", "person",
    "keywords", "opinion", "where", "else",
]  # fmt: skip
"""What is asked of an item; `genre` and `person` ask whether it is of that genre or has that person, `else` something
that no catalogue knows."""

_PATTERNS: dict[str, Any] = tomllib.loads(files(__package__).joinpath("sayings.toml").read_text(encoding="utf-8"))


def _compiled(patterns: Sequence[str]) -> re.Pattern[str]:
    whole = "|".join(f"(?:{p})" for p in patterns)
    for name in ("IT", "FILM"):
        whole = whole.replace(f"{{{name}}}", _PATTERNS["parts"][name])
    return re.compile(whole, re.I)


_ACTS: dict[Act, re.Pattern[str]] = {act: _compiled(p) for act, p in _PATTERNS["acts"].items()}
_ASKED: dict[Asked, re.Pattern[str]] = {asked: _compiled(p) for asked, p in _PATTERNS["asked"].items()}
_CUES = {name: _compiled(p) for name, p in _PATTERNS["cues"].items()}
_NO_PLACE = (
    r"(?!\w)(?!\s+(?:time|place|half|part|world|class|of\s+all|date|question|thing|(?:movie|film)\s+(?:of|in|i)))"
)
_PLACES = [(re.compile(rf"(?<![\w#])(?:{p['said']}){_NO_PLACE}", re.I), p["place"]) for p in _PATTERNS["places"]]
_NUMBERED = re.compile(
    r"^\W*(?:(?:i'?ve|i|we|already|not|no|skip|ok|nah)\W+)*(?:seen|watched|saw|not|no|skip|pass\s+on|take|gimme|tell\s+me\s+about)?\s*"
    r"((?:(?:number|no\.?|#)?\s*[1-5]\s*(?:,|&|and|\+|$)\s*)+)\W*$",
    re.I,
)
_FEW = {"two": 2, "2": 2, "couple": 2, "three": 3, "3": 3}
_FIRST_FEW = re.compile(rf"\bfirst\s+({'|'.join(_FEW)})\b", re.I)
_LANGUAGES = {code: re.compile(p, re.I) for code, p in _PATTERNS["languages"].items()}
_TELLS = re.compile(r"\W*(?:(?:yes|no|oh|well|ok(?:ay)?|but|and)\W+)*(?:i|we)\b", re.I)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_NO_BUT = re.compile(
    r"^\W*(?:no+|nope|nah|not\s+yet)\W+(?:(?:but|and|so)\s+)?(?:i|we)(?:'ll|\s+will|'m\s+going|\s+am\s+going|'d|\s+would|\s+want|\s+plan|"
    r"\s+have\s*n[o']t|'ve\s+(?:not|never)|\s+never|\s+did\s*n[o']t|\s+should)\b(?!\s+(?:like|want|rather))",
    re.I,
)
"""The answer to whether it was seen: no word against it."""
_AUXILIARY = re.compile(r"\W*(?:(?:and|but|so|oh)\W+)*(?:has|have|did|does|is|was|isn't|wasn't|hasn't)\s+", re.I)
_END_OF_TITLE = re.compile(r"(?<=@)[.!?](?=\s+[a-z])")
"""A stop that belongs to a title: "Monsters, Inc. is fun"."""
_IN_IT = re.compile(r"\b(?:is|was|are|does|did)\s+[^?]{2,60}\s+(?:in|star|play|appear)\b[^?]*\?\s*$", re.I)
_ENGLISH = re.compile(
    r"\b(?:the|i|is|a|an|of|and|to|you|it|for|with|movie|film|want|like|me|my|something|was|in|some|any|on|that|are)\b",
    re.I,
)


@dataclass(frozen=True)
class Heard:
    """What a message does.

    Args:
        acts: all that was heard.
        asked: what is asked of an item, if `ask` is among the acts.
        places: places in what was offered last that are pointed at, from 0; -1 is the last one.
        every: all of what was offered last is meant.
        it: "it" or "that" points at what was spoken of last.
        same_person: whoever was named last is meant ("with him").
        language: of a message that is not in English.
        bare: it does nothing but point: "the second one".
    """

    acts: frozenset[Act]
    asked: Asked | None = None
    places: tuple[int, ...] = ()
    every: bool = False
    it: bool = False
    same_person: bool = False
    language: str = ""
    bare: bool = False

    def __contains__(self, act: Act) -> bool:
        return act in self.acts


def hear(turn: Turn) -> Heard:
    """Read one message of a seeker, with its links."""
    text = _END_OF_TITLE.sub(" ", masked(turn).replace("’", "'"))
    if not any(c.isalnum() for c in turn.text):
        return Heard(frozenset({"silent"}))
    acts = {act for act, pattern in _ACTS.items() if pattern.search(text)}
    asked = _asked(text, turn.links)
    if "seen" in acts and not any(_tells_seen(sentence) for sentence in _SENTENCE.findall(text)):
        acts.discard("seen")
    if "alike" in acts and _CUES["likes it"].search(text) and not _CUES["kind of film"].search(text):
        acts.discard("alike")
    if "alike" in acts and (found := _ACTS["alike"].search(text)) and is_negated(text, *found.span()):
        acts.discard("alike")
    if asked is not None and not acts & {"help", "start over"}:
        acts.add("ask")
        acts -= {"more", "recommend", "why", "surprise", "accept"}
    if _NO_BUT.match(text):
        acts.discard("refuse")
    if "why" in acts:
        acts -= {"ask", "more", "recommend"}
        asked = None
    language = _language(text) if not turn.links else ""
    if language:
        acts.add("foreign")
    elif not acts - {"greet"} and _is_aside(text, turn):
        acts.add("aside")
    elif not acts - {"greet"} and _CUES["films"].search(text):
        acts.add("recommend")
    places = _places(text)
    every, one, same = (_CUES[cue].search(text) is not None for cue in ("all", "one", "same person"))
    bare = bool(places) and _CUES["bare"].search(text) is not None
    return Heard(frozenset(acts), asked, places, every, one, same, language, bare)


def _places(text: str) -> tuple[int, ...]:
    """The places of what was offered last that a text points at."""
    if numbers := _NUMBERED.search(text):
        return tuple(int(digit) - 1 for digit in re.findall(r"\d", numbers[1]))
    if several := _FIRST_FEW.search(text):
        return tuple(range(_FEW[several[1].lower()]))
    return tuple(place for pattern, place in _PLACES if pattern.search(text))


def _tells_seen(sentence: str) -> bool:
    """Whether a sentence says that something was seen, rather than that it was not, or asking whether."""
    asks = sentence.rstrip().endswith("?") and not _TELLS.match(sentence)
    return not asks and bool(_ACTS["seen"].search(sentence)) and not _CUES["not seen"].search(sentence)


def _asked(text: str, links: Sequence[Link]) -> Asked | None:
    """What a message asks of an item; the first question that is one."""
    for sentence in _SENTENCE.findall(text):
        for name, pattern in _ASKED.items():
            if pattern.search(sentence):
                return name
        named = any(link.kind == "person" for link in links) or re.search(r"\b(?:he|she)\b", sentence, re.I)
        if named and _IN_IT.search(sentence):
            return "person"
        if any(x.kind == "person" and _AUXILIARY.fullmatch(text[: x.start]) for x in links if 0 <= x.start < 20):
            return "person"
        if _CUES["whether"].search(sentence) and not _CUES["others"].search(sentence):
            if any(link.kind == "person" for link in links):
                return "person"
            if any(True for _ in genres.said(sentence)):
                return "genre"
            return "else"
    return None


def _language(text: str) -> str:
    """The language of a message, "" for English or too little to tell."""
    words = re.findall(r"[^\W\d_]+", text)
    if len(words) < 3:
        return ""
    if sum(not w.isascii() and not re.match(r"[À-ɏ]", w) for w in words) * 2 > len(words):
        return "other"
    counts = {code: len(pattern.findall(text)) for code, pattern in _LANGUAGES.items()}
    best = max(counts, key=lambda code: counts[code])
    english = len(_ENGLISH.findall(text))
    return best if counts[best] >= max(2, 0.4 * len(words)) and counts[best] > english else ""


def _is_aside(text: str, turn: Turn) -> bool:
    """Whether a message asks for something that has nothing to do with films."""
    return not turn.links and _CUES["question"].search(text) is not None and not _CUES["films"].search(text)
