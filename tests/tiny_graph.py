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


KBRD = {
    "node_width": 16, "bases": 2, "epochs": 6, "batch_size": 8, "learning_rate": 2e-2, "width": 32, "vocabulary": 400,
    "context_tokens": 64, "response_tokens": 24, "bias_width": 16, "generation_epochs": 2, "generation_rate": 1e-2,
}  # fmt: skip
"""Settings with which KBRD is trained on the tiny world in a second."""
UNICRS = {
    "layers": 1, "width": 32, "vocabulary": 400, "node_width": 16, "bases": 2, "context_tokens": 64,
    "response_tokens": 24, "template_tokens": 8, "entities": 8, "batch_size": 8, "fusion_epochs": 3,
    "conversation_epochs": 1, "conversation_batch": 8, "recommendation_epochs": 2, "conversation_soft_tokens": 2,
    "recommendation_soft_tokens": 2,
}  # fmt: skip
"""The same of UniCRS."""


def sets(settings, **changes):
    """These settings as texts for `sets`, some of them changed."""
    return tuple(f"{key}={value}" for key, value in {**settings, **changes}.items())
