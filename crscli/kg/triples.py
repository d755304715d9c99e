"""Reading dumps of triples: N-Triples (and Turtle written one triple a line), plain, .gz or .bz2, as a stream.

Terms are bytes as the file has them, with the escapes of resources decoded: b"<http://dbpedia.org/resource/Amélie>".
Knows nothing about what a resource stands for.
"""

import bz2
import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from crscli.errors import DataError
from crscli.progress import Progress, silent

Triple = tuple[bytes, bytes, bytes]
Position = Literal[0, 1, 2]

SUFFIXES = (".nt", ".ttl", ".nt.gz", ".ttl.gz", ".nt.bz2", ".ttl.bz2")
BLOCK = 2**20  # bytes read at once; larger blocks leave the processor's cache
SMALL = 2**12  # what is not worth halving
MAX_LINE = 2**24
SHOWN = 5
_SUSPECT = b'"{}|^`\\'  # never in a resource that is written without escapes
_DELETED = bytes(set(range(0x21, 0x100)) - set(b"<>" + _SUSPECT))
_SKELETON = b"<> <> <> \n"
_OPEN, _CLOSE, _STOP = b"<>."

_UCHAR = rb"\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}"
_RESOURCE = rb'<(?:[^\x00-\x20<>"{}|^`\\]|' + _UCHAR + rb")*+>"
_BLANK_NODE = rb"_:[0-9A-Za-z_\x80-\xff](?:[0-9A-Za-z_.\x80-\xff-]*[0-9A-Za-z_\x80-\xff-])?"
_STRING = rb'"(?:[^"\\\n\r]|\\[tbnrf"\'\\]|' + _UCHAR + rb')*+"'
_LITERAL = _STRING + rb"(?:\^\^" + _RESOURCE + rb"|@[A-Za-z]+(?:-[0-9A-Za-z]+)*)?"
_LINE = re.compile(
    rb"[ \t]*(" + _RESOURCE + rb"|" + _BLANK_NODE + rb")[ \t]*(" + _RESOURCE + rb")[ \t]*"
    rb"(" + _RESOURCE + rb"|" + _BLANK_NODE + rb"|" + _LITERAL + rb")[ \t]*\.[ \t]*(?:\#.*)?\r?"
)  # fmt: skip
_NOTHING = re.compile(rb"[ \t]*(?:#.*)?\r?")
_TURTLE = re.compile(rb"[ \t]*(?:@prefix|@base|PREFIX|BASE)\b", re.I)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_SHORT = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f"}
_REFUSED = re.compile(r'[\x00-\x20<>"{}|^`\\]')


@dataclass
class BadLines:
    """Counts the lines that are no triple, and ends the reading when they are too many.

    Args:
        limit: how many may be skipped.
        report: told of the first few that are skipped.
    """

    limit: int = 0
    report: Callable[[str], None] = silent
    count: int = 0

    def refuse(self, path: Path, number: int, line: bytes) -> None:
        """Skip the line, or raise if the limit is reached."""
        self.count += 1
        text = line[:80].decode("utf-8", "replace") + ("..." if len(line) > 80 else "")
        if _TURTLE.match(line):
            raise DataError(
                "is Turtle with prefixes, and one full triple a line is wanted",
                "write it as N-Triples first (rapper, riot and most RDF tools do that)",
                path=path,
                line=number,
            )
        if self.count > self.limit:
            wanted = f"no triple: {text!r} ({self.count} such lines; <head> <relation> <tail> . was expected)"
            raise DataError(wanted, f"mend the file, or allow more than {self.limit} with --max-bad-rows",
                            path=path, line=number)  # fmt: skip
        if self.count <= SHOWN:
            self.report(f"skipped: {path}:{number}: no triple: {text!r}")


def parse(line: bytes) -> Triple | None:
    """The triple of a line without its line end; None for blank lines and comments.

    Raises:
        ValueError: it is neither.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        if _NOTHING.fullmatch(line):
            return None
        raise ValueError("no triple")
    line.decode()  # all of it must be UTF-8
    head, relation, tail = found.groups()
    return _decoded(head), _decoded(relation), _decoded(tail)


def literal_text(term: bytes) -> str | None:
    """What a literal says, without language and type; None for other terms."""
    if not term.startswith(b'"'):
        return None
    return _ESCAPE.sub(_escaped, term[1 : term.rindex(b'"')].decode())


def read_triples(
    path: Path,
    *,
    position: Position = 0,
    wanted: Set[bytes] | None = None,
    bad: BadLines | None = None,
    progress: Progress = silent,
) -> Iterator[Triple]:
    """The triples of a file, in its order.

    Blocks in which every line is three plain resources, which is nearly all of a dump, are checked as a whole and
    split only where a wanted term stands; others are halved, and what stays is parsed line by line. Every line is
    checked either way.

    Args:
        path: the file; memory does not grow with its length.
        position: which term is compared with `wanted`: 0 head, 1 relation, 2 tail.
        wanted: terms; only triples that have one are given. None gives all.
        bad: what to do with lines that are no triple; by default the first one ends the reading.
        progress: told of bytes read.

    Raises:
        DataError: one bad line too many, a damaged archive, or no text file.
    """
    bad = bad or BadLines()
    terms = None if wanted is None else Terms(wanted)
    lines = 0
    for block in _blocks(path, progress):
        pieces = [block]
        while pieces:
            piece = pieces.pop()
            count = piece.count(b"\n")
            blanks = _plain_lines(piece, count)
            half = 0 if len(piece) < SMALL else piece.find(b"\n", len(piece) // 2) + 1
            if blanks is None and 0 < half < len(piece):
                pieces += piece[half:], piece[:half]
                continue
            if blanks is not None:
                yield from _plain_triples(piece, blanks, position, terms)
            else:
                yield from _other_triples(piece, position, wanted, bad, path, lines)
            lines += count


def _plain_lines(block: bytes, count: int) -> np.ndarray | None:
    """Where the blanks and line ends are, (count, 4), if each line is "<head> <relation> <tail> ." without escapes.

    What is left of such a line without the characters that may stand in a resource is the skeleton; then it is enough
    that brackets, blanks and the full stop stand side by side.
    """
    if block.translate(None, _DELETED) != _SKELETON * count or not (block.isascii() or _is_text(block)):
        return None
    text = np.frombuffer(block, np.uint8)
    blanks = np.flatnonzero(text <= 32).reshape(-1, 4)
    first, second, third, end = blanks.T
    beside = (
        (text[first - 1] == _CLOSE) & (text[first + 1] == _OPEN) & (text[second - 1] == _CLOSE)
        & (text[second + 1] == _OPEN) & (text[third - 1] == _CLOSE) & (text[third + 1] == _STOP) & (end == third + 2)
    )  # fmt: skip
    starts = text[end[:-1] + 1] == _OPEN
    return blanks if beside.all() and starts.all() and text[0] == _OPEN else None


def _is_text(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


class Terms:
    """Terms that are looked for: a table tells at once which places of a block may hold one."""

    _BITS = 22

    def __init__(self, terms: Set[bytes]) -> None:
        self.terms = terms
        lengths = np.fromiter(map(len, terms), np.int64, len(terms))
        ends = np.cumsum(lengths)
        self._table = np.zeros(2**self._BITS, dtype=bool)
        self._table[self._hashes(b"".join(terms), ends - lengths, ends)] = True

    def find(self, block: bytes, starts: np.ndarray, ends: np.ndarray) -> list[int]:
        """Which of the places of a block hold a term."""
        maybe = np.flatnonzero(self._table[self._hashes(block, starts, ends)])
        places = zip(maybe.tolist(), starts[maybe].tolist(), ends[maybe].tolist(), strict=True)
        return [num for num, start, end in places if block[start:end] in self.terms]

    def _hashes(self, block: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """A number for each place, made of the length and the last eight bytes of what stands there."""
        padded = bytes(8) + block
        words = np.ndarray(len(block) + 1, "<u8", padded, strides=(1,))  # word n ends where byte n of the block starts
        lengths = ends - starts
        foreign = 8 * np.maximum(8 - lengths, 0)  # bits of a short term's word that are not its own
        mixed = (words[ends] >> foreign.astype(np.uint64)) ^ (lengths.astype(np.uint64) << np.uint64(56))
        return (mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - self._BITS)


def _plain_triples(block: bytes, blanks: np.ndarray, position: Position, terms: Terms | None) -> Iterator[Triple]:
    if terms is None:
        for line in block.split(b"\n")[:-1]:
            head, relation, tail, _ = line.split(b" ")
            yield head, relation, tail
        return
    lines = np.append(0, blanks[:-1, 3] + 1)
    starts = blanks[:, position - 1] + 1 if position else lines
    for num in terms.find(block, starts, blanks[:, position]):
        head, relation, tail, _ = block[lines[num] : blanks[num, 3]].split(b" ")
        yield head, relation, tail


def _other_triples(
    block: bytes, position: Position, wanted: Set[bytes] | None, bad: BadLines, path: Path, before: int
) -> Iterator[Triple]:
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, before + 1):
        try:
            triple = parse(line)
        except ValueError:
            bad.refuse(path, number, line)
            continue
        if triple and (wanted is None or triple[position] in wanted):
            yield triple


def _decoded(term: bytes) -> bytes:
    """A resource with its escapes decoded; other terms as they are.

    Raises:
        ValueError: it stands for something that no resource may hold, or for half a surrogate pair.
    """
    if b"\\" not in term:
        return term
    if not term.startswith(b"<"):
        literal_text(term)  # raises where an escape stands for no character
        return term
    plain = _ESCAPE.sub(_escaped, term[1:-1].decode())
    if _REFUSED.search(plain):
        raise ValueError("an escape stands for a character that no resource may hold")
    return b"<" + plain.encode() + b">"


def _escaped(found: re.Match[str]) -> str:
    short = found.group(3)
    if short:
        return _SHORT.get(short, short)
    code = int(found.group(1) or found.group(2), 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError("an escape stands for no character")
    return chr(code)


def _blocks(path: Path, progress: Progress) -> Iterator[bytes]:
    """Whole lines, about BLOCK bytes at once; the last line may lack its end."""
    total = path.stat().st_size
    rest = b""
    with path.open("rb") as raw:
        file = _opened(raw, path)
        while block := _read(file, path):
            progress(path.name, raw.tell(), total)
            end = block.rfind(b"\n") + 1
            if end:
                yield rest + block[:end]
                rest = block[end:]
            else:
                rest += block
                if len(rest) > MAX_LINE:
                    raise DataError(f"no line end in {MAX_LINE:,} bytes", "is this a file of triples?", path=path)
    if rest:
        yield rest


def _opened(raw: BinaryIO, path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    return bz2.BZ2File(raw) if path.suffix == ".bz2" else raw  # type: ignore[return-value]


def _read(file: BinaryIO, path: Path) -> bytes:
    try:
        return file.read(BLOCK)
    except EOFError:
        raise DataError("the archive is cut short", "fetch the file again", path=path) from None
    except (gzip.BadGzipFile, zlib.error, OSError) as error:
        raise DataError(f"the archive is damaged ({error})", "fetch the file again", path=path) from None
