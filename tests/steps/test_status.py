import shlex

import pytest
import tiny
from typer.testing import CliRunner

from crscli.cli import app
from crscli.errors import ArtifactMissing
from crscli.steps.evaluate import evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.status import status
from crscli.steps.train import train
from crscli.workspace import Workspace


@pytest.fixture
def workspace(tiny_workspace):
    return Workspace(tiny_workspace)


def states(workspace, **options):
    return {s.artifact: s for s in status(workspace, **options)}


def test_what_is_there_is_fresh_and_has_size_and_time(workspace):
    found = states(workspace)
    assert [a for a, s in found.items() if s.state == "missing"] == ["tiny/catalogue", "tiny/links", "tiny/kg"]
    made = [s for s in found.values() if s.state != "missing"]
    assert len(made) == 4
    for state in made:
        assert (state.dataset, state.state, state.why, state.next_command) == ("tiny", "fresh", "", "")
        folder = workspace.root / state.artifact
        assert state.size_bytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        assert state.finished[:2] == "20"


def test_what_is_missing_has_the_command_that_makes_it(workspace, tiny_source):
    fetch_dataset(workspace, dataset="jsonl", source=tiny_source, name="bare")
    found = states(workspace, dataset="bare")
    assert [(name, s.state) for name, s in found.items()] == [
        ("bare/dialogues", "fresh"), ("bare/items", "fresh"), ("bare/catalogue", "missing"), ("bare/links", "missing"),
        ("bare/kg", "missing"), ("bare/models", "missing"), ("bare/reports", "missing"),
    ]  # fmt: skip
    assert found["bare/kg"].next_command == "crs build-kg --dataset bare"
    assert found["bare/models"].next_command == "crs train --dataset bare --model blend"
    assert found["bare/reports"].next_command == "crs evaluate --dataset bare --model blend"
    assert len(states(workspace)) == 14
    assert states(Workspace(workspace.root / "none")) == {}
    with pytest.raises(ArtifactMissing, match="there is: bare, tiny"):
        status(workspace, dataset="bar")


def test_a_changed_source_makes_stale_what_came_from_it_and_says_why(workspace, tmp_path):
    less = tiny.write_tiny(tmp_path / "less", splits=("train", "test"))
    fetch_dataset(workspace, dataset="jsonl", source=less, name="tiny")
    found = states(workspace)
    made = [s.state for s in found.values() if s.state != "missing"]
    assert made == ["fresh", "fresh", "stale", "stale"]
    model = found["tiny/models/cooccurrence"]
    assert "tiny/dialogues" in model.why
    assert model.next_command.startswith("crs train --dataset tiny --model cooccurrence")


def test_the_commands_keep_the_settings_that_are_not_the_usual_ones(workspace):
    train(workspace, dataset="tiny", model="ease", sets=("ridge=7",), run="seven", seed=2)
    evaluate(
        workspace, dataset="tiny", models=["seven"], run="r", draws=20, split="valid", exclude_mentioned=True,
        formats=["latex"],
    )  # fmt: skip
    for artifact in ("models/seven", "reports/r"):
        folder = workspace.root / "tiny" / artifact
        next(p for p in folder.iterdir() if p.name != "provenance.json").write_bytes(b"")
    found = states(workspace)
    model, report = found["tiny/models/seven"], found["tiny/reports/r"]
    assert model.state == report.state == "damaged"
    assert model.next_command == (
        "crs train --dataset tiny --model ease --set ridge=7.0 --no-refit --run seven --seed 2 --force"
    )
    assert report.next_command == (
        "crs evaluate --dataset tiny --model seven --protocol turns --split valid --exclude-mentioned"
        " --format latex --draws 20 --run r --force"
    )


def test_a_command_of_a_neural_run_and_its_report_repeats_them(neural_workspace, tmp_path):
    workspace = Workspace(neural_workspace)
    candidates = tmp_path / "my films.txt"
    candidates.write_text("f0\nf2\n", encoding="utf-8")
    sets = tiny.small(item_fields="title, genres")
    train(workspace, dataset="tiny", model="pecrs-tiny", sets=sets, run="mine", device="cpu", max_steps=2, seed=3)
    evaluate(
        workspace, dataset="tiny", models=["mine"], run="r", draws=20, candidates=candidates, decoding="nucleus:p=0.9",
        oracle=True, analyse=["turns", "genre"],
    )  # fmt: skip
    evaluate(workspace, dataset="tiny", models=["mine"], run="silent", draws=20, tasks=["rank"])
    names = ("tiny/models/mine", "tiny/reports/r", "tiny/reports/silent")
    before = {a.name: (a.digest, a.provenance()["fingerprint"]) for a in workspace.artifacts("tiny") if a.name in names}
    assert len(before) == 3
    for name in names:
        file = next(p for p in (workspace.root / name).iterdir() if p.name != "provenance.json" and p.is_file())
        file.write_bytes(b"")
    found = states(workspace)
    model, report, silent = (shlex.split(found[name].next_command) for name in names)
    assert {"--max-steps", "item_fields=title, genres"} < set(model)
    assert model[-5:] == ["--run", "mine", "--seed", "3", "--force"]
    assert " ".join(report).endswith(
        " --decoding nucleus:p=0.9 --oracle --analyse genre --analyse turns --run r --force"
    )
    assert str(candidates) in report
    assert silent[-5:] == ["--task", "rank", "--run", "silent", "--force"]
    for command in (model, report, silent):
        done = CliRunner().invoke(app, [*command[1:], "-w", str(workspace.root)])
        assert done.exit_code == 0, done.output
    after = {a.name: (a.digest, a.provenance()["fingerprint"]) for a in workspace.artifacts("tiny") if a.name in names}
    assert after == before
