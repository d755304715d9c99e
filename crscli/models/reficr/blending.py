"""How evidence of several kinds is weighed together: weights fitted on valid, a handful of numbers.

Not in the paper; a small decoder knows few films, so what like-minded people were recommended and what is popular count
for more. Knows arrays alone.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

FEATURES = ("similarity", "conversations", "popularity", "mentioned")
_LEAST_VOTE = 1e-3
_RIDGE = 1e-3


def features(
    similar: np.ndarray, votes: np.ndarray, popularity: np.ndarray, mentioned: Sequence[np.ndarray]
) -> np.ndarray:
    """(B, N, 4) of every item for every context, as FEATURES names them.

    Args:
        similar: (B, N) cosines over temperature.
        votes: (B, N) shares of similar conversations that were recommended an item.
        popularity: (N,) how often an item was recommended.
        mentioned: item numbers of each context.
    """
    made = np.zeros((*similar.shape, len(FEATURES)), dtype=np.float32)
    made[..., 0] = similar
    made[..., 1] = np.log(votes + _LEAST_VOTE) - np.log(_LEAST_VOTE)
    made[..., 2] = np.log1p(popularity)
    for row, nums in enumerate(mentioned):
        made[row, nums, 3] = 1.0
    return made


def fitted(given: np.ndarray, targets: Sequence[Sequence[int]], begin: Sequence[float] | np.ndarray) -> np.ndarray:
    """(F,) weights with which targets are likeliest under a softmax over the items, by maximum likelihood.

    Args:
        given: (B, N, F) features.
        targets: item numbers of each row, one or more.
        begin: where the search begins, and what it is drawn to, weakly.
    """
    start = np.array(begin, dtype=np.float64)
    wanted = np.stack([row[list(t)].mean(0) for row, t in zip(given, targets, strict=True)]).mean(0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = given @ weights.astype(np.float32)
        top = scores.max(1, keepdims=True)
        shares = np.exp(scores - top)
        total = shares.sum(1, keepdims=True)
        mean = float((np.log(total[:, 0]) + top[:, 0]).mean() - wanted @ weights)
        expected = np.einsum("bn,bnf->f", shares / total, given) / len(given)
        off = weights - start
        return mean + _RIDGE * float(off @ off), expected - wanted + 2 * _RIDGE * off

    return minimize(loss, start, jac=True, method="L-BFGS-B").x
