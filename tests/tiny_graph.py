"""A graph of three films, a person and a genre, for tests of models that learn on one."""

from crscli.catalogue import Catalogue, Item
from crscli.kg import KnowledgeGraph

CATALOGUE = Catalogue([Item("a", "Alder"), Item("b", "Birch"), Item("c", "Cedar")])
TRIPLES = [
    ("item:a", "genre", "genre:drama"),
    ("item:a", "director", "person:Ann Lee"),
    ("item:b", "genre", "genre:drama"),
]


def graph():
    """Two films are linked, the third has a node of its own."""
    return KnowledgeGraph.build(TRIPLES, ["a", "b", "c"], {"a": "item:a", "b": "item:b"})
