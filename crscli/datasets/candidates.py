"""A user's list of items to rank: a file of ids or titles matched to the catalogue."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crscli.catalogue import Catalogue, Item, plain_title, split_title
from crscli.datasets.containers import read_torch_containers
from crscli.datasets.source import Source
from crscli.errors import DataError


def read_candidates(path: Path, catalogue: Catalogue) -> np.ndarray:
    """The items that a list names.

    Args:
        path: a text file with an item id or a title a line; a JSONL file of objects with `item_id` or `title`; or
            PECRS's movie_db. A title matches every item of that title (case, blanks and year apart), unless the
            list gives a year as well. A line that is an id ("300") is that item and no title. Entries that match
            nothing are left out.
        catalogue: whose items are named.

    Returns:
        (C,) item numbers, rising.

    Raises:
        DataError: the file cannot be read, or none of its entries is in the catalogue.
    """
    by_title: dict[str, list[int]] = defaultdict(list)
    for num, item in enumerate(catalogue):
        by_title[plain_title(item.title)].append(num)
    found: set[int] = set()
    entries = 0
    for item_id, title in _entries(path):
        entries += 1
        if item_id in catalogue:
            found.add(catalogue.vocabulary.num(item_id))
            continue
        year = split_title(title)[1]
        for num in by_title.get(plain_title(title), ()):
            if year is None or catalogue[num].year in (None, year):
                found.add(num)
    if not found:
        raise DataError(
            f"none of its {entries} entries is an item of this catalogue", "give item ids or titles", path=path
        )
    return np.array(sorted(found), dtype=np.int64)


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Id and title of each entry, "" for what it does not tell; a line of text may be either."""
    if path.is_dir():
        raise DataError("is a folder", "give the file itself", path=path)
    source, name = Source(path, ("*",)), path.name
    if _is_archive(path):
        table = read_torch_containers(source, name)
        values = table.values() if isinstance(table, dict) else ()
        yield from (("", str(text).split(" [SEP] ")[0]) for text in values)
        return
    for line, text in source.lines(name):
        if text.startswith("{"):
            try:
                row = json.loads(text)
            except ValueError as error:
                raise DataError(f"not JSON: {error}", path=path, line=line) from None
            item_id, title, year = (row.get(key) for key in ("item_id", "title", "year"))
            if isinstance(item_id, str | int):
                yield str(item_id), ""
            elif isinstance(title, str):
                yield "", Item("", title, year).name if isinstance(year, int) else title
            else:
                raise DataError("no item_id and no title", path=path, line=line)
        elif text.strip():
            yield text.strip(), text.strip()


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"
