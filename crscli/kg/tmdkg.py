"""TMDKG, the film graph of KECRS: films and what TMDB tells of them, rare people, keywords and companies left out.

Source: Zhang et al., KECRS (2022), xiaolan98/KECRS; the build script is not public, and the rules are inferred from
the shipped graph: first five of the cast; actors, keywords and companies of at least four films; crew by department,
people of at least eleven credits; all genres; one language. There ids of one title are one film, which joins remakes;
here only ids of one title and year, or of one TMDB number, are.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crscli.catalogue import Catalogue, Item, plain_title
from crscli.kg import KnowledgeGraph

BILLED = 5
MIN_FILMS = 4
MIN_CREDITS = 11
NEVER_RARE = ("directing", "writing")
ACTING = ("Acting", "Actors")

Edge = tuple[str, str, str]
Part = tuple[str, str, str]
"""Department, job and name."""


@dataclass(frozen=True)
class Credit:
    """Somebody's part in the crew of a film; `department` is TMDB's ("Directing", "Costume & Make-Up")."""

    item_id: str
    department: str
    job: str
    name: str


@dataclass(frozen=True)
class Tmdkg:
    """The graph, the items that share a film (the names of each group), and how many titles are of several films."""

    graph: KnowledgeGraph
    joined: list[list[str]]
    remakes: int


def tmdkg(catalogue: Catalogue, credits: Iterable[Credit] = (), *, paper: bool = False) -> Tmdkg:
    """Build the graph.

    Args:
        catalogue: with cast in the order of the billing.
        credits: the crew; without that of a film, its directors and writers are all the crew it has.
        paper: the thresholds hold for directors and writers too, as in the shipped graph, where only a third of the
            films have a director left.
    """
    films = _films(catalogue)
    crew: dict[str, set[Part]] = defaultdict(set)
    for credit in credits:
        if credit.department not in ACTING:
            crew[credit.item_id].add((credit.department.lower(), credit.job, credit.name))
    edges: set[Edge] = set()
    parts: set[tuple[str, Part]] = set()  # of items that are one film they count once
    for item in catalogue:
        film = films[item.item_id]
        edges.update(_facts(item, film))
        parts.update((film, part) for part in crew.get(item.item_id) or _crew_of(item))
    edges.update((film, department, f"person:{name}") for film, (department, _, name) in parts)
    counts = Counter(name for _, (_, _, name) in parts)
    frequent = Counter((relation, tail) for _, relation, tail in edges)
    kept = [edge for edge in edges if _is_kept(edge, frequent, counts, paper)]
    ids = [item.item_id for item in catalogue]
    groups: dict[str, list[str]] = defaultdict(list)
    titles: dict[str, set[str]] = defaultdict(set)
    for item in catalogue:
        groups[films[item.item_id]].append(item.name)
        titles[plain_title(item.title)].add(films[item.item_id])
    joined = [names for names in groups.values() if len(names) > 1]
    remakes = sum(len(same) > 1 for same in titles.values())
    return Tmdkg(KnowledgeGraph.build(kept, ids, films), joined, remakes)


def _films(catalogue: Catalogue) -> dict[str, str]:
    """Item id -> film, called after the first of its items.

    A TMDB number decides where there is one; an item without one is the only film of its title and year, if there is
    exactly one.
    """
    numbers = {item.item_id: next((i for i in item.ids if i.startswith("tmdb:")), None) for item in catalogue}
    by_title: dict[tuple[str, int], set[str]] = defaultdict(set)
    for item in catalogue:
        number = numbers[item.item_id]
        if number and item.year is not None:
            by_title[plain_title(item.title), item.year].add(number)
    first: dict[object, str] = {}
    films = {}
    for item in catalogue:
        named = (plain_title(item.title), item.year) if item.year is not None else (item.item_id, None)
        same = by_title.get(named, set()) if item.year is not None else set()  # type: ignore[arg-type]
        of_title = next(iter(same)) if len(same) == 1 else named
        films[item.item_id] = first.setdefault(numbers[item.item_id] or of_title, f"item:{item.item_id}")
    return films


def _facts(item: Item, film: str) -> Iterable[Edge]:
    values: Mapping[tuple[str, str], Sequence[str]] = {
        ("genre", "genre"): [name.lower() for name in item.genres],
        ("cast", "person"): item.cast[:BILLED],
        ("keyword", "keyword"): [name.lower() for name in item.keywords],
        ("company", "company"): [name.lower() for name in item.companies],
        ("language", "language"): [item.language],
    }
    for (relation, kind), names in values.items():
        yield from ((film, relation, f"{kind}:{name}") for name in names if name)


def _crew_of(item: Item) -> set[Part]:
    known = (("directing", "Director", item.directors), ("writing", "Writer", item.writers))
    return {(department, job, name) for department, job, names in known for name in names}


def _is_kept(edge: Edge, frequent: Counter[tuple[str, str]], counts: Counter[str], paper: bool) -> bool:
    _, relation, tail = edge
    if relation in ("cast", "keyword", "company"):
        return frequent[relation, tail] >= MIN_FILMS
    if relation in ("genre", "language") or (relation in NEVER_RARE and not paper):
        return True
    return counts[tail.partition(":")[2]] >= MIN_CREDITS
