import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import tiny

import crscli
from crscli import workspace as ws
from crscli.errors import ArtifactMissing, ChecksumError, MachineError, UsageError, WorkspaceLocked
from crscli.steps.evaluate import evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.status import freshness
from crscli.steps.train import train
from crscli.workspace import Recipe, Workspace, write

RECIPE = Recipe("train", 1, {"model": "ease", "ridge": 2.0}, {"w/items": "ab"}, {"seed": 3})


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "workspace").artifact("w", "models", "run")


def put(artifact, recipe=RECIPE, **files):
    """Write an artifact of some text files."""
    with write(artifact, recipe) as directory:
        for name, text in (files or {"a": "one"}).items():
            (directory / f"{name}.txt").write_text(text, encoding="utf-8")
    return artifact


def put_half(artifact, error):
    """Fail in the middle of writing."""
    with write(artifact, RECIPE) as directory:
        (directory / "a.txt").write_text("half", encoding="utf-8")
        raise error


def leftovers(root):
    return [p.name for p in root.rglob(".*") if p.name.endswith((".partial", ".old"))]


# ---- writing and reading ----------------------------------------------------------------------------------------


def test_what_is_written_is_read(place):
    assert not place.exists()
    with write(place, RECIPE, notes={"said": "ü"}) as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "a.txt").write_text("one", encoding="utf-8")
        assert not place.exists()
    assert (place.open() / "deep" / "a.txt").read_text(encoding="utf-8") == "one"
    assert place.provenance()["notes"] == {"said": "ü"}
    assert place.name == "w/models/run"
    assert place.path == place.root / "w" / "models" / "run"
    assert leftovers(place.root) == []


def test_provenance_tells_what_made_it(place, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/crs", "train", "--model", "ease"])
    put(place, a="one", b="two")
    record = json.loads((place.path / "provenance.json").read_text(encoding="utf-8"))
    assert record["command"] == ["crs", "train", "--model", "ease"]
    assert (record["step"], record["step_format"], record["format"]) == ("train", 1, 1)
    assert record["params"] == {"model": "ease", "ridge": 2.0}
    assert record["seeds"] == {"seed": 3}
    assert record["inputs"] == {"w/items": "ab"}
    assert record["fingerprint"] == RECIPE.fingerprint
    assert list(record["outputs"]) == ["a.txt", "b.txt"]
    assert record["outputs"]["a.txt"] == {"sha256": ws.file_digest(place.path / "a.txt"), "bytes": 3}
    assert record["outputs"]["a.txt"]["sha256"].startswith("7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add7")
    assert record["versions"]["crs"] == crscli.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["versions"]["python"].startswith("3.")
    assert record["device"].startswith("cpu, ")
    times = [datetime.fromisoformat(record[when]) for when in ("started", "finished")]
    assert times[0] <= times[1]
    assert {t.utcoffset().total_seconds() for t in times} == {0}


def test_digest_tells_the_content_and_not_when_or_how_it_was_made(place):
    first = put(place).digest
    before = place.provenance()["finished"]
    assert put(place, Recipe("train", 2)).digest == first
    assert place.provenance()["finished"] > before
    assert put(place, a="two").digest != first
    assert put(place, b="one").digest != first


def test_fingerprint_changes_with_all_that_decides_the_content(monkeypatch):
    same = Recipe("train", 1, {"ridge": 2.0, "model": "ease"}, {"w/items": "ab"}, {"seed": 3})
    others = [
        Recipe("evaluate", 1, RECIPE.params, RECIPE.inputs, RECIPE.seeds),
        Recipe("train", 2, RECIPE.params, RECIPE.inputs, RECIPE.seeds),
        Recipe("train", 1, {"model": "ease", "ridge": 2.5}, RECIPE.inputs, RECIPE.seeds),
        Recipe("train", 1, {"model": "ease"}, RECIPE.inputs, RECIPE.seeds),
        Recipe("train", 1, RECIPE.params, {"w/items": "ac"}, RECIPE.seeds),
        Recipe("train", 1, RECIPE.params, {"v/items": "ab"}, RECIPE.seeds),
        Recipe("train", 1, RECIPE.params, RECIPE.inputs, {"seed": 4}),
    ]
    before = RECIPE.fingerprint
    assert same.fingerprint == before
    assert len({before, *(r.fingerprint for r in others)}) == len(others) + 1
    monkeypatch.setattr(crscli, "__version__", "99.0")
    assert RECIPE.fingerprint != before


def test_current_means_this_recipe_and_whole(place):
    assert not place.is_current(RECIPE)
    put(place)
    assert place.is_current(RECIPE)
    assert not place.is_current(Recipe("train", 2, RECIPE.params, RECIPE.inputs, RECIPE.seeds))
    (place.path / "a.txt").write_text("onE", encoding="utf-8")
    assert not place.is_current(RECIPE)


def test_a_folder_without_provenance_is_no_artifact(place):
    place.path.mkdir(parents=True)
    (place.path / "a.txt").write_text("mine", encoding="utf-8")
    assert not place.exists()
    with pytest.raises(ArtifactMissing, match="no artifact 'w/models/run'") as caught:
        place.provenance()
    assert caught.value.hint == "run: crs train --dataset w --model run"
    assert caught.value.exit_code == 3


def test_a_foreign_folder_in_the_way_is_never_deleted(place):
    place.path.mkdir(parents=True)
    (place.path / "a.txt").write_text("mine", encoding="utf-8")
    before = tiny.listing(place.path)
    with pytest.raises(MachineError, match="in the way") as caught:
        put(place)
    assert caught.value.exit_code == 7
    assert tiny.listing(place.path) == before
    assert leftovers(place.root) == []


# ---- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "b.txt"])
@pytest.mark.parametrize("damage", ["bit flip", "truncation", "extension", "deletion", "a folder instead"])
def test_damage_to_any_file_is_found(place, name, damage):
    file = put(place, a="one" * 50, b="two" * 50).path / name
    whole = file.read_bytes()
    if damage in ("deletion", "a folder instead"):
        file.unlink()
    if damage == "a folder instead":
        file.mkdir()
    elif damage == "bit flip":
        file.write_bytes(whole[:70] + bytes([whole[70] ^ 1]) + whole[71:])
    elif damage == "truncation":
        file.write_bytes(whole[:-1])
    elif damage == "extension":
        file.write_bytes(whole + b"\n")
    with pytest.raises(ChecksumError, match=name) as caught:
        place.open()
    assert caught.value.exit_code == 9
    assert "--force" in caught.value.hint
    assert not place.is_current(RECIPE)
    assert freshness(Workspace(place.root), place)[0] == "damaged"


def test_every_bit_of_a_real_run_counts(tiny_workspace):
    for artifact in list(Workspace(tiny_workspace).artifacts("tiny")):
        files = [p for p in artifact.path.iterdir() if p.name != ws.PROVENANCE]
        assert files
        for file in files:
            whole = file.read_bytes()
            file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 128]))
            with pytest.raises(ChecksumError):
                artifact.open()
            file.write_bytes(whole)
        artifact.open()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"a"', "\x00\xff"])
def test_a_broken_record_is_a_checksum_error(place, text):
    (put(place).path / ws.PROVENANCE).write_text(text, encoding="latin-1")
    assert place.exists()
    for ask in (place.provenance, place.open):
        with pytest.raises(ChecksumError, match=r"provenance\.json"):
            ask()
    assert not place.is_current(RECIPE)
    assert freshness(Workspace(place.root), place)[0] == "damaged"
    assert put(place).is_current(RECIPE)


def test_a_record_whose_digest_was_changed_is_found(place):
    file = put(place).path / ws.PROVENANCE
    file.write_text(file.read_text(encoding="utf-8").replace(place.digest, "0" * 64), encoding="utf-8")
    with pytest.raises(ChecksumError, match="digest"):
        _ = place.digest


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-f", "a b", "a\n", "ä", "a\x00", "a:b", "x" * 200]
)
def test_names_that_are_no_folder_names_are_refused(name):
    for dataset, run in ((name, None), ("good", name)):
        with pytest.raises(UsageError, match="cannot be used") as caught:
            Workspace(Path("nowhere")).artifact(dataset, "models", run)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["a", "redial-pecrs", "turns.test.copy+ease", "x.old", "x.partial", "9", "x" * 100])
def test_plain_names_are_listed_as_they_are(tmp_path, name):
    workspace = Workspace(tmp_path)
    put(workspace.artifact("w", "models", name))
    assert [a.run for a in workspace.artifacts("w")] == [name]


def test_listing_knows_a_run_that_was_being_replaced(place):
    put(place)
    os.rename(place.path, place.path.with_name(".run.old"))
    assert [a.name for a in Workspace(place.root).artifacts("w")] == ["w/models/run"]
    assert place.open()
    assert leftovers(place.root) == []


def test_listing_passes_over_what_is_not_ours(tmp_path):
    workspace = Workspace(tmp_path)
    put(workspace.artifact("w", "models", "run"))
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / "empty" / "models" / "a b").mkdir(parents=True)
    (tmp_path / "w" / "raw").mkdir()
    assert workspace.datasets() == ["w"]
    assert Workspace(tmp_path / "absent").datasets() == []


# ---- the lock -----------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from crscli.workspace import Recipe, Workspace, write
with write(Workspace(Path(sys.argv[1])).artifact("w", "models", "run"), Recipe("train", 1)) as directory:
    (directory / "half.txt").write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_and_a_killed_one_frees_the_lock(place):
    put(place)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(place.root)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceLocked, match="another process is writing 'w/models/run'") as caught:
            put(place, a="two")
        assert caught.value.exit_code == 8
        assert place.is_current(RECIPE)  # readers are not stopped
        put(Workspace(place.root).artifact("w", "models", "other"))  # nor writers of another artifact
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert (put(place, a="two").path / "a.txt").read_text(encoding="utf-8") == "two"
    assert leftovers(place.root) == []


def test_the_lock_is_free_after_every_end(place):
    for end in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(end), write(place, RECIPE):
            raise end
    put(place)


# ---- a machine that does not suffice ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_read_only_workspace_is_named(place, monkeypatch, code):
    put(place)
    before = tiny.listing(place.root)

    def refused(*_, **__):
        raise OSError(code, os.strerror(code))

    for target, name in ((Path, "mkdir"), (os, "mkdir")):
        with monkeypatch.context() as patched:
            patched.setattr(target, name, refused)
            with pytest.raises(MachineError, match="cannot write") as caught:
                put(place, a="two")
            assert caught.value.exit_code == 7
            assert caught.value.hint.endswith("--workspace")
            assert place.is_current(RECIPE)
    assert tiny.listing(place.root) == before


def test_reading_does_not_need_the_right_to_write(place, monkeypatch):
    put(place)
    place.path.with_name(".run.partial").mkdir()

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "mkdir", refused)
    assert place.is_current(RECIPE)
    assert [a.run for a in Workspace(place.root).artifacts("w")] == ["run"]


def test_a_file_where_the_workspace_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(MachineError, match="Not a directory"):
        put(Workspace(tmp_path / "file").artifact("w", "items"))


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError("100000 requested and 12784 written"),  # numpy's ndarray.tofile
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_leaves_the_older_version(place, error):
    put(place)
    with pytest.raises(MachineError, match="no space left") as caught:
        put_half(place, error)
    assert caught.value.exit_code == 7
    assert (place.open() / "a.txt").read_text(encoding="utf-8") == "one"
    assert leftovers(place.root) == []


def test_a_disk_that_fills_up_while_the_record_is_written_leaves_the_older_version(place, monkeypatch):
    put(place)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(MachineError, match="no space left"):
            put(place, a="two")
    assert (place.open() / "a.txt").read_text(encoding="utf-8") == "one"
    assert leftovers(place.root) == []


def in_child(body):
    """Run in a fork, which alone gets its limits; gives the exit code."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = body()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_file_system_that_takes_only_short_files_leaves_the_older_version(tiny_workspace, tiny_source):
    workspace = Workspace(tiny_workspace)
    before = {a.name: a.digest for a in workspace.artifacts("tiny")}
    steps = [
        lambda: fetch_dataset(workspace, dataset="jsonl", source=tiny_source, name="tiny", force=True),
        lambda: train(workspace, dataset="tiny", model="cooccurrence", force=True),
        lambda: evaluate(workspace, dataset="tiny", models=["cooccurrence"], draws=20, force=True),
    ]
    for step in steps:
        for limit in (0, 160, 1000):

            def limited(step=step, limit=limit):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                try:
                    step()
                except MachineError as error:
                    return 77 if "no space left" in error.message else 1
                return 0

            assert in_child(limited) == 77
            assert {a.name: a.digest for a in workspace.artifacts("tiny")} == before
            for artifact in workspace.artifacts("tiny"):
                artifact.open()
            assert leftovers(tiny_workspace) == []


def test_ctrl_c_inside_the_body_leaves_nothing(place):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            put_half(place, KeyboardInterrupt())
        assert not place.exists()
        assert list(place.path.parent.iterdir()) == []
    put(place)
    with pytest.raises(KeyboardInterrupt):
        put_half(place, KeyboardInterrupt())
    assert place.is_current(RECIPE)


def test_ctrl_c_between_the_two_renames_loses_no_version(place, monkeypatch):
    put(place)
    rename = os.rename

    def interrupted(source, target):
        if Path(target) == place.path:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            put(place, a="two")
    assert (place.open() / "a.txt").read_text(encoding="utf-8") == "one"
    assert leftovers(place.root) == []


def test_what_a_kill_left_behind_is_tidied_by_the_next_look(place):
    put(place)
    for name in (".run.partial", ".run.old"):
        place.path.with_name(name).mkdir()
        (place.path.with_name(name) / "half.txt").write_text("half", encoding="utf-8")
    assert place.is_current(RECIPE)
    assert leftovers(place.root) == []


# ---- fresh, stale, missing, damaged -------------------------------------------------------------------------------


def states(root):
    workspace = Workspace(root)
    return {a.name.removeprefix("tiny/"): freshness(workspace, a) for a in workspace.artifacts("tiny")}


REPORT = "reports/turns.test.cooccurrence.draws20"


def test_all_is_fresh_after_the_steps(tiny_workspace):
    assert states(tiny_workspace) == dict.fromkeys(("dialogues", "items", "models/cooccurrence", REPORT), ("fresh", ""))
    workspace = Workspace(tiny_workspace)
    assert freshness(workspace, workspace.artifact("tiny", "models", "ease")) == ("missing", "")


def test_other_dialogues_make_the_run_and_the_report_stale(tiny_workspace, tmp_path):
    source = tiny.write_tiny(tmp_path / "less", splits=("train", "test"))
    fetch_dataset(Workspace(tiny_workspace), dataset="jsonl", source=source, name="tiny", valid_share=0.25)
    found = states(tiny_workspace)
    assert found["models/cooccurrence"] == found[REPORT] == ("stale", "tiny/dialogues has changed")
    assert found["dialogues"] == found["items"] == ("fresh", "")


def test_a_run_with_other_settings_makes_its_report_stale(tiny_workspace):
    train(Workspace(tiny_workspace), dataset="tiny", model="cooccurrence", sets=("shrinkage=3",), force=True)
    found = states(tiny_workspace)
    assert found["models/cooccurrence"] == ("fresh", "")
    assert found[REPORT] == ("stale", "tiny/models/cooccurrence has changed")


def test_a_step_repeated_with_the_same_result_makes_nothing_stale(tiny_workspace, tiny_source):
    workspace = Workspace(tiny_workspace)
    fetch_dataset(workspace, dataset="jsonl", source=tiny_source, name="tiny", force=True)
    train(workspace, dataset="tiny", model="cooccurrence", force=True)
    assert {state for state, _ in states(tiny_workspace).values()} == {"fresh"}


def test_an_input_that_is_gone_makes_stale(tiny_workspace):
    os.rename(tiny_workspace / "tiny" / "models" / "cooccurrence", tiny_workspace / "away")
    assert states(tiny_workspace)[REPORT] == ("stale", "tiny/models/cooccurrence is gone")


def test_a_damaged_file_is_damage_and_not_staleness(tiny_workspace):
    file = tiny_workspace / "tiny" / "items" / "items.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    state, why = states(tiny_workspace)["items"]
    assert state == "damaged"
    assert "items.parquet" in why


def test_an_input_with_a_broken_record_makes_stale(tiny_workspace):
    (tiny_workspace / "tiny" / "items" / ws.PROVENANCE).write_text("{", encoding="utf-8")
    found = states(tiny_workspace)
    assert found["items"][0] == "damaged"
    assert found["models/cooccurrence"] == ("stale", "tiny/items is damaged")


def test_another_version_of_crs_makes_stale(tiny_workspace, monkeypatch):
    monkeypatch.setattr(crscli, "__version__", "99.0")
    assert {state for state, _ in states(tiny_workspace).values()} == {"stale"}


def test_source_files_with_odd_paths_do_not_pass_for_artifacts(tmp_path):
    workspace = Workspace(tmp_path)
    inputs = dict.fromkeys(["w/raw/a.txt", "w/a/b/c/d", "w", "train.jsonl", "v/items"], "00")
    artifact = put(workspace.artifact("w", "items"), Recipe("fetch-dataset", 1, inputs=inputs))
    assert freshness(workspace, artifact) == ("fresh", "")


# ---- the dataset that nobody named --------------------------------------------------------------------------------


def test_an_empty_workspace_has_no_dataset_to_choose(tmp_path):
    with pytest.raises(ArtifactMissing, match="holds no dataset") as caught:
        Workspace(tmp_path).choose_dataset()
    assert "crs fetch-dataset" in caught.value.hint


def test_the_only_dataset_is_chosen(tmp_path):
    put(Workspace(tmp_path).artifact("only", "items"))
    assert Workspace(tmp_path).choose_dataset("ease") == ("only", "the only dataset in the workspace")


def test_among_several_datasets_the_newest_run_of_the_model_decides_then_the_last_write(tmp_path):
    workspace = Workspace(tmp_path)
    for dataset in ("a", "b", "c"):
        put(workspace.artifact(dataset, "items"))
    assert workspace.choose_dataset()[0] == "c"
    for dataset, model in (("a", "ease"), ("b", "ease"), ("a", "knn")):
        put(workspace.artifact(dataset, "models", model), Recipe("train", 1, {"model": model}))
    put(workspace.artifact("c", "items"))
    assert workspace.choose_dataset("ease") == ("b", "it has the newest run of ease")
    assert workspace.choose_dataset("knn") == ("a", "it has the newest run of knn")
    assert workspace.choose_dataset("bm25") == ("c", "the dataset written last")
    assert workspace.choose_dataset() == ("c", "the dataset written last")


def test_a_run_of_any_name_counts_for_its_model(tmp_path):
    workspace = Workspace(tmp_path)
    put(workspace.artifact("a", "models", "mine"), Recipe("train", 1, {"model": "ease"}))
    put(workspace.artifact("b", "models", "knn"), Recipe("train", 1, {"model": "knn"}))
    assert workspace.choose_dataset("ease") == ("a", "it has the newest run of ease")
    assert workspace.choose_dataset("mine") == ("a", "it has the newest run of mine")


def test_a_broken_record_of_another_dataset_does_not_spoil_the_choice(tmp_path):
    workspace = Workspace(tmp_path)
    for dataset in ("a", "b"):
        put(workspace.artifact(dataset, "items"))
    (tmp_path / "b" / "items" / ws.PROVENANCE).write_text("{", encoding="utf-8")
    assert workspace.choose_dataset()[0] == "a"


def test_the_state_of_a_long_step_is_of_its_recipe_alone_and_no_artifact(place):
    other = Recipe("train", 1, {"model": "ease", "ridge": 3.0}, {"w/items": "ab"}, {"seed": 3})
    folder = ws.scratch(place, RECIPE)
    assert folder == ws.scratch(place, RECIPE)
    assert not folder.exists()
    assert (
        len({folder, ws.scratch(place, other), ws.scratch(Workspace(place.root).artifact("w", "models"), RECIPE)}) == 3
    )
    folder.mkdir(parents=True)
    assert Workspace(place.root).datasets() == []
    put(place)
    assert list(Workspace(place.root).artifacts("w")) == [place]
    assert folder.exists()


def test_notes_may_be_filled_in_while_an_artifact_is_written(place):
    notes = {"device": "cpu"}
    with write(place, RECIPE, notes=notes) as directory:
        (directory / "a.txt").write_text("one", encoding="utf-8")
        notes["seconds"] = 2.5
    assert place.provenance()["notes"] == {"device": "cpu", "seconds": 2.5}
