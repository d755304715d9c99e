"""What a recommender should do next: predictions of acts, and what can be said of them beside what needs no model.

Knows nothing about files or tables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from crscli.dialogue import ACTS, Context, Dialogue, Example, cut
from crscli.metrics.text import f1
from crscli.progress import Progress, silent

TRIVIAL = ("always recommend", "every act")


class Managed(Protocol):
    """What a model says of a turn to come: the likelihood of each of ACTS, the acts it chose, and why."""

    likelihoods: tuple[float, ...]
    acts: tuple[str, ...]
    why: str


class Manager(Protocol):
    """A recommender with "manage" among its tasks."""

    def manage(self, contexts: Sequence[Context], *, why: bool = False) -> Sequence[Managed]:
        """What the next turns should do, and why, if asked."""
        ...


@dataclass(frozen=True)
class Turns:
    """Turns of recommenders that are predicted: what they did, or only whether they named an item.

    `gold` (R, A) bool by ACTS, or (R, 1) whether it recommends; `dialogues` (R,) of which dialogue each is.
    """

    examples: list[Example]
    gold: np.ndarray
    dialogues: np.ndarray

    @classmethod
    def annotated(cls, dialogues: Sequence[Dialogue]) -> "Turns":
        """All turns whose acts are known and that follow a seeker's."""
        found = [e for d in dialogues for e in cut(d, with_items=False) if e.response.acts]
        gold = np.array([[a in e.response.acts for a in ACTS] for e in found], dtype=bool)
        return cls.of(found, gold.reshape(len(found), len(ACTS)))

    @classmethod
    def naming(cls, examples: Sequence[Example]) -> "Turns":
        """All turns, by whether they name an item."""
        gold = np.array([bool(e.targets) for e in examples], dtype=bool)
        return cls.of(list(examples), gold[:, None])

    @classmethod
    def of(cls, examples: list[Example], gold: np.ndarray) -> "Turns":
        """With dialogues numbered."""
        numbers = {name: num for num, name in enumerate(dict.fromkeys(e.dialogue_id for e in examples))}
        return cls(examples, gold, np.array([numbers[e.dialogue_id] for e in examples], dtype=np.int64))


def managed(name: str, manager: Manager, turns: Turns, *, why: bool, progress: Progress = silent) -> list[Managed]:
    """Ask a model about all turns."""
    made: list[Managed] = []
    for start in range(0, len(turns.examples), 256):
        part = turns.examples[start : start + 256]
        made += manager.manage([e.context for e in part], why=why)
        progress(f"managing with {name}", start + len(part), len(turns.examples))
    return made


def trivial(turns: Turns) -> dict[str, np.ndarray]:
    """(R, A) predictions that need no model."""
    always = np.zeros_like(turns.gold)
    always[:, 0] = True
    return {TRIVIAL[0]: always, TRIVIAL[1]: np.ones_like(turns.gold)}


def predicted(made: Sequence[Managed], columns: int) -> np.ndarray:
    """(R, A) what a model chose, by ACTS; (R, 1) whether it recommends."""
    return np.array([[a in m.acts for a in ACTS[:columns]] for m in made], dtype=bool).reshape(len(made), columns)


def figures(turns: Turns, says: np.ndarray, *, draws: int, seed: int) -> dict[str, Any]:
    """F-1 of each act, and their mean with its 95 % interval, dialogues drawn anew.

    Args:
        turns: what was done.
        says: (R, A) what is said.
        draws: bootstrap draws.
        seed: of them.
    """
    acts = ACTS[: turns.gold.shape[1]]
    if not len(says):
        nothing = {"value": math.nan, "low": math.nan, "high": math.nan}
        return {"turns": 0, "macro_f1": nothing, "accuracy": math.nan, "acts": {}}
    rng = np.random.default_rng(seed)
    count = int(turns.dialogues.max()) + 1
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)[:, turns.dialogues]
    hits, said, done = (weights @ part for part in (says & turns.gold, says, turns.gold))
    means = np.where(said + done > 0, 2 * hits / np.maximum(said + done, 1), 0.0).mean(1)
    each = [f1(says[:, num], turns.gold[:, num]) for num in range(len(acts))]
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "turns": len(says),
        "macro_f1": {"value": float(np.mean(each)), "low": float(low), "high": float(high)},
        "accuracy": float((says[:, 0] == turns.gold[:, 0]).mean()),
        "acts": {
            act: {"f1": each[num], "share": float(turns.gold[:, num].mean()), "said": float(says[:, num].mean())}
            for num, act in enumerate(acts)
        },
    }
