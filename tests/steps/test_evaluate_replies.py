import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
from typer.testing import CliRunner

from crscli import report as reports
from crscli.answers import masked
from crscli.cli import app
from crscli.errors import UsageError
from crscli.recommender import PLACEHOLDER
from crscli.steps._dataset import read_dataset
from crscli.steps._measuring import Measuring
from crscli.steps.evaluate import STEP_FORMAT, evaluate
from crscli.workspace import Workspace

RUN = "pecrs-tiny"
COLUMNS = {
    "model", "dialogue_id", "turn_num", "reply", "template", "recommends", "told", "response", "names_item", "nats",
    "tokens",
}  # fmt: skip


@pytest.fixture
def workspace(neural_workspace):
    return Workspace(neural_workspace)


def measure(workspace, *models, **options):
    return evaluate(workspace, dataset="tiny", models=models or (RUN,), draws=20, device="cpu", **options)


def replies(made):
    return pq.read_table(made.path / "replies.parquet").to_pylist()


def ranks(made):
    return [
        (r["dialogue_id"], r["turn_num"], r["ranks"], r["top"])
        for r in pq.read_table(made.path / "predictions.parquet").to_pylist()
        if r["model"] == RUN
    ]


# ---- what is written --------------------------------------------------------------------------------------------


def test_every_turn_of_the_recommender_is_answered_and_kept(workspace):
    made = measure(workspace, oracle=True)
    rows = replies(made)
    data = read_dataset(workspace, "tiny")
    real = {
        (d.dialogue_id, num): turn
        for d in data.splits["test"]
        for num, turn in enumerate(d.turns)
        if turn.role == "recommender"
    }
    assert made.report["counts"]["responses"] == len(rows) == len(real) == 8
    for row in rows:
        assert row.keys() == COLUMNS
        turn = real.pop((row["dialogue_id"], row["turn_num"]))
        assert (row["response"], row["names_item"], row["model"]) == (turn.text, bool(turn.items), RUN)
        assert row["told"] is not None
        assert not any(token in row["reply"] for token in ("[REC", "[SEP]", PLACEHOLDER))
        assert row["reply"].count("(19") == row["template"].count(PLACEHOLDER)
        assert row["nats"] > 0
        assert row["tokens"] >= 1
    assert not real
    assert any(PLACEHOLDER in row["template"] for row in rows)  # it has learnt to name films
    record = workspace.artifact("tiny", "reports", made.path.name).provenance()
    assert record["step_format"] == STEP_FORMAT == 2
    assert record["outputs"].keys() == {"metrics.json", "predictions.parquet", "replies.parquet"}


def test_the_figures_are_those_of_the_replies_that_were_kept(workspace):
    made = measure(workspace, oracle=True)
    rows, text = replies(made), made.report["models"][RUN]["text"]
    nats, tokens = sum(r["nats"] for r in rows), sum(r["tokens"] for r in rows)
    assert text["perplexity"]["tokens"] == tokens
    assert text["perplexity"]["token"] == pytest.approx(math.exp(nats / tokens))
    assert text["readable"]["words/response"] == pytest.approx(np.mean([len(r["reply"].split()) for r in rows]))
    assert text["masked"]["words/response"] == pytest.approx(np.mean([1 + len(r["template"].split()) for r in rows]))
    assert text["names_item"] == np.mean([PLACEHOLDER in r["template"] for r in rows])
    right = sum(r["recommends"] and r["names_item"] for r in rows)
    assert text["decision"]["own"]["recall"] == pytest.approx(right / sum(r["names_item"] for r in rows))
    assert text["oracle"]["decision"]["own"]["f1"] == 1.0
    assert text["decoding"] == "greedy"


def test_perplexity_is_of_the_real_responses_with_placeholders(workspace):
    """Told by words: each real response of the tiny world has a placeholder and two or three words."""
    found = measure(workspace).report["models"][RUN]["text"]["perplexity"]
    turns = [t for d in read_dataset(workspace, "tiny").splits["test"] for t in d.turns if t.role == "recommender"]
    words = sum(len(masked(turn).split()) for turn in turns)
    nats = math.log(found["token"]) * found["tokens"]
    assert math.log(found["word"]) * words == pytest.approx(nats, rel=1e-6)


def test_rankings_are_the_same_with_replies_and_without(workspace):
    spoken, silent = measure(workspace), measure(workspace, tasks=["rank"])
    assert ranks(spoken) == ranks(silent)
    assert spoken.report["models"][RUN]["figures"] == silent.report["models"][RUN]["figures"]
    assert "text" not in silent.report["models"][RUN]
    assert not (silent.path / "replies.parquet").exists()
    assert silent.path.name == f"{spoken.path.name}.no-replies"


def test_models_without_language_have_no_replies(workspace):
    made = measure(workspace, "cooccurrence", RUN, "ease")
    assert [name for name, m in made.report["models"].items() if "text" in m] == [RUN]
    assert {r["model"] for r in replies(made)} == {RUN}
    assert not (measure(workspace, "cooccurrence").path / "replies.parquet").exists()


def test_a_limited_report_has_the_replies_up_to_its_last_row(workspace):
    whole, limited = measure(workspace), measure(workspace, limit=3)
    assert limited.report["counts"]["rows"] == limited.report["counts"]["responses"] == 3
    assert [r["reply"] for r in replies(limited)] == [r["reply"] for r in replies(whole)][:3]


def test_a_reply_names_what_the_ranking_has_left(workspace, tmp_path):
    """A model that always speaks of its ranking's first film, whatever the protocol leaves of it."""
    listed = tmp_path / "listed.txt"
    listed.write_text("f1\nf6\n", encoding="utf-8")
    seen = {}

    def respond(self, contexts, rankings, decoding, *, recommend=None):
        for context, ranking in zip(contexts, rankings, strict=True):
            seen[context] = [tiny.ITEMS[n] for n in ranking.item_nums]
        return original(self, contexts, rankings, decoding, recommend=recommend)

    from crscli.models.pecrs import Pecrs

    original = Pecrs.respond
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Pecrs, "respond", respond)
        measure(workspace, exclude_mentioned=True)
        assert all(not set(left) & set(context.mentions) for context, left in seen.items())
        seen.clear()
        measure(workspace, candidates=listed)
        assert {frozenset(left) for left in seen.values()} == {frozenset({"f1", "f6"})}


# ---- how replies are made ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", ["nucleus:p=0.9", "beam:beams=2,max_tokens=5", "diverse-beam:max_tokens=5"])
def test_the_way_of_decoding_is_told_and_gives_the_same_again(workspace, decoding):
    made = measure(workspace, decoding=decoding)
    told = made.report["models"][RUN]["text"]["decoding"]
    assert told.partition(":")[0] == decoding.partition(":")[0]
    assert workspace.artifact("tiny", "reports", made.path.name).provenance()["params"]["decoding"] == told
    assert measure(workspace, decoding=decoding).status == "up to date"
    assert measure(workspace, decoding=decoding, force=True).report == made.report


def test_a_seed_of_decoding_changes_what_is_drawn(workspace):
    one, other = (measure(workspace, decoding=f"top-k:k=50,seed={seed}") for seed in (0, 1))
    assert one.path != other.path
    assert [r["template"] for r in replies(one)] != [r["template"] for r in replies(other)]
    assert ranks(one) == ranks(other)


def test_reports_of_different_measurements_have_different_names(workspace):
    asked = [
        {}, {"tasks": ["rank"]}, {"decoding": "beam"}, {"decoding": "beam:beams=2"}, {"decoding": "nucleus:p=0.9"},
        {"decoding": "nucleus:p=0.9,seed=3"}, {"oracle": True}, {"analyse": ["genre"]}, {"analyse": ["genre", "turns"]},
        {"oracle": True, "decoding": "beam"}, {"limit": 2}, {"exclude_mentioned": True},
    ]  # fmt: skip
    names = [measure(workspace, dry_run=True, **options).path.name for options in asked]
    assert len(set(names)) == len(asked)
    same = [{"decoding": "nucleus: p = 0.9"}, {"decoding": "nucleus:p=0.90,seed=0"}, {"decoding": "nucleus:p=0.9"}]
    assert len({measure(workspace, dry_run=True, **options).path.name for options in same}) == 1
    for name in names:
        workspace.artifact("tiny", "reports", name)  # can be a folder's


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoding": "nucleic"}, "unknown decoding 'nucleic'"),
        ({"decoding": "beam:beam=3"}, "unknown setting of beam 'beam'"),
        ({"decoding": "top-k:k=0"}, "k is 0, expected at least 1"),
        ({"decoding": "greedy:max_tokens=x"}, "setting max_tokens: 'x' is no int"),
        ({"tasks": ["rnk"]}, "unknown task 'rnk'"),
        ({"analyse": ["gnre"]}, "unknown analysis 'gnre'"),
    ],
)
def test_unknown_ways_are_refused_before_anything_is_read(workspace, options, message, monkeypatch):
    monkeypatch.setattr("crscli.steps.evaluate.read_dataset", lambda *_: pytest.fail("the dataset was read"))
    with pytest.raises(UsageError) as caught:
        measure(workspace, **options)
    assert message in caught.value.message
    assert (caught.value.exit_code, bool(caught.value.hint)) == (2, True)


# ---- analyses ---------------------------------------------------------------------------------------------------


def test_an_analysis_that_fits_no_model_is_refused_before_anything_is_measured(workspace, monkeypatch):
    monkeypatch.setattr(Measuring, "run", lambda *_: pytest.fail("models were measured"))
    for names, analyse in ((("cooccurrence", "ease"), "fields"), (("ease",), "decoding"), (("copy",), "genre")):
        for dry_run in (False, True):
            with pytest.raises(UsageError, match=f"--analyse {analyse} fits none of these models"):
                measure(workspace, *names, analyse=[analyse], dry_run=dry_run)


def test_analyses_stand_in_the_report_with_a_picture_each(workspace):
    names = ["genre", "turns", "fields", "candidates"]
    made = measure(workspace, RUN, "cooccurrence", analyse=names)
    assert list(made.report["analyses"]) == sorted(names)
    files = {p.name for p in made.path.iterdir()}
    for name, found in made.report["analyses"].items():
        assert found["picture"] == f"{name}.png"
        assert found["picture"] in files
        assert {len(row) for row in found["rows"]} == {len(found["columns"])}
    shown = {name: found["columns"][1:] for name, found in made.report["analyses"].items()}
    assert shown["turns"] == ["labels", f"{RUN}: R@50", "cooccurrence: R@50"]
    assert shown["fields"] == [f"{RUN}: R@50"]  # the other one reads no texts
    assert [row[0] for row in made.report["analyses"]["candidates"]["rows"]] == [RUN]
    plain = measure(workspace)
    assert made.report["models"][RUN]["figures"] == plain.report["models"][RUN]["figures"]
    assert plain.report["analyses"] == {}


def test_the_order_of_analyses_and_one_named_twice_change_nothing(workspace):
    one = measure(workspace, analyse=["turns", "genre", "turns"], formats=["latex", "latex"])
    other = measure(workspace, analyse=["genre", "turns"], formats=["latex"])
    assert (other.status, other.path) == ("up to date", one.path)


# ---- tables -----------------------------------------------------------------------------------------------------


def test_replies_and_analyses_are_shown_and_written_as_tables(workspace):
    args = ["evaluate", "-m", RUN, "--oracle", "--analyse", "turns", "--format", "markdown", "--format", "latex"]
    done = CliRunner().invoke(app, [*args, "--run", "r", "--draws", "20", "-w", str(workspace.root)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    head = next(num for num, line in enumerate(lines) if line.startswith("replies of "))
    shown = [" as read ", " with placeholders ", " the same, told when ", "replies to all 8 turns of the recommender"]
    assert [words in line for words, line in zip(shown, lines[head + 1 :], strict=False)] == [True] * 4
    assert "turns: recall by the number of turns before the response (PECRS, figure 4); turns.png" in done.stdout
    folder = workspace.artifact("tiny", "reports", "r").open()
    shown = (folder / "table.md").read_text(encoding="utf-8")
    heads = [line for line in shown.splitlines() if line.startswith("| ") and " --- " not in line]
    for start in ("| model | R@1 ", "| model | mean over ", "| replies of | text ", "| turns before | labels "):
        assert sum(line.startswith(start) for line in heads) == 1, start
    assert "![turns](turns.png)" in shown
    latex = (folder / "table.tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{table}") == 3
    assert latex.count("{") == latex.count("}")
    assert r"[MOVIE\_ID]" in latex
    for block in latex.split(r"\begin{tabular}{")[1:]:
        columns = block.index("}")
        body = block[columns + 1 : block.index(r"\end{tabular}")]
        assert {line.count(" & ") for line in body.splitlines() if " & " in line} == {columns - 1}


def test_json_holds_texts_and_analyses(workspace):
    args = ["evaluate", "-m", RUN, "--analyse", "genre", "--json", "--draws", "20", "-w", str(workspace.root)]
    done = CliRunner().invoke(app, args)
    report = json.loads(done.stdout, parse_constant=pytest.fail)
    assert report["models"][RUN]["text"]["readable"]["responses"] == 8
    assert report["analyses"]["genre"]["picture"] == "genre.png"
    saved = workspace.artifact("tiny", "reports", f"turns.test.{RUN}.draws20.genre").open() / "metrics.json"
    assert json.loads(saved.read_text(encoding="utf-8")) == report
    assert reports.text_table(report) is not None


@pytest.mark.parametrize("task", ["rank", "respond"])
def test_a_task_can_be_named(workspace, task):
    done = CliRunner().invoke(app, ["evaluate", "-m", RUN, "--task", task, "--draws", "20", "-w", str(workspace.root)])
    assert done.exit_code == 0, done.output
    assert ("replies of" in done.stdout) == (task == "respond")
