import numpy as np
import pytest

from crscli.training.order import epoch_batches

LENGTHS = np.random.default_rng(0).integers(1, 200, 1000)


def padding(batches):
    return sum(len(b) * LENGTHS[b].max() - LENGTHS[b].sum() for b in batches)


@pytest.mark.parametrize(("number", "batch_size"), [(0, 4), (1, 4), (3, 4), (8, 4), (9, 4), (1000, 7), (1000, 1)])
def test_an_epoch_holds_every_example_once(number, batch_size):
    batches = epoch_batches(LENGTHS[:number], batch_size, seed=0, epoch=0)
    assert sorted(int(n) for b in batches for n in b) == list(range(number))
    assert len(batches) == -(-number // batch_size)
    assert sum(len(b) < batch_size for b in batches) <= 1


def test_examples_of_like_length_share_a_batch():
    batches = epoch_batches(LENGTHS, 8, seed=0, epoch=0)
    shuffled = np.random.default_rng(0).permutation(1000)
    assert padding(batches) < padding([shuffled[at : at + 8] for at in range(0, 1000, 8)]) / 5


def test_short_and_long_batches_come_in_random_order():
    means = [LENGTHS[b].mean() for b in epoch_batches(LENGTHS, 8, seed=0, epoch=0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return np.concatenate(epoch_batches(LENGTHS, 8, seed=seed, epoch=epoch)).tolist()

    np.random.seed(1)  # noqa: NPY002
    first = order(3, 1)
    np.random.seed(2)  # noqa: NPY002
    assert order(3, 1) == first
    assert order(3, 2) != first
    assert order(4, 1) != first


def test_batches_do_not_hold_the_same_companions_in_every_epoch():
    one, other = ({frozenset(b.tolist()) for b in epoch_batches(LENGTHS, 8, seed=0, epoch=e)} for e in (0, 1))
    assert len(one & other) < 5
