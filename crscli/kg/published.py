"""Graphs that others published, as their folders hold them.

UniCRS and its forks: dbpedia_subkg.json, entity2id.json, relation2id.json, item_ids.json. KBRD and KGSF: subkg.json,
entity2entityId.json, id2entity.json (pickles made JSON). iEvaLM and CFCRS: kg.json, entity2id.json, relation2id.json,
entity2type.json, and id2info.json for ReDial. Every file may be gzipped. Their numbers are not kept: they differ from
build to build.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crscli.catalogue import Catalogue, split_title
from crscli.errors import DataError
from crscli.kg import KnowledgeGraph
from crscli.kg.films import FILM_MARKS, FilmName, Matched, film_names, match

FORMS: dict[str, tuple[str, ...]] = {
    "unicrs": ("dbpedia_subkg.json", "entity2id.json", "relation2id.json"),
    "kgsf": ("subkg.json", "entity2entityId.json"),
    "ievalm": ("kg.json", "entity2id.json", "relation2id.json", "entity2type.json"),
}
"""Form of a published graph -> the files that tell it."""

_FURTHER = ("item_ids.json", "id2entity.json", "id2info.json", "movie_ids.json")
_LOOP = "self_loop"


@dataclass(frozen=True)
class Published:
    """A graph by names: entities, triples, the films among the entities, and the items that the files link."""

    form: str
    entities: list[str]
    triples: list[tuple[str, str, str]]
    films: dict[str, list[FilmName]]
    item_links: dict[str, str] = field(default_factory=dict)


def find(folder: Path) -> tuple[str, dict[str, Path]] | None:
    """The form of the graph in a folder and its files by name; None if it is none."""
    there = {p.name.removesuffix(".gz"): p for p in sorted(folder.iterdir()) if p.is_file()} if folder.is_dir() else {}
    for form, names in FORMS.items():
        if all(name in there for name in names):
            return form, {name: there[name] for name in (*names, *_FURTHER) if name in there}
    return None


def read(form: str, files: Mapping[str, Path]) -> Published:
    """Read a graph that `find` found.

    Raises:
        DataError: a file is not what its name says, or its numbers fit no entity or relation.
    """
    return _read_kgsf(files) if form == "kgsf" else _read_named(form, files)


def import_graph(
    published: Published, catalogue: Catalogue, given: Mapping[str, str]
) -> tuple[KnowledgeGraph, Matched]:
    """The graph with the catalogue's items linked to it.

    An item is the entity that the user's map says, or the one of its own id where ids are resources, or the one
    that the files say, or else the film of its title and year.

    Args:
        published: as read.
        catalogue: whose items are linked.
        given: item id -> resource, from the user.
    """
    known = set(published.entities)
    linked: dict[str, str] = {}
    for item in catalogue:
        for entity in (given.get(item.item_id), f"<{item.item_id}>", published.item_links.get(item.item_id)):
            if entity in known and item.item_id not in linked:
                linked[item.item_id] = entity
    names = (name for of_film in published.films.values() for name in of_film)
    matched = match(catalogue, names, settled=linked)
    ids = [item.item_id for item in catalogue]
    graph = KnowledgeGraph.build(published.triples, ids, matched.linked, others=published.entities)
    return graph, matched


def read_item_uris(path: Path) -> dict[str, str]:
    """A map of items to resources: a JSON object {item id: resource or null}, such as KGSF's id2entity.json.

    Raises:
        DataError: it is none.
    """
    found = {}
    for item_id, resource in _object(path).items():
        if isinstance(resource, str):
            found[item_id] = resource if resource.startswith("<") else f"<{resource}>"
        elif resource is not None:
            raise DataError(f"item {item_id!r}: a resource was expected, found {resource!r:.60}", path=path)
    return found


def _read_named(form: str, files: Mapping[str, Path]) -> Published:
    """UniCRS's and iEvaLM's form: names and numbers of entities and relations, and edges by head."""
    names = _numbered(files["entity2id.json"])
    relations = _numbered(files["relation2id.json"])
    edges = files["dbpedia_subkg.json" if form == "unicrs" else "kg.json"]
    if form == "ievalm":
        types = _object(files["entity2type.json"])
        names = {num: f"{types.get(name, 'entity')}:{name}" for num, name in names.items()}
    triples = _triples(edges, names, relations)
    # The lists of items are of what recommenders name, in some releases; what has actors or directors is a film too.
    films = {head for head, relation, _ in triples if relation in FILM_MARKS or form == "ievalm"}
    if "item_ids.json" in files:
        nums = _value(files["item_ids.json"], list)
        films.update(_lookup(names, num, "entity", files["item_ids.json"]) for num in nums)
    links = {}
    if "id2info.json" in files:
        for item_id, info in _object(files["id2info.json"]).items():
            links[item_id] = f"movie:{info.get('name') if isinstance(info, dict) else None}"
    return Published(form, list(names.values()), triples, {f: _names_of(f) for f in sorted(films)}, links)


def _read_kgsf(files: Mapping[str, Path]) -> Published:
    """KBRD's and KGSF's form: relations have no names, and films without a resource stand under their ReDial id."""
    names = {
        num: name if name.startswith("<") else f"item:{name}"
        for num, name in _numbered(files["entity2entityId.json"]).items()
    }
    triples = _triples(files["subkg.json"], names, None)
    links = read_item_uris(files["id2entity.json"]) if "id2entity.json" in files else {}
    links |= {name.removeprefix("item:"): name for name in names.values() if name.startswith("item:")}
    films = {f: _names_of(f) for f in sorted(set(links.values())) if f.startswith("<")}
    return Published("kgsf", list(names.values()), triples, films, links)


def _names_of(entity: str) -> list[FilmName]:
    if entity.startswith("<"):
        return list(film_names(entity))
    title, year = split_title(entity.partition(":")[2])
    return [FilmName(entity, title, year)]


def _triples(path: Path, names: Mapping[int, str], relations: Mapping[int, str] | None) -> list[tuple[str, str, str]]:
    """Distinct triples by name; the self-loops that were added for the model are left out.

    Without names of relations, the one that has nothing but loops was added.
    """
    edges: set[tuple[int, int, int]] = set()
    try:
        for head, pairs in _object(path).items():
            edges.update((int(head), int(relation), int(tail)) for relation, tail in pairs)
    except (TypeError, ValueError):
        raise DataError('{"head": [[relation, tail], ...]} was expected', path=path) from None
    if relations is None:
        numbers = {relation for _, relation, _ in edges}
        proper = {relation for head, relation, tail in edges if head != tail}
        relations = {n: f"relation:{n:03}" if n in proper else _LOOP for n in numbers}
    triples = {
        (_lookup(names, h, "entity", path), _lookup(relations, r, "relation", path), _lookup(names, t, "entity", path))
        for h, r, t in edges
    }
    return sorted(triple for triple in triples if triple[1] != _LOOP)


def _lookup(names: Mapping[int, str], num: Any, what: str, path: Path) -> str:
    if not isinstance(num, int) or num not in names:
        raise DataError(f"{what} {num!r:.40} has no name", "are all files of the same graph?", path=path)
    return names[num]


def _numbered(path: Path) -> dict[int, str]:
    """Number -> name, of a file name -> number."""
    found = _object(path)
    if not all(isinstance(num, int) for num in found.values()) or len(set(found.values())) != len(found):
        raise DataError("every name must have a number of its own", path=path)
    return {num: name for name, num in found.items()}


def _object(path: Path) -> dict[str, Any]:
    return _value(path, dict)


def _value(path: Path, want: type[dict] | type[list]) -> Any:
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        value = json.loads(raw)
        if b"\\ud" in raw.lower():  # half of a surrogate pair cannot be written anywhere again
            json.dumps(value, ensure_ascii=False).encode()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the archive is damaged ({error})", "fetch the file again", path=path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {str(error)[:120]}", path=path) from None
    if not isinstance(value, want):
        raise DataError(f"a JSON {'object' if want is dict else 'list'} was expected", path=path)
    return value
