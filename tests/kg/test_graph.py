import random

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Link
from crscli.kg import KnowledgeGraph, Neighbour, plain_name
from crscli.kg.metadata import graph_of

DBPEDIA = "<http://dbpedia.org/resource/{}>"
ONTOLOGY = "<http://dbpedia.org/ontology/{}>"


def resource(name):
    return DBPEDIA.format(name)


def edge(head, relation, tail):
    return resource(head), ONTOLOGY.format(relation), resource(tail)


EDGES = [
    edge("Emma_(2020_film)", "starring", "Anya_Taylor-Joy"),
    edge("Emma_(2020_film)", "starring", "Bill_Nighy"),
    edge("Emma_(2020_film)", "director", "Autumn_de_Wilde"),
    edge("Emma_(2020_film)", "genre", "Comedy_film"),
    edge("Emma_(2020_film)", "genre", "Black_comedy"),
    edge("Underworld", "starring", "Bill_Nighy"),
    edge("Underworld", "genre", "Black_comedy"),
    edge("Underworld", "subsequentWork", "Emma_(2020_film)"),
]
ITEMS = ["1", "2", "3"]
LINKED = {"1": resource("Emma_(2020_film)"), "2": resource("Underworld")}


@pytest.fixture
def graph():
    return KnowledgeGraph.build(EDGES, ITEMS, LINKED, others=[resource("Alone")])


def test_entities_and_relations_are_numbered_in_the_order_of_their_names(graph):
    assert graph.entities.ids == tuple(sorted(graph.entities.ids))
    assert graph.relations.ids == tuple(sorted(graph.relations.ids))
    assert len(graph.entities) == 8
    assert resource("Alone") in graph.entities
    assert graph.triples.dtype == np.int32
    assert graph.triples.tolist() == sorted(graph.triples.tolist())
    assert graph.item_entities.tolist() == [graph.entities.num(LINKED["1"]), graph.entities.num(LINKED["2"]), -1]
    named = {(graph.entities.ids[h], graph.relations.ids[r], graph.entities.ids[t]) for h, r, t in graph.triples}
    assert named == set(EDGES)


def test_shuffled_and_repeated_input_gives_the_same_bytes(graph, tmp_path):
    made, other = tmp_path / "a", tmp_path / "b"
    made.mkdir()
    other.mkdir()
    graph.save(made)
    shuffled = EDGES * 2
    random.Random(0).shuffle(shuffled)
    KnowledgeGraph.build(shuffled, ITEMS, dict(reversed(LINKED.items())), others=[resource("Alone")]).save(other)
    files = sorted(p.name for p in made.iterdir())
    assert files == ["entities.parquet", "items.parquet", "relations.parquet", "triples.npy"]
    for name in files:
        assert (made / name).read_bytes() == (other / name).read_bytes()


def test_a_saved_graph_is_loaded_as_it_was(graph, tmp_path):
    graph.save(tmp_path)
    again = KnowledgeGraph.load(tmp_path)
    assert again.entities.digest == graph.entities.digest
    assert again.relations.ids == graph.relations.ids
    assert again.items.ids == tuple(ITEMS)
    np.testing.assert_array_equal(again.triples, graph.triples)
    np.testing.assert_array_equal(again.item_entities, graph.item_entities)


def test_an_empty_graph_is_one_too(tmp_path):
    graph = KnowledgeGraph.build([], ["1"], {})
    assert graph.triples.shape == (0, 3)
    graph.save(tmp_path)
    assert KnowledgeGraph.load(tmp_path).statistics()["entities"] == 0
    assert graph.neighbourhood(0) == []
    assert graph.linked.tolist() == [False]


@pytest.mark.parametrize(
    ("kind", "name", "entity"),
    [
        ("item", "2", "Underworld"),
        ("item", "3", None),
        ("item", "99", None),
        ("person", "Bill Nighy", "Bill_Nighy"),
        ("person", "anya taylor joy", "Anya_Taylor-Joy"),
        ("person", "Emma", None),
        ("person", "Comedy film", None),
        ("genre", "comedy", "Comedy_film"),
        ("genre", "dark", None),
        ("genre", "Bill Nighy", None),
    ],
)
def test_links_are_resolved_by_item_or_by_name_of_their_kind(graph, kind, name, entity):
    found = graph.resolve(Link(kind, name))
    assert found == (None if entity is None else graph.entities.num(resource(entity)))


def test_a_genre_that_only_means_the_same_comes_after_the_one_called_so():
    only = KnowledgeGraph.build([edge("A", "genre", "Black_comedy")], [], {})
    assert only.resolve(Link("genre", "comedy")) == only.entities.num(resource("Black_comedy"))


def test_typed_names_are_told_apart_by_their_type():
    triples = [
        ("item:1", "cast", "person:Drama"),
        ("item:1", "genre", "genre:drama"),
        ("item:1", "genre", "genre:sci-fi"),
    ]
    graph = KnowledgeGraph.build(triples, ["1"], {"1": "item:1"})
    for kind, name, entity in (
        ("person", "drama", "person:Drama"), ("genre", "Drama", "genre:drama"),
        ("genre", "Science Fiction", "genre:sci-fi"),
    ):  # fmt: skip
        assert graph.resolve(Link(kind, name)) == graph.entities.num(entity)


def test_where_relations_have_no_names_any_entity_is_found():
    graph = KnowledgeGraph.build([(resource("A"), "relation:001", resource("Bill_Nighy"))], [], {})
    assert graph.resolve(Link("person", "Bill Nighy")) == graph.entities.num(resource("Bill_Nighy"))


def test_the_neighbourhood_is_ordered_and_limited_by_relation(graph):
    assert graph.neighbourhood(0) == [
        Neighbour("director", "out", "Autumn de Wilde"),
        Neighbour("genre", "out", "Black comedy"),
        Neighbour("genre", "out", "Comedy film"),
        Neighbour("starring", "out", "Anya Taylor-Joy"),
        Neighbour("starring", "out", "Bill Nighy"),
        Neighbour("subsequentWork", "in", "Underworld"),
    ]
    assert [n.name for n in graph.neighbourhood(0, 1)] == [
        "Autumn de Wilde", "Black comedy", "Anya Taylor-Joy", "Underworld"
    ]  # fmt: skip
    assert graph.neighbourhood(2) == []


def test_statistics(graph):
    assert graph.statistics() == {
        "entities": 8,
        "triples": 8,
        "relations": 4,
        "per_relation": {"genre": 3, "starring": 3, "director": 1, "subsequentWork": 1},
        "items": 3,
        "linked_items": 2,
        "item_entities": 2,
        "isolated_items": 0,
        "isolated_entities": 1,
    }
    assert graph.linked.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("entity", "name"),
    [
        (resource("Emma_(2020_film)"), "Emma (2020 film)"),
        (resource("Caf%C3%A9"), "Café"),
        ("<http://example.org/x#Some_thing>", "Some thing"),
        ("person:Bill Nighy", "Bill Nighy"),
        ("movie:2001: A Space Odyssey (1968)", "2001: A Space Odyssey (1968)"),
        ("starring", "starring"),
    ],
)
def test_names_are_readable(entity, name):
    assert plain_name(entity) == name


# ---- of metadata ----------------------------------------------------------------------------------------------


def test_metadata_make_a_graph_of_all_that_is_known():
    known = Item(
        "1", "Emma", 2020, ("Sci-Fi", "Comedy"), ("Ann",), ("Bo", "Ann"), ("Wit",), "", ("Cy",), ("A24",), "en"
    )
    graph = graph_of(Catalogue([known, Item("2", "Emma", 1996)]))
    named = {(graph.entities.ids[h], graph.relations.ids[r], graph.entities.ids[t]) for h, r, t in graph.triples}
    assert named == {
        ("item:1", relation, tail)
        for relation, tail in (
            ("genre", "genre:science fiction"), ("genre", "genre:comedy"), ("director", "person:Ann"),
            ("cast", "person:Bo"), ("cast", "person:Ann"), ("keyword", "keyword:wit"), ("writer", "person:Cy"),
            ("company", "company:a24"), ("language", "language:en"),
        )
    }  # fmt: skip
    assert graph.item_entities.tolist() == [graph.entities.num("item:1"), graph.entities.num("item:2")]
    assert graph.linked.tolist() == [True, False]
    assert graph.statistics()["isolated_items"] == 1
