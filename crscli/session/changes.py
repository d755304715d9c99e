"""What a message takes back of what was wished for, what it puts in the place of it, and what it adds with "or".

Knows wishes and wording; no films.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from crscli.dialogue import Turn
from crscli.languages import FOREIGN, SAID, code_of
from crscli.names import key, singular
from crscli.session.limits import Limit
from crscli.session.moods import MOODS
from crscli.wishes import Wish, WishKind, WishReader

Key = tuple[str, str]
"""Kind and value of a wish; no value stands for all of the kind."""

_KINDS: dict[str, WishKind] = {
    "decade": "years", "year": "years", "era": "years", "period": "years", "age": "years", "genre": "genre",
    "kind": "genre", "type": "genre", "language": "language", "length": "length", "duration": "length",
    "running time": "length", "runtime": "length", "how long": "length", "how old": "years", "actor": "person",
    "actress": "person", "cast": "person", "director": "person", "star": "person", "theme": "theme", "topic": "theme",
    "time limit": "length", "limit": "length", "setting": "theme",
    "leading man": "person", "leading lady": "person", "lead": "person", "running times": "length",
}  # fmt: skip
_KIND, _OTHER = (rf"(?P<{name}>{'|'.join(_KINDS)})s?\b" for name in ("kind", "other"))
_ANY = re.compile(
    rf"\b(?:any|whichever|whatever|every)\s+(?:other\s+)?{_KIND}\W*(?:$|[.,!]|(?:is|are|would|will|works?|goes|at|really|fine|ok|okay|good|do)\b)",
    re.I,
)
_NO_MATTER = re.compile(
    rf"\b{_KIND}[^.?!]{{0,20}}?(?:(?:n['’]?t|not)\s+(?:really\s+)?(?:matter|(?:that\s+|so\s+|really\s+|too\s+)?important)|bother|irrelevant|up\s+to\s+you)|"
    rf"\b(?:(?:n['’]?t|not)\s+(?:care|mind|fussed|bothered|worried)|no\s+(?:matter|preference)|regardless|never\s*mind|forget|ignore|drop|screw|sod|stuff|bin|who\s+cares|bothers?\s+me)"
    rf"\s+(?:about\s+|of\s+|on\s+|for\s+)?(?:the\s+|which\s+|what\s+)?{_OTHER}",
    re.I,
)
_REST = r"([^.!?;,]{2,60})"
_FORGET = re.compile(
    rf"\b(?:forget|never\s*mind|drop|scrap|scratch|strike|skip|ditch|bin|ignore|lose|remove|lift|cancel|undo|take\s+(?:back|off|away)"
    rf"|no\s+longer\s+(?:need|want)|(?:n['’]?t|not)\s+need|enough\s+of|gone\s+off)\s+(?:about\s+)?{_REST}|"
    rf"(?:n['’]?t|not)\s+(?:really\s+|necessarily\s+)?(?:have|need|has)\s+to\s+(?:be|have|star|feature|include)\s+{_REST}|"
    rf"\b(?:need\s*n['’]?t\s+be|not\s+necessarily|no\s+need\s+for(?:\s+it\s+to\s+be)?|need\s+not\s+be)\s+{_REST}",
    re.I,
)
_SWAP = re.compile(
    r"\b(?:swap|trade|switch|replace|exchange)\s+(?:out\s+)?(?:the\s+)?([^.!?;,]{2,40}?)\s+(?:for|with)\b", re.I
)
_FORGET_BOTH = re.compile(
    r"\b(?:forget|drop|scrap|ditch|scratch|lose)\s+(?:about\s+)?(?:both|(?:all|any)\s+(?:of\s+)?(?:that|those|these|them)|those|these|them)\b",
    re.I,
)
_FORGET_IT = re.compile(r"\b(?:forget|scrap|scratch)\s+(?:it|that)\b", re.I)
_FINE = re.compile(
    r"([^.!?;,]{2,40}?)\s+(?:is|are|would\s+be|works?|'s)\s+(?:also\s+|actually\s+)?(?:fine|ok|okay|good|allowed|alright|welcome)\b(?P<too>\s+(?:too|as\s+well|also))?",
    re.I,
)
_REPLACES = re.compile(
    r"\b(?:instead|actually|on\s+second\s+thoughts?|changed?\s+my\s+mind|make\s+(?:it|that|this)|switch\s+to|scratch\s+that|rather|"
    r"i\s+mean(?:t)?\b|typo|autocorrect|in\s+(?:his|her|its|their)\s+(?:stead|place)|let['’]?s\s+(?:do|try|have|go\s+(?:for|with)|make)|then(?=\W*(?:$|[,.])))\b",
    re.I,
)
_ONLY = re.compile(r"\b(?:just|only|simply)\s+(?:an?\s+|some\s+|pure\s+)?$", re.I)
_ADDS = re.compile(r"\b(?:too|also|as\s+well|still|and\s+also|even)\b", re.I)
_OR = re.compile(r"^\W*(?:(?:hm+|ok(?:ay)?|well|maybe)\W+)*or\b", re.I)
_REPLACED: frozenset[WishKind] = frozenset({"genre", "person", "studio", "theme"})


def taken_back(text: str, held: Sequence[Wish], reader: WishReader) -> tuple[set[Key], list[tuple[int, int]]]:
    """The wishes that are given up, and where the text says so: what it names there is not asked for.

    Args:
        text: of the message.
        held: what was asked for and refused so far.
        reader: of wishes.
    """
    back: set[Key] = {(_KINDS[singular(kind.lower())], "") for kind in _kinds(text)}
    places = []
    for found in _FORGET.finditer(text):
        group = next(n for n in (1, 2, 3) if found[n] is not None)
        places.append(found.span(group))
        back |= {(w.kind, w.value) for w in _named(found[group], held, reader)}
    for found in _SWAP.finditer(text):
        places.append(found.span(1))
        back |= {(w.kind, w.value) for w in _named(found[1], held, reader)}
    if _FORGET_BOTH.search(text):
        back |= {(w.kind, w.value) for w in held if w.wanted and w.kind in _REPLACED}
    if _FORGET_IT.search(text):
        back |= {(w.kind, w.value) for w in held if w.wanted and w.kind not in ("audience", "language")}
    for found in _FINE.finditer(text):
        named = [w for w in _named(found[1], held, reader) if not w.wanted]
        back |= {(w.kind, w.value) for w in named}
        if found["too"] and any(w.value == FOREIGN and w.wanted for w in held) and "english" in found[1].lower():
            back.add(("language", FOREIGN))
            places.append(found.span(1))
    return back, places


def replaced(text: str, held: Sequence[Wish], new: Sequence[Wish]) -> set[Key]:
    """The wishes that new ones of their kind take the place of: "actually, make that a comedy", "just horror"."""
    told = [w for w in new if w.wanted and w.asked and w.value not in MOODS]
    if _ADDS.search(text) or _OR.match(text):
        return set()
    if not _REPLACES.search(text):
        told = [w for w in told if _ONLY.search(text[max(0, w.start - 20) : w.start])]
    kinds = {w.kind for w in told} & _REPLACED
    kept = {(w.kind, w.value) for w in new}
    return {
        (w.kind, w.value)
        for w in held
        if w.wanted and w.kind in kinds and w.value not in MOODS and (w.kind, w.value) not in kept
    }


def chosen(limits: Iterable[Limit], new: Sequence[Wish]) -> set[Key]:
    """What falls away of alternatives when one of them is named again: "ok, the musical" after "either or"."""
    told = {(w.kind, w.value) for w in new if w.wanted and w.asked}
    return {
        (w.kind, w.value)
        for limit in limits
        if limit.wanted and limit.kind != "years" and told & {(w.kind, w.value) for w in limit.wishes}
        for w in limit.wishes
        if (w.kind, w.value) not in told
    }


def joined(text: str, number: int, held: Sequence[Wish], new: Sequence[Wish]) -> list[Wish]:
    """The newest wishes of the kinds that a message goes on with after "or", said again with it: "or japanese"."""
    if not _OR.match(text):
        return []
    kinds = {w.kind for w in new if w.wanted and w.asked} & (_REPLACED | {"language", "years"})
    last = {kind: max((w.turn for w in held if w.kind == kind and w.wanted), default=-1) for kind in kinds}
    return [replace(w, turn=number, start=0, end=0) for w in held if w.wanted and last.get(w.kind) == w.turn]


def _kinds(text: str) -> Iterator[str]:
    for found in _ANY.finditer(text):
        yield found["kind"]
    for found in _NO_MATTER.finditer(text):
        yield found["kind"] or found["other"]


def _named(phrase: str, held: Iterable[Wish], reader: WishReader) -> list[Wish]:
    """The held wishes that a phrase names."""
    read = {(w.kind, w.value) for w in reader.of_turn(Turn("seeker", phrase))}
    read |= {("language", code_of(found.group())) for found in SAID.finditer(phrase)}
    words = {singular(word) for word in key(phrase).split()}
    named = []
    for wish in held:
        own = [singular(word) for word in key(wish.value).split()]
        told = own[-1:] if wish.kind == "person" else own
        by_words = wish.kind in ("person", "theme", "genre") and bool(told) and words.issuperset(told)
        if (wish.kind, wish.value) in read or by_words:
            named.append(wish)
    return named
