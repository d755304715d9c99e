import numpy as np
import pytest
import tiny_graph

from crscli.dialogue import Context, Link, Turn
from crscli.graph_encoder import Nodes, relational_graph
from crscli.kg import KnowledgeGraph, published

LIKED = Turn("seeker", "Alder by Ann Lee", (Link("item", "a", 0, 5), Link("person", "Ann Lee", 9, 16)))
WANTS = Turn("seeker", "a drama like Cedar", (Link("item", "c", 13, 18), Link("genre", "drama", 2, 7)))


@pytest.fixture
def nodes():
    return Nodes(tiny_graph.graph())


def called(nodes, numbers):
    names = nodes.names(tiny_graph.CATALOGUE)
    return [names[n] for n in numbers]


def test_every_item_has_a_node_and_so_has_nothing(nodes):
    assert nodes.count == 4 + 1 + 1
    assert nodes.items.tolist() == [1, 2, 4]
    assert nodes.none == 5
    assert called(nodes, range(6)) == ["drama", "Alder", "Birch", "Ann Lee", "Cedar", ""]


def test_a_turn_names_its_nodes_in_the_order_of_its_text(nodes):
    assert called(nodes, nodes.of_turn(LIKED)) == ["Alder", "Ann Lee"]
    assert called(nodes, nodes.of_turn(WANTS)) == ["drama", "Cedar"]
    odd = (Link("person", "Nobody Known"), Link("item", "zzz"), Link("genre", "drama"), Link("genre", "Drama"))
    assert called(nodes, nodes.of_turn(Turn("seeker", "", odd))) == ["drama"]


def test_data_that_were_linked_to_the_graph_itself_give_its_entities(nodes):
    turn = Turn("seeker", "him", (Link("person", "person:Ann Lee"),))
    assert called(nodes, nodes.of_turn(turn)) == ["Ann Lee"]


def test_a_context_keeps_what_was_named_last_once_each(nodes):
    context = Context((WANTS, LIKED, Turn("seeker", "drama", (Link("genre", "drama", 0, 5),))))
    assert called(nodes, nodes.of_context(context, 10)) == ["Cedar", "Alder", "Ann Lee", "drama"]
    assert called(nodes, nodes.of_context(context, 2)) == ["Ann Lee", "drama"]


def test_a_context_that_names_nothing_has_the_node_of_nothing(nodes):
    assert nodes.of_context(Context((Turn("seeker", "hi"),)), 10) == (nodes.none,)
    assert nodes.of_context(Context(()), 10) == (nodes.none,)


def test_edges_go_both_ways_and_heads_loop(nodes):
    plain = nodes.edges(loops=False)
    assert {tuple(e) for e in plain.T} == {tuple(e) for e in plain[[2, 1, 0]].T}
    assert plain.shape == (3, 6)
    loops = nodes.edges()
    assert loops.shape == (3, 8)
    own = loops[:, loops[0] == loops[2]]
    assert set(own[1]) == {nodes.relations() - 1}
    assert called(nodes, own[0]) == ["Alder", "Birch"]


def test_items_of_one_film_share_a_node():
    graph = KnowledgeGraph.build(tiny_graph.TRIPLES, ["a", "b"], {"a": "item:a", "b": "item:a"})
    nodes = Nodes(graph)
    assert nodes.items[0] == nodes.items[1]
    assert nodes.of_items(["b", "a", "zzz"]) == [int(nodes.items[0])] * 2


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "rows", "relations", "edges"),
    [("redial_unicrs", 31_162, 25, 186_685 - 24_032), ("inspired_unicrs", 17_321, 13, 69_125 - 8_543)],
)
def test_the_released_graphs_have_the_reference_s_nodes_and_edges(shared_data, folder, rows, relations, edges):
    form, files = published.find(shared_data / "kg" / folder)
    found = published.read(form, files)
    films = sorted(found.films)
    graph = KnowledgeGraph.build(found.triples, films, {f: f for f in films}, others=found.entities)
    nodes = Nodes(graph)
    assert nodes.count == rows
    assert nodes.relations() == relations
    assert nodes.edges(loops=False).shape[1] == edges  # the reference's less its loops, whose heads are those of a dump
    assert np.array_equal(np.unique(nodes.items), np.sort(nodes.items))
    assert relational_graph(nodes).nodes == rows
