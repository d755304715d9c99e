import json

import pyarrow.parquet as pq
import pytest
import tiny

from crscli.catalogue import Catalogue
from crscli.dialogue import load_dialogues
from crscli.errors import ArtifactMissing, UsageError
from crscli.linking import Linker
from crscli.linking.stored import MARKED, read_links, with_links
from crscli.report import caption
from crscli.steps.evaluate import evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.link_entities import link_entities
from crscli.steps.train import train
from crscli.workspace import Workspace


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    """The sample dataset with its links and a measurement, and what the step told."""
    workspace, said = Workspace(tmp_path_factory.mktemp("sample")), []
    fetch_dataset(workspace, dataset="sample")
    made = link_entities(workspace, dataset="sample", evaluate=True, variants="ba", say=said.append)
    return workspace, made, said


def splits_of(workspace, dataset):
    folder = workspace.artifact(dataset, "dialogues").path
    return {split: load_dialogues(folder / f"{split}.jsonl") for split in ("train", "valid", "test")}


def test_the_step_tells_what_it_found(linked):
    workspace, made, said = linked
    marks = sum(len(turn.items) for d in splits_of(workspace, "sample")["train"] for turn in d.turns)
    assert (made.status, made.dataset, made.weights) == ("written", "sample", f"learnt from {marks} train marks")
    assert said == [f"linking sample: weights {made.weights}"]
    assert made.messages == {s: sum(len(d.turns) for d in ds) for s, ds in splits_of(workspace, "sample").items()}
    assert made.links.keys() == made.with_film.keys() == {"train", "valid", "test"}
    assert made.links["train"]["item"] >= marks
    assert min(made.links["test"][kind] for kind in ("person", "genre", "answers")) > 0
    assert made.opinions.keys() == {"liked", "disliked", "seen"}
    assert 0.2 < made.with_film["test"] < 0.5
    notes = workspace.artifact("sample", "links").provenance()["notes"]
    assert (notes["links"], notes["evaluation"]) == (made.links, made.evaluation)


def test_the_measurement_stands_in_the_artifact(linked):
    _, made, _ = linked
    record = json.loads((made.path / "evaluation.json").read_text(encoding="utf-8"))
    assert record == {"split": "test", "rows": made.evaluation}
    assert [row["variant"] for row in made.evaluation] == ["a", "b"]
    assert all(row["recall title"] > 0.9 and row["precision title"] > 0.9 for row in made.evaluation)


def test_every_mark_keeps_its_id_and_its_place(linked):
    workspace, made, _ = linked
    rows = pq.read_table(made.path / "links.parquet").to_pylist()
    marked = [
        (row["split"], row["dialogue_id"], row["turn_num"], row["id"], row["start"], row["end"])
        for row in rows
        if row["marked"]
    ]
    assert marked == [
        (split, dialogue.dialogue_id, number, link.id, link.start, link.end)
        for split, dialogues in splits_of(workspace, "sample").items()
        for dialogue in dialogues
        for number, turn in enumerate(dialogue.turns)
        for link in turn.links
    ]
    films = [row for row in rows if row["marked"] and row["kind"] == "item"]
    assert sum(row["score"] is not None for row in films) / len(films) > 0.9
    assert all(row["candidates"] for row in films if row["score"] is not None)


def test_the_links_come_back_onto_the_dialogues(linked):
    workspace, made, _ = linked
    found = read_links(made.path)
    for split, dialogues in splits_of(workspace, "sample").items():
        for before, after in zip(dialogues, with_links(split, dialogues, found), strict=True):
            assert [turn.items for turn in after.turns] == [turn.items for turn in before.turns]
            links = [link for turn in after.turns for link in turn.links]
            own = {link.id for turn in before.turns for link in turn.links}
            assert {link.id for link in links if link.reason.startswith(MARKED)} == own


def test_the_saved_linker_is_the_one_that_linked(linked):
    workspace, made, _ = linked
    catalogue = Catalogue.load(workspace.artifact("sample", "items").path / "items.parquet")
    linker = Linker.load(made.path / "linker", catalogue)
    found = read_links(made.path)
    test = splits_of(workspace, "sample")["test"][:10]
    for dialogue in test:
        for number, links in enumerate(linker.link_all(dialogue)):
            mine = {(link.kind, link.id, link.start) for link in links}
            stored = found.get(("test", dialogue.dialogue_id, number), ())
            assert {(x.kind, x.id, x.start) for x in stored if not x.reason.startswith(MARKED)} <= mine


def test_a_second_run_is_up_to_date_and_a_dry_run_only_tells(linked):
    workspace, made, _ = linked
    for options in ({}, {"evaluate": True, "variants": "ab"}, {"dry_run": True}):
        again = link_entities(workspace, dataset="sample", **options)
        assert (again.status, again.seconds, again.evaluation) == ("up to date", 0.0, made.evaluation)
    digest = workspace.artifact("sample", "links").digest
    dry = link_entities(workspace, dataset="sample", seed=1, dry_run=True)
    assert (dry.status, dry.weights) == ("dry run", made.weights)
    assert workspace.artifact("sample", "links").digest == digest


def test_the_linker_learns_from_train_alone(linked, monkeypatch):
    workspace, _, _ = linked
    seen = []

    def fit(catalogue, dialogues, **options):
        seen.append((list(dialogues), options["seed"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(Linker, "fit", fit)
    digest = workspace.artifact("sample", "links").digest
    with pytest.raises(KeyboardInterrupt):
        link_entities(workspace, dataset="sample", seed=3)
    assert seen == [(splits_of(workspace, "sample")["train"], 3)]
    assert workspace.artifact("sample", "links").digest == digest


@pytest.fixture
def bare(tmp_path):
    """A workspace with the tiny world, its dialogues without marks."""
    source = tiny.write_tiny(tmp_path / "source")
    rows = [d | {"turns": [{"role": t["role"], "text": t["text"]} for t in d["turns"]]} for d in tiny.dialogues()]
    tiny.write_lines(source / "dialogues.jsonl", rows)
    workspace = Workspace(tmp_path / "workspace")
    fetch_dataset(workspace, dataset="jsonl", source=source, name="bare")
    return workspace


def test_without_marks_there_is_nothing_to_learn_from_or_to_measure_against(bare):
    with pytest.raises(UsageError, match="dataset bare has no train marks to learn from"):
        link_entities(bare, dataset="bare", fit=True)
    with pytest.raises(UsageError, match="neither test nor valid has any with a place"):
        link_entities(bare, dataset="bare", evaluate=True)


def test_ways_of_writing_that_are_not_there_are_refused(tiny_workspace):
    with pytest.raises(UsageError, match="'axe' names no way of writing") as told:
        link_entities(Workspace(tiny_workspace), dataset="tiny", variants="axe")
    assert "b without years" in told.value.hint


def test_a_dataset_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ArtifactMissing, match="no artifact 'nothing/"):
        link_entities(Workspace(tmp_path), dataset="nothing")


def test_few_marks_take_the_weights_of_the_package(tiny_workspace):
    workspace = Workspace(tiny_workspace)
    made = link_entities(workspace, dataset="tiny")
    assert made.weights == "of the package"
    dialogues = splits_of(workspace, "tiny")["test"]
    after = with_links("test", dialogues, read_links(made.path))
    assert [t.items for d in after for t in d.turns] == [t.items for d in dialogues for t in d.turns]
    assert {x.opinion for d in after for t in d.turns if t.role == "seeker" for x in t.links} == {"liked"}


def test_films_are_found_where_a_dataset_has_no_marks(bare):
    made = link_entities(bare, dataset="bare")
    wanted = {d["dialogue_id"]: tuple(tuple(t["items"]) for t in d["turns"]) for d in tiny.dialogues()}
    for split, dialogues in splits_of(bare, "bare").items():
        for dialogue in with_links(split, dialogues, read_links(made.path)):
            assert tuple(turn.items for turn in dialogue.turns) == wanted[dialogue.dialogue_id]


def test_a_dataset_without_marks_takes_what_was_found_and_says_so(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    tiny.write_lines(source / "items.jsonl", tiny.items())
    plain = [
        {**d, "turns": [{"role": t["role"], "text": t["text"]} for t in d["turns"]]} for d in tiny.dialogues()
    ]  # the same dialogues, as text alone
    tiny.write_lines(source / "dialogues.jsonl", plain)
    workspace = Workspace(tmp_path / "workspace")
    fetched = fetch_dataset(workspace, dataset="jsonl", source=source, name="plain")
    assert any("no turn marks an item: crs link-entities" in note for note in fetched.notes)
    with pytest.raises(ArtifactMissing, match="no turn of dataset plain names an item") as caught:
        train(workspace, dataset="plain", model="cooccurrence")
    assert caught.value.hint == "run: crs link-entities --dataset plain"
    link_entities(workspace, dataset="plain")
    assert train(workspace, dataset="plain", model="cooccurrence").status == "written"
    report = evaluate(workspace, dataset="plain", models=["cooccurrence"], draws=20).report
    assert report["mentions"] == "linked"
    assert report["counts"]["labels"] == 8  # four test dialogues with two recommended films each
    assert any("the dataset marks no item" in line for line in caption(report))
