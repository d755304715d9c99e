"""Signals from words: the text of items (BM25) and similar training contexts (nearest neighbours)."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import bm25s
import numpy as np
import scipy.sparse as sp

from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Dialogue, Example, cut


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
    """Lower-case words and numbers of a text, without apostrophes and other marks inside them."""
    words = ("".join(c for c in word if c.isalnum()) for word in text.lower().split())
    return [word for word in words if word]


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
        np.savez(directory / "idf.npz", idf=self.idf)
        (directory / "terms.json").write_text(json.dumps(list(self.vocabulary)), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, *, neighbours: int = 100) -> Self:
        """Read what `save` wrote."""
        terms = json.loads((directory / "terms.json").read_text(encoding="utf-8"))
        with np.load(directory / "idf.npz", allow_pickle=False) as arrays:
            idf = arrays["idf"]
        return cls(
            catalogue,
            {term: num for num, term in enumerate(terms)},
            idf,
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
