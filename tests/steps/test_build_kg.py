import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from crscli import workspace
from crscli.catalogue import Catalogue
from crscli.errors import ArtifactMissing, DataError, MachineError, UsageError
from crscli.kg import KnowledgeGraph
from crscli.steps.build_kg import build_kg, find_kg, show
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.workspace import Recipe, Workspace

LINE = "<http://dbpedia.org/resource/{}> <http://dbpedia.org/ontology/{}> <http://dbpedia.org/resource/{}> .\n"
DUMP = "".join(
    LINE.format(*row)
    for row in (
        ("Alder_(1990_film)", "starring", "Ann"), ("Alder_(1990_film)", "spouse", "Bo"), ("Bo", "genre", "Prose"),
        ("Birch_(film)", "director", "Cy"), ("Cedars", "starring", "Ann"), ("Elm", "birthPlace", "Ann"),
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, tiny_source):
    root = tmp_path_factory.mktemp("kg") / "workspace"
    fetch_dataset(Workspace(root), dataset="jsonl", source=tiny_source, name="tiny")
    return root


@pytest.fixture
def space(tmp_path, fetched):
    return Workspace(shutil.copytree(fetched, tmp_path / "workspace"))


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "dump.nt"
    path.write_text(DUMP, encoding="utf-8")
    return path


def with_metadata(space, *, stale=False, credits=(), **more):
    """A catalogue as fetch-metadata writes it: the tiny items with further fields."""
    items = space.artifact("tiny", "items")
    known = Catalogue(replace(i, **more) for i in Catalogue.load(items.open() / "items.parquet"))
    inputs = {items.name: "other" if stale else items.digest}
    with workspace.write(space.artifact("tiny", "catalogue"), Recipe("fetch-metadata", 1, {}, inputs)) as folder:
        known.save(folder / "items.parquet")
        if credits:
            pq.write_table(pa.Table.from_pylist(list(credits)), folder / "credits.parquet")


def linked(built):
    graph = KnowledgeGraph.load(built.path)
    return {i: graph.entities.ids[e] for i, e in zip(graph.items.ids, graph.item_entities, strict=True) if e >= 0}


# ---- what is built --------------------------------------------------------------------------------------------


def test_without_options_the_metadata_make_the_graph(space):
    built = build_kg(space, dataset="tiny")
    assert (built.name, built.source, built.status) == ("metadata", "metadata", "written")
    assert built.statistics["triples"] == 8
    assert built.statistics["per_relation"] == {"genre": 8}
    assert built.notes == ["1 relations (2 with the self-loops that models add)"]
    assert find_kg(space, "tiny").name == "tiny/kg/metadata"
    assert KnowledgeGraph.load(built.path).linked.all()


def test_a_rerun_is_up_to_date_until_the_items_change_or_it_is_forced(space):
    first = build_kg(space, dataset="tiny")
    again = build_kg(space, dataset="tiny")
    assert again == replace(first, status="up to date")
    assert build_kg(space, dataset="tiny", force=True).status == "written"
    with_metadata(space, directors=("Ann",))
    third = build_kg(space, dataset="tiny")
    assert third.status == "written"
    assert third.statistics["per_relation"] == {"director": 8, "genre": 8}


def test_a_dry_run_writes_nothing(space):
    before = tiny.listing(space.root)
    assert build_kg(space, dataset="tiny", dry_run=True).status == "dry run"
    assert tiny.listing(space.root) == before


def test_tmdkg_uses_credits_where_they_were_fetched(space):
    credits = [{"item_id": f"f{n}", "department": "Sound", "job": "Mixer", "name": "Dee", "order": 0} for n in range(8)]
    credits += [credit | {"job": "Editor"} for credit in credits]
    with_metadata(space, credits=credits, directors=("Ann",))
    built = build_kg(space, dataset="tiny", source="tmdkg")
    assert built.statistics["per_relation"] == {"genre": 8, "sound": 8}
    assert "0 titles are of several films, which are kept apart" in built.notes
    with pytest.raises(UsageError, match="built with other settings") as caught:
        build_kg(space, dataset="tiny", source="tmdkg", paper=True)
    assert "--name NAME" in caught.value.hint
    assert build_kg(space, dataset="tiny", source="tmdkg", paper=True, name="paper").name == "paper"


def test_tmdkg_without_credits_says_so(space):
    with_metadata(space, directors=("Ann",), ids=("tmdb:1",))
    built = build_kg(space, dataset="tiny", source="tmdkg")
    assert built.statistics["per_relation"] == {"directing": 1, "genre": 2}
    assert "no credits: the crew is what the items tell of directors and writers" in built.notes
    assert "1 films stand under several ids: Alder (1990); Birch (1991); Cedar (1992)" in " ".join(built.notes)


def test_a_dump_is_cut_around_films_found_by_title_and_year(space, dump):
    said = []
    built = build_kg(space, dataset="tiny", from_=dump, say=said.append)
    assert (built.name, built.source) == ("dbpedia", "dbpedia")
    assert linked(built) == {
        "f0": "<http://dbpedia.org/resource/Alder_(1990_film)>", "f1": "<http://dbpedia.org/resource/Birch_(film)>"
    }  # fmt: skip
    assert built.statistics["per_relation"] == {"director": 1, "genre": 1, "starring": 1}
    assert not any("no triple" in note for note in built.notes)
    assert said == ["looking for the films of 8 items by title and year"]


def test_a_dump_with_redirects_relations_hops_and_a_map_of_items(space, dump, tmp_path):
    redirects, uris, relations = (tmp_path / name for name in ("redirects.nt", "uris.json", "relations.txt"))
    redirects.write_text(
        LINE.format("Cedar_(1992_film)", "wikiPageRedirects", "Cedars") + LINE.format("Old", "wikiPageRedirects", "Elm")
    )
    uris.write_text(json.dumps({"f4": "http://dbpedia.org/resource/Old", "f5": None, "unknown": "http://x/Y"}))
    relations.write_text("starring\nhttp://dbpedia.org/ontology/birthPlace\n")
    more = {"redirects": [redirects], "relations": relations, "item_uris": uris, "hops": 1}
    built = build_kg(space, dataset="tiny", from_=dump, **more)
    found = {item_id: entity.rsplit("/", 1)[1] for item_id, entity in linked(built).items()}
    assert found == {"f0": "Alder_(1990_film)>", "f1": "Birch_(film)>", "f2": "Cedars>", "f4": "Elm>"}
    assert built.statistics["per_relation"] == {"starring": 2, "birthPlace": 1}
    assert "1 films have no triple" in built.notes
    assert built.files == {
        "--from": [str(dump)], "--item-uris": [str(uris)], "--redirects": [str(redirects)],
        "--relations": [str(relations)],
    }  # fmt: skip
    params = space.artifact("tiny", "kg", "dbpedia").provenance()["params"]
    assert params["relations"] == ["<http://dbpedia.org/ontology/birthPlace>", "<http://dbpedia.org/ontology/starring>"]


def test_bad_lines_are_skipped_up_to_a_limit(space, dump):
    dump.write_text(DUMP + "broken\n", encoding="utf-8")
    said = []
    built = build_kg(space, dataset="tiny", from_=dump, say=said.append)
    assert "1 lines that are no triple were skipped" in built.notes
    assert said[1:] == [f"skipped: {dump}:7: no triple: 'broken'"]
    with pytest.raises(DataError, match=r"dump.nt:7: no triple: 'broken'"):
        build_kg(space, dataset="tiny", from_=dump, max_bad_rows=0, force=True)


def test_a_folder_of_dumps_is_read_together(space, dump, tmp_path):
    folder = tmp_path / "dumps"
    folder.mkdir()
    shutil.move(dump, folder / "b.ttl")
    (folder / "a.nt").write_text(LINE.format("Elm", "starring", "Ann"))
    assert build_kg(space, dataset="tiny", from_=folder).statistics["linked_items"] == 3


def test_a_published_graph_is_imported_under_the_name_of_its_form(space, tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    files = {
        "entity2id.json": {"<http://dbpedia.org/resource/Alder>": 0, "<http://dbpedia.org/resource/Ann>": 1},
        "relation2id.json": {"<http://dbpedia.org/ontology/starring>": 0, "self_loop": 1},
        "dbpedia_subkg.json": {"0": [[0, 1], [1, 0]]},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    built = build_kg(space, dataset="tiny", from_=folder)
    assert (built.name, built.source) == ("unicrs", "dbpedia")
    assert (built.statistics["entities"], built.statistics["triples"]) == (2, 1)
    assert linked(built) == {"f0": "<http://dbpedia.org/resource/Alder>"}
    with pytest.raises(UsageError, match="--redirects is for dumps"):
        build_kg(space, dataset="tiny", from_=folder, redirects=[folder / "entity2id.json"])


# ---- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"source": "wikidata"}, "unknown source 'wikidata'", "metadata"),
        ({"source": "dbpedia"}, "reads a dump or a published graph", "--from"),
        ({"source": "tmdkg", "from_": "dump"}, "--from is of no use for --source tmdkg", "leave it out"),
        ({"item_uris": "dump"}, "--item-uris is of no use for --source metadata", "leave it out"),
        ({"paper": True}, "--paper is for TMDKG", "--source tmdkg"),
        ({"from_": "dump", "hops": 0}, "--hops 0 reaches nothing", "at least 1"),
        ({"from_": "none"}, "none does not exist", "check the path"),
        ({"from_": "folder"}, "holds neither a dump", "dbpedia_subkg.json + entity2id.json"),
        ({"from_": "dump", "item_uris": "folder"}, "folder is no file", "--item-uris"),
        ({"from_": "dump", "relations": "folder"}, "folder is no file", "--relations"),
        ({"from_": "dump", "redirects": ["folder"]}, "folder is no file", "--redirects"),
        ({"from_": "x.json"}, "x.json is no dump of triples", "name the folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(space, dump, tmp_path, options, words, hint):
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.json").write_text("{}")
    paths = {"dump": dump} | {name: tmp_path / name for name in ("none", "folder", "x.json")}
    with pytest.raises(UsageError, match=words) as caught:
        build_kg(
            space,
            dataset="tiny",
            **{k: [paths[p] for p in v] if isinstance(v, list) else paths.get(v, v) for k, v in options.items()},
        )
    assert hint in caught.value.hint


def test_items_without_metadata_send_to_fetch_metadata(space):
    with_metadata(space, genres=())
    with pytest.raises(ArtifactMissing, match="the items of tiny have no metadata") as caught:
        build_kg(space, dataset="tiny")
    assert caught.value.hint.startswith("run: crs fetch-metadata --dataset tiny")
    assert not space.artifact("tiny", "kg", "metadata").exists()


def test_a_catalogue_of_other_items_is_stale(space):
    with_metadata(space, stale=True)
    with pytest.raises(ArtifactMissing, match="'tiny/catalogue' is stale"):
        build_kg(space, dataset="tiny")


def test_a_dump_without_the_films_or_the_relations_is_told(space, dump, tmp_path):
    dump.write_text(LINE.format("Nothing", "starring", "Ann"))
    with pytest.raises(DataError, match=r"dump\.nt: no film of the dataset is in it"):
        build_kg(space, dataset="tiny", from_=dump)
    dump.write_text(DUMP)
    relations = tmp_path / "relations.json"
    relations.write_text('["unknown"]')
    with pytest.raises(DataError, match="none of the relations is in it"):
        build_kg(space, dataset="tiny", from_=dump, relations=relations)
    relations.write_bytes(b"\xe9")
    with pytest.raises(DataError, match="not UTF-8: byte 1"):
        build_kg(space, dataset="tiny", from_=dump, relations=relations)
    relations.write_text("{}")
    with pytest.raises(DataError, match="a list of relations was expected"):
        build_kg(space, dataset="tiny", from_=dump, relations=relations)


def test_a_map_of_items_that_are_not_there_is_told(space, dump, tmp_path):
    uris = tmp_path / "uris.json"
    uris.write_text('{"zzz": "http://dbpedia.org/resource/Elm"}')
    notes = build_kg(space, dataset="tiny", from_=dump, item_uris=uris).notes
    assert "1 ids of --item-uris are no items of the dataset: zzz" in notes
    uris.write_text('{"f0": "http://x/\\ud800"}')
    with pytest.raises(DataError, match="surrogates"):
        build_kg(space, dataset="tiny", from_=dump, item_uris=uris)


def test_redirects_of_one_name_in_two_folders_both_count(space, dump, tmp_path):
    paths = [tmp_path / folder / "redirects.nt" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text("")
    assert build_kg(space, dataset="tiny", from_=dump, redirects=paths).status == "written"
    paths[0].write_text("# changed\n")
    assert build_kg(space, dataset="tiny", from_=dump, redirects=paths).status == "written"


# ---- show -----------------------------------------------------------------------------------------------------


def test_show_tells_what_a_graph_knows_of_an_item(space, tmp_path):
    build_kg(space, dataset="tiny")
    lines = ["Alder (1990)", "└─ genre (1)", "   └─ even"]
    for title in ("Alder (1990)", "alder", "f0"):
        assert show(space, dataset="tiny", name=None, title=title) == lines
    picture = tmp_path / "alder.png"
    assert show(space, dataset="tiny", name="metadata", title="Alder", picture=picture) == lines
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"alder\.jpg is no PNG"):
        show(space, dataset="tiny", name=None, title="Alder", picture=tmp_path / "alder.jpg")
    with pytest.raises(MachineError, match=r"cannot write .*none/alder.png \(No such file"):
        show(space, dataset="tiny", name=None, title="Alder", picture=tmp_path / "none" / "alder.png")


def test_show_names_the_nearest_titles_and_asks_which_of_several(space, tmp_path):
    build_kg(space, dataset="tiny")
    with pytest.raises(UsageError, match="no item is called 'Adler'") as caught:
        show(space, dataset="tiny", name=None, title="Adler")
    assert "Alder (1990)" in caught.value.hint
    with_metadata(space, title="Elm")
    with pytest.raises(UsageError, match="8 items are called 'elm'") as caught:
        show(space, dataset="tiny", name=None, title="elm")
    assert "Elm (1991) (id f1)" in caught.value.hint


def test_show_needs_a_graph_of_these_items(space):
    with pytest.raises(ArtifactMissing, match="no graph 'tiny/kg/metadata'") as caught:
        show(space, dataset="tiny", name=None, title="Alder")
    assert caught.value.hint == "run: crs build-kg --dataset tiny"
    build_kg(space, dataset="tiny")
    with pytest.raises(ArtifactMissing, match=r"no graph 'tiny/kg/x' \(there is: metadata\)"):
        show(space, dataset="tiny", name="x", title="Alder")
    items = space.artifact("tiny", "items")
    fewer = Catalogue(list(Catalogue.load(items.open() / "items.parquet"))[:3])
    with workspace.write(items, Recipe("fetch-dataset", 1)) as folder:
        fewer.save(folder / "items.parquet")
    with pytest.raises(ArtifactMissing, match="'tiny/kg/metadata' is stale: it was built from other items"):
        show(space, dataset="tiny", name=None, title="Alder")


@pytest.mark.realdata
def test_the_two_real_datasets_get_their_graphs(tmp_path, shared_data):
    space, kg = Workspace(tmp_path), shared_data / "kg"
    fetch_dataset(space, dataset="inspired", form="unicrs", source=shared_data / "inspired")
    built = build_kg(space, dataset="inspired-unicrs", from_=kg / "inspired_unicrs")
    counts = built.statistics
    assert (counts["entities"], counts["triples"], counts["linked_items"]) == (17320, 30360, 1472)
    assert built.notes == ["12 relations (13 with the self-loops that models add)"]
    cut = build_kg(
        space, dataset="inspired-unicrs", relations=kg / "inspired_unicrs" / "relation_set.json",
        from_=shared_data / "dbpedia_raw" / "inspired_subkg.reconstructed.nt.gz",
    )  # fmt: skip
    assert (cut.statistics["entities"], cut.statistics["triples"]) == (16734, 29577)
    fetch_dataset(space, dataset="redial", source=shared_data / "redial")
    built = build_kg(
        space, dataset="redial", from_=kg / "redial_unicrs", item_uris=kg / "redial_kgsf" / "id2entity.json"
    )
    counts = built.statistics
    assert (counts["entities"], counts["triples"]) == (31161, 81332)
    assert counts["item_entities"] > 6200
    assert "24 relations (25 with the self-loops that models add)" in built.notes
    lines = show(space, dataset="redial", name="unicrs", title="The Matrix (1999)")
    assert "│  └─ The Wachowskis" in lines
