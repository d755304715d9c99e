from itertools import pairwise

import numpy as np
import pytest

from crscli.errors import MachineError
from crscli.ranker import Lists, ListwiseRanker, segments, softmax

LINEAR: dict = {}
NETWORK = {"hidden": (6, 4), "dropout": (0.0, 0.0)}


def random_lists(rows=30, width=5, state=3, seed=0):
    """Ragged lists with one to three right candidates each, offsets on the wrong ones."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 9, rows)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    labels = np.zeros(starts[-1], dtype=np.float32)
    for start in starts[:-1]:
        labels[start + rng.permutation(4)[: rng.integers(1, 4)]] = 1
    return Lists(
        rng.normal(size=(starts[-1], width)).astype(np.float32),
        rng.normal(size=(rows, state)).astype(np.float32),
        starts,
        labels,
        np.where(labels > 0, 0, rng.uniform(0, 2, starts[-1])).astype(np.float32),
    )


def planted(rows=400, candidates=12, seed=1, by_state=False):
    """The right candidate has the highest second feature; by the sign of the state the lowest, if wanted."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows * candidates, 4)).astype(np.float32)
    state = rng.choice([-1.0, 1.0], size=(rows, 2)).astype(np.float32)
    sign = state[:, 0] if by_state else np.ones(rows)
    right = (features[:, 1].reshape(rows, candidates) * sign[:, None]).argmax(axis=1)
    labels = np.zeros((rows, candidates), dtype=np.float32)
    labels[np.arange(rows), right] = 1
    starts = np.arange(rows + 1) * candidates
    return Lists(features, state, starts, labels.ravel(), np.zeros(rows * candidates, dtype=np.float32))


def untrained(lists, settings, dtype=np.float64, seed=5):
    """A ranker with weights that are all far from zero."""
    rng = np.random.default_rng(seed)
    width = lists.features.shape[1] + (lists.state.shape[1] if settings else 0)
    sizes = [width, *settings.get("hidden", ()), 1]
    shapes = [shape for pair in pairwise(sizes) for shape in (pair, pair[1:])]
    scale = np.stack([np.full(8, 0.1), np.full(8, 1.3)])
    return ListwiseRanker([rng.normal(size=shape).astype(dtype) for shape in shapes], scale.astype(dtype))


def slow_loss(ranker, lists):
    """Cross-entropy between each list's softmax and the uniform distribution over its right candidates."""
    scores = ranker.scores(lists.features, lists.state, lists.starts)
    total = 0.0
    for start, end in pairwise(lists.starts):
        shifted = scores[start:end].astype(np.float64) + lists.offsets[start:end]
        log_share = shifted - np.log(np.exp(shifted).sum())
        total -= log_share[lists.labels[start:end] > 0].mean()
    return total / (len(lists.starts) - 1)


def first(ranker, lists):
    """Share of the lists whose best candidate is a right one."""
    scores = ranker.scores(lists.features, lists.state, lists.starts)
    pairs = list(pairwise(lists.starts))
    return np.mean([lists.labels[s + scores[s:e].argmax()] > 0 for s, e in pairs])


@pytest.mark.parametrize("settings", [LINEAR, NETWORK], ids=["linear", "network"])
def test_gradients_equal_finite_differences(settings):
    lists = random_lists()
    ranker = untrained(lists, settings, np.float32)
    inputs = ranker._inputs(lists.features, lists.state, lists.starts)
    rng = np.random.default_rng(0)
    found = ranker._gradients(inputs, lists.labels, lists.offsets, lists.starts, settings.get("dropout", ()), rng)
    exact = ListwiseRanker([w.astype(np.float64) for w in ranker.weights], ranker.scale)
    exact._inputs = lambda *_: inputs.astype(np.float64)  # scores in double precision: differences are then exact
    assert len(found) == len(exact.weights) == (6 if settings else 2)
    for gradient, weight in zip(found, exact.weights, strict=True):
        wanted = np.zeros_like(weight)
        for place in np.ndindex(weight.shape):
            kept = weight[place]
            weight[place] = kept + 1e-6
            above = slow_loss(exact, lists)
            weight[place] = kept - 1e-6
            wanted[place] = (above - slow_loss(exact, lists)) / 2e-6
            weight[place] = kept
        assert gradient.shape == weight.shape
        assert np.allclose(gradient, wanted, atol=2e-5)
        assert np.abs(wanted).max() > 1e-3 or weight is exact.weights[-1]  # the last bias moves no softmax


def test_dropped_units_neither_speak_nor_learn():
    lists = random_lists()
    ranker = untrained(lists, NETWORK, np.float32)
    inputs = ranker._inputs(lists.features, lists.state, lists.starts)
    draws = [
        ranker._gradients(inputs, lists.labels, lists.offsets, lists.starts, (0.5, 0.5), np.random.default_rng(n))
        for n in (0, 0, 1)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(draws[0], draws[2], strict=True))


def test_units_that_are_kept_speak_for_the_dropped_ones():
    """Half of the units dropped, but by chance none: the others are twice as loud."""

    class Kind:
        def random(self, shape, dtype):
            return np.ones(shape, dtype=dtype)

    lists = random_lists()
    ranker = untrained(lists, {"hidden": (6,)}, np.float32)
    inputs = ranker._inputs(lists.features, lists.state, lists.starts)
    place = (inputs, lists.labels, lists.offsets, lists.starts)
    dropped = ranker._gradients(*place, (0.5,), Kind())
    ranker.weights[2] = ranker.weights[2] * 2
    loud = ranker._gradients(*place, (0.0,), Kind())
    assert np.allclose(dropped[0], loud[0], atol=1e-5)
    assert np.allclose(dropped[2], 2 * loud[2], atol=1e-5)


def test_decay_keeps_weights_small():
    lists = planted(100)
    free, held = (ListwiseRanker.fit(lists, epochs=40, learning_rate=0.05, decay=decay) for decay in (0.0, 1.0))
    assert np.abs(held.weights[0]).max() < 0.7 * np.abs(free.weights[0]).max()


def test_softmax_is_taken_inside_each_list():
    starts = np.array([0, 1, 4, 6])
    scores = np.array([3.0, 1.0, 2.0, 3.0, 1000.0, 1000.0])  # no overflow
    shares = softmax(scores, starts)
    wanted = np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum()
    assert np.allclose(shares, [1, *wanted, 0.5, 0.5])
    assert segments(starts).tolist() == [0, 1, 1, 1, 2, 2]


def test_taking_lists_takes_their_candidates_in_the_order_asked_for():
    lists = random_lists()
    taken, starts = lists.take(np.array([7, 2]))
    wanted = [*range(lists.starts[7], lists.starts[8]), *range(lists.starts[2], lists.starts[3])]
    assert taken.tolist() == wanted
    assert starts.tolist() == [0, lists.starts[8] - lists.starts[7], len(wanted)]


def test_contributions_of_a_linear_ranker_sum_to_its_scores():
    lists = random_lists()
    ranker = ListwiseRanker.fit(lists, epochs=3)
    parts = ranker.contributions(lists.features, lists.state, lists.starts)
    scores = ranker.scores(lists.features, lists.state, lists.starts)
    assert parts.shape == lists.features.shape
    assert np.allclose(parts.sum(axis=1) + ranker.weights[-1], scores, atol=1e-5)


def test_contributions_of_a_network_are_input_times_gradient():
    lists = random_lists()
    ranker = untrained(lists, NETWORK)
    parts = ranker.contributions(lists.features, lists.state, lists.starts)
    mean, spread = ranker.scale
    for column in range(lists.features.shape[1]):
        moved = []
        for step in (1e-2, -1e-2):
            features = lists.features.copy()
            features[:, column] += step
            moved.append(ranker.scores(features, lists.state, lists.starts))
        slope = (moved[0] - moved[1]) / 2e-2
        wanted = slope * (lists.features[:, column] - mean[column])
        near = np.isclose(parts[:, column], wanted, atol=2e-2)
        assert near.mean() > 0.9  # a step across a kink of the network has no slope
    assert spread.min() > 0


@pytest.mark.parametrize("settings", [LINEAR, {**NETWORK, "hidden": (16, 8)}], ids=["linear", "network"])
def test_a_planted_rule_is_learnt(settings):
    lists, unseen = planted(), planted(seed=2)
    told = []
    before = ListwiseRanker.fit(lists, epochs=0, **settings)
    ranker = ListwiseRanker.fit(
        lists, epochs=12, learning_rate=0.05, progress=lambda *step: told.append(step), **settings
    )
    assert slow_loss(ranker, unseen) < 0.3 * slow_loss(before, unseen)
    assert first(before, unseen) < 0.5
    assert first(ranker, unseen) > 0.9
    assert told[-1] == ("learning to rank", 12 * 13, 12 * 13)


def test_a_network_learns_what_depends_on_the_state_and_a_linear_ranker_cannot():
    lists, unseen = planted(1000, by_state=True), planted(seed=2, by_state=True)
    network = ListwiseRanker.fit(lists, epochs=15, learning_rate=0.02, hidden=(24, 12), dropout=(0.0, 0.0))
    linear = ListwiseRanker.fit(lists, epochs=15, learning_rate=0.02)
    assert first(network, unseen) > 0.8
    assert first(linear, unseen) < 0.5


def test_hidden_layers_need_no_dropout_given():
    lists = random_lists()
    given = ListwiseRanker.fit(lists, **NETWORK)
    left_out = ListwiseRanker.fit(lists, hidden=(6, 4))
    assert all(np.array_equal(a, b) for a, b in zip(given.weights, left_out.weights, strict=True))


def test_lists_without_a_right_candidate_are_passed_over():
    lists = random_lists()
    barren = [3, 10]
    for row in barren:
        lists.labels[lists.starts[row] : lists.starts[row + 1]] = 0
    ranker = ListwiseRanker.fit(lists, epochs=2, batch=7)
    # Whatever stands in the barren lists, nothing is learnt from it; scales are of all lists.
    for row in barren:
        own = slice(lists.starts[row], lists.starts[row + 1])
        lists.features[own] = lists.features[own][::-1]
    again = ListwiseRanker.fit(lists, epochs=2, batch=7)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(ranker.weights, again.weights, strict=True))
    assert all(np.isfinite(w).all() for w in ranker.weights)


def test_nothing_to_learn_from_leaves_the_start():
    lists = random_lists()
    lists.labels[:] = 0
    ranker = ListwiseRanker.fit(lists)
    assert not ranker.scores(lists.features, lists.state, lists.starts).any()


@pytest.mark.parametrize("settings", [LINEAR, {"hidden": (6, 4), "dropout": (0.1, 0.2)}], ids=["linear", "network"])
def test_save_and_load_give_the_same_bits_and_a_seed_decides_the_weights(settings, tmp_path):
    lists = random_lists()
    ranker, again, other = (ListwiseRanker.fit(lists, epochs=2, batch=8, seed=s, **settings) for s in (3, 3, 4))
    ranker.save(tmp_path / "ranker.npz")
    loaded = ListwiseRanker.load(tmp_path / "ranker.npz")
    place = (lists.features, lists.state, lists.starts)
    assert np.array_equal(loaded.scores(*place), ranker.scores(*place))
    assert all(np.array_equal(a, b) for a, b in zip(ranker.weights, again.weights, strict=True))
    assert not np.array_equal(ranker.weights[0], other.weights[0])
    assert all(w.dtype == np.float32 for w in loaded.weights)


def test_no_candidates_no_scores():
    lists = random_lists()
    for settings in (LINEAR, NETWORK):
        ranker = untrained(lists, settings)
        nothing = ranker.scores(np.zeros((0, 5)), lists.state[:2], np.array([0, 0, 0]))
        assert nothing.shape == (0,)


def test_an_offset_stands_for_so_many_equal_candidates():
    """A list with a wrong candidate four times over, and the same list with it once and the logarithm of four."""
    lists = random_lists(rows=1)
    lists.offsets[:] = 0
    wrong = int(np.flatnonzero(lists.labels == 0)[0])
    once = np.arange(len(lists.labels))
    often = np.concatenate([once, [wrong] * 3])
    offsets = np.where(once == wrong, np.log(4), 0).astype(np.float32)
    found = []
    for settings in (LINEAR, NETWORK):
        ranker = untrained(lists, settings, np.float32)
        for chosen, added in ((once, offsets), (often, np.zeros(len(often), dtype=np.float32))):
            starts = np.array([0, len(chosen)])
            inputs = ranker._inputs(lists.features[chosen], lists.state, starts)
            dropout, rng = settings.get("dropout", ()), np.random.default_rng(0)
            found.append(ranker._gradients(inputs, lists.labels[chosen], added, starts, dropout, rng))
    for compact, written_out in (found[:2], found[2:]):
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(compact, written_out, strict=True))


def test_sampled_wrong_candidates_with_offsets_rank_nearly_like_all_of_them():
    rng = np.random.default_rng(8)
    rows, size = 600, 40
    features = rng.normal(size=(rows * size, 3)).astype(np.float32)
    chances = np.exp(features @ [1.5, -1.0, 0.2]).reshape(rows, size)
    drawn = (chances.cumsum(axis=1) / chances.sum(axis=1, keepdims=True) > rng.random((rows, 1))).argmax(axis=1)
    labels = np.zeros((rows, size), dtype=np.float32)
    labels[np.arange(rows), drawn] = 1
    labels, state = labels.ravel(), np.zeros((rows, 1), dtype=np.float32)
    every = Lists(features, state, np.arange(rows + 1) * size, labels, np.zeros_like(labels))
    kept = np.flatnonzero((labels > 0) | (rng.random(len(labels)) < 0.25))
    starts = np.searchsorted(kept, every.starts)
    offsets = np.where(labels[kept] > 0, 0, np.log(4)).astype(np.float32)
    sampled = Lists(features[kept], state, starts, labels[kept], offsets)
    of_all, of_some = (ListwiseRanker.fit(lists, epochs=20, learning_rate=0.02) for lists in (every, sampled))
    place = (features, state, every.starts)
    assert np.corrcoef(of_all.scores(*place), of_some.scores(*place))[0, 1] > 0.99
    assert slow_loss(of_some, every) < slow_loss(of_all, every) + 0.02


def test_a_fit_that_diverges_is_told():
    with (
        np.errstate(over="ignore"),
        pytest.raises(MachineError, match="a weight is not finite") as caught,
    ):
        ListwiseRanker.fit(planted(rows=60), learning_rate=float("inf"))
    assert caught.value.hint == "lower learning_rate"
