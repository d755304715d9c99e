"""Relational graph convolution with basis decomposition, in memory that does not grow with the relations.

A node's neighbours under one relation are averaged once, and only where there are any. What is averaged is turned and
summed in blocks, and computed again for the gradient. Knows nodes, edges and tensors; nothing of dialogues and items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import EdgeIndex
from torch_geometric.nn.inits import glorot
from torch_geometric.utils import scatter

_BLOCK = 32_768
"""Averages that are held at once, at the least."""
_CACHED = 2**18
"""Numbers that stay in a core's cache, nearly."""


class Sparse:
    """A sparse matrix that multiplies dense ones, and its transpose; sums are made in one order on every device."""

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> None:
        """Sort entries (M,) both ways; entries of the same place are added."""
        pattern, self._order = EdgeIndex(torch.stack([rows, columns]), sparse_size=size).sort_by("row")
        self.size, self._values = size, values
        (self._starts, self._columns), _ = pattern.get_csr()
        (self._starts_t, self._rows), order = pattern.get_csc()
        self._order_t = self._order if order is None else self._order[order]

    def times(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """(rows, D) from (columns, D), with other values (M,) if given."""
        values = self._values if values is None else values
        return _bags(self._columns, self._starts, values[self._order], x)

    def transposed_times(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """(columns, D) from (rows, D)."""
        values = self._values if values is None else values
        return _bags(self._rows, self._starts_t, values[self._order_t], x)


def _bags(places: Tensor, starts: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Weighted sums of rows of x: on a CPU twice as fast as a sparse product of torch, on a GPU without atomic sums."""
    return F.embedding_bag(places, x, starts, mode="sum", per_sample_weights=values, include_last_offset=True)


@dataclass(frozen=True)
class Block:
    """Some of the averages: where they come from and go to.

    Attributes:
        mean: (P, N) takes the P averages.
        sum: (R, P) adds them up for each of the R rows.
        relations: (relation, begin, end) of the averages of each relation.
    """

    mean: Sparse
    sum: Sparse
    relations: tuple[tuple[int, int, int], ...]


class RelationalGraph(nn.Module):
    """Edges by relation, ready for a convolution."""

    source: Tensor
    target: Tensor
    relation: Tensor
    starts: Tensor

    def __init__(self, edge_index: Tensor, relations_of_edges: Tensor, *, nodes: int, relations: int) -> None:
        """Sort the edges.

        Args:
            edge_index: (2, M) int64 source and target of each edge.
            relations_of_edges: (M,) int64.
            nodes: N.
            relations: how many there are.

        Raises:
            ValueError: a node or relation beyond their number.
        """
        super().__init__()
        if edge_index.numel() and (int(edge_index.max()) >= nodes or int(relations_of_edges.max()) >= relations):
            raise ValueError(f"edges go beyond {nodes} nodes or {relations} relations")
        order = (edge_index[1] * relations + relations_of_edges).argsort(stable=True)
        self.nodes, self.relations = nodes, relations
        target = edge_index[1][order]
        starts = torch.zeros(nodes + 1, dtype=torch.long)
        starts[1:] = torch.bincount(target, minlength=nodes).cumsum(0)
        self.register_buffer("source", edge_index[0][order].contiguous(), persistent=False)
        self.register_buffer("target", target.contiguous(), persistent=False)
        self.register_buffer("relation", relations_of_edges[order].contiguous(), persistent=False)
        self.register_buffer("starts", starts, persistent=False)
        self._all: Rows | None = None

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._all = None
        return super()._apply(fn, recurse)

    def all(self) -> "Rows":
        """What all nodes receive."""
        if self._all is None:
            self._all = Rows(self, self.source, self.target, self.relation, self.nodes)
        return self._all

    def rows(self, chosen: Tensor) -> "Rows":
        """What some nodes (R,) receive, in the order given."""
        begin, end = self.starts[chosen], self.starts[chosen + 1]
        count = end - begin
        row = torch.arange(len(chosen), device=chosen.device).repeat_interleave(count)
        within = torch.arange(len(row), device=chosen.device) - (count.cumsum(0) - count)[row]
        edges = begin[row] + within
        return Rows(self, self.source[edges], row, self.relation[edges], len(chosen))


class Rows:
    """The edges into some rows of a convolution's result."""

    def __init__(self, graph: RelationalGraph, source: Tensor, row: Tensor, relation: Tensor, count: int) -> None:
        self.nodes, self.relations, self.count = graph.nodes, graph.relations, count
        order = (relation * max(1, count) + row).argsort(stable=True)
        self.source, self.row, self.relation = source[order], row[order], relation[order]
        keys = self.relation * max(1, count) + self.row
        self._keys, self._pair, members = torch.unique_consecutive(keys, return_inverse=True, return_counts=True)
        self.weight = (1.0 / members)[self._pair]
        """(M,) of each edge in its average."""
        self._blocks: list[Block] = []
        self._matrix: Sparse | None = None

    def blocks(self) -> list[Block]:
        """All averages, in blocks."""
        if not self._blocks:
            self._blocks = list(self._made())
        return self._blocks

    def matrix(self) -> Sparse:
        """(R, N) of all edges, each with its weight."""
        if self._matrix is None:
            self._matrix = Sparse(self.row, self.source, self.weight, (self.count, self.nodes))
        return self._matrix

    def _made(self) -> Iterator[Block]:
        relation_of = torch.div(self._keys, max(1, self.count), rounding_mode="floor")
        row_of = self._keys % max(1, self.count)
        size = max(_BLOCK, self.nodes // 2)
        for begin in range(0, len(self._keys), size):
            end = min(begin + size, len(self._keys))
            first, last = torch.searchsorted(self._pair, torch.tensor([begin, end], device=self._pair.device)).tolist()
            edges = slice(first, last)
            mean = Sparse(self._pair[edges] - begin, self.source[edges], self.weight[edges], (end - begin, self.nodes))
            own = torch.arange(end - begin, device=row_of.device)
            whole = Sparse(row_of[begin:end], own, torch.ones(end - begin, device=own.device), (self.count, len(own)))
            named, lengths = torch.unique_consecutive(relation_of[begin:end], return_counts=True)
            stops = lengths.cumsum(0)
            bounds = zip(named.tolist(), (stops - lengths).tolist(), stops.tolist(), strict=True)
            yield Block(mean, whole, tuple(bounds))


class RelationalConv(nn.Module):
    """x_i' = root x_i + bias + sum over relations of W_r times the mean of the neighbours under r.

    W_r is a mixture of bases. Without input features the convolution has a table of nodes for each basis.

    Source: Schlichtkrull et al., Modeling Relational Data with Graph Convolutional Networks, ESWC 2018, eq. 2 and 3;
        torch_geometric's RGCNConv, whose parameters these are. Differs: by distinct target and relation, in blocks.
    """

    def __init__(
        self,
        width_in: int | None,
        width_out: int,
        *,
        relations: int,
        bases: int,
        nodes: int = 0,
    ) -> None:
        """Draw the weights from torch's random numbers.

        Args:
            width_in: of the features; None where there are none.
            width_out: of the result.
            relations: how many there are.
            bases: how many matrices, or tables, relations are mixed from.
            nodes: how many there are, where there are no features.
        """
        super().__init__()
        rows = nodes if width_in is None else width_in
        self.weight = nn.Parameter(torch.empty(bases, rows, width_out))
        self.comp = nn.Parameter(torch.empty(relations, bases))
        self.root = nn.Parameter(torch.empty(rows, width_out))
        self.bias = nn.Parameter(torch.zeros(width_out))
        for parameter in (self.weight, self.comp, self.root):
            glorot(parameter)

    def forward(self, features: Tensor | None, graph: RelationalGraph, rows: Tensor | None = None) -> Tensor:
        """(N, D) for all nodes, or (R, D) for some.

        Args:
            features: (N, D') or None, as the convolution was made.
            graph: the edges.
            rows: (R,) int64 nodes that are asked for.
        """
        into = graph.all() if rows is None else graph.rows(rows)
        with torch.autocast(self.weight.device.type, enabled=False):
            if features is None:
                received = _Tables.apply(self.weight, self.comp, into)
                own = self.root if rows is None else self.root[rows]
            else:
                features = features.float()
                received = _Mixed.apply(features, self.weight, self.comp, into)
                own = (features if rows is None else features[rows]) @ self.root
            return received + own + self.bias


class _Mixed(torch.autograd.Function):
    """Sums over relations of averages times mixed bases."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, comp: Tensor, into: Rows) -> Tensor:
        ctx.save_for_backward(features, weight, comp)
        ctx.into = into
        out = features.new_zeros(into.count, weight.shape[2])
        for block in into.blocks():
            mean = block.mean.times(features)
            turned = features.new_empty(len(mean), weight.shape[2])
            for relation, begin, end in block.relations:
                torch.mm(mean[begin:end], _of_relation(comp[relation], weight), out=turned[begin:end])
            out += block.sum.times(turned)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        features, weight, comp = ctx.saved_tensors
        of_features = torch.zeros_like(features) if ctx.needs_input_grad[0] else None
        of_weight, of_comp = torch.zeros_like(weight), torch.zeros_like(comp)
        gradient = gradient.contiguous()
        for block in ctx.into.blocks():
            mean = block.mean.times(features)
            given = block.sum.transposed_times(gradient)
            of_mean = torch.empty_like(mean)
            for relation, begin, end in block.relations:
                mixed = _of_relation(comp[relation], weight)
                of_mixed = mean[begin:end].T @ given[begin:end]
                of_comp[relation] += weight.flatten(1) @ of_mixed.flatten()
                of_weight.flatten(1).addr_(comp[relation], of_mixed.flatten())
                torch.mm(given[begin:end], mixed.T, out=of_mean[begin:end])
            if of_features is not None:
                of_features += block.mean.transposed_times(of_mean)
        return of_features, of_weight, of_comp, None


def _of_relation(shares: Tensor, weight: Tensor) -> Tensor:
    """(D', D) of one relation from its shares (bases,) of the bases."""
    return (shares @ weight.flatten(1)).view(weight.shape[1:])


class _Tables(torch.autograd.Function):
    """Averages of mixed tables of nodes: each table is read by the edges, which carry its share in their relation."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, comp: Tensor, into: Rows) -> Tensor:
        ctx.save_for_backward(weight, comp)
        ctx.into = into
        shares = comp[into.relation] * into.weight[:, None]
        out = weight.new_zeros(into.count, weight.shape[2])
        for basis, table in enumerate(weight):
            out += into.matrix().times(table, shares[:, basis])
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        weight, comp = ctx.saved_tensors
        into, gradient = ctx.into, gradient.contiguous()
        shares = comp[into.relation] * into.weight[:, None]
        of_weight = torch.empty_like(weight)
        for basis in range(len(weight)):
            of_weight[basis] = into.matrix().transposed_times(gradient, shares[:, basis])
        # What a node has sent under one relation came back to it as one: its rows are read once for each.
        keys, sent = (into.source * into.relations + into.relation).unique(return_inverse=True)
        back = Sparse(sent, into.row, into.weight, (len(keys), into.count)).times(gradient)
        source = torch.div(keys, into.relations, rounding_mode="floor")
        of_shares = weight.new_empty(len(keys), len(weight))
        size = max(1, _CACHED // weight.shape[2])
        for begin in range(0, len(keys), size):
            part = slice(begin, begin + size)
            for basis, table in enumerate(weight):
                torch.sum(table.index_select(0, source[part]).mul_(back[part]), dim=1, out=of_shares[part, basis])
        of_comp = scatter(of_shares, keys % into.relations, dim=0, dim_size=len(comp), reduce="sum")
        return of_weight, of_comp, None
