import pytest
import tiny

from crscli.catalogue import Catalogue
from crscli.dialogue import load_dialogues
from crscli.errors import ArtifactMissing, DataError, UsageError
from crscli.steps._dataset import read_dataset
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.train import train
from crscli.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def fetch(workspace, source, **options):
    return fetch_dataset(workspace, dataset="jsonl", source=source, name="tiny", **options)


def test_files_become_items_and_dialogues_as_they_were(workspace, tiny_source):
    made = fetch(workspace, tiny_source)
    assert (made.status, made.dataset, made.corpus, made.items) == ("written", "tiny", "jsonl", 8)
    assert made.splits == tiny.SIZES
    assert made.turns == {split: 4 * count for split, count in tiny.SIZES.items()}
    folder = workspace.root / "tiny"
    assert {p.name for p in (folder / "items").iterdir()} == {"items.parquet", "provenance.json"}
    assert {p.stem for p in (folder / "dialogues").iterdir()} == {"train", "valid", "test", "provenance"}
    catalogue = Catalogue.load(folder / "items" / "items.parquet")
    given = [(item["item_id"], item["title"], item["year"]) for item in tiny.items()]
    assert [(item.item_id, item.title, item.year) for item in catalogue] == given
    read = [d for split in tiny.SIZES for d in load_dialogues(folder / "dialogues" / f"{split}.jsonl")]
    wanted = list(tiny.dialogues())
    assert [d.dialogue_id for d in read] == [d["dialogue_id"] for d in wanted]
    assert [[(t.role, t.text, list(t.items)) for t in d.turns] for d in read] == [
        [(t["role"], t["text"], t["items"]) for t in d["turns"]] for d in wanted
    ]


def test_a_missing_validation_split_is_the_latest_of_train_and_said_to_be(workspace, tmp_path):
    source = tiny.write_tiny(tmp_path / "source", splits=("train", "test"))
    made = fetch(workspace, source, valid_share=0.25)
    assert made.splits == {"train": 12, "valid": 4, "test": 4}
    assert made.notes == ["valid: the latest 4 of 16 train dialogues"]
    data = read_dataset(workspace, "tiny")
    assert max(d.order for d in data.splits["train"]) < min(d.order for d in data.splits["valid"])
    assert data.valid_from_train
    again = fetch(workspace, source, valid="random", valid_share=0.25, seed=3)
    assert "random 25% (seed 3)" in again.notes[0]
    assert {d.dialogue_id for d in read_dataset(workspace, "tiny").splits["valid"]} != {
        d.dialogue_id for d in data.splits["valid"]
    }


def test_a_second_run_is_up_to_date_until_source_or_options_change(workspace, tmp_path):
    source = tiny.write_tiny(tmp_path / "source")
    first = fetch(workspace, source)
    digest = workspace.artifact("tiny", "dialogues").digest
    again = fetch(workspace, source)
    assert (again.status, again.splits, again.turns, again.notes) == (
        "up to date", first.splits, first.turns, first.notes,
    )  # fmt: skip
    assert fetch(workspace, source, force=True).status == "written"
    assert workspace.artifact("tiny", "dialogues").digest == digest  # the same bytes: nothing after it is stale
    assert fetch(workspace, source, max_bad_rows=1).status == "written"
    tiny.write_tiny(source, titles=[t + "!" for t in tiny.TITLES])
    assert fetch(workspace, source, max_bad_rows=1).status == "written"
    assert workspace.artifact("tiny", "dialogues").digest != digest


def test_a_dry_run_reads_and_tells_and_writes_nothing(workspace, tiny_source):
    made = fetch(workspace, tiny_source, dry_run=True)
    assert (made.status, made.splits, made.items) == ("dry run", tiny.SIZES, 8)
    assert not workspace.root.exists()


def test_the_bundled_sample_is_read_without_a_source(workspace):
    made = fetch_dataset(workspace, dataset="sample", offline=True)
    assert made.items == 352
    assert sum(made.splits.values()) == 480
    assert read_dataset(workspace, "sample").corpus == "sample"


def test_source_files_without_dialogues_and_unread_datasets_are_refused(workspace, tmp_path):
    source = tiny.write_tiny(tmp_path / "source", splits=())
    with pytest.raises(DataError):
        fetch(workspace, source)
    with pytest.raises(ArtifactMissing):
        read_dataset(workspace, "tiny")


def test_another_dataset_is_not_replaced_in_passing(workspace, tiny_source):
    fetch(workspace, tiny_source)
    before = workspace.artifact("tiny", "dialogues").digest
    with pytest.raises(UsageError, match="'tiny' holds jsonl in the form jsonl, not sample") as caught:
        fetch_dataset(workspace, dataset="sample", name="tiny")
    assert "--name NAME" in caught.value.hint
    assert workspace.artifact("tiny", "dialogues").digest == before
    assert fetch_dataset(workspace, dataset="sample", name="tiny", force=True).status == "written"


def test_what_was_made_from_the_former_version_is_named(workspace, tiny_source, tmp_path):
    fetch(workspace, tiny_source)
    train(workspace, dataset="tiny", model="ease")
    told = []
    fetch(workspace, tiny.write_tiny(tmp_path / "less", splits=("train", "test")), say=told.append)
    assert any("stale if it differs: tiny/models/ease" in text for text in told)


def test_unknown_fields_and_a_second_item_list_are_told(workspace, tmp_path):
    source = tiny.write_tiny(tmp_path / "source")
    tiny.write_lines(source / "items.jsonl", [{**item, "genre": "x"} for item in tiny.items()])
    tiny.write_lines(source / "dialogues.jsonl", [{**d, "oder": 3} for d in tiny.dialogues()])
    (source / "items.csv").write_text("item_id,title\n", encoding="utf-8")
    notes = fetch(workspace, source).notes
    assert "items.csv was not read: items.jsonl is there" in notes
    assert "items.jsonl: field 'genre' of 8 rows is unknown and was passed over" in notes
    assert "field 'oder' of 24 dialogues is unknown and was passed over" in notes


def test_a_table_row_of_another_length_may_be_skipped(workspace, tmp_path):
    source = tiny.write_tiny(tmp_path / "source")
    (source / "items.jsonl").unlink()
    rows = [f"{item['item_id']},{item['title']}" for item in tiny.items()]
    (source / "items.csv").write_text("\n".join(["item_id,title", *rows, "alone"]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"items\.csv:10: 2 values expected, found 1"):
        fetch(workspace, source)
    made = fetch(workspace, source, max_bad_rows=1)
    assert made.items == 8
    assert "1 bad rows skipped" in made.notes
