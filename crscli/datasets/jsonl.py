"""The user's own dialogues and item list, and the bundled sample, in one plain schema (README, "Your own data").

Files: `items.jsonl` or `items.csv`; `dialogues.jsonl` with a `split` on each line, or `train.jsonl`, `valid.jsonl`
and `test.jsonl`. Each may be gzipped.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from crscli.catalogue import LONGEST, Item, minutes, split_title
from crscli.datasets.corpus import Corpus, check_splits_apart, clean, distinct, with_marks_in_text
from crscli.datasets.records import BadRows, read_csv, read_json_lines
from crscli.datasets.source import Source
from crscli.dialogue import ACTS, KINDS, OPINIONS, ROLES, Dialogue, Link, Turn
from crscli.errors import DataError

ITEM_FILES = ("items.jsonl", "items.csv")
SPLIT_FILES = {"train": "train.jsonl", "valid": "valid.jsonl", "test": "test.jsonl"}
ONE_FILE = "dialogues.jsonl"
ALLOW = (*ITEM_FILES, ONE_FILE, *SPLIT_FILES.values())

_LISTS = ("genres", "directors", "cast", "keywords", "writers", "companies", "aliases", "ids")
_TEXTS = ("plot", "language")
_YEARS = range(1800, 2200)
_ITEM_FIELDS = {"item_id", "title", "year", "runtime", *_TEXTS, *_LISTS}
_DIALOGUE_FIELDS = {"dialogue_id", "split", "order", "recommender_id", "turns"}


def read(source: Source, *, bad: BadRows, sequences: bool = False, name: str = "jsonl") -> Corpus:
    """Read a folder, archive or file set in the plain schema.

    Raises:
        DataError: a file is missing, or a row is bad; names the file and line.
    """
    if sequences:
        raise DataError("the plain schema has no mention sequences", "leave out --sequences")
    notes: list[str] = []
    items = _items(source, bad, notes)
    names = {i.item_id: (i.name, i.title) for i in items}
    splits: dict[str, list[Dialogue]] = {}
    unknown: Counter[str] = Counter()
    if source.has(ONE_FILE):
        for split, dialogue in _dialogues(source, ONE_FILE, names, bad, unknown):
            splits.setdefault(split or "train", []).append(dialogue)
    for split, file in SPLIT_FILES.items():
        if source.has(file):
            splits.setdefault(split, []).extend(d for _, d in _dialogues(source, file, names, bad, unknown))
    if not any(splits.values()):
        raise DataError(
            f"{source.path}: no dialogues; expected {ONE_FILE} or {', '.join(SPLIT_FILES.values())}",
            "the README section 'Your own data' shows the schema",
        )
    splits = {split: distinct(dialogues, notes, split) for split, dialogues in splits.items()}
    check_splits_apart(splits)
    notes += [f"field {key!r} of {count} dialogues is unknown and was passed over" for key, count in unknown.items()]
    return Corpus(name, "jsonl", items, splits, notes=notes)


def _items(source: Source, bad: BadRows, notes: list[str]) -> list[Item]:
    present = [name for name in ITEM_FILES if source.has(name)]
    file = present[0] if present else None
    if len(present) > 1:
        notes.append(f"{', '.join(present[1:])} was not read: {file} is there")
    if file is None:
        raise DataError(
            f"{source.path}: no item list; expected {' or '.join(ITEM_FILES)}",
            "the README section 'Your own data' shows the schema",
        )
    rows: Iterator[tuple[int, Mapping[str, Any]]]
    if file.endswith(".csv"):
        rows = read_csv(source, file, bad, required=("item_id", "title"))
    else:
        rows = read_json_lines(source, file, bad)
    items: dict[str, Item] = {}
    unknown: Counter[str] = Counter()
    for line, row in rows:
        try:
            unknown.update(row.keys() - _ITEM_FIELDS)
            item = _item(row)
            if item.item_id in items:
                raise ValueError(f"item_id {item.item_id!r} occurs twice")
            items[item.item_id] = item
        except ValueError as error:
            bad.refuse(DataError(str(error), path=source.place(file), line=line))
    if not items:
        raise DataError("no items", path=source.place(file))
    notes += [f"{file}: field {key!r} of {count} rows is unknown and was passed over" for key, count in unknown.items()]
    return list(items.values())


def _item(row: Mapping[str, Any]) -> Item:
    item_id = _text(row, "item_id", required=True)
    title = _text(row, "title", required=True)
    year = row.get("year")
    if isinstance(year, str):
        year = year.strip() or None
        if year is not None and not (year.isascii() and year.isdigit()):
            raise ValueError(f"year {year!r} of item {item_id!r} is no whole number")
        year = None if year is None else int(year)
    plain, year_in_title = split_title(title)
    if year is None or year == year_in_title:
        title, year = plain, year_in_title
    if not title:
        raise ValueError("no title")
    if not isinstance(year, int | None) or isinstance(year, bool) or (year is not None and year not in _YEARS):
        raise ValueError(f"year {year!r} of item {item_id!r} is no year")
    lists = {name: _list(row, name) for name in _LISTS}
    plot, language = (clean(_text(row, name)) for name in _TEXTS)
    runtime = minutes(row.get("runtime"))
    if row.get("runtime") not in (None, "") and runtime is None:
        raise ValueError(f"runtime {row['runtime']!r} of item {item_id!r} is no number of minutes up to {LONGEST}")
    return Item(item_id, clean(title), year, plot=plot, language=language, runtime=runtime, **lists)


def _text(row: Mapping[str, Any], key: str, *, required: bool = False) -> str:
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # ids and titles such as 300 come as numbers
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is {type(value).__name__}, not text")
    if required and not value.strip():
        raise ValueError(f"no {key}")
    return value.strip()


def _list(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key) or []
    if isinstance(value, str):
        value = [part.strip() for part in value.split("|")]
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{key} is no list of texts")
    return tuple(clean(v) for v in value if v)


def _dialogues(
    source: Source, file: str, names: Mapping[str, tuple[str, ...]], bad: BadRows, unknown: Counter[str]
) -> Iterator[tuple[str | None, Dialogue]]:
    for line, row in read_json_lines(source, file, bad):
        try:
            unknown.update(row.keys() - _DIALOGUE_FIELDS)
            split = row.get("split")
            if split not in (None, *SPLIT_FILES):
                raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLIT_FILES)}")
            order = row.get("order")
            if not isinstance(order, int | None) or isinstance(order, bool):
                raise ValueError(f"order {order!r} is no whole number")
            turns = row.get("turns")
            if not isinstance(turns, list) or not turns:
                raise ValueError("turns is no list with at least one turn")
            read_turns = tuple(_numbered(turns, lambda t: _turn(t, names)))
            recommender = _text(row, "recommender_id") or None
            yield (
                split,
                Dialogue(
                    _text(row, "dialogue_id", required=True),
                    read_turns,
                    order=order,
                    recommender_id=recommender,
                ),
            )
        except ValueError as error:
            bad.refuse(DataError(str(error), path=source.place(file), line=line))


def _numbered(turns: list[Any], read_turn: Callable[[Any], Turn]) -> Iterator[Turn]:
    for number, turn in enumerate(turns, start=1):
        try:
            yield read_turn(turn)
        except ValueError as error:
            raise ValueError(f"turn {number}: {error}") from None


def _turn(turn: Any, names: Mapping[str, tuple[str, ...]]) -> Turn:
    if not isinstance(turn, dict):
        raise ValueError("is no object with role and text")
    role = turn.get("role")
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}; known: {', '.join(ROLES)}")
    text = turn.get("text")
    if text is None:
        raise ValueError("no text")
    if not isinstance(text, str):
        raise ValueError(f"text is {type(text).__name__}, not text")
    links = [_link(x, text) for x in _listed(turn, "links")]
    for item_id in _listed(turn, "items"):
        if not isinstance(item_id, str | int) or isinstance(item_id, bool):
            raise ValueError(f"items holds {str(item_id)[:40]!r}, which is no item_id")
        links.append(Link("item", str(item_id)))
    for link in links:
        if link.kind == "item" and link.id not in names:
            raise ValueError(f"mentions item {link.id!r}, which is not in the item list")
    acts = tuple(_listed(turn, "acts"))
    for act in acts:
        if not isinstance(act, str) or (role == "recommender" and act not in ACTS):
            raise ValueError(f"unknown act {str(act)[:40]!r}; a recommender's are {', '.join(ACTS)}")
    made = Turn(role, clean(text), tuple(links), acts)
    return with_marks_in_text(made, {x.id: names[x.id] for x in links if x.kind == "item"})


def _listed(turn: Mapping[str, Any], key: str) -> list[Any]:
    value = turn.get(key) or []
    if not isinstance(value, list):
        raise ValueError(f"{key} is {type(value).__name__}, not a list")
    return value


def _link(link: Any, text: str) -> Link:
    if not isinstance(link, dict) or link.get("kind") not in KINDS or not isinstance(link.get("id"), str):
        raise ValueError(f"a link needs kind ({', '.join(KINDS)}) and id (text)")
    start, end = link.get("start", -1), link.get("end", -1)
    whole = type(start) is int and type(end) is int  # true is no offset
    if not whole or not ((start == end == -1) or 0 <= start < end <= len(text)):
        raise ValueError(f"link to {link['id']!r}: {start!r} to {end!r} is no span of the text")
    opinion = link.get("opinion")
    if opinion not in (None, *OPINIONS):
        raise ValueError(f"unknown opinion {opinion!r}; known: {', '.join(OPINIONS)}")
    return Link(link["kind"], link["id"], start, end, opinion=opinion)
