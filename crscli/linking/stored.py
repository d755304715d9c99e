"""Links in a file: one row a link, and how they come back onto dialogues."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crscli.dialogue import Dialogue, Link, Turn

FILE = "links.parquet"

MARKED = "marked"
"""How the reason of a link begins that is the dataset's own mark."""

Place = tuple[str, str, int]
"""(split, dialogue id, number of the turn)."""

_ROWS = 20_000
_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("split", "dialogue_id")),
        pa.field("turn_num", pa.int32(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("kind", "id")),
        *(pa.field(name, pa.int32(), nullable=False) for name in ("start", "end")),
        pa.field("score", pa.float32()),
        pa.field("candidates", pa.list_(pa.string())),
        pa.field("opinion", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("marked", pa.bool_(), nullable=False),
    ]
)


def write_links(path: Path, found: Iterable[tuple[Place, Sequence[Link]]]) -> None:
    """Write links as they come, in groups of rows: memory does not grow with their number.

    The score of a mark that the linker did not find is missing.
    """
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for place, links in found:
            rows += (_row(place, link) for link in links)
            if len(rows) >= _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))


def _row(place: Place, link: Link) -> dict[str, Any]:
    split, dialogue_id, turn_num = place
    marked = link.reason.startswith(MARKED)
    return {
        "split": split,
        "dialogue_id": dialogue_id,
        "turn_num": turn_num,
        "kind": link.kind,
        "id": link.id,
        "start": link.start,
        "end": link.end,
        "score": None if marked and link.kind == "item" and not link.candidates else link.score,
        "candidates": list(link.candidates),
        "opinion": link.opinion,
        "reason": link.reason,
        "marked": marked,
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, use_threads=False):
            yield from batch.to_pylist()


def read_links(folder: Path) -> dict[Place, tuple[Link, ...]]:
    """The links of each turn, as `with_links` puts them back.

    Where a dataset marks films itself, those that the linker found besides are left out; so are films without a place
    that a message only answers.
    """
    rows = [row for row in _rows(folder / FILE) if row["start"] >= 0 or row["marked"]]
    has_marks = any(row["marked"] and row["kind"] == "item" for row in rows)
    found: dict[Place, list[Link]] = {}
    for row in rows:
        if row["kind"] != "item" or row["marked"] or not has_marks:
            place = (row["split"], row["dialogue_id"], row["turn_num"])
            found.setdefault(place, []).append(_link(row))
    return {place: tuple(links) for place, links in found.items()}


def _link(row: Mapping[str, Any]) -> Link:
    return Link(
        row["kind"],
        row["id"],
        row["start"],
        row["end"],
        1.0 if row["score"] is None else row["score"],
        tuple(row["candidates"]),
        row["opinion"],
        row["reason"],
    )


def with_links(split: str, dialogues: Iterable[Dialogue], found: Mapping[Place, Sequence[Link]]) -> list[Dialogue]:
    """Dialogues with the links that were found: the dataset's own marks keep their place and id and get an opinion.

    Args:
        split: the split that the dialogues are of.
        dialogues: as the data have them.
        found: what `read_links` read.
    """
    linked = []
    for dialogue in dialogues:
        turns = tuple(
            _with_found(turn, found.get((split, dialogue.dialogue_id, number), ()))
            for number, turn in enumerate(dialogue.turns)
        )
        linked.append(replace(dialogue, turns=turns))
    return linked


def _with_found(turn: Turn, found: Sequence[Link]) -> Turn:
    if not found:
        return turn
    # Marks are stored in the order of the data, so that one without a place finds its own.
    told = iter([link for link in found if link.reason.startswith(MARKED)])
    own = []
    for link in turn.links:
        mark = next(told, None)
        own.append(link if mark is None else replace(link, opinion=mark.opinion, reason=mark.reason))
    new = [link for link in found if not link.reason.startswith(MARKED)]
    return replace(turn, links=tuple(sorted([*own, *new], key=lambda link: link.start)))
