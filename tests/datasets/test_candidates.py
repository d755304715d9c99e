import json
import pickle
import zipfile

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.datasets.candidates import read_candidates
from crscli.errors import DataError

CATALOGUE = Catalogue(
    [
        Item("1", "It", 1990),
        Item("2", "It", 2017),
        Item("3", "Heat", 1995),
        Item("4", "Solaris"),
        Item("300", "Alien", 1979),
        Item("5", "300", 2006),
        Item("6", "[rec]", 2007),
    ]
)


def read(tmp_path, *entries, name="list.txt"):
    lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ids(read_candidates(tmp_path / name, CATALOGUE))


def ids(nums):
    assert nums.dtype == np.int64
    assert list(nums) == sorted(set(nums.tolist()))
    return [CATALOGUE[int(n)].item_id for n in nums]


@pytest.mark.parametrize(
    ("entry", "want"),
    [
        ("3", ["3"]),
        ("heat", ["3"]),
        ("  HEAT  ", ["3"]),
        ("Heat (1995)", ["3"]),
        ("Heat  (1995) ", ["3"]),
        ("It", ["1", "2"]),
        ("it (2017)", ["2"]),
        ("Solaris (1972)", ["4"]),
        ("[rec]", ["6"]),
        ("300", ["300"]),
        ("300 (2006)", ["5"]),
        ({"item_id": "300"}, ["300"]),
        ({"item_id": 3}, ["3"]),
        ({"title": "300"}, ["5"]),
        ({"title": "300", "plot": "x"}, ["5"]),
        ({"title": "It"}, ["1", "2"]),
        ({"title": "It", "year": 1990}, ["1"]),
        ({"title": "It (1990)", "year": None}, ["1"]),
    ],
)
def test_an_entry_is_an_id_or_a_title_with_or_without_its_year(tmp_path, entry, want):
    assert read(tmp_path, entry) == want


def test_entries_may_repeat_be_blank_or_unknown(tmp_path):
    assert read(tmp_path, "heat", "", "3", "   ", "no such film", "It (1985)", {"title": "Solaris"}) == ["3", "4"]


def write_db(path, table):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(table, protocol=2))
    return path


def test_a_movie_db_gives_its_titles_not_its_numbers(tmp_path):
    path = write_db(
        tmp_path / "movie_db", {3: "300 [SEP] a [SEP] b [SEP] c [SEP] d", 4: "it [SEP]  [SEP]  [SEP]  [SEP] "}
    )
    assert ids(read_candidates(path, CATALOGUE)) == ["1", "2", "5"]


@pytest.mark.parametrize("name", ["list[1].txt", "a*b", "items.jsonl", "Liste für uns.csv"])
def test_the_file_may_have_any_name(tmp_path, name):
    assert read(tmp_path, "heat", name=name) == ["3"]


def test_the_folder_around_the_file_is_not_searched(tmp_path, monkeypatch):
    monkeypatch.setattr("os.walk", lambda *_, **__: pytest.fail("walked"))
    assert read(tmp_path, "heat") == ["3"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no such film\nnor this\n", "none of its 2 entries is an item of this catalogue"),
        (b"", "is empty"),
        (b'{"title": "x"\n', "not JSON"),
        (b'heat\n{"name": "x"}\n', ":2: no item_id and no title"),
        (b'{"title": ["x"]}\n', ":1: no item_id and no title"),
        (b"heat\n\xff\n", ":2: not UTF-8"),
        (b"PK\x03\x04 cut", "a zip archive cut short"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, content, words):
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_candidates(tmp_path / "list", CATALOGUE)
    assert words in str(caught.value)
    assert str(tmp_path / "list") in str(caught.value)


def test_a_missing_list_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_candidates(tmp_path / "none", CATALOGUE)
    with pytest.raises(DataError, match="is a folder"):
        read_candidates(tmp_path, CATALOGUE)
    with pytest.raises(DataError, match="none of its 0 entries"):
        read_candidates(write_db(tmp_path / "movie_db", [1]), CATALOGUE)
