import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib import import_module

import pytest
import tiny
import typer
from typer.testing import CliRunner

import crscli
from crscli import cli
from crscli.console import Console
from crscli.datasets import DATASETS
from crscli.models import MODELS
from crscli.protocols import PROTOCOLS
from crscli.steps.build_kg import SOURCES as GRAPHS
from crscli.steps.fetch_metadata import SOURCES
from crscli.workspace import Workspace

COMMANDS = {command.name: command.callback for command in cli.app.registered_commands}
STEPS = (
    "fetch-dataset", "fetch-metadata", "link-entities", "build-kg", "pretrain-fusion", "train", "index-items",
    "evaluate", "chat", "serve", "status", "demo", "doctor",
)  # fmt: skip
WITH_EXAMPLES = STEPS[:10]
OF_SHOW = {"show", "picture", "show_profile", "delete_profile"}
OF_SIMULATION = {"simulate", "turns", "shown", "mode", "seekers", "leaky"}
"""Options of evaluate for simulated dialogues, which are a step of their own."""
LISTINGS = ("models", "datasets", "protocols", "schema")
RENAMED = {"run_name": "run", "merge": "merged"}
JOINED = {
    ("train", "backbone"): "sets",
    ("pretrain-fusion", "backbone"): "sets",
    ("evaluate", "llm_base_url"): "llm",
    ("serve", "llm_base_url"): "endpoint",
    ("chat", "llm_base_url"): "opener",
    ("chat", "voice"): "opener",
    ("chat", "shown"): "opener",
    ("chat", "device"): "opener",
}
"""Options that the command adds to those of another keyword."""
OF_LLM = {f"llm_{name}" for name in ("model", "key_file", "concurrency", "timeout", "price", "batch_out", "batch_in")}
"""Options that say with `llm_base_url` what endpoint the keyword `llm` is."""
ALL_WHERE_LEFT_OUT = {("evaluate", "tasks")}
"""Repeatable options of which none given means all."""
GIVEN_BY_CLI = {"progress", "say", "offline"}
ESCAPE = "\x1b"


@pytest.fixture
def crs(tmp_path, monkeypatch):
    """Run a command in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*args, code=0, **options):
        result = CliRunner().invoke(cli.app, [str(a) for a in args], **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


def process(*args, **options):
    """A process of its own: real streams and signals."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "crscli", *map(str, args)], stdout=pipe, stderr=pipe, text=True, **options
    )


# ---- help ---------------------------------------------------------------------------------------------------------


def test_the_commands_are_these():
    assert COMMANDS.keys() == {*STEPS, *LISTINGS}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(crs, name):
    said = crs(name, "--help").stdout
    assert "Usage: " in said
    assert re.search(r"^  [A-Z].*[a-z]", said, re.MULTILINE)
    if name in WITH_EXAMPLES:
        examples = [line.strip() for line in said.split("Examples:")[1].split("Options:")[0].splitlines() if line]
        written = [line.strip() for line in COMMANDS[name].__doc__.split("Examples:")[1].splitlines() if line.strip()]
        assert len(written) >= 2
        assert examples == written  # none is folded: each can be copied
    for option in ("--workspace", "--json", "--quiet", "--verbose", "--offline", "--help"):
        assert option in said
    assert crs(name, "-h").stdout == said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name):
    command = typer.main.get_command(cli.app).commands[name]
    assert len(command.params) >= 5
    assert [p.name for p in command.params if not getattr(p, "help", None)] == []


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_the_help_can_be_typed(name):
    command = typer.main.get_command(cli.app).commands[name]
    examples = re.findall(rf"^\s*crs {name} (.*)$", inspect.getdoc(COMMANDS[name]), re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        command.make_context(name, shlex.split(example))


@pytest.mark.parametrize("name", STEPS)
def test_options_are_the_keywords_of_the_step(name):
    file = name.replace("-", "_")
    step = getattr(import_module(f"crscli.steps.{file}"), file)
    keywords = {k: p.default for k, p in list(inspect.signature(step).parameters.items())[1:] if k not in GIVEN_BY_CLI}
    left_out = cli.frame._SHARED.keys() | OF_SHOW | OF_LLM | (OF_SIMULATION if name == "evaluate" else set())
    options = {k: p.default for k, p in inspect.signature(COMMANDS[name]).parameters.items() if k not in left_out}
    named = {k: JOINED.get((name, k), RENAMED.get(k, k)) for k in options}
    assert set(named.values()) == keywords.keys()
    for option, shown in options.items():
        used = keywords[named[option]]
        if (name, option) in ALL_WHERE_LEFT_OUT:
            assert (shown, used) == (None, ("rank", "respond"))
            continue
        if option == "dataset" or used is inspect.Parameter.empty:
            continue  # chosen and said aloud; or the step itself has no default
        assert shown == used or (shown is None and used == ()), option


def test_the_choices_of_options_are_those_that_the_code_knows():
    from crscli.analyses import ANALYSES
    from crscli.report import FORMATS
    from crscli.steps.evaluate import TASKS

    assert {f.value for f in cli.outcomes.Format} == FORMATS.keys()
    assert {s.value for s in cli.outcomes.Split} == {"valid", "test"}
    assert {t.value for t in cli.outcomes.Task} == set(TASKS)
    assert {a.value for a in cli.outcomes.Analysis} == set(ANALYSES)
    assert {v.value for v in cli.data.Valid} == {"latest", "random"}
    assert {s.value for s in cli.knowledge.Source} == set(SOURCES)
    assert {g.value for g in cli.knowledge.Graph} == set(GRAPHS)


@pytest.mark.parametrize(
    ("complete", "known"),
    [(cli.data._dataset_names, DATASETS), (cli.models.model_names, MODELS), (cli.outcomes._protocol_names, PROTOCOLS)],
)
def test_names_are_completed(complete, known):
    assert complete("") == list(known)
    assert complete("re") == [name for name in known if name.startswith("re")]


def test_version(crs):
    assert crs("--version").stdout == f"{crscli.__version__}\n"


def test_without_a_command_the_help_is_shown(crs):
    result = crs(code=2)
    assert "Commands:" in result.stdout + result.stderr


# ---- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        "fetch-dataset --dataset jsonl --from SOURCE --name other",
        "fetch-dataset --dataset jsonl --from SOURCE --name other --dry-run",
        "fetch-metadata --source file --from SOURCE/items.jsonl",
        "link-entities",
        "build-kg",
        "train --model ease",
        "train --model ease --dry-run -v",
        "train --model pecrs-tiny --dry-run",
        "index-items --model pecrs-tiny",
        "index-items --model pecrs-tiny --dry-run",
        "evaluate --model cooccurrence --draws 20",
        "evaluate --model cooccurrence --draws 30 --dry-run",
        "status",
        "models",
        "datasets",
        "protocols",
        "schema report",
        "doctor",
    ],
)
def test_json_is_one_document_and_nothing_else(crs, neural_workspace, tiny_source, args):
    args = args.replace("SOURCE", str(tiny_source)).split()
    result = crs(*args, "--json", "-w", neural_workspace, env=tiny.SMALL_ENVIRONMENT)
    assert isinstance(json.loads(result.stdout, parse_constant=pytest.fail), dict | list)
    assert json.loads(crs(*args, "--json", "--quiet", "-w", neural_workspace, env=tiny.SMALL_ENVIRONMENT).stdout)


def test_json_of_an_error_leaves_stdout_empty(crs):
    result = crs("evaluate", "--json", code=3)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")


def test_results_go_to_stdout_and_the_rest_to_stderr(crs, tiny_workspace):
    result = crs("train", "-m", "ease", "-w", tiny_workspace)
    assert "ease: written" in result.stdout
    assert "shrinkage" in result.stdout
    for word in ("dataset: tiny (the only dataset in the workspace)", "fitting ease on tiny", "next: crs evaluate"):
        assert word in result.stderr
        assert word not in result.stdout


def test_quiet_leaves_results_and_errors(crs, tiny_workspace):
    result = crs("train", "-m", "ease", "-q", "-w", tiny_workspace)
    assert result.stderr == ""
    assert "ease: written" in result.stdout
    result = crs("train", "-m", "eas", "-q", "-w", tiny_workspace, code=2)
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == "error: unknown model 'eas'"


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": "xterm-256color"}])
def test_a_pipe_gets_no_escape_codes(crs, tiny_workspace, environment):
    for args in (
        ["evaluate", "-w", tiny_workspace],
        ["status", "-w", tiny_workspace],
        ["train", "-m", "x"],
        ["models"],
    ):
        result = CliRunner().invoke(cli.app, [str(a) for a in args], env=environment)
        assert ESCAPE not in result.stdout + result.stderr
        assert result.stdout + result.stderr


def test_no_color_is_heeded_on_a_terminal(tmp_path):
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        main, end = os.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "crscli", "train", "-m", "x", "-w", str(tmp_path)],
            stderr=end, stdout=end, stdin=end, env=plain_environment(TERM="xterm-256color", **environment),
        )  # fmt: skip
        os.close(end)
        said = os.read(main, 10_000).decode()
        os.close(main)
        assert done.returncode == 3
        assert "error: " in re.sub(r"\x1b\[[0-9;]*m", "", said)
        assert (f"{ESCAPE}[1;31m" in said) == coloured


def plain_environment(**more):
    drop = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS")
    return {k: v for k, v in os.environ.items() if k not in drop and not k.startswith("CRS_")} | more


def test_a_pipe_gets_whole_lines(crs, tiny_workspace):
    long = "x" * 90
    for num in range(4):
        crs("train", "-m", "ease", "--run", f"{long}{num}", "-w", tiny_workspace)
    crs("evaluate", *(f"--model={long}{num}" for num in range(4)), "--run", "wide", "--draws", 20, "-w", tiny_workspace)
    crs("train", "-m", "ease", "--run", f"{long}0", "--set", "ridge=3", "--force", "-w", tiny_workspace)
    lines = crs("status", "-w", tiny_workspace).stdout.splitlines()
    assert "stale: " in next(text for text in lines if text.startswith("tiny/reports/wide "))
    assert f"--model {long}3" in next(text for text in lines if text.startswith("tiny/reports/wide: crs evaluate"))


def test_a_closed_pipe_ends_quietly():
    first = process("models")
    head = subprocess.Popen(["head", "-n", "1"], stdin=first.stdout, stdout=subprocess.PIPE, text=True)
    first.stdout.close()
    assert head.communicate()[0].startswith("model ")
    assert first.stderr.read() == ""
    first.wait()
    reader, writer = os.pipe()
    os.close(reader)  # nobody reads from the start
    done = subprocess.run(
        [sys.executable, "-m", "crscli", "models", "--json"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in (1, 141)


# ---- errors: exit code and hint -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        ("fetch-dataset -d redail", "unknown dataset 'redail'", "did you mean redial?"),
        ("fetch-dataset -d redial --form pecr", "'pecr'", "pecrs"),
        ("fetch-dataset -d jsonl", "your own files", "--from"),
        ("fetch-dataset -d jsonl --from SOURCE --valid-share 1", "--valid-share 1.0", "0.12"),
        ("fetch-dataset -d jsonl --from SOURCE --name a/b", "'a/b' cannot be used", "letters"),
        ("train -m eas", "unknown model 'eas'", "did you mean ease?"),
        ("train -m ease --set ridg=3", "unknown setting 'ridg'", "did you mean ridge?"),
        ("train -m ease --run .x", "'.x' cannot be used", "letters"),
        ("train -m ease -d ../x", "'../x' cannot be used", "letters"),
        ("evaluate -m eas", "unknown model 'eas'", "did you mean ease?"),
        ("evaluate --protocol turn", "unknown protocol 'turn'", "did you mean turns"),
        ("evaluate --protocol mese-pecrs", "not defined on", "fetch redial"),
        ("evaluate --limit 0", "--limit 0", "at least 1"),
        ("train -m pecrs-tiny --set layer=3", "unknown setting 'layer'", "did you mean layers?"),
        ("train -m pecrs-tiny --set width=9", "width must be a multiple of heads", "--dry-run lists the settings"),
        ("train -m pecrs-tiny --recipe cod", "unknown recipe 'cod'", "did you mean code?"),
        ("train -m blend --recipe code", "blend has no recipes", "leave out --recipe"),
        ("train -m pecrs-tiny --refit", "is not fitted again", "leave out --refit"),
        ("train -m pecrs-tiny --kg metadata", "uses no knowledge graph", "leave out --kg"),
        ("train -m ease --devices 2", "fitted on the CPU at once", "leave out --device"),
        ("train -m ease --max-steps 2", "fitted on the CPU at once", "leave out --device"),
        ("train -m ease --device cuda", "fitted on the CPU at once", "leave out --device"),
        ("train -m blend --backbone tiny", "unknown setting 'backbone'", "did you mean "),
        ("index-items -m cooccurrence", "cooccurrence has no item vectors", "pecrs-tiny"),
        ("index-items -m cooccurrence --dry-run", "cooccurrence has no item vectors", "pecrs-tiny"),
        ("index-items -m pecrs-tiny --engine fais", "unknown engine 'fais'", "exact, faiss"),
        ("index-items -m pecrs-tiny --shard 3/2", "--shard '3/2' is not i/n", "--shard 2/8"),
        ("index-items -m pecrs-tiny --shard 1/2 --merge", "--shard goes with neither", "put together"),
        ("index-items -m pecrs-tiny --shard 1/2 --engine faiss", "--shard goes with neither", "put together"),
        ("evaluate -m pecrs-tiny --decoding nuclear", "unknown decoding 'nuclear'", "did you mean nucleus?"),
        ("evaluate -m pecrs-tiny --decoding beam:beam=2", "unknown setting of beam 'beam'", "did you mean beams?"),
        ("evaluate -m pecrs-tiny --decoding nucleus:p=2", "p is 2.0, expected above 0 and at most 1", "nucleus:p=0.95"),
        ("evaluate -m cooccurrence --analyse fields", "--analyse fields fits none of these models", "pecrs-tiny"),
        ("evaluate --analyse genre", "--analyse genre fits none of these models", "name one with --model"),
        ("schema repor", "unknown schema 'repor'", "did you mean report?"),
    ],
)
def test_usage_errors_say_what_mends_them(crs, neural_workspace, tiny_source, args, message, hint):
    before = tiny.listing(neural_workspace)
    result = crs(*args.replace("SOURCE", str(tiny_source)).split(), "-w", neural_workspace, code=2)
    *_, first, second = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("hint: ")
    assert hint in second
    assert "Traceback" not in result.stderr
    assert tiny.listing(neural_workspace) == before


@pytest.mark.parametrize(
    "args",
    [
        "trian",
        "train",
        "train --model",
        "evaluate --split train",
        "evaluate --draws 3",
        "evaluate --task rnk",
        "evaluate --analyse gnre",
        "train -m pecrs-tiny --devices 0",
        "train -m pecrs-tiny --max-steps -1",
        "index-items",
        "index-items -m pecrs-tiny --min-recall 2",
        "train -m ease --seed x",
        "--x",
    ],
)
def test_typing_errors_are_usage_errors(crs, args):
    result = crs(*args.split(), code=2)
    assert result.stdout == ""
    assert "Error: " in result.stderr


@pytest.mark.parametrize("args", ["train -m ease", "evaluate -m ease", "evaluate"])
def test_an_empty_workspace_names_the_command_to_run(crs, args):
    result = crs(*args.split(), code=3)
    assert "holds no dataset" in result.stderr
    assert "crs fetch-dataset --dataset sample" in result.stderr
    result = crs(*args.split(), "--dataset", "redial", code=3)
    assert "hint: run: crs fetch-dataset --dataset redial" in result.stderr
    assert os.listdir() == []


def test_a_mistyped_dataset_hears_which_there_are(crs, tiny_workspace):
    result = crs("train", "-m", "ease", "-d", "tyni", "-w", tiny_workspace, code=3)
    assert "(this workspace holds: tiny)" in result.stderr


def test_a_model_that_needs_a_run_says_how_to_train_it(crs, tiny_workspace):
    needing = [name for name, spec in MODELS.items() if spec.needs_run]
    assert {"blend", "pecrs-tiny", "pecrs-small", "pecrs-medium"} < set(needing)
    for name in needing:
        result = crs("evaluate", "-m", name, "-w", tiny_workspace, code=3)
        assert f"error: {name} was not trained on tiny" in result.stderr
        assert f"hint: run: crs train --dataset tiny --model {name}" in result.stderr


def test_a_split_that_the_run_has_learnt_from_is_refused(crs, tiny_workspace):
    crs("train", "-m", "ease", "--refit", "-w", tiny_workspace)
    result = crs("evaluate", "-m", "ease", "--split", "valid", "-w", tiny_workspace, code=2)
    assert "has learnt from valid" in result.stderr
    command = re.search(r"crs (train .*)", result.stderr).group(1).split()
    crs(*command, "-w", tiny_workspace)
    crs("evaluate", "-m", command[command.index("--run") + 1], "--split", "valid", "-w", tiny_workspace)


def test_a_run_with_other_settings_is_not_replaced_in_passing(crs, tiny_workspace):
    def digest():
        return Workspace(tiny_workspace).artifact("tiny", "models", "cooccurrence").digest

    before = digest()
    train = ("train", "-m", "cooccurrence", "-w", tiny_workspace)
    for change, shown in (("--set", "shrinkage=3"), "shrinkage 10.0 -> 3.0"), (("--seed", 1), "seed 0 -> 1"):
        result = crs(*train, *change, code=2)
        assert shown in result.stderr
        assert "--run NAME" in result.stderr
        assert "--force" in result.stderr
        assert digest() == before
    assert "refit" in crs(*train, "--refit", code=2).stderr
    assert "written" in crs(*train, "--set", "shrinkage=3", "--force").stdout
    assert digest() != before


def test_a_stale_run_is_not_measured(crs, tiny_workspace, tmp_path):
    less = tiny.write_tiny(tmp_path / "less", splits=("train", "test"))
    crs("fetch-dataset", "-d", "jsonl", "--from", less, "--name", "tiny", "-w", tiny_workspace)
    result = crs("evaluate", "-m", "cooccurrence", "-w", tiny_workspace, code=3)
    assert "is stale" in result.stderr
    assert "hint: crs status --dataset tiny" in result.stderr
    shown = crs("status", "--dataset", "tiny", "-w", tiny_workspace).stdout
    command = re.search(r"^tiny/models/cooccurrence: crs (train .*)$", shown, re.MULTILINE).group(1).split()
    crs(*command)
    crs("evaluate", "-m", "cooccurrence", "-w", tiny_workspace)


def test_damage_ends_with_nine_and_is_mended_by_force(crs, tiny_workspace):
    file = tiny_workspace / "tiny" / "models" / "cooccurrence" / "popularity.npz"
    file.write_bytes(file.read_bytes()[:-1])
    result = crs("evaluate", "-m", "cooccurrence", "--force", "-w", tiny_workspace, code=9)
    assert "popularity.npz" in result.stderr
    command = re.search(r"crs (train .*)", result.stderr).group(1).split()
    crs(*command, "-w", tiny_workspace)
    crs("evaluate", "-m", "cooccurrence", "--force", "-w", tiny_workspace)


def test_bad_data_end_with_four_and_name_file_and_line(crs, tiny_source, tmp_path):
    source = tiny.write_tiny(tmp_path / "source")
    lines = (source / "dialogues.jsonl").read_text(encoding="utf-8").splitlines()
    (source / "dialogues.jsonl").write_text("\n".join([*lines[:4], "{", *lines[5:]]), encoding="utf-8")
    fetch = ("fetch-dataset", "-d", "jsonl", "--from", source, "--name", "tiny")
    assert "dialogues.jsonl:5: " in crs(*fetch, code=4).stderr
    assert not (tmp_path / "workspace").exists()
    result = crs(*fetch, "--max-bad-rows", 1)
    assert "skipped: " in result.stderr
    assert "1 bad rows skipped" in result.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ("train -m ease --set ridge=abc", 2),
        ("train -m ease --set ridge=-1", 2),
        ("train -m ease --config none.toml", 6),
        ("fetch-dataset -d redial --offline", 5),
        ("fetch-dataset -d jsonl --from nowhere", 4),
        ("index-items -m pecrs-tiny", 3),
    ],
)
def test_other_exit_codes(crs, tiny_workspace, args, code):
    result = crs(*args.split(), "-w", tiny_workspace, code=code)
    assert "error: " in result.stderr
    assert "hint: " in result.stderr


def test_a_file_as_workspace_ends_with_seven(crs, tiny_source, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    fetch = ("fetch-dataset", "-d", "jsonl", "--from", tiny_source, "--name", "tiny", "-w", tmp_path / "file")
    assert "is a file" in crs(*fetch, code=7).stderr
    for command in ("doctor", "status", "demo"):
        assert "is a file" in crs(command, "-w", tmp_path / "file", code=7).stderr


# ---- what the steps do --------------------------------------------------------------------------------------------


def test_a_step_that_has_nothing_to_do_says_so(crs, tiny_source, tmp_path):
    steps = [
        ["fetch-dataset", "-d", "jsonl", "--from", tiny_source, "--name", "tiny"],
        ["train", "-m", "cooccurrence"],
        ["evaluate", "-m", "cooccurrence", "--draws", 20],
    ]
    for step in steps:
        crs(*step)
        before = tiny.listing(tmp_path)
        result = crs(*step)
        assert "up to date" in result.stdout + result.stderr
        assert tiny.listing(tmp_path) == before
        again = crs(*step, "--force")
        assert "written" in again.stdout + again.stderr
        assert tiny.listing(tmp_path) != before


def test_a_dry_run_writes_nothing(crs, neural_workspace, tiny_source):
    before = tiny.listing(neural_workspace)
    for step in (
        ["fetch-dataset", "-d", "jsonl", "--from", tiny_source, "--name", "other"],
        ["fetch-dataset", "-d", "redial"],
        ["train", "-m", "ease"],
        ["train", "-m", "cooccurrence", "--set", "shrinkage=3", "--force"],
        ["evaluate", "-m", "ease"],
        ["evaluate", "-m", "cooccurrence", "--draws", 20, "--run", "turns.test.cooccurrence", "--force"],
        ["train", "-m", "pecrs-tiny", "--run", "other", "--devices", 2],
        ["index-items", "-m", "pecrs-tiny"],
        ["index-items", "-m", "pecrs-tiny", "--shard", "1/3"],
        ["evaluate", "-m", "pecrs-tiny", "--oracle", "--analyse", "decoding"],
    ):
        result = crs(*step, "--dry-run", "-w", neural_workspace, env=tiny.SMALL_ENVIRONMENT)
        assert "dry run" in result.stdout
        assert tiny.listing(neural_workspace) == before


def test_a_limited_report_says_so(crs, tiny_workspace):
    whole = crs("evaluate", "-m", "cooccurrence", "--draws", 20, "-w", tiny_workspace)
    limited = crs("evaluate", "-m", "cooccurrence", "--draws", 20, "--limit", 3, "-w", tiny_workspace)
    assert "LIMITED" not in whole.stdout
    assert "LIMITED to the first 3 rows" in limited.stdout
    assert "first3" in limited.stderr
    assert "LIMITED" in crs("evaluate", "--limit", 3, "--dry-run", "-w", tiny_workspace).stdout


def test_the_right_recommendation_is_found_on_the_checkerboard(crs, tiny_workspace):
    args = ("-m", "cooccurrence", "--exclude-mentioned", "--draws", 20, "--json", "-w", tiny_workspace)
    report = json.loads(crs("evaluate", *args).stdout)
    figures = {name: m["figures"]["row"]["all"]["recall@5"]["value"] for name, m in report["models"].items()}
    assert list(figures) == ["copy", "popularity", "copy-popularity", "cooccurrence"]
    assert report["counts"]["rows"] == 8
    assert figures["cooccurrence"] == 1.0
    assert figures["copy"] == 0.0


def test_further_formats_are_written(crs, tiny_workspace):
    crs("evaluate", "--format", "markdown", "--format", "latex", "--run", "tables", "--draws", 20, "-w", tiny_workspace)
    names = {p.name for p in (tiny_workspace / "tiny" / "reports" / "tables").iterdir()}
    assert len(names) == 5
    assert {"metrics.json", "predictions.parquet", "provenance.json"} < names


def test_status_tells_fresh_then_stale_after_another_cut_of_valid(crs, tmp_path):
    source = tiny.write_tiny(tmp_path / "source", splits=("train", "test"))
    fetch = ("fetch-dataset", "-d", "jsonl", "--from", source, "--name", "tiny")
    assert "is empty; start with: crs fetch-dataset --dataset sample" in crs("status").stdout
    crs(*fetch)
    states = {s["artifact"]: s for s in json.loads(crs("status", "--json").stdout)}
    assert states["tiny/models"]["state"] == "missing"
    assert states["tiny/models"]["next_command"].startswith("crs train --dataset tiny --model ")
    crs("train", "-m", "cooccurrence")
    crs("evaluate", "-m", "cooccurrence", "--draws", 20)
    states = json.loads(crs("status", "--json").stdout)
    assert len(states) == 7
    made = [s for s in states if s["state"] != "missing"]
    assert [s["state"] for s in made] == ["fresh"] * 4
    assert {s["next_command"] for s in made} == {""}
    assert all(s["size_bytes"] > 0 for s in made)
    crs(*fetch, "--valid-share", 0.5)
    states = {s["artifact"]: s for s in json.loads(crs("status", "--json").stdout)}
    assert states["tiny/dialogues"]["state"] == states["tiny/items"]["state"] == "fresh"
    assert states["tiny/models/cooccurrence"]["why"] == "tiny/dialogues has changed"
    shown = crs("status", "-d", "tiny").stdout
    assert shown.count("stale: tiny/dialogues has changed") == 2


def test_the_next_command_of_status_mends(crs, tiny_workspace, tiny_source):
    crs("train", "-m", "ease", "--set", "ridge=3", "--seed", 4, "--refit", "--run", "other", "-w", tiny_workspace)
    crs("evaluate", "-m", "other", "--protocol", "turns-new", "--limit", 5, "--draws", 20, "-w", tiny_workspace)
    workspace = Workspace(tiny_workspace)
    before = {a.name: (a.digest, a.provenance()["fingerprint"]) for a in workspace.artifacts("tiny")}
    assert len(before) == 6
    for artifact in workspace.artifacts("tiny"):
        file = next(p for p in sorted(artifact.path.iterdir()) if p.name != "provenance.json")
        file.write_bytes(file.read_bytes() + b"\n")
    states = [s for s in json.loads(crs("status", "--json", "-w", tiny_workspace).stdout) if s["state"] != "missing"]
    assert [s["state"] for s in states] == ["damaged"] * 6
    for state in states:
        command = state["next_command"].replace("PATH", str(tiny_source)).split()[1:]
        assert command[-1] == "--force"
        crs(*command, "-w", tiny_workspace)
    assert {a.name: (a.digest, a.provenance()["fingerprint"]) for a in workspace.artifacts("tiny")} == before


def test_status_survives_broken_records(crs, tiny_workspace):
    files = list(tiny_workspace.rglob("provenance.json"))
    assert len(files) == 4
    for file in files:
        file.write_text("{}", encoding="utf-8")
    states = [s for s in json.loads(crs("status", "--json", "-w", tiny_workspace).stdout) if s["state"] != "missing"]
    assert [s["state"] for s in states] == ["damaged"] * 4
    assert all(s["next_command"].endswith("--force") for s in states)


def test_the_workspace_comes_from_the_environment_and_the_option_wins(crs, tiny_workspace, tmp_path):
    environment = {"CRS_WORKSPACE": str(tiny_workspace)}
    assert "tiny/items" in crs("status", env=environment).stdout
    assert "is empty" in crs("status", "-w", tmp_path / "none", env=environment).stdout


def test_offline_comes_from_the_environment(crs):
    assert "offline" in crs("fetch-dataset", "-d", "redial", env={"CRS_OFFLINE": "1"}, code=5).stderr


def test_settings_come_from_the_environment_and_are_shown(crs, tiny_workspace):
    result = crs("train", "-m", "ease", "-w", tiny_workspace, env={"CRS_SET_RIDGE": "7"})
    assert re.search(r"ridge +7\.0", result.stdout)
    assert json.loads((tiny_workspace / "tiny/models/ease/config.json").read_text())["settings"]["ridge"] == 7.0


# ---- listings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known", "least"), [("models", MODELS, 12), ("datasets", DATASETS, 4), ("protocols", PROTOCOLS, 4)]
)
def test_listings_name_all_there_is(crs, name, known, least):
    said = crs(name).stdout
    assert len(known) >= least
    assert [word for word in known if not re.search(rf"^{word} ", said, re.MULTILINE)] == []
    assert list(json.loads(crs(name, "--json").stdout)) == list(known)


def test_schemas_are_printed(crs):
    for name in ("report", "items", "dialogues", "provenance"):
        assert "$schema" in json.loads(crs("schema", name).stdout)


def test_doctor_tells_of_the_machine_and_hides_secrets(crs, tmp_path, monkeypatch):
    secrets = {f"CRS_{word}": "hush" for word in ("API_KEY", "TOKEN", "SECRET", "PASSWORD")}
    result = crs("doctor", "--json", env={**secrets, "CRS_SET_RIDGE": "2"})
    facts = json.loads(result.stdout)
    assert facts["versions"]["crs"] == crscli.__version__
    assert facts["problems"] == []
    assert facts["settings"]["CRS_SET_RIDGE"] == "2"
    assert "hush" not in result.stdout
    assert "no problem found" in crs("doctor").stdout
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in crs("doctor", code=7).stderr
    assert os.listdir(tmp_path) == []


# ---- data are data ------------------------------------------------------------------------------------------------

NASTY = ["[rec]", "[/]", ":bomb:", "\x1b[2J", "[bold red]x[/bold red]", "a\x07\x9bb", "[link=file:///etc]", "\\[/x]"]


def test_titles_are_printed_as_data(capsys):
    console = Console(verbose=1)
    for title in NASTY:
        console.line(title)
        console.say(title)
        console.detail(title)
        console.error(title, title)
        console.progress(title, 1, None)
        console.table([title, "n"], [[title, 1.0], [title, 2.0]])
    out, err = capsys.readouterr()
    for stream, count in ((out, 4), (err, 4)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", stream)
        for title in NASTY:
            assert stream.count(re.sub(r"[\x00-\x1f\x7f-\x9f]", "\ufffd", title)) >= count


def test_nasty_titles_pass_through_all_steps(crs, tmp_path):
    source = tiny.write_tiny(tmp_path / "source", NASTY)
    with (source / "dialogues.jsonl").open("a", encoding="utf-8") as file:
        for nasty in NASTY:
            turn = {"role": nasty, "text": nasty, "items": [nasty]}
            file.write(json.dumps({"dialogue_id": nasty, "split": "train", "turns": [turn]}) + "\n")
    said = ""
    for args in (
        ["fetch-dataset", "-d", "jsonl", "--from", source, "--name", "tiny", "--max-bad-rows", len(NASTY)],
        ["train", "-m", "cooccurrence", "-v"],
        ["evaluate", "-m", "cooccurrence", "--draws", 20, "-v"],
        ["status"],
    ):
        result = crs(*args)
        said += result.stdout + result.stderr
    assert "[rec]" in said
    assert ":bomb:" in said
    assert ESCAPE not in said


def test_json_keeps_every_character(capsys):
    Console(as_json=True).document({title: [title, float("nan"), float("inf"), None] for title in NASTY})
    out = capsys.readouterr().out
    assert ESCAPE not in out
    assert json.loads(out) == {title: [title, None, None, None] for title in NASTY}


def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xc3\xa9")
    for args, environment in ((["doctor"], {"PYTHONIOENCODING": "ascii"}), (["doctor", "--json"], {})):
        done = process(*args, "-w", odd, env=plain_environment(**environment))
        out, err = done.communicate()
        assert (done.returncode, err) == (0, "")
        assert str(tmp_path) in out


# ---- Ctrl-C and SIGTERM -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code", "message"), [(KeyboardInterrupt(), 130, "interrupted"), (MemoryError(), 7, "out of memory")]
)
def test_interruptions_end_with_a_hint(crs, monkeypatch, raised, code, message):
    def step(*_, **__):
        raise raised

    monkeypatch.setattr("crscli.steps.status.status", step)
    result = crs("status", code=code)
    first, second = result.stderr.splitlines()
    assert first == f"error: {message}"
    assert second.startswith("hint: ")
    assert result.stdout == ""


def test_a_bug_of_ours_is_a_traceback(crs, monkeypatch):
    def step(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("crscli.steps.status.status", step)
    with pytest.raises(ZeroDivisionError):
        crs("status")


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
from crscli.models.neighbours import SignalModel
def save(self, directory):
    (directory / "half.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
SignalModel.save = save
from crscli.cli import main
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_nothing_half_written(tiny_workspace, number, code):
    before = {a.name: a.digest for a in Workspace(tiny_workspace).artifacts("tiny")}
    args = ["train", "-m", "ease", "-w", str(tiny_workspace)]
    slow = subprocess.Popen(
        [sys.executable, "-c", SLOW, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert slow.stdout.readline() == "writing\n"
        slow.send_signal(number)
        _, err = slow.communicate(timeout=20)
    finally:
        slow.kill()
    assert slow.returncode == code
    assert "Traceback" not in err
    assert {a.name: a.digest for a in Workspace(tiny_workspace).artifacts("tiny")} == before
    assert list(tiny_workspace.rglob("half.txt")) == []
    assert list(tiny_workspace.rglob(".*.partial")) == []
