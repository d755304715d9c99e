"""ReFICR's training as a whole: stages, what goes on after an interruption, every ablation, saved and loaded."""

import numpy as np
import pytest
from reficr_world import CATALOGUE, SMALL, TRAIN, VALID, dialogue

from crscli.dialogue import ACTS, cut
from crscli.errors import ArtifactMissing
from crscli.models.reficr import Reficr
from crscli.models.reficr.config import CODE, ReficrConfig
from crscli.recommender import FitData
from crscli.training import Run

CONTEXTS = [e.context for d in VALID for e in cut(d)]
DATA = FitData(TRAIN, VALID, annotated=[dialogue(40, acts=("asks for more",))],
               annotated_valid=[dialogue(41, acts=("accepts",))])  # fmt: skip


def fitted(data=DATA, run=None, **settings):
    return Reficr.fit(CATALOGUE, data, ReficrConfig(**{**SMALL, **settings}), seed=0, run=run)


def values(model):
    return {n: p.detach().numpy().copy() for n, p in model.network.trained().items()}


def same(one, other):
    return all(np.array_equal(one[n], other[n]) for n in one)


ABLATIONS = {
    "no instruction": {"instructions": False},
    "no ranking": {"ranking": "none"},
    "random ranking": {"ranking": "random"},
    "no conversations": {"conversations": "none"},
    "conversations untrained": {"conversations": "untrained"},
    "in-batch negatives alone": {"negatives": 0, "in_batch": True},
    "one mined negative": {"negatives": 1},
    "two candidates": {"candidates": 2},
    "no first stage": {"first_epochs": 0, "in_batch": True},
    "begun anew": {"second_stage": "restart"},
    "items alone": {"conversation_weight": 0.0, "language_weight": 0.0, "ranking": "none"},
    "answers alone": {"item_weight": 0.0, "conversation_weight": 0.0, "first_epochs": 0},
    "one positive a row": {"every_positive": False},
    "blended": {"blended": True, "ranking": "likelihood"},
    "as the code does": CODE,
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_is_trained_and_ranks(name, tmp_path):
    model = fitted(**ABLATIONS[name])
    rankings = model.rank(CONTEXTS, 12)
    assert all(sorted(r.item_nums.tolist()) == list(range(12)) for r in rankings)
    model.save(tmp_path)
    loaded = Reficr.load(tmp_path, CATALOGUE, model.config)
    for one, other in zip(loaded.rank(CONTEXTS, 12), rankings, strict=True):
        assert one.item_nums.tolist() == other.item_nums.tolist()
    assert [m.acts for m in loaded.manage(CONTEXTS)] == [m.acts for m in model.manage(CONTEXTS)]


def test_the_stages_learn_what_they_should():
    model = fitted(first_epochs=6, epochs=6, batch_size=16, learning_rate=3e-3)
    for stage, losses in {"first": ("items", "conversations"), "second": ("items", "conversations", "answers")}.items():
        rows = [r for r in model.logs[stage].rows if "loss" in r]
        for loss in losses:
            seen = [r[f"loss/{loss}"] for r in rows if f"loss/{loss}" in r]
            assert np.mean(seen[-3:]) < np.mean(seen[:3]), (stage, loss)
    assert set(model.thresholds) == set(ACTS[1:])
    assert len(model.store) == len(model.network.store) > 10


def test_a_training_that_stopped_in_either_stage_ends_as_one_that_did_not(tmp_path):
    whole = values(fitted())
    for stage in ("first", "second"):
        directory = tmp_path / stage

        class Stopped(Exception):
            pass

        def progress(name, done, total, note="", stage=stage):
            if name == stage and done > 1:
                raise Stopped

        with pytest.raises(Stopped):
            fitted(run=Run(directory, progress=progress))
        assert same(values(fitted(run=Run(directory))), whole)


def test_mining_that_stopped_goes_on(tmp_path):
    class Stopped(Exception):
        pass

    def progress(name, done, total, note=""):
        if name == "mining: queries-item":
            raise Stopped

    with pytest.raises(Stopped):
        fitted(run=Run(tmp_path, progress=progress))
    kept = sorted(p.name for p in (tmp_path / "mined").iterdir())
    assert kept == ["items-0.npy", "queries-item-0.npy"]
    assert same(values(fitted(run=Run(tmp_path))), values(fitted()))


def test_weights_of_another_backbone_are_refused(tmp_path):
    model = fitted(epochs=1)
    model.save(tmp_path)
    with pytest.raises(ArtifactMissing, match="another backbone"):
        Reficr.load(tmp_path, CATALOGUE, ReficrConfig(**{**SMALL, "width": 16}))
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(ArtifactMissing):
        Reficr.load(tmp_path, CATALOGUE, model.config)


def test_a_data_set_without_valid_and_with_one_dialogue_is_fitted():
    assert len(fitted(FitData(TRAIN)).rank(CONTEXTS, 3)[0].item_nums) == 3
    assert len(fitted(FitData(TRAIN[:1])).rank(CONTEXTS, 3)[0].item_nums) == 3


def test_the_plan_counts_both_stages():
    model = Reficr.untrained(CATALOGUE, DATA, ReficrConfig(**SMALL), seed=0)
    stages = {name: (len(rows), schedule.epochs) for name, _, rows, schedule in model.stages(TRAIN, 0)}
    assert stages["first"][0] < stages["second"][0]
    assert {name for name in stages} == {"first", "second"}
