"""blend: cheap signals from mentions, words, wishes and metadata, ordered by a learned listwise ranker; it says why.

No language model, no GPU, minutes to fit. The signals are those of `signals.together`; candidates are the tops of the
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
from crscli.signals.features import (
    GROUPS,
    Candidates,
    ReasonKind,
    batch_size,
    candidates,
    columns,
    features_of,
    kind_of,
)
from crscli.signals.requests import ContentSignals
from crscli.signals.talk import Lexicon, Talk
from crscli.signals.together import Together


@dataclass(frozen=True)
class BlendConfig:
    """Settings of blend."""

    ranker: str = "mlp"
    """"mlp" (64-32 units, averaged over seeds) or "linear"."""
    seeds: int = 3
    """Rankers averaged."""
    epochs: int = 8
    learning_rate: float = 1e-3
    stacking: str = "folds"
    """"blocks": signals of earlier dialogues only (where dialogues have an order); "folds": of other recommenders."""
    parts: int = 4
    """Blocks or folds."""
    base_share: float = 0.38
    """Oldest share of the dialogues that no block is cut from."""
    negatives: float = 0.15
    """Share of the wrong candidates that are kept for learning."""
    retriever: bool = False
    """A small network of its own finds further candidates and scores all."""
    without: str = ""
    """A group of features to leave out, for an ablation."""

    def __post_init__(self) -> None:
        for name, known in (("ranker", ("mlp", "linear")), ("stacking", ("blocks", "folds"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {', '.join(known)}")
        if self.seeds < 1 or self.epochs < 1 or self.parts < 2 or self.learning_rate <= 0:
            raise ValueError("seeds >= 1, epochs >= 1, parts >= 2, learning_rate > 0 expected")
        if not 0 < self.base_share < 1 or not 0 < self.negatives <= 1:
            raise ValueError("base_share in (0, 1) and negatives in (0, 1] expected")
        if self.without and self.without not in GROUPS:
            raise ValueError(f"without {self.without!r} is none of {', '.join(GROUPS)}")


class Blend:
    """Ranks with an ensemble of listwise rankers over the signals' candidates."""

    tasks: frozenset[Literal["rank", "respond"]] = frozenset({"rank"})
    config_class = BlendConfig

    def __init__(
        self,
        catalogue: Catalogue,
        signals: Together,
        rankers: Sequence[ListwiseRanker],
        floors: np.ndarray,
        without: str = "",
        log: dict[str, Any] | None = None,
    ) -> None:
        """Args: floors (signals,) added inside the logarithm of each signal; `without` the group left out."""
        self.catalogue = catalogue
        self.signals = signals
        self.rankers = rankers
        self.floors = floors
        self.without = without
        self.log = log or {}
        self._last: tuple[Context, Talk, dict[str, np.ndarray]] | None = None
        """What was made of the context that was ranked last alone: it is asked for reasons next."""
        # Items that no signal proposes follow by popularity, ties by number.
        self._rest = metrics.top_k(signals.joint.arrays["fallback"][None], len(catalogue))[0]

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
        content = ContentSignals(catalogue, data.neighbours)
        parts = list(_parts(dialogues, data.sequences, config, seed))
        stacked: list[tuple[Candidates, np.ndarray, np.ndarray]] = []
        log: dict[str, Any] = {"parts": [], "sequences": len(data.sequences)}
        for num, (learnt, held_out) in enumerate(parts):
            progress("scoring held-out dialogues", num, len(parts))
            told = partial(_labelled, progress, f"fitting signals, {num + 1} of {len(parts) + 1}")
            signals = Together.fit(lexicon, content, learnt, retrieve=config.retriever, seed=seed, progress=told)
            part = _stack(signals, [e for d in held_out for e in cut(d)], config, seed + num)
            log["parts"].append({"learnt": len(learnt), "held_out": len(held_out), **part[1]})
            stacked += part[0]
            del signals  # the next fit needs the room
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
        del lists  # as before
        told = partial(_labelled, progress, f"fitting signals, {len(parts) + 1} of {len(parts) + 1}")
        pool = _pool(dialogues, data.sequences)
        signals = Together.fit(lexicon, content, pool, retrieve=config.retriever, seed=seed, progress=told)
        return cls(catalogue, signals, rankers, floors, config.without, log)

    def save(self, directory: Path) -> None:
        """Write signals and rankers."""
        self.signals.save(directory)
        np.savez(directory / "floors.npz", floors=self.floors)
        for num, ranker in enumerate(self.rankers):
            ranker.save(directory / f"ranker-{num:03}.npz")

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: BlendConfig) -> "Blend":
        """Read what `save` wrote."""
        rankers = [ListwiseRanker.load(path) for path in sorted(directory.glob("ranker-*.npz"))]
        with np.load(directory / "floors.npz", allow_pickle=False) as arrays:
            floors = arrays["floors"]
        signals = Together.load(directory, catalogue, retrieve=config.retriever)
        return cls(catalogue, signals, rankers, floors, config.without)

    # ---- ranking ----------------------------------------------------------------------------------------------

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Candidates by the ranker, then all other items by popularity."""
        size = batch_size(len(self.catalogue))
        rankings: list[Ranking] = []
        for start in range(0, len(contexts), size):
            talk, known = self._heard(contexts[start : start + size])
            found = candidates(self.signals, talk, self.without, known=known)
            scores = self._scores(found)
            rankings += [self._ranking(found, scores, row, k) for row in range(len(talk.contexts))]
        return rankings

    def _heard(self, contexts: Sequence[Context]) -> tuple[Talk, dict[str, np.ndarray]]:
        """Contexts counted, and what the signals say of them; of a single one it is kept."""
        if len(contexts) == 1 and self._last is not None and self._last[0] is contexts[0]:
            return self._last[1:]
        talk = Talk(contexts, self.signals.lexicon)
        scores = self.signals.scores(talk)
        self._last = (contexts[0], talk, scores) if len(contexts) == 1 else None
        return talk, scores

    def _scores(self, found: Candidates) -> np.ndarray:
        features = features_of(found, self.floors, self._crossed)
        total = np.zeros(len(found.items), dtype=np.float32)
        for ranker in self.rankers:
            total += ranker.scores(features, found.state, found.starts)
        return total / len(self.rankers)

    @property
    def _crossed(self) -> bool:
        return len(self.rankers[0].weights) == 2

    def _ranking(self, found: Candidates, scores: np.ndarray, row: int, k: int) -> Ranking:
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
        talk, known = self._heard([context])
        found = candidates(self.signals, talk, self.without, np.array(item_nums, dtype=np.int64), known)
        features = features_of(found, self.floors, self._crossed)
        parts = sum(r.contributions(features, found.state, found.starts) for r in self.rankers)
        parts = np.asarray(parts) - np.asarray(parts).mean(axis=0)
        names = np.array(columns(self._crossed))
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
            own = {name: gain for name, gain in gains.items() if kind_of(name) == kind}
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
            behind = self.signals.joint.mention_behind(talk, 0, item)
            return None if behind is None else self.catalogue[behind].item_id
        if kind == "word":
            return self.signals.joint.word_behind(talk, 0, item)
        if kind == "request":
            return self.signals.content.request_behind(talk, 0, item)
        if kind == "name":
            return self.signals.content.name_behind(talk, 0, item)
        if kind == "metadata":
            return self.signals.content.likeness_behind(talk, 0, item)
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
    signals: Together, examples: Sequence[Example], config: BlendConfig, seed: int
) -> tuple[list[tuple[Candidates, np.ndarray, np.ndarray]], dict[str, float]]:
    """Candidates, labels and loss offsets of held-out rows, with most wrong candidates dropped; and how it went."""
    rng, negatives = np.random.default_rng(seed), config.negatives
    catalogue = signals.lexicon.catalogue
    made = []
    right = wanted = rows = total = 0
    size = batch_size(len(catalogue))
    for start in range(0, len(examples), size):
        chunk = examples[start : start + size]
        found = candidates(signals, Talk([e.context for e in chunk], signals.lexicon), config.without)
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
        made.append((found.take(kept), labels[kept], offsets[kept]))
    per_row, coverage = round(total / max(rows, 1)), round(right / max(wanted, 1), 3)
    return made, {"rows": rows, "candidates_per_row": per_row, "coverage": coverage}


def _floors(parts: Sequence[Candidates]) -> np.ndarray:
    """A small value of each signal, to be added inside its logarithm: the tenth percentile of the positive ones."""
    sample = np.concatenate([p.values[::7] for p in parts])
    return np.array(
        [np.quantile(column[column > 0], 0.1) if (column > 0).any() else 1e-3 for column in sample.T], dtype=np.float32
    )


def _joined(stacked: list[tuple[Candidates, np.ndarray, np.ndarray]], floors: np.ndarray, ranker: str) -> Lists:
    """All parts as one set of lists without empty ones; the parts are given up on the way to save memory."""
    features, states, lengths, labels, offsets = [], [], [], [], []
    while stacked:
        found, label, offset = stacked.pop(0)
        filled = np.diff(found.starts) > 0
        features.append(features_of(found, floors, ranker == "linear"))
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
