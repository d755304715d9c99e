"""How often titles are meant and how often their words are said otherwise, counted in marked dialogues.

Knows nothing about how the counts are weighed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

from crscli.catalogue import Catalogue, split_title
from crscli.dialogue import Dialogue, Turn
from crscli.names import NameIndex, key, tokens

ENOUGH_MARKS = 5_000
"""From so many marks on, a title that was never marked is a rarely named one; below, nothing is known of it."""


@dataclass
class Statistics:
    """Counts over dialogues.

    Args:
        marks: key of a title -> times it was marked.
        others: key -> times its words stand outside of marks.
        words: word -> times it stands outside of marks, and in plots.
        pairs: two words with a blank between -> times they follow one another outside of marks.
        popularity: item id -> times it was mentioned.
    """

    marks: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    popularity: Counter[str] = field(default_factory=Counter)

    def __sub__(self, part: "Statistics") -> "Statistics":
        """What is left without a part of the dialogues."""
        return Statistics(*(getattr(self, name) - getattr(part, name) for name in _NAMES))

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(*(getattr(self, name) + getattr(other, name) for name in _NAMES))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: dict(getattr(self, name).most_common()) for name in _NAMES}

    @classmethod
    def from_json(cls, plain: Mapping[str, Mapping[str, int]]) -> "Statistics":
        """What `to_json` made plain."""
        return cls(*(Counter(plain[name]) for name in _NAMES))


_NAMES = tuple(counter.name for counter in fields(Statistics))


def marks_of(turn: Turn) -> list[tuple[int, int, str]]:
    """(start, end, item id) of the marked films of a turn, by place."""
    return sorted((x.start, x.end, x.id) for x in turn.links if x.kind == "item" and x.start >= 0)


def between(text: str, places: Sequence[tuple[int, int, str]]) -> Iterator[str]:
    """The parts of a text that lie between marks."""
    at = 0
    for start, end, _ in places:
        if start > at:
            yield text[at:start]
        at = max(at, end)
    if at < len(text):
        yield text[at:]


def count(dialogues: Iterable[Dialogue], index: NameIndex) -> Statistics:
    """Count in dialogues whose item links carry places.

    Args:
        dialogues: their marks count as the titles that stand at their places; one without any place says nothing of
            what its words mean.
        index: of the keys whose other occurrences are counted.
    """
    found = Statistics()
    for dialogue in dialogues:
        marks = [marks_of(turn) for turn in dialogue.turns]
        for turn, places in zip(dialogue.turns, marks, strict=True):
            found.popularity.update(turn.items)
            if not any(marks):
                continue
            found.marks.update(key(split_title(turn.text[start:end])[0]) for start, end, _ in places)
            for part in between(turn.text, places):
                words = [token.word for token in tokens(part)]
                found.words.update(words)
                found.pairs.update(map(" ".join, pairwise(words)))
                for first, stop, _ in index.find(words):
                    found.others[" ".join(words[first:stop])] += 1
    return found


def words_of_plots(catalogue: Catalogue) -> Counter[str]:
    """How often words stand in the plots of a catalogue."""
    return Counter(token.word for item in catalogue if item.plot for token in tokens(item.plot))
