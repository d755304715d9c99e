"""From a message's words to what is meant by it in this dialogue: which items, which wishes."""

import re
from dataclasses import replace

from crscli.dialogue import Link, Turn
from crscli.names import key
from crscli.session.hearing import Heard, hear
from crscli.session.host import Host
from crscli.session.memory import Memory
from crscli.session.message import Message
from crscli.session.moods import moods, themes
from crscli.session.questions import stated_by
from crscli.session.spelling import respelt
from crscli.wishes import Wish

_NO_TITLE = frozenset({"it", "her", "them", "this", "that", "up", "us"})
"""Titles that a message says without meaning a film."""
_POINTS = re.compile(r"\b(?:it|that|this|they)\b(?!\s+(?:one\s+)?but)", re.I)
_WANTS = re.compile(r"\b(?:want|looking for|something|anything)\b", re.I)


def understand(host: Host, memory: Memory, text: str) -> Message:
    """Read a message, with what was said before it.

    Args:
        host: finds links and wishes.
        memory: of the dialogue so far.
        text: the message.
    """
    links = host.link(text, memory.turns) if text else ()
    # Without a place: an opinion on a film named before, which is no new mention of it.
    turn = Turn("seeker", text, tuple(link for link in links if link.start >= 0))
    heard = hear(turn)
    meant = _meant(memory, turn, heard)
    wishes = _wishes(host, memory, turn, heard)
    if "alike" in heard and not turn.items:
        turn = replace(turn, links=(*turn.links, *(Link("item", i) for i in meant)))
    return Message(turn, links, heard, meant, wishes, memory.question)


def _meant(memory: Memory, turn: Turn, heard: Heard) -> list[str]:
    """Ids of the items that a message is about: named, pointed at, or what "it" stands for."""
    known = memory.catalogue
    if named := [i for i in dict.fromkeys(turn.items) if i in known] or _offered_in(memory, turn.text):
        return named
    last = memory.offered[-1] if memory.offered else []
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


def _wishes(host: Host, memory: Memory, turn: Turn, heard: Heard) -> list[Wish]:
    """What a message asks for; an answer to the last question counts as if it had been said in full."""
    if "ask" in heard and not _WANTS.search(turn.text):
        return []
    num, question = len(memory.turns), memory.question
    before = memory.turns[-1] if memory.turns and memory.turns[-1].role != "seeker" else None
    if question is not None and question.topic == "genre":
        before = None  # "yes" to "a comedy or a thriller?" says nothing
    found = [replace(wish, turn=num) for wish in host.reader.of_turn(respelt(turn), before)]
    # "No romcoms" is against the romance in them, not against all comedies.
    romances = {wish.start for wish in found if wish.value == "romance" and not wish.wanted}
    found = [w for w in found if w.wanted or w.value != "comedy" or w.start not in romances]
    found += [*moods(turn, num), *themes(turn, num, host.shelf)]
    if not turn.items and (not _POINTS.search(turn.text) or "alike" in heard):
        found = [replace(wish, asked=True) for wish in found]  # a bare "funny" is a wish where it describes no film
    if heard.same_person and not any(wish.kind == "person" for wish in found):
        found += [Wish("person", name, True, True, num, 0, 0) for name in _last_people(memory)[:1]]
    if question is not None:
        stated = {wish.kind for wish in found if wish.asked}
        found += [wish for wish in stated_by(turn.text, question, num) if wish.kind not in stated]
    return found


def _last_people(memory: Memory) -> list[str]:
    """People named so far, the newest first; then those of the item that is spoken of."""
    named = [link.id for turn in reversed(memory.turns) for link in reversed(turn.links) if link.kind == "person"]
    stated = [wish.value for wish in reversed(memory.stated) if wish.kind == "person"]
    own = memory.catalogue.item(memory.focus).cast[:1] if memory.focus in memory.catalogue else ()
    return list(dict.fromkeys([*stated[:1], *named, *own]))
