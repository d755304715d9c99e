"""Metadata of films from TMDB, from files and from the item list itself, merged field by field.

A source gives an `Item` for each film that it knows; `merge` decides which source a field is taken from. The network
is in `session`, tmdbv3api in `tmdb`, the forms of files in `files`, and whether two films are one in `match`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from crscli.catalogue import Item
from crscli.genres import canonical
from crscli.metadata.match import title_key

FIELDS = (
    "genres", "directors", "writers", "cast", "companies", "keywords", "language", "plot", "year", "runtime", "aliases",
    "ids",
)  # fmt: skip
"""What a source may tell of an item; its item id and title are never changed."""

JOINED = ("aliases", "ids")
"""Fields to which every source adds: names and numbers of a film do not compete."""


def merge(item: Item, sources: Sequence[tuple[str, Item]]) -> tuple[Item, list[tuple[str, str]]]:
    """Fill an item's fields from what sources tell of it, each from the first source that has it.

    A list or text is taken whole, with genres under their one name; aliases and ids are joined. A title of a source
    that is not the item's becomes an alias.

    Args:
        item: gives item id and title, and its year where it has one; nothing else of it is taken.
        sources: (name, what it knows), the preferred first.

    Returns:
        The item, and (field, source) for every field that was filled.
    """
    values: dict[str, Any] = {"year": item.year}
    origins: list[tuple[str, str]] = []
    for name in FIELDS:
        for source, record in sources:
            value = _value(item, record, name)
            kept = values.get(name)
            if value and name in JOINED:
                value = tuple(v for v in value if v not in (kept or ()))
                values[name] = (*(kept or ()), *value)
            elif value and not kept:
                values[name] = value
            else:
                continue
            if value:
                origins.append((name, source))
    return Item(item.item_id, item.title, **values), origins


def _value(item: Item, record: Item, name: str) -> Any:
    value = getattr(record, name)
    if name == "genres":
        return tuple(dict.fromkeys(canonical(genre) for genre in value if genre.strip()))
    if name == "aliases":
        own = {title_key(item.title)}
        others = {title_key(title): title for title in reversed((record.title, *value)) if title}
        return tuple(title for key, title in reversed(others.items()) if key not in own)
    return value


def known_ids(items: Iterable[Item], records: Mapping[str, Item]) -> list[Item]:
    """The items with the ids that a source knows of them, so that the next one need not search."""
    return [
        replace(item, ids=tuple(dict.fromkeys((*item.ids, *records[item.item_id].ids))))
        if item.item_id in records
        else item
        for item in items
    ]


def has_metadata(items: Iterable[Item]) -> bool:
    """Whether any item has more than its title and year."""
    return any(getattr(item, name) for item in items for name in FIELDS if name != "year")


def coverage(items: Sequence[Item]) -> dict[str, int]:
    """How many items have each field."""
    return {name: sum(1 for item in items if getattr(item, name)) for name in FIELDS}
