import numpy as np
import pytest

from crscli.comparisons import KS, Measured, compare, draw, label, table

FULL = {"template": True, "share": 1.0, "share_of": "all", "micro_batch": 0, "kg": "metadata"}
NUMS = np.array([3, 3, 5, 7, 7, 7])


def measured(seed=0, first=(1, 2, 20, 0, 3, 60), **changes):
    """A run whose rows have one label, but the last two."""
    ranks = [np.array([r]) for r in first[:4]] + [np.array([first[4], 0]), np.array([first[5], 5])]
    return Measured({**FULL, **changes}, seed, ranks)


def test_a_label_is_what_sets_a_run_apart():
    def labels(**changes):
        return [label(kind, FULL, {**FULL, **changes}) for kind in ("ablation", "scarcity")]

    assert labels() == ["", ""]
    assert labels(micro_batch=4) == ["", ""]
    assert labels(template=False, kg="unicrs") == ["template=False, kg=unicrs", None]
    assert labels(share=0.2) == [None, "share=0.2"]
    assert labels(share=0.2, share_of="recommendation") == [None, "share=0.2, share_of=recommendation"]
    assert labels(share=0.2, template=False) == [None, None]


def test_recall_is_over_labels_and_seeds():
    runs = [measured(), measured(seed=1, first=(0, 0, 0, 0, 0, 0)), measured(template=False, first=(1, 1, 1, 1, 1, 1))]
    whole, without = compare("ablation", runs, NUMS, draws=50, seed=0)
    assert (whole.label, whole.seeds, without.label, without.seeds) == ("", 2, "template=False", 1)
    # Ranks 1, 2, 20, -, 3 and -, 60 and 5 beside none but the 5.
    assert [whole.recall[k].value for k in KS] == pytest.approx([(1 + 0) / 16, (4 + 1) / 16, (5 + 1) / 16])
    assert [without.recall[k].value for k in KS] == pytest.approx([6 / 8, 7 / 8, 7 / 8])
    assert without.difference[10].value == pytest.approx(7 / 8 - 5 / 16)
    assert whole.difference[10].low == whole.difference[10].high == 0


def test_intervals_equal_a_slow_loop():
    runs = [measured(seed=s, first=(1 + s, 2, 20, 0, 3, 60)) for s in (0, 30)]
    runs += [measured(seed=s, template=False, first=(0, 7, 2, 9 * s, 1, 1)) for s in (0, 1, 2)]
    _, found = compare("ablation", runs, NUMS, draws=40, seed=5)
    rng = np.random.default_rng(5)
    drawn = rng.multinomial(3, np.full(3, 1 / 3), size=40)
    rows = [[0, 1], [2], [3, 4, 5]]
    values = []
    for group in (runs[:2], runs[2:]):
        chosen = rng.integers(len(group), size=(len(group), 40))
        values.append([])
        for num, weights in enumerate(drawn):
            means = []
            for seed in chosen[:, num]:
                ranks = [group[seed].ranks[r] for d, w in enumerate(weights) for _ in range(w) for r in rows[d]]
                flat = np.concatenate(ranks)
                means.append(((flat > 0) & (flat <= 10)).mean())
            values[-1].append(np.mean(means))
    low, high = np.percentile(np.array(values[1]) - np.array(values[0]), [2.5, 97.5])
    assert (found.difference[10].low, found.difference[10].high) == pytest.approx((low, high))


def test_what_cannot_be_told_from_noise_is_said():
    many = np.arange(60)
    hits, misses = (Measured({**FULL, "template": t}, 0, [np.array([r])] * 60) for t, r in ((True, 1), (False, 0)))
    some = Measured({**FULL, "bases": 2}, 0, [np.array([n % 30]) for n in range(60)])
    groups = compare("ablation", [hits, misses, some], many, draws=100, seed=0)
    columns, rows = table({"m": groups})
    assert len(columns) == len(rows[0]) == len(rows[1]) == 10
    assert rows[0][:4] == ["m", "(nothing)", 1, "1.000 [1.000-1.000]"]
    assert rows[1][-1] == "R@1, R@10, R@50"
    same = compare("ablation", [hits, Measured({**FULL, "bases": 3}, 0, hits.ranks)], many, draws=100, seed=0)
    assert same[1].told_apart() == "none: noise"


@pytest.mark.parametrize("kind", ["ablation", "scarcity"])
def test_pictures_are_drawn(kind, tmp_path):
    runs = [measured(), measured(share=0.2), measured(share=0.4), measured(share=0.2, share_of="recommendation")]
    runs += [measured(template=False, first=(0, 0, 0, 1, 0, 0)), measured(bases=2)]
    groups = compare(kind, runs, NUMS, draws=20, seed=0)
    assert [g.label for g in groups][1:] == {
        "ablation": ["template=False", "bases=2"],
        "scarcity": ["share=0.2", "share=0.4", "share=0.2, share_of=recommendation"],
    }[kind]
    draw(kind, {"unicrs": groups, "kbrd": groups[:2]}, tmp_path / "a.png", title="tiny, turns")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
