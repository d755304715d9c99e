"""Which film a title means where several have it: by year, "the old one", who plays in it, and how often it is named.

Knows nothing about how titles are found.
"""

import re
from collections.abc import Collection, Sequence

import numpy as np

from crscli.linking.aliases import ARTICLES
from crscli.linking.films import Films
from crscli.linking.message import Message

_EXACT, _SMALL_ARTICLE = 100, 5
"""How many times more the title as typed counts than one with another article; where its article is written small
before a capital ("the Black Panther movie"), it may well be none of the title's."""

_OLD = {"old", "older", "original", "classic", "oldest", "originally"}
_NEW = {"new", "newer", "newest", "remake", "remade", "latest", "recent", "reboot", "rebooted"}
_DECADE = re.compile(r"(?:19|20)?([2-9]0|00|10)s")
_NEAR = 5
"""Words around a title in which a year is about it."""


class Choice:
    """Orders the films of a title, the likeliest first."""

    def __init__(self, films: Films, popularity: np.ndarray) -> None:
        """Args: films; popularity (N,), how often each item is mentioned."""
        self._films, self._popularity = films, popularity
        self._items = films.catalogue.items
        self._known: dict[tuple[tuple[int, ...], int], list[list[int]]] = {}

    def films_of(self, titles: tuple[int, ...], exact: int = _EXACT) -> list[list[int]]:
        """Films of titles as lists of their items, the most popular film and item first.

        Items of one title whose years differ by one at most, or of which one has no year, are one film.
        """
        found = self._known.get((titles, exact))
        if found is None:
            found = self._known[titles, exact] = self._ordered(titles, exact)
        return found

    def _ordered(self, titles: tuple[int, ...], times: int) -> list[list[int]]:
        groups: list[tuple[float, int, int, list[int]]] = []
        related = [t for title in titles for t in self._films.related(title) if t not in titles]
        for title in dict.fromkeys((*titles, *related)):
            exact = title in titles
            items = sorted(self._films.items_of(title), key=self._rank)
            films: list[list[int]] = []
            for item in items:
                same = next((film for film in films if self._is_same(film[0], item)), None)
                if same is None:
                    films.append([item])
                else:
                    same.append(item)
            for film in films:
                weight = float(self._popularity[film].sum()) * (times if exact else 1)
                groups.append((-weight, not exact, -(self._items[film[0]].year or 0), film))
        return [film for *_, film in sorted(groups)]

    def _rank(self, item: int) -> tuple[float, int]:
        return -float(self._popularity[item]), -(self._items[item].year or 0)

    def _is_same(self, one: int, other: int) -> bool:
        first, second = self._items[one].year, self._items[other].year
        return first is None or second is None or abs(first - second) <= 1

    def year_of(self, film: Sequence[int]) -> int | None:
        """The year of a film: that of its most popular item that has one."""
        return next((year for item in film if (year := self._items[item].year) is not None), None)

    def with_year(self, titles: tuple[int, ...], year: int, slack: int = 1) -> list[list[int]]:
        """The films of a title, those of a year first; an empty list if none is."""
        films = self.films_of(titles)
        exact: list[list[int]] = []
        near: list[list[int]] = []
        rest: list[list[int]] = []
        for film in films:
            years = [self._items[item].year for item in film]
            if year in years:
                film = sorted(film, key=lambda item: self._items[item].year != year)
                exact.append(film)
            elif any(y is not None and abs(y - year) <= slack for y in years):
                near.append(film)
            else:
                rest.append(film)
        return exact + near + rest if exact or near else []

    def choose(
        self, titles: tuple[int, ...], message: Message, first: int, stop: int, people: Collection[str] = ()
    ) -> list[list[int]]:
        """The films of a title said in a message, the likeliest first.

        Args:
            titles: numbers of the titles.
            message: where it is said.
            first: its first word.
            stop: the word after its last.
            people: named in the message.
        """
        words, capital = message.words, message.capital
        is_small = stop - first > 1 and words[first] in ARTICLES and not capital[first] and capital[first + 1]
        films = self.films_of(titles, _SMALL_ARTICLE if is_small else _EXACT)
        if len(films) == 1:
            return films
        for at in (*range(stop, min(stop + _NEAR, len(words))), *range(max(first - _NEAR, 0), first)):
            year = message.year_of(at)
            if year is not None and (found := self.with_year(titles, year, 0)):
                return found
            decade = _DECADE.fullmatch(words[at])
            if decade and (found := self._of_decade(films, int(decade.group(1)))):
                return found
        return self._by_age(films, words, first, stop) or self._with_people(films, people) or films

    def _of_decade(self, films: list[list[int]], decade: int) -> list[list[int]]:
        chosen = [film for film in films if (year := self.year_of(film)) and (year - decade) % 100 < 10]
        return _first(chosen, films)

    def _by_age(self, films: list[list[int]], words: list[str], first: int, stop: int) -> list[list[int]]:
        """By "the old", "the original", "the new" directly before it, "remake" after it."""
        dated = [film for film in films if self.year_of(film) is not None]
        if len(dated) < 2:
            return []
        before = words[first - 1] if first else ""
        after = words[stop] if stop < len(words) else ""
        further = words[stop + 1] if stop + 1 < len(words) else ""
        if before in _OLD or after == "original" or (after == "the" and further == "original"):
            named = [film for film in dated if self._popularity[film].sum() > 0]
            return _first([min(named or dated, key=lambda film: self.year_of(film) or 0)], films)
        if before in _NEW or after in ("remake", "reboot"):
            return _first([max(dated, key=lambda film: self.year_of(film) or 0)], films)
        return []

    def _with_people(self, films: list[list[int]], people: Collection[str]) -> list[list[int]]:
        """By somebody named in the message who is known to have made one of them."""
        if not people:
            return []
        chosen = []
        for film in films:
            made = {p for i in film for p in (*self._items[i].cast, *self._items[i].directors, *self._items[i].writers)}
            if not made.isdisjoint(people):
                chosen.append(film)
        return _first(chosen, films) if len(chosen) < len(films) else []


def _first(chosen: list[list[int]], films: list[list[int]]) -> list[list[int]]:
    return chosen + [film for film in films if film not in chosen] if chosen else []
