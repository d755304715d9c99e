"""INSPIRED as published: sociable film recommendation dialogues, one sentence a row.

Source: Hayati et al., EMNLP 2020; data sweetpeach/Inspired, data/dialog_data. Rows of one dialog_id and turn_id by
one speaker are one turn. The `movies` column names the films of a row ("Title (Year)", separated by ";"), found
automatically by the authors, so that common words are sometimes marked. Quotation marks are written
QUOTATION_MARK. The film list `movie_database.tsv` is used if it is there; else the items are the marked titles.
"""

import html
from collections.abc import Iterator
from itertools import groupby

from crscli.catalogue import Item, split_title
from crscli.datasets.corpus import Corpus, clean, distinct, items_from_names, with_marks_in_text
from crscli.datasets.records import BadRows, read_csv
from crscli.datasets.source import Source
from crscli.dialogue import Dialogue, Link, Role, Turn, merge_turns
from crscli.errors import DataError

FILES = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}
DATABASE = "movie_database.tsv"
ALLOW = (*FILES.values(), DATABASE)

_ROLES: dict[str, Role] = {"RECOMMENDER": "recommender", "SEEKER": "seeker"}


def read(source: Source, *, bad: BadRows, sequences: bool = False) -> Corpus:
    """Read a folder or archive with train.tsv, dev.tsv and test.tsv.

    Raises:
        DataError: none of the files is there, or a row is bad.
    """
    if sequences:
        raise DataError("INSPIRED has no mention sequences", "leave out --sequences")
    notes: list[str] = []
    splits = {
        split: distinct(_dialogues(source, name, bad), notes, split)
        for split, name in FILES.items()
        if source.has(name)
    }
    if not splits:
        raise DataError(f"{source.path}: none of {', '.join(FILES.values())} is there", "see crs datasets inspired")
    names = {i for dialogues in splits.values() for d in dialogues for t in d.turns for i in t.items}
    if source.has(DATABASE):
        names |= set(_database(source))
    else:
        notes.append(f"no {DATABASE}: the items are the {len(names)} titles marked in the dialogues of all splits")
    items = items_from_names(names, lambda name: Item(name, *split_title(name)))
    return Corpus("inspired", "published", items, splits, notes=notes)


def _dialogues(source: Source, name: str, bad: BadRows) -> Iterator[Dialogue]:
    required = ("dialog_id", "turn_id", "speaker", "text", "movies")
    rows = read_csv(source, name, bad, required=required, delimiter="\t", quoted=False)
    for dialogue_id, group in groupby(rows, key=lambda pair: pair[1]["dialog_id"]):
        turns = []
        for line, row in group:
            if row["speaker"].upper() not in _ROLES:
                bad.refuse(
                    DataError(
                        f"unknown role {row['speaker']!r}; known: RECOMMENDER, SEEKER",
                        path=source.place(name),
                        line=line,
                    )
                )
                continue
            turns.append(_turn(_ROLES[row["speaker"].upper()], row["text"], row["movies"]))
        yield Dialogue(dialogue_id, merge_turns(turns))


def _turn(role: Role, text: str, movies: str) -> Turn:
    text = clean(html.unescape(text.replace("QUOTATION_MARK", '"')))
    names = [" ".join(name.split()) for name in movies.split(";") if name.strip()]
    turn = Turn(role, text, tuple(Link("item", name) for name in names))
    return with_marks_in_text(turn, {name: (name, split_title(name)[0]) for name in names})


def _database(source: Source) -> Iterator[str]:
    """Names of the film list's rows; rows without a title are left out."""
    for line, row in read_csv(source, DATABASE, required=(), delimiter="\t", quoted=False):
        fields = {key.lower(): value for key, value in row.items()}
        if "title" not in fields:
            raise DataError(f"no column 'title' among {', '.join(row)}", path=source.place(DATABASE), line=line)
        title, year = split_title(fields["title"])
        if year is None and fields.get("year", "")[:4].isdigit():
            year = int(fields["year"][:4])
        if title:
            yield title if year is None else f"{title} ({year})"
