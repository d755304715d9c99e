"""crs evaluate --task dialogue-management, and training with annotated dialogues, as steps."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from crscli.cli import app
from crscli.errors import ArtifactMissing, UsageError
from crscli.steps.evaluate import evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.status import freshness, status
from crscli.steps.train import train
from crscli.workspace import Workspace

SMALL = tuple(
    f"{key}={value}"
    for key, value in {
        "layers": 1, "width": 16, "vocabulary": 400, "query_tokens": 32, "passage_tokens": 24, "prompt_tokens": 32,
        "reply_tokens": 16, "first_epochs": 1, "epochs": 1, "random_negatives": 4, "candidates": 3,
    }.items()
)  # fmt: skip


def annotated(num):
    info = {
        f"T{at}": {"utterance_pos": at, "worker_id": at % 2, "role": role, "utterance_text": text,
                   "top-level intent/action": top, "sub-intent/action": sub}
        for at, (role, text, top, sub) in enumerate([
            ("seeker", "Something good?", ["AskForRec"], ["IQU"]),
            ("recommender", f"Try @{num} <Alien (1979)>", ["Recommend"], ["REC-S"]),
            ("seeker", "Why?", ["GiveFeedback"], ["INQ"]),
            ("recommender", "It is cold.", ["Explain", "Respond"], ["EXP-I"]),
        ], start=1)
    }  # fmt: skip
    return {"accepted_recommendation": [], "dialogue_info": info}


@pytest.fixture(scope="session")
def acts_once(tmp_path_factory, _trained_once):
    root = shutil.copytree(_trained_once, tmp_path_factory.mktemp("acts") / "workspace")
    source = tmp_path_factory.mktemp("iard")
    rows = {str(num): annotated(num) for num in (*range(1, 13), 20001, 20002)}
    (source / "IARD.json").write_text(json.dumps(rows), encoding="utf-8")
    fetch_dataset(Workspace(root), dataset="iard", source=source)
    told = []
    train(Workspace(root), dataset="tiny", model="reficr-tiny", sets=SMALL, device="cpu", say=told.append)
    return root, told


@pytest.fixture
def acts_workspace(tmp_path, acts_once):
    return Workspace(shutil.copytree(acts_once[0], tmp_path / "workspace"))


def test_the_annotated_dialogues_of_the_workspace_are_said_and_recorded(acts_once, acts_workspace):
    assert any("acts of dataset iard" in line for line in acts_once[1])
    record = acts_workspace.artifact("tiny", "models", "reficr-tiny").provenance()
    assert record["params"]["acts"] == "iard"
    assert "iard/dialogues" in record["inputs"]
    state = {s.artifact: s for s in status(acts_workspace, dataset="tiny")}["tiny/models/reficr-tiny"]
    assert state.state == "fresh"


def test_other_annotations_make_the_run_stale(acts_workspace):
    path = acts_workspace.artifact("iard", "dialogues").path / "provenance.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"digest": "0" * 64}))
    run = acts_workspace.artifact("tiny", "models", "reficr-tiny")
    assert freshness(acts_workspace, run)[0] == "stale"


def test_acts_are_measured_beside_what_needs_no_model(acts_workspace):
    made = evaluate(
        acts_workspace, dataset="tiny", models=["reficr-tiny"], tasks=["dialogue-management"], draws=20, device="cpu"
    )
    found = made.report["management"]
    assert found["source"] == "iard"
    assert list(found["models"]) == ["always recommend", "every act", "reficr-tiny"]
    assert {m["acts"]["turns"] for m in found["models"].values()} == {4}  # of the two test dialogues of ReDial
    assert found["models"]["always recommend"]["acts"]["acts"]["recommend"]["f1"] == pytest.approx(2 / 3)
    assert made.report["models"] == {}
    rows = pq.read_table(made.path / "acts.parquet").to_pylist()
    assert {r["of"] for r in rows} == {"acts", "recommends"}
    assert all(len(r["likelihoods"]) == 5 for r in rows)


def test_ranking_replies_and_acts_stand_in_one_report(acts_workspace):
    made = evaluate(
        acts_workspace, dataset="tiny", models=["reficr-tiny"], tasks=["rank", "respond", "dialogue-management"],
        draws=20, device="cpu", formats=["markdown", "latex"], analyse=["conversations", "pipeline", "candidates"],
    )  # fmt: skip
    assert "text" in made.report["models"]["reficr-tiny"]
    assert "macro F-1" in (made.path / "table.md").read_text()
    assert "macro F-1" in (made.path / "table.tex").read_text()
    assert set(made.report["analyses"]) == {"conversations", "pipeline", "candidates"}
    again = evaluate(
        acts_workspace, dataset="tiny", models=["reficr-tiny"], tasks=["rank", "respond", "dialogue-management"],
        draws=20, device="cpu", formats=["markdown", "latex"], analyse=["conversations", "pipeline", "candidates"],
    )  # fmt: skip
    assert again.status == "up to date"


def test_models_that_predict_no_acts_are_refused(acts_workspace):
    with pytest.raises(UsageError, match="fits none of these models"):
        evaluate(acts_workspace, dataset="tiny", models=["cooccurrence"], tasks=["dialogue-management"])
    with pytest.raises(UsageError, match="learns no acts"):
        train(acts_workspace, dataset="tiny", model="ease", acts="iard")
    with pytest.raises(ArtifactMissing, match="no dataset 'nowhere'"):
        train(acts_workspace, dataset="tiny", model="reficr-tiny", acts="nowhere", run="other")
    with pytest.raises(UsageError, match="says what it does"):
        train(acts_workspace, dataset="tiny", model="reficr-tiny", acts="tiny", run="other")


def test_the_table_is_printed(acts_workspace):
    shown = CliRunner().invoke(app, [
        "evaluate", "-w", str(acts_workspace.root), "-d", "tiny", "-m", "reficr-tiny", "--task", "dialogue-management",
    ])  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "always recommend" in shown.stdout
    assert "4 annotated turns of iard, test split" in shown.stdout
    assert "R@1" not in shown.stdout
