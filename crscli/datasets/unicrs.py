"""INSPIRED as UniCRS linked it: one dialogue a line, each turn with its films and entities as DBpedia resources.

Source: RUCAIBox/UniCRS, data/inspired, *_data_dbpedia.jsonl. Only linked films count as mentions; the id of an item
is its resource without angle brackets. Entity links are noisy (everyday words) and are not read here.
"""

import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from crscli.catalogue import Item, split_title
from crscli.datasets.corpus import Corpus, clean, distinct, items_from_names, with_marks_in_text
from crscli.datasets.records import BadRows, read_json_lines
from crscli.datasets.source import Source
from crscli.dialogue import Dialogue, Link, Role, Turn
from crscli.errors import DataError

FILES = {
    "train": "*train_data_dbpedia.jsonl",
    "valid": "*valid_data_dbpedia.jsonl",
    "test": "*test_data_dbpedia.jsonl",
}
ALLOW = tuple(FILES.values())

_ROLES: dict[str, Role] = {"RECOMMENDER": "recommender", "SEEKER": "seeker"}
_FILM = re.compile(r" \((?:(\d{4}) )?(?:film|miniseries|TV series|franchise|film series)\)$")


def read(source: Source, *, bad: BadRows, sequences: bool = False) -> Corpus:
    """Read a folder with the released files.

    Raises:
        DataError: no file is there, or a row is bad.
    """
    if sequences:
        raise DataError("this form has no mention sequences", "leave out --sequences")
    notes: list[str] = []
    splits = {}
    for split, pattern in FILES.items():
        names = source.names(pattern)
        if names:
            read_all = (d for name in names for d in _dialogues(source, name, split, bad))
            splits[split] = distinct(read_all, notes, split)  # ids are line numbers: a second copy has the same
    if not splits:
        raise DataError(f"{source.path}: none of {', '.join(FILES.values())} is there", "see crs datasets")
    named = {i for dialogues in splits.values() for d in dialogues for t in d.turns for i in t.items}
    return Corpus("inspired", "unicrs", items_from_names(named, _item), splits, notes=notes)


def _item(resource: str) -> Item:
    """The item of a resource: ".../Hustlers_(2019_film)" is Hustlers, 2019."""
    name = unquote(resource.rsplit("/", 1)[-1]).replace("_", " ")
    found = _FILM.search(name)
    if found:
        return Item(resource, name[: found.start()], int(found.group(1)) if found.group(1) else None)
    title, year = split_title(name)
    return Item(resource, title or resource, year)


def _dialogues(source: Source, name: str, split: str, bad: BadRows) -> Iterator[Dialogue]:
    for line, row in read_json_lines(source, name, bad, want=list):
        try:
            yield Dialogue(f"{split}-{line:05}", tuple(_turn(turn) for turn in row))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            bad.refuse(DataError(f"no dialogue of UniCRS's form: {what}", path=source.place(name), line=line))


def _turn(turn: dict[str, Any]) -> Turn:
    if turn["role"] not in _ROLES:
        raise ValueError(f"unknown role {turn['role']!r}; known: RECOMMENDER, SEEKER")
    ids = [link.strip("<> ") for link in turn["movie_link"]]
    if not all(ids):
        raise ValueError("an empty movie_link")
    made = Turn(_ROLES[turn["role"]], clean(html.unescape(turn["text"])), tuple(Link("item", i) for i in ids))
    named = zip(ids, turn["movie_name"], strict=False)
    surface: dict[str, tuple[str, ...]] = {i: (split_title(name)[0],) for i, name in named}
    return with_marks_in_text(made, surface)
