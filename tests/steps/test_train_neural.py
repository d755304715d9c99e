import json
import os
import re
import signal
import subprocess
import sys

import pytest
import tiny
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from crscli.backbone import Adapter, Backbone, Shape
from crscli.cli import app
from crscli.errors import ArtifactMissing, UsageError
from crscli.steps import _neural
from crscli.steps._dataset import find_run, load_run, read_dataset
from crscli.steps.evaluate import evaluate
from crscli.steps.train import STEP_FORMAT, train
from crscli.workspace import Workspace

FILES = {
    "weights.safetensors", "config.json", "log.json", "log.jsonl", "curves.png", "backbone.json",
    "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
}  # fmt: skip


@pytest.fixture
def workspace(neural_workspace):
    return Workspace(neural_workspace)


def fit(workspace, *, model="pecrs-tiny", device="cpu", sets=None, **options):
    return train(
        workspace, dataset="tiny", model=model, device=device, sets=tiny.small() if sets is None else sets, **options
    )


def weights(workspace, run="pecrs-tiny"):
    return load_file(workspace.artifact("tiny", "models", run).open() / "weights.safetensors")


def same(one, other, atol=0.0):
    if {n: t.shape for n, t in one.items()} != {n: t.shape for n, t in other.items()}:
        return False
    return all(bool(((one[n] - other[n]).abs() <= atol).all()) for n in one)


def leftovers(workspace):
    """What an unfinished training leaves: its state, and what is half-written."""
    return [p for p in workspace.root.rglob(".*") if p.name == ".scratch" or p.name.endswith((".partial", ".old"))]


# ---- what is written --------------------------------------------------------------------------------------------


def test_a_run_holds_weights_settings_tokenizer_log_and_curves(workspace):
    artifact = workspace.artifact("tiny", "models", "pecrs-tiny")
    folder, record = artifact.open(), artifact.provenance()
    assert record["outputs"].keys() == FILES
    assert record["step_format"] == STEP_FORMAT
    assert record["notes"].keys() == {"device", "processes", "seconds"}
    assert (record["notes"]["device"], record["notes"]["processes"], record["seeds"]) == ("cpu", 1, {"seed": 0})
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"] == record["params"]["settings"]
    assert config["settings"].items() >= tiny.SMALL.items()
    assert (config["model"], config["refit"], config["fitted_on"]) == ("pecrs-tiny", False, ["train"])
    assert "max_steps" not in config
    log = json.loads((folder / "log.json").read_text())
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert (log["steps"], log["planned_steps"], log["choose"]) == (32, 32, "valid/recall")
    assert [r["step"] for r in rows if "loss" in r] == list(range(1, 33))
    judged = {r["step"]: r["valid/recall"] for r in rows if "valid/recall" in r}
    assert list(judged) == [16, 32]
    assert log["valid"]["recall"] == judged[log["best_step"]] == max(judged.values())
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert leftovers(workspace) == []


def test_the_curves_mark_the_step_that_was_chosen(workspace, monkeypatch):
    drawn = []
    monkeypatch.setattr(_neural, "curves", lambda rows, path, **options: drawn.append((rows, options)))
    fit(workspace, run="other", max_steps=4)
    (rows, options), = drawn  # fmt: skip
    assert options == {"title": "tiny/models/other", "choose": "recall"}
    assert any("valid/recall" in row for row in rows)


def test_a_second_run_is_up_to_date_and_other_settings_are_refused(workspace):
    before = tiny.listing(workspace.root)
    assert fit(workspace).status == "up to date"
    with pytest.raises(UsageError, match=r"exists with other settings \(width 32 -> 16, seed 0 -> 3\)") as caught:
        fit(workspace, sets=tiny.small(width=16), seed=3)
    assert (caught.value.exit_code, "--force" in caught.value.hint) == (2, True)
    with pytest.raises(UsageError, match=r"other settings \(max_steps\)"):
        fit(workspace, max_steps=3)
    assert tiny.listing(workspace.root) == before


def test_force_replaces_and_the_same_training_again_leaves_the_same_bytes(workspace):
    artifact = workspace.artifact("tiny", "models", "pecrs-tiny")
    before, digest = weights(workspace), artifact.digest
    assert fit(workspace, force=True).status == "written"
    assert artifact.digest == digest
    assert fit(workspace, sets=tiny.small(width=16), force=True).settings["width"] == 16
    assert not same(weights(workspace), before)


def test_without_a_validation_split_the_last_parameters_are_kept(workspace, tmp_path):
    source = tiny.write_tiny(tmp_path / "source", splits=("train", "test"))
    CliRunner().invoke(
        app,
        ["fetch-dataset", "-d", "jsonl", "--from", str(source), "--name", "cut", "--valid-share", "0", "-w",
         str(workspace.root)],
    )  # fmt: skip
    made = train(workspace, dataset="cut", model="pecrs-tiny", sets=tiny.small(), device="cpu")
    assert (made.log["choose"], made.log["steps"]) == ("", 32)
    assert "best_step" not in made.log
    assert made.fitted_on == ["train"]
    assert evaluate(workspace, dataset="cut", models=["pecrs-tiny"], draws=20).status == "written"


# ---- what can be asked for --------------------------------------------------------------------------------------


def test_a_training_cut_short_says_that_it_is_comparable_to_nothing(workspace):
    made = fit(workspace, run="look", max_steps=3)
    assert (made.log["steps"], made.log["planned_steps"]) == (3, 32)
    assert workspace.artifact("tiny", "models", "look").provenance()["params"]["max_steps"] == 3
    told = []
    report = evaluate(workspace, dataset="tiny", models=["look"], draws=20, say=told.append).report
    assert "look: trained for 3 steps only: comparable to nothing" in told
    assert report["models"]["look"]["max_steps"] == 3
    assert evaluate(workspace, dataset="tiny", models=["pecrs-tiny"], draws=20).report["models"]["pecrs-tiny"][
        "max_steps"
    ] is None  # fmt: skip


def test_a_recipe_changes_the_settings_that_are_shown_and_what_is_set_wins(workspace):
    plain = fit(workspace, run="x", sets=(), dry_run=True).settings
    assert fit(workspace, run="x", sets=(), recipe="paper", dry_run=True).settings == plain
    code = fit(workspace, run="x", sets=(), recipe="code", dry_run=True).settings
    assert (code["similarity"], code["candidates_see"], code["recall_weight"]) == ("dot", "each-other", 0.8)
    assert code["backbone"] == plain["backbone"] == "tiny"
    both = fit(workspace, run="x", sets=("similarity=cosine",), recipe="code", dry_run=True).settings
    assert {key for key in both if both[key] != code[key]} == {"similarity"}
    with pytest.raises(UsageError, match="unknown recipe 'cod'") as caught:
        fit(workspace, recipe="cod")
    assert caught.value.hint == "did you mean code?"
    with pytest.raises(UsageError, match="blend has no recipes"):
        train(workspace, dataset="tiny", model="blend", recipe="code")


def test_the_recipe_of_the_code_is_trained_and_measured(workspace):
    sets = tiny.small(epochs=1, head_depth=1)
    made = fit(workspace, run="code", recipe="code", sets=sets)
    assert (made.status, made.settings["candidate_positions"]) == ("written", "zero")
    assert evaluate(workspace, dataset="tiny", models=["code"], draws=20).status == "written"


def test_what_makes_no_sense_is_refused(workspace):
    with pytest.raises(UsageError, match="chooses its parameters on valid and is not fitted again"):
        fit(workspace, refit=True, run="other")
    assert fit(workspace, refit=False).status == "up to date"
    for options in ({"devices": 2}, {"max_steps": 3}, {"device": "cuda"}):
        with pytest.raises(UsageError, match="ease is fitted on the CPU at once"):
            fit(workspace, model="ease", **{"device": "auto", "sets": (), **options})
    for options in ({"devices": 0}, {"max_steps": -1}):
        with pytest.raises(UsageError, match="--devices must be at least 1"):
            fit(workspace, run="other", **options)


def test_a_run_of_other_dialogues_is_stale(workspace, tmp_path):
    less = tiny.write_tiny(tmp_path / "less", splits=("train", "test"))
    told = CliRunner().invoke(
        app, ["fetch-dataset", "-d", "jsonl", "--from", str(less), "--name", "tiny", "-w", str(workspace.root)]
    )
    assert told.exit_code == 0
    with pytest.raises(ArtifactMissing, match="run 'tiny/models/pecrs-tiny' is stale"):
        load_run(workspace, find_run(workspace, "tiny", "pecrs-tiny"), read_dataset(workspace, "tiny"))


# ---- a backbone of one's own ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def saved_backbone(tmp_path_factory):
    """A small GPT-2 in a folder, as save_pretrained makes it; not to be changed."""
    folder = tmp_path_factory.mktemp("backbone") / "gpt2"
    shape = Shape(layers=1, width=32, heads=2, vocabulary=300, positions=128)
    corpus = ["Then watch Alder. What about Birch?"] * 9
    made = Backbone.load("tiny", shape=shape, corpus=corpus, adapter=Adapter("none"))
    made.lm.save_pretrained(folder)
    made.save_tokenizer(folder)
    return folder


def test_a_backbone_in_a_folder_is_adapted_and_named_in_the_run(workspace, saved_backbone):
    given = ["--backbone", str(saved_backbone), "--device", "cpu", "--offline", "-w", str(workspace.root)]
    given += [f"--set={key}={value}" for key, value in tiny.SMALL.items() if key not in ("backbone", "tune")]
    told = CliRunner().invoke(app, ["train", "-m", "pecrs-small", *given])
    assert told.exit_code == 0, told.output
    folder = workspace.artifact("tiny", "models", "pecrs-small").open()
    assert json.loads((folder / "config.json").read_text())["settings"]["backbone"] == str(saved_backbone)
    assert json.loads((folder / "backbone.json").read_text())["name"] == str(saved_backbone)
    found = weights(workspace, "pecrs-small")
    assert any("lora" in name for name in found)
    assert not any("wte" in name for name in found)
    report = evaluate(workspace, dataset="tiny", models=["pecrs-small"], draws=20, offline=True).report
    assert report["models"]["pecrs-small"]["text"]["readable"]["responses"] == 8


# ---- a dry run --------------------------------------------------------------------------------------------------

PLANNED = {
    "parameters", "trained", "points", "steps", "device", "memory_bytes", "free_bytes", "seconds_per_step",
    "peak_bytes", "hours", "stages",
}  # fmt: skip


def test_a_dry_run_tells_what_it_would_take_and_writes_nothing(workspace):
    before, told = tiny.listing(workspace.root), []
    made = fit(workspace, run="other", dry_run=True, say=told.append)
    assert tiny.listing(workspace.root) == before
    assert (made.status, made.plan.keys()) == ("dry run", PLANNED)
    plan = made.plan
    assert plan["parameters"] == plan["trained"] == sum(t.numel() for t in weights(workspace).values())
    assert (plan["points"], plan["steps"], plan["device"]) == (32, 32, "cpu")
    assert 1e6 < plan["memory_bytes"] < 1e10
    assert plan["peak_bytes"] > 1e7
    assert plan["seconds_per_step"] > 0
    assert "are trained on 32 points in 32 steps" in told[0]
    assert told[1] == "pecrs: probe of 3 steps with the longest points, thrown away"


def test_a_dry_run_of_a_folder_counts_its_adapters(workspace, saved_backbone):
    sets = (*tiny.small(tune="lora"), f"backbone={saved_backbone}")
    plan = fit(workspace, model="pecrs-small", sets=sets, dry_run=True).plan
    trained = fit(workspace, model="pecrs-small", sets=(*sets, "epochs=1"))
    assert plan["trained"] == sum(t.numel() for t in weights(workspace, trained.run).values())
    assert 0.1 < plan["trained"] / plan["parameters"] < 0.5


def test_the_command_shows_the_plan(workspace):
    told = CliRunner().invoke(
        app, ["train", "-m", "pecrs-tiny", "--run", "x", "--dry-run", "-w", str(workspace.root)],
        env=tiny.SMALL_ENVIRONMENT,
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    for name in (
        "parameters", "of them trained", "points", "steps", "on cpu:", "memory, estimated",
        "a step, longest points", "all steps at most", "learning_rate",
    ):  # fmt: skip
        assert f"\n{name} " in told.stdout, name


# ---- interruptions ----------------------------------------------------------------------------------------------

LONG = tiny.small(epochs=10)
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
import crscli.training
crscli.training._CHECKPOINT_EVERY_S = float(sys.argv.pop(1))
from crscli.cli import main
main()
"""


def ended(workspace, number, *, checkpoint_every_s=300):
    """Train in a process of its own and end it by a signal after some steps; exit code and what it said."""
    args = ["train", "-m", "pecrs-tiny", "--run", "long", "--device", "cpu", "-w", str(workspace.root)]
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, str(checkpoint_every_s), *args, *(f"--set={pair}" for pair in LONG)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = []
    try:
        for line in child.stderr:
            said.append(line)
            if sum(" after step " in text for text in said) >= 4:
                child.send_signal(number)
                break
        said += child.communicate(timeout=60)[1].splitlines(keepends=True)
    finally:
        child.kill()
    return child.returncode, "".join(said)


def interrupt(text):
    """Hear what a training says, and end it by Ctrl-C after some steps."""
    if " after step 16 of " in text:
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_training_goes_on_and_ends_with_the_weights_of_one_that_was_not(workspace):
    run = workspace.artifact("tiny", "models", "long")
    with pytest.raises(KeyboardInterrupt):
        fit(workspace, sets=LONG, run="long", say=interrupt)
    assert not run.path.exists()
    assert [p.name for p in leftovers(workspace)] == [".scratch"]
    code, said = ended(workspace, signal.SIGKILL, checkpoint_every_s=0)
    assert (code, "going on after step 16 of" in said) == (-signal.SIGKILL, True), said
    assert not run.exists()
    told = []
    made = fit(workspace, sets=LONG, run="long", say=told.append)
    assert any("going on after step" in text and "going on after step 16 of" not in text for text in told)
    assert (made.status, made.log["steps"]) == ("written", 160)
    assert leftovers(workspace) == []
    whole = fit(workspace, sets=LONG, run="whole")
    assert same(weights(workspace, "long"), weights(workspace, "whole"))
    assert whole.log == made.log
    rows = [(workspace.root / "tiny/models" / name / "log.jsonl").read_text() for name in ("long", "whole")]
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_with_its_exit_code_and_a_checkpoint(workspace, number, code):
    found, said = ended(workspace, number)
    assert (found, "Traceback" in said) == (code, False), said
    assert not workspace.artifact("tiny", "models", "long").path.exists()
    assert [p.name for p in leftovers(workspace)] == [".scratch"]
    told = []
    fit(workspace, sets=LONG, run="long", say=told.append)
    assert any("going on after step" in text for text in told)
    fit(workspace, sets=LONG, run="whole")
    assert same(weights(workspace, "long"), weights(workspace, "whole"))


def test_other_settings_do_not_go_on_with_what_was_interrupted_and_force_begins_anew(workspace, monkeypatch):
    scratch = workspace.root / "tiny" / ".scratch"

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("crscli.training._Loop._finished", stopped)  # its last checkpoint was written
    with pytest.raises(KeyboardInterrupt):
        fit(workspace, run="other")
    monkeypatch.undo()
    (kept,) = scratch.iterdir()
    told = []
    fit(workspace, sets=tiny.small(width=16), run="other", say=told.append)
    assert list(scratch.iterdir()) == [kept]
    fit(workspace, run="other", force=True, say=told.append)
    assert not any("going on" in text for text in told)
    assert not scratch.exists()


# ---- several processes ------------------------------------------------------------------------------------------


def in_processes(workspace, *options):
    """`crs train` with two processes on the CPU; exit code, stdout, stderr."""
    args = ["train", "-m", "pecrs-tiny", "--devices", "2", "--device", "cpu", "-w", str(workspace.root), *options]
    done = subprocess.run(
        [sys.executable, "-m", "crscli", *args], capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_two_processes_make_the_weights_of_one_and_tell_it_once(workspace):
    # A bias that moves all scores alike has no gradient but rounding, which Adam makes as large as the rate.
    sets = tiny.small(dropout=0, lora_dropout=0, learning_rate=1e-4, batch_size=8)
    code, out, err = in_processes(workspace, "--run", "two", "--json", *(f"--set={pair}" for pair in sets))
    assert code == 0, err
    told = json.loads(out)  # the processes themselves say nothing there
    assert (told["status"], told["run"], told["log"]["processes"]) == ("written", "two", 2)
    assert err.count("after step 8 of 8") == 1
    assert workspace.artifact("tiny", "models", "two").provenance()["notes"]["processes"] == 2
    one = fit(workspace, sets=sets, run="one")
    assert same(weights(workspace, "one"), weights(workspace, "two"), atol=1e-5)
    assert told["log"] == pytest.approx(one.log | {"processes": 2, "valid": pytest.approx(one.log["valid"])})
    assert fit(workspace, sets=sets, run="two").status == "up to date"
    assert leftovers(workspace) == []


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_with_its_exit_code(workspace):
    before = tiny.listing(workspace.root / "tiny" / "models")
    sets = tiny.small(learning_rate=1e6, epochs=20)
    code, out, err = in_processes(workspace, "--run", "bad", *(f"--set={pair}" for pair in sets))
    assert (code, out) == (7, "")
    assert "not finite" in err
    assert re.search("process [01] of 2 ended with exit code 7; the others were stopped", err)
    assert tiny.listing(workspace.root / "tiny" / "models") == before


def test_more_gpus_than_there_are_is_the_machines_fault(workspace, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    told = CliRunner().invoke(
        app, ["train", "-m", "pecrs-tiny", "--run", "x", "--devices", "4", "-w", str(workspace.root)],
        env=tiny.SMALL_ENVIRONMENT,
    )  # fmt: skip
    assert told.exit_code == 7
    assert "4 devices are asked for, 1 GPUs are there" in told.stderr


# ---- no network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--offline",)])
def test_a_model_of_the_hub_without_network_tells_the_way_out(workspace, options, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    told = CliRunner().invoke(app, ["train", "-m", "pecrs-small", "-w", str(workspace.root), *options])
    assert told.exit_code == 5, told.output
    error, hint = told.stderr.splitlines()[-2:]
    assert error.startswith("error: gpt2 was not found in the ")
    assert "hf download gpt2" in hint
    assert "--backbone DIR" in hint
    assert told.stdout == ""
    assert not (workspace.root / "tiny" / "models" / "pecrs-small").exists()
    assert leftovers(workspace) == []


@pytest.mark.slow
def test_pecrs_small_can_be_planned_without_network(workspace, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "crscli", "train", "-m", "pecrs-small", "--dry-run", "--json", "-w", workspace.root,
         "--set=context_tokens=32", "--set=turn_tokens=16", "--set=item_tokens=16", "--set=negatives=3"],
        capture_output=True, text=True, timeout=300,
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)["plan"]
    assert plan["trained"] == 4_138_625
    assert 0.03 < plan["trained"] / plan["parameters"] < 0.035
