"""Which examples stand in which step: a function of seed and step alone, so that any step can be resumed."""

from collections.abc import Sequence

import numpy as np

_WINDOW = 50
"""Batches that are sorted by length together: wide enough to save padding, narrow enough to stay random."""


def epoch_batches(lengths: Sequence[int] | np.ndarray, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch: every example once, examples of like length together.

    A random order is cut into windows of fifty batches, each window sorted by length and cut into batches, and the
    batches put into random order.

    Args:
        lengths: (E,) tokens of each example.
        batch_size: examples of a batch; the last one may have fewer.
        seed: of the run.
        epoch: from 0.

    Returns:
        Arrays of example numbers.
    """
    lengths = np.asarray(lengths)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    window = _WINDOW * batch_size
    batches = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
    return [batches[num] for num in rng.permutation(len(batches))]
