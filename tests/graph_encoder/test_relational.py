import copy

import pytest
import torch
from torch_geometric.nn import RGCNConv

from crscli.graph_encoder import RelationalConv, RelationalGraph, relational


def edges(nodes=60, count=400, relations=7, seed=0):
    """Random edges, some of them twice; the last relation and the last nodes have none."""
    draw = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, nodes - 5, (2, count), generator=draw)
    kinds = torch.randint(0, relations - 1, (count,), generator=draw)
    return torch.cat([ends, ends[:, :9]], 1), torch.cat([kinds, kinds[:9]])


def pair(width_in, *, nodes=60, relations=7, bases=3, width_out=10, seed=0):
    """torch_geometric's convolution and ours with its weights."""
    torch.manual_seed(seed)
    theirs = RGCNConv(width_in or nodes, width_out, relations, num_bases=bases)
    torch.nn.init.normal_(theirs.bias)
    ours = RelationalConv(width_in, width_out, relations=relations, bases=bases, nodes=nodes)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def graph(ends, kinds, nodes=60, relations=7):
    return RelationalGraph(ends, kinds, nodes=nodes, relations=relations)


def gradients(made, conv, features, weights):
    conv.zero_grad()
    if features is not None:
        features.grad = None
    (made * weights).sum().backward()
    found = {name: p.grad.clone() for name, p in conv.named_parameters()}
    return found if features is None else {**found, "features": features.grad.clone()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=0, atol=1e-5 * max([1.0, *value.abs().flatten().tolist()])), name


@pytest.mark.parametrize("width_in", [12, None], ids=["features", "tables"])
@pytest.mark.parametrize("block", [1, 7, 32_768])
@pytest.mark.parametrize("count", [400, 0])
def test_values_and_gradients_are_those_of_rgcnconv(monkeypatch, width_in, block, count):
    monkeypatch.setattr(relational, "_BLOCK", block)
    monkeypatch.setattr(relational, "_CACHED", block * 10)
    theirs, ours = pair(width_in)
    ends, kinds = (
        edges(count=count) if count else (torch.empty(2, 0, dtype=torch.long), torch.empty(0, dtype=torch.long))
    )
    features = None if width_in is None else torch.randn(60, width_in, requires_grad=True)
    weights = torch.randn(60, 10)
    wanted = theirs(features, ends, kinds)
    found = ours(features, graph(ends, kinds))
    assert_same({"out": wanted}, {"out": found})
    assert_same(gradients(wanted, theirs, features, weights), gradients(found, ours, features, weights))


@pytest.mark.parametrize("width_in", [12, None], ids=["features", "tables"])
@pytest.mark.parametrize("rows", [[3, 50, 3, 59, 0], [], list(range(60))])
def test_some_rows_are_those_of_the_whole(width_in, rows):
    _, ours = pair(width_in)
    made = graph(*edges())
    chosen = torch.tensor(rows, dtype=torch.long)
    features = None if width_in is None else torch.randn(60, width_in, requires_grad=True)
    weights = torch.randn(len(rows), 10)
    whole, some = ours(features, made)[chosen], ours(features, made, chosen)
    assert_same({"out": whole}, {"out": some})
    assert_same(gradients(whole, ours, features, weights), gradients(some, ours, features, weights))


@pytest.mark.parametrize(("relations", "count"), [(25, 1_327_688), (13, 1_327_592)])
def test_as_many_parameters_as_unicrs_has_on_redial_and_inspired(relations, count):
    conv = RelationalConv(384, 384, relations=relations, bases=8)
    assert sum(p.numel() for p in conv.parameters()) == count


@pytest.mark.parametrize(("nodes", "relations"), [(50, 7), (60, 3)])
def test_edges_beyond_the_nodes_or_relations_are_refused(nodes, relations):
    with pytest.raises(ValueError, match=f"beyond {nodes} nodes or {relations} relations"):
        graph(*edges(), nodes=nodes, relations=relations)


@pytest.mark.parametrize("width_in", [12, None], ids=["features", "tables"])
def test_the_same_bits_each_time_and_after_a_copy(width_in):
    _, ours = pair(width_in)
    made = graph(*edges())
    features = None if width_in is None else torch.randn(60, width_in)
    first = ours(features, made)
    assert torch.equal(first, ours(features, made))
    assert torch.equal(first, ours(features, copy.deepcopy(made).to("cpu")))
    assert list(made.state_dict()) == []


def test_under_mixed_precision_it_stays_in_fp32():
    _, ours = pair(12)
    features = torch.randn(60, 12)
    made = graph(*edges())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ours(features, made)
    assert found.dtype == torch.float32
    assert torch.equal(found, ours(features, made))
