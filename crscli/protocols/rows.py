"""The rows of a protocol: which turns they are, which items are gold, which are candidates, and how many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from crscli.catalogue import Catalogue
from crscli.dialogue import ROLES, Context, Dialogue, Example, Role, Turn, cut
from crscli.errors import DataError, UsageError
from crscli.genres import said
from crscli.kg.published import FORMS

Candidates = Literal["catalogue", "recommended", "listed", "linked"]
Aggregate = Literal["micro", "row"]


@dataclass(frozen=True)
class Row:
    """One context to rank or reply for.

    `labels` are the gold items; `repeated[i]` tells whether the context names label i; `response` is what followed.
    """

    dialogue_id: str
    turn_num: int
    context: Context
    labels: tuple[str, ...]
    repeated: tuple[bool, ...]
    response: Turn


@dataclass(frozen=True)
class TestSet:
    """The rows of a protocol on one split.

    `candidates` (C,) int64 item numbers that are ranked; `dialogue_nums` (R,) int64 which dialogue each row is of;
    `counts` what was found; `checked` whether it was held against the protocol's expected counts; `responses` every
    turn that is answered, those without a label too: what replies are measured on.
    """

    __test__ = False  # no test class, whatever pytest thinks of the name

    protocol: "Protocol"
    split: str
    rows: list[Row]
    candidates: np.ndarray
    dialogue_nums: np.ndarray
    counts: Mapping[str, int]
    checked: bool
    responses: list[Row]


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
        graph: the published graph (a form in `kg.published`) whose films alone are labels; "" for none.
        entity_before: only rows whose context names a film of the graph, a person or a genre.
        candidates: "catalogue" all items; "recommended" those that a recommender names in any split; "listed" a
            given list, and only its items are labels; "linked" those of the graph.
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
    graph: str = ""
    entity_before: bool = False
    candidates: Candidates = "catalogue"
    aggregate: Aggregate = "row"
    expected: Mapping[tuple[str, str, str], Mapping[str, int]] = field(default_factory=dict)

    def needs_list(self, form: str) -> bool:
        """Whether a list of candidates must be given for data of this form."""
        return self.candidates == "listed" and form == "published"


def select(
    protocol: Protocol,
    splits: Mapping[str, Sequence[Dialogue]],
    split: str,
    catalogue: Catalogue,
    *,
    corpus: str,
    form: str,
    listed: np.ndarray | None = None,
    linked: np.ndarray | None = None,
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
        linked: (N,) whether an item is in the protocol's graph, for protocols that have one.

    Raises:
        UsageError: the split is absent, or a needed list or graph is not given.
        DataError: the data are complete but the counts differ.
    """
    _refuse_missing(protocol, splits, split, form, listed, linked)
    films = np.flatnonzero(linked).astype(np.int64) if protocol.graph and linked is not None else None
    candidates = _candidates(protocol, splits, catalogue, listed, films)
    labelled = _labelled(candidates, catalogue) if protocol.candidates == "listed" else None
    if films is not None:
        labelled = _labelled(films if labelled is None else np.intersect1d(films, candidates), catalogue)
    rows: list[Row] = []
    responses: list[Row] = []
    dialogue_nums: list[int] = []
    points = named = 0
    for num, dialogue in enumerate(splits[split]):
        for example in cut(dialogue, merge=protocol.merge, speakers=protocol.speakers, with_items=False):
            gold = _gold(protocol, dialogue, example, labelled)
            points += max(1, len(gold))
            named += len(gold)
            row = _row(protocol, example, gold)
            responses.append(row)
            if row.labels and not (protocol.entity_before and not _names_entity(example.context, labelled)):
                rows.append(row)
                dialogue_nums.append(num)
    counts = {
        "dialogues": len(splits[split]),
        "rows": len(rows),
        "labels": sum(len(r.labels) for r in rows),
        "named": named,
        "points": points,
        "responses": len(responses),
        "candidates": len(candidates),
        "items": len(catalogue),
        "labels_outside_candidates": _outside(rows, candidates, catalogue),
    }
    checked = _check(protocol, counts, (corpus, form, split), listed is not None)
    numbers = np.array(dialogue_nums, dtype=np.int64)
    return TestSet(protocol, split, rows, candidates, numbers, counts, checked, responses)


def _refuse_missing(
    protocol: Protocol,
    splits: Mapping[str, Sequence[Dialogue]],
    split: str,
    form: str,
    listed: np.ndarray | None,
    linked: np.ndarray | None,
) -> None:
    if split not in splits:
        there = f"there is: {', '.join(splits)}; --split valid measures on valid"
        raise UsageError(f"no {split} split in this dataset", there)
    if protocol.graph and linked is None:
        raise UsageError(
            f"protocol {protocol.name} counts the films of a graph, {protocol.graph}",
            f"import it: crs build-kg --from FOLDER (with {', '.join(FORMS[protocol.graph])})",
        )
    if protocol.needs_list(form) and listed is None:
        raise UsageError(
            f"protocol {protocol.name} ranks the films of a list",
            "give it with --candidates FILE: one JSON object with a title a line, or PECRS's movie_db",
        )


def _candidates(
    protocol: Protocol,
    splits: Mapping[str, Sequence[Dialogue]],
    catalogue: Catalogue,
    listed: np.ndarray | None,
    films: np.ndarray | None,
) -> np.ndarray:
    if listed is not None:
        return listed
    if protocol.candidates == "linked" and films is not None:
        return films
    if protocol.candidates == "recommended":
        named = {i for ds in splits.values() for d in ds for t in d.turns if t.role == ROLES[1] for i in t.items}
        return np.sort(catalogue.vocabulary.nums(sorted(named)))
    return np.arange(len(catalogue), dtype=np.int64)


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
    return Row(example.dialogue_id, example.turn_num, context, tuple(labels), repeated, example.response)


def _names_entity(context: Context, films: set[str] | None) -> bool:
    """Whether the turns so far name a film of the graph, or any person or genre."""
    links = (link for turn in context.turns for link in turn.links)
    return any(link.kind != "item" or films is None or link.id in films for link in links) or any(
        True for turn in context.turns for _ in said(turn.text)
    )


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
