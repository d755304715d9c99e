"""Dialogues: turns, the links found in them, and how a dialogue is cut into examples.

The one cutting function serves training, evaluation and chat. Knows nothing about catalogues or models.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

Role = Literal["seeker", "recommender"]
LinkKind = Literal["item", "person", "genre"]
Opinion = Literal["liked", "disliked", "seen"]
ROLES: tuple[Role, ...] = get_args(Role)
KINDS: tuple[LinkKind, ...] = get_args(LinkKind)
ACTS = ("recommend", "explain", "respond", "request", "chat")
"""What a recommender's turn does, as IARD's top level has it; a turn may do several."""
OPINIONS: tuple[Opinion, ...] = get_args(Opinion)


@dataclass(frozen=True, slots=True)
class Link:
    """A span of a turn's text that names something; a link of kind item is a mention.

    `start` and `end` are character offsets; both are -1 when the data say that the turn names the item
    but not where.
    """

    kind: LinkKind
    id: str
    start: int = -1
    end: int = -1
    score: float = 1.0
    candidates: tuple[str, ...] = ()
    opinion: Opinion | None = None
    reason: str = ""

    def shifted(self, by: int) -> "Link":
        """The same link in a text that has `by` more characters in front."""
        return self if self.start < 0 else replace(self, start=self.start + by, end=self.end + by)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says at once; `text` is what a person reads ("Police Academy (1984)").

    `acts` what it does, where the data tell: those of ACTS of a recommender, what is wanted of a seeker.
    """

    role: Role
    text: str
    links: tuple[Link, ...] = ()
    acts: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[str, ...]:
        """Ids of the mentioned items, in the order of the text, repeats kept."""
        return tuple(link.id for link in self.links if link.kind == "item")


@dataclass(frozen=True)
class Context:
    """The turns so far, oldest first."""

    turns: tuple[Turn, ...]

    @cached_property
    def mentions(self) -> tuple[str, ...]:
        """Distinct mentioned items, the one mentioned last first; inside a turn the later one is the newer."""
        newest_first = (i for turn in reversed(self.turns) for i in reversed(turn.items))
        return tuple(dict.fromkeys(newest_first))

    def last(self, turns: int) -> "Context":
        """The newest `turns` turns."""
        return Context(self.turns[-turns:])


@dataclass(frozen=True)
class Example:
    """A context, the response that followed it, and the items that the response names.

    `targets` keeps the order of the text and repeats; `turn_num` is the response's place in the dialogue as cut.
    """

    dialogue_id: str
    turn_num: int
    context: Context
    response: Turn
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Dialogue:
    """A whole dialogue as the data have it: one turn per message.

    `order` places dialogues in time where the data tell it (ReDial: the conversation id); `forms` holds what each
    side filled in afterwards: role -> item id -> {"suggested" | "seen" | "liked": 0, 1 or 2 (did not say)}.
    """

    dialogue_id: str
    turns: tuple[Turn, ...]
    order: int | None = None
    seeker_id: str | None = None
    recommender_id: str | None = None
    forms: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)


def merge_turns(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Join consecutive turns of one side, with a blank between their texts."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            before = merged[-1]
            joint = " ".join(text for text in (before.text, turn.text) if text)
            shift = len(joint) - len(turn.text)
            links = before.links + tuple(link.shifted(shift) for link in turn.links)
            merged[-1] = Turn(turn.role, joint, links, tuple(dict.fromkeys(before.acts + turn.acts)))
        else:
            merged.append(turn)
    return tuple(merged)


def cut(
    dialogue: Dialogue, *, merge: bool = True, speakers: Sequence[Role] = ("recommender",), with_items: bool = True
) -> Iterator[Example]:
    """Cut a dialogue into examples, one per turn that answers something.

    Args:
        dialogue: with one turn per message.
        merge: consecutive turns of one side count as one.
        speakers: whose turns are responses.
        with_items: only responses that name an item; else all of them.

    Yields:
        Examples in the order of the dialogue. The opening turn has no context and is never a response.
    """
    turns = merge_turns(dialogue.turns) if merge else dialogue.turns
    for turn_num, turn in enumerate(turns):
        if turn_num and turn.role in speakers and (turn.items or not with_items):
            yield Example(dialogue.dialogue_id, turn_num, Context(turns[:turn_num]), turn, turn.items)


# ---- JSON lines -----------------------------------------------------------------------------------------------


def _link_to_json(link: Link) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": link.kind, "id": link.id}
    if link.start >= 0:
        plain |= {"start": link.start, "end": link.end}
    if link.score != 1.0:
        plain["score"] = link.score
    if link.candidates:
        plain["candidates"] = list(link.candidates)
    if link.opinion:
        plain["opinion"] = link.opinion
    if link.reason:
        plain["reason"] = link.reason
    return plain


def to_json(dialogue: Dialogue) -> dict[str, Any]:
    """A dialogue as plain values; empty fields are left out."""
    plain: dict[str, Any] = {
        "dialogue_id": dialogue.dialogue_id,
        "turns": [
            {"role": t.role, "text": t.text}
            | ({"links": [_link_to_json(x) for x in t.links]} if t.links else {})
            | ({"acts": list(t.acts)} if t.acts else {})
            for t in dialogue.turns
        ],
    }
    for name in ("order", "seeker_id", "recommender_id"):
        if (value := getattr(dialogue, name)) is not None:
            plain[name] = value
    if dialogue.forms:
        plain["forms"] = {role: {i: dict(a) for i, a in form.items()} for role, form in dialogue.forms.items()}
    return plain


def from_json(plain: Mapping[str, Any]) -> Dialogue:
    """The dialogue that `to_json` made plain."""
    turns = tuple(
        Turn(
            t["role"],
            t["text"],
            tuple(Link(**{**x, "candidates": tuple(x.get("candidates", ()))}) for x in t.get("links", ())),
            tuple(t.get("acts", ())),
        )
        for t in plain["turns"]
    )
    kept = {name: plain[name] for name in ("order", "seeker_id", "recommender_id", "forms") if name in plain}
    return Dialogue(plain["dialogue_id"], turns, **kept)


def save_dialogues(dialogues: Iterable[Dialogue], path: Path) -> None:
    """Write one dialogue a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for dialogue in dialogues:
            file.write(json.dumps(to_json(dialogue), ensure_ascii=False, separators=(",", ":")) + "\n")


def load_dialogues(path: Path) -> list[Dialogue]:
    """Read what `save_dialogues` wrote."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [from_json(json.loads(line)) for line in file]


def part_of(dialogues: Sequence[Dialogue], share: float, seed: int) -> list[Dialogue]:
    """A share of the dialogues in their order; a larger share holds a smaller one of the same seed."""
    order = list(range(len(dialogues)))
    Random(seed).shuffle(order)
    return [dialogues[num] for num in sorted(order[: max(1, round(share * len(order)))])]
