"""A user's list of items to rank: a file of ids or titles matched to the catalogue."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crscli.catalogue import Catalogue, plain_title, split_title
from crscli.datasets.containers import read_torch_containers
from crscli.datasets.source import Source
from crscli.errors import DataError


def read_candidates(path: Path, catalogue: Catalogue) -> np.ndarray:
    """The items that a list names.

    Args:
        path: a text file with an item id or a title a line; a JSONL file of objects with `item_id` or `title`; or
            PECRS's movie_db. A title matches every item of that title (case, blanks and year apart), unless the
            list gives a year as well. Entries that match nothing are left out.
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
    for entry in _entries(path):
        entries += 1
        if entry in catalogue:
            found.add(catalogue.vocabulary.num(entry))
            continue
        year = split_title(entry)[1]
        for num in by_title.get(plain_title(entry), ()):
            if year is None or catalogue[num].year in (None, year):
                found.add(num)
    if not found:
        raise DataError(
            f"none of its {entries} entries is an item of this catalogue", "give item ids or titles", path=path
        )
    return np.array(sorted(found), dtype=np.int64)


def _entries(path: Path) -> Iterator[str]:
    source = Source(path.parent, (path.name,))  # as a plain file: movie_db is itself a zip archive
    name = path.name
    if _is_archive(path):
        table = read_torch_containers(source, name)
        values = table.values() if isinstance(table, dict) else ()
        yield from (str(text).split(" [SEP] ")[0] for text in values)
        return
    for line, text in source.lines(name):
        if text.startswith("{"):
            try:
                row = json.loads(text)
            except ValueError as error:
                raise DataError(f"not JSON: {error}", path=path, line=line) from None
            entry = row.get("item_id", row.get("title"))
            if not isinstance(entry, str):
                raise DataError("no item_id and no title", path=path, line=line)
            yield entry
        elif text.strip():
            yield text.strip()


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"
