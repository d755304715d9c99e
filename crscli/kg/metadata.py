"""The graph of a catalogue's own metadata: films, people, genres, companies, keywords, languages."""

from collections.abc import Iterator

from crscli import genres
from crscli.catalogue import Catalogue, Item
from crscli.kg import KnowledgeGraph


def graph_of(catalogue: Catalogue) -> KnowledgeGraph:
    """All that the catalogue tells; every item is an entity of its own, also one of which nothing is known.

    People are told apart by their names alone: namesakes are one.
    """
    triples = (triple for item in catalogue for triple in _triples(item))
    ids = [item.item_id for item in catalogue]
    return KnowledgeGraph.build(triples, ids, {i: f"item:{i}" for i in ids})


def _triples(item: Item) -> Iterator[tuple[str, str, str]]:
    head = f"item:{item.item_id}"
    values = {
        ("genre", "genre"): tuple(genres.canonical(name) for name in item.genres),
        ("director", "person"): item.directors,
        ("writer", "person"): item.writers,
        ("cast", "person"): item.cast,
        ("company", "company"): tuple(name.lower() for name in item.companies),
        ("keyword", "keyword"): tuple(name.lower() for name in item.keywords),
        ("language", "language"): (item.language,),
    }
    for (relation, kind), names in values.items():
        yield from ((head, relation, f"{kind}:{name}") for name in names if name)
