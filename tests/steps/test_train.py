import json

import numpy as np
import pytest
import tiny

from crscli.errors import ArtifactMissing, UsageError
from crscli.steps._dataset import find_run, load_run, read_dataset
from crscli.steps.build_kg import build_kg
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.train import train
from crscli.workspace import Workspace


@pytest.fixture
def workspace(tiny_workspace):
    return Workspace(tiny_workspace)


def fit(workspace, model="ease", **options):
    return train(workspace, dataset="tiny", model=model, **options)


def test_a_run_holds_the_models_files_its_settings_and_its_log(workspace):
    told = []
    made = fit(workspace, sets=("ridge=5",), say=told.append)
    assert (made.status, made.run, made.fitted_on, made.settings["ridge"]) == ("written", "ease", ["train"], 5.0)
    assert {p.name for p in made.path.iterdir()} == {
        "ease.npz", "popularity.npz", "config.json", "log.json", "provenance.json",
    }  # fmt: skip
    record = json.loads((made.path / "config.json").read_text(encoding="utf-8"))
    assert record["settings"] == made.settings
    assert (record["model"], record["refit"], record["fitted_on"], record["seed"]) == ("ease", False, ["train"], 0)
    assert record["catalogue"] == read_dataset(workspace, "tiny").catalogue.digest
    assert told == ["fitting ease on tiny: 16 train and 4 validation dialogues"]


def test_provenance_names_what_was_read(workspace):
    made = fit(workspace)
    provenance = workspace.artifact("tiny", "models", "ease").provenance()
    wanted = {f"tiny/{kind}": workspace.artifact("tiny", kind).digest for kind in ("items", "dialogues")}
    assert provenance["inputs"] == wanted
    assert provenance["params"] == {"model": "ease", "settings": made.settings, "refit": False}
    assert provenance["seeds"] == {"seed": 0}


def test_a_second_run_is_up_to_date_force_repeats_and_a_dry_run_only_tells(workspace):
    assert fit(workspace, dry_run=True).status == "dry run"
    assert find_run(workspace, "tiny", "ease") is None
    fit(workspace)
    again = fit(workspace)
    assert (again.status, again.seconds) == ("up to date", 0.0)
    assert fit(workspace, force=True).status == "written"
    with pytest.raises(UsageError, match=r"ridge 50.0 -> 7.0"):
        fit(workspace, sets=("ridge=7",))
    assert fit(workspace, sets=("ridge=7",), run="other").status == "written"


def test_a_validation_split_of_its_own_is_learnt_only_if_asked_and_a_cut_off_one_goes_back(workspace, tmp_path):
    data = read_dataset(workspace, "tiny")
    assert len(data.fit_data().learnable) == 16
    assert len(data.fit_data(refit=True).learnable) == 20
    assert fit(workspace, refit=True, run="refitted").fitted_on == ["train", "valid"]
    source = tiny.write_tiny(tmp_path / "source", splits=("train", "test"))
    fetch_dataset(workspace, dataset="jsonl", source=source, name="cut", valid_share=0.25)
    data = read_dataset(workspace, "cut")
    assert (len(data.splits["train"]), len(data.fit_data().learnable)) == (12, 16)
    assert len(data.fit_data(refit=False).learnable) == 12
    assert train(workspace, dataset="cut", model="ease").fitted_on == ["train", "valid"]


def test_a_dataset_without_train_dialogues_cannot_be_learnt_from(workspace, tmp_path):
    source = tiny.write_tiny(tmp_path / "source", splits=("test",))
    fetch_dataset(workspace, dataset="jsonl", source=source, name="only-test")
    with pytest.raises(UsageError, match="no train dialogues"):
        train(workspace, dataset="only-test", model="ease")


def test_a_run_is_found_by_its_name_else_the_newest_of_its_model(workspace):
    for name in ("first", "second"):
        fit(workspace, run=name)
    assert find_run(workspace, "tiny", "ease").run == "second"
    assert find_run(workspace, "tiny", "first").run == "first"
    assert find_run(workspace, "tiny", "knn") is None
    fit(workspace)
    fit(workspace, run="third")
    assert find_run(workspace, "tiny", "ease").run == "ease"  # the run of that very name goes first


def test_a_loaded_run_ranks_like_the_fitted_model(workspace):
    data = read_dataset(workspace, "tiny")
    fit(workspace, sets=("ridge=5",))
    loaded, record = load_run(workspace, find_run(workspace, "tiny", "ease"), data)
    again, _ = load_run(workspace, find_run(workspace, "tiny", "ease"), data)
    assert record["settings"]["ridge"] == 5.0
    assert loaded.catalogue is data.catalogue
    assert np.array_equal(loaded.signal.weights, again.signal.weights)
    assert loaded.signal.weights.any()


def test_a_graph_is_for_models_that_use_one(workspace):
    with pytest.raises(UsageError, match="ease uses no knowledge graph"):
        train(workspace, dataset="tiny", model="ease", kg="metadata")
    with pytest.raises(ArtifactMissing, match="no graph 'tiny/kg/metadata'") as caught:
        train(workspace, dataset="tiny", model="blend", kg="metadata")
    assert caught.value.hint == "run: crs build-kg --dataset tiny"


def test_blend_keeps_the_graph_it_was_trained_with(workspace):
    build_kg(workspace, dataset="tiny")
    made = train(workspace, dataset="tiny", model="blend", kg="metadata", run="with-graph")
    data = read_dataset(workspace, "tiny")
    run = find_run(workspace, "tiny", "with-graph")
    recommender, _ = load_run(workspace, run, data)
    graph = recommender.signals.content.graph
    assert graph.shape[0] == len(data.catalogue)
    assert graph.sum() == len(data.catalogue)  # each of the tiny films has a genre, and nothing else
    assert run.provenance()["params"]["kg"] == "metadata"
    assert train(workspace, dataset="tiny", model="blend", kg="metadata", run="with-graph").status == "up to date"
    with pytest.raises(UsageError, match="other settings \\(kg\\)"):
        train(workspace, dataset="tiny", model="blend", run="with-graph")
    assert made.status == "written"
