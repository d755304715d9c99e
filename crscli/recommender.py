"""What an evaluation, a chat or a user simulator sees of a model, and what a model learns from.

Knows no model and no workspace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import scipy.sparse as sp

from crscli.catalogue import Catalogue
from crscli.decoding import Decoding
from crscli.dialogue import Context, Dialogue, Turn
from crscli.kg import KnowledgeGraph
from crscli.progress import Progress, silent


@dataclass(frozen=True)
class Ranking:
    """Items for one context, best first.

    `item_nums` (K,) int64, distinct; `scores` (K,) float32, not rising, comparable inside one ranking only.
    """

    item_nums: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Reason:
    """What carried a recommendation.

    A mentioned item, a word of the seeker, a request (for a genre, a time, a studio), a name that was given (of a
    person, a title), something in common with what was mentioned, similar dialogues, popularity, or that it was
    mentioned itself.

    `evidence` is the item id, the word or the name; `share` is its part of the positive contributions to the score, in
    [0, 1]; `feature` names what of the model added most, where the model has named features; `like` is the id of the
    item that something is in common with, where that is known.
    """

    kind: Literal["mention", "word", "request", "person", "name", "metadata", "dialogues", "popularity", "repeat"]
    evidence: str
    share: float
    feature: str = ""
    like: str = ""


class Recommender(Protocol):
    """All that an evaluation or a chat ever sees of a model."""

    catalogue: Catalogue
    tasks: frozenset[Literal["rank", "respond", "manage"]]

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """B rankings of min(k, N) distinct items; a row's result never depends on its batch mates."""
        ...


PLACEHOLDER = "[MOVIE_ID]"
"""What stands for an item in a reply's template; PECRS's name, since its metrics split it into words."""


@dataclass(frozen=True)
class Utterance:
    """A reply in a model's own words.

    `text` is what a person reads; `template` the same with a placeholder for each item; `item_nums` the items that fill
    them, in order; `recommends` whether the model decided to recommend.
    """

    text: str
    template: str
    item_nums: tuple[int, ...]
    recommends: bool


def filled(catalogue: Catalogue, template: str, ranking: Ranking, *, recommends: bool) -> Utterance:
    """A reply whose k-th placeholder is the k-th item of the ranking; one more than there are items goes."""
    pieces = template.split(PLACEHOLDER)
    named = [int(n) for n in ranking.item_nums[: len(pieces) - 1]]
    text = pieces[0]
    for num, piece in enumerate(pieces[1:]):
        name = catalogue[named[num]].name if num < len(named) else ""
        text += " " * text[-1:].isalnum() + name + " " * piece[:1].isalnum() + piece
    return Utterance(" ".join(text.split()), template, tuple(named), recommends)


@dataclass(frozen=True)
class Likelihood:
    """How likely a response is to a model: negative log-likelihood in nats, tokens counted, and their text."""

    nats: float
    tokens: int
    text: str


class Responder(Recommender, Protocol):
    """A recommender with "respond" among its tasks."""

    rows_at_once: int
    """Contexts that are best asked together: what was read for `rank` serves `respond` and `likelihoods` too."""

    def respond(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        decoding: Decoding,
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Utterance]:
        """Replies that name items of the given rankings; `recommend` is an oracle in place of the model's decision."""
        ...

    def likelihoods(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        responses: Sequence[Turn],
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Likelihood]:
        """Of given responses."""
        ...


class Explainer(Protocol):
    """A recommender that can say why."""

    def explain(self, context: Context, item_nums: Sequence[int]) -> list[tuple[Reason, ...]]:
        """For each item the reasons that carried it, the strongest first."""
        ...


@dataclass(frozen=True)
class FitData:
    """Dialogues a model may learn from.

    Args:
        train: in the order of time where the data tell it.
        valid: for choosing settings and stopping; never learnt from before the choice is made.
        sequences: dialogues of which only the mentions are known, without text.
        refit: after the choice, learn from train and valid.
        neighbours: (N, E) what each item is beside in a knowledge graph, for models that may use one.
        graph: the graph itself, for models that learn on one.
        fusion: folder of the fusion run that training begins with.
        annotated: train dialogues of another data set whose turns say what they do (IARD).
        annotated_valid: further ones, for choosing.
    """

    train: Sequence[Dialogue]
    valid: Sequence[Dialogue] = ()
    sequences: Sequence[Dialogue] = ()
    refit: bool = True
    neighbours: sp.csr_array | None = None
    graph: KnowledgeGraph | None = None
    fusion: Path | None = None
    annotated: Sequence[Dialogue] = ()
    annotated_valid: Sequence[Dialogue] = ()

    @property
    def for_choice(self) -> list[Dialogue]:
        """The train dialogues for a choice on valid: those of valid's recommenders are left out."""
        return without_recommenders_of(self.train, self.valid)

    @property
    def learnable(self) -> list[Dialogue]:
        """What the final model of a count-based method is fitted on."""
        return [*self.train, *self.valid] if self.refit else self.for_choice


def without_recommenders_of(dialogues: Sequence[Dialogue], held_out: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues whose recommender holds none of the held-out ones.

    ReDial's test set has no recommender in common with its train set: a fit for a choice must not have one either.
    Where that would leave less than half, recommenders are few and come back: all dialogues stay.
    """
    workers = {d.recommender_id for d in held_out if d.recommender_id is not None}
    others = [d for d in dialogues if d.recommender_id is None or d.recommender_id not in workers]
    return others if 2 * len(others) >= len(dialogues) else list(dialogues)


class Fittable(Protocol):
    """A model that is fitted by counting or in closed form, in minutes and without a language model."""

    @classmethod
    def fit(
        cls, catalogue: Catalogue, data: FitData, config: Any, *, seed: int = 0, progress: Progress = silent
    ) -> Self:
        """Learn from dialogues."""
        ...

    def save(self, directory: Path) -> None:
        """Write all that `load` needs into an existing directory."""
        ...

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: Any) -> Self:
        """Read what `save` wrote; catalogue and settings must be those it was fitted with."""
        ...
