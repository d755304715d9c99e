"""Whether a film of the item list and a film elsewhere are the same one: by title and year, refused when uncertain.

Knows nothing about where the candidates come from.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rapidfuzz import fuzz

from crscli.catalogue import Item, split_title
from crscli.names import key

Outcome = Literal["matched", "uncertain", "missing"]

ACCEPTED = 0.88  # the least score of a match
MARGIN = 0.08  # by which it must lead the next film
ALIKE = 0.6  # a title less alike is another film
NEAR_YEAR = 0.1  # what a year beside, or an unknown one, costs: then only an equal title is accepted
FAR_YEAR = 0.5

_ARTICLES = ("the", "a", "an")
_NUMBERS = {
    word: str(number)
    for number, words in enumerate(
        ("two ii", "three iii", "four iv", "five v", "six vi", "seven vii", "eight viii", "nine ix", "ten x"), start=2
    )
    for word in words.split()
}
_SUBTITLE = re.compile(r":\s|\s[-–—]\s")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A film elsewhere.

    Args:
        id: what it is called there ("tmdb:603").
        titles: every title it has; the first is shown.
        year: of its release.
        votes: how many people rated it; tells a film from an unknown one of the same title and year.
    """

    id: str
    titles: tuple[str, ...]
    year: int | None = None
    votes: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """The candidate that is the film, or why there is none; the best candidates with their scores, best first."""

    outcome: Outcome
    reason: str
    id: str | None = None
    score: float = 0.0
    candidates: tuple[tuple[Candidate, float], ...] = ()

    def row(self) -> dict[str, Any]:
        """What the list of matches tells of it: the five best candidates, and what settled or hindered it."""
        best = [
            {"id": c.id, "title": c.titles[0], "year": c.year, "score": round(score, 3)}
            for c, score in self.candidates[:5]
        ]
        return {"outcome": self.outcome, "reason": self.reason, "id": self.id, "score": round(self.score, 3)} | (
            {"candidates": best} if best else {}
        )


def title_key(title: str) -> str:
    """What equal titles have in common: normalised words without an article at either end, numbers as digits."""
    words = key(split_title(title)[0]).split()
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    elif len(words) > 1 and words[-1] in _ARTICLES and "," in title:
        words = words[:-1]
    # A single letter is a number at the end only: "Rocky V", but "V for Vendetta".
    numbered = [
        _NUMBERS.get(word, word) if len(word) > 1 or num == len(words) - 1 > 0 else word
        for num, word in enumerate(words)
    ]
    return " ".join(numbered) or " ".join(title.casefold().split())


def title_similarity(one: str, other: str) -> float:
    """How alike two titles are, from 0 to 1; 1 if their keys are equal.

    Other blanks count 0.97 ("S.W.A.T.", "SWAT"), a title without its subtitle 0.9, titles with different numbers
    (sequels) at most 0.5.
    """
    first, second = title_key(one), title_key(other)
    if first == second:
        return 1.0
    if first.replace(" ", "") == second.replace(" ", ""):
        return 0.97
    ratio = fuzz.ratio(first, second) / 100
    main = _main(one), _main(other)
    if (main[0] != one) != (main[1] != other) and title_key(main[0]) == title_key(main[1]):
        return max(ratio, 0.9)
    if _digits(first) != _digits(second):
        return min(ratio, 0.5)
    return ratio


def _main(title: str) -> str:
    return _SUBTITLE.split(title, maxsplit=1)[0]


def _digits(plain: str) -> list[str]:
    return re.findall(r"\d+", plain)


def _alike(titles: Iterable[str], candidate: Candidate) -> float:
    return max((title_similarity(one, other) for one in titles for other in candidate.titles), default=0.0)


def _apart(year: int | None, candidate: Candidate, others: Collection[int]) -> float:
    """What the year takes from the score: an unknown one counts as the year beside."""
    if year is not None and candidate.year == year:
        return 0.0
    if year is not None and candidate.year in others:
        return FAR_YEAR
    unknown = year is None or candidate.year is None
    return NEAR_YEAR if unknown or abs(candidate.year - year) == 1 else FAR_YEAR  # type: ignore[operator]


def _says(titles: Iterable[str], candidate: Candidate) -> bool:
    """Whether a title is the same word for word, articles and numbers too."""
    return not {key(title) for title in titles}.isdisjoint(key(title) for title in candidate.titles)


def choose(
    titles: Sequence[str], year: int | None, candidates: Iterable[Candidate], others: Collection[int] = ()
) -> Match:
    """The one candidate that is the film.

    Refused are a title that is not alike enough, another year than the film's or the one beside it, and a choice
    between films that fit equally well: remakes where the year is not known. Films of the same title and year are
    told apart by votes, where one has 50 and twenty times as many as any other.

    Args:
        titles: of the film; any of them may be the candidate's.
        year: of the film, if known.
        candidates: of distinct ids.
        others: years of which there are other items of this title; a candidate of the year beside may be one of them.
    """
    alike = {c: _alike(titles, c) for c in candidates}
    rated = sorted(
        ((c, a - _apart(year, c, others)) for c, a in alike.items()), key=lambda pair: (-pair[1], -pair[0].votes)
    )
    shown = tuple(rated[:5])
    if not rated:
        return Match("missing", "nothing found")
    best, score = rated[0]
    if score < ACCEPTED:
        if max(alike.values()) < ALIKE:
            return Match("missing", "no title alike", candidates=shown)
        far = alike[best] >= ACCEPTED and _apart(year, best, others) == FAR_YEAR
        why = "the titles are alike, the years are not" if far else "the title is not alike enough"
        return Match("uncertain", why, None, score, shown)
    same_year = year is not None and best.year == year
    exact = _says(titles, best)
    if not exact and not same_year and None not in (year, best.year):
        return Match("uncertain", "neither the title nor the year is quite the same", None, score, shown)
    rivals = [c for c, value in rated[1:] if value > score - MARGIN]
    if exact:  # "The Dark Tower" is not "Dark Tower" where both are there
        rivals = [c for c in rivals if _says(titles, c)]
    if not rivals:
        return Match("matched", "title and year" if same_year else "title", best.id, score, shown)
    if same_year and best.votes >= max(50, *(20 * c.votes for c in rivals)):
        return Match("matched", "title, year and votes", best.id, score, shown)
    return Match("uncertain", f"{len(rivals) + 1} films fit equally well", None, score, shown)


def match_list(items: Sequence[Item], records: Sequence[Item]) -> tuple[dict[str, Item], dict[str, Match]]:
    """Find each item in a list of films: by its item id, by an id both know, else by equal title and year.

    Item ids count if the titles beside them agree for nine of ten: the numbers of another list are no ids of this
    one. A title without a year, on either side, is enough only if all films of that title, here and there, can be
    one. A film that is listed twice is one.

    Args:
        items: of the dataset.
        records: what the list knows of its films; item id, title and year as far as it has them.

    Returns:
        Item id -> record, for those found; item id -> the match, for all.
    """
    by_id = _shared_ids(items, records)
    known = {name: num for num, record in enumerate(records) for name in record.ids}
    by_title: dict[str, dict[int, Item]] = {}
    own_years, years = years_by_title(items), years_by_title((*items, *records))
    for num, record in enumerate(records):
        for name in _keys(record):
            by_title.setdefault(name, {})[num] = record
    found: dict[str, Item] = {}
    matches: dict[str, Match] = {}
    for item in items:
        number = by_id.get(item.item_id)
        if number is not None:
            match = Match("matched", "item id", f"row {number + 1}", 1.0)
        elif shared := [name for name in item.ids if name in known]:
            number = known[shared[0]]
            match = Match("matched", f"both are {shared[0]}", f"row {number + 1}", 1.0)
        else:
            same = {num: record for name in _keys(item) for num, record in by_title.get(name, {}).items()}
            number, match = _by_title(item, _distinct(same), own_years, years)
        matches[item.item_id] = match
        if number is not None:
            found[item.item_id] = records[number]
    return found, matches


def _by_title(
    item: Item, records: Mapping[int, Item], own_years: Mapping[str, set[int]], years: Mapping[str, set[int]]
) -> tuple[int | None, Match]:
    numbers = {f"row {num + 1}": num for num in records}
    candidates = [
        Candidate(name, (records[num].title, *records[num].aliases), records[num].year) for name, num in numbers.items()
    ]
    match = choose((item.title, *item.aliases), item.year, candidates, of_title(item, own_years))
    if match.id is None:
        return None, match
    number = numbers[match.id]
    if item.year is None or records[number].year is None:
        possible = sorted(of_title(item, years))
        if possible and possible[-1] - possible[0] > 1:
            why = f"films of this title are of {', '.join(map(str, possible))}"
            return None, replace(match, outcome="uncertain", id=None, reason=why)
    return number, match


def of_title(film: Item, years: Mapping[str, set[int]]) -> set[int]:
    """The years of the films that have a title of this one."""
    return set().union(*(years.get(name, set()) for name in _keys(film)))


def years_by_title(films: Iterable[Item]) -> dict[str, set[int]]:
    """The years of all films of a title, by the key of the title."""
    found: dict[str, set[int]] = {}
    for film in films:
        if film.year is not None:
            for name in _keys(film):
                found.setdefault(name, set()).add(film.year)
    return found


def _keys(film: Item) -> set[str]:
    return {title_key(title) for title in (film.title, *film.aliases) if title}


def _shared_ids(items: Sequence[Item], records: Sequence[Item]) -> dict[str, int]:
    """Item id -> number of the record that names it; empty if the titles tell that the ids are of another list."""
    titles = {item.item_id: item.title for item in items}
    by_id = {r.item_id: num for num, r in enumerate(records) if r.item_id in titles}
    compared = [(titles[item_id], records[num].title) for item_id, num in by_id.items() if records[num].title]
    agree = sum(title_similarity(one, other) >= ALIKE for one, other in compared)
    return by_id if agree >= 0.9 * len(compared) else {}


def _distinct(records: Mapping[int, Item]) -> dict[int, Item]:
    """Records without those that repeat another one: the same year, and the same plot or some of the same people."""
    kept: dict[int, Item] = {}
    for num, record in records.items():
        if not any(_repeats(record, other) for other in kept.values()):
            kept[num] = record
    return kept


def _repeats(one: Item, other: Item) -> bool:
    people = {*one.directors, *one.cast} & {*other.directors, *other.cast}
    return one.year == other.year and bool(people or (one.plot and one.plot == other.plot))
