"""What an evaluation, a chat or a user simulator sees of a model, and a dialogue being held.

Knows no model and no workspace.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import scipy.sparse as sp

from crscli.catalogue import Catalogue, Item
from crscli.decoding import Decoding
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.genres import canonical, said
from crscli.kg import KnowledgeGraph
from crscli.progress import Progress, silent
from crscli.wishes import Wishes, WishReader


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
    [0, 1]; `feature` names what of the model added most, where the model has named features.
    """

    kind: Literal["mention", "word", "request", "name", "metadata", "dialogues", "popularity", "repeat"]
    evidence: str
    share: float
    feature: str = ""


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


@dataclass(frozen=True)
class Reply:
    """What a session answers: the text, the recommended items best first, why, and what was understood."""

    text: str
    items: tuple[Item, ...]
    reasons: tuple[tuple[Reason, ...], ...]
    links: tuple[Link, ...]


_LOOKED_AT = 200
"""How far down the ranking a session looks for an item that fits what was said plainly."""

Realise = Callable[[Context, Sequence[Item], Sequence[tuple[Reason, ...]]], str]
FindLinks = Callable[[str, Sequence[Turn]], tuple[Link, ...]]
"""(text, the turns before) -> its links, as `linking.Linker.link`."""


@dataclass
class Session:
    """A dialogue being held: links what is said, ranks, answers, and remembers.

    Args:
        recommender: any model; with `explain` its reasons are given.
        link: finds the links of what the seeker says.
        realise: puts a recommendation into words; None lets a Responder speak for itself.
        shown: how many items a reply recommends.
        decoding: how a Responder speaks.
    """

    recommender: Recommender
    link: FindLinks
    realise: Realise | None
    shown: int = 1
    decoding: Decoding = field(default_factory=lambda: Decoding("nucleus", p=0.9))
    turns: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = WishReader(p for i in self.recommender.catalogue for p in (*i.cast, *i.directors, *i.writers))

    def say(self, text: str) -> Reply:
        """Take the seeker's turn and answer it; mentioned or recommended items are not offered again."""
        links = self.link(text, self.turns)
        # Without a place: an opinion on a film named before, which is no new mention of it.
        self.turns.append(Turn("seeker", text, tuple(link for link in links if link.start >= 0)))
        context = Context(tuple(self.turns))
        catalogue = self.recommender.catalogue
        known = set(context.mentions)
        ranking = self.recommender.rank([context], self.shown + len(known) + _LOOKED_AT)[0]
        wishes = self._reader.read(self.turns)
        unknown = [int(n) for n in ranking.item_nums if catalogue[int(n)].item_id not in known]
        # What was refused or asked for by year is heeded as far as the ranking reaches.
        ordered = sorted(unknown, key=lambda n: not _fits(catalogue, catalogue[n], wishes))
        fresh = ordered[: self.shown]
        own = ""
        if self.realise is None:
            own, fresh = self._own_words(context, ordered)
        explain = getattr(self.recommender, "explain", None)
        reasons = explain(context, fresh) if explain else [()] * len(fresh)
        items = tuple(catalogue[n] for n in fresh)
        reply = self.realise(context, items, reasons) if self.realise else own
        people = tuple(link for link in self.link(reply, self.turns) if link.kind == "person")
        self.turns.append(Turn("recommender", reply, _links_to(items, reply) + people))
        return Reply(reply, items, tuple(reasons), links)

    def _own_words(self, context: Context, ordered: Sequence[int]) -> tuple[str, list[int]]:
        """What the model says, and the items it names."""
        nums = np.array(ordered, dtype=np.int64)
        ranking = Ranking(nums, -np.arange(len(nums), dtype=np.float32))
        responder: Any = self.recommender
        said = responder.respond([context], [ranking], self.decoding)[0]
        return said.text, list(dict.fromkeys(said.item_nums))


def _fits(catalogue: Catalogue, item: Item, wishes: Wishes) -> bool:
    """Whether an item holds nothing that was refused, and is of the years that were asked for."""
    refused = {wish.value for wish in wishes.unwanted()}
    own = {genre for name in item.genres for genre in (canonical(name), *(g.genre for g in said(name)))}
    if refused & (own | {*item.cast, *item.directors, *item.writers}):
        return False
    for wish in wishes.wanted("years"):
        first, dash, last = wish.value.partition("-")
        than = catalogue.item(wish.than).year if wish.than in catalogue else None
        if dash and (item.year is None or not int(first or 0) <= item.year <= int(last or 9999)):
            return False
        if than is not None and (item.year is None or (item.year < than) != (wish.value == "older")):
            return False
    return True


def _links_to(items: Sequence[Item], text: str) -> tuple[Link, ...]:
    """The first place of each item's name; a name inside a longer one ("Alien" in "Aliens") is none of its places."""
    names = sorted((re.escape(item.name) for item in items), key=len, reverse=True)
    places: dict[str, int] = {}
    for found in re.finditer(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)", text):
        places.setdefault(found.group(), found.start())
    starts = [places.get(item.name, -1) for item in items]
    return tuple(
        Link("item", item.item_id, start, start + len(item.name) if start >= 0 else -1)
        for item, start in zip(items, starts, strict=True)
    )
