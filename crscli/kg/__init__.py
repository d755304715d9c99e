"""The knowledge graph: entities, relations between them, and which entity an item is.

Entities and relations are numbered in the order of their sorted names, so that the same content has the same numbers
on every machine. Knows nothing about where a graph comes from; the modules beside it build one.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from crscli import genres
from crscli.dialogue import Link
from crscli.names import key
from crscli.vocabulary import Vocabulary

Direction = Literal["out", "in"]

PEOPLE = frozenset(
    (
        "author", "cast", "cinematography", "composer", "creator", "directing", "director", "editing", "editor",
        "executiveProducer", "musicComposer", "narrator", "person", "presenter", "producer", "star", "starring",
        "voice", "writer", "writing",
    )
)  # fmt: skip
"""Relations whose tails are people, by the last part of their names."""

GENRE = "genre"
_TYPED = re.compile(r"([a-z_]+):(.+)", re.S)
_IN_BRACKETS = re.compile(r" \([^()]*\)$")
_GENRE_ENDING = re.compile(r" (?:films?|movies?|fiction|\(genre\))$", re.I)


def plain_name(entity: str) -> str:
    """What a person reads: "<http://dbpedia.org/resource/Emma_Stone>" and "person:Emma Stone" give "Emma Stone"."""
    if entity.startswith("<"):
        return unquote(re.split(r"[/#]", entity.strip("<>"))[-1]).replace("_", " ") or entity
    typed = _TYPED.fullmatch(entity)
    return typed.group(2) if typed else entity


@dataclass(frozen=True)
class Neighbour:
    """An edge of an item: `out` if the item is its head."""

    relation: str
    direction: Direction
    name: str


class KnowledgeGraph:
    """Entities, relations and triples.

    Entities are resources ("<http://dbpedia.org/resource/X>") or typed names ("person:Adam Sandler", "genre:comedy",
    "item:12"). Self-loops of every entity, which some models want, are not stored.

    Attributes:
        entities: sorted names.
        relations: sorted names.
        triples: (M, 3) int32 head, relation, tail; sorted and distinct.
        items: ids of the catalogue, in its order.
        item_entities: (N,) int32 the entity of each item, -1 for none; items that are one film share an entity.
    """

    def __init__(
        self,
        entities: Vocabulary,
        relations: Vocabulary,
        triples: np.ndarray,
        items: Vocabulary,
        item_entities: np.ndarray,
    ) -> None:
        self.entities = entities
        self.relations = relations
        self.triples = triples
        self.items = items
        self.item_entities = item_entities

    @classmethod
    def build(
        cls,
        triples: Iterable[tuple[str, str, str]],
        items: Sequence[str],
        linked: Mapping[str, str],
        *,
        others: Collection[str] = (),
    ) -> "KnowledgeGraph":
        """Number a graph.

        Args:
            triples: names of head, relation and tail, in any order; repeats count once.
            items: ids of the catalogue, in its order.
            linked: item id -> its entity; an entity without a triple is kept.
            others: further entities to keep.
        """
        distinct = set(triples)
        names = {name for head, _, tail in distinct for name in (head, tail)}
        names.update(linked.values(), others)
        entities = Vocabulary(sorted(names))
        relations = Vocabulary(sorted({relation for _, relation, _ in distinct}))
        numbers = [(entities.num(h), relations.num(r), entities.num(t)) for h, r, t in distinct]
        array = np.array(sorted(numbers), dtype=np.int32).reshape(-1, 3)
        item_entities = [entities.num(linked[i]) if i in linked else -1 for i in items]
        return cls(entities, relations, array, Vocabulary(items), np.array(item_entities, dtype=np.int32))

    def resolve(self, link: Link) -> int | None:
        """The entity of a link, None if the graph has none.

        A person or a genre is looked up by its name, among people or genres where the graph tells them apart; data that
        were linked to the graph itself may give the entity.
        """
        if link.kind == "item":
            entity = self.item_entities[self.items.num(link.id)] if link.id in self.items else -1
            return None if entity < 0 else int(entity)
        if link.id in self.entities:
            return self.entities.num(link.id)
        name = genres.canonical(link.id) if link.kind == GENRE else link.id
        return self.names.get(f"{link.kind}:{key(name)}")

    @cached_property
    def names(self) -> dict[str, int]:
        """Normalised names of people and genres ("person:emma stone") -> entity.

        A whole name comes before one without its brackets or ending ("Comedy film"), and that before what only means
        the same genre ("Black comedy"); of several entities, the one in most triples counts.
        """
        found: dict[str, int] = {}
        frequent = np.argsort(-self._degrees, kind="stable").tolist()
        for kind, relations in (("person", PEOPLE), (GENRE, {GENRE})):
            of_kind = self._of_kind(kind, relations)
            named = [(num, plain_name(self.entities.ids[num])) for num in frequent if num in of_kind]
            shorter = [(num, _GENRE_ENDING.sub("", _IN_BRACKETS.sub("", name))) for num, name in named]
            meant = [(num, genres.canonical(name)) for num, name in shorter] if kind == GENRE else []
            for num, name in (*named, *shorter, *meant):
                found.setdefault(f"{kind}:{key(name)}", num)
        return found

    def _of_kind(self, kind: str, relations: Collection[str]) -> set[int]:
        """Entities of a type; without types the tails of these relations, and where relations have no names, all."""
        known = {plain_name(name) for name in self.relations.ids}
        if not known & {GENRE, *PEOPLE}:
            return set(range(len(self.entities)))
        wanted = [n for n, name in enumerate(self.relations.ids) if plain_name(name) in relations]
        typed = {n for n, name in enumerate(self.entities.ids) if name.startswith(f"{kind}:")}
        return typed or set(self.triples[np.isin(self.triples[:, 1], wanted), 2].tolist())

    @cached_property
    def linked(self) -> np.ndarray:
        """(N,) whether an item has an entity, other than a node of its own without any triple."""
        own = np.array([name.startswith("item:") for name in self.entities.ids] + [True])
        lonely = own & np.append(self._degrees == 0, True)  # the last place is that of -1
        return ~lonely[self.item_entities]

    @cached_property
    def _degrees(self) -> np.ndarray:
        """(E,) in how many triples each entity is."""
        return np.bincount(self.triples[:, [0, 2]].ravel(), minlength=len(self.entities))

    @cached_property
    def _by_end(self) -> dict[Direction, tuple[np.ndarray, np.ndarray]]:
        """For each direction the ends (sorted) of all triples and the triples in that order."""
        ends: tuple[tuple[Direction, int], ...] = (("out", 0), ("in", 2))
        orders = {name: np.argsort(self.triples[:, end], kind="stable") for name, end in ends}
        return {name: (self.triples[orders[name], end], orders[name]) for name, end in ends}

    def item_neighbours(self) -> sp.csr_array:
        """(N, E) float32, 1 where an item's entity and another share a triple, whatever its direction."""
        size = len(self.entities)
        heads, tails = self.triples[:, 0], self.triples[:, 2]
        ends = (np.concatenate([heads, tails]), np.concatenate([tails, heads]))
        joined = sp.csr_array((np.ones(len(ends[0]), dtype=np.float32), ends), shape=(size, size))
        joined.data[:] = 1.0
        linked = np.flatnonzero(self.item_entities >= 0)
        places = (np.ones(len(linked), dtype=np.float32), (linked, self.item_entities[linked]))
        return sp.csr_array(sp.csr_array(places, shape=(len(self.item_entities), size)) @ joined)

    def neighbourhood(self, item_num: int, limit: int | None = None) -> list[Neighbour]:
        """The edges of an item by relation and name, at most `limit` of each relation and direction."""
        entity = int(self.item_entities[item_num])
        if entity < 0:
            return []
        found: list[Neighbour] = []
        for direction, other in (("out", 2), ("in", 0)):
            ends, order = self._by_end[direction]  # type: ignore[index]
            first, last = np.searchsorted(ends, [entity, entity + 1])
            for triple in self.triples[order[first:last]].tolist():
                relation, name = self.relations.ids[triple[1]], self.entities.ids[triple[other]]
                found.append(Neighbour(plain_name(relation), direction, plain_name(name)))  # type: ignore[arg-type]
        found.sort(key=lambda n: (n.direction != "out", n.relation, n.name))
        seen: Counter[tuple[str, str]] = Counter()
        kept = []
        for neighbour in found:
            seen[neighbour.relation, neighbour.direction] += 1
            if limit is None or seen[neighbour.relation, neighbour.direction] <= limit:
                kept.append(neighbour)
        return kept

    def statistics(self) -> dict[str, Any]:
        """Counts for tables: entities, triples, each relation, and how items are linked."""
        linked = self.item_entities[self.item_entities >= 0]
        counts = np.bincount(self.triples[:, 1], minlength=len(self.relations)).tolist()
        per_relation: Counter[str] = Counter()
        for name, count in zip(self.relations.ids, counts, strict=True):
            per_relation[plain_name(name)] += count
        return {
            "entities": len(self.entities),
            "triples": len(self.triples),
            "relations": len(self.relations),
            "per_relation": dict(sorted(per_relation.items(), key=lambda pair: (-pair[1], pair[0]))),
            "items": len(self.item_entities),
            "linked_items": len(linked),
            "item_entities": len(set(linked.tolist())),
            "isolated_items": int((self._degrees[linked] == 0).sum()),
            "isolated_entities": int((self._degrees == 0).sum()),
        }

    def save(self, directory: Path) -> None:
        """Write the graph into a directory."""
        np.save(directory / "triples.npy", self.triples)
        for name, vocabulary in (("entities", self.entities), ("relations", self.relations)):
            _write(directory / f"{name}.parquet", {"name": pa.array(vocabulary.ids, pa.string())})
        items = {"item_id": pa.array(self.items.ids, pa.string()), "entity": pa.array(self.item_entities, pa.int32())}
        _write(directory / "items.parquet", items)

    @classmethod
    def load(cls, directory: Path) -> "KnowledgeGraph":
        """Read what `save` wrote."""
        entities, relations, items = (_read(directory / f"{n}.parquet") for n in ("entities", "relations", "items"))
        return cls(
            Vocabulary(entities["name"].to_pylist()),
            Vocabulary(relations["name"].to_pylist()),
            np.load(directory / "triples.npy", allow_pickle=False),
            Vocabulary(items["item_id"].to_pylist()),
            items["entity"].to_numpy(),
        )


def _write(path: Path, columns: Mapping[str, pa.Array]) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")


def _read(path: Path) -> pa.Table:
    # One thread: a pool started here would not survive a later fork of the process.
    return pq.read_table(path, use_threads=False)
