import gzip
import json

import pytest

from crscli.catalogue import Catalogue, Item
from crscli.console import Console
from crscli.datasets import jsonl
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import Link
from crscli.errors import DataError

ODD_TITLES = ["None", "NA", "null", "300", "[rec]", "[/]", ":bomb:", "nan", "True", "[bold]x[/bold]", "-1", "1e5"]


def lines(rows):
    return "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows)


def write(folder, *, items=None, csv=None, **files):
    folder.mkdir(exist_ok=True)
    if csv is not None:
        (folder / "items.csv").write_text(csv, encoding="utf-8", newline="")
    else:
        (folder / "items.jsonl").write_text(lines(ITEMS if items is None else items), encoding="utf-8")
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text(lines(rows), encoding="utf-8")
    return folder


ITEMS = [{"item_id": "a", "title": "Alder (1990)"}, {"item_id": "b", "title": "Birch", "year": 2001}]


def talk(num=1, *turns, **more):
    shaped = [{"role": role, "text": text} for role, text in turns or [("seeker", "hi")]]
    return {"dialogue_id": f"d{num}", "turns": shaped} | more


def turn(text, role="seeker", **more):
    return {"dialogue_id": "d1", "turns": [{"role": role, "text": text} | more]}


def read(folder, bad=None):
    return jsonl.read(Source(folder, jsonl.ALLOW), bad=bad or BadRows(), name="mine")


def item(tmp_path, **fields):
    rows = [{"item_id": "x", "title": "X"} | fields]
    return read(write(tmp_path, items=rows, dialogues=[turn("hi")])).items[0]


def named(found):
    return [(link.id, found.text[link.start : link.end] if link.start >= 0 else None) for link in found.links]


# ---- items ----------------------------------------------------------------------------------------------------


def test_every_field_of_an_item_is_read(tmp_path):
    found = item(
        tmp_path, title="Heat", year=1995, genres=["Crime", "Drama"], directors=["M. Mann"], cast=["A", "B"],
        keywords=["heist"], plot="Cops. Robbers.",
    )  # fmt: skip
    assert found == Item("x", "Heat", 1995, ("Crime", "Drama"), ("M. Mann",), ("A", "B"), ("heist",), "Cops. Robbers.")


@pytest.mark.parametrize(
    ("title", "year", "want"),
    [
        ("Heat (1995)", None, ("Heat", 1995)),
        ("Heat (1995)", 1995, ("Heat", 1995)),
        ("Heat (1995)", 2005, ("Heat (1995)", 2005)),
        ("Heat", "1995", ("Heat", 1995)),
        ("Heat", " 1995 ", ("Heat", 1995)),
        ("Heat", "", ("Heat", None)),
        ("  Heat ", None, ("Heat", None)),
        ("(1984)", None, ("(1984)", None)),
        ("Room (1408)", None, ("Room (1408)", None)),
        ("Case (12345)", None, ("Case (12345)", None)),
        (300, None, ("300", None)),
        (300, 2006, ("300", 2006)),
    ],
)
def test_title_and_year_are_told_apart(tmp_path, title, year, want):
    found = item(tmp_path, title=title, year=year)
    assert (found.title, found.year) == want


def test_a_number_is_an_id_too_and_mentions_of_it_may_be_numbers(tmp_path):
    corpus = read(write(tmp_path, items=[{"item_id": 7, "title": "Heat"}], dialogues=[turn("heat", items=[7])]))
    assert corpus.items[0].item_id == "7"
    assert named(corpus.splits["train"][0].turns[0]) == [("7", "heat")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"title": ""}, "no title"),
        ({"title": " "}, "no title"),
        ({"title": "&nbsp;"}, "no title"),
        ({"title": None}, "no title"),
        ({"item_id": None}, "no item_id"),
        ({"item_id": True}, "item_id is bool, not text"),
        ({"item_id": 1.5}, "item_id is float, not text"),
        ({"title": ["X"]}, "title is list, not text"),
        ({"year": "abc"}, "year 'abc' of item 'x' is no whole number"),
        ({"year": "١٩٩٥"}, "is no whole number"),
        ({"year": 1995.0}, "year 1995.0 of item 'x' is no year"),
        ({"year": True}, "year True of item 'x' is no year"),
        ({"year": 95}, "year 95 of item 'x' is no year"),
        ({"year": "20001"}, "year 20001 of item 'x' is no year"),
        ({"genres": 5}, "genres is no list of texts"),
        ({"cast": ["A", 5]}, "cast is no list of texts"),
        ({"plot": {}}, "plot is dict, not text"),
    ],
)
def test_a_wrong_field_of_an_item_is_refused_with_its_line(tmp_path, fields, words):
    rows = [{"item_id": "ok", "title": "Ok"}, {"item_id": "x", "title": "X"} | fields]
    with pytest.raises(DataError, match=r"items.jsonl:2: ") as caught:
        read(write(tmp_path, items=rows, dialogues=[turn("hi")]))
    assert words in str(caught.value)


def test_a_csv_list_has_lists_between_bars_and_quoted_values_over_lines(tmp_path):
    text = (
        "\ufeffitem_id,title,year,genres,cast,plot,colour\r\n"
        'a,"Heat, the ""film"" (1995)",,Crime|Drama,A. B | C,"one\r\ntwo",red\r\n'
        "\r\n"
        "b,None,2001,,,,\r\n"
    )
    corpus = read(write(tmp_path, csv=text, dialogues=[turn("hi")]))
    assert corpus.items == [
        Item("a", 'Heat, the "film"', 1995, ("Crime", "Drama"), (), ("A. B", "C"), (), "one\ntwo"),
        Item("b", "None", 2001),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item_id,name\na,A\n", r"items.csv:1: no column 'title'; found item_id, name"),
        ("item_id,title,title\na,A,B\n", r"items.csv:1: column 'title' is there 2 times"),
        ("item_id,title\na,A,x\n", r"items.csv:2: 2 values expected, found 3"),
        ("item_id,title\na\n", r"items.csv:2: 2 values expected, found 1"),
        ('item_id,title\na,"A\n', r"items.csv:2: not a table: unexpected end of data"),
        ("item_id,title\na,A\na,B\n", r"items.csv:3: item_id 'a' occurs twice"),
        ("item_id,title,year\na,A,MCMX\n", r"items.csv:2: year 'MCMX' of item 'a' is no whole number"),
        ("item_id,title\n", r"items.csv: no items"),
    ],
)
def test_a_bad_csv_list_is_refused_with_its_line(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read(write(tmp_path, csv=text, dialogues=[turn("hi")]))


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_titles_that_look_like_something_else_stay_titles(tmp_path, capsys, form):
    rows = [{"item_id": str(n), "title": t} for n, t in enumerate(ODD_TITLES)]
    csv = "item_id,title\n" + "".join(f"{r['item_id']},{r['title']}\n" for r in rows) if form == "csv" else None
    corpus = read(write(tmp_path, items=rows, csv=csv, dialogues=[turn("hi")]))
    Catalogue(corpus.items).save(tmp_path / "items.parquet")
    loaded = Catalogue.load(tmp_path / "items.parquet")
    assert [i.title for i in loaded] == ODD_TITLES
    assert loaded.items == Catalogue(corpus.items).items
    with Console() as console:
        console.table(["title"], [[i.title] for i in loaded])
        for found in loaded:
            console.line(found.title)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-len(ODD_TITLES) :] == ODD_TITLES
    assert all(printed.count(title) >= 2 for title in ODD_TITLES)


# ---- dialogues ------------------------------------------------------------------------------------------------


def test_every_field_of_a_dialogue_is_read(tmp_path):
    row = {
        "dialogue_id": "d1",
        "split": "test",
        "order": 5,
        "recommender_id": 9,
        "turns": [
            {"role": "seeker", "text": "I liked Alder"},
            {
                "role": "recommender",
                "text": "Birch, by Jo",
                "links": [
                    {"kind": "item", "id": "b", "start": 0, "end": 5, "opinion": "seen"},
                    {"kind": "person", "id": "Jo", "start": 10, "end": 12},
                    {"kind": "genre", "id": "drama"},
                ],
            },
        ],
    }
    corpus = read(write(tmp_path, dialogues=[row]))
    found = corpus.splits["test"][0]
    assert (corpus.name, corpus.form) == ("mine", "jsonl")
    assert (found.dialogue_id, found.order, found.recommender_id) == ("d1", 5, "9")
    assert found.turns[0].links == ()
    assert found.turns[1].links == (
        Link("item", "b", 0, 5, opinion="seen"),
        Link("person", "Jo", 10, 12),
        Link("genre", "drama"),
    )
    assert found.turns[1].items == ("b",)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Alder (1990)?", "Alder (1990)"),
        ("alder!", "alder"),
        ("alder or Alder (1990)", "Alder (1990)"),
        ("Alders", None),
        ("that one", None),
    ],
)
def test_items_of_a_turn_without_places_are_found_in_the_text(tmp_path, text, want):
    corpus = read(write(tmp_path, dialogues=[turn(text, items=["a"])]))
    assert named(corpus.splits["train"][0].turns[0]) == [("a", want)]


def test_items_named_twice_take_two_places_and_none_of_a_link(tmp_path):
    row = turn("Alder, alder, ALDER", items=["a", "a"], links=[{"kind": "item", "id": "a", "start": 0, "end": 5}])
    found = read(write(tmp_path, dialogues=[row])).splits["train"][0].turns[0]
    assert [(x.start, x.end) for x in found.links] == [(0, 5), (7, 12), (14, 19)]


def test_splits_come_from_a_field_or_from_files_or_both(tmp_path):
    rows = [talk(1), talk(2, split="valid"), talk(3, split="test"), talk(4, split=None)]
    corpus = read(write(tmp_path / "field", dialogues=rows))
    assert {s: [d.dialogue_id for d in ds] for s, ds in corpus.splits.items()} == {
        "train": ["d1", "d4"], "valid": ["d2"], "test": ["d3"],
    }  # fmt: skip
    corpus = read(write(tmp_path / "files", train=[talk(1)], test=[talk(2)]))
    assert {s: len(ds) for s, ds in corpus.splits.items()} == {"train": 1, "test": 1}
    corpus = read(write(tmp_path / "both", dialogues=[talk(1), talk(9, split="test")], test=[talk(2)]))
    assert {s: len(ds) for s, ds in corpus.splits.items()} == {"train": 1, "test": 2}


def test_files_may_be_packed_and_lines_blank(tmp_path):
    write(tmp_path, dialogues=[talk(1), "", "   ", talk(2)])
    plain = tmp_path / "dialogues.jsonl"
    (tmp_path / "dialogues.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    plain.unlink()
    assert len(read(tmp_path).splits["train"]) == 2


def test_a_dialogue_in_two_splits_is_refused(tmp_path):
    with pytest.raises(DataError, match="dialogue 'd1' is in train and in test"):
        read(write(tmp_path, train=[talk(1)], test=[talk(1)]))


def test_a_repeated_dialogue_is_read_once_and_a_different_one_of_its_id_refused(tmp_path):
    corpus = read(write(tmp_path / "same", dialogues=[talk(1), talk(1), talk(2)]))
    assert [d.dialogue_id for d in corpus.splits["train"]] == ["d1", "d2"]
    assert corpus.notes == ["train: 1 dialogues stood there twice and were read once"]
    with pytest.raises(DataError, match="stands for two different dialogues"):
        read(write(tmp_path / "other", dialogues=[talk(1), talk(1, ("seeker", "other"))]))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"dialogue_id": "d", "turns": "hi"}, "turns is no list with at least one turn"),
        ({"dialogue_id": "d", "turns": []}, "turns is no list with at least one turn"),
        ({"dialogue_id": "d"}, "turns is no list with at least one turn"),
        ({"turns": [{"role": "seeker", "text": "x"}]}, "no dialogue_id"),
        ({"dialogue_id": ["d"], "turns": [{"role": "seeker", "text": "x"}]}, "dialogue_id is list, not text"),
        (talk(1, split="dev"), "unknown split 'dev'; known: train, valid, test"),
        (talk(1, split=["test"]), "unknown split ['test']"),
        (talk(1, order="5"), "order '5' is no whole number"),
        (talk(1, order=True), "order True is no whole number"),
        (turn(5), "turn 1: text is int, not text"),
        (turn(None), "turn 1: no text"),
        ({"dialogue_id": "d", "turns": [{"role": "seeker", "text": "x"}, "y"]}, "turn 2: is no object"),
        (turn("x", role="user"), "turn 1: unknown role 'user'; known: seeker, recommender"),
        (turn("x", role=None), "turn 1: unknown role None"),
        (turn("x", items=["zz"]), "turn 1: mentions item 'zz', which is not in the item list"),
        (turn("x", items=[["a"]]), "turn 1: items holds \"['a']\", which is no item_id"),
        (turn("x", items=[{"a": 1}]), "which is no item_id"),
        (turn("x", items=[None]), "which is no item_id"),
        (turn("x", items=[True]), "which is no item_id"),
        (turn("x", items="a"), "turn 1: items is str, not a list"),
        (turn("x", links={"a": 1}), "turn 1: links is dict, not a list"),
        (turn("x", links=[{"kind": "item", "id": "zz"}]), "mentions item 'zz', which is not in the item list"),
        (turn("x", links=[{"kind": "film", "id": "a"}]), "a link needs kind (item, person, genre) and id (text)"),
        (turn("x", links=[{"kind": ["item"], "id": "a"}]), "a link needs kind"),
        (turn("x", links=["a"]), "a link needs kind"),
        (turn("x", links=[{"kind": "item", "id": "a", "start": 0, "end": 2}]), "link to 'a': 0 to 2 is no span"),
        (turn("x", links=[{"kind": "item", "id": "a", "start": 0, "end": 0}]), "is no span of the text"),
        (turn("x", links=[{"kind": "item", "id": "a", "start": 0}]), "is no span of the text"),
        (turn("x", links=[{"kind": "item", "id": "a", "start": "0", "end": "1"}]), "is no span of the text"),
        (turn("xy", links=[{"kind": "item", "id": "a", "start": False, "end": True}]), "is no span of the text"),
        (turn("x", links=[{"kind": "item", "id": "a", "opinion": "meh"}]), "unknown opinion 'meh'"),
    ],
)
def test_a_wrong_field_of_a_dialogue_is_refused_with_its_line(tmp_path, row, words):
    with pytest.raises(DataError, match=r"dialogues.jsonl:2: ") as caught:
        read(write(tmp_path, dialogues=[talk(99), row]))
    assert words in str(caught.value)


def test_bad_rows_of_items_and_dialogues_count_together(tmp_path):
    rows = [*ITEMS, {"item_id": "c"}]
    write(tmp_path, items=rows, dialogues=[talk(1), "{", talk(2)])
    with pytest.raises(DataError, match=r"dialogues.jsonl:2: ") as caught:
        read(tmp_path, BadRows(1))
    assert caught.value.hint == "more than 1 bad rows: mend the file, or allow more with --max-bad-rows"
    bad = BadRows(2)
    assert len(read(tmp_path, bad).splits["train"]) == 2
    assert bad.count == 2


def test_missing_files_are_named(tmp_path):
    (tmp_path / "train.jsonl").write_text(lines([talk(1)]))
    with pytest.raises(DataError, match=r"no item list; expected items.jsonl or items.csv"):
        read(tmp_path)
    (tmp_path / "items.jsonl").write_text(lines(ITEMS))
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"no dialogues; expected dialogues.jsonl or train.jsonl, valid.jsonl"):
        read(tmp_path)
