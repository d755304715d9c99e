"""Each step is killed at every single thing it does to the file system, then run again to the end."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny
import torch

from crscli.steps.evaluate import evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.index_items import index_items
from crscli.steps.train import train
from crscli.workspace import Workspace

STEPS = {
    "fetch-dataset": ("items", "dialogues"), "train": ("models",), "evaluate": ("reports",),
    "train-by-steps": ("models",), "index-items": ("index",),
}  # fmt: skip
KEEP_STATE = ("train-by-steps",)
"""Steps that go on where they were killed; slow, since their state is files too."""
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink")
KILLED = 137
NEURAL = "pecrs-tiny"


def work(name, root, source, *, version):
    """One step; another version of it leaves other bytes under the same name."""
    workspace = Workspace(root)
    if name == "fetch-dataset":
        fetch_dataset(workspace, dataset="jsonl", source=source / version, name="tiny", force=True)
    elif name == "train":
        sets = ("shrinkage=3",) if version == "old" else ()
        train(workspace, dataset="tiny", model="cooccurrence", sets=sets, force=True)
    elif name == "train-by-steps":
        # Without force an interrupted training goes on; a run of other settings needs it, and begins anew.
        sets, before = (
            tiny.small(batch_size=16, epochs={"old": 1, "new": 2}[version]),
            workspace.artifact("tiny", "models", NEURAL),
        )
        train(workspace, dataset="tiny", model=NEURAL, sets=sets, device="cpu", force=before.exists())
    elif name == "index-items":
        engine = {"old": "faiss", "new": "exact"}[version]
        index_items(workspace, dataset="tiny", model=NEURAL, engine=engine, device="cpu", force=True)
    else:
        draws = {"old": 10, "new": 20}[version]
        evaluate(workspace, dataset="tiny", models=["cooccurrence"], draws=draws, run="report", force=True)


def forked(body):
    """Run in a fork; gives its exit status and what it said."""
    assert torch.get_num_threads() == 1  # others would be lost in the fork
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        status = 1
        try:
            signal.alarm(20)
            os.write(writer, body().encode())
            status = 0
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def watched(body, root, die_at=None):
    """Run in a fork that counts what it does to the files below `root`, and dies on the way to one of these.

    Audit events come before the thing itself. Files are also caught when one half of their bytes is written.
    """
    seen = []

    def count(event, path):
        path = os.path.abspath(os.fsdecode(path))
        if path.startswith(f"{root}/") and "/.locks" not in path:
            if len(seen) == die_at:
                os._exit(KILLED)
            seen.append(f"{event} {path.removeprefix(str(root))}")

    def audit(event, args):
        if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not isinstance(args[0], int):
            count(event, args[0])
        elif event in CHANGES:
            folder = args[-1]  # shutil.rmtree names what it removes relative to an open folder
            inside = event in ("os.remove", "os.rmdir") and folder >= 0
            count(event, os.path.join(os.readlink(f"/proc/self/fd/{folder}") if inside else "", args[0]))

    def in_halves(handle, text):
        handle.write(text[: len(text) // 2])
        handle.flush()
        count("half", handle.name)
        handle.write(text[len(text) // 2 :])

    def write_text(path, text, encoding):
        with path.open("w", encoding=encoding) as handle:
            in_halves(handle, text)

    def write_table(table, path, *, original=pq.write_table, **options):
        count("open", path)  # not seen by the hook: it happens in C++
        original(table, path, **options)
        whole = Path(path).read_bytes()
        os.truncate(path, len(whole) // 2)
        count("half", path)
        with open(os.open(path, os.O_WRONLY), "wb") as handle:
            handle.write(whole)

    def child():
        pq.write_table, Path.write_text = write_table, write_text
        os.fsync = lambda handle: count("fsync", os.readlink(f"/proc/self/fd/{handle}"))
        json.dump = lambda value, handle, **options: in_halves(handle, json.dumps(value, **options))
        sys.addaudithook(audit)
        body()
        return "\n".join(seen)

    return forked(child)


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk():
    """A killed process loses no bytes that the kernel has: syncing only costs time here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Files of two versions of the tiny world, and of an uninterrupted run's workspaces before and after each step."""
    source = tmp_path_factory.mktemp("failpoints")
    tiny.write_tiny(source / "new")
    tiny.write_tiny(source / "old", [title + "!" for title in tiny.TITLES])
    root = source / "now"
    root.mkdir()
    for name in STEPS:
        shutil.copytree(root, source / "first" / name)
        work(name, root, source, version="old")
        shutil.copytree(root, source / "replace" / name)
        work(name, root, source, version="new")
        shutil.copytree(root, source / "after" / name)
    return source


def digests(root, name):
    """Of a step's complete artifacts, each whole."""
    found = [a for a in Workspace(root).artifacts("tiny") if a.kind in STEPS[name]]
    for artifact in found:
        artifact.open()
    return {artifact.kind: artifact.digest for artifact in found}


@pytest.mark.parametrize("before", ["first", "replace"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in KEEP_STATE)) for name in STEPS]
)
def test_a_kill_at_any_moment_leaves_a_whole_version_and_a_rerun_the_right_one(name, before, sources, tmp_path):
    old, new = digests(sources / before / name, name), digests(sources / "after" / name, name)
    assert list(new) == sorted(STEPS[name])
    assert not set(old.values()) & set(new.values())
    counted = tmp_path / "counted"
    shutil.copytree(sources / before / name, counted)
    status, said = watched(lambda: work(name, counted, sources, version="new"), counted)
    assert status == 0, said
    events = said.split("\n")
    kinds = {event.split()[0] for event in events}
    assert {"open", "half", "fsync", "os.rename", "os.mkdir"} <= kinds
    assert ("os.remove" in kinds) == (before == "replace" or name in KEEP_STATE)
    assert len(events) >= 10 * len(STEPS[name])
    for num, event in enumerate(events):
        root = tmp_path / "killed"
        shutil.copytree(sources / before / name, root)
        run = lambda root=root: work(name, root, sources, version="new")  # noqa: E731
        assert watched(run, root, die_at=num) == (KILLED, ""), event
        left = digests(root, name)
        assert left.keys() >= old.keys(), event
        assert all(digest in (old.get(kind), new[kind]) for kind, digest in left.items()), event
        run()
        assert digests(root, name) == new, event
        assert [p for p in root.rglob(".*") if p.name != ".locks"] == [], event
        shutil.rmtree(root)
