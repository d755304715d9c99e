"""Which film of a graph an item of the catalogue is, by title and year. Remakes never become one film.

Knows the names that Wikipedia gives to films: "Emma (2020 film)", "Emma (film)", "Emma".
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from crscli.catalogue import Item
from crscli.kg import plain_name
from crscli.kg.cut import ONTOLOGY, Dump
from crscli.names import key

FILM_MARKS = frozenset(
    f"<{ONTOLOGY}{name}>" for name in ("starring", "director", "cinematography", "editing", "musicComposer")
)
"""What has one of these is a film, or a series."""

REDIRECT = f"<{ONTOLOGY}wikiPageRedirects>".encode()
RENAMES = (REDIRECT, f"<{ONTOLOGY}wikiPageDisambiguates>".encode())

_BRACKET = re.compile(r"^(?P<title>.+?) \((?:(?P<year>(?:18|19|20|21)\d\d)\b ?)?(?P<kind>[^()]*)\)$")
_FILM = re.compile(r"\bfilm\b")
_OTHER = re.compile(r"\b(?:series|serial|miniseries|TV|television|franchise|anime|film series)\b", re.I)
_ARTICLE_LAST = re.compile(r"(.+), (the|a|an)", re.I)


@dataclass(frozen=True)
class FilmName:
    """A name of a film: `rank` 0 where the name says that it is a film, 1 where it says nothing, 2 for a series, 3
    for something else of that name.
    """

    entity: str
    title: str
    year: int | None
    rank: int = 0


@dataclass(frozen=True)
class Matched:
    """Item id -> entity; and the names of items that several films or several items contend for."""

    linked: dict[str, str]
    ambiguous: list[str]


def film_names(entity: str, called: str | None = None) -> Iterator[FilmName]:
    """The names of a film taken apart; `called` is another resource that leads to it."""
    name = plain_name(called or entity)
    found = _BRACKET.fullmatch(name)
    year = int(found["year"]) if found and found["year"] else None
    if found and _OTHER.search(found["kind"]):
        yield FilmName(entity, found["title"], year, 2)
    elif found and (_FILM.search(found["kind"]) or (year and not found["kind"])):
        yield FilmName(entity, found["title"], year)
    else:
        yield FilmName(entity, name, None, 1)  # a bracket may be part of the title
        if found:
            yield FilmName(entity, found["title"], None, 3)


def films_of_dump(dump: Dump) -> set[str]:
    """The resources of a dump that are films or series by what is said of them."""
    marks = [mark.encode() for mark in FILM_MARKS]
    return {head.decode() for head, _, _ in dump.triples(1, marks) if b"dbpedia" in head}


def further_names(renames: Dump, films: Iterable[str]) -> Iterator[FilmName]:
    """Names of resources that redirect to films, or of disambiguation pages that list them."""
    for head, relation, tail in renames.triples(2, {film.encode() for film in films}):
        if relation in RENAMES:
            yield from film_names(tail.decode(), head.decode())


def renamed(renames: Dump, linked: Mapping[str, str]) -> dict[str, str]:
    """Links with the resources that theirs redirect to."""
    redirects = (t for t in renames.triples(0, {uri.encode() for uri in linked.values()}) if t[1] == REDIRECT)
    now = {head.decode(): tail.decode() for head, _, tail in redirects}
    return {item_id: now.get(uri, uri) for item_id, uri in linked.items()}


def match(
    catalogue: Iterable[Item],
    names: Iterable[FilmName],
    further: Iterable[FilmName] = (),
    *,
    settled: Mapping[str, str] = MappingProxyType({}),
) -> Matched:
    """The film of each item.

    The best of: a film of the title and year; one that redirects from them; one of the title whose name has no year;
    one that is a year off; a series; one that redirects from the title; what else has the title. What is equally good
    is left out, and so is an entity that items of several years want equally: those are remakes.

    Args:
        catalogue: all items.
        names: what the films of the graph are called.
        further: other names of theirs.
        settled: item id -> entity of items that are linked already; they are in the result.
    """
    by_title: dict[str, list[tuple[FilmName, bool]]] = defaultdict(list)
    for own, group in ((True, names), (False, further)):
        for name in group:
            by_title[_title_key(name.title)].append((name, own))
    claims: dict[str, list[tuple[int, Item]]] = defaultdict(list)
    ambiguous = []
    for item in catalogue:
        if item.item_id in settled:
            claims[settled[item.item_id]].append((-1, item))
            continue
        ranked = _ranked(item, by_title)
        best = [entity for entity, rank in ranked.items() if rank == min(ranked.values())]
        if len(best) == 1:
            claims[best[0]].append((ranked[best[0]], item))
        elif best:
            ambiguous.append(item.name)
    linked = {}
    for entity, wanted in claims.items():
        first = min(rank for rank, _ in wanted)
        years = {item.year for rank, item in wanted if rank == first and item.year is not None}
        for rank, item in wanted:
            if rank < 0 or (_one_film(years) and (item.year is None or _one_film(years | {item.year}))):
                linked[item.item_id] = entity
            else:
                ambiguous.append(item.name)
    return Matched(linked, ambiguous)


def _ranked(item: Item, by_title: Mapping[str, list[tuple[FilmName, bool]]]) -> dict[str, int]:
    """The films of an item's titles, with how well they fit."""
    ranked: dict[str, int] = {}
    for title in {_title_key(t) for t in (item.title, *item.aliases)}:
        for name, own in by_title.get(title, ()):
            rank = _rank(item.year, name, own)
            if rank is not None:
                ranked[name.entity] = min(rank, ranked.get(name.entity, rank))
    return ranked


def _title_key(title: str) -> str:
    found = _ARTICLE_LAST.fullmatch(title)
    return key(f"{found[2]} {found[1]}" if found else title)


def _one_film(years: set[int]) -> bool:
    """Whether the years of items of one title can be those of one film: sources differ by one."""
    return not years or max(years) - min(years) <= 1


def _rank(year: int | None, name: FilmName, own: bool) -> int | None:
    """How well a name of the right title fits the year, the best 0; None if it does not."""
    if name.year is not None:
        if year == name.year:
            return 0 if own else 1
        if year is None:
            return 8 if own else None
        return 4 if own and abs(year - name.year) == 1 else None
    return (2, 3, 5, 9)[name.rank] if own else (6, 6, 7, 10)[name.rank]
