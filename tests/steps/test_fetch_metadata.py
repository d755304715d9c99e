import json

import pyarrow.parquet as pq
import pytest
import tiny

from crscli.catalogue import Catalogue, Item
from crscli.errors import ArtifactMissing, ConfigError, DataError, UsageError
from crscli.metadata import merge
from crscli.metadata.tmdb import NOTICE
from crscli.steps._dataset import read_dataset
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.fetch_metadata import fetch_metadata
from crscli.workspace import Workspace

FILMS = [
    {
        "title": "Alder",
        "year": 1990,
        "genres": ["Sci-Fi", "science fiction", "Drama"],
        "plot": "A tree.",
        "cast": ["A"],
    },
    {"title": "birch", "year": 1992, "genres": ["Horror"], "language": "en", "ids": ["imdb:tt2"]},
    {"title": "Cedar", "year": 1950, "plot": "Another film."},
]


@pytest.fixture
def workspace(tmp_path, tiny_source):
    workspace = Workspace(tmp_path / "workspace")
    fetch_dataset(workspace, dataset="jsonl", source=tiny_source, name="tiny")
    return workspace


@pytest.fixture
def bare(tmp_path):
    """A workspace whose items have titles and years only."""
    source = tiny.write_tiny(tmp_path / "bare")
    tiny.write_lines(source / "items.jsonl", [{k: v for k, v in i.items() if k != "genres"} for i in tiny.items()])
    workspace = Workspace(tmp_path / "workspace")
    fetch_dataset(workspace, dataset="jsonl", source=source, name="tiny")
    return workspace


def listed(folder, name="films.jsonl", rows=FILMS):
    tiny.write_lines(folder / name, rows)
    return folder / name


def catalogue(workspace):
    return Catalogue.load(workspace.artifact("tiny", "catalogue").open() / "items.parquet")


def test_the_item_list_itself_is_the_first_source_where_it_has_metadata(workspace):
    made = fetch_metadata(workspace, dataset="tiny")
    assert (made.status, made.sources, made.items) == ("written", ["items"], 8)
    assert made.coverage["genres"] == 8
    assert made.coverage["year"] == 8
    assert made.coverage["plot"] == 0
    assert made.outcomes == {}
    items = workspace.artifact("tiny", "items")
    before = Catalogue.load(items.open() / "items.parquet")
    assert [(i.item_id, i.name) for i in catalogue(workspace)] == [(i.item_id, i.name) for i in before]
    assert catalogue(workspace).digest == before.digest
    assert fetch_metadata(workspace, dataset="tiny").status == "up to date"
    assert fetch_metadata(workspace, dataset="tiny").coverage == made.coverage
    assert fetch_metadata(workspace, dataset="tiny", force=True).status == "written"
    assert len(read_dataset(workspace, "tiny").catalogue) == 8


def test_the_sample_has_its_metadata_with_it(tmp_path):
    workspace = Workspace(tmp_path)
    fetch_dataset(workspace, dataset="sample")
    made = fetch_metadata(workspace, dataset="sample", offline=True)
    for name in ("genres", "directors", "cast", "keywords", "plot"):
        assert made.coverage[name] > 0.9 * made.items


def test_a_file_fills_what_it_knows_and_the_item_list_the_rest(workspace, tmp_path):
    made = fetch_metadata(workspace, dataset="tiny", files=[listed(tmp_path)])
    assert made.sources == ["films.jsonl", "items"]
    assert made.outcomes == {"films.jsonl": {"matched": 2, "uncertain": 1, "missing": 5}}
    assert made.notes == ["films.jsonl: 3 films (own columns)"]
    alder, birch, cedar = catalogue(workspace).items[:3]
    assert alder == Item("f0", "Alder", 1990, genres=("science fiction", "drama"), plot="A tree.", cast=("A",))
    assert birch == Item("f1", "Birch", 1991, genres=("horror",), language="en", ids=("imdb:tt2",))
    assert (cedar.plot, cedar.genres) == ("", ("even",))
    folder = workspace.artifact("tiny", "catalogue").open()
    assert sorted(p.name for p in folder.iterdir()) == [
        "items.parquet", "matches.jsonl", "provenance.json", "sources.parquet"
    ]  # fmt: skip
    origins = {(r["item_id"], r["field"]): r["source"] for r in pq.read_table(folder / "sources.parquet").to_pylist()}
    assert origins["f0", "genres"] == "films.jsonl"
    assert ("f0", "year") not in origins  # the item list had it
    assert origins["f2", "genres"] == "items"
    assert len(origins) == 8 + 2 + 2
    matches = [json.loads(line) for line in (folder / "matches.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [m["outcome"] for m in matches[:3]] == ["matched", "matched", "uncertain"]
    assert matches[2]["candidates"] == [{"id": "row 3", "title": "Cedar", "year": 1950, "score": 0.5}]
    assert matches[2]["name"] == "Cedar (1992)"


def test_the_order_of_the_sources_is_their_priority(workspace, tmp_path):
    other = listed(tmp_path, "other.jsonl", [{"title": "Alder", "year": 1990, "genres": ["War"], "plot": "Other."}])
    films = listed(tmp_path)
    fetch_metadata(workspace, dataset="tiny", sources=["file"], files=[other, films])
    alder = catalogue(workspace).items[0]
    assert (alder.genres, alder.plot, alder.cast) == (("war",), "Other.", ("A",))
    fetch_metadata(workspace, dataset="tiny", sources=["items", "file"], files=[films, other])
    alder = catalogue(workspace).items[0]
    assert (alder.genres, alder.plot) == (("even",), "A tree.")


def test_two_files_of_one_name_are_told_apart(workspace, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    files = [listed(tmp_path / place) for place in ("a", "b")]
    made = fetch_metadata(workspace, dataset="tiny", files=files)
    assert made.sources == ["films.jsonl", "films.jsonl (2)", "items"]


def test_changed_files_and_options_make_it_again(workspace, tmp_path):
    films = listed(tmp_path)
    fetch_metadata(workspace, dataset="tiny", files=[films])
    assert fetch_metadata(workspace, dataset="tiny", files=[films]).status == "up to date"
    listed(tmp_path, rows=FILMS[:2])
    assert fetch_metadata(workspace, dataset="tiny", files=[films], dry_run=True).status == "dry run"
    assert fetch_metadata(workspace, dataset="tiny", files=[films]).status == "written"
    assert fetch_metadata(workspace, dataset="tiny").status == "written"


def test_a_dry_run_writes_nothing(workspace, tmp_path):
    films = listed(tmp_path)
    before = tiny.listing(workspace.root)
    made = fetch_metadata(workspace, dataset="tiny", sources=["tmdb", "file"], files=[films], dry_run=True)
    assert made.status == "dry run"
    assert "tmdb, films.jsonl, items" in made.notes[0]
    assert tiny.listing(workspace.root) == before


def test_runs_that_become_stale_are_told(tiny_workspace):
    told = []
    fetch_metadata(Workspace(tiny_workspace), dataset="tiny", say=told.append)
    assert any("stale" in line and "tiny/models/cooccurrence" in line for line in told)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"sources": ["imdb"]}, "unknown source 'imdb'", "tmdb, file, items"),
        ({"sources": ["file"]}, "--source file has no file", "--from"),
        ({"sources": ["items"], "files": ["x"]}, "--from names a file but --source file is not given", "both"),
        ({"sources": ["tmdb"], "rate": 0}, "--rate 0", "such as 20"),
        ({"ids": "x.csv"}, "--ids settles", "--source tmdb"),
    ],
)
def test_options_that_do_not_fit(options, message, hint, workspace):
    with pytest.raises(UsageError, match=message) as caught:
        fetch_metadata(workspace, dataset="tiny", **options)
    assert hint in caught.value.hint


def test_items_without_metadata_need_a_source(bare):
    with pytest.raises(UsageError, match="the items of tiny have no metadata of their own") as caught:
        fetch_metadata(bare, dataset="tiny")
    assert "--source tmdb" in caught.value.hint
    with pytest.raises(ArtifactMissing, match="no artifact 'other/items'"):
        fetch_metadata(bare, dataset="other")


def test_tmdb_without_a_credential(workspace, monkeypatch):
    monkeypatch.delenv("TMDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="no TMDB credential"):
        fetch_metadata(workspace, dataset="tiny", sources=["tmdb"])


def test_bad_rows_are_counted_and_skipped(workspace, tmp_path):
    told = []
    films = listed(tmp_path, rows=[FILMS[0], {"title": "Birch", "year": "old"}])
    with pytest.raises(DataError, match=r"films.jsonl:2: year 'old'"):
        fetch_metadata(workspace, dataset="tiny", files=[films])
    made = fetch_metadata(workspace, dataset="tiny", files=[films], max_bad_rows=1, say=told.append)
    assert made.notes[-1] == "films.jsonl: 1 bad rows skipped"
    assert len(told) == 1


def test_files_with_content_of_tmdb_carry_its_notice(workspace, tmp_path):
    file = tmp_path / "movies.json"
    row = {"title": "Alder ", "year": "1990", "genres": [{"name": "War"}], "production_companies": []}
    file.write_text(json.dumps({"f0": row, "f1": "failed"}))
    made = fetch_metadata(workspace, dataset="tiny", files=[file])
    assert made.notes == ["movies.json: 1 films (SI630 movies)", NOTICE]
    assert (workspace.artifact("tiny", "catalogue").open() / "NOTICE").read_text() == NOTICE + "\n"


# Merging.


def test_fields_come_from_the_first_source_that_has_them_and_names_are_joined():
    item = Item("1", "The Ring", None, genres=("lost",))
    one = Item("", "Ring", 1998, plot="First.", ids=("tmdb:1",), aliases=("Ringu", "The Ring"))
    two = Item("9", "Ringu", 2002, plot="Second.", genres=("Sci-Fi", "Horror", "sci-fi"), ids=("imdb:2", "tmdb:1"))
    merged, origins = merge(item, [("a", one), ("b", two)])
    assert merged == Item(
        "1", "The Ring", 1998, genres=("science fiction", "horror"), plot="First.", ids=("tmdb:1", "imdb:2"),
        aliases=("Ringu",),
    )  # fmt: skip
    assert sorted(origins) == [
        ("aliases", "a"), ("genres", "b"), ("ids", "a"), ("ids", "b"), ("plot", "a"), ("year", "a")
    ]  # fmt: skip


@pytest.mark.realdata
def test_redial_with_the_published_files(shared_data, tmp_path):
    workspace = Workspace(tmp_path)
    fetch_dataset(workspace, dataset="redial", source=shared_data / "redial")
    names = ["kg/redial_ievalm/id2info.json", "metadata/si630_redial_tmdb_movies.json.gz",
             "metadata/tmdb_5000_movies.csv.gz", "metadata/pecrs_redial_movie_db.jsonl"]  # fmt: skip
    made = fetch_metadata(workspace, dataset="redial", files=[shared_data / name for name in names])
    assert made.items == 6924
    assert made.outcomes["id2info.json"] == {"matched": 6584, "uncertain": 34, "missing": 306}
    assert made.outcomes["si630_redial_tmdb_movies.json.gz"] == {"matched": 6818, "missing": 106}
    assert made.outcomes["tmdb_5000_movies.csv.gz"] == {"matched": 2679, "uncertain": 429, "missing": 3816}
    assert made.outcomes["pecrs_redial_movie_db.jsonl"] == {"matched": 5475, "uncertain": 971, "missing": 478}
    assert made.coverage == {
        "genres": 6875, "directors": 6537, "writers": 6389, "cast": 6549, "companies": 6349, "keywords": 2624,
        "language": 2679, "plot": 6594, "year": 6455, "runtime": 2678, "aliases": 68, "ids": 6632,
    }  # fmt: skip
    items = workspace.artifact("redial", "items").open() / "items.parquet"
    merged = Catalogue.load(workspace.artifact("redial", "catalogue").open() / "items.parquet")
    assert merged.digest == Catalogue.load(items).digest
    by_name = {item.name: item for item in merged}
    assert by_name["Psycho (1960)"].directors == ("Alfred Hitchcock",)
    assert by_name["Psycho (1998)"].directors == ("Gus Van Sant",)
    assert "300" in {item.title for item in merged}
