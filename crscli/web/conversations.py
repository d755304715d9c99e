"""Conversations of a service: rebuilt from messages or gone on with, each turn kept before it is answered.

Knows the host and the store, and nothing of HTTP.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from crscli.catalogue import Item
from crscli.dialogue import Opinion, Turn
from crscli.errors import UsageError
from crscli.phrasing import card_of
from crscli.recommender import Reason
from crscli.session import Host, Memory, Reply, Session
from crscli.session.facts import facts_line
from crscli.session.limits import narrow
from crscli.session.reasons import reasons_for
from crscli.session.understanding import understand
from crscli.web.contract import Card, People, ReasonBody, Refused
from crscli.web.store import Busy, Kept, Store

_TRIES = 20
"""Another process may go on with the same conversation in between; each of these times one of them comes through."""
_CAST_AT_MOST = 5
_T = TypeVar("_T")


@dataclass(frozen=True)
class Said:
    """A reply, and the conversation as it is now."""

    reply: Reply
    session_id: str
    memory: Memory


@dataclass(frozen=True)
class Recommended:
    """Items, best first, each with its reasons, the strongest first; and the wishes that they do not keep to."""

    items: tuple[Item, ...]
    reasons: tuple[tuple[Reason, ...], ...]
    memory: Memory
    relaxed: tuple[str, ...]


class Conversations:
    """All that goes on between a host and those who talk to it."""

    def __init__(self, host: Host, store: Store, turns_at_most: int) -> None:
        """Begin.

        Args:
            host: may be asked by several threads.
            store: keeps conversations.
            turns_at_most: of a conversation.
        """
        self.host, self.store = host, store
        self._turns_at_most = turns_at_most
        # What a model said in its own words comes with the messages: it is not said again.
        self._quiet = copy.copy(host)
        self._quiet.own_words, self._quiet.voice = False, None

    def say(self, owner: str, turns: Sequence[Turn], session_id: str | None) -> Said:
        """Answer what the seeker said last.

        Args:
            owner: whose conversation it is.
            turns: said so far; of a session only the last one is read.
            session_id: goes on with a conversation; without, one begins with these turns.

        Raises:
            Refused: the last turn is not the seeker's, or the session is gone or full.
        """
        if not turns or turns[-1].role != "seeker":
            raise Refused(400, "the last message must be the user's", "no_user_message", param="messages")
        text = turns[-1].text
        if session_id is None:
            session = Session(self.host, self._rebuilt(owner, turns[:-1]))
            reply = session.say(text)
            kept_as = self.store.create(owner, session.memory.to_json(), _digest(session.memory.turns))
            return Said(reply, kept_as, session.memory)

        def answer(memory: Memory) -> Reply:
            self._room(memory)
            return Session(self.host, memory).say(text)

        reply, memory = self._changed(owner, session_id, answer)
        return Said(reply, session_id, memory)

    def mark(self, owner: str, session_id: str, item_id: str, opinion: Opinion) -> None:
        """Take down what a seeker thinks of an item; the same thought twice is one.

        Raises:
            Refused: there is no such session or item.
        """

        def take(memory: Memory) -> None:
            self._room(memory)
            try:
                if memory.opinions.get(item_id) != opinion:
                    memory.mark(item_id, opinion)
            except UsageError:
                raise Refused(404, "the catalogue has no such item", "item_not_found", param="item_id") from None

        self._changed(owner, session_id, take)

    def recommend(self, owner: str, turns: Sequence[Turn], session_id: str | None, limit: int) -> Recommended:
        """The best items for a conversation as it is; it stays as it is.

        Args:
            owner: whose conversation it is.
            turns: said in it, or said next in the session.
            session_id: of a conversation that was begun.
            limit: items at most.

        Raises:
            Refused: there is no such session.
        """
        if session_id is not None:
            memory = self.read(owner, session_id)[0]
            self._replay(memory, turns)
        else:
            is_heard = bool(turns) and turns[-1].role == "seeker"
            memory = self._rebuilt(owner, turns[:-1] if is_heard else turns)
            self._replay(memory, turns[-1:] if is_heard else ())
        host, limits = self.host, [x for x in memory.limits() if self.host.shelf.tells(x.kind)]
        context = memory.evidence()
        order = host.order(context)
        found = narrow(host.shelf, order[~memory.spent()[order]], limits, limit)
        kept, liked = [x for x in limits if x not in found.relaxed], memory.liked()
        explained = host.explained(context, found.items)
        return Recommended(
            tuple(host.catalogue[n] for n in found.items),
            tuple(reasons_for(host.shelf, n, kept, liked, own) for n, own in zip(found.items, explained, strict=True)),
            memory,
            tuple(x.words for x in found.relaxed),
        )

    def read(self, owner: str, session_id: str) -> tuple[Memory, Kept]:
        """A conversation.

        Raises:
            Refused: there is none of this owner's.
        """
        kept = self.store.read(owner, session_id)
        if kept is None:
            raise _gone()
        try:
            return Memory.from_json(self.host.catalogue, kept.memory), kept
        except ValueError:
            raise _gone() from None

    def forget(self, owner: str, session_id: str) -> None:
        """Delete a conversation.

        Raises:
            Refused: there is none of this owner's.
        """
        with self.store.held(session_id):
            if not self.store.delete(owner, session_id):
                raise _gone()

    def _changed(self, owner: str, session_id: str, change: Callable[[Memory], _T]) -> tuple[_T, Memory]:
        """Change a conversation and keep it; two changes are made one after the other."""
        try:
            with self.store.held(session_id):
                for _ in range(_TRIES):
                    memory, kept = self.read(owner, session_id)
                    result = change(memory)
                    if self.store.write(owner, session_id, kept, memory.to_json(), _digest(memory.turns)):
                        return result, memory
        except Busy:
            pass
        raise Refused(429, "this conversation is being answered; ask again in a moment", "session_busy", wait_s=1.0)

    def _room(self, memory: Memory) -> None:
        if len(memory.turns) >= self._turns_at_most:
            raise Refused(400, "this conversation is too long; begin a new one", "session_full", param="session_id")

    # ---- from messages ------------------------------------------------------------------------------------------

    def _rebuilt(self, owner: str, turns: Sequence[Turn]) -> Memory:
        """The conversation of these turns: one that is kept, or else gone through again."""
        kept = self.store.find(owner, _digest(turns)) if turns else None
        if kept is not None:
            try:
                return Memory.from_json(self.host.catalogue, kept.memory)
            except ValueError:
                pass  # of another version
        memory = Memory(self.host.catalogue)
        self._replay(memory, turns)
        return memory

    def _replay(self, memory: Memory, turns: Sequence[Turn]) -> None:
        """Go through turns; what the recommender said is taken as it is given, and as nothing but text.

        A seeker's turn that nobody answers is only taken in.
        """
        for num, turn in enumerate(turns, 1):
            if turn.role == "recommender":
                self._given(memory, turn.text)
            elif num == len(turns):
                memory.remember(understand(self.host, memory, turn.text))
            else:
                Session(self._quiet, memory).say(turn.text)

    def _given(self, memory: Memory, text: str) -> None:
        """Put what the recommender is given to have said in the place of what the session has just said itself."""
        last = memory.turns[-1] if memory.turns else None
        if last is not None and last.role == "recommender":
            if last.text == text:
                return
            unsaid = {i for i in last.items if memory.offered and i in memory.offered[-1]}
            if unsaid:
                for item_id in memory.offered.pop():
                    memory.reasons.pop(item_id, None)
            del memory.turns[-1]
            memory.question = None
        turn = Turn("recommender", text, self.host.link(text, memory.turns))
        named = [self.host.catalogue.item(i) for i in dict.fromkeys(turn.items) if i in self.host.catalogue]
        memory.offer(named, [(Reason("popularity", "", 1.0),)] * len(named))
        memory.turns.append(turn)


def cards(host: Host, items: Sequence[Item], reasons: Sequence[Sequence[Reason]], memory: Memory) -> list[Card]:
    """Items as they are shown."""
    return [
        Card(
            item_id=item.item_id, title=item.title, year=item.year, genres=list(item.genres), facts=facts_line(item),
            people=People(directors=list(item.directors), cast=list(item.cast[:_CAST_AT_MOST])), plot=item.plot,
            why=card_of(host.catalogue, own),
            reasons=[ReasonBody(kind=r.kind, evidence=r.evidence, share=r.share) for r in own],
            opinion=memory.opinions.get(item.item_id),
        )
        for item, own in zip(items, reasons, strict=True)
    ]  # fmt: skip


def _digest(turns: Sequence[Turn]) -> str:
    """Of what was said and by whom; what is remembered of a conversation follows from it."""
    plain: list[Any] = [[turn.role, turn.text] for turn in turns]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _gone() -> Refused:
    return Refused(404, "there is no such conversation; it may have expired", "session_not_found", param="session_id")
