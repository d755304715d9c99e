"""What is printed as a schema is what is written."""

import json

import pytest
import tiny

from crscli.report import SCHEMA
from crscli.schemas import SCHEMAS
from crscli.steps.evaluate import evaluate
from crscli.steps.index_items import index_items
from crscli.workspace import Workspace

KINDS = {
    "object": dict, "array": list, "string": str, "integer": int, "number": int | float, "boolean": bool,
    "null": type(None),
}  # fmt: skip
UNDERSTOOD = {
    "$schema", "title", "description", "type", "required", "properties", "additionalProperties", "items", "enum",
    "const", "minimum", "maximum", "minItems",
}  # fmt: skip


def faults(value, schema, place="", *, closed=True):
    """Where a value breaks a schema; `closed`: a key that a schema with properties does not name is a fault too."""
    assert schema.keys() <= UNDERSTOOD, schema.keys() - UNDERSTOOD
    kinds = schema.get("type", list(KINDS))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = any(
        isinstance(value, KINDS[k]) and not (isinstance(value, bool) and k in ("integer", "number")) for k in kinds
    )
    if not fits:
        yield f"{place}: {value!r} is no {kinds}"
        return
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{place}: {value!r} is none of the values"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{place}: {value!r} is out of range"
    if isinstance(value, dict):
        yield from (f"{place}: no {key}" for key in schema.get("required", ()) if key not in value)
        named, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, inner in value.items():
            if key in named or others is not None:
                yield from faults(inner, named.get(key, others), f"{place}/{key}", closed=closed)
            elif named and closed:
                yield f"{place}: {key} is not described"
    if isinstance(value, list):
        assert "minItems" not in schema or len(value) >= schema["minItems"]
        for num, inner in enumerate(value):
            yield from faults(inner, schema.get("items", {}), f"{place}/{num}", closed=closed)


@pytest.fixture(scope="module")
def workspace(_neural_once):
    return Workspace(_neural_once)


def report(workspace, tmp_path, models, **options):
    """As metrics.json holds it; the workspace of all tests stays as it was."""
    made = evaluate(
        Workspace(tiny.copied(workspace.root, tmp_path)), dataset="tiny", models=models, draws=20, **options
    )
    text = (made.path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == made.report
    return made.report


@pytest.mark.parametrize(
    "options",
    [
        {"models": ()},
        {"models": ("cooccurrence", "ease"), "limit": 3, "exclude_mentioned": True},
        {"models": ("pecrs-tiny",), "tasks": ["rank"]},
        {"models": ("pecrs-tiny", "ease"), "oracle": True, "analyse": ["genre", "turns", "fields", "candidates"]},
        {"models": ("pecrs-tiny",), "decoding": "nucleus:p=0.9", "split": "valid", "analyse": ["decoding"], "limit": 1},
    ],
)
def test_a_report_is_as_its_schema_says(workspace, tmp_path, options):
    made = report(workspace, tmp_path, **options)
    assert list(faults(made, SCHEMAS["report"])) == []
    assert made["schema"] == SCHEMA == "crs.report/1"
    assert sorted(made["analyses"]) == sorted(options.get("analyse", []))


def test_a_published_report_is_as_its_schema_says_too(workspace, tmp_path):
    from crscli.report import published_figures

    made = report(workspace, tmp_path, ("cooccurrence",)) | {"published": published_figures("redial-merged-all")}
    assert len(made["published"]) >= 5
    assert [f for f in faults(made, SCHEMAS["report"])] == []


def test_a_report_that_is_not_so_is_found_out(workspace, tmp_path):
    good = report(workspace, tmp_path, ("pecrs-tiny",), analyse=["turns"])
    broken = {
        "counts": {**good["counts"], "responses": -1},
        "analyses": {"turns": {**good["analyses"]["turns"], "picture": None}},
        "split": "train",
        "limit": "3",
        "new": 1,
    }
    for key, value in broken.items():
        assert len(list(faults({**good, key: value}, SCHEMAS["report"]))) == 1, key
    model = good["models"]["pecrs-tiny"]
    for key, value in (("names_item", 1.5), ("decision", {}), ("perplexity", {"token": 1.0})):
        other = {**good, "models": {"pecrs-tiny": {**model, "text": {**model["text"], key: value}}}}
        assert list(faults(other, SCHEMAS["report"])), key
    del good["models"]
    assert list(faults(good, SCHEMAS["report"])) == [": no models"]


def test_provenance_of_every_kind_is_as_its_schema_says(workspace, tmp_path):
    copy = Workspace(tiny.copied(workspace.root, tmp_path))
    index_items(copy, dataset="tiny", model="pecrs-tiny", device="cpu")
    records = {a.name: a.provenance() for a in copy.artifacts("tiny")}
    assert len(records) == 6
    for name, record in records.items():
        assert list(faults(record, SCHEMAS["provenance"])) == [], name


def test_items_and_dialogues_of_the_tests_are_as_their_schemas_say():
    for item in tiny.items():
        assert list(faults(item, SCHEMAS["items"])) == []
    for dialogue in tiny.dialogues():
        assert list(faults(dialogue, SCHEMAS["dialogues"])) == []
