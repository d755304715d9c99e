"""Knowledge graphs as neural layers: which node a link or an item is, relational convolution, pooling of entities.

The package is the door to torch_geometric. Knows nothing about models and training.
"""

import warnings

import torch

with warnings.catch_warnings():
    # torch_geometric uses what torch gives up, and says so.
    warnings.simplefilter("ignore")
    from crscli.graph_encoder.nodes import Nodes
    from crscli.graph_encoder.pooling import AttentivePooling
    from crscli.graph_encoder.relational import RelationalConv, RelationalGraph

__all__ = ["AttentivePooling", "Nodes", "RelationalConv", "RelationalGraph", "relational_graph"]


def relational_graph(nodes: Nodes, *, loops: bool = True) -> RelationalGraph:
    """The edges of a graph's nodes as the convolution wants them."""
    source, relation, target = torch.from_numpy(nodes.edges(loops=loops))
    ends = torch.stack([source, target])
    return RelationalGraph(ends, relation, nodes=nodes.count, relations=nodes.relations(loops=loops))
