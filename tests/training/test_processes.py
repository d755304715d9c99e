import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import small
import torch
from small import PLAIN, Small, examples, judge
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from crscli.errors import MachineError
from crscli.training import Run, checkpoints, fit, processes
from crscli.training.processes import World, joined, launch

# ---- two processes --------------------------------------------------------------------------------------------------


def in_two_processes(asked):
    """Exit codes and messages of both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, small.__file__, json.dumps(asked)]
    both = [
        subprocess.Popen(command, env={**shared, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        messages = [process.communicate(timeout=120)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    return [process.returncode for process in both], messages


SCHEDULES = {
    "plain": ({}, 40),
    "odd-batches": ({"batch_size": 7, "validations": 2}, 40),
    "one-left-over": ({"batch_size": 5}, 36),
    "in-parts": ({"batch_size": 9, "micro_batch": 2, "clip": 0.1, "weight_decay": 0.1}, 40),
    "one-at-a-time": ({"batch_size": 1, "epochs": 1}, 9),
}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes made of every schedule, one after the other.

    Then a training was cut and went on, and one was begun in which the second process was killed.
    """
    folder = tmp_path_factory.mktemp("together")
    asked = [
        {"dropout": 0.0, "schedule": s, "examples": n, "out": str(folder / (name + "-{rank}.safetensors"))}
        for name, (s, n) in SCHEDULES.items()
    ]
    kept = {"dropout": 0.0, "directory": str(folder / "run-{rank}"), "out": str(folder / "cut-{rank}.safetensors")}
    codes, messages = in_two_processes([*asked, {**kept, "max_steps": 9}, kept, {"kill": 4, "kill_rank": "1"}])
    assert codes == [7, -signal.SIGKILL], messages
    (folder / "message").write_text(messages[0])
    return folder


def made(folder, name, rank):
    log = json.loads((folder / f"{name}-{rank}.json").read_text())
    return checkpoints.load_tensors(folder / f"{name}-{rank}.safetensors"), log


def alone(changes, number):
    model = Small(dropout=0.0)
    log = fit(model, examples(number), replace(PLAIN, **changes), Run(), validate=judge(model), choose="agreement")
    return model, log


@pytest.mark.parametrize("name", SCHEDULES)
def test_two_processes_make_the_steps_of_one(together, name):
    model, log = alone(*SCHEDULES[name])
    values, other = made(together, name, 0)
    assert other["summary"]["processes"] == 2
    assert other["summary"]["best_step"] == log.summary["best_step"]
    assert other["summary"]["examples"] == log.summary["examples"]
    for parameter, value in model.values().items():
        assert torch.allclose(value, values[parameter], atol=1e-6), parameter
    assert len(log.rows) == len(other["rows"])
    for one, two in zip(log.rows, other["rows"], strict=True):
        assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.parametrize("name", ["plain", "odd-batches", "one-left-over"])
def test_each_process_has_its_share_of_every_batch(together, name):
    changes, number = SCHEDULES[name]
    batches = alone(changes, number)[0].rows_seen
    for rank in (0, 1):
        shares = [rows[rank::2] for rows in batches if len(rows) > rank]
        assert made(together, name, rank)[1]["seen"] == shares


@pytest.mark.parametrize("name", [*SCHEDULES, "cut"])
def test_both_processes_hold_the_same(together, name):
    (first, log), (second, other) = made(together, name, 0), made(together, name, 1)
    assert not small.differing(first, second)
    assert log["rows"] == other["rows"]


def test_a_loss_may_have_units_in_one_share_alone():
    """The schedules above have such batches."""
    model, _ = alone(*SCHEDULES["odd-batches"])
    rare = {e.name for e in examples() if e.is_rare}
    shares = [(rare & set(rows[0::2]), rare & set(rows[1::2])) for rows in model.rows_seen]
    assert any(bool(one) != bool(other) for one, other in shares)
    assert any(not one and not other for one, other in shares)


def test_only_the_first_process_writes(together):
    assert sorted(p.name for p in together.glob("run-*")) == ["run-0"]


def test_two_processes_go_on_from_the_checkpoint_of_the_first(together):
    model, _ = alone({}, 40)
    values, log = made(together, "cut", 0)
    assert [row["step"] for row in log["rows"] if "loss" in row] == list(range(1, 22))
    for parameter, value in model.values().items():
        assert torch.allclose(value, values[parameter], atol=1e-6), parameter


def test_if_one_process_is_killed_the_other_ends_with_an_error(together):
    (message,) = (together / "message").read_text().splitlines()
    assert message.startswith("error: the processes of this training have lost each other")


# ---- one process ----------------------------------------------------------------------------------------------------


def test_one_process_needs_no_other(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert not processes.is_worker()
    assert processes.is_first()
    with joined("cpu") as world:
        assert world == World()
        assert world.is_first
        assert world.sum([1.5, 2], torch.device("cpu")) == [1.5, 2]
        assert world.share({"a": 1}) == {"a": 1}
        world.wait()


def test_a_parameter_without_gradient_counts_as_zero():
    touched, untouched = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    touched.sum().backward()
    World().sum_gradients([touched, untouched])
    assert touched.grad.tolist() == [1, 1]
    assert untouched.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("limit", "messages"), [(1, 4), (20, 2), (10_000, 1)])
def test_gradients_are_summed_in_messages_of_any_size(monkeypatch, limit, messages):
    sizes = [(2,), (3, 2), (), (5,)]
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in sizes]
    for num, parameter in enumerate(parameters):
        parameter.grad = torch.full(sizes[num], num + 1.0)
    sent = []
    monkeypatch.setattr(processes, "_FLAT", limit)
    monkeypatch.setattr(processes.dist, "all_reduce", lambda flat: (sent.append(len(flat)), flat.mul_(2)))
    World(0, 2).sum_gradients(parameters)
    assert [p.grad.unique().tolist() for p in parameters] == [[2], [4], [6], [8]]
    assert sum(sent) == 14
    assert len(sent) == messages


@pytest.mark.parametrize(("rank", "first"), [("0", True), ("1", False)])
def test_the_environment_says_who_a_process_is(monkeypatch, rank, first):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert processes.is_worker()
    assert processes.is_first() is first


# ---- starting them --------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """What `launch` starts, and what then happens."""
    calls = SimpleNamespace(config=None, command=None, outcome=None)

    def elastic_launch(config, entry):
        def run(*arguments):
            calls.config, calls.command = config, (entry, *arguments)
            if calls.outcome is not None:
                raise calls.outcome

        return run

    monkeypatch.setattr(processes, "elastic_launch", elastic_launch)
    return calls


def failed(*codes):
    """The first code is of the process that failed last."""
    failures = {n: SimpleNamespace(exitcode=code, timestamp=100 - n) for n, code in enumerate(codes)}
    error = ChildFailedError.__new__(ChildFailedError)
    error.name, error.failures = "crscli", failures
    return error


def test_the_same_command_is_started_in_every_process(started):
    launch(["train", "--model", "m"], 3)
    assert started.command == (sys.executable, "-m", "crscli", "train", "--model", "m")
    assert (started.config.nproc_per_node, started.config.max_nodes, started.config.max_restarts) == (3, 1, 0)


@pytest.mark.parametrize(
    ("codes", "exit_code", "how"),
    [
        ([1], 7, "process 0 of 3 ended with exit code 1"),
        ([-9], 7, "process 0 of 3 was killed by signal 9"),
        ([7, 4], 4, "process 1 of 3 ended with exit code 4"),
        ([-15, -15, 3], 3, "process 2 of 3 ended with exit code 3"),
        ([77], 7, "exit code 77"),
    ],
)
def test_the_first_failure_is_the_one_that_counts(started, codes, exit_code, how):
    started.outcome = failed(*codes)
    with pytest.raises(MachineError, match=how) as caught:
        launch(["train"], 3)
    assert caught.value.exit_code == exit_code
    assert "run the same command again" in caught.value.hint


@pytest.mark.parametrize("code", [130, 143])
def test_interrupted_processes_interrupt_their_parent(started, code):
    started.outcome = failed(code)
    with pytest.raises(KeyboardInterrupt):
        launch(["train"], 2)


def test_signals_end_the_parent_as_they_would_without_processes(started):
    started.outcome = SignalException("stopped", signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        launch(["train"], 2)
    started.outcome = SignalException("stopped", signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        launch(["train"], 2)
    assert caught.value.code == 143


def test_two_real_processes_run_crs_and_their_exit_code_is_told(capfd):
    launch(["--version"], 2)
    assert len(capfd.readouterr().out.split()) == 2
    with pytest.raises(MachineError) as caught:
        launch(["no-such-command"], 2)
    assert caught.value.exit_code == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "torch" not in capfd.readouterr().err
