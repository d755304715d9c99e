"""Training rows of ReFICR, built from dialogues: what is to be found, and what is to be answered.

Everything comes from train dialogues, and that is checked here: stored conversations and positives are of train, a
positive is never of the same dialogue, annotated dialogues of another data set are none of valid (and, where they are
read, none of ReDial's test set). Knows no tensors.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from crscli.catalogue import Catalogue, plain_title
from crscli.dialogue import Dialogue, Example, Turn, cut
from crscli.models.reficr import prompts
from crscli.models.reficr.layout import Branch, Embedded, Layout
from crscli.recommender import FitData

_STORED_TURNS = 32


@dataclass(frozen=True)
class Conversation:
    """A stored piece of a train dialogue: the turns before a recommendation, and the item numbers recommended."""

    dialogue_id: str
    turn_num: int
    turns: tuple[Turn, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Sought:
    """A dialogue so far and what it should find.

    `positives` and `mined` are item numbers, or places in the store; `spared` are item numbers that are no negatives
    beside the targets: films that the dialogue has named.
    """

    name: str
    kind: Literal["item", "conversation"]
    query: Embedded
    positives: tuple[int, ...]
    dialogue_id: str
    targets: tuple[int, ...]
    spared: tuple[int, ...] = ()
    mined: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.query.ids)


@dataclass(frozen=True)
class Asked:
    """A dialogue so far, questions about it, and their answers; the questions do not see each other.

    `fresh` tokens at the end of the dialogue are of turns that stood in no dialogue of an earlier row.
    """

    name: str
    stem: tuple[int, ...]
    branches: tuple[Branch, ...]
    fresh: int = 0

    def __len__(self) -> int:
        return len(self.stem) + sum(len(b) for b in self.branches)


@dataclass(frozen=True)
class Mined:
    """What the first stage found for the rows of train, by name: negatives, and what the ranking is asked about.

    `items` and `conversations` name -> numbers, best first; `candidates` name -> (items, a similar conversation or -1);
    `order` name -> the candidates as they should be ordered.
    """

    items: Mapping[str, Sequence[int]]
    conversations: Mapping[str, Sequence[int]]
    candidates: Mapping[str, tuple[Sequence[int], int]]
    order: Mapping[str, Sequence[int]]


def check_guards(data: FitData, store: Sequence[Conversation]) -> None:
    """Assert that nothing is learnt from what is measured on.

    Raises:
        AssertionError: an annotated dialogue is of valid; a stored conversation is not of train.
    """
    annotated = {d.dialogue_id for d in data.annotated}
    held_out = sorted(annotated & {d.dialogue_id for d in data.valid})
    assert not held_out, f"annotated dialogues {held_out[:3]} are of the validation split"
    train = {d.dialogue_id for d in data.train}
    foreign = sorted({c.dialogue_id for c in store} - train)
    assert not foreign, f"stored conversations {foreign[:3]} are not of train"


def name_of(example: Example) -> str:
    """Of the rows of a turn."""
    return f"{example.dialogue_id}:{example.turn_num}"


def stored(catalogue: Catalogue, dialogues: Iterable[Dialogue]) -> list[Conversation]:
    """The store: one conversation for each turn of a recommender that names an item."""
    made = []
    for example in (e for d in dialogues for e in cut(d)):
        targets = tuple(dict.fromkeys(int(n) for n in catalogue.vocabulary.nums(example.targets)))
        if targets:
            turns = example.context.turns[-_STORED_TURNS:]
            made.append(Conversation(example.dialogue_id, example.turn_num, turns, targets))
    return made


def item_rows(layout: Layout, dialogues: Iterable[Dialogue]) -> list[Sought]:
    """A row for each turn that names items: all of them are positives."""
    vocabulary = layout.catalogue.vocabulary
    rows = []
    for e in (e for d in dialogues for e in cut(d)):
        targets = tuple(dict.fromkeys(int(n) for n in vocabulary.nums(e.targets)))
        if targets:
            named = tuple(int(n) for n in vocabulary.nums(e.context.mentions))
            query = layout.query("find-item", e.context)
            rows.append(Sought(name_of(e), "item", query, targets, e.dialogue_id, targets, named))
    return rows


def conversation_rows(layout: Layout, store: Sequence[Conversation], dialogues: Iterable[Dialogue]) -> list[Sought]:
    """A row for each turn that names an item which another dialogue was recommended too: those are positives.

    Source: the paper's section 3.2; of other people, so never of the same dialogue, which the paper's data held.
    """
    by_item: dict[int, list[int]] = defaultdict(list)
    for place, conversation in enumerate(store):
        for target in conversation.targets:
            by_item[target].append(place)
    rows = []
    for row in _conversation_queries(layout, dialogues):
        found = sorted({p for t in row.targets for p in by_item[t] if store[p].dialogue_id != row.dialogue_id})
        if found:
            rows.append(replace(row, positives=tuple(found)))
    assert all(store[p].dialogue_id != row.dialogue_id for row in rows for p in row.positives)
    return rows


def _conversation_queries(layout: Layout, dialogues: Iterable[Dialogue]) -> Iterable[Sought]:
    vocabulary = layout.catalogue.vocabulary
    for e in (e for d in dialogues for e in cut(d)):
        targets = tuple(dict.fromkeys(int(n) for n in vocabulary.nums(e.targets)))
        query = layout.query("find-conversation", e.context)
        yield Sought(name_of(e), "conversation", query, (), e.dialogue_id, targets)


def answer_rows(
    layout: Layout, data: FitData, store: Sequence[Conversation], mined: Mined | None, rng: np.random.Generator
) -> list[Asked]:
    """Rows of the three subtasks that are answered in words: management, response, ranking.

    Whether to recommend is learnt from every turn, acts from annotated ones. Candidates are shuffled, so that no place
    in the list is better than another; where no target is among them, one takes a random place.
    """
    annotated = {d.dialogue_id for d in data.annotated}
    rows: list[Asked] = []
    for e in (e for d in data.annotated for e in cut(d, with_items=False)):
        if e.response.acts:
            rows += _joined(layout, e, f"acts/{name_of(e)}", [_management(layout, e)])
    for e in (e for d in data.train for e in cut(d, with_items=False)):
        branches = [_response(layout, e)]
        if e.dialogue_id not in annotated:
            branches.append(_management(layout, e))
        if mined is not None and name_of(e) in mined.candidates:
            branches.append(_ranking(layout, e, store, mined, rng))
        rows += _joined(layout, e, name_of(e), branches)
    return rows


def _management(layout: Layout, example: Example) -> Branch:
    """Whether to recommend: as the turn is annotated, else whether it names an item."""
    acts = example.response.acts
    recommends = "recommend" in acts if acts else bool(example.targets)
    why = prompts.explanation(example.context.turns[-1], acts)
    return replace(layout.manage(), answer=layout.decision(recommends, acts, why))


def _joined(layout: Layout, example: Example, name: str, branches: Sequence[Branch]) -> list[Asked]:
    """One row for the branches that read the same before their question."""
    stems: dict[tuple[int, ...], list[Branch]] = {}
    for branch in branches:
        stem, placed = layout.placed(example.context, branch)
        stems.setdefault(stem, []).append(placed)
    # Since the recommender spoke before, two turns were added.
    fresh = sum(len(layout.transcript.turn(turn)) for turn in example.context.turns[-2:])
    return [Asked(name, stem, tuple(of_it), min(fresh, len(stem) - 1)) for stem, of_it in stems.items()]


def _response(layout: Layout, example: Example) -> Branch:
    names = [layout.catalogue.item(i).name for i in dict.fromkeys(example.targets) if i in layout.catalogue]
    return replace(layout.respond(names), answer=layout.reply(example.response))


def _ranking(
    layout: Layout, example: Example, store: Sequence[Conversation], mined: Mined, rng: np.random.Generator
) -> Branch:
    """Source: the paper gives no order of the answer; as in its first script: targets, then those most like them."""
    _, neighbour = mined.candidates[name_of(example)]
    order = list(mined.order[name_of(example)])
    shown = rng.permutation(order).tolist()
    known = known_of(layout, store[neighbour]) if neighbour >= 0 else ()
    return replace(layout.rank(shown, known), answer=layout.order([shown.index(n) for n in order]))


def known_of(layout: Layout, conversation: Conversation) -> tuple[int, ...]:
    """A conversation as the ranking's prompt shows it."""
    return layout.known([layout.catalogue[n].name for n in conversation.targets], conversation.turns)


def same_titles(catalogue: Catalogue) -> list[int]:
    """Of each item the number of the first item of the same title, whatever its year."""
    first: dict[str, int] = {}
    return [first.setdefault(plain_title(item.title), num) for num, item in enumerate(catalogue)]
