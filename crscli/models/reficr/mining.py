"""Hard negatives and candidates: what a frozen first stage takes for right and is not.

Products of matrices are made in blocks, best numbers kept alone: (3,457, 4,096) against (6,051, 4,096) needs well below
a gigabyte, where the published form needs 86 a piece. Knows vectors and rows; no tokens.
Source: Yang & Chen, RecSys 2024, section 3.3, Eq. 3.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crscli import metrics
from crscli.models.reficr.config import ReficrConfig
from crscli.models.reficr.layout import Embedded
from crscli.models.reficr.network import ReficrNetwork
from crscli.models.reficr.rows import Conversation, Mined, Sought
from crscli.progress import Progress, silent

_BLOCK = 1024
"""Queries that are compared at once."""
_TEXTS = 2048
"""Texts whose vectors are kept together: what an interrupted mining has lost at most."""


def best(queries: np.ndarray, passages: np.ndarray, k: int, block: int = _BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """The k passages most like each query, best first: (Q, D), (P, D) unit vectors to (Q, k) numbers and cosines."""
    k = min(k, len(passages))
    nums, found = np.zeros((len(queries), k), dtype=np.int64), np.zeros((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries), block):
        similar = queries[start : start + block] @ passages.T
        nums[start : start + block] = metrics.top_k(similar, k)
        found[start : start + block] = np.take_along_axis(similar, nums[start : start + block], axis=1)
    return nums, found


def mine(
    network: ReficrNetwork,
    rows: Sequence[Sought],
    config: ReficrConfig,
    *,
    directory: Path | None = None,
    progress: Progress = silent,
) -> Mined:
    """What the second stage learns from, found with the network as it is.

    Args:
        network: of the first stage; it drops nothing out.
        rows: item and conversation rows of train.
        config: depths, and the weight of likeness.
        directory: keeps vectors, so that an interrupted mining goes on.
        progress: told of texts.
    """
    keep = _Kept(network, directory, progress)
    items = keep.vectors("items", network.items)
    by_kind = {k: [r for r in rows if r.kind == k] for k in ("item", "conversation")}
    asking = {k: keep.vectors(f"queries-{k}", [r.query for r in of]) for k, of in by_kind.items()}
    wanted = {r.name: r for r in by_kind["item"]}
    nearest, _ = best(asking["item"], items, config.mined_depth + config.skipped + config.candidates + 40)
    mined_items, candidates, order = {}, {}, {}
    rng = np.random.default_rng(len(rows))
    for row, found in zip(by_kind["item"], nearest.tolist(), strict=True):
        spared = {*row.targets, *row.spared}
        wrong = [n for n in found if n not in spared]
        mined_items[row.name] = wrong[config.skipped : config.skipped + config.mined_depth]
        shown = _with_target(found[: config.candidates], row.targets, rng)
        candidates[row.name] = shown
        order[row.name] = _ordered(shown, row.targets, items)
    mined_conversations: dict[str, Sequence[int]] = {}
    neighbours = dict.fromkeys(wanted, -1)
    if by_kind["conversation"] and config.conversations != "none":
        stored = keep.vectors("conversations", network.conversations)
        of_items = _mean_of_targets(items, [c.targets for c in network.store])
        mined_conversations, nearest_one = _conversations(
            by_kind["conversation"], asking["conversation"], stored, of_items, items, network.store, config
        )
        neighbours |= {name: place for name, place in nearest_one.items() if name in wanted}
    return Mined(mined_items, mined_conversations, {n: (c, neighbours[n]) for n, c in candidates.items()}, order)


def _conversations(
    rows: Sequence[Sought],
    asking: np.ndarray,
    stored: np.ndarray,
    of_items: np.ndarray,
    items: np.ndarray,
    store: Sequence[Conversation],
    config: ReficrConfig,
) -> tuple[dict[str, Sequence[int]], dict[str, int]]:
    """Negatives of each row by Eq. 3, talk alike and targets unlike; and the nearest conversation of another dialogue.

    Source: s(j) = sim(C_i, C_j) - sim(d_i, d_j); for several targets d is the mean of their vectors, as in its script.
    """
    wrong: dict[str, Sequence[int]] = {}
    nearest: dict[str, int] = {}
    own = _mean_of_targets(items, [r.targets for r in rows])
    dialogues = np.array([c.dialogue_id for c in store])
    depth = min(config.mined_depth + config.skipped + 200, len(store))
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        similar = asking[block] @ stored.T
        scores = similar - config.similar_weight * (own[block] @ of_items.T)
        hardest = metrics.top_k(scores, depth)
        likest = metrics.top_k(similar, min(depth, 100))
        for row, hard, like in zip(rows[block], hardest.tolist(), likest.tolist(), strict=True):
            targets = set(row.targets)
            others = [
                n for n in hard if store[n].dialogue_id != row.dialogue_id and targets.isdisjoint(store[n].targets)
            ]
            wrong[row.name] = others[config.skipped : config.skipped + config.mined_depth]
            nearest[row.name] = next((n for n in like if dialogues[n] != row.dialogue_id), -1)
    return wrong, nearest


def _mean_of_targets(items: np.ndarray, targets: Sequence[Sequence[int]]) -> np.ndarray:
    """(R, D) unit vectors of what was recommended."""
    means = np.stack([items[list(t)].mean(0) if t else np.zeros_like(items[0]) for t in targets])
    return means / np.linalg.norm(means, axis=1, keepdims=True).clip(min=1e-9)


def _with_target(found: Sequence[int], targets: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Candidates with a target among them: where there is none, it takes a random place."""
    shown = list(found)
    if shown and not set(targets) & set(shown):
        shown[int(rng.integers(len(shown)))] = targets[0]
    return shown


def _ordered(shown: Sequence[int], targets: Sequence[int], items: np.ndarray) -> list[int]:
    """Targets first, then by likeness to the mean of the targets."""
    mean = _mean_of_targets(items, [targets])[0]
    like = {n: float(items[n] @ mean) for n in shown}
    return sorted(shown, key=lambda n: (n not in targets, -like[n], n))


class _Kept:
    """Vectors that are computed once: an interrupted mining goes on after the last block of texts."""

    def __init__(self, network: ReficrNetwork, directory: Path | None, progress: Progress) -> None:
        self._network, self._directory, self._progress = network, directory, progress
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    def vectors(self, name: str, texts: Sequence[Embedded]) -> np.ndarray:
        """(X, D) of texts."""
        parts = []
        for start in range(0, max(1, len(texts)), _TEXTS):
            path = self._directory / f"{name}-{start}.npy" if self._directory else None
            if path is not None and path.exists():
                parts.append(np.load(path, allow_pickle=False))
            else:
                parts.append(self._network.vectors(texts[start : start + _TEXTS]).numpy())
                if path is not None:
                    partial = path.with_suffix(".part")
                    with partial.open("wb") as file:
                        np.save(file, parts[-1], allow_pickle=False)
                    partial.replace(path)
            self._progress(f"mining: {name}", min(start + _TEXTS, len(texts)), len(texts))
        return np.concatenate(parts)
