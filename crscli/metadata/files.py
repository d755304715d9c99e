"""Film metadata from a file: our own columns, and the files that others published.

What a file is, its content tells. Shapes: rows with the fields of the item list (JSON Lines, CSV, or a JSON list);
PECRS's `movie_db` as JSON Lines; `id2info.json` of iEvaLM; the `movies.json` of SI630; the TMDB 5000 table; and
`movie_kg.json` of KERL. Numbers that later years made (votes, popularity, ratings) are never taken.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from crscli.catalogue import Item, minutes, split_title
from crscli.datasets.corpus import clean
from crscli.datasets.records import BadRows, read_csv, read_json_lines
from crscli.datasets.source import Source
from crscli.errors import DataError
from crscli.genres import said
from crscli.metadata.match import ALIKE, title_similarity

HEAD = 2**20  # bytes that tell what a file is

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """A form of file: the fields that every row of it has, and what a row tells of a film.

    `read` gets the key of the row (empty in a list of rows) and the row; `of_tmdb` tells that TMDB's terms hold for it.
    """

    name: str
    marks: frozenset[str]
    read: Callable[[str, Row], Item]
    of_tmdb: bool = False


@dataclass(frozen=True)
class Listed:
    """A file's films, in its order, and what it was taken for."""

    shape: Shape
    films: list[Item]
    notes: list[str]


def read_films(source: Source, bad: BadRows) -> Listed:
    """Read the one file of a source.

    Args:
        source: a file, or an archive or folder that holds one.
        bad: what to do with bad rows.

    Raises:
        DataError: it is no list of films, or holds one bad row too many.
    """
    names = source.names()
    if len(names) != 1:
        some = ", ".join(names[:8])
        raise DataError(f"holds {len(names)} files: {some}", "name each one with its own --from", path=source.path)
    name = names[0]
    place = source.place(name)
    rows, has_keys = _rows(source, name, bad)
    looked_at = []
    for entry in rows:
        looked_at.append(entry)
        if isinstance(entry[2], Mapping):
            break
    else:
        raise DataError("no film in it", "is this the right file?", path=place)
    shape = _shape(looked_at[-1][2], has_keys, place)
    films: list[Item] = []
    unknown: Counter[str] = Counter()
    for line, key, row in itertools.chain(looked_at, rows):
        if row == "failed":  # SI630: films that its author's search did not find
            continue
        try:
            if not isinstance(row, Mapping):
                raise ValueError(f"an object was expected, found {str(row)[:40]!r}")
            films.append(shape.read(key, row))
            unknown.update(row.keys() - _OWN if shape is OWN else ())
        except ValueError as error:
            bad.refuse(DataError(str(error) if line else f"{key!r}: {error}", path=place, line=line))
    notes = [
        f"{name}: field {field!r} of {count} rows is unknown and was passed over" for field, count in unknown.items()
    ]
    return Listed(shape, films, notes)


def _rows(source: Source, name: str, bad: BadRows) -> tuple[Iterator[tuple[int | None, str, Any]], bool]:
    """(line, key, row) of each row, and whether rows have keys."""
    with source.open_binary(name) as file:
        head = file.read(HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        raise DataError("only blanks in it", "is this the right file?", path=source.place(name))
    if head[:1] not in (b"{", b"["):
        delimiter = "\t" if b"\t" in head.split(b"\n", 1)[0] else ","
        table = read_csv(source, name, bad, required=(), delimiter=delimiter)
        return ((line, "", row) for line, row in table), False
    first, _, rest = head.partition(b"\n")
    if rest.strip() and head[:1] == b"{" and _is_json(first):
        return ((line, "", row) for line, row in read_json_lines(source, name, bad)), False
    document = _document(source, name)
    if isinstance(document, dict) and not all(isinstance(v, dict) or v == "failed" for v in document.values()):
        document = [document]  # a list of one row
    if isinstance(document, dict):
        return ((None, key, row) for key, row in document.items()), True
    return ((None, str(num), row) for num, row in enumerate(document, start=1)), False


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def _document(source: Source, name: str) -> Any:
    place = source.place(name)
    try:
        # pandas writes what is not there as NaN
        return json.loads(source.read_bytes(name).decode("utf-8-sig"), parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"not JSON: {error.msg} ({at})", "get the file again", path=place) from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: byte {error.start + 1}", "save the file as UTF-8", path=place) from None
    except (ValueError, RecursionError):
        raise DataError("not JSON that can be read", "is this the right file?", path=place) from None


def _shape(row: Row, has_keys: bool, place: str) -> Shape:
    for shape in KEYED if has_keys else LISTS:
        if shape.marks <= row.keys():
            return shape
    if not has_keys and row.keys() & {"item_id", "title"}:
        return OWN
    found = ", ".join(list(row)[:12])
    raise DataError(
        f"no list of films: a row has the fields {found}",
        "rows need title and year, or item_id, and fields of the item list: crs schema items",
        path=place,
    )


def _own(_: str, row: Row) -> Item:
    title, year = split_title(_text(row, "title"))
    said_year = _text(row, "year").strip()
    given = _year(said_year.removesuffix(".0"))  # pandas writes 1999.0 where another row has no year
    if said_year and given is None:
        raise ValueError(f"year {said_year!r} is no year")
    item_id = _text(row, "item_id")
    if not item_id and not title:
        raise ValueError("neither item_id nor title")
    return Item(
        item_id,
        title,
        year if given is None else given,
        plot=_text(row, "plot"),
        language=_text(row, "language"),
        runtime=minutes(row.get("runtime")),
        **{name: _own_list(row, name) for name in _LISTS},
    )


def _own_list(row: Row, name: str) -> tuple[str, ...]:
    value = row.get(name) or []
    if isinstance(value, str):
        value = value.split("|")
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{name} is no list of texts")
    return _texts(value)


def _pecrs(_: str, row: Row) -> Item:
    title, year = split_title(_text(row, "title"))
    return Item(
        "",
        title,
        year,
        genres=_texts(row.get("genres")),
        directors=_texts(row.get("directors")),
        cast=_texts(row.get("actors")),
        plot=_text(row, "plot"),
    )


def _ievalm(key: str, row: Row) -> Item:
    title, year = split_title(_text(row, "name"))
    imdb = _text(row, "imdb_id")
    return Item(
        key,
        title,
        year,
        genres=_texts(row.get("genre")),
        directors=_texts(row.get("director")),
        writers=_texts(row.get("writer")),
        cast=_texts(row.get("star")),
        plot=_text(row, "plot"),
        ids=(f"imdb:{imdb}",) if imdb else (),
    )


def _si630(key: str, row: Row) -> Item:
    return Item(
        key,
        split_title(_text(row, "title"))[0],
        _year(_text(row, "year")),
        genres=_texts(row.get("genres")),
        companies=_texts(row.get("production_companies")),
    )


def _tmdb_5000(_: str, row: Row) -> Item:
    original, year, number = _text(row, "original_title"), _text(row, "release_date")[:4], _text(row, "id")
    title = clean(_text(row, "title"))
    return Item(
        "",
        title,
        _year(year),
        genres=_texts(_parsed(row, "genres")),
        companies=_texts(_parsed(row, "production_companies")),
        keywords=_texts(_parsed(row, "keywords")),
        plot=_text(row, "overview"),
        language=_text(row, "original_language"),
        runtime=minutes(row.get("runtime")),
        aliases=(original,) if original and original != title else (),
        ids=(f"tmdb:{number}",) if number.isdigit() else (),
    )


def _kerl(key: str, row: Row) -> Item:
    """Wikidata's: its kinds of film ("action thriller", "buddy film") are genres where they name one, else keywords."""
    title, year = split_title(key)
    kinds = {kind: [span.genre for span in said(kind)] for kind in _texts(row.get("genres"))}
    name, number = _text(row, "wiki_name"), _text(row, "QID")
    return Item(
        "",
        title,
        year,
        genres=tuple(dict.fromkeys(itertools.chain.from_iterable(kinds.values()))),
        directors=_texts(row.get("directors")),
        cast=_texts(row.get("casts")),
        companies=_texts(row.get("productionCompanies")),
        keywords=tuple(kind.lower() for kind, genres in kinds.items() if not genres),
        # Some of its links lead to another film.
        aliases=(name,) if name and ALIKE <= title_similarity(title, name) < 1 else (),
        ids=(f"wikidata:{number}",) if number and title_similarity(title, name) >= ALIKE else (),
    )


def _parsed(row: Row, name: str) -> Any:
    value = _text(row, name)
    try:
        return json.loads(value or "[]")
    except (ValueError, RecursionError):
        raise ValueError(f"{name} is no JSON: {value[:40]!r}") from None


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # ids and titles such as 300 come as numbers
    if not value:  # KERL writes an unknown name as []
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {type(value).__name__}, not text")
    return clean(" ".join(value.split()))


def _year(text: str) -> int | None:
    """The year that a text is, None if it is none."""
    return int(text) if re.fullmatch("(?:18|19|20|21)[0-9][0-9]", text) else None


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of a list, or the names of its objects, each once; null is an empty list."""
    if not isinstance(value, list | None):
        raise ValueError(f"a list was expected, found {str(value)[:40]!r}")
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in value or []]
    return tuple(dict.fromkeys(clean(name.strip()) for name in names if isinstance(name, str) and name.strip()))


_LISTS = ("genres", "directors", "cast", "keywords", "writers", "companies", "aliases", "ids")
_OWN = {field.name for field in fields(Item)}

OWN = Shape("own columns", frozenset(), _own)
LISTS = (
    Shape("PECRS movie_db", frozenset({"pecrs_id", "title", "actors", "directors", "genres"}), _pecrs),
    Shape("TMDB 5000", frozenset({"id", "original_title", "overview", "genres", "keywords"}), _tmdb_5000, of_tmdb=True),
)
KEYED = (
    Shape("iEvaLM id2info", frozenset({"name", "genre", "star"}), _ievalm),
    Shape("SI630 movies", frozenset({"title", "genres", "production_companies"}), _si630, of_tmdb=True),
    Shape("KERL movie_kg", frozenset({"casts", "genres", "fullName"}), _kerl),
)
