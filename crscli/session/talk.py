"""Replies that recommend nothing: greetings, facts, reasons, help, and what is said to who wants something else."""

import re

from crscli.phrasing import Phrases, in_language, sentence_of
from crscli.session.facts import answer
from crscli.session.hearing import Asked
from crscli.session.host import Host
from crscli.session.memory import Memory
from crscli.session.message import Message, Reply
from crscli.session.questions import Question

_WHO = re.compile(r"\b(?:who|what)\s+(?:are|r)\b|\bare\s+you\b", re.I)
_HOW = re.compile(r"\bhow\b.*\b(?:you|u|going)\b", re.I)


def talked(host: Host, memory: Memory, phrases: Phrases, message: Message) -> Reply | None:
    """The reply to a message that wants no recommendation; None if it wants one."""
    if message.does("silent"):
        return Reply(phrases("chat.silent"))
    if message.does("ask"):
        return _tell(host, memory, phrases, message)
    if message.does("why"):
        return _explain(host, memory, phrases, message)
    if message.does("help"):
        count = f"{len(memory.catalogue):,} films"
        who = _WHO.search(message.turn.text)
        return Reply(phrases("chat.who", count=count) if who else phrases("chat.help"))
    accepts = message.does("accept") and not message.does("more", "refuse", "seen", "alike")
    if accepts and not message.wishes and memory.focus:
        return _enjoy(memory, phrases, message)
    return None if message.tells else _chatted(host, memory, phrases, message)


def _chatted(host: Host, memory: Memory, phrases: Phrases, message: Message) -> Reply | None:
    """The reply to a message that holds nothing to recommend by."""
    if message.does("start over"):
        return _ask(memory, phrases, phrases("chat.fresh"))
    if message.does("foreign"):
        return Reply(in_language(message.heard.language))
    for act in ("abuse", "bye", "aside"):
        if act in message.heard:
            return Reply(phrases(f"chat.{act}"))
    if message.does("thank"):
        return Reply(f"{phrases('chat.thank')} {phrases('chat.anything_else')}")
    if message.does("greet") and not message.does("recommend"):
        fine = f" {phrases('chat.fine')}" if _HOW.search(message.turn.text) else ""
        return _ask(memory, phrases, phrases("chat.greet") + fine)
    if message.does("recommend") or message.waiting is not None:
        return None if memory.topics or memory.liked() or memory.limits() else _ask(memory, phrases)
    return None if host.shelf.knows_words(message.turn.text) else Reply(phrases("chat.lost"))


def _ask(memory: Memory, phrases: Phrases, before: str = "") -> Reply:
    """A question to who has said nothing to go by yet."""
    memory.question = Question("liked")
    return Reply(f"{before} {phrases('questions.opening')}".strip(), act="ask", question="liked")


def _enjoy(memory: Memory, phrases: Phrases, message: Message) -> Reply:
    item = memory.catalogue.item((list(message.meant) or [memory.focus])[0])
    return Reply(f"{phrases('chat.enjoy', item=item.name)} {phrases('chat.anything_else')}")


def _tell(host: Host, memory: Memory, phrases: Phrases, message: Message, about: Asked | None = None) -> Reply:
    """Answer a question about one item or several: what was asked, or what is given."""
    asked = about or message.heard.asked
    if not message.meant or asked is None:
        return Reply(phrases("chat.which"))
    person = next((link.id for link in message.turn.links if link.kind == "person"), "") or memory.last_person()
    genre = next((w.value for w in host.reader.of_turn(message.turn) if w.kind == "genre"), "")
    items = [memory.catalogue.item(i) for i in message.meant[:3]]
    memory.focus = items[0].item_id
    return Reply(" ".join(answer(phrases, i, asked, person=person, genre=genre) for i in items), act="tell")


def _explain(host: Host, memory: Memory, phrases: Phrases, message: Message) -> Reply:
    """Why items were offered."""
    ids = [i for i in (message.meant or [memory.focus]) if i in memory.reasons]
    if not ids and message.meant:
        return _tell(host, memory, phrases, message, "plot")
    if not ids:
        return Reply(phrases("chat.lost"))
    parts = []
    for item_id in list(dict.fromkeys(ids))[: max(1, min(3, len(message.meant)))]:
        item = memory.catalogue.item(item_id)
        told = [sentence_of(phrases, memory.catalogue, [reason]) for reason in memory.reasons[item_id][:2]]
        parts.append(f"{item.name}: {' '.join(dict.fromkeys(told))}")
    return Reply(" ".join(parts), act="explain")
