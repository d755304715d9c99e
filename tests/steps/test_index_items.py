import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
from typer.testing import CliRunner

from crscli.cli import app
from crscli.errors import ArtifactMissing, ChecksumError, UsageError
from crscli.index import ItemIndex
from crscli.steps._dataset import find_run, load_run, read_dataset
from crscli.steps.evaluate import evaluate
from crscli.steps.index_items import STEP_FORMAT, index_items
from crscli.steps.status import status
from crscli.steps.train import train
from crscli.workspace import KINDS, WITH_RUNS, Workspace

RUN = "pecrs-tiny"


@pytest.fixture
def workspace(neural_workspace):
    return Workspace(neural_workspace)


def encode(workspace, model=RUN, **options):
    return index_items(workspace, dataset="tiny", model=model, device="cpu", **options)


def retrain(workspace, **changes):
    train(workspace, dataset="tiny", model=RUN, sets=tiny.small(**changes), device="cpu", force=True)


def index(workspace, run=RUN):
    return ItemIndex.load(workspace.artifact("tiny", "index", run).open())


def model(workspace, **options):
    return load_run(workspace, find_run(workspace, "tiny", RUN), read_dataset(workspace, "tiny"), **options)[0]


def measure(workspace, **options):
    """The rows of the model's predictions."""
    made = evaluate(
        workspace, dataset="tiny", models=[RUN], draws=20, device="cpu", tasks=["rank"], force=True, **options
    )
    rows = pq.read_table(made.path / "predictions.parquet").to_pylist()
    return [row for row in rows if row["model"] == RUN]


def shard(workspace, *parts, **options):
    for part in parts:
        encode(workspace, shard=part, **options)


# ---- an index ---------------------------------------------------------------------------------------------------


def test_an_index_is_an_artifact_of_its_own_kind():
    assert KINDS["index"] == "index-items"
    assert "index" in WITH_RUNS


def test_an_index_holds_a_vector_of_each_item_and_names_what_it_was_made_from(workspace):
    made = encode(workspace)
    assert (made.run, made.items, made.width, made.engine, made.recall) == (RUN, 8, 32, "exact", None)
    assert (made.status, made.parts, made.path) == ("written", 0, workspace.root / "tiny" / "index" / RUN)
    found, loaded = index(workspace), model(workspace, index=False)
    assert found.ids == tuple(tiny.ITEMS)
    assert np.array_equal(found.vectors, loaded.encode_items(loaded.catalogue))
    assert found.digest == loaded.item_digest
    record = workspace.artifact("tiny", "index", RUN).provenance()
    assert record["step_format"] == STEP_FORMAT
    assert record["params"] == {"engine": "exact", "shard": None, "merge": False}
    assert record["inputs"].keys() == {"tiny/items", "tiny/dialogues", f"tiny/models/{RUN}"}
    assert encode(workspace).status == "up to date"
    assert encode(workspace, force=True).status == "written"


def test_evaluation_ranks_the_same_with_an_index_and_without(workspace):
    told = []
    without = measure(workspace, say=told.append)
    assert f"{RUN}: its items are encoded now; crs index-items --dataset tiny --model {RUN} keeps them" in told
    encode(workspace)
    told.clear()
    assert measure(workspace, say=told.append) == without
    assert told == []
    report = workspace.artifact("tiny", "reports", f"turns.test.{RUN}.draws20.no-replies")
    assert f"tiny/index/{RUN}" in report.provenance()["inputs"]


def test_vectors_of_an_index_are_used_and_not_made_again(workspace, monkeypatch):
    encode(workspace)
    loaded = model(workspace)
    monkeypatch.setattr(type(loaded), "encode_items", lambda *_, **__: pytest.fail("items were encoded"))
    assert loaded.rank([], 3) == []
    assert len(loaded.index.ids) == 8


def test_a_run_that_was_trained_again_makes_its_index_stale(workspace):
    encode(workspace)
    retrain(workspace, width=16)
    with pytest.raises(ArtifactMissing, match="index was built from other weights or item texts") as caught:
        measure(workspace)
    assert (caught.value.exit_code, caught.value.hint) == (
        3, f"run: crs index-items --dataset tiny --model {RUN} --force",
    )  # fmt: skip
    encode(workspace)
    assert len(measure(workspace)) == 8


def test_the_same_training_again_leaves_the_index_fresh(workspace):
    encode(workspace)
    retrain(workspace)
    assert encode(workspace).status == "up to date"
    assert len(measure(workspace)) == 8


def test_a_damaged_index_is_told_with_the_command_that_mends_it(workspace):
    file = encode(workspace).path / "vectors.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ChecksumError, match=r"vectors\.npy") as caught:
        measure(workspace)
    command = caught.value.hint.split("crs ")[1].split()
    assert CliRunner().invoke(app, [*command, "-w", str(workspace.root)]).exit_code == 0
    assert len(measure(workspace)) == 8


def test_a_run_is_found_by_its_model_and_a_missing_one_is_told(workspace):
    train(workspace, dataset="tiny", model=RUN, sets=tiny.small(epochs=1), run="mine", device="cpu")
    assert encode(workspace, model="mine").path.name == "mine"
    with pytest.raises(ArtifactMissing, match="pecrs-small was not trained on tiny") as caught:
        encode(workspace, model="pecrs-small")
    assert caught.value.hint == "run: crs train --dataset tiny --model pecrs-small"


@pytest.mark.parametrize("name", ["cooccurrence", "blend"])
def test_a_model_without_vectors_is_refused(workspace, name):
    if name == "blend":
        train(workspace, dataset="tiny", model="blend")
    before = tiny.listing(workspace.root)
    for options in ({}, {"dry_run": True}):
        with pytest.raises(UsageError, match=f"{name} has no item vectors") as caught:
            encode(workspace, model=name, **options)
        assert caught.value.exit_code == 2
    assert tiny.listing(workspace.root) == before


def test_a_dry_run_tells_and_writes_nothing(workspace):
    before = tiny.listing(workspace.root)
    made = encode(workspace, dry_run=True)
    assert (made.status, made.items) == ("dry run", 8)
    assert set(made.inputs) == {"tiny/items", "tiny/dialogues", f"tiny/models/{RUN}"}
    assert tiny.listing(workspace.root) == before


# ---- parts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parts", "block"), [(1, 256), (3, 256), (3, 3), (11, 4)])
def test_parts_put_together_are_the_whole_bit_for_bit(workspace, parts, block, monkeypatch):
    monkeypatch.setattr("crscli.steps.index_items._BLOCK", block)
    encode(workspace)
    whole = {p.name: p.read_bytes() for p in workspace.artifact("tiny", "index", RUN).path.iterdir()}
    shard(workspace, *(f"{num}/{parts}" for num in range(1, parts + 1)))
    assert sum(len(index(workspace, f"{RUN}.shard-{n}-of-{parts}").ids) for n in range(1, parts + 1)) == 8
    made = encode(workspace, merged=True)
    assert (made.status, made.parts, made.items) == ("written", parts, 8)
    merged = {p.name: p.read_bytes() for p in made.path.iterdir()}
    assert {name for name in whole if whole[name] != merged[name]} == {"provenance.json"}
    assert encode(workspace, merged=True).status == "up to date"
    assert len(measure(workspace)) == 8


def test_missing_parts_are_named(workspace):
    with pytest.raises(ArtifactMissing, match=f"no part of an index of {RUN} is there"):
        encode(workspace, merged=True)
    shard(workspace, "2/4")
    with pytest.raises(ArtifactMissing, match=f"parts 1, 3, 4 of the index of {RUN} are missing") as caught:
        encode(workspace, merged=True)
    assert (caught.value.exit_code, f"--model {RUN} --shard i/n" in caught.value.hint) == (3, True)
    assert not (workspace.root / "tiny" / "index" / RUN).exists()


def test_parts_of_different_divisions_are_refused(workspace):
    shard(workspace, "1/2", "2/2", "2/3")
    with pytest.raises(ArtifactMissing, match="the parts are of different divisions: 2, 3") as caught:
        encode(workspace, merged=True)
    assert "delete the folders of the wrong one" in caught.value.hint
    shutil.rmtree(workspace.root / "tiny" / "index" / f"{RUN}.shard-2-of-3")
    assert encode(workspace, merged=True).parts == 2


def test_parts_of_other_weights_are_refused(workspace):
    shard(workspace, "1/2")
    retrain(workspace, learning_rate=1e-3)
    shard(workspace, "2/2")
    with pytest.raises(ArtifactMissing, match="shards are of different weights or item texts"):
        encode(workspace, merged=True)
    retrain(workspace, learning_rate=2e-3)
    shard(workspace, "1/2", "2/2")
    retrain(workspace)
    with pytest.raises(ArtifactMissing, match="index was built from other weights") as caught:
        encode(workspace, merged=True)
    assert caught.value.hint == "encode the parts again with the weights of this run"
    assert not (workspace.root / "tiny" / "index" / RUN).exists()


def test_parts_of_another_run_are_not_taken(workspace):
    train(workspace, dataset="tiny", model=RUN, sets=tiny.small(epochs=1), run=f"{RUN}2", device="cpu")
    shard(workspace, "1/1", model=f"{RUN}2")
    with pytest.raises(ArtifactMissing, match=f"no part of an index of {RUN} is there"):
        encode(workspace, merged=True)


# ---- an approximate engine --------------------------------------------------------------------------------------


def test_an_approximate_engine_tells_what_it_finds_and_ranks(workspace):
    told = []
    made = encode(workspace, engine="faiss", say=told.append)
    assert (made.engine, made.recall) == ("faiss", 1.0)
    assert any(text.startswith("building a graph over 8 items") for text in told)
    assert (made.path / "engine.faiss").exists()
    again = encode(workspace, engine="faiss")
    assert (again.status, again.recall) == ("up to date", 1.0)
    rows = measure(workspace)
    shutil.rmtree(made.path)
    assert [r["ranks"] for r in measure(workspace)] == [r["ranks"] for r in rows]


def test_parts_are_put_together_behind_an_approximate_engine(workspace):
    shard(workspace, "1/2", "2/2")
    assert encode(workspace, merged=True, engine="faiss", search_effort=64).engine == "faiss"
    params = workspace.artifact("tiny", "index", RUN).provenance()["params"]
    assert params == {"engine": "faiss", "shard": None, "merge": True, "search_effort": 64, "min_recall": 0.95}


def test_an_engine_that_finds_too_little_is_refused(workspace):
    with pytest.raises(
        UsageError, match=r"engine faiss finds 1\.000 of the 8 best items, the floor is 1\.010"
    ) as caught:
        encode(workspace, engine="faiss", min_recall=1.01)
    assert "raise the search effort above 256" in caught.value.hint
    assert not (workspace.root / "tiny" / "index" / RUN).exists()


# ---- status -----------------------------------------------------------------------------------------------------


def test_status_tells_fresh_then_stale_and_the_command_that_renews(workspace):
    assert not any("/index" in s.artifact for s in status(workspace))  # saves time, and is not missed
    encode(workspace, engine="faiss", search_effort=64)
    shard(workspace, "1/1")
    merged = ["--merge"]
    for expected in ("fresh", "stale"):
        found = {s.artifact: s for s in status(workspace) if "/index/" in s.artifact}
        assert {s.state for s in found.values()} == {expected}
        retrain(workspace, learning_rate=1e-3)
    whole, part = found[f"tiny/index/{RUN}"], found[f"tiny/index/{RUN}.shard-1-of-1"]
    assert whole.why == part.why == f"tiny/models/{RUN} has changed"
    assert whole.next_command == f"crs index-items --dataset tiny --model {RUN} --engine faiss --search-effort 64"
    assert part.next_command == f"crs index-items --dataset tiny --model {RUN} --shard 1/1"
    for state in (part, whole):
        done = CliRunner().invoke(app, [*state.next_command.split()[1:], "-w", str(workspace.root)])
        assert done.exit_code == 0, done.output
    assert {s.state for s in status(workspace) if "/index/" in s.artifact} == {"fresh"}
    encode(workspace, merged=True)
    shutil.rmtree(workspace.root / "tiny" / "index" / f"{RUN}.shard-1-of-1")
    (renewed,) = [s for s in status(workspace) if "/index/" in s.artifact]
    assert renewed.why == f"tiny/index/{RUN}.shard-1-of-1 is gone"
    assert renewed.next_command.split()[-1:] == merged


def test_the_command_tells_what_it_made(workspace):
    done = CliRunner().invoke(app, ["index-items", "-m", RUN, "--engine", "faiss", "-w", str(workspace.root)])
    assert f"{RUN}: written; 8 items, 32 wide, faiss, finds 1.000 of the exact first 50" in done.stdout
    done = CliRunner().invoke(app, ["index-items", "-m", RUN, "--engine", "faiss", "--json", "-w", str(workspace.root)])
    assert json.loads(done.stdout)["status"] == "up to date"
