"""What a catalogue's metadata say of its items, as sparse matrices of items by genres, people, words and labels.

Empty matrices where there are no metadata. Knows nothing about dialogues.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
import scipy.sparse as sp

from crscli import genres
from crscli.catalogue import Catalogue, Item
from crscli.signals.talk import MARK, rows_of_length_1, sparse, tokens

GENRES = tuple(genres.GENRES)
STUDIO_NAMES: dict[str, tuple[str, ...]] = {
    "Disney": ("disney",),
    "Pixar": ("pixar",),
    "Marvel": ("marvel",),
    "DC": ("dc comics", "dc entertainment", "dc films"),
    "DreamWorks": ("dreamworks",),
    "Ghibli": ("ghibli",),
}
"""How the companies of a studio are known; `wishes.STUDIOS` is how people say it."""

_SUPERHERO = ("superhero", "super hero", "marvel", "dc comics", "dc entertainment")
_PLOT_AT_MOST = 0.1
_STARS, _DIRECTORS = 5, 2


class Facet:
    """Items by entities: `names` of the E entities, `table` (N, E) ones, `weights` (N, E) by idf, rows of length 1.

    An entity of a single item says nothing of likeness; it stays, so that it can be asked for.
    """

    def __init__(self, of_items: Sequence[Iterable[str]], *, at_most: float = 1.0) -> None:
        """Args: the entities of each item; one that more than this share of the items have weighs nothing."""
        numbers: dict[str, int] = {}
        rows, columns = [], []
        for row, entities in enumerate(of_items):
            for entity in dict.fromkeys(entities):
                rows.append(row)
                columns.append(numbers.setdefault(entity, len(numbers)))
        self.names = list(numbers)
        self.numbers = numbers
        self.table = sparse(rows, columns, (len(of_items), len(numbers)))
        self.weights = weighted(self.table, at_most)

    @cached_property
    def by_entity(self) -> sp.csr_array:
        """The weights as (E, N)."""
        return sp.csr_array(self.weights.T)


def weighted(table: sp.csr_array, at_most: float = 1.0) -> sp.csr_array:
    """Rows times the idf of their columns, of length 1; columns of more than this share of the rows weigh nothing."""
    used = np.bincount(table.indices, minlength=table.shape[1])
    rows = max(table.shape[0], 1)
    idf = np.where(used <= max(at_most * rows, 2), np.log((1 + rows) / (1 + used)) + 0.1, 0.0).astype(np.float32)
    heavy = sp.csr_array(table @ sp.diags_array(idf)) if len(idf) else table
    return rows_of_length_1(heavy)


class Facets:
    """The facets of a catalogue, and the document of each item as weighted words."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.years = np.array([item.year or 0 for item in catalogue], dtype=np.float32)
        self.people = Facet([chain(item.cast, item.directors, item.writers) for item in catalogue])
        self.labels = Facet([(x.lower() for x in chain(item.companies, item.keywords)) for item in catalogue])
        self.plot = Facet([_words(item.plot) for item in catalogue], at_most=_PLOT_AT_MOST)
        self.documents = Facet([_document(item) for item in catalogue])
        known = [genres.known(item.genres) for item in catalogue]
        self.genres = np.array([[genre in own for genre in GENRES] for own in known], dtype=np.float32).reshape(
            len(known), len(GENRES)
        )
        self.genre_weights = weighted(sp.csr_array(self.genres)).toarray()
        self.studios = np.array(
            [[of_studio(item, names) for names in STUDIO_NAMES.values()] for item in catalogue], dtype=np.float32
        ).reshape(len(known), len(STUDIO_NAMES))
        self.superheroes = np.array([of_superheroes(item) for item in catalogue], dtype=np.float32)
        self.kids = self.genres[:, [GENRES.index("family"), GENRES.index("animation")]].max(axis=1)

    @property
    def described(self) -> bool:
        """Whether any item has metadata."""
        return bool(self.genres.any() or self.people.names or self.labels.names or self.plot.names)


def similarity(profile: sp.csr_array, weights: sp.csr_array, by_entity: sp.csr_array) -> np.ndarray:
    """Cosine between weighted sets of items and every item: (B, N).

    Args:
        profile: (B, N) how much each item counts.
        weights: (N, E) rows of length 1 of any item-entity matrix.
        by_entity: its transpose.
    """
    taste = rows_of_length_1(sp.csr_array(profile @ weights))
    return (taste @ by_entity).toarray()


def _words(text: str) -> list[str]:
    return [word for word in tokens(text) if word != MARK and len(word) > 2]


def _document(item: Item) -> Iterable[str]:
    """Words of title, genres, plot and the first names on the bill."""
    people = chain(item.cast[:_STARS], item.directors[:_DIRECTORS])
    return chain(
        _words(item.title),
        genres.known(item.genres),
        _words(item.plot),
        *map(_words, people),
        *map(_words, item.keywords),
    )


def of_studio(item: Item, known: Iterable[str]) -> bool:
    """Whether an item's companies or keywords hold one of the names of a studio."""
    labels = [label.lower() for label in chain(item.companies, item.keywords)]
    return any(name in label for name in known for label in labels)


def of_superheroes(item: Item) -> bool:
    """Whether an item's metadata speak of superheroes."""
    text = " | ".join(chain(item.companies, item.keywords, item.genres, (item.plot,))).lower()
    return any(word in text for word in _SUPERHERO)
