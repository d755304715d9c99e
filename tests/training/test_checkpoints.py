import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small
import torch
from safetensors import SafetensorError
from small import PLAIN, Small, differing, examples, judge

from crscli import training
from crscli.errors import MachineError
from crscli.training import Run, checkpoints, fit

SCHEDULE = replace(PLAIN, validations=2, patience=4, clip=0.5, weight_decay=0.01)
"""21 steps, seven an epoch; validations after 3, 7, 10, 14, 17 and 21."""


def trained(directory, *, events=None, **options):
    """A training with dropout, from where the directory says."""
    model = Small(events=events)
    run = Run(directory, **options)
    return model, fit(model, examples(), SCHEDULE, run, validate=judge(model), choose="agreement", name="run")


def interrupted(directory, step, number=signal.SIGINT):
    """A training that hears a signal in the losses of a step."""
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        trained(directory, events={step: lambda: os.kill(os.getpid(), number)})
    return caught.value


def contents(directory):
    """All that the newest checkpoint holds, and which it is."""
    folder, state = checkpoints.newest(directory / "run")
    files = {f.name: checkpoints.load_tensors(f) for f in folder.glob("*.safetensors")}
    return folder.name, state, files


def assert_same(directory, model, log, uninterrupted):
    reference, other, other_log = uninterrupted
    assert not differing(model.values(), other.values())
    (name, state, files), (other_name, other_state, other_files) = contents(directory), contents(reference)
    assert (name, state) == (other_name, other_state)
    assert files.keys() == other_files.keys() == {f"{n}.safetensors" for n in ("parameters", "optimiser", "best")}
    for file, tensors in files.items():
        assert not differing(tensors, other_files[file]), file
    assert log.rows == other_log.rows
    assert {**log.summary, "seconds": 0} == {**other_log.summary, "seconds": 0}
    lines = (directory / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == log.rows  # none twice


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Its directory, the model and the log."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    return directory, *trained(directory)


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", -1)


# ---- resuming -------------------------------------------------------------------------------------------------------


def test_the_uninterrupted_training_is_one_to_compare_with(uninterrupted):
    _, model, log = uninterrupted
    assert [row["step"] for row in log.rows if "valid/agreement" in row] == [3, 7, 10, 14, 17, 21]
    assert log.summary["best_step"] not in (3, 21)
    again, _ = trained(None)
    assert not differing(model.values(), again.values())
    without_dropout = Small(dropout=0.0)
    fit(without_dropout, examples(), SCHEDULE, Run(), validate=judge(without_dropout), choose="agreement")
    assert differing(model.values(), without_dropout.values())


@pytest.mark.parametrize("step", [1, 5, 7, 10, 20, 21])
def test_a_training_that_was_interrupted_goes_on_bit_for_bit(tmp_path, uninterrupted, step):
    assert isinstance(interrupted(tmp_path, step), KeyboardInterrupt)
    assert contents(tmp_path)[0] == f"step-{step:09}"  # the step under way was made
    said = []
    model, log = trained(tmp_path, say=said.append)
    assert said[0] == f"run: going on after step {step} of 21"
    assert model.calls == 21 - step
    assert_same(tmp_path, model, log, uninterrupted)


def test_it_may_be_interrupted_many_times(tmp_path, uninterrupted):
    for _ in range(7):
        interrupted(tmp_path, 3)
    assert_same(tmp_path, *trained(tmp_path), uninterrupted)


def test_a_finished_training_is_not_made_again(tmp_path, uninterrupted):
    directory = shutil.copytree(uninterrupted[0], tmp_path / "copy")
    model, log = trained(directory)
    assert model.calls == 0
    assert_same(directory, model, log, uninterrupted)


def test_a_training_out_of_patience_stays_so(tmp_path):
    def falling():
        figures = iter([3.0, 2.0, 1.0])
        return lambda: {"score": next(figures)}

    impatient = replace(SCHEDULE, patience=1)
    models = [Small(), Small()]
    logs = [fit(m, examples(), impatient, Run(tmp_path), validate=falling(), choose="score") for m in models]
    assert [m.calls for m in models] == [7, 0]
    assert logs[0].rows == logs[1].rows
    assert not differing(models[0].values(), models[1].values())


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_a_quick_look_leaves_no_trace_in_the_training_that_goes_on(tmp_path, uninterrupted, steps):
    _, log = trained(tmp_path, max_steps=steps)
    assert "valid/agreement" in log.rows[-1]
    assert_same(tmp_path, *trained(tmp_path), uninterrupted)


def test_sigterm_ends_with_its_exit_code_and_a_checkpoint(tmp_path, uninterrupted):
    ended = interrupted(tmp_path, 4, signal.SIGTERM)
    assert isinstance(ended, SystemExit)
    assert ended.code == 143
    assert contents(tmp_path)[0] == "step-000000004"
    assert_same(tmp_path, *trained(tmp_path), uninterrupted)


def test_a_second_signal_ends_at_once(tmp_path):
    interrupted(tmp_path, 4)

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("training went on")

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, events={3: twice})
    assert contents(tmp_path)[0] == "step-000000004"


def test_without_a_directory_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    interrupted(None, 4)
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_while_it_wrote_a_checkpoint_goes_on_from_the_one_before(tmp_path, uninterrupted):
    schedule = {name: getattr(SCHEDULE, name) for name in ("validations", "patience", "clip", "weight_decay")}
    asked = {"directory": str(tmp_path), "name": "run", "schedule": schedule, "every_s": -1, "kill_in_sync": 70}
    command = [sys.executable, small.__file__, json.dumps([asked])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [f.name for f in checkpoints.found(tmp_path / "run")] == ["step-000000010", "step-000000009"]
    assert [f.name for f in (tmp_path / "run").glob(".*")] == [".step-000000011.partial"]
    assert_same(tmp_path, *trained(tmp_path), uninterrupted)
    assert not list((tmp_path / "run").glob(".*"))


# ---- damage ---------------------------------------------------------------------------------------------------------


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {"flipped": flip, "truncated": lambda p: p.write_bytes(p.read_bytes()[:-9]), "missing": Path.unlink}
FILES = ["parameters.safetensors", "optimiser.safetensors", "best.safetensors", "state.json", "sha256.json"]


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """Of steps 11 and 12."""
    directory = tmp_path_factory.mktemp("two")
    every_s, training._CHECKPOINT_EVERY_S = training._CHECKPOINT_EVERY_S, -1
    trained(directory, max_steps=12)
    training._CHECKPOINT_EVERY_S = every_s
    return directory


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_for_the_one_before(tmp_path, two_checkpoints, damage, file):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    newest, before = checkpoints.found(directory / "run")
    assert sorted(f.name for f in newest.iterdir()) == sorted(FILES)
    DAMAGE[damage](newest / file)
    assert checkpoints.newest(directory / "run")[0] == before


def test_training_goes_on_from_the_one_before(tmp_path, two_checkpoints, uninterrupted):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    flip(checkpoints.found(directory / "run")[0] / "best.safetensors")
    model, log = trained(directory)
    assert model.calls == 21 - 11
    assert_same(directory, model, log, uninterrupted)


def test_training_begins_anew_if_every_checkpoint_is_damaged(tmp_path, two_checkpoints, uninterrupted):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    for folder in checkpoints.found(directory / "run"):
        flip(folder / "parameters.safetensors")
    model, log = trained(directory)
    assert model.calls == 21
    assert_same(directory, model, log, uninterrupted)


def test_odd_files_among_the_checkpoints_do_no_harm(tmp_path):
    (tmp_path / "run" / "step-000000099").mkdir(parents=True)
    (tmp_path / "run" / "step-000000098").write_text("no folder")
    (tmp_path / "run" / "step-000000099" / "sha256.json").write_text("[1]")
    assert checkpoints.newest(tmp_path / "run") is None
    assert checkpoints.newest(tmp_path / "nowhere") is None


# ---- writing --------------------------------------------------------------------------------------------------------


def test_the_last_two_are_kept(tmp_path, every_step):
    trained(tmp_path, max_steps=6)
    assert [f.name for f in checkpoints.found(tmp_path / "run")] == ["step-000000006", "step-000000005"]
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == ["log.jsonl", "step-000000005", "step-000000006"]


@pytest.mark.parametrize(("mask", "mode"), [(0o002, 0o664), (0o027, 0o640), (0o077, 0o600)])
def test_files_can_be_read_by_whom_the_umask_says(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        trained(tmp_path, max_steps=3)
        checkpoints.save_tensors({"a": torch.ones(2)}, tmp_path / "weights.safetensors")
    finally:
        assert os.umask(before) == mask
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert len(files) == 7
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {mode}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left")])
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path, monkeypatch, two_checkpoints, error):
    directory = shutil.copytree(two_checkpoints, tmp_path / "copy")
    before = contents(directory)

    def full(tensors, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(MachineError, match=r"checkpoint of step 21 .*No space left") as caught:
        trained(directory)
    assert caught.value.exit_code == 7
    assert "free disk space" in caught.value.hint
    monkeypatch.undo()
    assert contents(directory)[:2] == before[:2]
    assert not list((directory / "run").glob(".*"))


def test_tensors_come_back_as_they_were(tmp_path):
    table = torch.randn(4, 6)
    tensors = {"whole": table, "part": table[1:3, ::2], "turned": table.T, "again": table, "empty": torch.zeros(0, 3)}
    checkpoints.save_tensors(tensors, tmp_path / "t.safetensors")
    assert not differing(checkpoints.load_tensors(tmp_path / "t.safetensors"), tensors)


def test_a_damaged_file_of_tensors_is_an_os_error(tmp_path):
    checkpoints.save_tensors({"a": torch.ones(9)}, tmp_path / "t.safetensors")
    DAMAGE["truncated"](tmp_path / "t.safetensors")
    for name in ("t.safetensors", "none.safetensors"):
        with pytest.raises(OSError, match=name):
            checkpoints.load_tensors(tmp_path / name)


def test_values_of_another_model_are_refused():
    model, values = Small(), Small(seed=1).values()
    odd = {**values, "other": torch.ones(1)}
    wrong = {**values, "norm.bias": torch.ones(9)}
    before = model.values()
    with pytest.raises(OSError, match="another model: other differ"):
        checkpoints.put(odd, model.trained())
    with pytest.raises(OSError, match=r"another model: norm\.bias differ"):
        checkpoints.put(wrong, model.trained())
    assert not differing(before, model.values())
    checkpoints.put(values, model.trained())
    assert not differing(values, model.values())
