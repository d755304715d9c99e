import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny

from crscli.errors import ArtifactMissing, UsageError
from crscli.steps.evaluate import TRIVIAL, evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.train import train
from crscli.workspace import Workspace


@pytest.fixture
def workspace(tiny_workspace):
    return Workspace(tiny_workspace)


def measure(workspace, *models, dataset="tiny", **options):
    return evaluate(workspace, dataset=dataset, models=models, draws=20, **options)


def predictions(made):
    """The rows of predictions.parquet by model."""
    found = {}
    for row in pq.read_table(made.path / "predictions.parquet").to_pylist():
        found.setdefault(row.pop("model"), []).append(row)
    return found


def test_trivial_rows_always_stand_in_the_report_once(workspace):
    for asked in ((), ("cooccurrence",), ("popularity", "knn", "copy", "knn")):
        made = measure(workspace, *asked)
        names = list(made.report["models"])
        assert names[:3] == list(TRIVIAL)
        assert sorted(names) == sorted({*TRIVIAL, *asked})
        assert list(predictions(made)) == names


def test_a_run_is_loaded_and_a_model_without_one_is_fitted_unless_it_needs_one(workspace):
    told = []
    made = measure(workspace, "cooccurrence", "ease", say=told.append)
    facts = {name: (m["run"], m["model"], m["fitted_on"]) for name, m in made.report["models"].items()}
    assert facts["cooccurrence"] == ("tiny/models/cooccurrence", "cooccurrence", ["train"])
    assert facts["ease"] == (None, "ease", ["train"])
    assert told == ["no run of ease: fitted now on train"]
    inputs = workspace.artifact("tiny", "reports", made.path.name).provenance()["inputs"]
    assert inputs.keys() == {"tiny/items", "tiny/dialogues", "tiny/models/cooccurrence"}
    with pytest.raises(ArtifactMissing, match="blend was not trained on tiny"):
        measure(workspace, "blend")


@pytest.mark.parametrize("options", [{}, {"exclude_mentioned": True}, {"protocol": "turns-new"}, {"split": "valid"}])
def test_the_predictions_hold_what_the_figures_come_from(workspace, options):
    made = measure(workspace, "cooccurrence", **options)
    assert made.report["counts"]["rows"] == 8
    for name, rows in predictions(made).items():
        figures = made.report["models"][name]["figures"]
        assert [r["dialogue_id"] for r in rows] == sorted((r["dialogue_id"] for r in rows), key=lambda d: int(d[1:]))
        for k in (1, 5, 10):
            hits = [[0 < rank <= k for rank in r["ranks"]] for r in rows]
            assert figures["row"]["all"][f"recall@{k}"]["value"] == pytest.approx(np.mean([np.mean(h) for h in hits]))
            assert figures["micro"]["all"][f"recall@{k}"]["value"] == pytest.approx(np.mean(np.concatenate(hits)))
        for row in rows:
            assert [row["top"].index(x) + 1 if x in row["top"] else 0 for x in row["labels"]] == row["ranks"]
            assert len(row["repeated"]) == len(row["labels"])


def test_on_valid_nothing_is_learnt_from_valid_or_its_recommenders(workspace, tmp_path):
    """Recommender w1 holds the latest dialogue; before it he pushes f7 where the others name f0."""

    def told(num, split, worker, offered):
        turns = [("seeker", "Hi", []), ("recommender", "This", [offered])]
        turns = [{"role": role, "text": text, "items": items} for role, text, items in turns]
        return {"dialogue_id": f"d{num}", "split": split, "order": num, "recommender_id": worker, "turns": turns}

    rows = [told(n, "train", "w1", "f7") for n in range(4)] + [told(n, "train", "w2", "f0") for n in range(4, 7)]
    rows += [told(n, "train", "w3", "f1") for n in range(7, 9)]
    rows += [told(9, "train", "w1", "f5"), told(10, "test", "w9", "f7")]
    source = tiny.write_tiny(tmp_path / "source")
    tiny.write_lines(source / "dialogues.jsonl", rows)
    fetch_dataset(workspace, dataset="jsonl", source=source, name="workers", valid_share=0.1)
    top = {
        split: predictions(measure(workspace, dataset="workers", split=split))["popularity"][0]["top"]
        for split in ("valid", "test")
    }
    assert top["valid"][0] == "f0"
    assert top["valid"].index("f7") == 7  # never heard of
    assert top["test"][:2] == ["f7", "f0"]
    for split, learnt in (("valid", ["train"]), ("test", ["train", "valid"])):
        facts = measure(workspace, dataset="workers", split=split).report["models"]["popularity"]
        assert facts["fitted_on"] == learnt


def test_a_limited_report_has_a_name_of_its_own_and_the_first_rows(workspace):
    whole, limited = measure(workspace, "cooccurrence"), measure(workspace, "cooccurrence", limit=3)
    assert limited.path.name == f"{whole.path.name}.first3"
    assert limited.report["counts"]["rows"] == limited.report["limit"] == 3
    assert predictions(limited)["cooccurrence"] == predictions(whole)["cooccurrence"][:3]
    assert not limited.report["counts_checked"]


def test_the_saved_report_is_the_given_one_and_formats_are_further_files(workspace):
    made = measure(workspace, "cooccurrence", formats=("markdown", "latex"), run="tables")
    assert {p.name for p in made.path.iterdir()} == {
        "metrics.json", "predictions.parquet", "provenance.json", "table.md", "table.tex",
    }  # fmt: skip
    assert json.loads((made.path / "metrics.json").read_text(encoding="utf-8")) == made.report
    for name in ("table.md", "table.tex"):
        assert "cooccurrence" in (made.path / name).read_text(encoding="utf-8")


def test_a_second_run_is_up_to_date_until_something_that_matters_changes(workspace, monkeypatch):
    first = measure(workspace, "ease", run="r")
    again = measure(workspace, "ease", run="r")
    assert (again.status, again.report) == ("up to date", first.report)
    assert measure(workspace, "ease", run="r", force=True).report == first.report
    assert measure(workspace, "ease", run="r", seed=1).status == "written"
    dry = measure(workspace, "ease", run="r", limit=2, dry_run=True)
    assert (dry.status, dry.report["counts"]["rows"]) == ("dry run", 2)
    assert measure(workspace, "ease", run="r", seed=1).status == "up to date"
    monkeypatch.setenv("CRS_SET_RIDGE", "3")  # a model that is fitted on the spot takes its settings from there
    assert measure(workspace, "ease", run="r", seed=1).status == "written"


def test_own_candidates_mark_the_report(workspace, tmp_path):
    listed = tmp_path / "listed.txt"
    listed.write_text("f0\nf2\n", encoding="utf-8")
    whole, some = measure(workspace, "ease"), measure(workspace, "ease", candidates=listed)
    assert some.path != whole.path
    assert some.report["counts"]["candidates"] == 2
    assert not some.report["counts_checked"]
    assert not some.report["comparable"]
    assert measure(workspace, "ease", seed=1).path != whole.path


def test_a_run_takes_no_other_models_name_and_a_trivial_row_is_never_a_run(workspace):
    with pytest.raises(UsageError, match="run name 'popularity' is the name of another model"):
        train(workspace, dataset="tiny", model="cooccurrence", run="popularity")
    train(workspace, dataset="tiny", model="popularity")
    assert measure(workspace).report["models"]["popularity"]["run"] is None


def test_a_run_of_another_name_is_said_aloud(workspace):
    train(workspace, dataset="tiny", model="ease", run="mine")
    told = []
    assert measure(workspace, "ease", say=told.append).report["models"]["ease"]["run"] == "tiny/models/mine"
    assert "ease: run mine, the newest of this model" in told


def test_what_a_model_is_cannot_be_set(workspace):
    with pytest.raises(UsageError, match="setting signal makes the model what it is: not 'knn'"):
        train(workspace, dataset="tiny", model="ease", sets=("signal=knn",))
