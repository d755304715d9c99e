"""Signals from mentions and words together, fitted on whole dialogues; what `blend` ranks with.

Every signal maps contexts to scores of all items. The idea behind each stands in SIGNALS; how they are combined is
not known here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Dialogue, cut, merge_turns
from crscli.signals.mentions import Popularity
from crscli.signals.talk import Lexicon, Talk, by_column, rows_of_length_1, scaled, sparse

SIGNALS: dict[str, str] = {
    "popularity": "log of how often recommenders named it anew",
    "popularity_by_step": "the same by how many items were recommended before (0, 1, 2 and more)",
    "frequency": "log of how many dialogues name it",
    "cooccurrence": "named in the same dialogues as the mentions",
    "cooccurrence_two_steps": "named with what is named with the mentions",
    "cooccurrence_newest": "named in the same dialogues as mostly the newest mention",
    "cooccurrence_by_seeker": "named in the same dialogues as what the seeker named",
    "joint_ease": "closed-form autoencoder over items and words of a dialogue",
    "similar_dialogues": "named in the most similar dialogues by items and words",
    "words_with_item": "share of dialogues with the seeker's words that name it",
    "item_by_words": "the seeker's words against the words of the dialogues that name it (BM25)",
    "latent": "nearness to mentions and words in a space of 128 dimensions",
    "latent_mentions": "nearness to the mentions alone",
    "latent_words": "nearness to the words alone",
    "typed_by_seeker": "its title stands in the seeker's text without a mark",
    "typed_by_recommender": "its title stands in the recommender's text without a mark",
    "typed_lately": "its title stands in the last two turns without a mark",
    "title_words": "the seeker's words in its title",
    "title_words_lately": "words of the last two turns in its title",
    "series": "how many mentions are of the same series",
    "year": "its year",
    "year_from_mentions": "years between it and the mean of the mentions",
    "year_from_newest": "years between it and mostly the newest mention",
}
"""Name -> what it tells of an item in a context, in the order of the features."""

DIALOGUES_AT_MOST = 10_000
"""The joint solve is over dialogues; past this number only the newest are used (float32: 400 MB)."""
ITEMS_AT_MOST = 20_000
"""Past this number of named items only the most named have the joint and latent signals."""

_COMMON = 0.5
_PRIOR = 20.0
_STEPS = 3
_UNKNOWN_YEAR = 0.8


@dataclass(frozen=True)
class JointSettings:
    """Constants of the signals; chosen on ReDial's validation split."""

    words_weight: float = 1.5
    ridge: float = 30.0
    words_in_ease: float = 0.8
    dimensions: int = 128
    neighbours: int = 300
    shrinkage: float = 10.0
    decay: float = 0.85
    newest_decay: float = 0.3


class JointSignals:
    """Fitted on dialogues; `scores` gives every signal for every item.

    Shapes: n dialogues, V terms of the lexicon, N items, I of them named by the dialogues (`items`).
    """

    def __init__(self, lexicon: Lexicon, arrays: dict[str, np.ndarray], matrices: dict[str, sp.csr_array]) -> None:
        self.lexicon = lexicon
        self.settings = JointSettings()
        self.arrays = arrays
        self.matrices = matrices

    @classmethod
    def fit(cls, lexicon: Lexicon, dialogues: Sequence[Dialogue], *, seed: int = 0) -> "JointSignals":
        """Learn from dialogues, oldest first; the newest DIALOGUES_AT_MOST count."""
        fitted = cls(lexicon, {}, {})
        kept = list(dialogues)[-DIALOGUES_AT_MOST:]
        whole = Talk([Context(merge_turns(d.turns)) for d in kept], lexicon)
        everything = sp.csr_array(whole.seeker + whole.recommender)
        named = _ones(sp.csr_array(everything @ whole.named))
        count = np.asarray(named.sum(axis=0)).ravel()
        items = np.sort(np.argsort(-count, kind="stable")[: min(ITEMS_AT_MOST, int((count > 0).sum()))])
        words = sp.csr_array(everything @ whole.words)
        fitted.arrays |= {"items": items, "count": count[items].astype(np.float32), "idf": _idf(words, len(kept))}
        fitted._fit_popularity(dialogues)
        fitted._fit_mentions(sp.csr_array(named[:, items]))
        fitted._fit_words(sp.csr_array(named[:, items]), words)
        fitted._fit_joint(sp.csr_array(named[:, items]), words, seed)
        fitted._fit_titles()
        return fitted

    # ---- fitting ----------------------------------------------------------------------------------------------

    def _fit_popularity(self, dialogues: Sequence[Dialogue]) -> None:
        """New targets of recommenders, in all and by how many items they had named before."""
        catalogue = self.lexicon.catalogue
        counts = np.zeros((_STEPS, len(catalogue)), dtype=np.float64)
        for dialogue in dialogues:
            for example in cut(dialogue):
                context = example.context
                before = {i for t in context.turns if t.role == "recommender" for i in t.items if i in catalogue}
                fresh = catalogue.vocabulary.nums(sorted(set(example.targets) - set(context.mentions)))
                counts[min(len(before), _STEPS - 1), fresh] += 1
        total = counts.sum(axis=0)
        share = total / max(total.sum(), 1.0)
        smoothed = (counts + _PRIOR * share) / (counts.sum(axis=1, keepdims=True) + _PRIOR)
        self.arrays["popularity"] = np.log1p(total).astype(np.float32)
        self.arrays["popularity_by_step"] = np.log(1e4 * smoothed + 0.3).astype(np.float32)
        self.arrays["fallback"] = Popularity.fit(catalogue, dialogues).counts

    def _fit_mentions(self, named: sp.csr_array) -> None:
        pairs = sp.csr_array(named.T @ named)
        pairs.setdiag(0)
        pairs.eliminate_zeros()
        self.matrices["cooccurrence"] = self._shares(pairs)

    def _fit_words(self, named: sp.csr_array, words: sp.csr_array) -> None:
        """How many dialogues hold both a term and an item, as shares of a term's and as BM25 of an item's."""
        both = sp.csr_array(named.T @ _ones(self._known_words(words)))
        self.matrices["words_with_item"] = self._shares(sp.csr_array(both.T))
        self.matrices["item_by_words"] = sp.csr_array(_bm25(both).T)

    def _fit_joint(self, named: sp.csr_array, words: sp.csr_array, seed: int) -> None:
        """EASE in its dual form, over dialogues: A = (X X' + ridge)^-1 X_items, with X items and weighted words.

        The scores of a new dialogue x are x X' A / (1 - diag(X_items' A)).
        Source: Steck, WWW 2019, with a kernel solve as n < I + V, and words as side information.
        """
        s = self.settings
        bags = self._bag(words)
        gram = (named @ named.T).toarray()
        for start in range(0, len(gram), 512):
            block = bags[start : start + 512].T.toarray()
            gram[:, start : start + 512] += s.words_weight**2 * (bags @ block)
        gram[np.diag_indices_from(gram)] += s.ridge
        factor, info = scipy.linalg.lapack.spotrf(np.asfortranarray(gram), lower=1, overwrite_a=1)
        if info:
            raise ValueError(f"the joint matrix is not positive definite (LAPACK info {info}); raise the ridge")
        solved, _ = scipy.linalg.lapack.spotrs(factor, named.toarray(order="F"), lower=1, overwrite_b=1)
        # Half precision is what is saved: a loaded model then scores to the last bit like the fitted one.
        half = np.ascontiguousarray(solved).astype(np.float16)
        places = named.tocoo()
        diagonal = np.ones(named.shape[1])
        np.subtract.at(diagonal, places.col, solved[places.row, places.col])
        self.arrays |= {"joint": half.astype(np.float32), "joint_diagonal": diagonal.astype(np.float32)}
        self.matrices |= {"dialogue_items": named, "dialogue_words": bags}
        self._fit_latent(named, bags, seed)

    def _fit_latent(self, named: sp.csr_array, bags: sp.csr_array, seed: int) -> None:
        """Truncated SVD of dialogues by items (damped by their frequency) and words."""
        damp = 3.0 / np.sqrt(self.arrays["count"] + 3.0)
        table = sp.hstack([named @ sp.diags_array(damp), self.settings.words_weight * bags]).tocsr().astype(np.float32)
        strength, directions = _svd(sp.csr_array(table), self.settings.dimensions, seed)
        split = named.shape[1]
        self.arrays |= {
            "damp": damp.astype(np.float32),
            "strength": strength,
            "latent_items": np.ascontiguousarray(directions[:, :split].T),
            "latent_words": np.ascontiguousarray(directions[:, split:].T),
        }

    def _fit_titles(self) -> None:
        """What a typed title is worth (nothing where its words are common), and the titles as bags of words."""
        idf, known = self.arrays["idf"], self.lexicon.vocabulary
        rarest = float(idf.max(initial=1.0))
        rows, columns, values = [], [], []
        worth = np.zeros(len(self.lexicon.catalogue), dtype=np.float32)
        for num, words in enumerate(self.lexicon.title_words):
            for word in words:
                column = known.get(word)
                weight = rarest if column is None else float(idf[column])
                worth[num] += weight
                if column is not None:
                    rows.append(num)
                    columns.append(column)
                    values.append(weight)
        self.arrays["title_worth"] = np.where(worth > 4, np.minimum(worth, 40), 0).astype(np.float32)
        bags = sparse(rows, columns, (len(worth), len(known)), values)
        self.matrices["titles"] = sp.csr_array(rows_of_length_1(bags).T)

    def _shares(self, counts: sp.csr_array) -> sp.csr_array:
        totals = np.asarray(counts.sum(axis=1)).ravel() + self.settings.shrinkage
        return scaled(counts, 1.0 / totals)

    def _known_words(self, words: sp.csr_array) -> sp.csr_array:
        """Counts without the terms that are too common to tell anything."""
        kept = by_column(words, self.arrays["idf"] > 0)
        kept.eliminate_zeros()
        return kept

    def _bag(self, words: sp.csr_array, *, logged: bool = False) -> sp.csr_array:
        """Tf-idf of length 1, with the logarithm of the counts or without counts."""
        bag = self._known_words(words)
        bag.data = (1 + np.log(bag.data) if logged else np.ones_like(bag.data)).astype(np.float32)
        return rows_of_length_1(by_column(bag, self.arrays["idf"]))

    # ---- scoring ----------------------------------------------------------------------------------------------

    def scores(self, talk: Talk) -> dict[str, np.ndarray]:
        """Every signal for every item: name -> (B, N) float32, in the order of SIGNALS."""
        items, a, m, s = self.arrays["items"], self.arrays, self.matrices, self.settings
        size = (len(talk.contexts), len(self.lexicon.catalogue))

        def spread(values: np.ndarray, elsewhere: float = 0.0) -> np.ndarray:
            full = np.full(size, elsewhere, dtype=np.float32)
            full[:, items] = values
            return full

        mentions = rows_of_length_1(sp.csr_array(talk.weighted(s.decay)[:, items]))
        newest = rows_of_length_1(sp.csr_array(talk.weighted(s.newest_decay)[:, items]))
        by_seeker = rows_of_length_1(sp.csr_array(talk.weighted(s.decay, by_seeker=True)[:, items]))
        said = sp.csr_array(talk.seeker @ talk.words)
        seeker, lately = self._bag(said, logged=True), self._bag(sp.csr_array(talk.last @ talk.words), logged=True)
        everything = self._bag(sp.csr_array(said + talk.recommender @ talk.words))
        near = sp.csr_array(mentions @ m["cooccurrence"])
        by_items = (mentions @ m["dialogue_items"].T).toarray()
        by_words = s.words_weight * (m["dialogue_words"] @ everything.T.toarray()).T
        latent = self._latent(mentions, everything)
        found = {
            "popularity": np.broadcast_to(a["popularity"], size),
            "popularity_by_step": a["popularity_by_step"][np.minimum(talk.recommended, _STEPS - 1)],
            "frequency": spread(np.broadcast_to(np.log1p(a["count"]), (size[0], len(items)))),
            "cooccurrence": spread(near.toarray()),
            "cooccurrence_two_steps": spread((near @ m["cooccurrence"]).toarray()),
            "cooccurrence_newest": spread((newest @ m["cooccurrence"]).toarray()),
            "cooccurrence_by_seeker": spread((by_seeker @ m["cooccurrence"]).toarray()),
            "joint_ease": spread((by_items + s.words_in_ease * by_words) @ a["joint"] / a["joint_diagonal"]),
            "similar_dialogues": spread(self._similar(by_items + by_words)),
            "words_with_item": spread((seeker @ m["words_with_item"]).toarray()),
            "item_by_words": spread((seeker @ m["item_by_words"]).toarray()),
            **{name: spread(values, -1.0) for name, values in latent.items()},
            **self._titles(talk, seeker, lately),
            **self._years(talk),
        }
        return {name: found[name] for name in SIGNALS}

    def _similar(self, similarity: np.ndarray) -> np.ndarray:
        """Items of the nearest dialogues; a neighbour weighs what it has above .8 of the first one left out."""
        count = min(self.settings.neighbours, similarity.shape[1] - 1)
        if count < 1:
            return np.zeros((len(similarity), len(self.arrays["items"])), dtype=np.float32)
        left_out = -np.partition(-similarity, count, axis=1)[:, count : count + 1]
        weights = np.maximum(similarity - 0.8 * left_out, 0) * (similarity >= left_out)
        weights /= weights.sum(axis=1, keepdims=True) + 1e-9
        return (sp.csr_array(weights) @ self.matrices["dialogue_items"]).toarray()

    def _latent(self, mentions: sp.csr_array, words: sp.csr_array) -> dict[str, np.ndarray]:
        """Cosines in the latent space; 0 where a context has nothing to place it by."""
        a = self.arrays
        by_items = by_column(mentions, a["damp"]) @ a["latent_items"] * a["strength"]
        by_words = self.settings.words_weight * (words @ a["latent_words"]) * a["strength"]
        places = {"latent": by_items + by_words, "latent_mentions": by_items, "latent_words": by_words}
        return {name: _unit(place) @ self._latent_units.T for name, place in places.items()}

    @cached_property
    def _latent_units(self) -> np.ndarray:
        """(I, d) items in the latent space, of length 1."""
        return _unit(self.arrays["latent_items"] * self.arrays["strength"])

    @cached_property
    def _places(self) -> dict[int, int]:
        """Number of an item -> its row among the named ones."""
        return {int(num): place for place, num in enumerate(self.arrays["items"])}

    def _titles(self, talk: Talk, seeker: sp.csr_array, lately: sp.csr_array) -> dict[str, np.ndarray]:
        worth = by_column(talk.typed, self.arrays["title_worth"])
        mentioned = _ones(talk.weighted(1.0))
        series = self.lexicon.series
        return {
            "typed_by_seeker": (talk.seeker @ worth).toarray(),
            "typed_by_recommender": (talk.recommender @ worth).toarray(),
            "typed_lately": (talk.last @ worth).toarray(),
            "title_words": (seeker @ self.matrices["titles"]).toarray(),
            "title_words_lately": (lately @ self.matrices["titles"]).toarray(),
            "series": ((mentioned @ series) @ series.T).toarray(),
        }

    def _years(self, talk: Talk) -> dict[str, np.ndarray]:
        """Decades since 2000, and decades between an item and the mean year of the mentions (1 where unknown)."""
        years = self.lexicon.years
        known = (years > 0).astype(np.float32)
        own = np.where(years > 0, (years - 2000) / 10, _UNKNOWN_YEAR).astype(np.float32)
        found = {"year": np.broadcast_to(own, (len(talk.contexts), len(years)))}
        for name, decay in (("year_from_mentions", 1.0), ("year_from_newest", self.settings.newest_decay)):
            weights = talk.weighted(decay)
            total = weights @ known
            mean = (weights @ years) / np.maximum(total, 1e-6)
            apart = np.abs(years[None, :] - mean[:, None]) / 10
            found[name] = np.where((total[:, None] > 0) & (years[None, :] > 0), apart, 1.0).astype(np.float32)
        return found

    # ---- why --------------------------------------------------------------------------------------------------

    def mention_behind(self, talk: Talk, row: int, item: int) -> int | None:
        """The mentioned item that co-occurs most with an item, weighted by how new it is; None if none does.

        What the seeker named goes before what was recommended to him.
        """
        places, weights = self._places, talk.weighted(self.settings.decay)
        own = slice(weights.indptr[row], weights.indptr[row + 1])
        found: list[tuple[bool, float, int]] = []
        for num, weight in zip(weights.indices[own].tolist(), weights.data[own].tolist(), strict=True):
            if num in places and item in places:
                carried = weight * self.matrices["cooccurrence"][places[num], places[item]]
                by_seeker = any(role == 0 for _, role, _ in talk.mentions[row][num])
                found += [(by_seeker, carried, num)] if carried > 0 else []
        return max(found)[2] if found else None

    def word_behind(self, talk: Talk, row: int, item: int) -> str | None:
        """The seeker's word that speaks most for an item; None if none does."""
        if item not in self._places:
            return None
        said = self._bag(sp.csr_array((talk.seeker @ talk.words)[[row], :]), logged=True)
        weights = self.matrices["item_by_words"][said.indices][:, [self._places[item]]].toarray().ravel()
        terms = self.lexicon.terms
        carried = zip((said.data * weights).tolist(), said.indices.tolist(), strict=True)
        found = [(weight, terms[num]) for weight, num in carried if weight > 0 and " " not in terms[num]]
        return max(found)[1] if found else None

    # ---- files ------------------------------------------------------------------------------------------------

    def save(self, directory: Path) -> None:
        """Write all arrays; the joint solution in half precision."""
        stored: dict[str, Any] = {**self.arrays, "joint": self.arrays["joint"].astype(np.float16)}
        np.savez(directory / "signals.npz", **stored)
        for name, matrix in self.matrices.items():
            sp.save_npz(directory / f"{name}.npz", matrix, compressed=False)
        terms = json.dumps(self.lexicon.terms, ensure_ascii=False)
        (directory / "terms.json").write_text(terms, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue) -> "JointSignals":
        """Read what `save` wrote."""
        terms = json.loads((directory / "terms.json").read_text(encoding="utf-8"))
        with np.load(directory / "signals.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        arrays["joint"] = arrays["joint"].astype(np.float32)
        names = ("cooccurrence", "words_with_item", "item_by_words", "dialogue_items", "dialogue_words", "titles")
        matrices = {name: sp.csr_array(sp.load_npz(directory / f"{name}.npz")) for name in names}
        return cls(Lexicon(catalogue, terms), arrays, matrices)


def _ones(matrix: sp.csr_array) -> sp.csr_array:
    """The same places with ones."""
    ones = matrix.copy()
    ones.data = np.ones_like(ones.data, dtype=np.float32)
    return ones


def _idf(words: sp.csr_array, dialogues: int) -> np.ndarray:
    """Log of dialogues by dialogues that use a term; 0 for terms of no or of more than half of them: (V,)."""
    used = np.bincount(words.indices, minlength=words.shape[1])
    telling = (used >= min(3, max(1, dialogues // 10))) & (used <= _COMMON * dialogues)
    return np.where(telling, np.log(max(dialogues, 1) / np.maximum(used, 1)), 0.0).astype(np.float32)


def _bm25(counts: sp.csr_array, k1: float = 1.2, b: float = 0.5) -> sp.csr_array:
    """Saturated counts by document length (Robertson & Zaragoza 2009), without the idf of the query's side."""
    length = np.asarray(counts.sum(axis=1)).ravel()
    relative = length / max(float(length[length > 0].mean()) if (length > 0).any() else 1.0, 1e-9)
    damp = np.repeat(k1 * (1 - b + b * relative), np.diff(counts.indptr))
    weighted = counts.copy()
    weighted.data = (counts.data * (k1 + 1) / (counts.data + damp)).astype(np.float32)
    return weighted


def _svd(table: sp.csr_array, dimensions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Randomised truncated SVD (Halko et al. 2011): singular values (d,) and right vectors (d, columns)."""
    rng = np.random.default_rng(seed)
    width = min(dimensions + 10, *table.shape)
    # QR of a tall matrix is many small products: threads on busy cores would wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        basis = np.linalg.qr(table @ rng.normal(size=(table.shape[1], width)).astype(np.float32))[0]
        for _ in range(2):
            basis = np.linalg.qr(table @ np.linalg.qr(table.T @ basis)[0])[0]
        _, values, vectors = np.linalg.svd((table.T @ basis).T, full_matrices=False)
    return values[:dimensions].astype(np.float32), vectors[:dimensions].astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6)
