import json

import numpy as np
import pytest

from crscli import evaluation, report
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Dialogue, Link, Turn
from crscli.protocols import PROTOCOLS, select


@pytest.fixture(scope="module")
def built():
    catalogue = Catalogue(Item(str(n), f"t{n}") for n in range(4))
    turns = (Turn("seeker", "x"), Turn("recommender", "y", (Link("item", "1"),)))
    dialogues = [Dialogue(str(n), turns) for n in range(5)]
    test_set = select(PROTOCOLS["turns"], {"test": dialogues}, "test", catalogue, corpus="x", form="jsonl")
    params = {"limit": 5, "exclude_mentioned": False, "draws": 20, "asked": [], "candidates_file": None}
    head = report.header("x", "x", "jsonl", test_set, params, 0)
    models = [
        evaluation.Predictions(name, test_set, [np.array([rank])] * 5, [np.array([0])] * 5, False)
        for name, rank in (("a_1", 1), ("b|2", 3))
    ]
    facts = {name: {"run": None, "model": name, "fitted_on": ["train"]} for name in ("a_1", "b|2")}
    figures = [evaluation.figures(m, draws=20) for m in models]
    return report.build(head, figures, evaluation.compare(models, aggregation="row"), facts)


def test_the_report_is_plain_json(built):
    assert json.loads(json.dumps(built, allow_nan=False)) == built


def test_a_limited_report_says_so_and_shows_nothing_published(built):
    assert any("LIMITED" in line for line in report.caption(built))
    assert built["published"] == []


def test_markdown_keeps_its_columns(built):
    lines = [line for line in report.markdown(built).splitlines() if line.startswith("|")]
    assert lines[0].startswith("| model | R@1 |")
    assert len({line.replace("\\|", "").count("|") for line in lines[:4]}) == 1
    assert "b\\|2" in report.markdown(built)


def test_latex_escapes_and_marks_the_best(built):
    text = report.latex(built)
    assert r"a\_1" in text
    assert r"\textbf{1.000}" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_every_published_figure_is_of_a_known_protocol():
    import tomllib
    from pathlib import Path

    entries = tomllib.loads(Path(report.__file__).with_name("published.toml").read_text())["figure"]
    assert len(entries) > 15
    for entry in entries:
        assert set(entry["protocols"]) <= set(PROTOCOLS)
        assert entry["kind"] in ("paper", "reproduced", "quoted")
        assert 0 < entry["r1"] < entry["r10"] < entry["r50"] < 1
        assert entry["source"]


def test_numbers_are_short_and_unknown_ones_a_dash():
    assert [report.number(v) for v in (0.04761, 1.0, 0.0, None)] == [".0476", "1.000", ".0000", "-"]
