import json
import pickle
import zipfile

import pytest

from crscli.catalogue import Item
from crscli.datasets import dataset_form, pecrs, unicrs
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.errors import DataError, UsageError


def write_torch(path, value):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
        archive.writestr("archive/version", "3\n")
    return path


def read(reader, folder, bad=None, **more):
    return reader.read(Source(folder, reader.ALLOW), bad=bad or BadRows(), **more)


def named(turn):
    return [(link.id, turn.text[link.start : link.end] if link.start >= 0 else None) for link in turn.links]


# ---- PECRS ----------------------------------------------------------------------------------------------------

FILMS = {
    7: "heat [SEP] A. Pacino, R. De Niro [SEP] M. Mann [SEP] Crime, Drama [SEP] Cops and robbers.",
    3: "akira [SEP] nan [SEP] nan [SEP]  [SEP] ",
}


def test_slots_are_filled_with_the_films_and_linked_exactly(tmp_path):
    write_torch(tmp_path / "movie_db", FILMS)
    turns = [
        ("B: Hi, QUOTATION_MARKaQUOTATION_MARK &amp; b", None),
        ("A: Try [MOVIE_ID] or [MOVIE_ID]!", [7, 3]),
        ("B: [MOVIE_ID]", [3]),
        ("A: ", None),
    ]
    write_torch(tmp_path / "test_data_processed", [(956, turns)])
    corpus = read(pecrs, tmp_path)
    assert (corpus.name, corpus.form, corpus.notes) == ("redial", "pecrs", [])
    assert corpus.items == [
        Item("7", "heat", None, ("crime", "drama"), ("M. Mann",), ("A. Pacino", "R. De Niro"), (), "Cops and robbers."),
        Item("3", "akira"),
    ]
    found = corpus.splits["test"][0]
    assert found.dialogue_id == "test-00000"
    assert [(t.role, t.text) for t in found.turns] == [
        ("seeker", 'Hi, "a" & b'),
        ("recommender", "Try heat or akira!"),
        ("seeker", "akira"),
        ("recommender", ""),
    ]
    assert [named(t) for t in found.turns] == [[], [("7", "heat"), ("3", "akira")], [("3", "akira")], []]


def test_slots_and_ids_of_different_number_are_mentions_without_a_place(tmp_path):
    write_torch(tmp_path / "movie_db", FILMS)
    turns = [("A: [MOVIE_ID] and [MOVIE_ID]", [7]), ("B: no slot", [7, 3]), ("A: [MOVIE_ID]", None)]
    write_torch(tmp_path / "test_data_processed", [(1, turns)])
    found = read(pecrs, tmp_path).splits["test"][0].turns
    assert [t.text for t in found] == ["(a film) and (a film)", "no slot", "(a film)"]
    assert [named(t) for t in found] == [[("7", None)], [("7", None), ("3", None)], []]


def test_without_a_film_list_the_named_films_are_items_by_number(tmp_path):
    write_torch(tmp_path / "train_data_processed", [("SEEKER", [("A: [MOVIE_ID]", [10])])])
    write_torch(tmp_path / "dev_data_processed", [("SEEKER", [("A: [MOVIE_ID].", [9])])])
    corpus = read(pecrs, tmp_path)
    assert corpus.name == "inspired"
    assert [(i.item_id, i.name) for i in corpus.items] == [("9", "film 9"), ("10", "film 10")]
    assert {s: ds[0].turns[0].text for s, ds in corpus.splits.items()} == {"train": "film 10", "valid": "film 9."}
    assert corpus.notes == ["no movie_db: the 2 films named in any split are the items, without titles"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": 1}, "a list of dialogues expected, found dict"),
        ([5], "dialogue 0: "),
        ([(1, 5)], "dialogue 0: "),
        ([(1, [("A: x", None)]), (1, [("x", None)])], "dialogue 1: a text that begins with 'A: ' or 'B: ' expected"),
        ([(1, [(5, None)])], "a text that begins with 'A: ' or 'B: ' expected, found '5'"),
        ([(1, [("A: x", 7)])], "item ids or nothing expected, found '7'"),
        ([(1, [("A: x", ["7"])])], "item ids or nothing expected"),
    ],
)
def test_another_shape_is_refused(tmp_path, data, words):
    write_torch(tmp_path / "test_data_processed", data)
    with pytest.raises(DataError, match="test_data_processed: ") as caught:
        read(pecrs, tmp_path)
    assert words in str(caught.value)


def test_a_bad_first_dialogue_may_be_skipped(tmp_path):
    write_torch(tmp_path / "test_data_processed", [5, (1, [("A: x", None)])])
    assert [d.dialogue_id for d in read(pecrs, tmp_path, BadRows(1)).splits["test"]] == ["test-00001"]


@pytest.mark.parametrize(
    ("films", "words"),
    [
        ([1], "a table of films expected, found list"),
        ({7: "heat [SEP] x"}, "film 7: 5 fields separated by [SEP] expected, found 2"),
        ({7: 5}, "film 7: 5 fields separated by [SEP] expected, found 0"),
    ],
)
def test_another_film_list_is_refused(tmp_path, films, words):
    write_torch(tmp_path / "test_data_processed", [(1, [("A: x", None)])])
    write_torch(tmp_path / "movie_db", films)
    with pytest.raises(DataError, match="movie_db: ") as caught:
        read(pecrs, tmp_path)
    assert words in str(caught.value)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_code_in_the_container_is_never_run(tmp_path, capsys):
    write_torch(tmp_path / "test_data_processed", [Evil()])
    with pytest.raises(DataError, match="its pickle is refused, nothing of it was run"):
        read(pecrs, tmp_path)
    assert "run" not in capsys.readouterr().out


def test_films_alone_are_no_dataset(tmp_path):
    write_torch(tmp_path / "movie_db", FILMS)
    with pytest.raises(DataError, match=r"none of train_data_processed, dev_data_processed, test_data_processed"):
        read(pecrs, tmp_path)


# ---- UniCRS ---------------------------------------------------------------------------------------------------


def uturn(text, role="SEEKER", films=()):
    return {
        "text": text,
        "role": role,
        "movie": [name for name, _ in films],
        "entity_link": ["<http://dbpedia.org/resource/Film>"],
        "entity_name": ["film"],
        "movie_link": [f"<{link}>" for _, link in films],
        "movie_name": [name for name, _ in films],
    }


DB = "http://dbpedia.org/resource/"


def write_unicrs(folder, *dialogues, name="test_data_dbpedia.jsonl"):
    (folder / name).write_text("".join(json.dumps(d) + "\n" for d in dialogues))
    return folder


def test_a_line_is_a_list_of_turns_with_linked_films(tmp_path):
    films = [("Heat (1995)", DB + "Heat_(1995_film)"), ("Akira ()", DB + "Akira")]
    dialogue = [uturn("Hi &amp; bye"), uturn("Akira, heat?", "RECOMMENDER", films)]
    corpus = read(unicrs, write_unicrs(tmp_path, dialogue, dialogue, name="unicrs_test_data_dbpedia.jsonl"))
    assert (corpus.name, corpus.form) == ("inspired", "unicrs")
    assert [d.dialogue_id for d in corpus.splits["test"]] == ["test-00001", "test-00002"]
    found = corpus.splits["test"][0].turns
    assert [(t.role, t.text) for t in found] == [("seeker", "Hi & bye"), ("recommender", "Akira, heat?")]
    assert named(found[1]) == [(DB + "Heat_(1995_film)", "heat"), (DB + "Akira", "Akira")]


@pytest.mark.parametrize(
    ("resource", "title", "year"),
    [
        ("Hustlers_(2019_film)", "Hustlers", 2019),
        ("Heat_(film)", "Heat", None),
        ("It_(miniseries)", "It", None),
        ("Fargo_(2014_TV_series)", "Fargo", 2014),
        ("Am%C3%A9lie", "Amélie", None),
        ("Akira", "Akira", None),
        ("2012_(film)", "2012", None),
        ("300_(2006_film)", "300", 2006),
        ("Who's_That?", "Who's That?", None),
    ],
)
def test_a_resource_tells_title_and_year(tmp_path, resource, title, year):
    corpus = read(unicrs, write_unicrs(tmp_path, [uturn("x", "SEEKER", [("X (2000)", DB + resource)])]))
    assert corpus.items == [Item(DB + resource, title, year)]


def test_two_equal_copies_are_read_once_and_different_ones_refused(tmp_path):
    write_unicrs(tmp_path, [uturn("x")])
    write_unicrs(tmp_path, [uturn("x")], name="unicrs_test_data_dbpedia.jsonl")
    corpus = read(unicrs, tmp_path)
    assert len(corpus.splits["test"]) == 1
    assert corpus.notes == ["test: 1 dialogues stood there twice and were read once"]
    write_unicrs(tmp_path, [uturn("y")], name="unicrs_test_data_dbpedia.jsonl")
    with pytest.raises(DataError, match="dialogue id 'test-00001' stands for two different dialogues"):
        read(unicrs, tmp_path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "x"}, "a list was expected, found a JSON object"),
        (["x"], "no dialogue of UniCRS's form"),
        ([{"text": "x"}], "no field 'role'"),
        ([uturn("x", "WIZARD")], "unknown role 'WIZARD'; known: RECOMMENDER, SEEKER"),
        ([uturn(5)], "no dialogue of UniCRS's form"),
        ([uturn("x", films=[("X", " ")])], "an empty movie_link"),
        ([uturn("x") | {"movie_link": [5]}], "no dialogue of UniCRS's form"),
        ([uturn("x") | {"movie_link": None}], "no dialogue of UniCRS's form"),
        ([uturn("x", films=[("X", "x")]) | {"movie_name": [5]}], "no dialogue of UniCRS's form"),
    ],
)
def test_another_line_is_refused_with_its_number_or_skipped(tmp_path, row, words):
    write_unicrs(tmp_path, [uturn("x")], row)
    with pytest.raises(DataError, match=r"test_data_dbpedia.jsonl:2: ") as caught:
        read(unicrs, tmp_path)
    assert words in str(caught.value)
    assert len(read(unicrs, tmp_path, BadRows(1)).splits["test"]) == 1


@pytest.mark.parametrize("reader", [pecrs, unicrs])
def test_processed_forms_have_no_mention_sequences(reader, tmp_path):
    write_unicrs(tmp_path, [uturn("x")])
    write_torch(tmp_path / "test_data_processed", [])
    with pytest.raises(DataError, match="this form has no mention sequences"):
        read(reader, tmp_path, sequences=True)


def test_the_first_form_is_taken_and_unknown_names_suggest_the_nearest():
    assert dataset_form("redial", None)[1] == "published"
    assert dataset_form("jsonl", None)[1] == "jsonl"
    with pytest.raises(UsageError, match="unknown dataset 'redail'") as caught:
        dataset_form("redail", None)
    assert "did you mean redial?" in caught.value.hint
    with pytest.raises(UsageError, match="unknown form of inspired 'unicr'") as caught:
        dataset_form("inspired", "unicr")
    assert "did you mean unicrs" in caught.value.hint
