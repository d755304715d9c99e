"""The processed form that PECRS released: torch archives of plain lists, read without torch and without running them.

Source: Ravoxsg/efficient_unified_crs, data/{REDIAL,INSPIRED}; made by the notebooks of MESE. A dialogue is
(user tag, [(text, item ids or None)]); texts begin with "A: " (recommender) or "B: " (seeker), sides alternate, and
films stand as [MOVIE_ID]. Item ids are PECRS's own. `movie_db` maps them to
"title [SEP] actors [SEP] directors [SEP] genres [SEP] plot"; INSPIRED's is not to be had, its films stay numbers.
"""

import html
from collections.abc import Iterator, Mapping
from typing import Any

from crscli.catalogue import Item
from crscli.datasets.containers import read_torch_containers
from crscli.datasets.corpus import Corpus, clean, items_from_names
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import Dialogue, Link, Turn
from crscli.errors import DataError

FILES = {"train": "train_data_processed", "valid": "dev_data_processed", "test": "test_data_processed"}
MOVIES = "movie_db"
ALLOW = (*FILES.values(), MOVIES)

_SLOT = "[MOVIE_ID]"
_ROLES = {"A: ": "recommender", "B: ": "seeker"}


def read(source: Source, *, bad: BadRows, sequences: bool = False) -> Corpus:
    """Read a folder with the released files of one data set.

    Raises:
        DataError: no file is there, or a file has another shape.
    """
    if sequences:
        raise DataError("this form has no mention sequences", "leave out --sequences")
    films = _films(source) if source.has(MOVIES) else {}
    splits = {}
    corpus = "inspired"
    for split, name in FILES.items():
        if source.has(name):
            data = read_torch_containers(source, name)
            if not isinstance(data, list):
                raise DataError(f"a list of dialogues expected, found {type(data).__name__}", path=source.place(name))
            splits[split] = list(_dialogues(data, split, films, source.place(name), bad))
            # Worker ids stand for the user tag in ReDial, role names in INSPIRED.
            if any(isinstance(record, list | tuple) and record and isinstance(record[0], int) for record in data):
                corpus = "redial"
    if not splits:
        raise DataError(f"{source.path}: none of {', '.join(FILES.values())} is there", "see crs datasets")
    notes = []
    if not films:
        named = {i for dialogues in splits.values() for d in dialogues for t in d.turns for i in t.items}
        films = {i.item_id: i for i in items_from_names(named, lambda i: Item(i, f"film {i}"))}
        notes.append(f"no {MOVIES}: the {len(films)} films named in any split are the items, without titles")
    return Corpus(corpus, "pecrs", list(films.values()), splits, notes=notes)


def _films(source: Source) -> dict[str, Item]:
    table = read_torch_containers(source, MOVIES)
    if not isinstance(table, dict):
        raise DataError(f"a table of films expected, found {type(table).__name__}", path=source.place(MOVIES))
    return {str(i): film_of(str(i), text, source.place(MOVIES)) for i, text in table.items()}


def film_of(item_id: str, text: object, place: str) -> Item:
    """The item that one value of movie_db describes."""
    parts = [part.strip() for part in text.split("[SEP]")] if isinstance(text, str) else []
    if len(parts) != 5:
        raise DataError(f"film {item_id}: 5 fields separated by [SEP] expected, found {len(parts)}", path=place)
    title, cast, directors, genres, plot = parts
    return Item(
        item_id, title, None, genres=_named(genres.lower()), directors=_named(directors), cast=_named(cast), plot=plot
    )


def _named(field: str) -> tuple[str, ...]:
    """The names of a field; "nan" is how the release writes nothing in some rows."""
    return tuple(name.strip() for name in field.split(",") if name.strip() and name.strip() != "nan")


def _dialogues(data: list[Any], split: str, films: Mapping[str, Item], place: str, bad: BadRows) -> Iterator[Dialogue]:
    for num, record in enumerate(data):
        try:
            _, turns = record
            yield Dialogue(f"{split}-{num:05}", tuple(_turn(text, ids, films) for text, ids in turns))
        except (TypeError, ValueError) as error:
            bad.refuse(DataError(f"dialogue {num}: {error}", path=place))


def _turn(text: object, ids: object, films: Mapping[str, Item]) -> Turn:
    """A turn with its slots filled; slots and ids are paired in order where there are as many of both."""
    if not isinstance(text, str) or text[:3] not in _ROLES:
        raise ValueError(f"a text that begins with 'A: ' or 'B: ' expected, found {str(text)[:40]!r}")
    if not (ids is None or (isinstance(ids, list) and all(isinstance(i, int) for i in ids))):
        raise ValueError(f"item ids or nothing expected, found {str(ids)[:40]!r}")
    named = [str(i) for i in ids or []]
    pieces = clean(html.unescape(text[3:].replace("QUOTATION_MARK", '"'))).split(_SLOT)
    paired = len(pieces) - 1 == len(named)
    filled, links = pieces[0], []
    for num, piece in enumerate(pieces[1:]):
        name = "(a film)"
        if paired:
            item = films.get(named[num])
            name = item.name if item else f"film {named[num]}"
            links.append(Link("item", named[num], len(filled), len(filled) + len(name)))
        filled += name + piece
    if not paired:
        links = [Link("item", i) for i in named]
    return Turn(_ROLES[text[:3]], filled, tuple(links))  # type: ignore[arg-type]
