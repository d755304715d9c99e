"""Logistic regression over named sparse features: fitted with scipy, kept as a dictionary of weights."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array

Features = list[tuple[str, float]]


@dataclass(frozen=True)
class Classifier:
    """Weights of features; `bias` for none at all."""

    bias: float
    weights: Mapping[str, float]

    def logit(self, features: Iterable[tuple[str, float]]) -> float:
        """Sum of the weights, without the bias."""
        weights = self.weights
        return sum(weights[name] * value for name, value in features if name in weights)


def probability(logit: float) -> float:
    """The chance that belongs to a sum of weights."""
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def fit(rows: Sequence[Features], labels: Sequence[bool], *, strength: float = 0.3, least: int = 20) -> Classifier:
    """Fit the weights.

    Args:
        rows: one list of features a candidate; names that are not listed are 0.
        labels: whether the candidate was meant.
        strength: C of the L2 penalty, the larger the weaker it is; the bias is not penalised.
        least: features that fewer rows have are left out.
    """
    seen = Counter(name for row in rows for name, _ in row)
    columns = {name: column for column, name in enumerate(sorted(n for n, times in seen.items() if times >= least))}
    starts, numbers, values = [0], [], []
    for row in rows:
        for name, value in row:
            if name in columns:
                numbers.append(columns[name])
                values.append(value)
        starts.append(len(numbers))
    matrix = csr_array(
        (np.array(values), np.array(numbers, dtype=np.int32), np.array(starts, dtype=np.int64)),
        shape=(len(rows), len(columns)),
    )
    signs = np.where(np.array(labels), 1.0, -1.0)
    transposed = matrix.T.tocsr()

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (matrix @ point[:-1] + point[-1])
        pulls = -signs * np.exp(-np.logaddexp(0, margins))
        gradient = np.append(transposed @ pulls + point[:-1] / strength, pulls.sum())
        return float(np.logaddexp(0, -margins).sum() + point[:-1] @ point[:-1] / (2 * strength)), gradient

    found = minimize(loss, np.zeros(len(columns) + 1), jac=True, method="L-BFGS-B", options={"maxiter": 400}).x
    kept = {name: round(float(found[column]), 4) for name, column in columns.items()}
    return Classifier(round(float(found[-1]), 4), {name: weight for name, weight in kept.items() if weight})
