"""The films of a catalogue by name: which titles stand in a list of words, and which film a title means.

Knows titles, other names and how often films are mentioned; what a sentence tells is the linker's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crscli.catalogue import Catalogue, Item
from crscli.linking.aliases import ARTICLES, BY_HAND, article_forms, numerals, parts, without_article
from crscli.linking.fuzzy import HalfIndex
from crscli.names import NameIndex, key


@dataclass(frozen=True, slots=True)
class Name:
    """A key under which films are found."""

    key: str
    kind: str
    """title, numeral, article, part, short, front, hand or alias."""
    titles: tuple[int, ...]
    """Numbers of the titles it stands for."""


class Films:
    """Titles and other names of all items."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Index the names; a title without a letter or digit cannot be found."""
        self.catalogue = catalogue
        self._numbers: dict[str, int] = {}
        of_title: list[int] = []
        for item in catalogue:
            name = key(item.title)
            of_title.append(self._numbers.setdefault(name, len(self._numbers)) if name else -1)
        self._title_of = np.array(of_title, dtype=np.int32)
        known = np.flatnonzero(self._title_of >= 0)
        order = known[np.argsort(self._title_of[known], kind="stable")]
        self._items = order.astype(np.int32)
        self._starts = np.searchsorted(self._title_of[order], np.arange(len(self._numbers) + 1)).astype(np.int32)
        self.keys = list(self._numbers)
        others = self._other_names()
        self.index = NameIndex((*self.keys, *others))
        self.halves = HalfIndex(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, number: int) -> Name:
        """The name of a number of the index."""
        if number < len(self.keys):
            return Name(self.keys[number], "title", (number,))
        number -= len(self.keys)
        return Name(self._others[number], self._kinds[number], self._targets[number])

    def items_of(self, title: int) -> list[int]:
        """Items of a title."""
        return self._items[self._starts[title] : self._starts[title + 1]].tolist()

    def related(self, title: int) -> list[int]:
        """Titles that differ from a title in the leading article alone."""
        numbers = (self._numbers.get(form) for form in article_forms(self.keys[title]))
        return [number for number in numbers if number is not None]

    def _other_names(self) -> list[str]:
        """Fill in the other names, none of which is a title."""
        found = _OtherNames(self._numbers)
        for other, titles in BY_HAND.items():
            known = (self._numbers.get(key(title)) for title in titles)
            title = next((number for number in known if number is not None), None)
            if title is not None:
                found.add(other, "hand", title)
        for title, name in enumerate(self.keys):
            found.add_forms(name, title)
        for number, item in enumerate(self.catalogue):
            if self._title_of[number] >= 0:
                found.add_parts(item, int(self._title_of[number]))
        found.drop_shared_fronts()
        self._targets = [titles if isinstance(titles, tuple) else (titles,) for titles in found.titles.values()]
        self._kinds = [found.kinds[other] for other in found.titles]
        self._others = list(found.titles)
        return self._others


class _OtherNames:
    """Other names as they are gathered: the first kind of a name stays, and a title's key is none."""

    def __init__(self, taken: Mapping[str, int]) -> None:
        self._taken = taken
        self.kinds: dict[str, str] = {}
        # A single title, of which most names have one, takes no tuple.
        self.titles: dict[str, int | tuple[int, ...]] = {}

    def add(self, other: str, kind: str, title: int) -> None:
        if not other or other in self._taken or self.kinds.setdefault(other, kind) != kind:
            return
        known = self.titles.setdefault(other, title)
        if known != title:
            before = known if isinstance(known, tuple) else (known,)
            self.titles[other] = before if title in before else (*before, title)

    def add_forms(self, name: str, title: int) -> None:
        """Other numerals and no article."""
        for form in numerals(name):
            self.add(form, "numeral", title)
        plain = without_article(name)
        if plain:
            self.add(plain, "article", title)
            for form in numerals(plain):
                self.add(form, "article", title)

    def add_parts(self, item: Item, title: int) -> None:
        """The item's own aliases, and what stands before and after its colons."""
        for alias in item.aliases:
            self.add(key(alias), "alias", title)
        front, *_, back = parts(item.title) or ("", "")
        if back:
            self.add(back, "part", title)
            self.add(f"{front} {back}", "short", title)
        if front not in ARTICLES:
            self.add(front, "front", title)

    def drop_shared_fronts(self) -> None:
        """What stands before the colon of several titles names none of them."""
        for other in [o for o, kind in self.kinds.items() if kind == "front" and isinstance(self.titles[o], tuple)]:
            del self.titles[other]
