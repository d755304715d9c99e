"""A learned listwise ranker: linear or a small network, in plain numpy. Knows features only by their numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from crscli.errors import MachineError
from crscli.progress import Progress, silent

_CLIP = 6.0


@dataclass
class Lists:
    """R lists of candidates, ragged: the candidates of list r are rows starts[r] : starts[r + 1], at least one.

    `features` (C, F) float32 of each candidate; `state` (R, S) float32 of each list; `labels` (C,) 1.0 for a right
    candidate; `offsets` (C,) added to the scores in the loss (the log of how many candidates one stands for, where
    wrong ones were sampled).
    """

    features: np.ndarray
    state: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Candidate numbers of some lists, and their starts in that selection."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return np.repeat(self.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1]), starts


def segments(starts: np.ndarray) -> np.ndarray:
    """The list number of each candidate."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


class ListwiseRanker:
    """Scores candidates so that the right ones of a list come first.

    The loss of a list is the cross-entropy between the softmax of its scores and the uniform distribution over its
    right candidates. Without hidden layers the score is linear in the features; with them a network also sees the
    state of the list.

    Source: Cao et al., ICML 2007 (ListNet, top-one probabilities), with Adam and a cosine schedule.
    """

    def __init__(self, weights: list[np.ndarray], scale: np.ndarray) -> None:
        """Args: weights and biases of each layer in turn; `scale` (2, F + S) mean and spread of the inputs."""
        self.weights = weights
        self.scale = scale

    @classmethod
    def fit(
        cls,
        lists: Lists,
        *,
        hidden: Sequence[int] = (),
        dropout: Sequence[float] = (),
        learning_rate: float = 1e-3,
        epochs: int = 5,
        batch: int = 32,
        decay: float = 1e-5,
        seed: int = 0,
        progress: Progress = silent,
    ) -> "ListwiseRanker":
        """Learn from lists that hold at least one right candidate; the others are passed over.

        Raises:
            MachineError: the weights did not stay finite.
        """
        dropout = dropout or [0.0] * len(hidden)
        rng = np.random.default_rng(seed)
        rows = np.flatnonzero(np.add.reduceat(lists.labels, lists.starts[:-1]) > 0)
        every = lists.features[:: max(1, len(lists.features) // 200_000)]
        mean = np.concatenate([every.mean(axis=0), lists.state.mean(axis=0)])
        spread = np.concatenate([every.std(axis=0), lists.state.std(axis=0)]) + 1e-6
        width = lists.features.shape[1] + (lists.state.shape[1] if hidden else 0)
        ranker = cls(_initial([width, *hidden, 1], rng), np.stack([mean, spread]).astype(np.float32))
        optimiser = _Adam(ranker.weights)
        total = epochs * -(-len(rows) // batch)
        # The products are small: threads that wait for each other on busy cores would take most of the time. Some
        # builds of OpenBLAS raise the flag of an invalid value for finite products; the check below is on the values.
        with threadpool_limits(limits=1, user_api="blas"), np.errstate(invalid="ignore"):
            for step, chosen in enumerate(_batches(rows, epochs, batch, rng), start=1):
                taken, starts = lists.take(chosen)
                inputs = ranker._inputs(lists.features[taken], lists.state[chosen], starts)
                gradients = ranker._gradients(inputs, lists.labels[taken], lists.offsets[taken], starts, dropout, rng)
                for gradient, weight in zip(gradients[::2], ranker.weights[::2], strict=True):
                    gradient += decay * weight
                warm = min(1.0, step / (0.1 * total))
                optimiser.step(gradients, learning_rate * warm * 0.5 * (1 + np.cos(np.pi * (step - 1) / total)))
                if step % 50 == 0 or step == total:
                    progress("learning to rank", step, total)
        if not all(np.isfinite(weight).all() for weight in ranker.weights):
            raise MachineError("learning to rank diverged: a weight is not finite", "lower learning_rate")
        return ranker

    def scores(self, features: np.ndarray, state: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Scores of C candidates in R lists: (C,) float32."""
        hidden = self._inputs(features, state, starts)
        for weight, bias in self._layers()[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0)
        weight, bias = self._layers()[-1]
        return (hidden @ weight + bias).ravel()

    def contributions(self, features: np.ndarray, state: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """How much each feature adds to each score, as input times gradient: (C, F); exact for a linear ranker."""
        inputs = self._inputs(features, state, starts)
        hidden, active = inputs, []
        for weight, bias in self._layers()[:-1]:
            hidden = hidden @ weight + bias
            active.append(hidden > 0)
            hidden = np.maximum(hidden, 0)
        gradient = np.repeat(self._layers()[-1][0].T, len(inputs), axis=0)
        for (weight, _), mask in zip(self._layers()[-2::-1], reversed(active), strict=True):
            gradient = (gradient * mask) @ weight.T
        return (inputs * gradient)[:, : features.shape[1]]

    def save(self, path: Path) -> None:
        """Write the weights as one npz file."""
        arrays: dict[str, Any] = {f"w{num:02}": weight for num, weight in enumerate(self.weights)}
        np.savez(path, scale=self.scale, **arrays)

    @classmethod
    def load(cls, path: Path) -> "ListwiseRanker":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls([arrays[name] for name in sorted(arrays.files) if name != "scale"], arrays["scale"])

    def _layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self.weights[::2], self.weights[1::2], strict=True))

    def _inputs(self, features: np.ndarray, state: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Standardised and clipped inputs; the state only where the first layer expects it."""
        width = self.weights[0].shape[0]
        columns = features if width == features.shape[1] else np.hstack([features, state[segments(starts)]])
        mean, spread = self.scale[:, :width]
        return np.clip((columns - mean) / spread, -_CLIP, _CLIP).astype(np.float32, copy=False)

    def _gradients(
        self,
        inputs: np.ndarray,
        labels: np.ndarray,
        offsets: np.ndarray,
        starts: np.ndarray,
        dropout: Sequence[float],
        rng: np.random.Generator,
    ) -> list[np.ndarray]:
        """Gradient of the mean loss with respect to every weight and bias."""
        layers = self._layers()
        activations, masks = [inputs], []
        for (weight, bias), rate in zip(layers[:-1], dropout, strict=True):
            raw = activations[-1] @ weight + bias
            kept = rng.random(raw.shape, dtype=np.float32) >= rate
            mask = ((raw > 0) & kept).astype(np.float32) / np.float32(1 - rate)
            activations.append(raw * mask)
            masks.append(mask)
        scores = (activations[-1] @ layers[-1][0]).ravel() + offsets
        wanted = labels / np.add.reduceat(labels, starts[:-1])[segments(starts)]
        upstream = ((softmax(scores, starts) - wanted) / (len(starts) - 1)).astype(np.float32)[:, None]
        gradients: list[np.ndarray] = []
        for number in range(len(layers) - 1, -1, -1):
            gradients = [activations[number].T @ upstream, upstream.sum(axis=0), *gradients]
            if number:
                upstream = (upstream @ layers[number][0].T) * masks[number - 1]
        return gradients


def softmax(scores: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Softmax inside each list."""
    lengths = np.diff(starts)
    highest = np.repeat(np.maximum.reduceat(scores, starts[:-1]), lengths)
    powers = np.exp(scores - highest)
    return powers / np.repeat(np.add.reduceat(powers, starts[:-1]), lengths)


def _initial(sizes: Sequence[int], rng: np.random.Generator) -> list[np.ndarray]:
    """He initialisation; a linear ranker starts at zero, a network's last layer near it."""
    weights = []
    for fan_in, fan_out in pairwise(sizes):
        gain = 1.0 if fan_out > 1 else 0.1 * (len(sizes) > 2)
        weights.append((rng.normal(size=(fan_in, fan_out)) * np.sqrt(2 / fan_in) * gain).astype(np.float32))
        weights.append(np.zeros(fan_out, dtype=np.float32))
    return weights


def _batches(rows: np.ndarray, epochs: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(epochs):
        order = rng.permutation(rows)
        yield from (order[start : start + size] for start in range(0, len(order), size))


class _Adam:
    """Kingma & Ba, ICLR 2015; updates the given arrays in place."""

    def __init__(self, weights: list[np.ndarray]) -> None:
        self.weights = weights
        self.first = [np.zeros_like(w) for w in weights]
        self.second = [np.zeros_like(w) for w in weights]
        self.count = 0

    def step(self, gradients: Sequence[np.ndarray], learning_rate: float) -> None:
        self.count += 1
        for weight, gradient, first, second in zip(self.weights, gradients, self.first, self.second, strict=True):
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient * gradient - second)
            slope = first / (1 - 0.9**self.count)
            weight -= learning_rate * slope / (np.sqrt(second / (1 - 0.999**self.count)) + 1e-8)
