"""Which films and people a message points at: named, refused by title, "the second one", "him"."""

import re
from collections.abc import Sequence
from dataclasses import replace

from crscli.dialogue import Link, Turn
from crscli.names import key, singular
from crscli.session.hearing import Heard, hear
from crscli.session.memory import Memory
from crscli.wishes import is_negated, masked

_ASKS_ON = re.compile(r"^\W*(?:and|or|what\s+about|how\s+about)\s+[^?]{2,60}\?\s*$", re.I)
_NO_TITLE = frozenset({"it", "her", "them", "this", "that", "up", "us"})
"""Titles that a message says without meaning a film."""
_BEFORE = 80
_LIKENESS = re.compile(r"\b(?:(?:films?|movies?|anything|nothing|things?|stuff|ones?)\s+like|similar\s+to)\s+$", re.I)
_REFUSED_TITLE = re.compile(r"\b(?:no|not|except|besides|without)\s+([^.!?;,]{3,60})", re.I)
ONE_WITH = re.compile(
    r"\b(?:the|that)\s+(?:one|film|movie)\s+(?:with|by|starring|from|directed|featuring|has|about|where|in\s+which|set)\b(?P<rest>[^.!?;,]*)|"
    r"\b(?:the|that)\s+(?!first|second|third|last|other|next|same|only|new|old|one|right|wrong)(?P<kind>\w{4,})\s+one\b",
    re.I,
)
"""One of what was offered, told by who is in it or what it is about; `rest` is what tells it."""
_SEEN_ELSE = re.compile(
    r"\b(?:seen|watched|saw)\s+(?!(?:already|before|too|either|most|some|one|ones|and|but|twice|once|recently|lots?|plenty|a|the|your|"
    r"any|every\w*|of|as|last|in|at|on|with|many|loads|tons|i|we|when|lately|yesterday|years?|ages?|ten|several|a)\b)[a-z]\w+",
    re.I,
)


def with_refused(memory: Memory, turn: Turn) -> Turn:
    """The turn with links to films that are refused by title where the linker saw none: "but no star wars"."""
    known, links = memory.catalogue, []
    for found in _REFUSED_TITLE.finditer(turn.text):
        title = found[1].strip().lower()
        free = not any(x.start < found.end(1) and found.start(1) < x.end for x in turn.links)
        if free and " " in title:
            start = found.start(1)
            links += [
                Link("item", known[n].item_id, start, start + len(title)) for n in known.by_title.get(title, ())[:1]
            ]
    ordered = sorted((*turn.links, *links), key=lambda link: link.start)
    return replace(turn, links=tuple(ordered)) if links else turn


def meant_by(memory: Memory, turn: Turn, heard: Heard) -> list[str]:
    """Ids of the items that a message is about: named, pointed at, or what "it" stands for."""
    known = memory.catalogue
    if named := [i for i in dict.fromkeys(turn.items) if i in known] or _offered_in(memory, turn.text):
        return named
    last = memory.offered[-1] if memory.offered else []
    if (one := ONE_WITH.search(turn.text)) and (
        with_them := _having(memory, last, turn, one["rest"] or one["kind"] or "")
    ):
        return with_them
    if "seen" in heard and not (heard.it or heard.every or heard.places) and _SEEN_ELSE.search(masked(turn)):
        return []  # a film that the catalogue does not have
    if heard.places and last:
        return [last[p] for p in heard.places if -len(last) <= p < len(last)]
    if heard.every and last and not heard.it:
        return list(last)
    if not heard.acts & {"ask", "why", "refuse", "seen", "accept", "alike"}:
        return []
    if heard.acts & {"refuse", "seen", "why"} and not heard.it:
        return list(last)
    return [memory.focus] if memory.focus in known else []


def _offered_in(memory: Memory, text: str) -> list[str]:
    """What was offered and is named by its bare title, which a linker may pass over: "I'll take big"."""
    words = f" {key(text)} "
    titles = {i: key(memory.catalogue.item(i).title) for row in reversed(memory.offered) for i in row}
    return [i for i, title in titles.items() if title and f" {title} " in words and title not in _NO_TITLE]


def _having(memory: Memory, offered: Sequence[str], turn: Turn, rest: str) -> list[str]:
    """Those of the offered items that have a person whom a turn names, or that which speaks most of what it says.

    The one with the robot is told by its plot.
    """
    named = {link.id for link in turn.links if link.kind == "person"}
    items = [memory.catalogue.item(i) for i in offered]
    if found := [item.item_id for item in items if named & {*item.cast, *item.directors, *item.writers}]:
        return found
    words = {singular(word) for word in key(rest).split() if len(word) > 3}
    told = {
        i.item_id: {singular(w) for w in key(f"{i.plot} {' '.join((*i.keywords, *i.genres))}").split()} for i in items
    }
    most = max((len(words & own) for own in told.values()), default=0)
    return [i for i, own in told.items() if len(words & own) == most > 0][:1]


def asking_on(memory: Memory, turn: Turn, heard: Heard) -> Heard:
    """What is heard of "and De Niro?" after "was Al Pacino in Heat?"."""
    if not _ASKS_ON.match(turn.text) or not any(link.kind == "person" for link in turn.links):
        return heard
    before = [t for t in memory.turns if t.role == "seeker"][-1:]
    if not before or hear(before[0]).asked != "person":
        return heard
    return replace(heard, acts=(heard.acts - {"aside", "recommend"}) | {"ask"}, asked="person")


def not_alike(link: Link, text: str) -> Link:
    """A film is not liked that is named by "nothing like it"."""
    before = text[max(0, link.start - _BEFORE) : max(0, link.start)]
    if link.kind != "item" or link.opinion != "liked" or not (found := _LIKENESS.search(before)):
        return link
    start = link.start - len(before) + found.start()
    return replace(link, opinion="disliked") if is_negated(text, start, link.end) else link


def same_person(memory: Memory, turn: Turn) -> str:
    """Whom "him" or "that director" stands for; "" for nobody.

    Whom the last answer named alone ("Ridley Scott directed it"), or else the seeker, rather than one of a cast.
    """
    focus = memory.catalogue.item(memory.focus) if memory.focus in memory.catalogue else None
    if focus is not None and focus.directors and re.search(r"\bdirector\b", turn.text, re.I):
        return focus.directors[0]
    named = [[x.id for x in turn.links if x.kind == "person"] for turn in memory.turns[-1:]]
    if named and len(named[0]) == 1:
        return named[0][0]
    own = [x.id for turn in memory.turns if turn.role == "seeker" for x in turn.links if x.kind == "person"]
    return own[-1] if own else memory.last_person()
