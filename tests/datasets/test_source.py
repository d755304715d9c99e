import bz2
import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import stat
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from crscli.datasets import archive, containers
from crscli.datasets import source as source_module
from crscli.datasets.archive import MAX_LINE
from crscli.datasets.containers import read_torch_containers
from crscli.datasets.records import BadRows, read_json_lines
from crscli.datasets.source import Source
from crscli.errors import DataError, MachineError

ROWS = b'{"a": 1}\n{"a": 2}\n'
ALLOW = ("train_data*.jsonl", "test_data.jsonl")


def write_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def one(tmp_path, data, name="test_data.jsonl"):
    (tmp_path / name).write_bytes(data)
    return Source(tmp_path / name, [name])


MEMBERS = [
    ("data/test_data.jsonl", ROWS),
    ("data/train_data.jsonl.gz", gzip.compress(ROWS)),
    ("README", b"x"),
]


def make(kind, tmp_path):
    path = tmp_path / kind
    if kind.lower().endswith(".zip"):
        return write_zip(path, MEMBERS)
    if kind != "folder":
        return write_tar(path, MEMBERS, {"r": "w", "z": "w:gz", "2": "w:bz2"}[kind[-1]])
    for name, data in MEMBERS:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["folder", "a.zip", "A.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2"])
def test_every_container_reads_alike(kind, tmp_path):
    source = Source(make(kind, tmp_path), ALLOW)
    assert source.names() == ["data/test_data.jsonl", "data/train_data.jsonl.gz"]
    assert source.names("train_data*.jsonl") == ["data/train_data.jsonl.gz"]
    assert source.names("data/*") == source.names()
    for name in ("data/test_data.jsonl", "test_data.jsonl", "data/train_data.jsonl", "train_data.jsonl.gz"):
        assert source.has(name)
        assert list(source.lines(name)) == [(1, '{"a": 1}'), (2, '{"a": 2}')]
        assert source.read_bytes(name) == ROWS
    assert not source.has("README")
    assert source.place("train_data.jsonl") == f"{tmp_path / kind}/data/train_data.jsonl.gz"
    packed = dict(MEMBERS)["data/train_data.jsonl.gz"]
    assert source.digest("train_data.jsonl") == (hashlib.sha256(packed).hexdigest(), len(packed))
    assert sorted(p.name for p in tmp_path.iterdir()) == [kind]  # nothing was extracted


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_single_file_is_read_through_its_compression(suffix, pack, tmp_path):
    path = tmp_path / f"test_data.jsonl{suffix}"
    path.write_bytes(pack(ROWS))
    source = Source(path, ALLOW)
    assert source.names() == [path.name]
    assert [row for _, row in read_json_lines(source, "test_data.jsonl")] == [{"a": 1}, {"a": 2}]
    assert source.place(path.name) == str(path)


def test_only_line_feeds_end_a_line_and_a_mark_at_the_start_is_dropped(tmp_path):
    text = "\ufeffone\u2028still\x0b\x0c\x85one\rtoo\r\ntwo\n\nfour"
    source = one(tmp_path, text.encode())
    assert list(source.lines("test_data.jsonl")) == [
        (1, "one\u2028still\x0b\x0c\x85one\rtoo"),
        (2, "two"),
        (3, ""),
        (4, "four"),
    ]


def test_a_left_off_reading_closes_its_files(tmp_path):
    source = one(tmp_path, ROWS)
    lines = source.lines("test_data.jsonl")
    assert next(lines) == (1, '{"a": 1}')
    lines.close()
    with source.open_binary("test_data.jsonl") as stream:
        assert stream.readline() == b'{"a": 1}\n'
    assert stream.closed


# What is not there, or should not be.


def test_a_missing_path_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"does not exist.*train_data\*\.jsonl, test_data\.jsonl") as caught:
        Source(tmp_path / "nowhere", ALLOW)
    assert caught.value.exit_code == 4
    assert "--from" in caught.value.hint
    with pytest.raises(DataError, match="does not exist"):
        Source(one(tmp_path, ROWS).path / "below", ALLOW)


def test_an_empty_or_other_directory_lists_wanted_and_found(tmp_path):
    with pytest.raises(DataError, match=r"is empty; looked for train_data"):
        Source(tmp_path, ALLOW)
    for number in range(12):
        (tmp_path / f"other{number:02}.txt").write_text("x")
    with pytest.raises(DataError, match=r"looked for train_data.*found other00.txt.*other07.txt, … \(12 in all\)") as e:
        Source(tmp_path, ALLOW)
    assert "other08" not in str(e.value)


def test_a_folder_that_holds_the_archive_points_to_it(tmp_path):
    write_zip(tmp_path / "redial.zip", MEMBERS)
    with pytest.raises(DataError) as caught:
        Source(tmp_path, ALLOW)
    assert f"--from {tmp_path / 'redial.zip'}" in caught.value.hint


def test_unknown_and_ambiguous_names_are_told(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test_data.jsonl").write_bytes(ROWS)
    source = Source(tmp_path, ALLOW)
    with pytest.raises(DataError, match=r"there 2 times: a/test_data.jsonl, b/test_data.jsonl"):
        source.lines("test_data.jsonl")
    with pytest.raises(DataError, match=r"train_data.jsonl is not in it; found a/test_data.jsonl"):
        source.lines("train_data.jsonl")
    assert list(source.lines("b/test_data.jsonl"))


def test_a_file_beside_its_own_compressed_copy_is_refused(tmp_path):
    (tmp_path / "test_data.jsonl").write_bytes(ROWS)
    (tmp_path / "test_data.jsonl.gz").write_bytes(gzip.compress(ROWS))
    with pytest.raises(DataError, match=r"both test_data.jsonl and test_data.jsonl.gz"):
        Source(tmp_path, ALLOW)


def test_what_macos_adds_and_hidden_folders_are_passed_over(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("__MACOSX/test_data.jsonl", b"x"), ("._test_data.jsonl", b"x"), *MEMBERS])
    assert Source(path, ["*.jsonl"]).names() == ["data/test_data.jsonl", "data/train_data.jsonl.gz"]
    folder = make("folder", tmp_path)
    (folder / ".git").mkdir()
    (folder / ".git" / "test_data.jsonl").write_bytes(ROWS)
    assert len(Source(folder, ALLOW).names()) == 2


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_an_empty_file_is_refused(suffix, pack, tmp_path):
    (tmp_path / f"test_data.jsonl{suffix}").write_bytes(pack(b""))
    source = Source(tmp_path, ALLOW)
    with pytest.raises(DataError, match=r"test_data.*is empty \(0 bytes\)"):
        list(source.lines("test_data.jsonl"))
    (tmp_path / "empty.zip").touch()
    with pytest.raises(DataError, match="is empty"):
        Source(tmp_path / "empty.zip", ALLOW)


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "test_data.jsonl")
    with pytest.raises(DataError, match="neither a file nor a directory"):
        Source(tmp_path / "test_data.jsonl", ALLOW)
    with pytest.raises(DataError, match="is empty"):
        Source(tmp_path, ALLOW)


def test_denied_rights_are_the_machines_fault(tmp_path, monkeypatch):
    source = one(tmp_path, ROWS)

    def deny(self, path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(archive.Stored, "__init__", deny)
    with pytest.raises(MachineError, match="permission denied") as caught:
        list(source.lines("test_data.jsonl"))
    assert caught.value.exit_code == 7


# Broken files.


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_cut_compressed_file_is_told_after_its_good_lines(suffix, pack, tmp_path):
    whole = pack(random.Random(0).randbytes(400_000).hex().encode() + b"\n")
    source = one(tmp_path, whole[: len(whole) // 2], f"test_data.jsonl{suffix}")
    with pytest.raises(DataError, match="broken or cut short"):
        list(source.lines(f"test_data.jsonl{suffix}"))
    source = one(tmp_path, b"<html>no such page</html>", f"test_data.jsonl{suffix}")
    with pytest.raises(DataError, match="broken"):
        list(source.lines(f"test_data.jsonl{suffix}"))


def test_broken_zips_say_what_is_wrong(tmp_path):
    whole = write_zip(tmp_path / "a.zip", MEMBERS).read_bytes()
    cut, page, bad = tmp_path / "cut.zip", tmp_path / "page.zip", tmp_path / "bad.zip"
    cut.write_bytes(whole[:-30])
    with pytest.raises(DataError, match="cut short: the list at its end is missing"):
        Source(cut, ALLOW)
    page.write_bytes(b"<!DOCTYPE html>\x1b[31m<html>")
    with pytest.raises(DataError, match="not a zip archive; it begins with '<!DOCTYPE html>") as caught:
        Source(page, ALLOW)
    assert "\x1b" not in str(caught.value)
    stored = write_zip(bad, [("test_data.jsonl", ROWS)], zipfile.ZIP_STORED).read_bytes()
    bad.write_bytes(stored.replace(ROWS, ROWS.replace(b"1", b"7")))
    with pytest.raises(DataError, match="CRC"):
        list(Source(bad, ALLOW).lines("test_data.jsonl"))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_cut_tar_is_told_wherever_it_was_cut(mode, tmp_path):
    path = tmp_path / ("a.tar" if mode == "w" else "a.tgz")
    whole = write_tar(path, [*MEMBERS, ("more", random.Random(1).randbytes(3000))], mode).read_bytes()
    places = [512, 700, 1024, 2000, 3072, 4000, 6000] if mode == "w" else [10, 200, len(whole) - 1]
    for place in places:
        assert place < len(whole)
        path.write_bytes(whole[:place])
        with pytest.raises(DataError):
            Source(path, ALLOW)


def test_random_damage_never_ends_in_a_traceback(tmp_path):
    chance = random.Random(7)
    for name, mode in (("a.zip", ""), ("a.tar", "w"), ("a.tgz", "w:gz")):
        path = tmp_path / name
        whole = (write_tar(path, MEMBERS, mode) if mode else write_zip(path, MEMBERS)).read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            path.write_bytes(data)
            try:
                source = Source(path, ALLOW)
                for found in source.names():
                    list(source.lines(found))
            except (DataError, MachineError):
                pass


def test_text_that_is_not_utf8_names_line_and_byte(tmp_path):
    source = one(tmp_path, "\ufeffgood\n".encode() + b"caf\xe9\n")
    with pytest.raises(DataError, match=r"jsonl:2: not UTF-8: 0xe9 at byte 4 of the line, 12 of the file after 'caf'"):
        list(source.lines("test_data.jsonl"))
    with pytest.raises(DataError, match=r":1: not UTF-8: 0xff at byte 1"):
        list(one(tmp_path, "hello\n".encode("utf-16")).lines("test_data.jsonl"))


def test_a_line_without_end_is_refused_with_its_number(tmp_path):
    source = one(tmp_path, b"short\n" + b"x" * (MAX_LINE + 1) + b"\n")
    with pytest.raises(DataError, match=r":2: a line longer than 4,194,304 bytes"):
        list(source.lines("test_data.jsonl"))
    tracemalloc.start()
    with pytest.raises(DataError, match=r":1: a line longer"):
        list(one(tmp_path, b"x" * (5 * MAX_LINE)).lines("test_data.jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MAX_LINE  # the test's own bytes, the line read, its copies
    longest = one(tmp_path, b"x" * MAX_LINE + b"\r\n")
    assert [len(line) for _, line in longest.lines("test_data.jsonl")] == [MAX_LINE]


# Unsafe archives.


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "C:/x", "c:x", "a\\b", "\\\\host\\x"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leaves_the_archive_refuses_all_of_it(name, kind, tmp_path):
    members = [("test_data.jsonl", ROWS), (name, b"x")]
    path = tmp_path / f"a.{kind}"
    _ = write_zip(path, members) if kind == "zip" else write_tar(path, members)
    with pytest.raises(DataError, match="points outside the archive") as caught:
        Source(path, ALLOW)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_refuse_all_of_a_tar(kind, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("test_data.jsonl")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=r"'test_data.jsonl' is a link, a device"):
        Source(tmp_path / "a.tar", ALLOW)


def test_a_link_refuses_all_of_a_zip(tmp_path):
    info = zipfile.ZipInfo("test_data.jsonl")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write_zip(tmp_path / "a.zip", [(info, b"/etc/passwd")])
    with pytest.raises(DataError, match="is a link or a device"):
        Source(path, ALLOW)


def test_an_encrypted_member_is_refused(tmp_path):
    data = bytearray(write_zip(tmp_path / "a.zip", [("test_data.jsonl", ROWS)]).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"'test_data.jsonl' is encrypted"):
        Source(tmp_path / "a.zip", ALLOW)


def test_a_name_that_hides_its_end_is_refused(tmp_path):
    data = write_zip(tmp_path / "a.zip", [("test_data.jsonl#exe", ROWS)]).read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"#", b"\0"))
    with pytest.raises(DataError, match="points outside the archive"):
        Source(tmp_path / "a.zip", ALLOW)


def test_a_wrong_offset_in_a_zip_is_broken_data(tmp_path):
    data = bytearray(write_zip(tmp_path / "a.zip", [("x", b"x"), ("test_data.jsonl", ROWS)]).read_bytes())
    data[data.rindex(b"PK\x05\x06") + 16] += 99  # where the list of members begins
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip.*broken"):
        list(Source(tmp_path / "a.zip", ALLOW).lines("test_data.jsonl"))


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    twice = [("test_data.jsonl", ROWS), ("./test_data.jsonl", b"other")]
    with pytest.raises(DataError, match="is in it twice"):
        Source(write_tar(tmp_path / "a.tar", twice), ALLOW)
    with pytest.raises(DataError, match="is in it twice"):
        Source(write_zip(tmp_path / "a.zip", twice), ALLOW)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    many = [(f"{number}.txt", b"x") for number in range(6)]
    for path in (write_zip(tmp_path / "a.zip", many), write_tar(tmp_path / "a.tar", many)):
        with pytest.raises(DataError, match="more than 5 members"):
            Source(path, ALLOW)


def test_other_zip_methods_are_refused_before_they_unpack(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("test_data.jsonl", ROWS)], zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="method 14"):
        list(Source(path, ALLOW).lines("test_data.jsonl"))


@pytest.mark.parametrize("kind", ["a.zip", "test_data.jsonl.gz", "test_data.jsonl.bz2", "a.tgz", "nested.zip"])
def test_a_bomb_is_stopped_while_it_is_read(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "RATIO_FLOOR", 2**20)
    zeros, path = bytes(8 * 2**20), tmp_path / kind
    if kind == "a.zip":
        write_zip(path, [("test_data.jsonl", zeros)])
    elif kind == "nested.zip":
        write_zip(path, [("test_data.jsonl.gz", gzip.compress(zeros))], zipfile.ZIP_STORED)
    elif kind == "a.tgz":
        write_tar(path, [("test_data.jsonl", zeros)], "w:gz")
    else:
        path.write_bytes((gzip if kind.endswith("gz") else bz2).compress(zeros))
    with pytest.raises(DataError, match="200 times its stored size"):
        list(Source(path, ALLOW).lines("test_data.jsonl"))


def test_a_member_past_the_cap_is_refused_whatever_its_header_says(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "MAX_MEMBER", 10_000)
    path = write_zip(tmp_path / "a.zip", [("test_data.jsonl", b'{"a": 1}\n' * 5000)])
    with pytest.raises(DataError, match="unpacks to more than 10,000 bytes"):
        list(Source(path, ALLOW).lines("test_data.jsonl"))


def test_a_huge_extended_tar_header_is_refused(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**30
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(10_240))
    with pytest.raises(DataError, match="extended header of 1,073,741,824 bytes"):
        Source(tmp_path / "a.tar", ALLOW)


def test_reading_a_whole_file_stops_at_the_limit(tmp_path):
    source = one(tmp_path, ROWS)
    assert source.read_bytes("test_data.jsonl", limit=len(ROWS)) == ROWS
    with pytest.raises(DataError, match="longer than 3 bytes"):
        source.read_bytes("test_data.jsonl", limit=3)


# Rows.

BAD_ROWS = {
    b'{"a": 1, "b": "cut in th': "cut in the middle",
    b'{"a": [1, 2': "cut in the middle",
    b'{"a": 1} {"b": 2}': "not JSON: Extra data at column 10",
    b"{'a': 1}": "not JSON",
    b"[": "found a document over several lines",
    b"[1, 2]": "a JSON object was expected, found a list",
    b"3": "found a number",
    b"null": "found null",
    b'{"a": NaN}': "not JSON: NaN is no finite number",
    b'{"a": -Infinity}': "is no finite number",
    b'{"a": 1e999}': "1e999 is no finite number",
    b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "nested too deeply",
    b'{"a": ' + b"9" * 5000 + b"}": "not JSON",
    b'{"a": "\\ud83d"}': "half a surrogate pair",
    b'{"a": "caf\xe9"}': "not UTF-8",
}


@pytest.mark.parametrize("row", BAD_ROWS, ids=lambda row: row[:16].decode("latin1"))
def test_a_bad_row_names_file_line_and_reason(row, tmp_path):
    source = one(tmp_path, b'{"a": 1}\n\n' + row + b'\n{"a": 4}\n')
    with pytest.raises(DataError) as caught:
        list(read_json_lines(source, "test_data.jsonl"))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'test_data.jsonl'}:3: ")
    assert BAD_ROWS[row] in message
    assert len(message) < len(str(tmp_path)) + 200
    assert "--max-bad-rows" in caught.value.hint
    skipped = []
    rows = list(read_json_lines(source, "test_data.jsonl", BadRows(1, skipped.append)))
    assert rows == [(1, {"a": 1}), (4, {"a": 4})]
    assert [error.line for error in skipped] == [3]


def test_one_bad_row_more_than_allowed_ends_it(tmp_path):
    source = one(tmp_path, b'{"a": 1}\nx\ny\nz\n')
    skipped = []
    with pytest.raises(DataError, match=":4: not JSON") as caught:
        list(read_json_lines(source, "test_data.jsonl", BadRows(2, skipped.append)))
    assert len(skipped) == 2
    assert "more than 2 bad rows" in caught.value.hint


def test_an_excerpt_holds_no_control_characters(tmp_path):
    source = one(tmp_path, b'{"a": "\x1b[2J\x00' + "\u202e".encode() + b'" oops}\n')
    with pytest.raises(DataError) as caught:
        list(read_json_lines(source, "test_data.jsonl"))
    assert str(caught.value).isprintable()


def test_good_rows_keep_what_json_allows(tmp_path):
    source = one(tmp_path, b' {"a": 1, "a": 2, "b": "\\ud83d\\ude00", "c": 1.5}\r\n   \n')
    assert list(read_json_lines(source, "test_data.jsonl")) == [(1, {"a": 2, "b": "\U0001f600", "c": 1.5})]
    with pytest.raises(DataError, match="no row in it"):
        list(read_json_lines(one(tmp_path, b"\n  \n"), "test_data.jsonl"))


# torch.save without torch.


def torch_file(tmp_path, data, name="archive/data.pkl", more=()):
    write_zip(tmp_path / "saved", [(name, data), ("archive/version", b"3\n"), *more], zipfile.ZIP_STORED)
    return Source(tmp_path / "saved", ["saved"])


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_containers_are_read_without_torch(protocol, tmp_path):
    shared = ("text", [1, 2.5, None, True])
    value = {"a": [shared, shared], 3: {"x": (), "y": "\U0001f600"}}
    source = torch_file(tmp_path, pickle.dumps(value, protocol))
    assert read_torch_containers(source, "saved") == value


class Evil:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def laughs():
    value = ["ha"]
    for _ in range(60):
        value = [value, value]
    return value


def endless():
    value = []
    value.append(value)
    return value


def torch_attacks(tmp_path):
    flag = str(tmp_path / "ran")
    return {
        "os mkdir": (pickle.dumps(Evil(os.mkdir, flag)), "posix.mkdir"),
        "protocol 0": (pickle.dumps(Evil(os.mkdir, flag), 0), "posix.mkdir"),
        "INST": (b"(S'%s'\nios\nmkdir\n." % flag.encode(), "os.mkdir"),
        "OBJ": (b"(cos\nmkdir\nS'%s'\no." % flag.encode(), "os.mkdir"),
        "getattr": (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
        "REDUCE of a text": (b"\x80\x02X\x02\x00\x00\x00osU\x01a\x85R.", "refused"),
        "BUILD on a dict": (b"\x80\x02}X\x01\x00\x00\x00aX\x01\x00\x00\x00b\x86b.", "refused"),
        "NEWOBJ": (b"\x80\x02X\x01\x00\x00\x00a)\x81.", "refused"),
        "EXT1": (b"\x80\x02\x82\x01.", "EXT1"),
        "tensor": (b"\x80\x02X\x07\x00\x00\x00storageQ.", "asks for a tensor"),
        "bytes": (pickle.dumps(b"x", 4), "type bytes"),
        "complex": (pickle.dumps(1j), "builtins.complex"),
        "far memo": (b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".", "memo number 4,294,967,295"),
        "huge bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"x.", "refused"),
        "huge text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "refused"),
        "cut": (pickle.dumps(["text"] * 9)[:-4], "refused"),
        "empty stack": (b"\x80\x02.", "refused"),
        "no pickle": (b"hello", "refused"),
        "bad text": (b"\x80\x02X\x01\x00\x00\x00\xff.", "refused"),
        "deep": (pickle.dumps(deep(300)), "nested too deeply"),
        "laughs": (pickle.dumps(laughs()), "shared too often"),
        "endless": (pickle.dumps(endless()), "hold themselves"),
        "list as key": (b"\x80\x02}]K\x01s.", "unhashable"),
    }


@pytest.mark.parametrize("attack", range(23))
def test_a_pickle_with_more_than_containers_is_refused_and_not_run(attack, tmp_path):
    attacks = torch_attacks(tmp_path)
    assert len(attacks) == 23
    data, reason = list(attacks.values())[attack]
    with pytest.raises(DataError) as caught:
        read_torch_containers(torch_file(tmp_path, data), "saved")
    assert reason in str(caught.value)
    assert str(tmp_path / "saved") in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_random_damage_to_a_pickle_stays_a_data_error(tmp_path):
    chance, whole = random.Random(3), pickle.dumps({"a": [1, 2.5, ("x", None)], "b": {"c": [True] * 9}}, 2)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        source = torch_file(tmp_path, bytes(data))
        with contextlib.suppress(DataError):
            read_torch_containers(source, "saved")


def test_what_torch_save_did_not_write_is_refused(tmp_path, monkeypatch):
    source = torch_file(tmp_path, b"x", name="archive/other")
    with pytest.raises(DataError, match=r"0 members <prefix>/data.pkl"):
        read_torch_containers(source, "saved")
    source = torch_file(tmp_path, b"x", more=[("b/data.pkl", b"x")])
    with pytest.raises(DataError, match=r"2 members <prefix>/data.pkl"):
        read_torch_containers(source, "saved")
    (tmp_path / "saved").write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match="not a zip archive"):
        read_torch_containers(Source(tmp_path / "saved", ["saved"]), "saved")
    source = torch_file(tmp_path, pickle.dumps(["text"] * 500))
    monkeypatch.setattr(containers, "MAX_PICKLE", 100)
    with pytest.raises(DataError, match="more than 100 bytes"):
        read_torch_containers(source, "saved")


# The real files.


@pytest.mark.realdata
def test_the_published_pecrs_files_are_read(shared_data):
    source = Source(shared_data / "pecrs", ["INSPIRED/*_data_processed", "REDIAL/*"])
    assert len(source.names()) == 5
    dialogues = read_torch_containers(source, "INSPIRED/test_data_processed")
    assert isinstance(dialogues, list)
    assert len(dialogues) == 99
    items = read_torch_containers(source, "movie_db")
    assert isinstance(items, dict)
    assert len(items) == 6176


@pytest.mark.realdata
def test_the_published_redial_rows_are_read(shared_data):
    source = Source(shared_data / "redial", ["test_data.jsonl", "train_data*.jsonl"])
    assert source.names("train_data*.jsonl") == [
        "train_data.extra_merged_turns.jsonl.gz",
        "train_data.jsonl.gz",
    ]
    rows = [row for _, row in read_json_lines(source, "test_data.jsonl")]
    assert len(rows) == 1342
    assert json.dumps(rows[0])
    assert source.digest("test_data.jsonl")[1] == 3_790_112
