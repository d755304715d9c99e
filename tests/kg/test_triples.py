import bz2
import gzip
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crscli.errors import DataError
from crscli.kg import triples
from crscli.kg.triples import BadLines, literal_text, parse, read_triples

PLAIN = b"<http://a/Alder> <http://o/starring> <http://a/Ann> .\n"


def write(path, content):
    opened = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opened(path, "wb") as file:
        file.write(content)
    return path


@pytest.fixture
def dump(tmp_path):
    """Write a dump and read it back: its triples, and the bad lines that were told of."""

    def read(content, name="dump.nt", limit=0, **more):
        told = []
        bad = BadLines(limit, told.append)
        return list(read_triples(write(tmp_path / name, content), bad=bad, **more)), told, bad.count

    return read


# ---- lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "triple"),
    [
        (b"<a> <b> <c> .", (b"<a>", b"<b>", b"<c>")),
        (b" \t<a>\t<b>\t<c>\t.\t # remark", (b"<a>", b"<b>", b"<c>")),
        (b"<a><b><c>.", (b"<a>", b"<b>", b"<c>")),
        (b"<a> <b> <c> .\r", (b"<a>", b"<b>", b"<c>")),
        (b"_:x1 <b> _:y.z .", (b"_:x1", b"<b>", b"_:y.z")),
        ("<a> <b> <é(),'> .".encode(), (b"<a>", b"<b>", "<é(),'>".encode())),
        (rb"<a> <b> <Am\u00E9lie\U0001F600> .", (b"<a>", b"<b>", "<Amélie😀>".encode())),
        (rb'<a> <b> "say \"hi\" \\ <x> ."@en-GB .', (b"<a>", b"<b>", rb'"say \"hi\" \\ <x> ."@en-GB')),
        (b'<a> <b> "4"^^<int> .', (b"<a>", b"<b>", b'"4"^^<int>')),
        (b"", None),
        (b"  \t", None),
        (b"# started 2015", None),
    ],
)
def test_a_line_is_parsed(line, triple):
    assert parse(line) == triple


@pytest.mark.parametrize(
    "line",
    [
        b"<a> <b> <c>", b"<a> <b> .", b"<a> <b> <c> <d> .", b"<a> <b> <c> . more", b"a <b> <c> .", b'"a" <b> <c> .',
        b"<a> _:b <c> .", b"<a b> <b> <c> .", b"<a> <b> <c\\> .", rb"<a> <b> <\u00> .", rb"<a> <b> <\ud800> .",
        rb"<a> <b> <x\u0020y> .", rb"<a> <b> <\U00110000> .", b'<a> <b> "open .', rb'<a> <b> "\x" .',
        b'<a> <b> "4"^^int .', b'<a> <b> "4"@ .', b"<a> <b> <\xff> .", b'<a> <b> "\xc3" .', b"<a> <b> <c{> .",
        rb'<a> <b> "\ud800" .',
    ],
)  # fmt: skip
def test_what_is_no_triple_is_refused(line):
    with pytest.raises(ValueError):
        parse(line)


def test_a_literal_says_its_text():
    assert literal_text(rb'"a\tb\n\"c\" \u00e9 \\"@en') == 'a\tb\n"c" é \\'
    assert literal_text(b'"4"^^<int>') == "4"
    assert literal_text(b"<a>") is None


class Strictly:
    """The grammar of N-Triples, character by character; resources as they read, other terms as they stand."""

    def __init__(self, line):
        self.text = line.decode()
        self.at = 0

    def triple(self):
        found = self.term(), self.term(), self.term(literals=True)
        self.blanks()
        self.take(".")
        self.blanks()
        if self.at < len(self.text):
            raise ValueError
        return tuple(part.encode() for part in found)

    def take(self, wanted):
        if self.text[self.at] != wanted:
            raise ValueError
        self.at += 1

    def blanks(self):
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def term(self, *, literals=False):
        self.blanks()
        return self.literal() if literals and self.text[self.at] == '"' else self.resource()

    def escape(self, short):
        kind = self.text[self.at + 1]
        self.at += 2
        if kind in short:
            return kind
        length = {"u": 4, "U": 8}[kind]
        digits = self.text[self.at : self.at + length]
        if len(digits) != length or not set(digits) <= set("0123456789abcdefABCDEF"):
            raise ValueError
        self.at += length
        return chr(int(digits, 16)).encode().decode()

    def resource(self):
        self.take("<")
        read = ""
        while self.text[self.at] != ">":
            escaped = self.text[self.at] == "\\"
            character = self.escape("") if escaped else self.text[self.at]
            self.at += not escaped
            if character <= " " or character in '<>"{}|^`\\':
                raise ValueError
            read += character
        self.at += 1
        return f"<{read}>"

    def literal(self):
        start = self.at
        self.take('"')
        while self.text[self.at] != '"':
            if self.text[self.at] == "\\":
                self.escape("tbnrf\"'\\")
            else:
                self.at += 1
        self.at += 1
        if self.text[self.at : self.at + 2] == "^^":
            self.at += 2
            self.resource()
        return self.text[start : self.at]


def strictly(line):
    return Strictly(line).triple()


def outcome(parser, line):
    try:
        return parser(line)
    except (ValueError, IndexError, KeyError, OverflowError):
        return "refused"


PIECES = st.sampled_from(
    [b"<", b">", b'"', b" ", b"\t", b".", b" .", b"^^", b"\\", rb"\u00e9", rb"\U0001F600", rb"\ud800", rb"\n", rb"\u",
     b"<a>", b"<http://x/Y_(film)>", b'"text"', b'"a\\"b"', "é".encode(), b"\xff", b"{", b"> <", b"> .\n"[:3]]
)  # fmt: skip
GOOD = st.sampled_from([b"<a>", b"<b>", rb"<\u00e9>", "<é,(x)>".encode(), rb"<a\u0020b>"])


@settings(max_examples=300)
@given(
    st.one_of(
        st.lists(PIECES, max_size=12).map(b"".join),
        st.tuples(GOOD, st.sampled_from([b" ", b"\t"]), GOOD, st.one_of(GOOD, PIECES), st.just(b" .")).map(b"".join),
    ).filter(lambda line: line.strip(b" \t"))
)  # fmt: skip
def test_lines_are_parsed_as_the_grammar_says(line):
    assert outcome(parse, line) == outcome(strictly, line)


LINES = st.sampled_from(
    [PLAIN, b"<a> <b> <c> .\n", b"<c> <b> <a> .\n", b"<a> <b> <c>\n", b"<a>x <b> <c> .\n", b"<a> <b> <c> x.\n", b"\n",
     b"<a> <b> <c> <d> .\n", b"<a> <b> .\n", b"<a>\t<b> <c> .\n", b"x<a> <b> <c> .\n", "<é> <b> <c> .\n".encode(),
     b"<\xff> <b> <c> .\n", b"# <a> <b> <c> .\n", b"<a> <b>> <c> .\n", b"<a> <b> <c> .\r\n", b"<> <> <> .\n"]
)  # fmt: skip


@settings(max_examples=200)
@given(
    st.lists(LINES, max_size=8), st.sampled_from([None, {b"<a>"}, {b"<c>", "<é>".encode()}]), st.sampled_from([0, 2])
)
def test_a_block_at_once_and_line_by_line_is_the_same(tmp_path_factory, lines, wanted, position):
    content = b"".join(lines)
    path = tmp_path_factory.getbasetemp() / "block.nt"
    path.write_bytes(content)
    bad = BadLines(100)
    found = list(read_triples(path, position=position, wanted=wanted, bad=bad))
    outcomes = [outcome(parse, line) for line in content.split(b"\n")]
    good = [o for o in outcomes if isinstance(o, tuple)]
    assert found == [t for t in good if wanted is None or t[position] in wanted]
    assert bad.count == outcomes.count("refused")


# ---- files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dump.nt", "dump.ttl", "dump.nt.gz", "dump.ttl.bz2"])
def test_a_dump_is_read_plain_and_packed(dump, name):
    assert dump(PLAIN * 3, name)[0] == [tuple(PLAIN.split()[:3])] * 3


def test_a_packed_dump_of_several_streams_is_read_to_its_end(tmp_path):
    path = tmp_path / "dump.nt.bz2"
    path.write_bytes(bz2.compress(PLAIN) + bz2.compress(PLAIN))
    assert len(list(read_triples(path))) == 2


def test_only_wanted_heads_relations_or_tails_are_given(dump):
    content = b"<a> <r> <b> .\n<b> <s> <c> .\n<b> <r> <a> .\n"
    for position, wanted, numbers in ((0, {b"<b>"}, [1, 2]), (1, {b"<r>"}, [0, 2]), (2, {b"<c>", b"<x>"}, [1])):
        triples = [tuple(content.split(b"\n")[n].split()[:3]) for n in numbers]
        assert dump(content, position=position, wanted=wanted)[0] == triples
        assert dump(content + b"#\n", position=position, wanted=wanted)[0] == triples, "line by line"


def test_terms_of_one_length_and_ending_are_told_apart(dump):
    names = [b"<http://a/%c_with_the_same_ending_(film)>" % letter for letter in b"ABCDE"]
    content = b"".join(name + b" <r> <t> .\n" for name in names)
    assert [t[0] for t in dump(content, wanted=set(names[1:3]))[0]] == names[1:3]


def test_a_last_line_without_its_end_is_read_and_a_cut_one_is_bad(dump):
    assert len(dump(PLAIN + PLAIN.rstrip())[0]) == 2
    found, told, count = dump(PLAIN + b"<http://a/B> <http://o/starring> <http://a/A", limit=1)
    assert (len(found), count) == (1, 1)
    assert told[0].endswith("dump.nt:2: no triple: '<http://a/B> <http://o/starring> <http://a/A'")


def test_bad_lines_are_counted_the_first_ones_told_and_too_many_are_an_error(dump):
    content = (PLAIN + b"broken\n") * 8
    found, told, count = dump(content, limit=8)
    assert (len(found), count, len(told)) == (8, 8, 5)
    with pytest.raises(DataError, match=r"dump.nt:10: no triple: 'broken' \(5 such lines") as caught:
        dump(content, limit=4)
    assert caught.value.hint == "mend the file, or allow more than 4 with --max-bad-rows"


def test_line_numbers_go_on_over_blocks(dump, monkeypatch):
    monkeypatch.setattr(triples, "BLOCK", 64)
    found, told, _ = dump(PLAIN * 40 + b"broken\n" + PLAIN * 5, limit=1)
    assert len(found) == 45
    assert ":41: " in told[0]


def test_one_line_of_another_kind_costs_no_other_line_its_place(dump, monkeypatch):
    monkeypatch.setattr(triples, "SMALL", 100)
    content = PLAIN * 50 + b"broken\n" + PLAIN * 30 + b'<a> <b> "c" .\n' + PLAIN * 20 + b"cut"
    found, told, _ = dump(content, limit=2)
    assert [t[0] for t in found] == [b"<http://a/Alder>"] * 80 + [b"<a>"] + [b"<http://a/Alder>"] * 20
    assert [line.split(":")[2] for line in told] == ["51", "103"]
    assert len(dump(content, limit=2, wanted={b"<a>"})[0]) == 1
    assert dump(content, limit=2, wanted=set())[0] == []


def test_turtle_with_prefixes_is_told_apart(dump):
    with pytest.raises(DataError, match="is Turtle with prefixes") as caught:
        dump(b"@prefix dbo: <http://dbpedia.org/ontology/> .\n", limit=100)
    assert "as N-Triples" in caught.value.hint


def test_damaged_and_cut_archives_and_other_files_are_refused(tmp_path, monkeypatch):
    whole = gzip.compress(PLAIN * 1000)
    for name, content, words in (
        ("a.nt.gz", whole[: len(whole) // 2], "the archive is cut short"),
        ("b.nt.gz", b"no archive", "the archive is damaged"),
        ("c.nt.bz2", bz2.compress(PLAIN * 1000)[:-20], "the archive is cut short"),
        ("d.nt.bz2", b"no archive", "the archive is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=words):
            list(read_triples(tmp_path / name))
    monkeypatch.setattr(triples, "MAX_LINE", 10)
    (tmp_path / "e.nt").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="no line end in 10 bytes"):
        list(read_triples(tmp_path / "e.nt"))


def test_progress_is_told_in_bytes_of_the_file(tmp_path):
    path = write(tmp_path / "dump.nt.gz", PLAIN * 1000)
    told = []
    list(read_triples(path, progress=lambda *args: told.append(args)))
    assert told[-1] == ("dump.nt.gz", path.stat().st_size, path.stat().st_size)


MEMORY = """
import resource, sys
from pathlib import Path
from crscli.kg.triples import read_triples
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
count = sum(1 for _ in read_triples(Path(sys.argv[1]), wanted={b"<http://a/Alder>"}))
print(count, peak() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "dump.nt"
    with path.open("wb") as file:
        for num in range(2000):
            file.write(
                PLAIN
                + b"<http://a/%d> <http://o/starring> <http://a/Somebody_with_a_long_name> .\n" * 200 % ((num,) * 200)
            )
    assert path.stat().st_size > 25e6
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 2000
    assert grown < 20


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("movies.nt", 1481, 0),
        ("dbpedia_sample.nt", 59, 1),
        ("lookup_data.nt", 64, 0),
        ("lookup_redirects.nt", 68, 0),
        ("redial_subkg.reconstructed.nt.gz", 81332, 0),
        ("inspired_subkg.reconstructed.nt.gz", 30360, 0),
    ],
)
def test_real_files_are_read_to_the_last_line(shared_data, name, good, bad):
    counter = BadLines(1)
    assert sum(1 for _ in read_triples(shared_data / "dbpedia_raw" / name, bad=counter)) == good
    assert counter.count == bad


@pytest.mark.realdata
def test_real_literals_read_as_they_are_meant(shared_data):
    found = read_triples(shared_data / "dbpedia_raw" / "movies.nt", bad=BadLines())
    heston = next(literal_text(t) for h, r, t in found if h.endswith(b"Charlton_Heston>") and r.endswith(b"abstract>"))
    assert "October 4, 1923 – April 5, 2008" in heston
