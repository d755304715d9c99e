"""Item vectors and the search for those that suit a query best: exact, or approximate behind the same call.

Knows nothing about models, text or the workspace: vectors and queries come as arrays, an item is its place in them.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self, get_args

import numpy as np

from crscli.errors import ArtifactMissing, MachineError, UsageError
from crscli.metrics import top_k

Similarity = Literal["dot", "cosine"]
ENGINES = ("exact", "faiss")
VECTORS, CARD, GRAPH = "vectors.npy", "index.json", "engine.faiss"
FORMAT = 1
FLOATS_AT_ONCE = 16_000_000
"""Scores that a search holds at one time, whatever the number of items and queries."""
ROWS_AT_ONCE = 1024
SPARE = 16
"""Candidates beyond k that are scored again: products of matrices differ in their last bits from batch to batch."""
_AGAIN = "run crs index-items again"


@dataclass(frozen=True)
class Hnsw:
    """Settings of a graph of near items; higher values find more and cost time (links and build_effort: at build).

    Source: Malkov & Yashunin, TPAMI 2020: M, efConstruction and efSearch.
    """

    links: int = 32
    build_effort: int = 200
    search_effort: int = 256

    def __post_init__(self) -> None:
        if min(self.links, self.build_effort, self.search_effort) < 2:
            raise UsageError(f"links, build_effort and search_effort are at least 2, not {asdict(self)}")


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph of faiss over the items of an index, and the share of the exact `recall_k` best items that it finds."""

    body: Any
    settings: Hnsw
    recall: float
    recall_k: int


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """N item vectors of D numbers with their ids; an item's number is its row.

    Attributes:
        vectors: (N, D) float32, finite, as they were given, also under cosine.
        ids: N external ids, none twice.
        digest: of all that the vectors come from (weights, item texts, truncation).
        similarity: "dot" or "cosine"; under cosine an item or query of zeros has the score 0 with everything.
        graph: of an approximate engine; None: exact.

    Raises:
        ValueError: shapes or ids do not fit.
        MachineError: a vector holds NaN or infinity; names the first item.
    """

    vectors: np.ndarray
    ids: tuple[str, ...]
    digest: str
    similarity: Similarity = "dot"
    graph: Graph | None = None
    _lengths: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # becomes infinity, and is refused with the item's id
            vectors, ids = np.ascontiguousarray(self.vectors, dtype=np.float32), tuple(self.ids)
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise ValueError(f"vectors are (N, D) with D > 0, not {vectors.shape}")
        if len(ids) != len(vectors):
            raise ValueError(f"{len(ids):,} ids for {len(vectors):,} vectors")
        if len(set(ids)) != len(ids):
            raise ValueError(f"{len(ids) - len(set(ids)):,} ids are repeated")
        if self.similarity not in get_args(Similarity):
            raise ValueError(f"similarity is dot or cosine, not {self.similarity!r}")
        lengths = _lengths(vectors)
        bad = np.flatnonzero(~np.isfinite(lengths))
        if len(bad):
            raise MachineError(
                f"the vector of item {ids[bad[0]]!r} is not finite ({len(bad):,} of {len(ids):,} items)",
                "the model's weights hold NaN or overflow in this precision: look at its training log",
            )
        for name, value in (("vectors", vectors), ("ids", ids), ("_lengths", np.where(lengths > 0, lengths, 1))):
            object.__setattr__(self, name, value)

    @property
    def engine(self) -> str:
        """The name in ENGINES of what answers `search`."""
        return "exact" if self.graph is None else "faiss"

    @property
    def recall(self) -> float | None:
        """Share of the exact best items that the engine found when it was built; None for exact search."""
        return None if self.graph is None else self.graph.recall

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """The score of every item: (B, D) to (B, N) float32. For small catalogues."""
        return self._products(self._queries(queries).astype(np.float32), slice(None))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each query, best first; equal scores by the lower item number.

        A score is the product in float64, rounded to float32, so that it depends on nothing but its query and item.

        Args:
            queries: (B, D), finite.
            k: how many, cut to N.

        Returns:
            (B, min(k, N)) int64 item numbers, (B, min(k, N)) float32 scores.

        Raises:
            ValueError: shape, or a value that is not finite.
        """
        return self._search(self._queries(queries), k, self.graph)

    def _search(self, queries: np.ndarray, k: int, graph: Graph | None) -> tuple[np.ndarray, np.ndarray]:
        if k < 0:
            raise ValueError(f"k is at least 0, not {k}")
        rough, wanted = queries.astype(np.float32), min(k + SPARE, len(self.ids))
        nums = self._best(rough, wanted) if graph is None else self._near(graph, rough, wanted)
        scores = self._pairs(queries, nums)
        order = np.lexsort((nums, -scores), axis=-1)[:, :k]
        return np.take_along_axis(nums, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _queries(self, queries: np.ndarray) -> np.ndarray:
        """Checked, (B, D) float64, of length 1 under cosine."""
        with np.errstate(over="ignore"):
            wide = np.asarray(queries, dtype=np.float32).astype(np.float64)
        if wide.ndim != 2 or wide.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"queries are (B, {self.vectors.shape[1]}), not {wide.shape}")
        if not np.isfinite(wide).all():
            raise ValueError("a query is not finite")
        if self.similarity == "dot":
            return wide
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        return wide / np.where(lengths > 0, lengths, 1)

    def _products(self, queries: np.ndarray, items: slice) -> np.ndarray:
        products = queries @ self.vectors[items].T
        if self.similarity == "cosine":
            products /= self._lengths[items]
        return products

    def _pairs(self, queries: np.ndarray, nums: np.ndarray) -> np.ndarray:
        """Scores of (B, K) items, each product by itself in float64: no other row or column touches its bits."""
        scores = np.empty(nums.size, dtype=np.float32)
        rows, items = np.repeat(np.arange(len(nums)), nums.shape[1]), nums.ravel()
        step = max(1, FLOATS_AT_ONCE // 16 // self.vectors.shape[1])
        for part in (slice(start, start + step) for start in range(0, nums.size, step)):
            products = (self.vectors[items[part]] * queries[rows[part]]).sum(axis=1)
            scores[part] = products / self._lengths[items[part]] if self.similarity == "cosine" else products
        return scores.reshape(nums.shape)

    def _best(self, queries: np.ndarray, k: int) -> np.ndarray:
        """(B, k) best item numbers, over chunks of items: the best so far stand left of the next, so ties hold."""
        if len(queries) > ROWS_AT_ONCE:
            starts = range(0, len(queries), ROWS_AT_ONCE)
            return np.concatenate([self._best(queries[at : at + ROWS_AT_ONCE], k) for at in starts])
        nums = np.zeros((len(queries), 0), dtype=np.int64)
        scores = np.zeros((len(queries), 0), dtype=np.float32)
        step = max(1, FLOATS_AT_ONCE // max(1, len(queries)))
        for start in range(0, len(self.ids), step):
            products = self._products(queries, slice(start, start + step))
            best = top_k(products, k)
            nums = np.concatenate([nums, best + start], axis=1)
            scores = np.concatenate([scores, np.take_along_axis(products, best, axis=1)], axis=1)
            kept = top_k(scores, k)
            nums, scores = np.take_along_axis(nums, kept, axis=1), np.take_along_axis(scores, kept, axis=1)
        return nums

    def _near(self, graph: Graph, queries: np.ndarray, k: int) -> np.ndarray:
        """(B, k) item numbers by the graph; a row for which it reaches fewer than k items is searched exactly."""
        if not len(queries) or not k:
            return np.zeros((len(queries), k), dtype=np.int64)
        effort = _faiss().SearchParametersHNSW(efSearch=max(graph.settings.search_effort, k))
        _, nums = graph.body.search(queries, k, params=effort)
        short = (nums < 0).any(axis=1)
        if short.any():
            nums[short] = self._best(queries[short], k)
        return nums

    def approximate(
        self, queries: np.ndarray, settings: Hnsw | None = None, *, k: int = 50, min_recall: float = 0.95
    ) -> Self:
        """The same index behind a faiss graph, whose recall was measured; built on one thread, so always the same.

        Args:
            queries: (Q, D), Q > 0, like those to come; they decide nothing but the measured recall.
            settings: of the graph.
            k: of recall@k, cut to N. An item counts as found if its score is among the k best.
            min_recall: lowest recall@k, in [0, 1], with which the graph is taken.

        Raises:
            UsageError: recall is below the floor, or faiss is not installed.
        """
        settings, k, faiss = settings or Hnsw(), min(k, len(self.ids)), _faiss()
        queries = self._queries(queries)
        if not len(queries) or k < 1:
            raise ValueError(f"recall@{k} of {len(queries)} queries over {len(self.ids)} items cannot be measured")
        body = faiss.IndexHNSWFlat(self.vectors.shape[1], settings.links, faiss.METRIC_INNER_PRODUCT)
        body.hnsw.efConstruction = settings.build_effort
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # several threads link the items in the order of their luck
        try:
            body.add(self.vectors if self.similarity == "dot" else self.vectors / self._lengths[:, None])
        finally:
            faiss.omp_set_num_threads(threads)
        least = self._search(queries, k, None)[1][:, -1:]
        recall = float((self._search(queries, k, Graph(body, settings, 0.0, k))[1] >= least).mean())
        if recall < min_recall:
            raise UsageError(
                f"engine faiss finds {recall:.3f} of the {k} best items, the floor is {min_recall:.3f} ({settings})",
                f"raise the search effort above {settings.search_effort}, or use --engine exact",
            )
        return replace(self, graph=Graph(body, settings, recall, k))

    def check(self, digest: str, hint: str | None = None) -> None:
        """Raises ArtifactMissing if the vectors were made of something else than what `digest` stands for."""
        if self.digest != digest:
            raise ArtifactMissing(
                "index was built from other weights or item texts than this model's "
                f"(index {self.digest[:12]}, model {digest[:12]})",
                hint or _AGAIN,
            )

    def save(self, directory: Path) -> None:
        """Write vectors.npy, index.json and, of an approximate engine, engine.faiss."""
        directory.mkdir(parents=True, exist_ok=True)
        np.save(directory / VECTORS, self.vectors, allow_pickle=False)
        card = {
            "format": FORMAT,
            "shape": self.vectors.shape,
            "similarity": self.similarity,
            "digest": self.digest,
            "engine": self.engine,
            "settings": {} if self.graph is None else asdict(self.graph.settings),
            "recall": self.recall,
            "recall_k": None if self.graph is None else self.graph.recall_k,
            "ids": self.ids,
        }
        with (directory / CARD).open("w", encoding="utf-8", newline="\n") as file:
            json.dump(card, file)
        if self.graph is not None:
            _faiss().write_index(self.graph.body, str(directory / GRAPH))

    @classmethod
    def load(cls, directory: Path, *, mmap: bool = False) -> Self:
        """Read what `save` wrote.

        Args:
            directory: of the index.
            mmap: leave the vectors in their file, where several processes share them. A graph is read into memory.

        Raises:
            ArtifactMissing: a file is missing or damaged, or the files do not belong together.
            UsageError: the index needs faiss, which is not installed.
        """
        try:
            card = json.loads((directory / CARD).read_text(encoding="utf-8"))
            if card["format"] != FORMAT or card["engine"] not in ENGINES:
                raise ValueError(f"format {card['format']!r}, engine {card['engine']!r}")
            # A map takes no memory, whatever a damaged header promises.
            vectors = np.load(directory / VECTORS, mmap_mode="r", allow_pickle=False)
            if [*vectors.shape] != card["shape"] or vectors.dtype != np.float32:
                raise ValueError(f"{VECTORS} is {vectors.shape} {vectors.dtype}, {CARD} says {card['shape']}")
            if not all(isinstance(text, str) for text in (card["digest"], *card["ids"])):
                raise ValueError("ids and digest are texts")
            exact = cls(vectors if mmap else np.array(vectors), tuple(card["ids"]), card["digest"], card["similarity"])
            if card["engine"] == "exact":
                return exact
            settings, recall, k = Hnsw(**card["settings"]), float(card["recall"]), int(card["recall_k"])
        except MemoryError:
            raise
        except Exception as error:  # a damaged header alone raises ValueError, EOFError, TokenError, BadZipFile
            raise _unreadable(directory, error) from error
        return replace(exact, graph=Graph(_read_graph(directory, vectors.shape), settings, recall, k))


def shard_range(n_items: int, shard: int, shards: int) -> range:
    """The items of one shard, counted from 0: contiguous; the sizes of two shards differ by at most one."""
    if not 0 <= shard < shards or n_items < 0:
        raise ValueError(f"shard {shard} of {shards} over {n_items} items")
    size, longer = divmod(n_items, shards)
    start = shard * size + min(shard, longer)
    return range(start, start + size + (shard < longer))


def merge(parts: Sequence[ItemIndex], ids: Sequence[str]) -> ItemIndex:
    """One exact index of shards, given in any order; items in the order of `ids`.

    Raises:
        ArtifactMissing: the shards are of different weights, texts, widths or similarities, or an item stands in two
            of them, in none, or is not in `ids`.
    """
    place = {item: num for num, item in enumerate(ids)}
    if len(place) != len(ids):
        raise ValueError(f"{len(ids) - len(place):,} ids are repeated")
    if not parts:
        raise ArtifactMissing(f"no shard of the index of {len(ids):,} items", _AGAIN)
    for what, values in (
        ("weights or item texts", [part.digest[:12] for part in parts]),
        ("similarities", [part.similarity for part in parts]),
        ("widths", [part.vectors.shape[1] for part in parts]),
    ):
        if len(set(values)) > 1:
            raise ArtifactMissing(f"the {len(parts)} shards are of different {what}: {values}", _AGAIN)
    held = Counter(item for part in parts for item in part.ids)
    for what, items in (
        ("in the shards are not in the catalogue", [item for item in held if item not in place]),
        ("are in two shards", [item for item, times in held.items() if times > 1]),
        ("are in no shard", [item for item in ids if item not in held]),
    ):
        if items:
            raise ArtifactMissing(f"{len(items):,} items {what}, {items[0]!r} the first ({len(ids):,} items)", _AGAIN)
    vectors = np.empty((len(ids), parts[0].vectors.shape[1]), dtype=np.float32)
    for part in parts:
        vectors[[place[item] for item in part.ids]] = part.vectors
    return ItemIndex(vectors, tuple(ids), parts[0].digest, parts[0].similarity)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """(N,) float32 lengths; not finite where the vector is not: squares of float32 never overflow float64."""
    lengths = np.empty(len(vectors), dtype=np.float32)
    step = max(1, FLOATS_AT_ONCE // 16 // vectors.shape[1])
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        with np.errstate(over="ignore"):
            lengths[start : start + step] = np.sqrt((block * block).sum(axis=1))
    return lengths


def _faiss() -> ModuleType:
    """The one door to faiss."""
    try:
        import faiss
    except ImportError as error:
        raise UsageError(
            "engine faiss needs the extra: pip install 'crscli[ann]'", "or build the index with --engine exact"
        ) from error
    return faiss


def _read_graph(directory: Path, shape: tuple[int, ...]) -> Any:
    faiss = _faiss()
    try:
        body = faiss.read_index(str(directory / GRAPH))
        if not isinstance(body, faiss.IndexHNSWFlat) or (body.ntotal, body.d) != shape:
            raise ValueError(f"{GRAPH} is {type(body).__name__} of {(body.ntotal, body.d)}, vectors are {shape}")
    except (RuntimeError, ValueError) as error:
        raise _unreadable(directory, error) from error
    return body


def _unreadable(directory: Path, error: Exception) -> ArtifactMissing:
    said = " ".join(str(error).split())[:200]
    return ArtifactMissing(f"no readable index in {directory}: {said or type(error).__name__}", _AGAIN)
