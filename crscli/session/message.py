"""A seeker's message as it was understood, and what a session answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crscli.catalogue import Item
from crscli.dialogue import Link, Turn
from crscli.recommender import Reason
from crscli.session.hearing import Act, Heard
from crscli.session.questions import Question, Topic
from crscli.wishes import Wish


@dataclass(frozen=True)
class Message:
    """What a message was taken for.

    Args:
        turn: the text with the links that have a place in it, and those of "something like that".
        links: all that the linker found, also opinions on films named before.
        heard: what it does.
        meant: ids of the items that it is about.
        wishes: what it asks for or refuses.
        waiting: the question that it may answer.
        taken_back: (kind, value) of wishes that are given up, "" for all of a kind: "forget the 80s", "any decade".
    """

    turn: Turn
    links: tuple[Link, ...]
    heard: Heard
    meant: Sequence[str]
    wishes: Sequence[Wish]
    waiting: Question | None
    taken_back: frozenset[tuple[str, str]] = frozenset()

    def does(self, *acts: Act) -> bool:
        """Whether it does any of these."""
        return bool(self.heard.acts & set(acts))

    @property
    def tells(self) -> bool:
        """Whether there is something in it to recommend by."""
        return bool(self.wishes or self.turn.links or self.taken_back) or self.does(
            "more", "refuse", "seen", "alike", "surprise"
        )


@dataclass(frozen=True)
class Reply:
    """What a session answers.

    Args:
        text: what a person reads.
        items: the recommended items, best first.
        reasons: of each item, the strongest first.
        links: what was understood of the message.
        act: what the reply does: recommend, ask, tell, explain, or chat.
        whys: the strongest reason of each item in a few words.
        relaxed: the wishes that the items do not keep to, in words.
        question: the topic of the question that ends it; None for none.
    """

    text: str
    items: tuple[Item, ...] = ()
    reasons: tuple[tuple[Reason, ...], ...] = ()
    links: tuple[Link, ...] = ()
    act: str = "chat"
    whys: tuple[str, ...] = ()
    relaxed: tuple[str, ...] = ()
    question: Topic | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values, for scripts and pages."""
        items = [
            {
                "item_id": item.item_id, "title": item.title, "year": item.year, "genres": list(item.genres),
                "directors": list(item.directors), "cast": list(item.cast[:5]), "runtime": item.runtime,
                "language": item.language, "plot": item.plot, "why": why,
                "reasons": [{"kind": r.kind, "evidence": r.evidence, "share": r.share} for r in reasons],
            }
            for item, why, reasons in zip(self.items, self.whys, self.reasons, strict=True)
        ]  # fmt: skip
        links = [
            {"kind": x.kind, "id": x.id, "start": x.start, "end": x.end, "score": x.score, "opinion": x.opinion}
            for x in self.links
        ]
        return {
            "text": self.text, "act": self.act, "items": items, "relaxed": list(self.relaxed),
            "question": self.question, "links": links,
        }  # fmt: skip
