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


TEXTS = {
    f"{name}": 0.5
    for name in (
        "rouge-1",
        "rouge-2",
        "rouge-l",
        "bleu",
        *(f"distinct-{n}/{of}" for n in (2, 3, 4) for of in ("token", "response")),
    )
} | {"words/response": 7.25}
DECISION = {"f1": 0.8, "precision": 1.0, "recall": 0.5, "always": 0.75}


@pytest.fixture
def spoken(built):
    """The report with the replies of one model, figures that are none, and an analysis."""
    text = {
        "decoding": "beam:beams=4",
        "readable": TEXTS | {"distinct-3/response": 1.5},
        "masked": TEXTS | {"bleu": None},
        "bleu_signature": "nrefs:1",
        "perplexity": {"token": 12.345, "word": None, "byte": 2.0, "pecrs": None, "tokens": 9.0},
        "decision": {"own": DECISION, "placeholder": DECISION | {"f1": 0.0}},
        "names_item": 0.25,
        "names_ranked_item": None,
        "oracle": {"masked": TEXTS, "decision": {"own": DECISION, "placeholder": DECISION}},
    }
    models = {**built["models"], "a_1": {**built["models"]["a_1"], "text": text}}
    analysis = {
        "summary": "hits & misses",
        "columns": ["a_b", "n|o"],
        "rows": [["50 %", 3], ["x|y", 4]],
        "picture": "g.png",
    }
    return {**built, "models": models, "analyses": {"genre": analysis}}


def test_replies_are_a_table_of_their_own_and_unknown_figures_a_dash(spoken, built):
    assert report.text_table(built) is None
    columns, rows = report.text_table(spoken)
    assert [row[:2] for row in rows] == [["a_1", "as read"], ["", "with placeholders"], ["", "the same, told when"]]
    assert {len(row) for row in rows} == {len(columns)}
    read = dict(zip(columns, rows[0], strict=True))
    assert read["ROUGE-1/2/L"] == ".500/.500/.500"
    assert read["Dist-2/3/4 a reply"] == "0.50/1.50/0.50"
    assert (read["words"], read["F-1 own/text"]) == ("7.2", ".800/.000")
    assert read["PPL token/word/byte"] == "12.35/-/2.00"
    assert (read["names an item"], read["the ranked one"]) == (".250", "-")
    assert dict(zip(columns, rows[1], strict=True))["BLEU"] == "-"
    notes = " ".join(report.text_notes(spoken))
    assert f"replies to all {built['counts']['responses']} turns" in notes
    assert "decoding beam:beams=4" in notes
    assert "always recommending has .750" in notes


def test_what_is_no_finite_number_is_null(built):
    values = {"a": [float("inf"), -float("inf"), float("nan"), 1.5], "b": {"c": (float("inf"), "x", None, True)}}
    assert report.finite(values) == {"a": [None, None, None, 1.5], "b": {"c": [None, "x", None, True]}}


def test_every_table_of_a_report_is_written_in_every_format(spoken):
    lines = report.markdown(spoken).splitlines()
    heads = [lines[num - 1] for num, line in enumerate(lines) if line.startswith("| ---")]
    starts = ["| model | R@1", "| model | mean over", "| replies of", "| a_b | n\\|o"]
    assert [head.startswith(start) for head, start in zip(heads, starts, strict=True)] == [True] * 4
    assert "| x\\|y | 4 |" in lines
    assert "genre: hits & misses" in lines
    assert "![genre](g.png)" in lines
    latex = report.latex(spoken)
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 3
    assert r"a\_b & n|o \\" in latex
    assert r"50 \% & 3 \\" in latex
    assert r"\caption{hits \& misses}" in latex
    assert r"[MOVIE\_ID]" in latex


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
