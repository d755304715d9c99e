"""The nodes of a model's graph, and which of them a link, a turn and a context name.

Knows names and numbers, no tensors.
"""

from collections.abc import Iterable

import numpy as np

from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Turn
from crscli.kg import KnowledgeGraph, plain_name

_REMEMBERED = 200_000


class Nodes:
    """Entities, then the items that no entity stands for, then one that stands for nothing.

    So every item has a node, and a context that names nothing has one too.

    Attributes:
        items: (N,) int64 the node of each item; items that are one film share it.
        none: the last node, for contexts without entities.
        count: how many there are.
    """

    def __init__(self, graph: KnowledgeGraph) -> None:
        """Number the nodes of a graph."""
        self.graph = graph
        self.items = graph.item_entities.astype(np.int64)
        alone = np.flatnonzero(self.items < 0)
        self.items[alone] = len(graph.entities) + np.arange(len(alone))
        self.none = len(graph.entities) + len(alone)
        self.count = self.none + 1
        self._of_turns: dict[Turn, tuple[int, ...]] = {}

    def edges(self, *, loops: bool = True) -> np.ndarray:
        """(3, M) int64 distinct source, relation, target: each triple in both directions with the same relation.

        Args:
            loops: a relation more, of every head of a triple with itself.

        Source: UniCRS and KBRD, whose edges have no direction.
        """
        heads, relations, tails = self.graph.triples.astype(np.int64).T
        rows = [np.stack([heads, relations, tails]), np.stack([tails, relations, heads])]
        if loops:
            own = np.unique(heads)
            rows.append(np.stack([own, np.full_like(own, len(self.graph.relations)), own]))
        return np.unique(np.concatenate(rows, axis=1), axis=1)

    def relations(self, *, loops: bool = True) -> int:
        """Relations of `edges`."""
        return len(self.graph.relations) + loops

    def of_turn(self, turn: Turn) -> tuple[int, ...]:
        """Distinct nodes that a turn names, in the order of its text."""
        if turn in self._of_turns:
            return self._of_turns[turn]
        found = []
        for link in sorted(turn.links, key=lambda x: x.start):
            if link.kind == "item" and link.id in self.graph.items:
                found.append(int(self.items[self.graph.items.num(link.id)]))
            elif (entity := self.graph.resolve(link)) is not None:
                found.append(entity)
        if len(self._of_turns) >= _REMEMBERED:
            self._of_turns.clear()
        self._of_turns[turn] = tuple(dict.fromkeys(found))
        return self._of_turns[turn]

    def of_context(self, context: Context, limit: int) -> tuple[int, ...]:
        """The `limit` distinct nodes named last, the newest last; `none` alone where nothing was named."""
        found: dict[int, None] = {}
        for turn in reversed(context.turns):
            for node in reversed(self.of_turn(turn)):
                found.setdefault(node)
            if len(found) >= limit:
                break
        return tuple(reversed(list(found)[:limit])) or (self.none,)

    def of_items(self, item_ids: Iterable[str]) -> list[int]:
        """Nodes of items, repeats kept; unknown ones are left out."""
        return [int(self.items[num]) for num in self.graph.items.nums(list(item_ids))]

    def names(self, catalogue: Catalogue) -> list[str]:
        """What each node is called: items by their titles, entities by the last part of theirs, "" for none."""
        called = [plain_name(entity) for entity in self.graph.entities.ids]
        called += [""] * (self.count - len(called))
        for item in catalogue:
            called[int(self.items[catalogue.vocabulary.num(item.item_id)])] = item.name
        return called
