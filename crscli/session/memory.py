"""What is remembered of a dialogue: what was said, offered, wished for and thought of films; it goes into a file."""

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Opinion, Turn, from_json, to_json
from crscli.errors import UsageError
from crscli.recommender import Reason
from crscli.session.limits import Limit, limits_of
from crscli.session.message import Message
from crscli.session.questions import Question, Topic
from crscli.wishes import Wish, Wishes, fold

_NO = re.compile(r"\bno\s+(?:more\s+)?$", re.I)
_TURNS_READ = 48
"""Newest turns that a model is told."""


_SHORT = 5
"""Words of a message that can only be about what was said before: "loved them"."""


@dataclass
class Memory:
    """Of one dialogue.

    Args:
        catalogue: what can be offered.
        turns: said so far.
        offered: ids of the items of each recommendation, the newest last.
        opinions: item id -> liked, disliked, seen or refused.
        stated: every wish that was read or given by a command, with its turn.
        dropped: keys of limits that were taken back.
        focus: id of the item that "it" stands for.
        question: what was asked last and waits for an answer.
        topics: of the questions asked so far.
        reasons: why each item was offered.
        began: number of the turn with which what is looked for now began.
        relaxed: the wishes that were given up last, in words.
    """

    catalogue: Catalogue
    turns: list[Turn] = field(default_factory=list)
    offered: list[list[str]] = field(default_factory=list)
    opinions: dict[str, str] = field(default_factory=dict)
    stated: list[Wish] = field(default_factory=list)
    dropped: set[tuple[str, ...]] = field(default_factory=set)
    focus: str = ""
    question: Question | None = None
    topics: list[Topic] = field(default_factory=list)
    reasons: dict[str, tuple[Reason, ...]] = field(default_factory=dict)
    began: int = 0
    relaxed: list[str] = field(default_factory=list)

    def remember(self, message: Message) -> None:
        """Take in what a message says, before it is answered."""
        heard = message.heard
        if "start over" in heard:
            self.start_over()
        answered = self._answered(message)
        for link in message.links:
            is_heard = link.start >= 0 or (link.id in answered and (link.opinion != "seen" or "seen" in heard))
            if link.kind == "item" and link.opinion and link.id in self.catalogue and is_heard:
                self.opinions[link.id] = link.opinion
            if link.kind == "item" and link.start >= 0 and _NO.search(message.turn.text[: link.start]):
                self.opinions.setdefault(link.id, "refused")
        if "seen" in heard:
            self.opinions |= {i: "seen" for i in message.meant if self.opinions.get(i) not in ("liked", "disliked")}
        if "refuse" in heard and "ask" not in heard:
            self.opinions |= {i: "refused" for i in message.meant if self.opinions.get(i) is None}
        if len(message.meant) == 1 and message.meant[0] in self.catalogue:
            self.focus = message.meant[0]
        self.stated = [w for w in self.stated if (w.kind, w.value) not in message.taken_back]
        self.stated = [w for w in self.stated if (w.kind, "") not in message.taken_back]
        if "alike" in heard and message.turn.items:
            # "Something like Blade Runner" begins anew: what was wanted before is not meant to hold of it.
            self.stated = [w for w in self.stated if not w.wanted or w.kind in ("audience", "language", "genre")]
            self.began = len(self.turns)
        self.stated += message.wishes
        self.dropped -= {Limit((wish,)).key() for wish in message.wishes}
        self.turns.append(message.turn)
        self.question = None

    def _answered(self, message: Message) -> set[str]:
        """The films of the last offer that an opinion without a film in it is about.

        "Nothing too scary" is a wish, and "I have not seen Heat" is about Heat: neither is a word on what was offered.
        """
        heard, offered = message.heard, set(self.offered[-1] if self.offered else ())
        if message.turn.items or (message.wishes and not message.does("refuse", "seen", "accept")):
            return set()
        if message.meant or "seen" in heard:
            return set(message.meant)
        if heard.it and not heard.every:
            return {self.focus}
        return offered if heard.every or len(message.turn.text.split()) <= _SHORT else set()

    def offer(self, items: Sequence[Item], reasons: Sequence[tuple[Reason, ...]]) -> None:
        """Take down what is offered, and why."""
        if items:
            self.offered.append([item.item_id for item in items])
            self.focus = items[0].item_id
            self.reasons |= {item.item_id: own for item, own in zip(items, reasons, strict=True)}

    def start_over(self) -> None:
        """Forget what was wished for; what is thought of films stays."""
        self.stated.clear()
        self.dropped.clear()
        self.topics.clear()
        self.question, self.focus, self.began = None, "", len(self.turns)

    @property
    def wishes(self) -> Wishes:
        """What is asked for and refused, as of now."""
        return fold(self.stated)

    def limits(self) -> list[Limit]:
        """The wishes as limits, those that were taken back left out."""
        held = self.wishes
        texts = [turn.text for turn in self.turns]
        found = limits_of([*held.wanted(), *held.unwanted()], texts)
        return [limit for limit in found if limit.key() not in self.dropped]

    def drop(self, limit: Limit) -> None:
        """Take a limit back."""
        self.dropped.add(limit.key())

    def mark(self, item_id: str, opinion: Opinion) -> None:
        """Note what the seeker thinks of an item, as if it had been said.

        Raises:
            UsageError: the catalogue has no such item.
        """
        if item_id not in self.catalogue:
            raise UsageError(f"no item {item_id!r} in the catalogue", "name one by its title")
        self.opinions[item_id] = opinion
        self.turns.append(_said(self.catalogue.item(item_id), opinion))
        self.focus = item_id

    def context(self) -> Context:
        """What a model speaks after: the newest turns of what is looked for now."""
        return Context(tuple(self.turns[self.began :][-_TURNS_READ:]))

    def evidence(self) -> Context:
        """What a model ranks by: the same without the session's own offers, but for films that were liked.

        An offer that was not taken up tells nothing of the seeker; left in, it draws its likes after it. Chosen on
        simulated dialogues with ReDial's validation split.
        """
        offered = {i for row in self.offered for i in row}
        kept = []
        for turn in self.context().turns:
            own = {i for i in turn.items if i in offered} if turn.role == "recommender" else set()
            if not own:
                kept.append(turn)
            elif any(self.opinions.get(i) == "liked" for i in own):
                left = tuple(x for x in turn.links if x.id not in own or self.opinions.get(x.id) == "liked")
                kept.append(replace(turn, links=left))
        return Context(tuple(kept))

    def last_person(self) -> str:
        """Who was named last, in a wish or by either side, else the first of the film spoken of; "" for nobody."""
        if stated := [wish.value for wish in self.stated if wish.kind == "person"]:
            return stated[-1]
        named = [x.id for turn in self.turns for x in turn.links if x.kind == "person"]
        own = self.catalogue.item(self.focus).cast[:1] if self.focus in self.catalogue else ()
        return next(iter((*named[-1:], *own)), "")

    def liked(self) -> list[int]:
        """Numbers of the items that were spoken of and not disliked, the newest first."""
        known = self.catalogue
        own = [i for t in reversed(self.turns) if t.role == "seeker" for i in reversed(t.items)]
        kept = [i for i in dict.fromkeys(own) if i in known and self.opinions.get(i) not in ("disliked", "refused")]
        return [known.vocabulary.num(i) for i in kept]

    def spent(self, *, again: bool = False) -> np.ndarray:
        """(N,) items that are not offered: offered before, spoken of, or refused, also where a list has them twice.

        With `again` those that were offered and have got no opinion may be.
        """
        known = self.catalogue
        ids = set(self.opinions)
        ids |= {i for turn in self.turns for i in turn.items if turn.role == "seeker"}
        ids |= set() if again else {i for row in self.offered for i in row}
        spent = np.zeros(len(known), dtype=bool)
        for item_id in ids:
            if item_id in known:
                item, refused = known.item(item_id), self.opinions.get(item_id) in ("disliked", "refused")
                twins = known.by_title[item.title.lower()]
                spent[[n for n in twins if refused or known[n].year in (None, item.year) or item.year is None]] = True
        return spent

    def copy(self) -> "Memory":
        """The same, to go back to if a turn comes to nothing."""
        return replace(
            self,
            turns=list(self.turns),
            offered=list(self.offered),
            opinions=dict(self.opinions),
            stated=list(self.stated),
            dropped=set(self.dropped),
            topics=list(self.topics),
            reasons=dict(self.reasons),
            relaxed=list(self.relaxed),
        )

    # ---- files --------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Everything that is remembered, as plain values."""
        return {
            "turns": to_json(Dialogue("", tuple(self.turns)))["turns"],
            "offered": self.offered,
            "opinions": self.opinions,
            "stated": [list(astuple(w)) for w in self.stated],
            "dropped": sorted(list(key) for key in self.dropped),
            "focus": self.focus,
            "question": [self.question.topic, list(self.question.options)] if self.question else None,
            "topics": self.topics,
            "reasons": {i: [list(astuple(r)) for r in own] for i, own in self.reasons.items()},
            "began": self.began,
            "relaxed": self.relaxed,
        }

    @classmethod
    def from_json(cls, catalogue: Catalogue, plain: dict[str, Any]) -> "Memory":
        """The memory that `to_json` made plain; items that the catalogue no longer has are forgotten.

        Raises:
            ValueError: it is none.
        """
        try:
            asked = plain["question"]
            return cls(
                catalogue,
                list(from_json({"dialogue_id": "", "turns": plain["turns"]}).turns),
                [kept for row in plain["offered"] if (kept := [i for i in row if i in catalogue])],
                {i: str(o) for i, o in plain["opinions"].items() if i in catalogue},
                [Wish(*row) for row in plain["stated"]],
                {tuple(key) for key in plain["dropped"]},
                plain["focus"] if plain["focus"] in catalogue else "",
                Question(asked[0], tuple(asked[1])) if asked else None,
                list(plain["topics"]),
                {i: tuple(Reason(*r) for r in own) for i, own in plain["reasons"].items() if i in catalogue},
                int(plain["began"]),
                list(plain["relaxed"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no dialogue: {error}") from None


def liked_turn(item: Item) -> Turn:
    """A seeker's turn that says nothing but that an item was liked."""
    return _said(item, "liked")


def _said(item: Item, opinion: Opinion) -> Turn:
    said = {"liked": "I liked", "disliked": "I did not like", "seen": "I have seen"}[opinion]
    at = len(said) + 1
    return Turn(
        "seeker", f"{said} {item.name}.", (Link("item", item.item_id, at, at + len(item.name), opinion=opinion),)
    )
