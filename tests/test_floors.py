import ast
import subprocess
import sys
from pathlib import Path

import pytest

import crscli
from crscli.cli import app

ROOT = Path(crscli.__file__).parent

FLOORS = {
    name: floor
    for floor, names in enumerate(
        (
            "__init__ errors progress datasets.sample",
            "vocabulary workspace schemas names genres languages decoding keyfile",
            "dialogue catalogue kg wishes metrics",
            "datasets metadata linking protocols config",
            "signals ranker backbone generation graph_encoder index training llm recommender phrasing simulator"
            " answers evaluation analyses figures report comparisons transcript speech repeats"
            " management titles labels session",
            "models console web",
            "steps",
            "cli __main__",
        )
    )
    for name in names.split()
}
"""Who may import whom: a module imports only from floors below. A package's files stand on its floor."""

SAME_FLOOR = {
    ("__main__", "cli"),
    ("backbone", "backbone"),
    ("cli", "cli"),
    ("console", "console"),
    ("datasets", "datasets"),
    ("datasets.sample", "datasets.sample"),
    ("analyses", "answers"),
    ("analyses", "comparisons"),
    ("comparisons", "evaluation"),
    ("comparisons", "figures"),
    ("analyses", "evaluation"),
    ("analyses", "figures"),
    ("answers", "recommender"),
    ("evaluation", "answers"),
    ("evaluation", "recommender"),
    ("labels", "titles"),
    ("kg", "catalogue"),
    ("kg", "kg"),
    ("kg", "dialogue"),
    ("linking", "linking"),
    ("llm", "llm"),
    ("metadata", "datasets"),
    ("metadata", "metadata"),
    ("generation", "repeats"),
    ("graph_encoder", "graph_encoder"),
    ("phrasing", "recommender"),
    ("report", "evaluation"),
    ("simulator", "evaluation"),
    ("simulator", "llm"),
    ("simulator", "session"),
    ("speech", "backbone"),
    ("speech", "generation"),
    ("speech", "recommender"),
    ("speech", "training"),
    ("training", "training"),
    ("transcript", "backbone"),
    ("signals.joint", "signals.mentions"),
    ("signals.joint", "signals.talk"),
    ("signals.features", "ranker"),
    ("session", "phrasing"),
    ("session", "recommender"),
    ("session", "session"),
    ("session", "signals"),
    ("web", "web"),
    ("wishes", "dialogue"),
    ("wishes", "wishes"),
    ("workspace", "__init__"),
}

COMMANDS = {
    f"cli.{name}"
    for name in ("__init__", "conversation", "data", "frame", "knowledge", "models", "outcomes", "overview", "serving")
}
TERMINAL = {"console.__init__", "console.chat", *COMMANDS}
DOORS = {
    "requests": {"datasets.download", "metadata.session"},
    "urllib3": {"datasets.download", "metadata.session"},
    "tmdbv3api": {"metadata.tmdb"},
    "sqlite3": {"metadata.cache", "web.store"},
    "matplotlib": {"kg.picture", "figures"},
    "transformers": {
        f"backbone.{name}"
        for name in (
            "__init__",
            "adapters",
            "cache",
            "checks",
            "continuation",
            "loading",
            "messages",
            "quantised",
            "shapes",
            "tokens",
        )
    },
    "peft": {"backbone.adapters"},
    "bitsandbytes": {"backbone.quantised"},
    "torch_geometric": {"graph_encoder.relational"},
    "tokenizers": {"backbone.tokens"},
    "huggingface_hub": {"backbone.loading"},
    "torch.distributed": {"training.processes"},
    "safetensors": {"training.checkpoints"},
    "openai": {"llm.client"},
    "faiss": {"index"},
    "fastapi": {"steps.serve", "web.app", "web.server"},
    "pydantic": {"web.app", "web.contract"},
    "starlette": {"web.app", "web.guard"},
    "uvicorn": {"web.server"},
    "rouge_score": {"metrics.text"},
    "sacrebleu": {"metrics.text"},
    "rapidfuzz": {"linking.fuzzy", "linking.people", "metadata.match", "session.spelling"},
    "urllib.request": set(),
    "http": set(),
    "socket": {"web.server"},
    "rich": TERMINAL,
    "prompt_toolkit": {"console.chat"},
    "typer": COMMANDS,
    "click": COMMANDS,
    "print": TERMINAL,
    "input": TERMINAL,
    "sys.stdout": TERMINAL,
    "sys.stderr": TERMINAL,
    "sys.stdin": TERMINAL,
    "pickle": {"datasets.containers"},
    "marshal": set(),
    "shelve": set(),
    "joblib": set(),
    "eval": set(),
    "exec": set(),
    "filelock": {"workspace"},
    "bm25s": {"signals.words"},
    "import_module": {"models.__init__", "steps.fetch_dataset", "steps._dataset", "steps._training"},
}
"""Risky dependency -> the modules that may touch it."""

HEAVY = {
    "torch", "pandas", "scipy", "pyarrow", "numpy", "transformers", "peft", "bm25s", "requests", "matplotlib",
    "rouge_score", "sacrebleu", "torch_geometric", "fastapi", "uvicorn",
}  # fmt: skip


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def part(name):
    """The entry of FLOORS that a module belongs to: itself or its package."""
    if name.startswith("datasets.sample"):
        return "datasets.sample"
    return name.split(".")[0]


def imports(tree):
    """(imported thing, its line), with the names of "from x import y" as x.y."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def own_imports(name):
    """(module of crs, line) for each import of one."""
    for imported, line in imports(TREES[name]):
        if imported.split(".")[0] == "crscli":
            inner = imported.removeprefix("crscli").removeprefix(".")
            while inner and inner not in FILES and f"{inner}.__init__" not in FILES:
                inner = inner.rpartition(".")[0]  # a name inside a module
            yield inner if inner in FILES else f"{inner}.__init__".removeprefix("."), line


def names_used(tree):
    """Dotted names that are imported or used: "requests.get", "print", "sys.stdout"."""
    yield from imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}", node.lineno


def test_the_files_are_found():
    assert len(FILES) >= 37
    assert {"cli.__init__", "workspace", "models.__init__", "steps.train", "datasets.jsonl"} <= FILES.keys()
    assert sum(1 for name in FILES for _ in own_imports(name)) > 100


def test_every_module_has_a_floor():
    assert {part(name) for name in FILES} - FLOORS.keys() == set()


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name):
    for imported, line in own_imports(name):
        here, there = part(name), part(imported)
        listed = {(name, imported), (here, there)} & SAME_FLOOR
        if here == there == "steps":  # what several steps read; the demo runs every step
            listed = (
                listed or imported.startswith("steps._") or name in ("steps.demo", "steps._neural", "steps._sample")
            )
        place = f"{name}:{line} (floor {FLOORS[here]}) imports {imported} (floor {FLOORS[there]})"
        if here == there == "models":
            listed = listed or name.split(".")[1] == imported.split(".")[1]
        if here != there or here in ("steps", "models"):
            assert FLOORS[there] < FLOORS[here] or listed, place


def test_every_listed_import_of_the_same_floor_is_there():
    found = {
        pair for name in FILES for there, _ in own_imports(name) for pair in [(name, there), (part(name), part(there))]
    }
    assert SAME_FLOOR - found == set()


def test_no_model_imports_another_model():
    models = [name for name in FILES if name.startswith("models.")]
    assert len(models) >= 3
    for name in models:
        family = name.split(".")[1]
        others = [there for there, _ in own_imports(name) if there.startswith("models.")]
        assert [there for there in others if there.split(".")[1] != family] == []


def test_only_steps_and_cli_use_the_workspace():
    users = {name for name in FILES if "workspace" in {there for there, _ in own_imports(name)}}
    assert len(users) >= 5
    assert {name for name in users if part(name) != "steps"} <= COMMANDS


def test_the_sample_data_stand_alone():
    sample = [name for name in FILES if part(name) == "datasets.sample"]
    for name in sample:
        assert {part(there) for there, _ in own_imports(name)} <= {"datasets.sample"}, name


@pytest.mark.parametrize("name", FILES)
def test_imports_inside_functions_only_in_cli(name):
    inside = [
        (node.lineno, ast.unparse(inner))
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    extras = {"index": ["import faiss"], "llm.client": ["import openai"], "backbone.quantised": ["import bitsandbytes"]}
    assert name in COMMANDS or [text for _, text in inside] == extras.get(name, []), inside


@pytest.mark.parametrize("risk", DOORS)
def test_one_door_for_each_risk(risk):
    users = {name for name, tree in TREES.items() for used, _ in names_used(tree) if f"{used}.".startswith(f"{risk}.")}
    if risk == "import_module":
        users |= {
            name for name, tree in TREES.items() if any(u.endswith(".import_module") for u, _ in names_used(tree))
        }
    assert users <= DOORS[risk]


def test_numpy_never_unpickles():
    calls = [
        (name, node.lineno, {k.arg: ast.unparse(k.value) for k in node.keywords})
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load"
    ]
    assert len(calls) >= 3
    for name, line, keywords in calls:
        assert keywords.get("allow_pickle", "False") == "False", f"{name}:{line}"


def test_no_module_is_a_drawer_for_everything():
    words = {word for name in FILES for word in name.replace(".", "_").split("_")}
    assert words & {"utils", "util", "common", "helpers", "helper", "misc"} == set()


def test_each_step_file_is_named_like_its_command():
    steps = {name.removeprefix("steps.") for name in FILES if name.startswith("steps.")} - {"__init__"}
    commands = {(command.name or "").replace("-", "_") for command in app.registered_commands}
    assert {"train", "evaluate", "fetch_dataset", "status", "demo", "doctor"} <= steps
    assert commands - steps == {"models", "datasets", "protocols", "schema"}
    for step in steps & commands:
        functions = [n.name for n in TREES[f"steps.{step}"].body if isinstance(n, ast.FunctionDef)]
        assert step in functions
    private = steps - commands
    assert all(step.startswith("_") for step in private), private


HELP = """
import sys
sys.argv = ["crs", "--help"]
try:
    import crscli.__main__
except SystemExit:
    pass
"""
LOOK = f"""
import resource, sys
print("loaded", *(name for name in {sorted(HEAVY)!r} if name in sys.modules))
used = resource.getrusage(resource.RUSAGE_SELF)
print("seconds", used.ru_utime + used.ru_stime)
"""


@pytest.mark.parametrize("start", ["import crscli.cli", HELP], ids=["import", "help"])
def test_help_loads_nothing_heavy_and_is_quick(start):
    done = subprocess.run([sys.executable, "-c", start + LOOK], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert ("Usage: " in done.stdout) == (start == HELP)
    assert lines[-2] == "loaded"
    assert float(lines[-1].split()[1]) < 0.5
