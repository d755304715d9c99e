"""Evaluation protocols by name: which turns are rows, which items are gold, which are candidates, and how many.

Eleven different "ReDial test sets" circulate. A protocol fixes one of them and the counts it must give when the
data are complete; a mismatch is an error. Knows nothing about models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from crscli.catalogue import Catalogue
from crscli.dialogue import ROLES, Context, Dialogue, Example, Role, cut
from crscli.errors import DataError, UsageError, unknown_name

Candidates = Literal["catalogue", "recommended", "listed"]
Aggregate = Literal["micro", "row"]


@dataclass(frozen=True)
class Row:
    """One context to rank for. `labels` are the gold items; `repeated[i]` tells whether the context names label i."""

    dialogue_id: str
    turn_num: int
    context: Context
    labels: tuple[str, ...]
    repeated: tuple[bool, ...]


@dataclass(frozen=True)
class TestSet:
    """The rows of a protocol on one split.

    `candidates` (C,) int64 item numbers that are ranked; `dialogue_nums` (R,) int64 which dialogue each row is of;
    `counts` what was found; `checked` whether it was held against the protocol's expected counts.
    """

    __test__ = False  # no test class, whatever pytest thinks of the name

    protocol: "Protocol"
    split: str
    rows: list[Row]
    candidates: np.ndarray
    dialogue_nums: np.ndarray
    counts: Mapping[str, int]
    checked: bool


@dataclass(frozen=True)
class Protocol:
    """A named way to measure.

    Args:
        name: as given with --protocol.
        summary: one line for the listing.
        source: paper or code it follows, and where it differs.
        accepts: (corpus, form) pairs it is defined on; empty means any.
        merge: consecutive messages of one side are one turn.
        speakers: whose turns are rows.
        context_turns: how many turns of context a model sees; None means all.
        new_only: labels that the context names are left out, and rows without a label.
        distinct: an item named twice in a turn is one label.
        filled_in: an item counts only if the recommender's form has it (where dialogues have forms).
        candidates: "catalogue" all items; "recommended" those that a recommender names in any split; "listed" a
            given list, and only its items are labels.
        aggregate: what the table's figures are means over.
        expected: (corpus, form, split) -> counts of the complete data.
    """

    name: str
    summary: str
    source: str
    accepts: tuple[tuple[str, str], ...] = ()
    merge: bool = True
    speakers: tuple[Role, ...] = ("recommender",)
    context_turns: int | None = None
    new_only: bool = False
    distinct: bool = True
    filled_in: bool = False
    candidates: Candidates = "catalogue"
    aggregate: Aggregate = "row"
    expected: Mapping[tuple[str, str, str], Mapping[str, int]] = field(default_factory=dict)

    def needs_list(self, form: str) -> bool:
        """Whether a list of candidates must be given for data of this form."""
        return self.candidates == "listed" and form == "published"


_REDIAL = (("redial", "published"),)
_SIGIR26 = "SIGIR 2026 re-evaluation of seven systems (DOI 10.1145/3805712.3808573)"


def _redial(dialogues: int = 1342, **counts: int) -> dict[tuple[str, str, str], dict[str, int]]:
    return {("redial", "published", "test"): {"dialogues": dialogues, **counts}}


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "redial-merged-all",
            "merged recommender turns with a film and a context; every film is a label",
            f"{_SIGIR26}, full set",
            _REDIAL,
            expected=_redial(rows=3617, labels=4897, named=4933),
        ),
        Protocol(
            "redial-merged-new",
            "the same without films that the context names",
            f"{_SIGIR26}, deduplicated set",
            _REDIAL,
            new_only=True,
            expected=_redial(rows=3372, labels=4426),
        ),
        Protocol(
            "redial-message-all",
            "single recommender messages with a film and a message before them",
            "the unit of KBRD-style code without merging",
            _REDIAL,
            merge=False,
            aggregate="micro",
            expected=_redial(rows=4198, labels=4975),
        ),
        Protocol(
            "redial-message-new",
            "the same without films that the context names",
            "the unit of KBRD-style code without merging",
            _REDIAL,
            merge=False,
            new_only=True,
            aggregate="micro",
            expected=_redial(rows=3838, labels=4472),
        ),
        Protocol(
            "mese-pecrs",
            "one point for each film of a recommender turn that is in the recommender's form and in PECRS's film list",
            "MESE (NAACL 2022) and PECRS (EACL 2024); from the raw file or from PECRS's released form",
            (("redial", "published"), ("redial", "pecrs")),
            distinct=False,
            filled_in=True,
            candidates="listed",
            aggregate="micro",
            expected=_redial(rows=3509, labels=4751, points=8329)
            | {("redial", "pecrs", "test"): {"dialogues": 1342, "rows": 3509, "labels": 4751, "points": 8329}},
        ),
        Protocol(
            "reficr",
            "merged recommender turns, context of the last 4 turns, films of the given list; near ReFICR's rows",
            "ReFICR (RecSys 2024). Its rows are UniCRS's linked ones (3,457 rows, 4,615 labels of 6,051 titles); "
            "without those links more rows qualify, so no count is asserted",
            (("redial", "published"), ("redial", "pecrs")),
            context_turns=4,
            candidates="listed",
        ),
        Protocol(
            "inspired-pecrs",
            "merged recommender turns with a film, on PECRS's release; candidates are all films named in any split",
            "PECRS (EACL 2024), dataset.py; distinct films of a turn instead of one point a mention",
            (("inspired", "pecrs"),),
            aggregate="micro",
            expected={
                ("inspired", "pecrs", "test"): {
                    "dialogues": 99,
                    "rows": 246,
                    "labels": 276,
                    "points": 993,
                    "named": 279,
                },
                ("inspired", "pecrs", "valid"): {
                    "dialogues": 99,
                    "rows": 268,
                    "labels": 301,
                    "points": 977,
                    "named": 305,
                },
            },
        ),
        Protocol(
            "inspired-unicrs",
            "recommender turns with a linked film, repeats kept, on UniCRS's release; candidates: recommended films",
            "UniCRS (KDD 2022), process_mask.py of INSPIRED; recommender turns only",
            (("inspired", "unicrs"),),
            distinct=False,
            candidates="recommended",
            aggregate="micro",
            expected={
                ("inspired", "unicrs", "test"): {"dialogues": 99, "rows": 227, "labels": 256, "candidates": 1123},
                ("inspired", "unicrs", "valid"): {"dialogues": 99, "rows": 245, "labels": 273, "candidates": 1123},
            },
        ),
        Protocol(
            "turns",
            "merged recommender turns with an item and a context, on any dataset; every item is a label",
            "crs",
            expected={
                ("inspired", "published", "test"): {"dialogues": 99, "rows": 264, "labels": 304},
                ("inspired", "published", "valid"): {"dialogues": 99, "rows": 282, "labels": 320},
            },
        ),
        Protocol(
            "turns-new",
            "the same without items that the context names",
            "crs",
            new_only=True,
        ),
    )
}


def protocol_for(name: str | None, corpus: str, form: str) -> Protocol:
    """Look a protocol up; without a name, the first that is made for this corpus and form, else `turns`.

    Raises:
        UsageError: unknown, or not defined on this form of this corpus.
    """
    fits = [p for p in PROTOCOLS.values() if (corpus, form) in p.accepts]
    if name is None:
        return fits[0] if fits else PROTOCOLS["turns"]
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS, "crs protocols lists what there is")
    protocol = PROTOCOLS[name]
    if protocol.accepts and protocol not in fits:
        wanted = " or ".join(f"{c} --form {f}" for c, f in protocol.accepts)
        known = ", ".join(p.name for p in PROTOCOLS.values() if not p.accepts or p in fits)
        raise UsageError(
            f"protocol {name} is not defined on {corpus} in the form {form}",
            f"fetch {wanted}, or use a protocol for this data: {known}",
        )
    return protocol


def select(
    protocol: Protocol,
    splits: Mapping[str, Sequence[Dialogue]],
    split: str,
    catalogue: Catalogue,
    *,
    corpus: str,
    form: str,
    listed: np.ndarray | None = None,
) -> TestSet:
    """The rows of a protocol, with their counts held against the expected ones.

    Args:
        protocol: what to measure.
        splits: all dialogues; some candidate sets look at every split.
        split: whose turns are rows.
        catalogue: of the dataset.
        corpus: the data set the dialogues come from.
        form: its form.
        listed: item numbers of the given list, for protocols that need one.

    Raises:
        UsageError: the split is absent, or a needed list is not given.
        DataError: the data are complete but the counts differ.
    """
    if split not in splits:
        there = f"there is: {', '.join(splits)}; --split valid measures on valid"
        raise UsageError(f"no {split} split in this dataset", there)
    if protocol.needs_list(form) and listed is None:
        raise UsageError(
            f"protocol {protocol.name} ranks the films of a list",
            "give it with --candidates FILE: one JSON object with a title a line, or PECRS's movie_db",
        )
    candidates = _candidates(protocol, splits, catalogue, listed)
    labelled = _labelled(candidates, catalogue) if protocol.candidates == "listed" else None
    rows: list[Row] = []
    dialogue_nums: list[int] = []
    points = named = 0
    for num, dialogue in enumerate(splits[split]):
        for example in cut(dialogue, merge=protocol.merge, speakers=protocol.speakers, with_items=False):
            gold = _gold(protocol, dialogue, example, labelled)
            points += max(1, len(gold))
            named += len(gold)
            row = _row(protocol, example, gold)
            if row.labels:
                rows.append(row)
                dialogue_nums.append(num)
    counts = {
        "dialogues": len(splits[split]),
        "rows": len(rows),
        "labels": sum(len(r.labels) for r in rows),
        "named": named,
        "points": points,
        "candidates": len(candidates),
        "items": len(catalogue),
        "labels_outside_candidates": _outside(rows, candidates, catalogue),
    }
    checked = _check(protocol, counts, (corpus, form, split), listed is not None)
    return TestSet(protocol, split, rows, candidates, np.array(dialogue_nums, dtype=np.int64), counts, checked)


def _candidates(
    protocol: Protocol, splits: Mapping[str, Sequence[Dialogue]], catalogue: Catalogue, listed: np.ndarray | None
) -> np.ndarray:
    everything = np.arange(len(catalogue), dtype=np.int64)
    if listed is not None:
        return listed
    if protocol.candidates == "recommended":
        named = {i for ds in splits.values() for d in ds for t in d.turns if t.role == ROLES[1] for i in t.items}
        return np.sort(catalogue.vocabulary.nums(sorted(named)))
    return everything


def _labelled(candidates: np.ndarray, catalogue: Catalogue) -> set[str]:
    return {catalogue[int(n)].item_id for n in candidates}


def _gold(protocol: Protocol, dialogue: Dialogue, example: Example, labelled: set[str] | None) -> list[str]:
    """The items of a response that count, repeats kept."""
    gold = list(example.targets)
    if protocol.filled_in and (dialogue.forms or dialogue.recommender_id is not None):
        form = dialogue.forms.get("recommender", {})
        gold = [i for i in gold if i in form]
    return gold if labelled is None else [i for i in gold if i in labelled]


def _row(protocol: Protocol, example: Example, gold: Sequence[str]) -> Row:
    """A row from an example; what is repeated is judged on the whole context, not on the turns a model sees."""
    before = set(example.context.mentions)
    labels = list(dict.fromkeys(gold)) if protocol.distinct else list(gold)
    if protocol.new_only:
        labels = [i for i in labels if i not in before]
    context = example.context
    if protocol.context_turns is not None:
        context = context.last(protocol.context_turns)
    repeated = tuple(i in before for i in labels)
    return Row(example.dialogue_id, example.turn_num, context, tuple(labels), repeated)


def _outside(rows: Sequence[Row], candidates: np.ndarray, catalogue: Catalogue) -> int:
    allowed = _labelled(candidates, catalogue)
    return sum(label not in allowed for row in rows for label in row.labels)


def _check(protocol: Protocol, counts: Mapping[str, int], key: tuple[str, str, str], own_list: bool) -> bool:
    expected = dict(protocol.expected.get(key, {}))
    if not expected or counts["dialogues"] != expected["dialogues"]:
        return False
    if own_list and protocol.candidates != "listed":
        return False  # the user's own choice of candidates: another measurement
    wrong = [f"{what} {counts[what]:,} instead of {want:,}" for what, want in expected.items() if counts[what] != want]
    if wrong:
        raise DataError(
            f"protocol {protocol.name} on {key[0]} ({key[1]}, {key[2]}): {'; '.join(wrong)}",
            "the list given with --candidates is not the one the protocol was counted with, or the data differ"
            if own_list
            else "the data differ from the published ones: fetch the dataset again from the original files",
        )
    return True
