from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from crscli import analyses, comparisons
from crscli.analyses import ANALYSES, Analyses, refuse_unfit
from crscli.catalogue import Catalogue, Item
from crscli.cli.outcomes import Analysis
from crscli.decoding import REFERENCE, TABLE_8
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.errors import UsageError
from crscli.evaluation import Predictions
from crscli.models import MODELS, model_class
from crscli.progress import silent
from crscli.protocols import PROTOCOLS, select
from crscli.steps._dataset import find_run, load_run, read_dataset
from crscli.workspace import Workspace

PNG = b"\x89PNG\r\n"
HEAD = {"dataset": "x", "protocol": {"name": "turns"}}


def predictions(test_set, ranks, name="model"):
    return Predictions(name, test_set, [np.array(r) for r in ranks], [np.zeros(0, np.int64)] * len(ranks), False)


# ---- by hand ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def films():
    genres = (("Drama", "crime"), ("drama",), ("Comedy",), (), ("horror",))
    return Catalogue(Item(f"i{num}", f"Film {num}", genres=own) for num, own in enumerate(genres))


@pytest.fixture(scope="module")
def test_set(films):
    """Turns 1 and 3 of two dialogues and turn 25 of a long one; seven labels, one of them of no known film."""

    def dialogue(name, *named):
        turns = []
        for items in named:
            turns += [Turn("seeker", "and?"), Turn("recommender", "So", tuple(Link("item", i) for i in items))]
        return Dialogue(name, tuple(turns))

    dialogues = [
        dialogue("a", ["i0"], ["i2", "i3"]),
        dialogue("b", ["i1"], ["i2"]),
        dialogue("c", *[[]] * 12, ["i0", "gone"]),
    ]
    return select(PROTOCOLS["turns"], {"test": dialogues}, "test", films, corpus="x", form="jsonl")


RANKS = [[1], [50, 0], [51], [3], [0, 0]]


def drawn(name, test_set, films, tmp_path, **models):
    """The table of an analysis of models with the given ranks."""
    run = Analyses((name,), test_set, HEAD)
    recommender = SimpleNamespace(catalogue=films)
    for model, ranks in models.items():
        run.add(predictions(test_set, ranks, model), recommender, {}, silent)
    made = run.draw(tmp_path)[name]
    assert (tmp_path / made["picture"]).read_bytes().startswith(PNG)
    assert made["summary"] == ANALYSES[name]
    assert all(len(row) == len(made["columns"]) for row in made["rows"])
    return made


def test_genres_have_their_shares_of_films_and_labels_and_how_many_were_found(test_set, films, tmp_path):
    made = drawn("genre", test_set, films, tmp_path, one=RANKS, other=[[0], [0, 0], [0], [0], [0, 0]])
    assert made["columns"] == ["first genre", "items %", "labels %", "one: found in 50 %", "other: found in 50 %"]
    rows = {row[0]: row[1:] for row in made["rows"]}
    assert list(rows) == ["drama", "(none)", "comedy", "horror"]  # the commonest first
    assert rows["drama"] == ["40.0", "42.9", "33.3", "0.0"]  # i0 found, i1 at 51, i0 missed
    assert rows["comedy"] == ["20.0", "28.6", "100.0", "0.0"]  # at 50 and at 3
    assert rows["(none)"] == ["20.0", "28.6", "0.0", "0.0"]  # a film without genre, and no film at all
    assert rows["horror"] == ["20.0", "0.0", "-", "-"]  # nothing to find
    for column in (0, 1):
        assert sum(float(row[column]) for row in rows.values()) == pytest.approx(100, abs=0.2)


def test_recall_by_turn_counts_labels_and_joins_the_late_turns(test_set, films, tmp_path):
    made = drawn("turns", test_set, films, tmp_path, one=RANKS)
    assert made["columns"] == ["turns before", "labels", "one: R@50"]
    assert made["rows"] == [["1", 2, "0.500"], ["3", 3, "0.667"], ["20 or more", 2, "0.000"]]
    assert sum(row[1] for row in made["rows"]) == test_set.counts["labels"] == 7


@pytest.mark.parametrize("name", ["genre", "turns"])
def test_a_test_set_without_labels_has_tables_without_figures(films, tmp_path, name):
    dialogue = Dialogue("a", (Turn("seeker", "and?"), Turn("recommender", "Hm")))
    test_set = select(PROTOCOLS["turns"], {"test": [dialogue]}, "test", films, corpus="x", form="jsonl")
    made = drawn(name, test_set, films, tmp_path, one=[])
    assert {row[-1] for row in made["rows"]} <= {"-"}


def test_every_analysis_has_an_option_and_a_summary_with_its_source():
    assert [a.value for a in Analysis] == list(ANALYSES) == list(analyses._TABLES)
    assert list(ANALYSES) == [*analyses._BY_NAME, *comparisons.KINDS]
    assert all(any(f"({name}, " in text for name in ("PECRS", "UniCRS", "ReFICR")) for text in ANALYSES.values())


def test_an_analysis_that_fits_no_model_is_refused_and_one_that_fits_some_is_not():
    speaking, counting = model_class("pecrs-tiny"), model_class("ease")
    for name in ("decoding", "fields", "candidates"):
        refuse_unfit([name], [counting, speaking])
        with pytest.raises(UsageError, match=f"--analyse {name} fits none of these models") as caught:
            refuse_unfit(["genre", name], [counting, model_class("blend")])
        assert "pecrs-tiny" in caught.value.hint
    refuse_unfit(["genre", "turns"], [counting])
    refuse_unfit([], [])
    with pytest.raises(UsageError, match="--analyse genre"):
        refuse_unfit(["genre"], [])


def test_what_fits_is_told_by_what_a_model_can_do():
    fits = {
        name: {a for a in ANALYSES if analyses._fits(a, model_class(name))}
        for name, spec in MODELS.items()
        if not spec.target.startswith("crscli.models.trivial")
    }
    of_pecrs = set(ANALYSES) - {"pipeline", "conversations"}
    assert fits.pop("pecrs-tiny") == fits.pop("pecrs-small") == fits.pop("pecrs-medium") == of_pecrs
    assert fits.pop("reficr-tiny") == fits.pop("reficr-small") == fits.pop("reficr") == set(ANALYSES)
    all_can = {"genre", "turns", *comparisons.KINDS}
    assert fits.pop("kbrd") == fits.pop("unicrs") == fits.pop("unicrs-tiny") == {*all_can, "decoding"}
    assert fits.pop("gcrs") == {*all_can, "conversations"}
    assert fits.pop("embedding") == {*all_can, "fields"}
    assert len(fits) == 8
    assert set(map(frozenset, fits.values())) == {frozenset(all_can)}


# ---- of a model that was trained --------------------------------------------------------------------------------


@pytest.fixture
def trained(neural_workspace):
    """The tiny run, its test set, and what it predicts there."""
    workspace = Workspace(neural_workspace)
    data = read_dataset(workspace, "tiny")
    model, record = load_run(workspace, find_run(workspace, "tiny", "pecrs-tiny"), data, device="cpu")
    test_set = select(PROTOCOLS["turns"], data.splits, "test", data.catalogue, corpus="jsonl", form="jsonl")
    run = Analyses((), test_set, HEAD)
    predicted = run.again(SimpleNamespace(model="pecrs-tiny", exclude_mentioned=False, test_set=test_set), model)
    return SimpleNamespace(model=model, record=record, test_set=test_set, predicted=predicted, progress=[])


def table(trained, tmp_path, *names):
    run = Analyses(names, trained.test_set, HEAD)
    run.add(trained.predicted, trained.model, trained.record, lambda *told: trained.progress.append(told))
    made = run.draw(tmp_path)
    for name in names:
        assert (tmp_path / made[name]["picture"]).read_bytes().startswith(PNG)
    return made


def state(trained):
    """All that an analysis must leave as it was."""
    model = trained.model
    contexts = [row.context for row in trained.test_set.rows]
    return [
        model.candidates, model.index.vectors.tobytes(), model.index.digest,
        *(value.tobytes() for r in model.rank(contexts, 8) for value in (r.item_nums, r.scores)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["fields", "candidates", "decoding"])
def test_a_model_is_left_as_it_was(trained, tmp_path, name):
    before = state(trained)
    table(trained, tmp_path, name)
    assert state(trained) == before


def test_each_field_is_left_out_in_turn(trained, tmp_path, monkeypatch):
    encoded = []
    original = type(trained.model).encode_items

    def encode(self, catalogue, *, fields=None, numbers=None):
        encoded.append(fields)
        return original(self, catalogue, fields=fields, numbers=numbers)

    monkeypatch.setattr(type(trained.model), "encode_items", encode)
    fields = trained.model.config.fields
    assert len(fields) >= 5
    made = table(trained, tmp_path, "fields")["fields"]
    assert [row[0] for row in made["rows"]] == ["(none)", *fields]
    assert made["columns"] == ["left out", "pecrs-tiny: R@50"]
    assert [e for e in encoded if e] == [[f for f in fields if f != left] for left in fields]
    assert {row[1] for row in made["rows"]} == {"1.000"}  # eight films: all are among the first 50
    assert trained.progress[-1][1:] == (len(fields), len(fields))


def test_a_model_that_reads_a_single_field_has_nothing_to_leave_out(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(trained.model, "config", replace(trained.model.config, item_fields="title"))
    monkeypatch.setattr(Analyses, "again", lambda *_: pytest.fail("ranked without any text"))
    run = Analyses((), trained.test_set, HEAD)
    assert list(analyses._fields(run, trained.predicted, trained.model, {}, silent)) == ["(none)"]


def test_numbers_of_candidates_stand_beside_the_number_in_training(trained, tmp_path):
    asked = []
    original = trained.model.rank
    trained.model.rank = lambda contexts, k: asked.append(trained.model.candidates) or original(contexts, k)
    made = table(trained, tmp_path, "candidates")["candidates"]
    (row,) = made["rows"]
    assert row[:2] == ["pecrs-tiny", trained.model.config.negatives + 1]
    assert made["columns"][2:] == [f"R@50 with {n}" for n in (50, 100, 200, 350, 500, 700)]
    assert sorted(set(asked)) == [50, 100, 200, 350, 500, 700]


def test_each_decoding_of_the_paper_and_the_reference_has_a_row(trained, tmp_path):
    made = table(trained, tmp_path, "decoding")["decoding"]
    assert [row[1] for row in made["rows"]] == [str(d) for d in (*TABLE_8, REFERENCE)]
    assert made["columns"][:4] == ["model", "decoding", "rouge-1", "rouge-2"]
    assert {row[0] for row in made["rows"]} == {"pecrs-tiny"}
    assert all(0 <= float(row[2]) <= 1 for row in made["rows"])
    assert {told[0] for told in trained.progress} == {str(d) for d in (*TABLE_8, REFERENCE)}


def test_analyses_do_not_disturb_each_other(trained, tmp_path):
    """What was read for a ranking without a field serves no later one."""
    alone = table(trained, tmp_path, "candidates")["candidates"]["rows"]
    run = Analyses((), trained.test_set, HEAD)
    usual = [r.tolist() for r in run.again(trained.predicted, trained.model).ranks]
    table(trained, tmp_path, "fields")
    assert [r.tolist() for r in run.again(trained.predicted, trained.model).ranks] == usual
    assert table(trained, tmp_path, "candidates")["candidates"]["rows"] == alone


def test_an_empty_context_is_a_row_like_any_other(films, tmp_path):
    dialogue = Dialogue("a", (Turn("seeker", ""), Turn("recommender", "So", (Link("item", "i0"),))))
    test_set = select(PROTOCOLS["turns"], {"test": [dialogue]}, "test", films, corpus="x", form="jsonl")
    assert test_set.rows[0].context == Context((Turn("seeker", ""),))
    assert drawn("turns", test_set, films, tmp_path, one=[[2]])["rows"] == [["1", 1, "1.000"]]
