"""What a ranker sees: the candidates of a context, and the features of each.

FEATURES says how every signal is used; what the ranker makes of it is not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from crscli import metrics
from crscli.ranker import segments
from crscli.signals.talk import STATE_WIDTH, Talk
from crscli.signals.together import NAMES, Together

ReasonKind = Literal["mention", "word", "request", "name", "metadata", "dialogues", "popularity", "repeat"]
Group = Literal[
    "popularity",
    "mentions",
    "words",
    "requests",
    "names and titles",
    "metadata",
    "year",
    "graph",
    "retriever",
    "copy and state",
]


@dataclass(frozen=True)
class Feature:
    """How the ranker sees a signal.

    `kind` is what a recommendation that rests on it is put down to; `group` what it is left out with in an ablation;
    `scaled`: besides its value the ranker gets its logarithm and its share of the row's highest; `top`: so many of
    its best items become candidates; `least`: items at or below this value do not, however few there are.
    """

    kind: ReasonKind
    group: Group
    scaled: bool = True
    top: int = 0
    least: float = 0.0


FEATURES: dict[str, Feature] = {
    "popularity": Feature("popularity", "popularity", scaled=False),
    "popularity_by_step": Feature("popularity", "popularity", scaled=False, top=60),
    "frequency": Feature("popularity", "popularity", scaled=False),
    "cooccurrence": Feature("mention", "mentions", top=70),
    "cooccurrence_two_steps": Feature("mention", "mentions", top=80),
    "cooccurrence_newest": Feature("mention", "mentions", top=30),
    "cooccurrence_by_seeker": Feature("mention", "mentions", top=30),
    "joint_ease": Feature("dialogues", "mentions", top=100),
    "similar_dialogues": Feature("dialogues", "mentions", top=120),
    "words_with_item": Feature("word", "words", top=70),
    "item_by_words": Feature("word", "words", top=80),
    "latent": Feature("dialogues", "mentions", scaled=False, top=110),
    "latent_mentions": Feature("mention", "mentions", scaled=False, top=60),
    "latent_words": Feature("word", "words", scaled=False, top=60),
    "typed_by_seeker": Feature("name", "names and titles", top=20),
    "typed_by_recommender": Feature("name", "names and titles", top=20),
    "typed_lately": Feature("name", "names and titles", top=20),
    "title_words": Feature("word", "names and titles", top=10),
    "title_words_lately": Feature("word", "names and titles"),
    "series": Feature("mention", "names and titles", scaled=False, top=20),
    "year": Feature("popularity", "year", scaled=False),
    "year_from_mentions": Feature("mention", "year", scaled=False),
    "year_from_newest": Feature("mention", "year", scaled=False),
    "genres_asked": Feature("request", "requests", scaled=False),
    "genres_asked_cosine": Feature("request", "requests", scaled=False),
    "genres_asked_lately": Feature("request", "requests", scaled=False),
    "genres_said": Feature("request", "requests", scaled=False),
    "genres_of_recommender": Feature("request", "requests", scaled=False),
    "genres_unwanted": Feature("request", "requests", scaled=False),
    "years_asked": Feature("request", "requests", scaled=False),
    "people_asked": Feature("name", "names and titles", scaled=False, top=20),
    "people_named": Feature("name", "names and titles", scaled=False, top=20),
    "labels_asked": Feature("request", "requests", scaled=False),
    "request": Feature("request", "requests", scaled=False),
    "request_named_often": Feature("request", "requests", scaled=True, top=60),
    "request_like_mentions": Feature("request", "requests", scaled=True, top=40),
    "words_in_document": Feature("word", "words", scaled=True, top=40),
    "words_in_document_lately": Feature("word", "words", scaled=True, top=20),
    "like_genres": Feature("metadata", "metadata", scaled=False),
    "like_people": Feature("metadata", "metadata", scaled=True, top=30),
    "like_plot": Feature("metadata", "metadata", scaled=True, top=20),
    "like_labels": Feature("metadata", "metadata", scaled=True, top=20),
    "like_newest": Feature("metadata", "metadata", scaled=True, top=30),
    "like_in_graph": Feature("metadata", "graph", scaled=True, top=30),
    "people_often": Feature("popularity", "metadata", scaled=False),
    "retrieved": Feature("dialogues", "retriever", scaled=False, top=150),
}
"""Signal -> how it is used. Every mentioned item is a candidate besides."""

COPY_FEATURES = (
    "is_mentioned",
    "turns_since",
    "times",
    "by_seeker",
    "by_recommender",
    "newer_mentions",
    "in_last_turn",
    "in_turn_before",
)
CROSSED = ("popularity", "joint_ease", "cooccurrence", "words_with_item", "similar_dialogues")
"""Signals that a linear ranker sees multiplied by the state of the row as well."""

_CROSSED_COPIES = (0, 1, 5)
_SCALED = [num for num, name in enumerate(FEATURES) if FEATURES[name].scaled]
_AT_ONCE = 1_000_000
_TINY = 1e-9
assert list(FEATURES) == list(NAMES), "every signal needs its line in FEATURES, in the same order"


@dataclass
class Candidates:
    """Candidates of R rows, ragged: `starts` (R + 1,), `items` (C,), `values` (C, signals), `highest` (R, signals),
    `copied` (C, 8), `state` (R, 7).
    """

    starts: np.ndarray
    items: np.ndarray
    values: np.ndarray
    highest: np.ndarray
    copied: np.ndarray
    state: np.ndarray

    def take(self, kept: np.ndarray) -> "Candidates":
        """Some of the candidates; the rows stay, also empty ones."""
        counts = np.bincount(segments(self.starts)[kept], minlength=len(self.state))
        starts = np.concatenate([[0], np.cumsum(counts)])
        return Candidates(starts, self.items[kept], self.values[kept], self.highest, self.copied[kept], self.state)


def batch_size(items: int) -> int:
    """How many contexts are scored at once: every signal takes so many times the catalogue."""
    return max(1, min(256, _AT_ONCE // max(items, 1)))


GROUPS: tuple[str, ...] = get_args(Group)


def candidates(
    signals: Together, talk: Talk, without: str = "", always: np.ndarray | None = None,
    known: Mapping[str, np.ndarray] | None = None,
) -> Candidates:  # fmt: skip
    """The tops of the signals without the mentioned items, and the mentioned items.

    Args:
        signals: fitted.
        talk: R contexts.
        without: a group of features that is left out.
        always: items that are candidates of every row besides.
        known: what the signals say of the contexts, where that is known.
    """
    scores = dict(signals.scores(talk) if known is None else known)
    left_out = [name for name, feature in FEATURES.items() if feature.group == without]
    scores |= dict.fromkeys(left_out, np.zeros_like(scores["cooccurrence"]))
    chosen = np.zeros((len(talk.contexts), len(signals.lexicon.catalogue)), dtype=bool)
    mentioned = [np.fromiter(seen, dtype=np.int64, count=len(seen)) for seen in talk.mentions]
    for name, feature in FEATURES.items():
        for row, items in enumerate(mentioned if feature.top else ()):
            chosen[row, _tops(scores[name][row], items, feature)] = True
    for row, items in enumerate(mentioned):
        chosen[row, items] = True
    if always is not None:
        chosen[:, always] = True
    rows, items = np.nonzero(chosen)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(chosen)))])
    values = np.stack([scores[name][rows, items] for name in FEATURES], axis=1).astype(np.float32, copy=False)
    highest = np.zeros((len(chosen), len(FEATURES)), dtype=np.float32)
    filled = np.diff(starts) > 0
    if filled.any():
        highest[filled] = np.maximum.reduceat(values, starts[:-1][filled])
    found = Candidates(starts, items, values, highest, _copied(talk, rows, items), talk.state)
    if without == "copy and state":
        found.copied, found.state = np.zeros_like(found.copied), np.zeros_like(found.state)
    return found


def _tops(values: np.ndarray, mentioned: np.ndarray, feature: Feature) -> np.ndarray:
    """The best items of a signal in one row that are not mentioned."""
    above = values > feature.least
    above[mentioned] = False
    found = np.flatnonzero(above)
    return found[metrics.top_k(values[found][None], feature.top)[0]]


def _copied(talk: Talk, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How each candidate was mentioned before, in the order of COPY_FEATURES; zeros where it was not: (C, 8)."""
    copied = np.zeros((len(rows), len(COPY_FEATURES)), dtype=np.float32)
    for row, seen in enumerate(talk.mentions):
        own = np.searchsorted(rows, [row, row + 1])
        turns = len(talk.spans[row])
        for item, places in seen.items():
            num = own[0] + np.searchsorted(items[own[0] : own[1]], item)
            last_turn, _, last_place = places[-1]
            copied[num] = (
                1,
                np.log1p(turns - 1 - last_turn),
                np.log(len(places)),
                any(role == 0 for _, role, _ in places),
                any(role == 1 for _, role, _ in places),
                np.log1p(sum(other[-1][2] > last_place for other in seen.values())),
                last_turn == turns - 1,
                last_turn == turns - 2,
            )
    return copied


def features_of(found: Candidates, floors: np.ndarray, crossed: bool) -> np.ndarray:
    """What the ranker sees: values, logarithms, shares of the row's highest, copy features; crosses if linear."""
    of_row = segments(found.starts)
    positive = np.maximum(found.values[:, _SCALED], 0)
    logs = np.log(positive + floors[_SCALED])
    shares = positive / (np.maximum(found.highest[:, _SCALED], 0) + _TINY)[of_row]
    columns = [found.values, logs, shares, found.copied]
    if crossed:
        state = found.state[of_row]
        for name in CROSSED:
            num = list(FEATURES).index(name)
            column = logs[:, _SCALED.index(num)] if num in _SCALED else found.values[:, num]
            columns.append(column[:, None] * state)
        columns += [found.copied[:, [num]] * state for num in _CROSSED_COPIES]
    return np.concatenate(columns, axis=1, dtype=np.float32)


def columns(crossed: bool) -> list[str]:
    """The name of the signal or copy feature behind each column of `features_of`."""
    names = list(FEATURES)
    scaled = [names[num] for num in _SCALED]
    columns = [*names, *scaled, *scaled, *COPY_FEATURES]
    if crossed:
        columns += [name for name in CROSSED for _ in range(STATE_WIDTH)]
        columns += [COPY_FEATURES[num] for num in _CROSSED_COPIES for _ in range(STATE_WIDTH)]
    return columns


def kind_of(name: str) -> ReasonKind:
    """What a recommendation that rests on a feature is put down to."""
    return FEATURES[name].kind if name in FEATURES else "repeat"
