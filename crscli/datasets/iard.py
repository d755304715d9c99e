"""IARD: ReDial dialogues whose turns are annotated with what they do, for learning when to recommend.

Source: Cai & Chen, Predicting User Intents and Satisfaction with Dialogue-based Conversational Recommendations, UMAP
2020; for research only. One JSON object: dialogue id -> turns in order, films marked as "@id <Title (year)>". The test
split is the dialogues that are ReDial's test dialogues: what is learnt from ReDial or from the rest has not seen them.
"""

import html
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from crscli.catalogue import Item, split_title
from crscli.datasets.corpus import Corpus, clean
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import ROLES, Dialogue, Link, Turn, merge_turns
from crscli.errors import DataError
from crscli.vocabulary import natural_order

FILE = "*IARD*.json"
ALLOW = (FILE,)
FIRST_TEST_ID = 20_001
"""ReDial's test dialogues are those from this id on."""

_MENTION = re.compile(r"@(\d+)\s*<\s*([^<>]*?)\s*>")
_ACTS = {"Recommend": "recommend", "Explain": "explain", "Respond": "respond", "Request": "request", "OTH": "chat"}
_INTENTS = {
    "IQU": "asks for a recommendation",
    "CON": "asks for more",
    "REF": "asks again in other words",
    "STO": "begins anew",
    "PRO": "tells a preference",
    "ANS": "answers a question",
    "ASK": "asks for an opinion",
    "SEE": "has seen it",
    "ACC": "accepts",
    "REJ": "refuses",
    "NRE": "is undecided",
    "INQ": "asks about the item",
    "CRI-F": "names a feature to change",
    "CRI-A": "adds a wish",
    "CRI-C": "compares",
    "OTH": "chats",
}


def read(source: Source, *, bad: BadRows, sequences: bool = False) -> Corpus:
    """Read a folder or archive with the annotation file.

    Raises:
        DataError: it is not there, or a dialogue is bad.
    """
    if sequences:
        raise DataError("IARD has no mention sequences", "leave out --sequences")
    names = source.names(FILE)
    if not names:
        raise DataError(f"{source.path}: no file {FILE} is there", "see crs datasets iard")
    place = source.place(names[0])
    try:
        rows = json.loads(source.read_bytes(names[0]).decode("utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise DataError(f"not JSON: {error}", path=place) from None
    if not isinstance(rows, dict):
        raise DataError("one JSON object of dialogues was expected", path=place)
    titles: dict[str, str] = {}
    read_ = list(_dialogues(rows, titles, bad, place))
    splits = {
        "train": [d for d in read_ if not is_test_of_redial(d.dialogue_id)],
        "test": [d for d in read_ if is_test_of_redial(d.dialogue_id)],
    }
    items = [Item(i, *split_title(titles[i])) for i in natural_order(titles)]
    notes = [f"{len(splits['test'])} of {len(read_)} dialogues are ReDial test dialogues: they are the test split"]
    return Corpus("iard", "published", items, {s: d for s, d in splits.items() if d}, notes=notes)


def is_test_of_redial(dialogue_id: str) -> bool:
    """Whether an id is one of ReDial's test dialogues."""
    return dialogue_id.isascii() and dialogue_id.isdigit() and int(dialogue_id) >= FIRST_TEST_ID


def learnable(dialogues: Iterable[Dialogue], held_out: Collection[str]) -> list[Dialogue]:
    """The annotated dialogues that nothing is measured on: none of ReDial's test set, and none of `held_out`."""
    kept = [d for d in dialogues if not is_test_of_redial(d.dialogue_id) and d.dialogue_id not in held_out]
    assert not {d.dialogue_id for d in kept} & set(held_out)
    assert not any(is_test_of_redial(d.dialogue_id) for d in kept)
    return kept


def _dialogues(rows: Mapping[str, Any], titles: dict[str, str], bad: BadRows, place: str) -> Iterator[Dialogue]:
    for dialogue_id, row in sorted(rows.items(), key=lambda pair: (len(pair[0]), pair[0])):
        try:
            spoken = sorted(row["dialogue_info"].values(), key=lambda turn: int(turn["utterance_pos"]))
            turns = merge_turns(_turn(turn, titles) for turn in spoken)
            order = int(dialogue_id) if dialogue_id.isascii() and dialogue_id.isdigit() else None
            yield Dialogue(dialogue_id, turns, order=order)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            bad.refuse(DataError(f"dialogue {dialogue_id!r} is no IARD dialogue: {what}", path=place))


def _turn(row: Mapping[str, Any], titles: dict[str, str]) -> Turn:
    """A turn with its films as a person reads them, and what it does."""
    role = row["role"]
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}; known: {', '.join(ROLES)}")
    labels, known = (
        (row["top-level intent/action"], _ACTS) if role == "recommender" else (row["sub-intent/action"], _INTENTS)
    )
    if unknown := [label for label in labels if label not in known]:
        raise ValueError(f"unknown label {unknown[0]!r}; known: {', '.join(known)}")
    parts: list[str] = []
    links: list[Link] = []
    length = at = 0
    text = str(row["utterance_text"])
    for found in _MENTION.finditer(text):
        title, year = split_title(found.group(2))
        if not title:
            continue
        name = title if year is None else f"{title} ({year})"
        before = clean(html.unescape(text[at : found.start()]))
        titles.setdefault(found.group(1), name)
        start = length + len(before)
        links.append(Link("item", found.group(1), start, start + len(name)))
        parts += [before, name]
        length, at = start + len(name), found.end()
    parts.append(clean(html.unescape(text[at:])))
    return Turn(role, "".join(parts), tuple(links), tuple(dict.fromkeys(known[label] for label in labels)))
