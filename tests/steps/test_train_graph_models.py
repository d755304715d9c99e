"""pretrain-fusion and train for models that learn on a graph: what they read, write, refuse, and go on from."""

import json
import os
import shutil
import signal

import pytest
import tiny
import tiny_graph
from safetensors.torch import load_file
from typer.testing import CliRunner

from crscli.cli import app
from crscli.errors import ArtifactMissing, UsageError
from crscli.linking import LINKER, Linker
from crscli.session import Host, Session
from crscli.steps._dataset import find_run, load_run, read_dataset
from crscli.steps.build_kg import build_kg
from crscli.steps.evaluate import evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.link_entities import link_entities
from crscli.steps.pretrain_fusion import pretrain_fusion
from crscli.steps.status import status
from crscli.steps.train import train
from crscli.workspace import Workspace

KBRD, UNICRS = (tiny_graph.sets(settings) for settings in (tiny_graph.KBRD, tiny_graph.UNICRS))
GRAPH_FILES = {"graph/entities.parquet", "graph/items.parquet"}


@pytest.fixture(scope="session")
def _once(tmp_path_factory, tiny_source):
    root = tmp_path_factory.mktemp("graphs") / "workspace"
    workspace = Workspace(root)
    fetch_dataset(workspace, dataset="jsonl", source=tiny_source, name="tiny")
    link_entities(workspace, dataset="tiny")
    build_kg(workspace, dataset="tiny")
    train(workspace, dataset="tiny", model="kbrd", sets=KBRD, device="cpu")
    pretrain_fusion(workspace, dataset="tiny", model="unicrs-tiny", sets=UNICRS, device="cpu")
    train(workspace, dataset="tiny", model="unicrs-tiny", sets=UNICRS, device="cpu")
    return root


@pytest.fixture
def workspace(tmp_path, _once):
    return Workspace(shutil.copytree(_once, tmp_path / "workspace"))


def run(step, workspace, model="unicrs-tiny", sets=UNICRS, **options):
    return step(workspace, dataset="tiny", model=model, sets=sets, device="cpu", **options)


def removed(workspace, kind):
    shutil.rmtree(workspace.root / "tiny" / kind)


def weights(workspace, name, kind="models"):
    return load_file(workspace.root / "tiny" / kind / name / "weights.safetensors")


# ---- what is written --------------------------------------------------------------------------------------------


def test_a_fusion_run_holds_prompts_graph_tokenizers_log_and_verdict(workspace):
    artifact = workspace.artifact("tiny", "fusion", "unicrs-tiny")
    record = artifact.provenance()
    files = set(record["outputs"])
    assert files >= {"weights.safetensors", "backbones.json", "tables.safetensors", "log.jsonl", "curves.png"}
    assert {name.split("/")[0] for name in files if "/" in name} == {"decoder", "encoder", "graph"}
    assert record["params"]["kg"] == "metadata"
    assert record["inputs"].keys() == {"tiny/dialogues", "tiny/items", "tiny/links", "tiny/kg/metadata"}
    log = json.loads((artifact.open() / "log.json").read_text())
    assert log["gate"].keys() >= {"recall@1", "popularity", "wanted", "passed"}
    assert log["examples_by_target"] == 48


def test_a_run_of_several_stages_has_a_log_and_curves_of_each(workspace):
    folder = workspace.artifact("tiny", "models", "unicrs-tiny").open()
    log = json.loads((folder / "log.json").read_text())
    assert list(log) == ["conversation", "recommendation"]
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows} == set(log)
    assert {p.name for p in folder.glob("curves*")} == {"curves-conversation.png", "curves-recommendation.png"}
    templates = [json.loads(line) for line in (folder / "templates.jsonl").read_text().splitlines()]
    assert {row["split"] for row in templates} == {"train", "valid"}
    assert len(templates) == 32 + 8
    assert workspace.artifact("tiny", "models", "unicrs-tiny").provenance()["params"]["fusion"] == "unicrs-tiny"


@pytest.mark.parametrize("model", ["kbrd", "unicrs-tiny"])
def test_the_same_training_again_leaves_the_same_bytes(workspace, model):
    before = workspace.artifact("tiny", "models", model).digest
    assert run(train, workspace, model, KBRD if model == "kbrd" else UNICRS, force=True).status == "written"
    assert workspace.artifact("tiny", "models", model).digest == before


def test_all_models_stand_in_one_table_and_speak(workspace):
    found = evaluate(workspace, dataset="tiny", models=["kbrd", "unicrs-tiny", "copy"], draws=20)
    for name in ("kbrd", "unicrs-tiny"):
        assert found.report["models"][name]["text"]["readable"]["responses"] == 8
        data = read_dataset(workspace, "tiny", linked=True)
        model, _ = load_run(workspace, find_run(workspace, "tiny", name), data)
        linker = Linker.load(workspace.artifact("tiny", "links").open() / LINKER, data.catalogue)
        session = Session(Host(model, linker.link, own_words=True))
        said = session.say("Hi! I loved Alder and want more of the kind.")
        assert said.text


def test_a_dry_run_tells_of_every_stage(workspace):
    before = tiny.listing(workspace.root)
    plan = run(train, workspace, run="other", dry_run=True).plan
    assert list(plan["stages"]) == ["conversation", "recommendation"]
    assert plan["steps"] == sum(stage["steps"] for stage in plan["stages"].values()) == 4 + 8
    assert run(pretrain_fusion, workspace, run="other", dry_run=True).plan["points"] == 48
    assert tiny.listing(workspace.root) == before
    told = CliRunner().invoke(
        app,
        ["train", "-m", "kbrd", "--run", "x", "--dry-run", "-w", str(workspace.root), *map("--set={}".format, KBRD)],
    )
    assert told.exit_code == 0, told.output
    assert "recommendation" in told.stdout
    assert "generation" in told.stdout


# ---- ablations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"pretrained": False}, {"use_words": False}, {"use_entities": False}, {"template": False},
        {"recommendation_soft_tokens": 0, "conversation_soft_tokens": 0}, {"share": 0.5, "share_of": "recommendation"},
    ],
    ids=str,
)  # fmt: skip
def test_each_ablation_is_trained(workspace, change):
    made = run(train, workspace, run="other", sets=tiny_graph.sets(tiny_graph.UNICRS, **change))
    assert made.status == "written"
    rows = made.path.joinpath("templates.jsonl").read_text().splitlines()
    assert len(rows) == (0 if change.get("template") is False else 24 if "share" in change else 40)
    assert list(made.log) == ["conversation", "recommendation"]


@pytest.mark.parametrize("recipe", ["code", "cfcrs"])
def test_each_recipe_is_trained(workspace, recipe):
    sets = tiny_graph.sets({k: v for k, v in tiny_graph.UNICRS.items() if not k.endswith("soft_tokens")})
    sets += ("context_tokens=48", "entities=4", "conversation_epochs=1")
    run(pretrain_fusion, workspace, run=recipe, recipe=recipe, sets=sets)
    made = run(train, workspace, run=recipe, recipe=recipe, sets=sets, fusion=recipe)
    assert (made.settings["mask_pads"], made.settings["template"]) == (False, False)


def test_kbrd_without_a_generator_only_ranks(workspace):
    run(train, workspace, "kbrd", (*KBRD, "replies=false"), run="silent")
    assert all(name.startswith("network|") for name in weights(workspace, "silent"))
    report = evaluate(workspace, dataset="tiny", models=["silent"], draws=20).report
    assert "text" not in report["models"]["silent"] or not report["models"]["silent"]["text"]


# ---- what is missing or stale -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        ("links", "tiny/links", "crs link-entities --dataset tiny"),
        ("kg", "no graph", "crs build-kg --dataset tiny"),
        ("fusion", "no fusion run", "crs pretrain-fusion --dataset tiny --model unicrs-tiny"),
    ],
)
def test_what_is_missing_is_named_with_its_command(workspace, kind, message, hint):
    removed(workspace, kind)
    before = tiny.listing(workspace.root)
    for step, model, sets in (
        (train, "unicrs-tiny", UNICRS),
        (pretrain_fusion, "unicrs-tiny", UNICRS),
        (train, "kbrd", KBRD),
    ):
        if kind == "fusion" and (step is pretrain_fusion or model == "kbrd"):
            continue
        with pytest.raises(ArtifactMissing, match=message) as caught:
            run(step, workspace, model, sets, run="other")
        assert hint in caught.value.hint
    assert tiny.listing(workspace.root) == before


def test_a_run_of_other_links_is_stale(workspace):
    link_entities(workspace, dataset="tiny", fit=True)
    data = read_dataset(workspace, "tiny", linked=True)
    for name in ("kbrd", "unicrs-tiny"):
        with pytest.raises(ArtifactMissing, match=rf"'tiny/models/{name}' is stale: .*tiny/links"):
            load_run(workspace, find_run(workspace, "tiny", name), data)
    with pytest.raises(ArtifactMissing, match=r"'tiny/fusion/unicrs-tiny' is stale: .*tiny/links"):
        run(train, workspace, run="other")


def test_a_graph_of_other_items_is_stale(workspace, tmp_path):
    source = tmp_path / "more"
    source.mkdir()
    tiny.write_lines(source / "items.jsonl", [*tiny.items(), {"item_id": "f9", "title": "Ironwood"}])
    tiny.write_lines(source / "dialogues.jsonl", list(tiny.dialogues()))
    fetch_dataset(workspace, dataset="jsonl", source=source, name="tiny")
    link_entities(workspace, dataset="tiny")
    with pytest.raises(ArtifactMissing, match=r"kg/metadata.* is stale.*other items"):
        run(train, workspace, "kbrd", KBRD, run="other")
    with pytest.raises(ArtifactMissing, match="stale"):
        run(train, workspace, run="other")
    states = {s.artifact: s.state for s in status(workspace)}
    assert {states["tiny/models/kbrd"], states["tiny/fusion/unicrs-tiny"], states["tiny/kg/metadata"]} == {"stale"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 16}, r"was made with width 32, not 16"),
        ({"layers": 2, "bases": 3}, r"layers 1, not 2, bases 2, not 3"),
        ({"share": 0.5}, r"has learnt from 100% of the dialogues, not 50%"),
    ],
)
def test_a_fusion_run_of_another_form_is_refused(workspace, change, message):
    with pytest.raises(UsageError, match=message):
        run(train, workspace, run="other", sets=tiny_graph.sets(tiny_graph.UNICRS, **change))


def test_what_makes_no_sense_is_refused(workspace):
    with pytest.raises(UsageError, match="kbrd is not pre-trained"):
        run(pretrain_fusion, workspace, "kbrd", KBRD)
    with pytest.raises(UsageError, match="kbrd begins with no fusion run"):
        run(train, workspace, "kbrd", KBRD, fusion="unicrs-tiny", run="other")
    with pytest.raises(ArtifactMissing, match=r"no fusion run 'tiny/fusion/nothing' \(there is: unicrs-tiny\)"):
        run(train, workspace, fusion="nothing", run="other")
    with pytest.raises(ArtifactMissing, match=r"no graph 'tiny/kg/nothing'"):
        run(train, workspace, "kbrd", KBRD, kg="nothing", run="other")
    with pytest.raises(UsageError, match="cannot both be off"):
        run(train, workspace, sets=(*UNICRS, "use_words=false", "use_entities=false"), run="other")


# ---- interruptions ----------------------------------------------------------------------------------------------


def interrupt(*texts):
    """End a training by Ctrl-C when it says one of these."""

    def say(text):
        if any(part in text for part in texts):
            os.kill(os.getpid(), signal.SIGINT)

    return say


@pytest.mark.parametrize("at", ["conversation: after step 4 of", "recommendation: after step 4 of"])
def test_an_interrupted_training_goes_on_in_its_stage(workspace, at):
    with pytest.raises(KeyboardInterrupt):
        run(train, workspace, run="cut", say=interrupt(at))
    assert not workspace.artifact("tiny", "models", "cut").exists()
    scratch = workspace.root / "tiny" / ".scratch"
    assert scratch.exists()
    if at.startswith("recommendation"):  # a file of templates that was cut short is gone on with
        for file in scratch.rglob("templates-*.jsonl"):
            file.write_bytes(file.read_bytes()[:-30])
    run(train, workspace, run="cut")
    whole = weights(workspace, "unicrs-tiny")
    assert [n for n, tensor in weights(workspace, "cut").items() if not (tensor == whole[n]).all()] == []
    rows = [(workspace.root / "tiny/models" / n / "templates.jsonl").read_text() for n in ("cut", "unicrs-tiny")]
    assert rows[0] == rows[1]
    assert not scratch.exists()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["pretrain-fusion", "train"])
def test_two_processes_end_where_one_does(workspace, step):
    options = ["-m", "unicrs-tiny", "--run", "two", "--devices", "2", "--device", "cpu", "-w", str(workspace.root)]
    kind = "fusion" if step == "pretrain-fusion" else "models"
    told = CliRunner().invoke(app, [step, *options, *map("--set={}".format, UNICRS)])
    assert told.exit_code == 0, told.output
    whole = weights(workspace, "unicrs-tiny", kind)
    for name, tensor in weights(workspace, "two", kind).items():
        assert (tensor - whole[name]).abs().max() < 1e-3, name


# ---- status -----------------------------------------------------------------------------------------------------


def test_status_gives_the_commands_that_renew_fusion_and_model(workspace):
    shutil.rmtree(workspace.root / "tiny" / "kg" / "metadata")
    found = {s.artifact: s for s in status(workspace)}
    for artifact, command in (("fusion", "pretrain-fusion"), ("models", "train")):
        state = found[f"tiny/{artifact}/unicrs-tiny"]
        assert state.state == "stale"
        assert state.next_command.startswith(f"crs {command} --dataset tiny --model unicrs-tiny --set ")
        assert " --kg metadata" in state.next_command
    assert " --fusion unicrs-tiny" in found["tiny/models/unicrs-tiny"].next_command
    build_kg(workspace, dataset="tiny")
    assert {s.state for s in status(workspace)} <= {"fresh", "missing"}


# ---- runs beside each other -------------------------------------------------------------------------------------


def test_runs_of_a_model_are_compared(workspace):
    silent = (*KBRD, "replies=false", "epochs=2")
    with pytest.raises(UsageError, match="there are none that differ in a setting") as caught:
        evaluate(workspace, dataset="tiny", models=["kbrd"], draws=20, analyse=["ablation"])
    assert "--set template=false" in caught.value.hint
    for seed in (0, 1):
        run(train, workspace, "kbrd", silent, run=f"plain-{seed}", seed=seed)
        run(train, workspace, "kbrd", (*silent, "self_loops=false"), run=f"loops-{seed}", seed=seed)
    run(train, workspace, "kbrd", (*silent, "share=0.5"), run="half")
    run(train, workspace, "kbrd", (*silent, "bases=1"), run="look", max_steps=1)
    made = evaluate(workspace, dataset="tiny", models=["plain-0"], draws=20, analyse=["ablation", "scarcity"])
    ablation, scarcity = (made.report["analyses"][name] for name in ("ablation", "scarcity"))
    assert [(row[1], row[2]) for row in ablation["rows"]] == [
        ("(nothing)", 2), ("epochs=6, replies=True", 1), ("self_loops=False", 2)
    ]  # fmt: skip
    assert [(row[1], row[2]) for row in scarcity["rows"]] == [("(nothing)", 2), ("share=0.5", 1)]
    for name in ("ablation.png", "scarcity.png"):
        assert (made.path / name).exists()
    again = evaluate(workspace, dataset="tiny", models=["plain-0"], draws=20, analyse=["ablation", "scarcity"])
    assert again.status == "up to date"
    told = CliRunner().invoke(
        app, ["evaluate", "-m", "plain-0", "--draws", "20", "--analyse", "ablation", "-w", str(workspace.root)]
    )
    assert told.exit_code == 0, told.output
    assert "self_loops=False" in told.stdout
