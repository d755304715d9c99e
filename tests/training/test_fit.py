import json
import math
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import PLAIN, Small, differing, examples, judge

from crscli import training
from crscli.errors import MachineError
from crscli.training import Run, Schedule, fit, memory_errors


def trained(schedule=PLAIN, *, model=None, number=40, run=None, **options):
    model = model or Small()
    log = fit(model, examples(number), schedule, run or Run(), **options)
    return model, log


def losses(log):
    return [row["loss"] for row in log.rows if "loss" in row]


# ---- steps ----------------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_wanted_tokens_are_found():
    schedule = replace(PLAIN, epochs=40)
    model, log = trained(schedule, model=Small(dropout=0.0))
    assert len(log.rows) == 280
    assert np.mean(losses(log)[-14:]) < 0.3 * np.mean(losses(log)[:7])
    assert not model.training


def test_each_example_is_learnt_once_an_epoch():
    model, log = trained()
    seen = [sorted(name for rows in model.rows_seen[at : at + 7] for name in rows) for at in (0, 7, 14)]
    assert seen == [sorted(e.name for e in examples())] * 3
    assert (log.summary["steps"], log.summary["planned_steps"], log.summary["examples"]) == (21, 21, 120)


def test_the_gradient_is_that_of_the_mean_over_all_units():
    model, same = Small(dropout=0.0), Small(dropout=0.0)
    trained(replace(PLAIN, epochs=1, batch_size=40), model=model)
    rows = [e for name in model.rows_seen[0] for e in examples() if e.name == name]
    batch = same.collate(rows, model.drawn[0], range(40))
    made = same.losses(batch)
    (made["choice"] / 40 + 0.5 * made["rare"] / batch.counts["rare"]).backward()
    for name, parameter in same.trained().items():
        assert torch.allclose(parameter.grad, model.trained()[name].grad, atol=1e-6), name


def test_every_step_draws_anew_and_a_repeated_one_the_same():
    one, again = trained()[0].drawn, trained()[0].drawn
    assert [d.tolist() for d in one] == [d.tolist() for d in again]
    assert len({tuple(d.tolist()) for d in one}) == 21


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 100])
def test_a_batch_in_parts_makes_the_step_of_the_whole(micro_batch):
    whole, first = trained(model=Small(dropout=0.0))
    parts, second = trained(replace(PLAIN, micro_batch=micro_batch), model=Small(dropout=0.0))
    assert max(len(rows) for rows in parts.rows_seen) <= micro_batch
    for name, value in whole.values().items():
        assert torch.allclose(value, parts.values()[name], atol=1e-6), name
    assert losses(first) == pytest.approx(losses(second), abs=1e-5)


def test_the_logged_loss_is_the_weighted_mean_of_its_parts():
    _, log = trained()
    for row in log.rows:
        assert row["loss"] == pytest.approx(row["loss/choice"] + 0.5 * row.get("loss/rare", 0.0))
    assert {"loss/rare" in row for row in log.rows} == {True, False}  # batches with no unit of it say nothing of it


def test_a_batch_without_a_unit_of_any_loss_is_passed():
    model = Small()
    model.weights = {"rare": 1.0}
    _, log = trained(replace(PLAIN, batch_size=2), model=model)
    assert 0.0 in losses(log)
    assert max(losses(log)) > 0


def test_same_seed_same_parameters_other_seed_others():
    one, _ = trained()
    again, _ = trained()
    other, _ = trained(replace(PLAIN, seed=6))
    assert not differing(one.values(), again.values())
    assert set(differing(one.values(), other.values())) == set(one.values())


def test_a_seed_may_be_large():
    trained(replace(PLAIN, epochs=1, seed=2**62))


def test_only_what_is_declared_is_trained():
    before, model = Small(), Small()
    trained(model=model)
    assert torch.equal(before.frozen, model.frozen)
    assert set(differing(before.values(), model.values())) == set(before.values())


def test_a_model_without_parameters_is_refused():
    model = Small()
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no trained parameters"):
        trained(model=model)


def test_no_examples_leave_the_model_as_it_was(tmp_path):
    before, model = Small(), Small()
    _, log = trained(model=model, number=0, run=Run(tmp_path), validate=judge(model), choose="agreement")
    assert not differing(before.values(), model.values())
    assert log.summary["steps"] == 0


# ---- schedule -------------------------------------------------------------------------------------------------------


def test_the_rate_rises_to_its_height_and_falls_to_zero():
    schedule = Schedule(epochs=1, batch_size=1, learning_rate=0.5, warmup=0.2)
    rates = [schedule.rate(step, 10) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.5, 0.4375, 0.375, 0.3125, 0.25, 0.1875, 0.125, 0.0625])
    assert schedule.rate(10, 10) == 0


def test_without_warm_up_the_first_step_has_the_full_rate():
    schedule = Schedule(epochs=1, batch_size=1, learning_rate=0.5, warmup=0.0)
    assert schedule.rate(0, 10) == 0.5
    assert Schedule(epochs=1, batch_size=1, learning_rate=0.5, warmup=1.0).rate(0, 1) == 0.5


def test_steps_are_made_at_the_rate_of_the_schedule():
    _, log = trained(replace(PLAIN, warmup=0.3))
    assert [row["rate"] for row in log.rows] == [replace(PLAIN, warmup=0.3).rate(step, 21) for step in range(21)]


def test_weight_decay_shrinks_matrices_and_nothing_else():
    start = Small()
    schedule = replace(PLAIN, epochs=1, batch_size=40, warmup=0.0)
    plain, _ = trained(schedule, model=Small(dropout=0.0))
    decayed, _ = trained(replace(schedule, weight_decay=0.3), model=Small(dropout=0.0))
    assert differing(plain.values(), decayed.values()) == ["table.weight", "mix.weight"]
    for name in ("table.weight", "mix.weight"):
        shrunk = plain.values()[name] - schedule.learning_rate * 0.3 * start.values()[name]
        assert torch.allclose(decayed.values()[name], shrunk, atol=1e-6)


def test_gradients_are_clipped_to_a_norm():
    def norm_left(clip):
        model, log = trained(replace(PLAIN, clip=clip))
        return float(torch.nn.utils.get_total_norm([p.grad for p in model.trained().values()])), log.rows[-1]["norm"]

    left, logged = norm_left(0.01)
    assert left == pytest.approx(0.01, rel=1e-3)
    assert logged > 0.01  # the log has it as it was
    left, logged = norm_left(0.0)
    assert left == pytest.approx(logged)


def test_a_schedule_is_read_from_settings_of_the_same_names():
    class Settings:
        epochs, batch_size, learning_rate, micro_batch, warmup = 2, 4, 0.1, 1, 0.2
        weight_decay, clip, validations, patience = 0.3, 1.0, 2, 3

    assert Schedule.of(Settings, seed=9) == Schedule(2, 4, 0.1, 1, 0.2, 0.3, 1.0, 2, 3, 9)


# ---- validation, choice ---------------------------------------------------------------------------------------------


def scripted(model, figures, kept=None):
    """A validation with figures that are given, which keeps the parameters it saw."""
    figures = iter(figures)

    def validate():
        if kept is not None:
            kept.append(model.values())
        return {"score": next(figures)}

    return validate


def validated(log):
    return [row["step"] for row in log.rows if "valid/score" in row]


@pytest.mark.parametrize(
    ("validations", "steps"),
    [
        (0, [7, 14, 21]),
        (1, [7, 14, 21]),
        (2, [3, 7, 10, 14, 17, 21]),
        (7, list(range(1, 22))),
        (50, list(range(1, 22))),
    ],
)
def test_validations_are_spread_over_an_epoch(validations, steps):
    model = Small()
    validate = scripted(model, range(50))
    _, log = trained(replace(PLAIN, validations=validations), model=model, validate=validate, choose="score")
    assert validated(log) == steps


def test_training_ends_when_patience_does_and_the_best_parameters_are_put_back():
    model, kept = Small(), []
    validate = scripted(model, [0.4, 0.1, 0.5, 0.5, 0.3, 0.9], kept)
    schedule = replace(PLAIN, epochs=9, patience=2)
    _, log = trained(schedule, model=model, validate=validate, choose="score")
    assert validated(log) == [7, 14, 21, 28, 35]  # an equal figure is no better one
    assert log.summary["best_step"] == 21
    assert log.summary["valid"] == {"score": 0.5}
    assert (log.summary["steps"], log.summary["planned_steps"]) == (35, 63)
    assert not differing(model.values(), kept[2])
    assert differing(kept[2], kept[4])


def test_a_figure_that_is_no_number_is_never_the_best():
    model, kept = Small(), []
    nan = math.nan
    _, log = trained(model=model, validate=scripted(model, [nan, np.float32(0.5), nan], kept), choose="score")
    assert log.summary["best_step"] == 14
    assert not differing(model.values(), kept[1])


def test_without_a_choice_the_last_parameters_are_taken():
    model, kept = Small(), []
    _, log = trained(model=model, validate=scripted(model, [3, 2, 1], kept))
    assert "best_step" not in log.summary
    assert not differing(model.values(), kept[2])


def test_validation_moves_nothing_in_training():
    plain, without = trained()
    model = Small()
    _, log = trained(replace(PLAIN, validations=3), model=model, validate=judge(model))
    assert not differing(plain.values(), model.values())
    assert losses(without) == losses(log)


def test_a_training_can_be_cut_short_for_a_quick_look():
    model = Small()
    _, log = trained(model=model, run=Run(max_steps=5), validate=scripted(model, [1.0]), choose="score")
    assert log.summary["steps"] == 5
    assert validated(log) == [5]
    assert [row["rate"] for row in log.rows if "rate" in row] == [PLAIN.rate(step, 21) for step in range(5)]


def test_more_steps_than_planned_are_not_made():
    _, log = trained(run=Run(max_steps=500))
    assert log.summary["steps"] == 21


# ---- what is told ---------------------------------------------------------------------------------------------------


def test_the_log_on_disk_is_the_log(tmp_path):
    model = Small()
    _, log = trained(model=model, run=Run(tmp_path), validate=judge(model), choose="agreement", name="stage")
    lines = (tmp_path / "stage" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == log.rows
    assert [row["step"] for row in log.rows] == sorted(row["step"] for row in log.rows)


def test_a_long_training_logs_some_of_its_steps(monkeypatch):
    monkeypatch.setattr(training, "_LOGGED", 7)
    _, log = trained()
    assert [row["step"] for row in log.rows] == [1, 4, 7, 10, 13, 16, 19]


def test_progress_hears_of_every_step_and_the_user_of_every_validation():
    heard, said = [], []
    model = Small()
    run = Run(progress=lambda *report: heard.append(report), say=said.append)
    trained(model=model, run=run, validate=scripted(model, [2, 1, 3]), choose="score", name="stage")
    assert [(label, done, total) for label, done, total, _ in heard] == [("stage", n, 21) for n in range(1, 22)]
    assert "loss" in heard[0][3]
    assert said[1] == "stage: after step 14 of 21: score 1; best after 7"
    assert len(said) == 3


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_training_with_the_state_before_it(tmp_path):
    before, _ = trained(run=Run(max_steps=8))
    model = Small()
    model.events = {9: lambda: setattr(model, "factor", math.nan)}
    with pytest.raises(MachineError, match="loss of step 9 is not finite") as caught:
        trained(model=model, run=Run(tmp_path))
    assert caught.value.exit_code == 7
    assert all(name in caught.value.message for name in model.rows_seen[8])
    assert "learning_rate" in caught.value.hint
    assert not differing(before.values(), model.values())
    resumed, log = trained(run=Run(tmp_path))  # the cause is gone
    assert not differing(resumed.values(), trained()[0].values())
    assert [row["step"] for row in log.rows] == list(range(1, 22))


def test_a_gradient_that_is_not_finite_ends_training_too():
    class Steep(Small):
        def losses(self, batch):
            made = super().losses(batch)
            if self.calls == 3:
                made["choice"] = made["choice"] + (self.table.weight[0, 0] * 0).sqrt()  # 0, but its slope is not
            return made

    with pytest.raises(MachineError, match="step 3 is not finite"):
        trained(model=Steep())


def out_of_memory(error):
    def event():
        raise error

    return event


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"),
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((9,), np.dtype("f8")),
    ],
)
def test_memory_that_runs_out_says_what_to_lower(error):
    with pytest.raises(MachineError, match="out of memory") as caught:
        trained(model=Small(events={2: out_of_memory(error)}))
    assert caught.value.exit_code == 7
    assert "\n" not in caught.value.message
    assert "micro_batch" in caught.value.hint


def test_other_errors_are_not_taken_for_lack_of_memory():
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        raise RuntimeError("shape mismatch")


def test_signal_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    trained(run=Run(max_steps=1))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_training_works_outside_the_main_thread():
    logs = []
    thread = threading.Thread(target=lambda: logs.append(trained(replace(PLAIN, epochs=1))[1]))
    thread.start()
    thread.join()
    assert logs[0].summary["steps"] == 7


def test_dropout_is_on_in_training_alone():
    class Watching(Small):
        modes: list

        def losses(self, batch):
            self.modes.append(self.training)
            return super().losses(batch)

    model = Watching()
    model.modes = []
    trained(model=model, validate=judge(model))
    assert set(model.modes) == {True}
