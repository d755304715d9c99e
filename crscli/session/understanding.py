"""From a message's words to what is meant by it in this dialogue: which items, which wishes."""

import re
from dataclasses import replace

from crscli.dialogue import Link, Turn
from crscli.session.changes import chosen, joined, replaced, taken_back
from crscli.session.hearing import hear
from crscli.session.host import Host
from crscli.session.memory import Memory
from crscli.session.message import Message
from crscli.session.references import asking_on, meant_by, not_alike, with_refused
from crscli.session.spelling import respelt
from crscli.session.stated import wishes_of

_REFUSES = re.compile(r"\b(?:skip|drop|ditch|lose)\b", re.I)
"""What was not asked for before is refused with these, rather than given up."""


def understand(host: Host, memory: Memory, text: str) -> Message:
    """Read a message, with what was said before it.

    Args:
        host: finds links and wishes.
        memory: of the dialogue so far.
        text: the message.
    """
    links = host.surnames.with_called(text, host.link(text, memory.turns), memory.turns) if text else ()
    links = host.series.with_all(text, links, memory.turns)
    # Without a place: an opinion on a film named before, which is no new mention of it.
    turn = with_refused(memory, Turn("seeker", text, tuple(link for link in links if link.start >= 0)))
    links = (*turn.links, *(link for link in links if link.start < 0))
    spelt = respelt(turn)
    said = spelt.turn
    heard = hear(said)
    meant = meant_by(memory, said, heard)
    heard = asking_on(memory, said, heard)
    meant = meant_by(memory, said, heard) if "ask" in heard else meant
    if heard.bare and meant and not (memory.question and memory.question.topic == "genre"):
        heard = replace(heard, acts=heard.acts | {"ask"}, asked="plot")  # "the second one" alone: what of it?
    links = tuple(not_alike(x, text) for x in links)
    if heard.acts & {"refuse", "ask"}:  # "ok, not that then" is no praise, nor is a question
        links = tuple(x for x in links if x.start >= 0 or x.opinion != "liked")
    held = memory.wishes.wanted() + memory.wishes.unwanted()
    back, places = taken_back(said.text, held, host.reader)
    wishes = [
        w
        for w in wishes_of(host, memory, said, heard)
        if not any(a <= w.start < b for a, b in places)
        or (_REFUSES.search(said.text) and (w.kind, w.value) not in back)
    ]
    back |= replaced(said.text, held, wishes) | chosen(memory.limits(), wishes)
    wishes = [*joined(said.text, len(memory.turns), held, wishes), *wishes]
    if "alike" in heard and not turn.items:
        turn = replace(turn, links=(*turn.links, *(Link("item", i) for i in meant)))
    wishes = [replace(w, start=spelt.placed(w.start), end=spelt.placed(w.end)) for w in wishes]
    return Message(turn, links, heard, meant, wishes, memory.question, frozenset(back))
