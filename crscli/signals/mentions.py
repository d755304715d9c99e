"""Signals from mentioned items alone: popularity, co-occurrence, EASE."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Dialogue

DENSE_LIMIT = 20_000
"""No matrix of items by items is dense past this number of items (float32: 1.6 GB)."""


def mention_weights(contexts: Sequence[Context], catalogue: Catalogue, decay: float) -> sp.csr_array:
    """Contexts as weighted sets of items: (B, N), the newest mention weighs 1, the next `decay`, ..., length 1."""
    rows, columns, values = [], [], []
    for row, context in enumerate(contexts):
        nums = catalogue.vocabulary.nums(context.mentions)
        weights = decay ** np.arange(len(nums), dtype=np.float64)
        rows.append(np.full(len(nums), row))
        columns.append(nums)
        values.append(weights / np.linalg.norm(weights) if len(nums) else weights)
    shape = (len(contexts), len(catalogue))
    if not rows:
        return sp.csr_array(shape, dtype=np.float32)
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_array(parts, shape=shape, dtype=np.float32)


def item_sets(dialogues: Sequence[Dialogue], catalogue: Catalogue) -> sp.csr_array:
    """Which items each dialogue names, by either side: (dialogues, N), ones."""
    columns = [catalogue.vocabulary.nums(sorted({i for t in d.turns for i in t.items})) for d in dialogues]
    starts = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    flat = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
    ones = np.ones(len(flat), dtype=np.float32)
    return sp.csr_array((ones, flat, starts), shape=(len(dialogues), len(catalogue)))


class Popularity:
    """How often recommenders named each item in training, openings included, every mention counted."""

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts

    @classmethod
    def fit(cls, catalogue: Catalogue, dialogues: Sequence[Dialogue]) -> Self:
        """Count."""
        named = Counter(i for d in dialogues for t in d.turns if t.role == "recommender" for i in t.items)
        counts = np.zeros(len(catalogue), dtype=np.float32)
        for item_id, count in named.items():
            if item_id in catalogue:
                counts[catalogue.vocabulary.num(item_id)] = count
        return cls(counts)

    def scores(self, contexts: Sequence[Context]) -> np.ndarray:
        """The same counts for every context."""
        return np.broadcast_to(self.counts, (len(contexts), len(self.counts)))

    def save(self, directory: Path) -> None:
        """Write popularity.npz."""
        # np.save to a path does not notice a disk that fills up in the middle; an archive does.
        np.savez(directory / "popularity.npz", counts=self.counts)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(directory / "popularity.npz", allow_pickle=False) as arrays:
            return cls(arrays["counts"])


class Cooccurrence:
    """Items named in the same training dialogues as those of the context.

    Row-normalised counts with shrinkage, n(a, b) / (sum_b n(a, b) + shrinkage), summed over the context's items.
    The matrix is sparse at any size of the catalogue.
    """

    def __init__(self, catalogue: Catalogue, matrix: sp.csr_array, decay: float) -> None:
        self.catalogue, self.matrix, self.decay = catalogue, matrix, decay

    @classmethod
    def fit(
        cls, catalogue: Catalogue, dialogues: Sequence[Dialogue], *, shrinkage: float = 10.0, decay: float = 0.85
    ) -> Self:
        """Count pairs; an item is no neighbour of itself."""
        sets = item_sets(dialogues, catalogue)
        pairs = sp.csr_array(sets.T @ sets)
        pairs.setdiag(0)
        pairs.eliminate_zeros()
        totals = np.asarray(pairs.sum(axis=1)).ravel() + shrinkage
        return cls(catalogue, sp.csr_array(sp.diags_array(1.0 / totals) @ pairs).astype(np.float32), decay)

    def scores(self, contexts: Sequence[Context]) -> np.ndarray:
        """Sum of the rows of the context's items."""
        return (mention_weights(contexts, self.catalogue, self.decay) @ self.matrix).toarray()

    def save(self, directory: Path) -> None:
        """Write cooccurrence.npz."""
        sp.save_npz(directory / "cooccurrence.npz", self.matrix)

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, *, decay: float = 0.85) -> Self:
        """Read what `save` wrote."""
        return cls(catalogue, sp.csr_array(sp.load_npz(directory / "cooccurrence.npz")), decay)


class Ease:
    """Closed-form linear autoencoder over the items of a dialogue.

    B = I - P diag(1 / diag P) with P = (X'X + ridge I)^-1 and a zero diagonal, over the items that training names;
    past DENSE_LIMIT of them, over the most named ones.

    Source: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, eq. 8.
    """

    def __init__(self, catalogue: Catalogue, items: np.ndarray, weights: np.ndarray, decay: float) -> None:
        self.catalogue, self.items, self.weights, self.decay = catalogue, items, weights, decay

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        dialogues: Sequence[Dialogue],
        *,
        ridge: float = 50.0,
        decay: float = 0.85,
        limit: int = DENSE_LIMIT,
    ) -> Self:
        """Solve for the weights between named items: one Cholesky inverse in place."""
        sets = item_sets(dialogues, catalogue)
        named = np.asarray(sets.sum(axis=0)).ravel()
        items = np.sort(np.argsort(-named, kind="stable")[: min(limit, int((named > 0).sum()))])
        sets = sets[:, items]
        gram = np.asfortranarray((sets.T @ sets).toarray(), dtype=np.float32)
        gram[np.diag_indices_from(gram)] += ridge
        weights = inverse(gram)
        weights /= -np.diag(weights)[None, :]
        np.fill_diagonal(weights, 0.0)
        return cls(catalogue, items, weights, decay)

    def scores(self, contexts: Sequence[Context]) -> np.ndarray:
        """Weights of the context's items, summed."""
        mentions = mention_weights(contexts, self.catalogue, self.decay)[:, self.items]
        scores = np.zeros((len(contexts), len(self.catalogue)), dtype=np.float32)
        scores[:, self.items] = mentions @ self.weights
        return scores

    def save(self, directory: Path) -> None:
        """Write ease.npz."""
        np.savez(directory / "ease.npz", items=self.items, weights=self.weights)

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, *, decay: float = 0.85) -> Self:
        """Read what `save` wrote."""
        with np.load(directory / "ease.npz", allow_pickle=False) as arrays:
            return cls(catalogue, arrays["items"], arrays["weights"], decay)


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite float32 matrix in Fortran order, which is overwritten: (M, M)."""
    if not len(matrix):
        return matrix
    factor, info = scipy.linalg.lapack.spotrf(matrix, lower=1, overwrite_a=1)
    if info == 0:
        factor, info = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if info:
        raise ValueError(f"matrix is not positive definite (LAPACK info {info}); raise the ridge")
    lower = np.tril_indices_from(factor, -1)
    factor.T[lower] = factor[lower]
    return factor
