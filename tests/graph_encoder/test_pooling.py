import torch

from crscli.graph_encoder import AttentivePooling


def pooled(seed=0):
    torch.manual_seed(seed)
    return AttentivePooling(6, 4), torch.randn(3, 5, 6, requires_grad=True)


def test_pooling_equals_a_slow_loop():
    pooling, vectors = pooled()
    real = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 0]]).bool()
    found = pooling(vectors, real)
    for row in range(3):
        own = vectors[row][real[row]]
        shares = torch.stack([(torch.tanh(v @ pooling.inner) @ pooling.shares)[0] for v in own]).softmax(0)
        assert torch.allclose(found[row], sum(s * v for s, v in zip(shares, own, strict=True)), atol=1e-6)


def test_a_row_depends_on_nothing_hidden_and_on_no_other_row():
    pooling, vectors = pooled()
    real = torch.tensor([[1, 1, 0, 0, 0]] * 3).bool()
    changed = vectors.detach().clone()
    changed[:, 2:] = 1e6
    changed[1] = 7.0
    assert torch.allclose(pooling(vectors, real)[0], pooling(changed, real)[0], atol=1e-6)


def test_a_row_without_any_is_zero_and_has_finite_gradients():
    pooling, vectors = pooled()
    real = torch.zeros(3, 5, dtype=torch.bool)
    real[1, 0] = True
    found = pooling(vectors, real)
    assert torch.equal(found[[0, 2]], torch.zeros(2, 6))
    found.sum().backward()
    assert torch.isfinite(vectors.grad).all()
    assert vectors.grad[0].abs().sum() == 0
