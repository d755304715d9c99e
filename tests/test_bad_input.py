import errno
import gzip
import io
import json
import pickle
import shutil
import socket
import tarfile
import zipfile

import pytest
from typer.testing import CliRunner

from crscli.cli import app
from crscli.datasets import jsonl, redial, unicrs
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import load_dialogues, to_json
from crscli.errors import DataError
from crscli.workspace import Workspace

ITEMS = [{"item_id": "a", "title": "Alder", "year": 1990}, {"item_id": "b", "title": "Birch"}]
TALKS = [
    {
        "dialogue_id": f"d{num}",
        "split": split,
        "turns": [
            {"role": "seeker", "text": "I liked Alder", "items": ["a"]},
            {"role": "recommender", "text": "Then Birch", "items": ["b"]},
        ],
    }
    for num, split in enumerate(["train"] * 8 + ["valid", "test", "test"])
]


def lines(rows):
    return "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows).encode()


def talk(**change):
    return TALKS[0] | {"dialogue_id": "x"} | change


def says(**change):
    return talk(turns=[{"role": "seeker", "text": "hi"} | change])


def write(folder, files):
    """Write files over a good dataset; None takes one away."""
    folder.mkdir(exist_ok=True)
    for name, data in ({"items.jsonl": lines(ITEMS), "dialogues.jsonl": lines(TALKS)} | files).items():
        if data is not None:
            (folder / name).write_bytes(data)
    return folder


def crs(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def content(root):
    """Every file and folder of a workspace but the locks."""
    return {
        p.relative_to(root).as_posix(): p.read_bytes() if p.is_file() else None
        for p in sorted(root.rglob("*"))
        if ".locks" not in p.parts
    }


@pytest.fixture(scope="session")
def good_workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    made = crs("fetch-dataset", "-d", "jsonl", "--from", write(root / "source", {}), "--name", "mine", "-w", root / "w")
    assert made.exit_code == 0, made.output
    return root / "w"


@pytest.fixture
def refused(tmp_path, good_workspace):
    """Runs a command that must fail, in an empty workspace and in one that has the dataset; gives the message."""

    def run(*arguments, code, name="mine"):
        empty, old = tmp_path / "empty", tmp_path / "old"
        shutil.copytree(good_workspace, old)
        before = content(old)
        named = ["--name", name] if name else []
        results = [crs(*arguments, *named, "-w", root) for root in (empty, old)]
        for result in results:
            assert result.exit_code == code, result.output
            assert result.exception is None or isinstance(result.exception, SystemExit)
            assert result.stdout == ""
        assert content(old) == before
        assert all(Workspace(old).artifact("mine", kind).open() for kind in ("items", "dialogues"))
        assert not [p for p in empty.rglob("*") if p.is_file() and ".locks" not in p.parts]
        assert results[0].stderr.replace(str(empty), str(old)) == results[1].stderr
        return results[1].stderr

    return run


def fetch_folder(refused, tmp_path, files, *options, code=4):
    source = write(tmp_path / "source", files)
    return refused("fetch-dataset", "-d", "jsonl", "--from", source, *options, code=code)


# ---- contents of the files ------------------------------------------------------------------------------------

DEEP = "[" * 100_000
FILES = {
    "an empty file": ({"dialogues.jsonl": b""}, "dialogues.jsonl: is empty (0 bytes)"),
    "an empty item list": ({"items.jsonl": b""}, "items.jsonl: is empty (0 bytes)"),
    "blank lines only": ({"dialogues.jsonl": b"\n \n"}, "dialogues.jsonl: no row in it"),
    "not UTF-8": (
        {"dialogues.jsonl": lines(TALKS[:1]) + '{"dialogue_id": "é"}'.encode("latin-1")},
        "dialogues.jsonl:2: not UTF-8: 0xe9 at byte 18 of the line",
    ),
    "a line cut in the middle": (
        {"dialogues.jsonl": lines(TALKS)[:-40]},
        "dialogues.jsonl:11: cut in the middle: the line ends at column",
    ),
    "no JSON": ({"dialogues.jsonl": b"hello\n"}, "dialogues.jsonl:1: not JSON: Expecting value at column 1: 'hello'"),
    "a document over several lines": (
        {"dialogues.jsonl": json.dumps(TALKS, indent=1).encode()},
        "dialogues.jsonl:1: one JSON object a line was expected, found a document over several lines",
    ),
    "a list": ({"dialogues.jsonl": b"[]\n"}, "dialogues.jsonl:1: a JSON object was expected, found a list"),
    "nested too deeply": ({"dialogues.jsonl": (DEEP + "\n").encode()}, "dialogues.jsonl:1: "),
    "NaN": (
        {"items.jsonl": b'{"item_id": "a", "title": "Alder", "year": NaN}\n'},
        "items.jsonl:1: not JSON: NaN is no finite number",
    ),
    "Infinity": (
        {"items.jsonl": b'{"item_id": "a", "title": "Alder", "year": 1e999}\n'},
        "items.jsonl:1: not JSON: 1e999 is no finite number",
    ),
    "half a surrogate pair": ({"dialogues.jsonl": b'{"dialogue_id": "\\ud83d"}\n'}, "half a surrogate pair"),
    "a field of 5 MB": (
        {"dialogues.jsonl": lines([says(text="x" * 5_000_000)])},
        "dialogues.jsonl:1: a line longer than 4,194,304 bytes",
    ),
    "a field of 5 MB in a table": (
        {"items.jsonl": None, "items.csv": b'item_id,title\na,"' + (b"x" * 999 + b"\n") * 5_000 + b'"\n'},
        "items.csv:",
    ),
    "turns no list": ({"dialogues.jsonl": lines([talk(turns="hi")])}, "dialogues.jsonl:1: turns is no list"),
    "text a number": ({"dialogues.jsonl": lines([says(text=5)])}, "dialogues.jsonl:1: turn 1: text is int, not text"),
    "an unknown role": (
        {"dialogues.jsonl": lines([says(role="[/]")])},
        "dialogues.jsonl:1: turn 1: unknown role '[/]'; known: seeker, recommender",
    ),
    "an unknown split": ({"dialogues.jsonl": lines([talk(split="dev")])}, "unknown split 'dev'"),
    "a year that is none": (
        {"items.jsonl": lines([ITEMS[0] | {"year": "abc"}])},
        "items.jsonl:1: year 'abc' of item 'a' is no whole number",
    ),
    "an unknown item": (
        {"dialogues.jsonl": lines([says(items=["[rec]"])])},
        "dialogues.jsonl:1: turn 1: mentions item '[rec]', which is not in the item list",
    ),
    "an item id that is a list": ({"dialogues.jsonl": lines([says(items=[["a"]])])}, "which is no item_id"),
    "an item id twice": (
        {"items.jsonl": lines([*ITEMS, ITEMS[0]])},
        "items.jsonl:3: item_id 'a' occurs twice",
    ),
    "a dialogue id twice": (
        {"dialogues.jsonl": lines([*TALKS, says() | {"dialogue_id": "d0", "split": "train"}])},
        "train: dialogue id 'd0' stands for two different dialogues",
    ),
    "a dialogue in two splits": (
        {"dialogues.jsonl": lines([*TALKS, TALKS[0] | {"split": "test"}])},
        "dialogue 'd0' is in train and in test",
    ),
    "a split in two files": (
        {"dialogues.jsonl": None, "train.jsonl": lines(TALKS), "train.jsonl.gz": gzip.compress(lines(TALKS))},
        "both train.jsonl and train.jsonl.gz are there: which one counts?",
    ),
    "a gz cut short": (
        {"dialogues.jsonl": None, "dialogues.jsonl.gz": gzip.compress(lines(TALKS))[:-20]},
        "dialogues.jsonl.gz: broken or cut short",
    ),
    "a gz that is none": (
        {"dialogues.jsonl": None, "dialogues.jsonl.gz": lines(TALKS)},
        "dialogues.jsonl.gz: broken or cut short (Not a gzipped file",
    ),
    "an empty gz": ({"dialogues.jsonl": None, "dialogues.jsonl.gz": gzip.compress(b"")}, "is empty (0 bytes)"),
    "no item list": ({"items.jsonl": None}, "no item list; expected items.jsonl or items.csv"),
    "no dialogues": ({"dialogues.jsonl": None}, "no dialogues; expected dialogues.jsonl or train.jsonl"),
    "a table without a column": (
        {"items.jsonl": None, "items.csv": b"item_id,name\na,Alder\n"},
        "items.csv:1: no column 'title'; found item_id, name",
    ),
    "a table with too many values": (
        {"items.jsonl": None, "items.csv": b"item_id,title\na,Alder\nb,Birch, again\n"},
        "items.csv:3: 2 values expected, found 3",
    ),
    "a table with an open quotation mark": (
        {"items.jsonl": None, "items.csv": b'item_id,title\na,"Alder\nb,Birch\n'},
        "items.csv:3: not a table",
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_bad_content_is_refused_with_its_place_and_nothing_is_written(what, refused, tmp_path):
    files, words = FILES[what]
    told = fetch_folder(refused, tmp_path, files)
    assert told.startswith("error: ")
    assert words in told
    assert "Traceback" not in told


@pytest.mark.parametrize("what", ["text a number", "a year that is none", "not UTF-8"])
def test_a_bad_row_comes_with_the_way_past_it(what, refused, tmp_path):
    told = fetch_folder(refused, tmp_path, FILES[what][0])
    assert "skip it with --max-bad-rows 1" in told.splitlines()[-1]


def test_one_bad_row_may_be_skipped_and_is_told_and_a_second_one_fails(refused, tmp_path):
    source = write(tmp_path / "source", {"dialogues.jsonl": lines(["{bad", *TALKS])})
    options = ["fetch-dataset", "-d", "jsonl", "--from", source, "--max-bad-rows", "1"]
    made = crs(*options, "--name", "mine", "-w", tmp_path / "w")
    assert made.exit_code == 0
    assert f"skipped: {source}/dialogues.jsonl:1: not JSON" in made.stderr
    assert "note: 1 bad rows skipped" in made.stderr
    assert len(load_dialogues(tmp_path / "w" / "mine" / "dialogues" / "train.jsonl")) == 8
    write(source, {"dialogues.jsonl": lines(["{bad", *TALKS, says(text=5)])})
    told = refused(*options, code=4)
    assert "dialogues.jsonl:13: turn 1: text is int, not text" in told
    assert "more than 1 bad rows" in told


ODD = ["None", "NA", "null", "300", "[rec]", "[/]", ":bomb:", "[bold red]x", "nan"]


def test_titles_that_look_like_markup_or_nothing_work_and_print_as_they_are(tmp_path):
    rows = [{"item_id": title, "title": title} for title in ODD]
    told = [says(text=f"I liked {title}", items=[title]) | {"dialogue_id": title, "split": "test"} for title in ODD]
    source = write(tmp_path / "source", {"items.jsonl": lines(rows), "dialogues.jsonl": lines([*told, "{"])})
    options = ["--from", source, "--name", "x", "--max-bad-rows", "1", "-w", tmp_path / "w"]
    made = crs("fetch-dataset", "-d", "jsonl", *options)
    assert made.exit_code == 0, made.stderr
    assert "x: written (jsonl, jsonl); 9 items" in made.stdout
    saved = load_dialogues(tmp_path / "w" / "x" / "dialogues" / "test.jsonl")
    assert [d.dialogue_id for d in saved] == ODD
    assert [d.turns[0].text[x.start : x.end] for d in saved for x in d.turns[0].links] == ODD


@pytest.mark.parametrize("title", ODD)
def test_messages_show_data_as_they_are(title, refused, tmp_path):
    told = fetch_folder(refused, tmp_path, {"dialogues.jsonl": lines([says(items=[title])])})
    assert f"mentions item '{title}', which is not in the item list" in told


# ---- archives -------------------------------------------------------------------------------------------------


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


GOOD = {"data/items.jsonl": lines(ITEMS), "data/dialogues.jsonl": lines(TALKS)}


def test_a_good_archive_is_read_as_it_is(tmp_path):
    path = zipped(tmp_path / "a.zip", GOOD)
    made = crs("fetch-dataset", "-d", "jsonl", "--from", path, "-w", tmp_path / "w")
    assert made.exit_code == 0, made.stderr
    assert "jsonl: written (jsonl, jsonl); 2 items" in made.stdout


@pytest.mark.parametrize("name", ["../items.jsonl", "/etc/items.jsonl", "a/../../x", "C:\\items.jsonl"])
def test_an_archive_that_points_outside_is_refused(name, refused, tmp_path):
    path = zipped(tmp_path / "a.zip", GOOD | {name: b"x"})
    told = refused("fetch-dataset", "-d", "jsonl", "--from", path, code=4)
    assert "points outside the archive: nothing of it is read" in told
    assert not (tmp_path.parent / "items.jsonl").exists()


def test_a_zip_bomb_is_refused(refused, tmp_path):
    path = zipped(tmp_path / "a.zip", GOOD | {"data/items.jsonl": b"\n" * 60_000_000})
    assert path.stat().st_size < 100_000
    told = refused("fetch-dataset", "-d", "jsonl", "--from", path, code=4)
    assert "data/items.jsonl: unpacks to more than 200 times its stored size (a decompression bomb?)" in told


def test_a_zip_cut_short_is_refused(refused, tmp_path):
    path = zipped(tmp_path / "a.zip", GOOD)
    path.write_bytes(path.read_bytes()[:-30])
    assert "a zip archive cut short" in refused("fetch-dataset", "-d", "jsonl", "--from", path, code=4)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_tar_with_a_link_is_refused(kind, refused, tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in GOOD.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("data/train.jsonl")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
    told = refused("fetch-dataset", "-d", "jsonl", "--from", path, code=4)
    assert "member 'data/train.jsonl' is a link, a device or sparse: nothing of the archive is read" in told


# ---- places ---------------------------------------------------------------------------------------------------


def test_a_place_that_is_not_there_is_told(refused, tmp_path):
    told = refused("fetch-dataset", "-d", "jsonl", "--from", tmp_path / "none", code=4)
    assert f"error: {tmp_path}/none: does not exist; looked for a directory, an archive or a file with items" in told
    assert "hint: check the path given with --from" in told


def test_a_folder_without_wanted_files_tells_what_is_in_it(refused, tmp_path):
    (tmp_path / "source" / "deep").mkdir(parents=True)
    (tmp_path / "source" / "deep" / "movies.csv").write_text("x")
    (tmp_path / "source" / "notes[1].txt").write_text("x")
    told = refused("fetch-dataset", "-d", "jsonl", "--from", tmp_path / "source", code=4)
    assert "no file wanted is in it: looked for items.jsonl, items.csv, dialogues.jsonl" in told
    assert "found deep/movies.csv, notes[1].txt (2 in all)" in told


def test_an_empty_folder_and_an_empty_file_are_told(refused, tmp_path):
    (tmp_path / "source").mkdir()
    told = refused("fetch-dataset", "-d", "redial", "--from", tmp_path / "source", code=4)
    assert "is empty; looked for train_data*.jsonl, test_data.jsonl" in told


def test_an_empty_file_is_told(refused, tmp_path):
    (tmp_path / "a.zip").touch()
    assert "is empty (0 bytes)" in refused("fetch-dataset", "-d", "redial", "--from", tmp_path / "a.zip", code=4)


# ---- names and options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        (["-d", "redail"], "unknown dataset 'redail'", "did you mean redial?"),
        (["-d", "insipred"], "unknown dataset 'insipred'", "did you mean inspired"),
        (["-d", "zzzz"], "unknown dataset 'zzzz'", "crs datasets lists what there is"),
        (["-d", "inspired", "--form", "unicr"], "unknown form of inspired 'unicr'", "did you mean unicrs"),
        (["-d", "sample", "--form", "pecrs"], "unknown form of sample 'pecrs'", "known: jsonl"),
        (
            ["-d", "sample", "--valid-share", "-0.1"],
            "--valid-share -0.1 is no share",
            "give a number from 0 to below 1",
        ),
        (["-d", "sample", "--valid-share", "1"], "--valid-share 1.0 is no share", "give a number from 0 to below 1"),
        (["-d", "sample", "--valid-share", "nan"], "--valid-share nan is no share", "give a number from 0"),
        (["-d", "jsonl"], "jsonl is read from your own files", "name them with --from"),
        (["-d", "jsonl", "--dry-run"], "jsonl is read from your own files", "name them with --from"),
        (["-d", "redial", "--form", "pecrs"], "redial in the form pecrs is read from your own files", "--from"),
        (["-d", "inspired", "--form", "unicrs", "--offline"], "inspired in the form unicrs is read from", "--from"),
    ],
)
def test_wrong_names_and_options_are_usage_errors_with_a_hint(options, words, hint, refused):
    told = refused("fetch-dataset", *options, code=2)
    assert f"error: {words}" in told
    assert hint in told.splitlines()[-1]


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", ".hidden", "", "-x", "a b", "[rec]", "ü", "a" * 101])
def test_a_name_that_is_no_folders_name_is_refused(name, tmp_path, good_workspace):
    before = content(good_workspace)
    result = crs("fetch-dataset", "-d", "sample", f"--name={name}", "-w", good_workspace)
    assert result.exit_code == 2, result.output
    assert f"error: dataset name {name!r} cannot be used" in result.stderr
    assert content(good_workspace) == before


def test_options_of_another_kind_are_usage_errors(tmp_path):
    for options in (["--valid", "newest"], ["--max-bad-rows", "-1"], ["--valid-share", "x"], ["--no-such"], []):
        dataset = ["-d", "sample"] if options else []
        result = crs("fetch-dataset", *dataset, *options, "-w", tmp_path / "w")
        assert result.exit_code == 2
        assert not (tmp_path / "w").exists()


def test_an_unknown_protocol_suggests_the_nearest(good_workspace):
    before = content(good_workspace)
    result = crs("evaluate", "-d", "mine", "--protocol", "turn", "-w", good_workspace)
    assert result.exit_code == 2
    assert "error: unknown protocol 'turn'" in result.stderr
    assert "did you mean turns" in result.stderr
    assert content(good_workspace) == before


def test_a_protocol_of_other_data_is_refused(good_workspace):
    result = crs("evaluate", "-d", "mine", "--protocol", "redial-merged-all", "-w", good_workspace)
    assert result.exit_code == 2
    assert "protocol redial-merged-all is not defined on mine in the form jsonl" in result.stderr
    assert "turns, turns-new" in result.stderr


def test_a_bad_list_of_candidates_is_refused(good_workspace, tmp_path):
    (tmp_path / "list[1].txt").write_text("no such film\n")
    result = crs("evaluate", "-d", "mine", "--candidates", tmp_path / "list[1].txt", "-w", good_workspace)
    assert result.exit_code == 4
    assert "list[1].txt: none of its 1 entries is an item of this catalogue" in result.stderr
    result = crs("evaluate", "-d", "mine", "--candidates", tmp_path, "-w", good_workspace)
    assert result.exit_code == 4
    assert "is a folder" in result.stderr


@pytest.mark.parametrize("dataset", ["redial", "inspired"])
def test_offline_without_files_opens_no_socket(dataset, refused, monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was opened"))
    told = refused("fetch-dataset", "-d", dataset, "--offline", code=5)
    assert "error: offline, and " in told
    assert "--from DIR_OR_ARCHIVE" in told.splitlines()[-1]


# ---- other datasets -------------------------------------------------------------------------------------------


def test_a_redial_record_of_another_shape_is_refused(refused, tmp_path):
    (tmp_path / "test_data.jsonl").write_bytes(lines([{"conversationId": "1"}]))
    told = refused("fetch-dataset", "-d", "redial", "--from", tmp_path / "test_data.jsonl", code=4)
    assert "test_data.jsonl:1: not a ReDial dialogue: no field 'initiatorWorkerId'" in told


def test_a_published_dialogue_in_train_and_test_is_refused(refused, tmp_path):
    (tmp_path / "source").mkdir()
    for name in ("train_data.jsonl", "test_data.jsonl"):
        (tmp_path / "source" / name).write_bytes(lines([REDIAL]))
    told = refused("fetch-dataset", "-d", "redial", "--from", tmp_path / "source", "--valid-share", "0", code=4)
    assert "dialogue '1' is in train and in test" in told


def test_an_inspired_table_without_its_columns_is_refused(refused, tmp_path):
    (tmp_path / "test.tsv").write_text("id\ttext\n1\thi\n")
    told = refused("fetch-dataset", "-d", "inspired", "--from", tmp_path / "test.tsv", code=4)
    assert "test.tsv:1: no column 'dialog_id', 'turn_id', 'speaker', 'movies'; found id, text" in told


def test_a_pecrs_container_of_another_kind_is_refused(refused, tmp_path):
    (tmp_path / "test_data_processed").write_bytes(b"hello")
    told = refused("fetch-dataset", "-d", "redial", "--form", "pecrs", "--from", tmp_path, code=4)
    assert "test_data_processed: not a zip archive; it begins with 'hello'" in told


def test_files_of_another_dataset_are_refused(refused, tmp_path):
    with zipfile.ZipFile(tmp_path / "test_data_processed", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([(956, [("A: Hi", None), ("B: Hi", None)])]))
    told = refused("fetch-dataset", "-d", "inspired", "--form", "pecrs", "--from", tmp_path, code=4)
    assert "these are files of redial, not of inspired" in told
    assert "use --dataset redial" in told


def test_sequences_of_a_dataset_that_has_none_are_refused(refused, tmp_path):
    told = fetch_folder(refused, tmp_path, {}, "--sequences")
    assert "the plain schema has no mention sequences" in told
    assert "leave out --sequences" in told


# ---- anything anywhere ----------------------------------------------------------------------------------------

STRANGE = [
    None, True, 5, -1, 1.5, 10**30, "", " ", "x", "9" * 5000, "\x00", "&nbsp;", "%00", [], [5], ["a"], [[]], [None],
    {}, {"a": 5}, {"a": None}, [{}], [{"a": 1}],
]  # fmt: skip


def places(value, path=()):
    """The path of every value inside a value."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


FULL_ITEM = ITEMS[0] | {"genres": ["g"], "directors": ["d"], "cast": ["c"], "keywords": ["k"], "plot": "p"}
FULL_LINK = {"kind": "item", "id": "a", "start": 0, "end": 1, "opinion": "liked"}
FULL_TALK = {
    "dialogue_id": "x",
    "split": "test",
    "order": 1,
    "recommender_id": "r",
    "turns": [{"role": "seeker", "text": "a b", "links": [FULL_LINK], "items": ["a"]}],
}
REDIAL = {
    "conversationId": "1",
    "initiatorWorkerId": 1,
    "respondentWorkerId": 2,
    "messages": [{"messageId": 1, "text": "@11", "timeOffset": 0, "senderWorkerId": 1}],
    "movieMentions": {"11": "Heat (1995)"},
    "initiatorQuestions": {"11": {"suggested": 0, "seen": 1, "liked": 2}},
    "respondentQuestions": {},
}
SEQUENCE = {"conversationId": "9", "kgsf_split": "train", "mentions": [["seeker", "POS", "<x>", [11]]]}
UNICRS = [{"text": "a", "role": "SEEKER", "movie": ["A"], "movie_link": ["<x/A>"], "movie_name": ["A"]}]
READ = {
    "items": (jsonl, {"dialogues.jsonl": [FULL_TALK]}, "items.jsonl", FULL_ITEM),
    "dialogues": (jsonl, {"items.jsonl": [FULL_ITEM]}, "dialogues.jsonl", FULL_TALK),
    "redial": (redial, {}, "test_data.jsonl", REDIAL),
    "sequences": (redial, {"test_data.jsonl": [REDIAL]}, "mention_sequences.jsonl", SEQUENCE),
    "unicrs": (unicrs, {}, "test_data_dbpedia.jsonl", UNICRS),
}


@pytest.mark.parametrize("what", READ)
def test_any_value_in_any_place_is_read_and_can_be_stored_or_is_refused(what, tmp_path):
    reader, others, name, good = READ[what]
    for other, rows in others.items():
        (tmp_path / other).write_bytes(lines(rows))
    read, refusals = 0, []
    for path in places(good):
        for value in STRANGE:
            (tmp_path / name).write_bytes(lines([good, replaced(good, path, value)]))
            try:
                corpus = reader.read(Source(tmp_path, reader.ALLOW), bad=BadRows(), sequences=what == "sequences")
            except DataError as error:
                refusals.append(error.message)
                continue
            read += 1
            check_corpus(corpus)
    assert read
    assert refusals
    shared_id = ("stands for two different dialogues", "is in test and in train")
    assert [m for m in refusals if f"{name}:2: " not in m and not m.endswith(shared_id)] == []


def check_corpus(corpus):
    """Everything can be stored, mentions point into the items, and places into the text."""
    assert all(isinstance(i.item_id, str) and isinstance(i.title, str) and i.title for i in corpus.items)
    items = {i.item_id for i in corpus.items}
    for dialogue in [d for ds in [*corpus.splits.values(), corpus.sequences] for d in ds]:
        json.dumps(to_json(dialogue), ensure_ascii=False).encode()
        assert isinstance(dialogue.dialogue_id, str)
        for turn in dialogue.turns:
            assert set(turn.items) <= items
            assert all(x.start == x.end == -1 or 0 <= x.start < x.end <= len(turn.text) for x in turn.links)


# ---- the machine ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["Catalogue.save", "save_dialogues"])
def test_a_full_disk_leaves_items_and_dialogues_as_they_were_together(what, refused, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"crscli.steps.fetch_dataset.{what}", full)
    told = fetch_folder(refused, tmp_path, {"dialogues.jsonl": lines(TALKS[:9])}, code=7)
    assert "no space left to write" in told
