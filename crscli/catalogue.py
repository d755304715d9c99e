"""Items and the catalogue that numbers them. Knows nothing about dialogues, models or where metadata came from."""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from crscli.vocabulary import Vocabulary, natural_order

# Seen in published lists: "(1984)", "(2015 film)", a bracket that is not closed, and an empty one. Other numbers in
# brackets ("(1408)", "(12345)") belong to the title.
_YEAR = re.compile(r"\s*\((?:((?:1[89]|2[01])[0-9]{2})(?![0-9])[^()]*\)?|\s*\))$")
LONGEST = 999
"""Minutes of a running time, at most."""
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be recommended. Remakes are different items: the year is not part of the title.

    `runtime` is in minutes, `language` the two letters of ISO 639-1; `aliases` are further titles it goes by; `ids`
    tell what it is elsewhere ("tmdb:603", "imdb:tt0133093").
    """

    item_id: str
    title: str
    year: int | None = None
    genres: tuple[str, ...] = ()
    directors: tuple[str, ...] = ()
    cast: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    plot: str = ""
    writers: tuple[str, ...] = ()
    companies: tuple[str, ...] = ()
    language: str = ""
    aliases: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    runtime: int | None = None

    @property
    def name(self) -> str:
        """What a person reads: "Police Academy (1984)"."""
        return self.title if self.year is None else f"{self.title} ({self.year})"

    def field(self, name: str, *, cast: int | None = None) -> str:
        """One field as text, "" where nothing is known; at most `cast` names of a cast, if given."""
        value = getattr(self, name)
        if isinstance(value, tuple):
            return ", ".join(value[:cast] if name == "cast" else value)
        return "" if value is None else str(value)

    def text(
        self,
        parts: Sequence[str] = ("name", "genres", "directors", "cast", "keywords", "plot"),
        *,
        cast: int | None = None,
    ) -> str:
        """The item as a document: the named fields in the given order, empty ones left out.

        Args:
            parts: any of name, title, year, genres, directors, writers, cast, companies, keywords, language, plot;
                leaving one out ablates it.
            cast: names of a cast at most; all by default.
        """
        return ". ".join(text for part in parts if (text := self.field(part, cast=cast)))


def split_title(text: str) -> tuple[str, int | None]:
    """Separate a published title from its year.

    Percent escapes and HTML entities are decoded, runs of blanks become one:
    "Why Did I Get Married%3F  (2007) " gives ("Why Did I Get Married?", 2007).
    """
    if _ESCAPE.search(text):
        text = unquote(text)
    text = " ".join(html.unescape(text).split())
    found = _YEAR.search(text)
    if found and found.start() > 0:
        return text[: found.start()], int(found.group(1)) if found.group(1) else None
    return text, None


def minutes(value: object) -> int | None:
    """A running time that a table gives, as 141, "141" or 141.0; None where it gives none or what cannot be one."""
    try:
        told = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    except ValueError:
        return None
    return round(told) if 1 <= told <= LONGEST else None


def plain_title(title: str) -> str:
    """A title as lists are matched on it: without year, lower case, blanks collapsed."""
    return split_title(title)[0].lower()


_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("year", pa.int32()),
        *(pa.field(name, pa.list_(pa.string())) for name in ("genres", "directors", "cast", "keywords")),
        pa.field("plot", pa.string()),
        *(pa.field(name, pa.list_(pa.string())) for name in ("writers", "companies")),
        pa.field("language", pa.string()),
        *(pa.field(name, pa.list_(pa.string())) for name in ("aliases", "ids")),
        pa.field("runtime", pa.int32()),
    ]
)


class Catalogue:
    """All items of a dataset, numbered 0..N-1 in the natural order of their ids."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Number the items.

        Raises:
            ValueError: an item id occurs twice.
        """
        by_id: dict[str, Item] = {}
        for item in items:
            if item.item_id in by_id:
                raise ValueError(f"item id {item.item_id!r} occurs twice")
            by_id[item.item_id] = item
        self.items: tuple[Item, ...] = tuple(by_id[i] for i in natural_order(by_id))
        self.vocabulary = Vocabulary(item.item_id for item in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __getitem__(self, item_num: int) -> Item:
        return self.items[item_num]

    def __contains__(self, item_id: object) -> bool:
        return item_id in self.vocabulary

    def item(self, item_id: str) -> Item:
        """The item of an id; KeyError if unknown."""
        return self.items[self.vocabulary.num(item_id)]

    @cached_property
    def digest(self) -> str:
        """Sha256 of the numbering; models and indexes record it."""
        return self.vocabulary.digest

    @cached_property
    def by_title(self) -> dict[str, tuple[int, ...]]:
        """Title in lower case -> numbers of the items that have it: remakes, and films that a list has twice."""
        found: dict[str, list[int]] = {}
        for num, item in enumerate(self.items):
            found.setdefault(item.title.lower(), []).append(num)
        return {title: tuple(nums) for title, nums in found.items()}

    def save(self, path: Path) -> None:
        """Write all fields of all items as one Parquet file."""
        rows = [{f.name: _plain(getattr(item, f.name)) for f in fields(Item)} for item in self.items]
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        """Read what `save` wrote."""
        # One thread: a pool started here would not survive a later fork of the process.
        rows = pq.read_table(path, schema=_SCHEMA, use_threads=False).to_pylist()
        return cls(Item(**{k: _frozen(v) for k, v in row.items()}) for row in rows)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
