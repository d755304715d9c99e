"""How well a linker finds the films that a dataset marks, in five ways of writing them.

Figures are at three levels: the title is right, the film is right (years equal, one apart or missing), the id is
right. A link in a message without marks counts as wrong. Knows no dataset.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from crscli.catalogue import Catalogue, split_title
from crscli.dialogue import Dialogue, Link, Role, Turn
from crscli.linking import Linker
from crscli.linking.statistics import marks_of
from crscli.linking.variants import TYPO_LETTERS, variant
from crscli.names import key
from crscli.progress import Progress, silent

LEVELS = ("title", "film", "id")
VARIANTS = {
    "a": "as marked",
    "b": "without years",
    "c": "without years, all small",
    "d": "without years, a typo in titles of 8 letters",
    "e": "without years, three titles of ten in another case",
}


def measure(
    linker: Linker,
    dialogues: Sequence[Dialogue],
    *,
    variants: str = "abcde",
    seed: int = 0,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Link dialogues and compare with their marks.

    Args:
        linker: what is measured.
        dialogues: their item links carry places; a link without a place is left out.
        variants: letters of VARIANTS.
        seed: of typos and cases.
        progress: told of the dialogues done.

    Returns:
        One row a variant: variant, messages, marks, links; recall and precision by level ("recall title", ...),
        "precision marked" (title, messages with a mark only), "unmarked linked" (share of the messages without a
        mark that get a film). Recall of variant d is also given over the titles that got a typo ("recall typo").
    """
    reader = _Reader(linker)
    return [_measured(reader, dialogues, letter, seed, progress) for letter in variants]


class _Reader:
    """Links films; a message that follows the same one again, as most do from variant to variant, is read once."""

    def __init__(self, linker: Linker) -> None:
        self.linker = linker
        self._known: dict[tuple[str, str, bool, Role], tuple[Link, ...]] = {}

    def films(self, dialogue: Dialogue) -> list[list[Link]]:
        """The film links with a place of each turn; what the linker finds depends on the turn before alone."""
        read: list[Turn] = []
        for turn in dialogue.turns:
            last = read[-1] if read else Turn("seeker", "")
            which = (turn.text, last.text, bool(last.items), turn.role)
            if which not in self._known:
                found = self.linker.link(turn.text, read, role=turn.role)
                self._known[which] = tuple(link for link in found if link.kind == "item" and link.start >= 0)
            read.append(Turn(turn.role, turn.text, self._known[which]))
        return [list(turn.links) for turn in read]


def _measured(
    reader: _Reader, dialogues: Sequence[Dialogue], letter: str, seed: int, progress: Progress
) -> dict[str, Any]:
    draw = random.Random(seed)
    counts: Counter[str] = Counter()
    same = _levels(reader.linker.catalogue)
    for done, dialogue in enumerate(dialogues):
        progress(f"linking ({letter})", done, len(dialogues))
        written = variant(dialogue, letter, draw)
        originals = variant(dialogue, "b", draw) if letter == "d" else written
        for turn, original, links in zip(written.turns, originals.turns, reader.films(written), strict=True):
            marks = marks_of(turn)
            titles = [original.text[start:end] for start, end, _ in marks_of(original)]
            _compare(links, marks, titles, same, counts)
    return _row(letter, counts)


def _compare(
    links: list[Link],
    marks: list[tuple[int, int, str]],
    titles: list[str],
    same: Callable[[str, str], tuple[str, ...]],
    counts: Counter[str],
) -> None:
    """Count one message; each mark is hit once."""
    counts["messages"] += 1
    counts["marks"] += len(marks)
    counts["links"] += len(links)
    if marks:
        counts["marked links"] += len(links)
    else:
        counts["unmarked"] += 1
        counts["unmarked linked"] += bool(links)
    free = list(links)
    for (start, end, item), title in zip(marks, titles, strict=True):
        has_typo = sum(map(str.isalpha, title)) >= TYPO_LETTERS
        counts["typos"] += has_typo
        over = [link for link in free if link.start < end and start < link.end]
        if not over:
            continue
        levels = {link: same(link.id, item) for link in over}
        best = max(over, key=lambda link: len(levels[link]))
        free.remove(best)
        for level in levels[best]:
            counts[level] += 1
            counts[f"typo {level}"] += has_typo


def _levels(catalogue: Catalogue) -> Callable[[str, str], tuple[str, ...]]:
    """A function (linked id, marked id) -> the levels at which they are the same."""

    def facts(item_id: str) -> tuple[str, int | None]:
        if item_id in catalogue:
            item = catalogue.item(item_id)
            return key(item.title), item.year
        title, year = split_title(item_id)
        return key(title), year

    def same(linked: str, marked: str) -> tuple[str, ...]:
        if linked == marked:
            return LEVELS
        (title, year), (other, its_year) = facts(linked), facts(marked)
        if title != other:
            return ()
        is_film = year is None or its_year is None or abs(year - its_year) <= 1
        return LEVELS[:2] if is_film else LEVELS[:1]

    return same


def _row(letter: str, counts: Counter[str]) -> dict[str, Any]:
    def share(part: str, whole: str) -> float:
        return round(counts[part] / counts[whole], 4) if counts[whole] else 0.0

    row: dict[str, Any] = {"variant": letter, "messages": counts["messages"], "marks": counts["marks"]}
    row["links"] = counts["links"]
    for level in LEVELS:
        row[f"recall {level}"] = share(level, "marks")
    for level in LEVELS:
        row[f"precision {level}"] = share(level, "links")
    row["precision marked"] = share("title", "marked links")
    row["unmarked linked"] = share("unmarked linked", "unmarked")
    if letter == "d":
        row["typos"] = counts["typos"]
        row["recall typo"] = share("typo title", "typos")
    return row
