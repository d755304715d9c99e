"""Fitted sources of scores: what training dialogues tell about items without a language model.

Each signal is fitted on dialogues, scores contexts as a (B, N) matrix, and is saved as plain arrays. Thin models
wrap single signals; `blend` combines them. Knows nothing about evaluation.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

import bm25s
import numpy as np
import scipy.linalg
import scipy.sparse as sp

from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Dialogue, Example, cut

DENSE_LIMIT = 20_000
"""No matrix of items by items is dense past this number of items (float32: 1.6 GB)."""


class Signal(Protocol):
    """A fitted source of scores."""

    def scores(self, contexts: Sequence[Context]) -> np.ndarray:
        """Scores of all items for each context: (B, N) float32, 0 where the signal is silent."""
        ...

    def save(self, directory: Path) -> None:
        """Write the fitted arrays into a directory."""
        ...


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
        """Write popularity.npy."""
        np.save(directory / "popularity.npy", self.counts, allow_pickle=False)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        return cls(np.load(directory / "popularity.npy", allow_pickle=False))


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


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers of a text."""
    return ["".join(c for c in w if c.isalnum()) for w in text.lower().replace("'", "").split()]


class Bm25:
    """Words of the dialogue against the text of each item (title, year and whatever metadata there is).

    Source: Robertson & Zaragoza 2009, the Lucene form of bm25s with k1 and b as given.
    """

    def __init__(self, catalogue: Catalogue, k1: float, b: float) -> None:
        self.catalogue = catalogue
        documents = [_tokens(item.text()) for item in catalogue]
        self.index = bm25s.BM25(k1=k1, b=b)
        self.index.index(documents, show_progress=False)

    @classmethod
    def fit(cls, catalogue: Catalogue, dialogues: Sequence[Dialogue] = (), *, k1: float = 1.2, b: float = 0.75) -> Self:
        """Index the items; dialogues are not looked at."""
        return cls(catalogue, k1, b)

    def scores(self, contexts: Sequence[Context]) -> np.ndarray:
        """Query: all words of the context, repeats counted once."""
        scores = np.zeros((len(contexts), len(self.catalogue)), dtype=np.float32)
        for row, context in enumerate(contexts):
            query = list(dict.fromkeys(w for turn in context.turns for w in _tokens(turn.text)))
            known = [w for w in query if w in self.index.vocab_dict]
            if known:
                scores[row] = self.index.get_scores(known)
        return scores

    def save(self, directory: Path) -> None:
        """Nothing to write: the index follows from the catalogue."""

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, *, k1: float = 1.2, b: float = 0.75) -> Self:
        """Index the items again."""
        return cls(catalogue, k1, b)


def _tokens(text: str) -> list[str]:
    return [w for w in words_of(text) if w]


class Neighbours:
    """Similar training contexts vote with what was recommended there.

    Contexts are tf-idf vectors over words and mentioned items; the `neighbours` most similar ones by cosine vote for
    their targets with their similarity.

    Source: after Xie et al., RecSys 2024 (NBCRS): votes of the k nearest training contexts, with word vectors in
    place of a sentence encoder.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        vocabulary: dict[str, int],
        idf: np.ndarray,
        vectors: sp.csr_array,
        targets: sp.csr_array,
        neighbours: int,
    ) -> None:
        self.catalogue, self.vocabulary, self.idf = catalogue, vocabulary, idf
        self.vectors, self.targets, self.neighbours = vectors, targets, neighbours

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        dialogues: Sequence[Dialogue],
        *,
        neighbours: int = 100,
        least_count: int = 2,
    ) -> Self:
        """Remember every training context and its targets."""
        examples = [e for d in dialogues for e in cut(d)]
        bags = [Counter(_terms(e.context)) for e in examples]
        seen = Counter(term for bag in bags for term in bag)
        terms = sorted(t for t, count in seen.items() if count >= least_count)
        vocabulary = {term: num for num, term in enumerate(terms)}
        idf = np.array([np.log(len(examples) / seen[t]) for t in terms], dtype=np.float32)
        vectors = _vectors(bags, vocabulary, idf)
        return cls(catalogue, vocabulary, idf, vectors, _targets(examples, catalogue), neighbours)

    def scores(self, contexts: Sequence[Context]) -> np.ndarray:
        """Votes of the nearest training contexts."""
        queries = _vectors([Counter(_terms(c)) for c in contexts], self.vocabulary, self.idf)
        similar = sp.csr_array(queries @ self.vectors.T)
        scores = np.zeros((len(contexts), len(self.catalogue)), dtype=np.float32)
        for row in range(len(contexts)):
            start, end = similar.indptr[row], similar.indptr[row + 1]
            values, columns = similar.data[start:end], similar.indices[start:end]
            best = np.lexsort((columns, -values))[: self.neighbours]
            scores[row] = values[best] @ self.targets[columns[best]]
        return scores

    def save(self, directory: Path) -> None:
        """Write the vectors, the targets and the vocabulary."""
        sp.save_npz(directory / "contexts.npz", self.vectors)
        sp.save_npz(directory / "targets.npz", self.targets)
        np.save(directory / "idf.npy", self.idf, allow_pickle=False)
        (directory / "terms.json").write_text(json.dumps(list(self.vocabulary)), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, *, neighbours: int = 100) -> Self:
        """Read what `save` wrote."""
        terms = json.loads((directory / "terms.json").read_text(encoding="utf-8"))
        return cls(
            catalogue,
            {term: num for num, term in enumerate(terms)},
            np.load(directory / "idf.npy", allow_pickle=False),
            sp.csr_array(sp.load_npz(directory / "contexts.npz")),
            sp.csr_array(sp.load_npz(directory / "targets.npz")),
            neighbours,
        )


def _terms(context: Context) -> Iterator[str]:
    """Words of the texts outside mentions, and mentioned items as terms of their own."""
    for turn in context.turns:
        text = turn.text
        for link in sorted(turn.links, key=lambda x: -x.start):
            if link.kind == "item" and link.start >= 0:
                text = text[: link.start] + " " + text[link.end :]
        yield from _tokens(text)
        yield from (f"@{item_id}" for item_id in turn.items)


def _vectors(bags: Sequence[Counter[str]], vocabulary: dict[str, int], idf: np.ndarray) -> sp.csr_array:
    """Sub-linear tf-idf of length 1: (B, V)."""
    rows, columns, values = [], [], []
    for row, bag in enumerate(bags):
        for term, count in bag.items():
            if term in vocabulary:
                rows.append(row)
                columns.append(vocabulary[term])
                values.append((1.0 + np.log(count)) * idf[vocabulary[term]])
    matrix = sp.csr_array((values, (rows, columns)), shape=(len(bags), len(vocabulary)), dtype=np.float32)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sp.csr_array(sp.diags_array(1.0 / np.maximum(norms, 1e-9)).astype(np.float32) @ matrix)


def _targets(examples: Sequence[Example], catalogue: Catalogue) -> sp.csr_array:
    """The distinct targets of each example: (examples, N)."""
    columns = [np.unique(catalogue.vocabulary.nums(e.targets)) for e in examples]
    starts = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
    flat = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
    return sp.csr_array((np.ones(len(flat), dtype=np.float32), flat, starts), shape=(len(examples), len(catalogue)))
