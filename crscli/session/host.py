"""What all dialogues with one model share: the model, the linker, what holds of the items, and who finds the words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from crscli.catalogue import Item
from crscli.decoding import Decoding
from crscli.dialogue import Context, Link, Turn
from crscli.recommender import Ranking, Reason, Recommender
from crscli.session.limits import Shelf
from crscli.session.series import Series
from crscli.session.surnames import Surnames
from crscli.wishes import WishReader

FindLinks = Callable[[str, Sequence[Turn]], tuple[Link, ...]]
"""(text, the turns before) -> its links, as `linking.Linker.link`."""


class Voice(Protocol):
    """Puts a recommendation into other words."""

    def __call__(self, context: Context, items: Sequence[Item], draft: str) -> str:
        """A reply that offers the items, as the draft does; "" to leave the draft as it is."""
        ...


@dataclass
class Host:
    """Shared by sessions; safe to share between threads where the model is.

    Args:
        recommender: any model; with `explain` its reasons are given.
        link: finds the links of what is said.
        shown: how many items a reply recommends.
        own_words: whether a Responder speaks for itself; the realiser speaks for all others.
        voice: puts the realiser's recommendations into other words.
        decoding: how a Responder speaks.
    """

    recommender: Recommender
    link: FindLinks
    shown: int = 3
    own_words: bool = False
    voice: Voice | None = None
    decoding: Decoding = field(default_factory=lambda: Decoding("nucleus", p=0.9))

    def __post_init__(self) -> None:
        self.catalogue = self.recommender.catalogue
        self.shelf = Shelf(self.catalogue)
        self.series, self.surnames = Series(self.catalogue), Surnames(self.catalogue)
        self.reader = WishReader(self.shelf.people())
        self.own_words = self.own_words and "respond" in self.recommender.tasks

    def order(self, context: Context) -> np.ndarray:
        """(N,) all items, best first."""
        return self.recommender.rank([context], len(self.catalogue))[0].item_nums

    def explained(self, context: Context, item_nums: Sequence[int]) -> list[tuple[Reason, ...]]:
        """The model's own reasons; none of a model that gives none."""
        explain = getattr(self.recommender, "explain", None)
        return list(explain(context, item_nums)) if explain and item_nums else [() for _ in item_nums]

    def spoken(self, context: Context, item_nums: Sequence[int]) -> tuple[str, list[int]]:
        """What the model itself says where it may recommend these items, best first, and those it names."""
        nums = np.array(item_nums, dtype=np.int64)
        ranking = Ranking(nums, -np.arange(len(nums), dtype=np.float32))
        responder: Any = self.recommender
        said = responder.respond([context], [ranking], self.decoding)[0]
        return said.text, list(dict.fromkeys(said.item_nums))
