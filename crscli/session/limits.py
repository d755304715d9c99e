"""What holds of every item, and which items keep to what a seeker asked for; where none does, the nearest ones.

A wish is held by whom the catalogue tells it of: an item of unknown year is not from the eighties, and of unknown genre
not surely without horror. What a catalogue tells of no item at all cannot be asked of it (`Shelf.tells`). Knows wishes
and items; no model and no wording.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crscli import genres
from crscli.catalogue import Catalogue, Item
from crscli.languages import FOREIGN, canonical
from crscli.names import key, singular, tokens
from crscli.session.moods import MOODS, holds
from crscli.signals.facets import STUDIO_NAMES, of_studio, of_superheroes
from crscli.wishes import Wish, WishKind, in_words

GENRES = tuple(genres.GENRES)
NEW_FOR, OLD_FOR = 6, 30
"""Years: what is new is not older than that, what is old not newer, counted from the catalogue's last full year."""
_NOT_FOR_KIDS = ("horror", "thriller", "crime", "war")
_CHEERFUL = ("family", "comedy", "musical", "adventure", "fantasy", "music")
_COST: dict[WishKind, float] = {
    "years": 1.0, "length": 1.2, "studio": 1.6, "theme": 1.6, "genre": 1.8, "language": 2.0, "person": 2.4,
    "audience": 9.0,
}  # fmt: skip
"""How much is lost where a wish is given up; what is refused is never given up."""
_AGE = 0.85
"""A wish of an earlier turn is given up more easily, by this much a turn; that children watch stays so."""
_SMALL_WORDS = frozenset(
    {"about", "after", "again", "also", "because", "been", "before", "being", "could", "does", "doing", "down",
     "each", "even", "ever", "from", "good", "have", "having", "here", "into", "just", "know", "like", "make",
     "many", "maybe", "more", "most", "much", "only", "other", "over", "really", "same", "should", "some",
     "something", "such", "than", "that", "them", "then", "there", "these", "they", "thing", "this", "those",
     "through", "time", "very", "want", "watch", "well", "were", "what", "when", "where", "which", "while", "will",
     "with", "would", "your", "film", "films", "movie", "movies", "please", "think", "today", "tonight", "anything",
     "yeah", "okay", "right", "sure", "great", "nice"}
)  # fmt: skip
"""They tell nothing of a film."""
_MASKS_KEPT = 512
"""Wishes whose items are remembered."""
_ANY = re.compile(r"\bor\b|/|\beither\b", re.I)


@dataclass(frozen=True)
class Limit:
    """Wishes of which one must hold ("comedy or drama"), or a single one that must not; `turn` is the newest's."""

    wishes: tuple[Wish, ...]

    @property
    def wanted(self) -> bool:
        """Whether it asks for something, rather than refusing it."""
        return self.wishes[0].wanted

    @property
    def kind(self) -> WishKind:
        """Of its wishes, which are of one kind."""
        return self.wishes[0].kind

    @property
    def turn(self) -> int:
        """Where it was said."""
        return max(w.turn for w in self.wishes)

    @property
    def words(self) -> str:
        """As it reads in a sentence."""
        told = " or ".join(in_words(w) for w in self.wishes)
        return told if self.wanted else f"no {told}"

    def key(self) -> tuple[str, ...]:
        """What tells it from others."""
        return (self.kind, str(self.wanted), *sorted(w.value for w in self.wishes))


@dataclass(frozen=True)
class Narrowed:
    """Items that were chosen, best first, and the limits that they do not keep to."""

    items: tuple[int, ...]
    relaxed: tuple[Limit, ...] = ()
    left: int = 0
    """How many items keep to all other limits."""


class Shelf:
    """The items of a catalogue by what can be asked of them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        known = [genres.known(item.genres) for item in catalogue]
        self.genres = np.array([[g in own for g in GENRES] for own in known], dtype=bool).reshape(len(known), -1)
        self.years = np.array([item.year or 0 for item in catalogue])
        self.runtimes = np.array([item.runtime or 0 for item in catalogue])
        self.languages = np.array([canonical(item.language) for item in catalogue], dtype=object)
        self._people: dict[str, list[int]] = {}
        for num, item in enumerate(catalogue):
            for name in dict.fromkeys((*item.cast, *item.directors, *item.writers)):
                self._people.setdefault(name, []).append(num)
        dated = self.years[self.years > 0]
        # The newest years hold announced films; the catalogue ends where films become few.
        self.last_year = int(np.quantile(dated, 0.995)) if len(dated) else 0
        self.keywords = frozenset(
            singular(word) for item in catalogue for k in item.keywords for word in key(k).split()
        )
        self._masks: dict[tuple[str, str, str], np.ndarray] = {}

    @cached_property
    def _by_word(self) -> dict[str, list[int]]:
        """Word of a plot or keyword -> the numbers of its items."""
        found: dict[str, list[int]] = {}
        for num in range(len(self.catalogue)):
            for word in self._words(num):
                found.setdefault(word, []).append(num)
        return found

    @cached_property
    def themes(self) -> frozenset[str]:
        """Keywords, each word without its plural."""
        return frozenset(" ".join(map(singular, key(k).split())) for item in self.catalogue for k in item.keywords)

    def _words(self, num: int) -> set[str]:
        """The words of an item's plot and keywords, without their plurals."""
        item = self.catalogue[num]
        return {singular(word) for word in key(f"{item.plot} {' '.join(item.keywords)}").split()}

    def _genres_of(self, num: int) -> list[str]:
        return [genre for genre, has in zip(GENRES, self.genres[num], strict=True) if has]

    def about(self, words: Sequence[str]) -> list[int]:
        """Item numbers whose plots or keywords have all of the words."""
        found = [set(self._by_word.get(singular(word), ())) for word in words]
        return sorted(set.intersection(*found)) if found else []

    def knows_words(self, text: str) -> bool:
        """Whether any telling word of a text is in some plot or keyword."""
        words = [t.word for t in tokens(text) if len(t.word) > 3 and t.word not in _SMALL_WORDS]
        return any(singular(word) in self._by_word for word in words)

    def people(self) -> list[str]:
        """Everybody named in the catalogue."""
        return list(self._people)

    def films_of(self, person: str) -> list[int]:
        """Item numbers, in order."""
        return self._people.get(person, [])

    def tells(self, kind: WishKind) -> bool:
        """Whether the catalogue tells of any item what a wish of this kind asks."""
        told: dict[WishKind, Callable[[], bool]] = {
            "years": lambda: bool((self.years > 0).any()),
            "length": lambda: bool((self.runtimes > 0).any()),
            "language": lambda: any(self.languages),
            "person": lambda: bool(self._people),
            "studio": lambda: any(item.companies for item in self.catalogue),
        }
        return told.get(kind, lambda: bool(self.genres.any()))()

    def mask(self, wish: Wish, beside: frozenset[str] = frozenset()) -> np.ndarray:
        """(N,) whether an item is what the wish names, whether wanted or not; unknown is not.

        Args:
            wish: what is asked for or refused.
            beside: genres that are asked for too: they make no mood of a film ("horror, but nothing gory").
        """
        beside = beside if wish.value in MOODS and not wish.wanted else frozenset()
        key = (wish.kind, wish.value, f"{wish.than}|{'|'.join(sorted(beside))}")
        kept = self._masks.get(key)
        if kept is None:
            kept = self._mask(wish, beside)
            while len(self._masks) >= _MASKS_KEPT:  # the oldest goes: people may wish for anything
                self._masks.pop(next(iter(self._masks)), None)
            self._masks[key] = kept
        return kept

    def keeps(self, limit: Limit, beside: frozenset[str] = frozenset()) -> np.ndarray:
        """(N,) whether an item keeps to a limit, where the genres of `beside` are asked for too."""
        named = np.any([self.mask(w, beside) for w in limit.wishes], axis=0)
        if limit.wanted:
            return named
        known = self.genres.any(axis=1) if limit.kind in ("genre", "audience", "theme") else True
        return np.asarray(~named & known)

    def _mask(self, wish: Wish, beside: frozenset[str]) -> np.ndarray:
        if wish.kind == "genre":
            return self._genre(wish.value)
        if wish.kind == "years":
            return self._of_years(wish)
        if wish.kind == "length":
            first, _, last = wish.value.partition("-")
            return (self.runtimes >= int(first or 1)) & (self.runtimes <= int(last or 9999))
        if wish.kind == "language":
            told = self.languages != ""
            own = self.languages != "en" if wish.value == FOREIGN else self.languages == wish.value
            return told & own
        if wish.kind == "audience":
            family, cheerful = self._genre("family"), self._any_of(_CHEERFUL)
            return (family | (self._genre("animation") & cheerful)) & ~self._any_of(_NOT_FOR_KIDS)
        if wish.kind == "person":
            return self._where(self.films_of(wish.value))
        if wish.kind == "studio":
            return self._which(_in_studio(wish.value))
        if wish.value in MOODS:
            every = range(len(self.catalogue))
            return np.array(
                [holds(wish.value, {*self._genres_of(n)} - beside, self._words(n)) for n in every], dtype=bool
            )
        return self._which(of_superheroes) if wish.value == "superhero" else self._where(self.about(wish.value.split()))

    def _which(self, has: Callable[[Item], bool]) -> np.ndarray:
        return np.array([has(item) for item in self.catalogue], dtype=bool)

    def _genre(self, name: str) -> np.ndarray:
        return self.genres[:, GENRES.index(name)]

    def _any_of(self, names: Sequence[str]) -> np.ndarray:
        return np.any([self._genre(name) for name in names], axis=0)

    def _where(self, nums: Sequence[int]) -> np.ndarray:
        mask = np.zeros(len(self.catalogue), dtype=bool)
        mask[list(nums)] = True
        return mask

    def _of_years(self, wish: Wish) -> np.ndarray:
        first, last = self.range_of(wish)
        return (self.years > 0) & (self.years >= first) & (self.years <= last)

    def range_of(self, wish: Wish) -> tuple[int, int]:
        """First and last year of a wish for years."""
        than = self.catalogue.item(wish.than).year if wish.than in self.catalogue else None
        if wish.value in ("new", "newer"):
            return (than + 1 if than else self.last_year - NEW_FOR), 9999
        if wish.value in ("old", "older"):
            return 0, (than - 1 if than else self.last_year - OLD_FOR)
        first, _, last = wish.value.partition("-")
        return int(first or 0), int(last or 9999)

    def distance(self, limit: Limit) -> np.ndarray:
        """(N,) how far an item is from a limit on years or length, 0 inside; all alike of other limits."""
        if limit.kind == "years":
            known, spans = self.years, [self.range_of(w) for w in limit.wishes]
        elif limit.kind == "length":
            parts = [w.value.partition("-") for w in limit.wishes]
            known, spans = self.runtimes, [(int(a or 0), int(b or 9999)) for a, _, b in parts]
        else:
            return np.zeros(len(self.catalogue))
        apart = [np.maximum(np.maximum(first - known, known - last), 0) for first, last in spans]
        return np.where(known > 0, np.minimum.reduce(apart), 9999)


def _in_studio(name: str) -> Callable[[Item], bool]:
    return lambda item: of_studio(item, STUDIO_NAMES[name])


def limits_of(wishes: Sequence[Wish], texts: Sequence[str]) -> list[Limit]:
    """Limits, oldest first; genres or people of one turn with "or" between them are alternatives.

    Args:
        wishes: what is asked for and refused, as `Wishes.wanted` and `Wishes.unwanted` give it.
        texts: the text of each turn, by number.
    """
    limits: list[Limit] = []
    ordered = sorted(wishes, key=lambda w: (w.turn, w.start))
    for wish in ordered:
        before = limits[-1] if limits else None
        if (
            before is not None
            and wish.wanted
            and before.wanted
            and before.kind == wish.kind
            and before.turn == wish.turn
            and (wish.kind in ("years", "language") or _alternatives(texts, before.wishes[-1], wish))
        ):
            # "In English then. A French film please": of languages the last, unless it is "French or Italian".
            last = wish.kind == "language" and _SENTENCE_END.search(_between(texts, before.wishes[-1], wish))
            limits[-1] = Limit((wish,) if last else (*before.wishes, wish))
        else:
            limits.append(Limit((wish,)))
    return limits


def _alternatives(texts: Sequence[str], one: Wish, other: Wish) -> bool:
    """Whether "or" stands between two wishes of a turn, or after the second in the same list."""
    between = _between(texts, one, other)
    after = texts[other.turn][other.end : other.end + 20] if other.turn < len(texts) else ""
    return bool(_ANY.search(between) or ("," in between and re.match(r"\s*,?\s*or\b", after)))


def _between(texts: Sequence[str], one: Wish, other: Wish) -> str:
    text = texts[other.turn] if 0 <= other.turn < len(texts) else ""
    return text[max(0, one.start - 8) : max(other.start, 0)]


def narrow(shelf: Shelf, order: np.ndarray, limits: Sequence[Limit], count: int) -> Narrowed:
    """The first items of an order that keep to all limits; where there is none, those that keep to the most of them.

    Args:
        shelf: what holds of the items.
        order: (M,) item numbers, best first, without those that are never offered.
        limits: what was asked for and refused; what was refused is kept to always.
        count: of items, at most.
    """
    beside = frozenset(w.value for limit in limits if limit.wanted and limit.kind == "genre" for w in limit.wishes)
    kept = {limit: shelf.keeps(limit, beside)[order] for limit in limits}
    firm = np.logical_and.reduce([np.ones(len(order), dtype=bool), *(m for x, m in kept.items() if not x.wanted)])
    free = [limit for limit in limits if limit.wanted]
    newest = max((limit.turn for limit in limits), default=0)
    for given_up in _sets(free, newest):
        inside = firm.copy()
        for limit in free:
            if limit not in given_up:
                inside &= kept[limit]
        found = np.flatnonzero(inside)
        if len(found):
            if given_up:
                apart = sum((shelf.distance(limit)[order[found]] for limit in given_up), np.zeros(len(found)))
                found = found[np.argsort(apart, kind="stable")]
            return Narrowed(tuple(int(n) for n in order[found[:count]]), tuple(given_up), len(found))
    return Narrowed((), (), 0)


_SENTENCE_END = re.compile(r"[.!?;]")
_JUST_SAID = 1.0
"""What was said just now is given up last."""


def _sets(limits: Sequence[Limit], newest: int) -> list[tuple[Limit, ...]]:
    """Sets of limits to give up, the least loss first; of many limits the oldest go together."""
    kept = sorted(limits, key=lambda limit: limit.turn)
    old, few = kept[:-8], kept[-8:]
    cost = {x: _COST[x.kind] * (1.0 if x.kind == "audience" else _AGE ** (newest - x.turn)) for x in limits}
    cost |= {x: cost[x] + _JUST_SAID for x in limits if x.turn == newest}
    sets = [chosen for size in range(len(few) + 1) for chosen in itertools.combinations(few, size)]
    sets.sort(key=lambda chosen: sum(cost[limit] for limit in chosen))
    return [*sets, *((*old, *chosen) for chosen in sets if old)]
