"""What a dataset reader hands over, and the rules that every dataset keeps. Knows no file format."""

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from crscli.catalogue import Item
from crscli.dialogue import Dialogue, Link, Turn
from crscli.errors import DataError
from crscli.vocabulary import natural_order

SPLITS = ("train", "valid", "test")
ValidRule = Literal["latest", "random"]


@dataclass
class Corpus:
    """Dialogues by split and the bare item list, as one reader found them.

    Args:
        name: the published data set ("redial"), or the user's own name.
        form: "published", or the processed form of a paper.
        items: every item; mentions point into it.
        splits: split -> dialogues; splits that the files do not have are absent.
        sequences: train dialogues of which only the mentions are known.
        notes: what a user should know about how the data were read.
    """

    name: str
    form: str
    items: list[Item]
    splits: dict[str, list[Dialogue]]
    sequences: list[Dialogue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def cut_valid(
    dialogues: Sequence[Dialogue], *, rule: ValidRule = "latest", share: float = 0.12, seed: int = 0
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Cut a validation split off the train dialogues.

    Args:
        dialogues: all train dialogues.
        rule: "latest" takes the newest by `order` (falls back to "random" where dialogues have none).
        share: of the dialogues, rounded up, but train keeps one.
        seed: of the random cut.

    Returns:
        The remaining train dialogues and the validation dialogues, each in the order of time or of the input.
    """
    # 0.07 * 100 is 7.000000000000001: rounded first. One dialogue at least stays to learn from.
    count = max(0, min(math.ceil(round(len(dialogues) * share, 6)), len(dialogues) - 1))
    if rule == "latest" and all(d.order is not None for d in dialogues):
        in_time = sorted(dialogues, key=lambda d: (d.order, d.dialogue_id))
        return in_time[: len(in_time) - count], in_time[len(in_time) - count :]
    chosen = set(random.Random(seed).sample(range(len(dialogues)), count))
    kept = [d for n, d in enumerate(dialogues) if n not in chosen]
    return kept, [d for n, d in enumerate(dialogues) if n in chosen]


def in_time_order(dialogues: Iterable[Dialogue]) -> list[Dialogue]:
    """Dialogues by `order` where they have one, else as given."""
    listed = list(dialogues)
    return sorted(listed, key=lambda d: d.order or 0) if all(d.order is not None for d in listed) else listed


def distinct(dialogues: Iterable[Dialogue], notes: list[str], what: str) -> list[Dialogue]:
    """Drop repetitions of a dialogue id that are equal in every field.

    Raises:
        DataError: one id stands for two different dialogues.
    """
    by_id: dict[str, Dialogue] = {}
    repeated = 0
    for dialogue in dialogues:
        known = by_id.setdefault(dialogue.dialogue_id, dialogue)
        if known is not dialogue:
            if known != dialogue:
                raise DataError(
                    f"{what}: dialogue id {dialogue.dialogue_id!r} stands for two different dialogues",
                    "give every dialogue an id of its own",
                )
            repeated += 1
    if repeated:
        notes.append(f"{what}: {repeated} dialogues stood there twice and were read once")
    return list(by_id.values())


def check_splits_apart(splits: dict[str, list[Dialogue]]) -> None:
    """Raise a DataError if a dialogue is in two splits."""
    home: dict[str, str] = {}
    for split, dialogues in splits.items():
        for dialogue in dialogues:
            other = home.setdefault(dialogue.dialogue_id, split)
            if other != split:
                raise DataError(
                    f"dialogue {dialogue.dialogue_id!r} is in {other} and in {split}",
                    "a dialogue may be in one split only, or figures would be measured on what was learnt",
                )


def clean(text: str) -> str:
    """A text that can be stored: lone surrogates become the replacement character."""
    return _SURROGATE.sub("\ufffd", text)


_SURROGATE = re.compile("[\ud800-\udfff]")


def with_marks_in_text(turn: Turn, names: dict[str, tuple[str, ...]]) -> Turn:
    """Find the places of mentions that the data give without one.

    Args:
        turn: its item links may lack a place.
        names: item id -> ways to write it, the most precise first. The first place where one stands as whole words,
            whatever the case, and that no other link has taken, is the mention's.
    """
    taken = [(x.start, x.end) for x in turn.links if x.start >= 0]
    links: list[Link] = []
    for link in turn.links:
        if link.kind == "item" and link.start < 0:
            place = _find(turn.text, names.get(link.id, ()), taken)
            if place:
                taken.append(place)
                link = replace(link, start=place[0], end=place[1])
        links.append(link)
    return replace(turn, links=tuple(links))


def _find(text: str, names: Sequence[str], taken: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    for name in names:
        if not name:
            continue
        pattern = r"(?<!\w)" + re.escape(name) + r"(?!\w)"
        for found in re.finditer(pattern, text, re.IGNORECASE):
            if all(found.end() <= start or found.start() >= end for start, end in taken):
                return found.span()
    return None


def items_from_names(names: Iterable[str], make: Callable[[str], Item]) -> list[Item]:
    """One item for each distinct name, in natural order."""
    return [make(name) for name in natural_order(set(names))]
