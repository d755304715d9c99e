"""A dialogue being held: what a person says is understood, remembered and answered.

The same object stands behind the terminal, the web page and the simulator, with any model. A message is understood
(`hearing`, `understanding`), its wishes become `limits`; then the session talks (`talk`, `facts`), or recommends what
the model ranks and the limits allow, with `reasons`, and asks what would narrow the choice (`questions`). What is
presented as a recommendation is always an item of the ranking.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from crscli.catalogue import Item
from crscli.dialogue import Context, Link, Turn
from crscli.phrasing import Phrases, article, card_of, in_language, listed, offer, sentence_of
from crscli.recommender import Reason
from crscli.session.host import Host, Voice
from crscli.session.limits import Limit, Narrowed, narrow
from crscli.session.memory import Memory, liked_turn
from crscli.session.message import Message, Reply
from crscli.session.questions import Topic, best_question
from crscli.session.reasons import asked_for, reasons_for
from crscli.session.talk import talked
from crscli.session.understanding import understand
from crscli.wishes import WishKind

__all__ = ["Host", "Memory", "Reply", "Session", "Voice"]

TEXT_AT_MOST = 2000
"""Characters of a message that are read."""
_NAMED_AT_MOST = 50
"""Items that a model which speaks may choose from."""
_QUESTIONS_AT_MOST = 4
_KNOWN_ENOUGH = 2
"""Kinds of wishes and films spoken of after which nothing more is asked."""
_SENTENCE = re.compile(r"[^.!?]*[.!?]+\s*|[^.!?]+$")
_FIELDS: dict[WishKind, str] = {
    "years": "the year", "length": "the length", "language": "the language", "person": "the people",
    "studio": "the studio", "genre": "the genre", "audience": "the children", "theme": "the theme",
}  # fmt: skip
_TOPICS: dict[WishKind, Topic] = {
    "genre": "genre", "theme": "genre", "years": "years", "length": "length", "audience": "kids", "person": "person",
}  # fmt: skip


class Session:
    """One dialogue: `say` is all that a chat needs."""

    def __init__(self, host: Host, memory: Memory | None = None) -> None:
        """Begin a dialogue, or go on with one that is remembered."""
        self.host = host
        self.memory = memory or Memory(host.catalogue)

    def say(self, text: str) -> Reply:
        """Take the seeker's message and answer it."""
        memory = self.memory
        message = understand(self.host, memory, text.strip()[:TEXT_AT_MOST])
        memory.remember(message)
        phrases = Phrases(Context(tuple(memory.turns)))
        reply = talked(self.host, memory, phrases, message) or self._recommended(phrases, message)
        reply = replace(reply, links=message.links)
        memory.topics += [reply.question] if reply.question else []
        people = tuple(link for link in self.host.link(reply.text, memory.turns) if link.kind == "person")
        memory.turns.append(Turn("recommender", reply.text, (*_links_to(reply.items, reply.text), *people)))
        return reply

    # ---- recommending -------------------------------------------------------------------------------------------

    def _recommended(self, phrases: Phrases, message: Message) -> Reply:
        host, memory, context = self.host, self.memory, self._evidence(message)
        limits, untold = self._tellable(message)
        order = host.order(context)
        order, every = order[~memory.spent()[order]], order
        narrowed = narrow(host.shelf, order, limits, _NAMED_AT_MOST)
        if narrowed.relaxed and message.wishes and not host.own_words and not message.does("more", "refuse", "seen"):
            known = narrow(host.shelf, every[~memory.spent(again=True)[every]], limits, host.shown)
            if not known.relaxed:  # rather what was offered before than something else
                return self._again(phrases, known)
        before = [] if host.own_words else self._noted(phrases, message)
        before += [in_language(message.heard.language)] if message.does("foreign") else []
        before += [phrases("relaxed.unknown", what=what) for what in untold]
        if not narrowed.items:
            return Reply(" ".join([*before, phrases("offers.nothing")]))
        before += self._openly(phrases, limits, narrowed)
        text, nums = "", list(narrowed.items[: host.shown])
        if host.own_words:
            text, nums = self._own_words(memory.context(), narrowed.items)
        kept = [limit for limit in limits if limit not in narrowed.relaxed]
        liked, explained = memory.liked(), host.explained(context, nums)
        reasons = [reasons_for(host.shelf, n, kept, liked, own) for n, own in zip(nums, explained, strict=True)]
        items = tuple(host.catalogue[n] for n in nums)
        if not host.own_words:
            text = self._offered(phrases, message, context, items, reasons)
        memory.offer(items, reasons)
        question, topic = self._further(phrases, order, limits, narrowed)
        return Reply(
            " ".join(part for part in (*before, text, question) if part),
            items,
            tuple(reasons),
            act="recommend" if items else "chat",
            whys=tuple(card_of(host.catalogue, own) for own in reasons),
            relaxed=tuple(limit.words for limit in narrowed.relaxed),
            question=topic,
        )

    def _evidence(self, message: Message) -> Context:
        """What the model ranks by; "something like that" is asked by the film alone, not by the words around it."""
        alike = [i for i in message.meant if message.does("alike") and i in self.host.catalogue]
        if not alike:
            return self.memory.evidence()
        return Context(tuple(liked_turn(self.host.catalogue.item(i)) for i in alike[:3]))

    def _again(self, phrases: Phrases, narrowed: Narrowed) -> Reply:
        """What was offered before, where it alone is what is asked for now."""
        items = [self.host.catalogue[n] for n in narrowed.items]
        self.memory.focus = items[0].item_id
        return Reply(phrases("offers.again", item=listed([item.name for item in items])), act="tell")

    def _names(self, ids: Sequence[str]) -> str:
        return listed([self.host.catalogue.item(i).name for i in ids[:2]])

    def _noted(self, phrases: Phrases, message: Message) -> list[str]:
        """What was said of films, acknowledged."""
        about = list(dict.fromkeys([*message.turn.items, *message.meant]))
        of = {
            opinion: [i for i in about if self.memory.opinions.get(i) == opinion] for opinion in ("liked", "disliked")
        }
        if of["disliked"]:
            return [phrases("chat.noted_disliked", item=self._names(of["disliked"]))]
        if of["liked"] and not message.does("alike"):
            return [phrases("chat.noted_liked", item=self._names(of["liked"]))]
        many = "_many" if len(message.meant) > 1 else ""
        for act in ("seen", "refuse"):
            if act in message.heard and message.meant:
                return [phrases(f"chat.noted_{act}{many}")]
        return []

    def _tellable(self, message: Message) -> tuple[list[Limit], list[str]]:
        """The limits that the catalogue can be held to, and what it tells of no film, if it was just asked for."""
        limits, untold = [], []
        for limit in self.memory.limits():
            if self.host.shelf.tells(limit.kind):
                limits.append(limit)
            elif any(wish in message.wishes for wish in limit.wishes):
                untold.append(_FIELDS[limit.kind])
        return limits, list(dict.fromkeys(untold))

    def _openly(self, phrases: Phrases, limits: Sequence[Limit], narrowed: Narrowed) -> list[str]:
        """What the recommendation does not keep to, said."""
        given_up = [limit.words for limit in narrowed.relaxed]
        told, self.memory.relaxed = self.memory.relaxed, given_up
        if not given_up or told == given_up:
            return []  # once is enough
        dropped = listed(list(dict.fromkeys(_FIELDS[limit.kind] for limit in narrowed.relaxed)))
        key = "relaxed.nothing_else" if self.memory.offered else "relaxed.nothing"
        return [phrases(key, all=asked_for(limits), dropped=dropped)]

    def _offered(
        self, phrases: Phrases, message: Message, context: Context, items: Sequence[Item],
        reasons: Sequence[Sequence[Reason]],
    ) -> str:  # fmt: skip
        because = sentence_of(phrases, self.host.catalogue, reasons[0])
        like = self._names(list(message.meant)) if message.does("alike") else ""
        again = message.does("more", "refuse", "seen") and bool(self.memory.offered)
        draft = offer(phrases, items, because, like=like, again=again)
        said = self.host.voice(context, items, draft) if self.host.voice else ""
        if not said:
            return draft
        named = [self.host.catalogue.item(link.id) for link in self._films(draft)]
        return said if self._names_only(said, [*items, *named]) else draft

    def _own_words(self, context: Context, item_nums: Sequence[int]) -> tuple[str, list[int]]:
        """What the model says, without sentences that name films which are none of its ranking."""
        text, nums = self.host.spoken(context, item_nums)
        known = self.host.catalogue
        before = (known.item(i) for turn in self.memory.turns for i in turn.items if i in known)
        allowed = [*(known[n] for n in nums), *before]
        text = "".join(s for s in _SENTENCE.findall(text) if self._names_only(s, allowed)).strip()
        return text or "...", [n for n in nums if self.host.catalogue[n].name in text]

    def _names_only(self, text: str, items: Iterable[Item]) -> bool:
        """Whether a text names no film but these."""
        allowed = {item.item_id: item.title for item in items}
        titles = set(allowed.values())
        found = self._films(text)
        return all(
            {x.id, *x.candidates} & allowed.keys() or self.host.catalogue.item(x.id).title in titles for x in found
        )

    def _films(self, text: str) -> list[Link]:
        """The films that a reply names."""
        return [link for link in self.host.link(text, self.memory.turns) if link.kind == "item" and link.start >= 0]

    def _further(
        self, phrases: Phrases, order: np.ndarray, limits: Sequence[Limit], narrowed: Narrowed
    ) -> tuple[str, Topic | None]:
        """A question that would narrow what is left, where little is known; its text and topic."""
        memory, known = self.memory, {limit.kind for limit in limits}
        if self.host.own_words or narrowed.relaxed or len(known) + len(memory.liked()) > _KNOWN_ENOUGH:
            return "", None
        if len(memory.topics) >= _QUESTIONS_AT_MOST or any(t.text.rstrip().endswith("?") for t in memory.turns[-2:-1]):
            return "", None
        inside = np.logical_and.reduce([order >= 0, *(self.host.shelf.keeps(limit)[order] for limit in limits)])
        asked = {_TOPICS[kind] for kind in known if kind in _TOPICS} | set(memory.topics)
        found = best_question(self.host.shelf, order[inside], asked)
        if found is None:
            return "", None
        memory.question = found
        options = [article(o) if found.topic == "genre" else o for o in found.options]
        slots = dict(zip(("a", "b"), options, strict=False)) | {"year": "".join(options[:1])}
        return phrases(f"questions.{found.topic}", **slots), found.topic


def _links_to(items: Iterable[Item], text: str) -> tuple[Link, ...]:
    """The first place of each item's name; a name inside a longer one ("Alien" in "Aliens") is none of its places."""
    chosen = tuple(items)
    if not chosen:
        return ()
    names = sorted((re.escape(item.name) for item in chosen), key=len, reverse=True)
    places: dict[str, int] = {}
    for found in re.finditer(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)", text):
        places.setdefault(found.group(), found.start())
    starts = [places.get(item.name, -1) for item in chosen]
    return tuple(
        Link("item", item.item_id, start, start + len(item.name) if start >= 0 else -1)
        for item, start in zip(chosen, starts, strict=True)
    )
