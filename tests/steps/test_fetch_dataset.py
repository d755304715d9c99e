import pytest
import tiny

from crscli.catalogue import Catalogue
from crscli.dialogue import load_dialogues
from crscli.errors import ArtifactMissing, DataError
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.train import read_dataset
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
