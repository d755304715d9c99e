"""blend: cheap signals from mentions and words, ordered by a learned listwise ranker; it can say why.

No language model, no GPU, minutes to fit. The signals are those of `signals.joint`; candidates are the tops of the
signals; the ranker learns from candidates that were scored by signals which had not seen them. Settings were chosen
on ReDial's validation split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from crscli import metrics
from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Dialogue, Example, cut
from crscli.errors import DataError
from crscli.progress import Progress, silent
from crscli.ranker import Lists, ListwiseRanker, segments
from crscli.recommender import FitData, Ranking, Reason, without_recommenders_of
from crscli.signals.joint import SIGNALS, JointSignals
from crscli.signals.talk import STATE_WIDTH, Lexicon, Talk

ReasonKind = Literal["mention", "word", "dialogues", "popularity", "repeat"]


@dataclass(frozen=True)
class Feature:
    """How the ranker sees a signal.

    `kind` is what a recommendation that rests on it is put down to; `scaled`: besides its value the ranker gets its
    logarithm and its share of the row's highest; `top`: so many of its best items become candidates; `least`: items
    at or below this value do not, however few there are.
    """

    kind: ReasonKind
    scaled: bool = True
    top: int = 0
    least: float = 0.0


FEATURES: dict[str, Feature] = {
    "popularity": Feature("popularity", scaled=False),
    "popularity_by_step": Feature("popularity", scaled=False, top=60),
    "frequency": Feature("popularity", scaled=False),
    "cooccurrence": Feature("mention", top=70),
    "cooccurrence_two_steps": Feature("mention", top=80),
    "joint_ease": Feature("dialogues", top=100),
    "similar_dialogues": Feature("dialogues", top=120),
    "words_with_item": Feature("word", top=70),
    "item_by_words": Feature("word", top=80),
    "latent": Feature("dialogues", scaled=False, top=110),
    "latent_mentions": Feature("mention", scaled=False, top=60),
    "latent_words": Feature("word", scaled=False, top=60),
    "typed_by_seeker": Feature("word", top=20),
    "typed_by_recommender": Feature("word", top=20),
    "typed_lately": Feature("word", top=20),
    "title_words": Feature("word", top=10),
    "title_words_lately": Feature("word"),
    "series": Feature("mention", scaled=False, top=20),
    "year": Feature("popularity", scaled=False),
    "year_from_mentions": Feature("mention", scaled=False),
    "year_from_newest": Feature("mention", scaled=False),
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
_AT_ONCE = 2_000_000
_TINY = 1e-9
assert list(FEATURES) == list(SIGNALS), "every signal needs its line in FEATURES, in the same order"


@dataclass(frozen=True)
class BlendConfig:
    """Settings of blend."""

    ranker: str = "mlp"
    """"mlp" (64-32 units, averaged over seeds) or "linear"."""
    seeds: int = 3
    """Rankers averaged."""
    epochs: int = 5
    learning_rate: float = 1e-3
    stacking: str = "blocks"
    """"blocks": signals of earlier dialogues only (where dialogues have an order); "folds": of other recommenders."""
    parts: int = 4
    """Blocks or folds."""
    base_share: float = 0.38
    """Oldest share of the dialogues that no block is cut from."""
    negatives: float = 0.35
    """Share of the wrong candidates that are kept for learning."""

    def __post_init__(self) -> None:
        for name, known in (("ranker", ("mlp", "linear")), ("stacking", ("blocks", "folds"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {', '.join(known)}")
        if self.seeds < 1 or self.epochs < 1 or self.parts < 2 or self.learning_rate <= 0:
            raise ValueError("seeds >= 1, epochs >= 1, parts >= 2, learning_rate > 0 expected")
        if not 0 < self.base_share < 1 or not 0 < self.negatives <= 1:
            raise ValueError("base_share in (0, 1) and negatives in (0, 1] expected")


@dataclass
class _Candidates:
    """Candidates of R rows, ragged: `starts` (R + 1,), `items` (C,), `values` (C, signals), `highest` (R, signals),
    `copied` (C, 8), `state` (R, 7).
    """

    starts: np.ndarray
    items: np.ndarray
    values: np.ndarray
    highest: np.ndarray
    copied: np.ndarray
    state: np.ndarray


class Blend:
    """Ranks with an ensemble of listwise rankers over the signals' candidates."""

    tasks: frozenset[Literal["rank", "respond"]] = frozenset({"rank"})
    config_class = BlendConfig

    def __init__(
        self,
        catalogue: Catalogue,
        signals: JointSignals,
        rankers: Sequence[ListwiseRanker],
        floors: np.ndarray,
        log: dict[str, Any] | None = None,
    ) -> None:
        """Args: floors (signals,) added inside the logarithm of each signal."""
        self.catalogue = catalogue
        self.signals = signals
        self.rankers = rankers
        self.floors = floors
        self.log = log or {}
        # Items that no signal proposes follow by popularity, ties by number.
        self._rest = metrics.top_k(signals.arrays["fallback"][None], len(catalogue))[0]

    # ---- fitting ----------------------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        data: FitData,
        config: BlendConfig | None = None,
        *,
        seed: int = 0,
        progress: Progress = silent,
    ) -> "Blend":
        """Stack: score every part with signals fitted without it, learn to rank from that, refit the signals.

        Raises:
            DataError: there are too few dialogues to learn an order from.
        """
        config = config or BlendConfig()
        dialogues = data.learnable
        lexicon = Lexicon.fit(catalogue, dialogues)
        parts = list(_parts(dialogues, data.sequences, config, seed))
        stacked: list[tuple[_Candidates, np.ndarray, np.ndarray]] = []
        log: dict[str, Any] = {"parts": [], "sequences": len(data.sequences)}
        for num, (learnt, held_out) in enumerate(parts):
            progress("scoring held-out dialogues", num, len(parts))
            signals = JointSignals.fit(lexicon, learnt, seed=seed)
            part = _stack(signals, [e for d in held_out for e in cut(d)], config.negatives, seed + num)
            log["parts"].append({"learnt": len(learnt), "held_out": len(held_out), **part[1]})
            stacked += part[0]
        progress("scoring held-out dialogues", len(parts), len(parts))
        if not stacked or sum(labels.sum() for _, labels, _ in stacked) < 1:
            raise DataError(
                f"{len(dialogues)} dialogues are too few: no held-out turn recommends an item that the others know",
                "blend needs at least some dozens of dialogues; ease and cooccurrence work with fewer",
            )
        floors = _floors([c for c, _, _ in stacked])
        lists = _joined(stacked, floors, config.ranker)
        del stacked
        options: dict[str, Any] = {"epochs": config.epochs, "learning_rate": config.learning_rate}
        if config.ranker == "mlp":
            options |= {"hidden": (64, 32), "dropout": (0.1, 0.2)}
        count = config.seeds if config.ranker == "mlp" else 1
        rankers = []
        for num in range(count):
            label = f"learning to rank, {num + 1} of {count}"
            told = partial(_labelled, progress, label)
            rankers.append(ListwiseRanker.fit(lists, seed=seed + num, progress=told, **options))
        signals = JointSignals.fit(lexicon, _pool(dialogues, data.sequences), seed=seed)
        return cls(catalogue, signals, rankers, floors, log)

    def save(self, directory: Path) -> None:
        """Write signals and rankers."""
        self.signals.save(directory)
        np.savez(directory / "floors.npz", floors=self.floors)
        for num, ranker in enumerate(self.rankers):
            ranker.save(directory / f"ranker-{num:03}.npz")

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: BlendConfig | None = None) -> "Blend":
        """Read what `save` wrote."""
        rankers = [ListwiseRanker.load(path) for path in sorted(directory.glob("ranker-*.npz"))]
        with np.load(directory / "floors.npz", allow_pickle=False) as arrays:
            floors = arrays["floors"]
        return cls(catalogue, JointSignals.load(directory, catalogue), rankers, floors)

    # ---- ranking ----------------------------------------------------------------------------------------------

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Candidates by the ranker, then all other items by popularity."""
        size = _batch_size(len(self.catalogue))
        rankings: list[Ranking] = []
        for start in range(0, len(contexts), size):
            talk = Talk(contexts[start : start + size], self.signals.lexicon)
            found = _candidates(self.signals, talk)
            scores = self._scores(found)
            rankings += [self._ranking(found, scores, row, k) for row in range(len(talk.contexts))]
        return rankings

    def _scores(self, found: _Candidates) -> np.ndarray:
        features = _features(found, self.floors, self._crossed)
        total = np.zeros(len(found.items), dtype=np.float32)
        for ranker in self.rankers:
            total += ranker.scores(features, found.state, found.starts)
        return total / len(self.rankers)

    @property
    def _crossed(self) -> bool:
        return len(self.rankers[0].weights) == 2

    def _ranking(self, found: _Candidates, scores: np.ndarray, row: int, k: int) -> Ranking:
        own = slice(found.starts[row], found.starts[row + 1])
        order = np.lexsort((found.items[own], -scores[own]))
        items, values = found.items[own][order], scores[own][order]
        if len(items) < k:
            rest = self._rest[~np.isin(self._rest, items)][: k - len(items)]
            least = values[-1] if len(values) else np.float32(0)
            items = np.concatenate([items, rest])
            values = np.concatenate([values, least - 1 - np.arange(len(rest), dtype=np.float32)])
        return Ranking(items[:k].astype(np.int64), values[:k].astype(np.float32))

    def explain(self, context: Context, item_nums: Sequence[int]) -> list[tuple[Reason, ...]]:
        """What carried each item: the ranker's contributions summed by kind, with the mention or word behind them.

        Shares are of the positive contributions, compared with the mean candidate of the row.
        """
        talk = Talk([context], self.signals.lexicon)
        found = _candidates(self.signals, talk, always=np.array(item_nums, dtype=np.int64))
        features = _features(found, self.floors, self._crossed)
        parts = sum(r.contributions(features, found.state, found.starts) for r in self.rankers)
        parts = np.asarray(parts) - np.asarray(parts).mean(axis=0)
        names = np.array(_columns(self._crossed))
        explained = []
        for item in item_nums:
            row = parts[int(np.flatnonzero(found.items == item)[0])]
            gains = {str(name): float(row[names == name].sum()) for name in dict.fromkeys(names.tolist())}
            explained.append(tuple(self._reasons(talk, int(item), gains)))
        return explained

    def _reasons(self, talk: Talk, item: int, gains: dict[str, float]) -> Iterator[Reason]:
        """Reasons with something to show for them, the strongest first; popularity is what remains.

        Args:
            talk: of one context.
            item: its number.
            gains: feature -> what it added to the item's score.
        """
        evidence = {kind: self._evidence(talk, item, kind) for kind in get_args(ReasonKind)}
        shown: list[tuple[float, ReasonKind, str, str]] = []
        for kind, proof in evidence.items():
            own = {name: gain for name, gain in gains.items() if _kind(name) == kind}
            if proof is not None and sum(own.values()) > 0:
                shown.append((sum(own.values()), kind, proof, max(own, key=lambda name: own[name])))
        if not shown:
            shown = [(1.0, "popularity", "", "popularity")]
        total = sum(gain for gain, *_ in shown)
        for gain, kind, proof, feature in sorted(shown, reverse=True):
            yield Reason(kind, proof, gain / total, feature)

    def _evidence(self, talk: Talk, item: int, kind: ReasonKind) -> str | None:
        """What there is to show for a kind of reason; None if nothing is."""
        if kind == "mention":
            behind = self.signals.mention_behind(talk, 0, item)
            return None if behind is None else self.catalogue[behind].item_id
        if kind == "word":
            return self.signals.word_behind(talk, 0, item)
        if kind == "repeat":
            return self.catalogue[item].item_id if item in talk.mentions[0] else None
        if kind == "dialogues":
            return "" if talk.contexts[0].turns else None
        return ""


def _labelled(progress: Progress, label: str, _: str, done: int, total: int | None) -> None:
    progress(label, done, total)


# ---- stacking -------------------------------------------------------------------------------------------------


def _pool(dialogues: Sequence[Dialogue], sequences: Sequence[Dialogue]) -> list[Dialogue]:
    """Dialogues with and without text, in the order of time where all have one."""
    pool = [*dialogues, *sequences]
    return sorted(pool, key=lambda d: d.order or 0) if all(d.order is not None for d in pool) else pool


def _parts(
    dialogues: Sequence[Dialogue], sequences: Sequence[Dialogue], config: BlendConfig, seed: int
) -> Iterator[tuple[list[Dialogue], list[Dialogue]]]:
    """Pairs of dialogues to fit signals on and dialogues to score with them.

    Blocks follow each other in time, and their signals come from earlier dialogues of other recommenders. Without an
    order, or with stacking "folds", the parts are drawn by recommender (by dialogue where there are too few), and the
    signals come from all other parts.
    """
    if config.stacking == "blocks" and all(d.order is not None for d in dialogues):
        in_time = sorted(dialogues, key=lambda d: (d.order or 0, d.dialogue_id))
        bounds = np.linspace(config.base_share * len(in_time), len(in_time), config.parts + 1).astype(int)
        for start, end in pairwise(bounds):
            held_out = in_time[start:end]
            if not held_out:
                continue
            before = [s for s in sequences if s.order is not None and s.order < (held_out[0].order or 0)]
            learnt = _pool(without_recommenders_of(in_time[:start], held_out), before)
            if learnt:
                yield learnt, held_out
        return
    owners = [d.recommender_id or d.dialogue_id for d in dialogues]
    if len(set(owners)) < config.parts:
        owners = [d.dialogue_id for d in dialogues]
    distinct = sorted(set(owners))
    fold = dict(zip(distinct, np.random.default_rng(seed).permutation(len(distinct)) % config.parts, strict=True))
    for part in range(config.parts):
        held_out = [d for d, owner in zip(dialogues, owners, strict=True) if fold[owner] == part]
        learnt = [d for d, owner in zip(dialogues, owners, strict=True) if fold[owner] != part]
        if held_out and learnt:
            yield _pool(learnt, sequences), held_out


def _stack(
    signals: JointSignals, examples: Sequence[Example], negatives: float, seed: int
) -> tuple[list[tuple[_Candidates, np.ndarray, np.ndarray]], dict[str, float]]:
    """Candidates, labels and loss offsets of held-out rows, with most wrong candidates dropped; and how it went."""
    rng = np.random.default_rng(seed)
    catalogue = signals.lexicon.catalogue
    made = []
    right = wanted = rows = total = 0
    size = _batch_size(len(catalogue))
    for start in range(0, len(examples), size):
        chunk = examples[start : start + size]
        found = _candidates(signals, Talk([e.context for e in chunk], signals.lexicon))
        of_row = segments(found.starts)
        targets = [set(catalogue.vocabulary.nums(e.targets).tolist()) for e in chunk]
        labels = np.array(
            [i in targets[r] for r, i in zip(of_row, found.items.tolist(), strict=True)], dtype=np.float32
        )
        sure = (labels > 0) | (found.copied[:, 0] > 0)
        kept = np.flatnonzero(sure | (rng.random(len(labels)) < negatives))
        offsets = np.where(sure, 0.0, -np.log(negatives)).astype(np.float32)
        right, wanted = right + int(labels.sum()), wanted + sum(len(t) for t in targets)
        rows, total = rows + len(chunk), total + len(labels)
        made.append((_taken(found, kept, of_row), labels[kept], offsets[kept]))
    per_row, coverage = round(total / max(rows, 1)), round(right / max(wanted, 1), 3)
    return made, {"rows": rows, "candidates_per_row": per_row, "coverage": coverage}


def _taken(found: _Candidates, kept: np.ndarray, of_row: np.ndarray) -> _Candidates:
    counts = np.bincount(of_row[kept], minlength=len(found.state))
    starts = np.concatenate([[0], np.cumsum(counts)])
    return _Candidates(starts, found.items[kept], found.values[kept], found.highest, found.copied[kept], found.state)


def _floors(parts: Sequence[_Candidates]) -> np.ndarray:
    """A small value of each signal, to be added inside its logarithm: the tenth percentile of the positive ones."""
    sample = np.concatenate([p.values[::7] for p in parts])
    return np.array(
        [np.quantile(column[column > 0], 0.1) if (column > 0).any() else 1e-3 for column in sample.T], dtype=np.float32
    )


def _joined(stacked: list[tuple[_Candidates, np.ndarray, np.ndarray]], floors: np.ndarray, ranker: str) -> Lists:
    """All parts as one set of lists without empty ones; the parts are given up on the way to save memory."""
    features, states, lengths, labels, offsets = [], [], [], [], []
    while stacked:
        found, label, offset = stacked.pop(0)
        filled = np.diff(found.starts) > 0
        features.append(_features(found, floors, ranker == "linear"))
        states.append(found.state[filled])
        lengths.append(np.diff(found.starts)[filled])
        labels.append(label)
        offsets.append(offset)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    state, label, offset = (np.concatenate(parts) for parts in (states, labels, offsets))
    joined = np.empty((starts[-1], features[0].shape[1]), dtype=np.float32)
    at = 0
    while features:
        part = features.pop(0)
        joined[at : at + len(part)] = part
        at += len(part)
    return Lists(joined, state, starts, label, offset)


# ---- candidates and features ----------------------------------------------------------------------------------


def _batch_size(items: int) -> int:
    return max(1, min(256, _AT_ONCE // max(items, 1)))


def _candidates(signals: JointSignals, talk: Talk, always: np.ndarray | None = None) -> _Candidates:
    """The tops of the signals without the mentioned items, and the mentioned items."""
    scores = signals.scores(talk)
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
    return _Candidates(starts, items, values, highest, _copied(talk, rows, items), talk.state)


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


def _features(found: _Candidates, floors: np.ndarray, crossed: bool) -> np.ndarray:
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


def _columns(crossed: bool) -> list[str]:
    """The name of the signal or copy feature behind each column of `_features`."""
    names = list(FEATURES)
    scaled = [names[num] for num in _SCALED]
    columns = [*names, *scaled, *scaled, *COPY_FEATURES]
    if crossed:
        columns += [name for name in CROSSED for _ in range(STATE_WIDTH)]
        columns += [COPY_FEATURES[num] for num in _CROSSED_COPIES for _ in range(STATE_WIDTH)]
    return columns


def _kind(name: str) -> ReasonKind:
    """What a recommendation that rests on a feature is put down to."""
    return FEATURES[name].kind if name in FEATURES else "repeat"
