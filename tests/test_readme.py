"""What the README says is there, is there."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from crscli.cli import app
from crscli.datasets import DATASETS
from crscli.models import MODELS
from crscli.protocols import PROTOCOLS
from crscli.schemas import SCHEMAS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = set(get_command(app).commands)


def test_the_two_commands_of_the_set_up_stand_there():
    assert "pip install -e . && crs demo" in README
    assert 'pip install -e ".[dev]" && pytest' in README


def test_every_command_named_exists_and_every_command_is_named():
    named = set(re.findall(r"\bcrs ([a-z][a-z-]+)", README)) - {"in", "and"}
    assert named <= COMMANDS, named - COMMANDS
    assert named == COMMANDS


@pytest.mark.parametrize(("what", "names"), [("models", MODELS), ("datasets", DATASETS), ("protocols", PROTOCOLS)])
def test_every_name_of_a_table_is_in_the_readme(what, names):
    assert len(names) >= 4
    assert [name for name in names if f"`{name}`" not in README] == []


def test_counts_in_the_readme_are_those_of_the_protocols():
    for name, protocol in PROTOCOLS.items():
        row = next((line for line in README.splitlines() if line.startswith(f"| `{name}`")), "")
        for (_, _, split), counts in protocol.expected.items():
            if split == "test" and row.count("|") > 3 and "points" not in counts:
                assert f"{counts['rows']:,}" in row or "turns" in name, name


def test_files_of_the_tree_exist():
    tree = README.split("crscli/\n", 1)[1].split("```", 1)[0]
    listed = re.findall(r"^  ([\w./ ]+?)  ", tree, re.MULTILINE)
    names = [name for line in listed for name in line.split()]
    assert len(names) > 15
    for name in names:
        assert (ROOT / "crscli" / name).exists(), name


def test_the_readme_names_no_place_of_a_machine():
    assert not re.search(r"/(?:work|home|root|tmp)/", README)


def test_schemas_named_exist():
    named = set(re.findall(r"crs schema ([a-z]+)", README))
    assert named
    assert named <= set(SCHEMAS)
