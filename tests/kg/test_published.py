import gzip
import json

import pytest

from crscli.catalogue import Catalogue, Item, split_title
from crscli.datasets import unicrs
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.errors import DataError
from crscli.kg.published import find, import_graph, read, read_item_uris

R, O = "<http://dbpedia.org/resource/{}>".format, "<http://dbpedia.org/ontology/{}>".format  # noqa: E741
ITEMS = {"10": "Heat (1995)", "11": "Emma (2020)", "12": "Emma (1996)", "13": "Up (2009)"}

UNICRS = {
    "entity2id.json": {R("Heat_(1995_film)"): 3, R("Emma_(film)"): 1, R("Ann"): 0, R("Emma_(2020_film)"): 2},
    "relation2id.json": {O("starring"): 0, O("editing"): 1, "self_loop": 2},
    "dbpedia_subkg.json": {"3": [[2, 3], [0, 0], [1, 0]], "2": [[2, 2], [0, 0], [0, 0]], "1": [[2, 1]]},
    "item_ids.json": [1, 2, 3],
}
KGSF = {
    "entity2entityId.json": {R("Heat_(1995_film)"): 0, "13": 1, R("Ann"): 2, R("Emma"): 3},
    "subkg.json": {"0": [[7, 2], [5, 0]], "1": [[5, 1]], "3": [[7, 2], [5, 3]]},
    "id2entity.json": {"10": R("Heat_(1995_film)"), "11": R("Emma"), "13": None},
}
IEVALM = {
    "entity2id.json": {"Heat (1995)": 0, "Ann": 1, "drama": 2, "Emma (2020)": 3},
    "relation2id.json": {"star": 0, "genre": 1},
    "kg.json": {"0": [[0, 1], [1, 2]], "3": [[1, 2]]},
    "entity2type.json": {"Heat (1995)": "movie", "Ann": "person", "drama": "genre", "Emma (2020)": "movie"},
    "item_ids.json": [0, 3],
    "id2info.json": {"13": {"name": "Heat (1995)"}, "10": {"name": "Unknown (1900)"}},
}


def catalogue(items=ITEMS):
    return Catalogue(Item(item_id, *split_title(name)) for item_id, name in items.items())


def write(folder, files, packed=False):
    folder.mkdir(exist_ok=True)
    for name, value in files.items():
        content = json.dumps(value).encode()
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def imported(folder, files, given=None, items=ITEMS, **more):
    form, found = find(write(folder, files, **more))
    graph, matched = import_graph(read(form, found), catalogue(items), given or {})
    triples = {(graph.entities.ids[h], graph.relations.ids[r], graph.entities.ids[t]) for h, r, t in graph.triples}
    links = {i: graph.entities.ids[e] for i, e in zip(graph.items.ids, graph.item_entities, strict=True) if e >= 0}
    return form, triples, links, graph, matched


@pytest.mark.parametrize("packed", [False, True])
def test_unicrs(tmp_path, packed):
    form, triples, links, graph, _ = imported(tmp_path / "kg", UNICRS, packed=packed)
    assert form == "unicrs"
    heat, emma, ann = R("Heat_(1995_film)"), R("Emma_(2020_film)"), R("Ann")
    assert triples == {(heat, O("starring"), ann), (heat, O("editing"), ann), (emma, O("starring"), ann)}
    assert links == {"10": heat, "11": emma, "12": R("Emma_(film)")}
    assert graph.entities.ids == tuple(sorted(UNICRS["entity2id.json"]))
    assert graph.relations.ids == (O("editing"), O("starring"))


def test_other_numbers_of_the_same_graph_give_the_same_graph(tmp_path):
    renumbered = UNICRS | {
        "entity2id.json": {name: 3 - num for name, num in UNICRS["entity2id.json"].items()},
        "dbpedia_subkg.json": {"0": [[0, 3], [1, 3]], "1": [[0, 3]], "2": [[2, 2]]},
        "item_ids.json": [0, 2, 1],
    }
    first, second = imported(tmp_path / "a", UNICRS)[3], imported(tmp_path / "b", renumbered)[3]
    assert first.entities.ids == second.entities.ids
    assert first.triples.tolist() == second.triples.tolist()
    assert first.item_entities.tolist() == second.item_entities.tolist()


def test_without_a_list_of_items_the_films_are_what_has_actors_or_directors(tmp_path):
    links = imported(tmp_path / "kg", {name: v for name, v in UNICRS.items() if name != "item_ids.json"})[2]
    assert links == {"10": R("Heat_(1995_film)"), "11": R("Emma_(2020_film)")}


def test_the_users_map_and_ids_that_are_resources_come_before_titles(tmp_path):
    given = {"13": R("Emma_(film)"), "10": R("Unknown")}
    links = imported(tmp_path / "kg", UNICRS, given)[2]
    assert links["13"] == R("Emma_(film)")
    assert links["10"] == R("Heat_(1995_film)"), "what the graph does not have is looked for by title"
    by_id = imported(tmp_path / "kg", UNICRS, items={"http://dbpedia.org/resource/Emma_(film)": "Heat (1995)"})[2]
    assert by_id == {"http://dbpedia.org/resource/Emma_(film)": R("Emma_(film)")}


@pytest.mark.parametrize("packed", [False, True])
def test_kgsf(tmp_path, packed):
    form, triples, links, graph, _ = imported(tmp_path / "kg", KGSF, packed=packed)
    assert form == "kgsf"
    assert triples == {(R("Heat_(1995_film)"), "relation:007", R("Ann")), (R("Emma"), "relation:007", R("Ann"))}
    assert links == {"10": R("Heat_(1995_film)"), "11": R("Emma"), "13": "item:13"}
    assert graph.linked.tolist() == [True, True, False, False], "a node without a resource is no link"


def test_ievalm(tmp_path):
    form, triples, links, graph, _ = imported(tmp_path / "kg", IEVALM)
    assert form == "ievalm"
    heat, emma = "movie:Heat (1995)", "movie:Emma (2020)"
    assert triples == {(heat, "star", "person:Ann"), (heat, "genre", "genre:drama"), (emma, "genre", "genre:drama")}
    assert links == {"13": heat, "11": emma}
    assert graph.linked.tolist() == [False, True, False, True]


def test_a_folder_of_something_else_is_no_graph(tmp_path):
    assert find(write(tmp_path / "a", {"entity2id.json": {}})) is None
    assert find(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entity2id.json": [1]}, "entity2id.json: a JSON object was expected"),
        ({"item_ids.json": {}}, "item_ids.json: a JSON list was expected"),
        ({"item_ids.json": [9]}, "item_ids.json: entity 9 has no name"),
        ({"item_ids.json": [[]]}, r"item_ids.json: entity \[\] has no name"),
        ({"relation2id.json": {"a": 0}}, "dbpedia_subkg.json: relation [12] has no name"),
        ({"dbpedia_subkg.json": {"77": [[0, 1]]}}, "dbpedia_subkg.json: entity 77 has no name"),
        ({"dbpedia_subkg.json": {"1": [[0]]}}, r"dbpedia_subkg.json: \{\"head\": \[\[relation, tail\]"),
        ({"entity2id.json": {"a": 0, "b": 0}}, "every name must have a number of its own"),
        ({"entity2id.json": {"a": "0"}}, "every name must have a number of its own"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        read(*find(write(tmp_path / "kg", UNICRS | change)))


def test_files_that_are_no_json_are_refused(tmp_path):
    folder = write(tmp_path / "kg", UNICRS)
    (folder / "entity2id.json").write_text('{"a": 1')
    with pytest.raises(DataError, match=r"entity2id.json: not JSON: "):
        read(*find(folder))
    (folder / "entity2id.json").unlink()
    (folder / "entity2id.json.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"entity2id.json.gz: the archive is damaged"):
        read(*find(folder))


def test_a_map_of_items_is_read_with_and_without_brackets(tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"1": R("A"), "2": None, "3": "http://x/B"}))
    assert read_item_uris(path) == {"1": R("A"), "3": "<http://x/B>"}
    path.write_text('{"1": 5}')
    with pytest.raises(DataError, match="item '1': a resource was expected, found 5"):
        read_item_uris(path)


# ---- the published graphs -------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "form", "entities", "triples", "relations"),
    [
        ("redial_unicrs", "unicrs", 31161, 81332, 24),
        ("inspired_unicrs", "unicrs", 17320, 30360, 12),
        ("redial_ievalm", "ievalm", 24630, 56965, 4),
        ("inspired_cfcrs", "ievalm", 4713, 8869, 3),
        ("redial_kgsf", "kgsf", 64362, 158772, 213),
    ],
)
def test_published_graphs_are_imported_whole(shared_data, folder, form, entities, triples, relations):
    found = find(shared_data / "kg" / folder)
    graph, _ = import_graph(read(*found), catalogue(), {})
    counts = graph.statistics()
    assert found[0] == form
    assert (counts["entities"], counts["triples"], counts["relations"]) == (entities, triples, relations)


@pytest.mark.realdata
def test_every_film_of_inspireds_linked_form_is_in_its_graph(shared_data):
    corpus = unicrs.read(Source(shared_data / "inspired", unicrs.ALLOW), bad=BadRows())
    graph, matched = import_graph(read(*find(shared_data / "kg" / "inspired_unicrs")), Catalogue(corpus.items), {})
    assert graph.statistics()["item_entities"] == graph.statistics()["linked_items"] == 1472
    assert matched.ambiguous == []
