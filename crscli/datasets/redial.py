"""ReDial as published: Amazon Mechanical Turk dialogues about films, with forms that both sides filled in.

Source: Li et al., NeurIPS 2018; data ReDialData/website (branch data). Quirks that are really there and are kept
apart here: an unanswered form is `[]`; the seeker is known by initiatorWorkerId alone and often does not open;
titles come with double or trailing blanks, without year, percent-encoded; one film may have several ids; texts hold
HTML entities; some released subsets have merged turns without ids and times.
"""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from crscli.catalogue import Item, split_title
from crscli.datasets.corpus import Corpus, clean, distinct, in_time_order
from crscli.datasets.records import BadRows, read_csv, read_json_lines
from crscli.datasets.source import Source
from crscli.dialogue import ROLES, Dialogue, Link, Role, Turn
from crscli.errors import DataError
from crscli.vocabulary import natural_order

TRAIN = "train_data*.jsonl"
TEST = "test_data.jsonl"
ITEMS = "movies_with_mentions.csv"
SEQUENCES = "mention_sequences.jsonl"
ALLOW = (TRAIN, TEST, ITEMS, SEQUENCES)

_MENTION = re.compile(r"@(\d+)")
_ANSWERS = ("suggested", "seen", "liked")


def read(source: Source, *, bad: BadRows, sequences: bool = False) -> Corpus:
    """Read a folder or archive with the published names.

    Args:
        source: holds `test_data.jsonl`, one or more `train_data*.jsonl` (each may be gzipped), and
            `movies_with_mentions.csv` if there is one.
        bad: what to do with rows that cannot be read.
        sequences: also read `mention_sequences.jsonl` for train dialogues whose text is absent.

    Raises:
        DataError: neither train nor test dialogues are there, or a row is bad.
    """
    notes: list[str] = []
    titles = _titles(source)
    splits: dict[str, list[Dialogue]] = {}
    for split, pattern in (("train", TRAIN), ("test", TEST)):
        names = source.names(pattern)
        if names:
            read_all = (d for name in names for d in _dialogues(source, name, titles, bad))
            splits[split] = in_time_order(distinct(read_all, notes, split))
    if not splits:
        raise DataError(f"{source.path}: neither {TRAIN} nor {TEST} is there", "see crs datasets redial")
    extra = _sequences(source, splits, titles, bad) if sequences else []
    items = [Item(i, *_title(i, titles)) for i in natural_order(titles)]
    return Corpus("redial", "published", items, splits, extra, notes)


def _titles(source: Source) -> dict[str, str]:
    """Item id -> title as published; empty without a movie list (the dialogues' own titles follow)."""
    if not source.has(ITEMS):
        return {}
    titles: dict[str, str] = {}
    for line, row in read_csv(source, ITEMS, required=("movieId", "movieName")):
        if row["movieId"] in titles:
            raise DataError(f"movieId {row['movieId']!r} occurs twice", path=source.place(ITEMS), line=line)
        titles[row["movieId"]] = row["movieName"]
    return titles


def _dialogues(source: Source, name: str, titles: dict[str, str], bad: BadRows) -> Iterator[Dialogue]:
    for line, row in read_json_lines(source, name, bad):
        try:
            yield _dialogue(row, titles)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            bad.refuse(DataError(f"not a ReDial dialogue: {what}", path=source.place(name), line=line))


def _dialogue(row: Mapping[str, Any], titles: dict[str, str]) -> Dialogue:
    """One record of the published schema; new titles are added to `titles`."""
    dialogue_id = _id(row)
    seeker, recommender = row["initiatorWorkerId"], row["respondentWorkerId"]
    # An empty object is sometimes written as an empty list.
    mentioned = row.get("movieMentions") or {}
    if not all(isinstance(title, str | None) for title in mentioned.values()):
        raise ValueError("movieMentions holds a title that is no text")
    if not isinstance(row["messages"], list):
        raise ValueError(f"messages is {type(row['messages']).__name__}, not a list")
    turns = []
    titles |= {i: title for i, title in mentioned.items() if title and not titles.get(i)}
    for message in row["messages"]:
        sender = message["senderWorkerId"]
        if sender not in (seeker, recommender):
            raise ValueError(f"unknown role: worker {sender!r} is neither initiator nor respondent")
        role: Role = "seeker" if sender == seeker else "recommender"
        turns.append(_turn(role, message["text"] or "", titles))
    forms = {
        "seeker": _form(row.get("initiatorQuestions")),
        "recommender": _form(row.get("respondentQuestions")),
    }
    return Dialogue(
        dialogue_id,
        tuple(turns),
        order=int(dialogue_id) if dialogue_id.isascii() and dialogue_id.isdigit() else None,
        seeker_id=str(seeker),
        recommender_id=str(recommender),
        forms={role: form for role, form in forms.items() if form},
    )


def _id(row: Mapping[str, Any]) -> str:
    value = row["conversationId"]
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise ValueError(f"conversationId {value!r} is no id")
    return str(value)


def _title(item_id: str, titles: Mapping[str, str]) -> tuple[str, int | None]:
    title, year = split_title(titles[item_id])
    return title or f"film {item_id}", year


def _turn(role: Role, text: str, titles: dict[str, str]) -> Turn:
    """A message with its @ids replaced by what a person reads, and a link at each place.

    An @number that no movie list knows is no mention and stays as it is.
    """
    if not isinstance(text, str):
        raise ValueError(f"text is {type(text).__name__}, not text")
    parts: list[str] = []
    links: list[Link] = []
    length = at = 0
    for found in _MENTION.finditer(text):
        item_id = found.group(1)
        if item_id not in titles:
            continue
        before = clean(html.unescape(text[at : found.start()]))
        title, year = _title(item_id, titles)
        name = title if year is None else f"{title} ({year})"
        start = length + len(before)
        links.append(Link("item", item_id, start, start + len(name)))
        parts += [before, name]
        length, at = start + len(name), found.end()
    parts.append(clean(html.unescape(text[at:])))
    return Turn(role, "".join(parts), tuple(links))


def _form(form: Any) -> dict[str, dict[str, int]]:
    if not form:
        return {}
    return {i: {a: int(answers[a]) for a in _ANSWERS if a in answers} for i, answers in form.items()}


def _sequences(
    source: Source, splits: Mapping[str, list[Dialogue]], titles: Mapping[str, str], bad: BadRows
) -> list[Dialogue]:
    """Train dialogues known only by their linked mentions; those whose text was read and test ones are left out.

    A mention whose link stands for several films is dropped: the source does not say which was meant.
    """
    if not source.names(SEQUENCES):
        raise DataError(f"{source.path}: {SEQUENCES} is not there", "leave out --sequences")
    known = {d.dialogue_id for dialogues in splits.values() for d in dialogues}
    found = []
    name = source.names(SEQUENCES)[0]
    for line, row in read_json_lines(source, name, bad):
        try:
            if row["kgsf_split"] == "test" or _id(row) in known:
                continue
            if any(role not in ROLES for role, *_ in row["mentions"]):
                raise ValueError(f"unknown role; known: {', '.join(ROLES)}")
            turns = [
                Turn(role, "", (Link("item", str(ids[0])),))
                for role, _, _, ids in row["mentions"]
                if len(ids) == 1 and str(ids[0]) in titles
            ]
            if turns:
                found.append(Dialogue(_id(row), tuple(turns), order=int(_id(row))))
        except (KeyError, TypeError, ValueError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            bad.refuse(DataError(f"no mention sequence: {what}", path=source.place(name), line=line))
    return in_time_order(found)
