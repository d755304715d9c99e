import importlib.util
import json
import random
import sys

import numpy as np
import pytest

from crscli import index as item_index
from crscli.errors import ArtifactMissing, MachineError, UsageError
from crscli.index import Hnsw, ItemIndex, merge, shard_range

FAISS = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed: crscli[ann]")


def made(n=200, width=16, similarity="dot", seed=0, digest="d" * 64):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, width)).astype(np.float32)
    return ItemIndex(vectors, tuple(f"item{num}" for num in range(n)), digest, similarity)


def asked(count=7, width=16, seed=1):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def plain(index, queries, k):
    """One product at a time in float64, a stable sort of all of them."""
    scores = np.zeros((len(queries), len(index.ids)), dtype=np.float32)
    for row, query in enumerate(queries.astype(np.float64)):
        for num, vector in enumerate(index.vectors.astype(np.float64)):
            score = query @ vector
            if index.similarity == "cosine":
                score /= np.linalg.norm(query) * np.linalg.norm(vector)
            scores[row, num] = score
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def same(found, expected):
    """Bit for bit."""
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))


# ---- exact search -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("floats", [1, 40, 199, 1000, 16_000_000])
def test_chunks_of_any_size_equal_a_plain_sort(similarity, floats, monkeypatch):
    monkeypatch.setattr(item_index, "FLOATS_AT_ONCE", floats)
    index, queries = made(similarity=similarity), asked()
    for k in (1, 10, 120):
        nums, scores = index.search(queries, k)
        expected_nums, expected_scores = plain(index, queries, k)
        assert np.array_equal(nums, expected_nums)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
        assert nums.dtype == np.int64
        assert scores.dtype == np.float32


@pytest.mark.parametrize("floats", [7, 30, 16_000_000])
def test_equal_scores_go_to_the_lower_item_number(floats, monkeypatch):
    monkeypatch.setattr(item_index, "FLOATS_AT_ONCE", floats)
    rng = np.random.default_rng(3)
    vectors = rng.integers(-1, 2, (300, 4)).astype(np.float32)  # few values: many ties, in and across chunks
    index = ItemIndex(vectors, tuple(map(str, range(300))), "d")
    queries = rng.integers(-2, 3, (9, 4)).astype(np.float32)
    for k in (1, 5, 60, 300):
        assert same(index.search(queries, k), plain(index, queries, k))


def test_equal_vectors_have_equal_scores_wherever_they_stand():
    index = made(501, 37)
    twins = ItemIndex(np.concatenate([index.vectors, index.vectors]), tuple(map(str, range(1002))), "d")
    nums, scores = twins.search(asked(5, 37), 20)
    assert np.array_equal(nums[:, 1::2], nums[:, ::2] + 501)
    assert np.array_equal(scores[:, 1::2], scores[:, ::2])


def test_k_is_cut_to_the_number_of_items():
    index, queries = made(6), asked()
    nums, scores = index.search(queries, 50)
    assert nums.shape == scores.shape == (7, 6)
    assert np.sort(nums, axis=1).tolist() == [[0, 1, 2, 3, 4, 5]] * 7
    assert index.search(queries, 0)[0].shape == (7, 0)
    with pytest.raises(ValueError, match="at least 0"):
        index.search(queries, -1)


def test_nothing_asked_and_nothing_held_give_empty_results():
    assert made().search(np.zeros((0, 16)), 5)[0].shape == (0, 5)
    empty = ItemIndex(np.zeros((0, 16), np.float32), (), "d")
    assert empty.search(asked(), 5)[1].shape == (7, 0)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_row_does_not_depend_on_its_batch(similarity, monkeypatch):
    index, queries = made(1000, 48, similarity), asked(33, 48)
    together = index.search(queries, 20)
    alone = [index.search(query[None], 20) for query in queries]
    assert same(together, [np.concatenate(parts) for parts in zip(*alone, strict=True)])
    monkeypatch.setattr(item_index, "ROWS_AT_ONCE", 4)
    assert same(together, index.search(queries, 20))
    np.testing.assert_allclose(index.scores(queries)[3], index.scores(queries[3:4])[0], atol=1e-5)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_scores_are_those_of_the_search(similarity):
    index, queries = made(similarity=similarity), asked()
    nums, scores = index.search(queries, 200)
    assert index.scores(queries).dtype == np.float32
    np.testing.assert_allclose(np.take_along_axis(index.scores(queries), nums, axis=1), scores, atol=1e-5)


def test_under_cosine_zeros_score_zero():
    vectors = np.array([[1, 0], [0, 0], [-2, 0], [0, 3]], dtype=np.float32)
    index = ItemIndex(vectors, ("a", "b", "c", "d"), "x", "cosine")
    nums, scores = index.search(np.array([[5.0, 0.0], [0.0, 0.0]]), 4)
    assert nums.tolist() == [[0, 1, 3, 2], [0, 1, 2, 3]]
    assert scores.tolist() == [[1, 0, 0, -1], [0, 0, 0, 0]]
    assert index.scores(np.zeros((1, 2))).tolist() == [[0, 0, 0, 0]]


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_a_vector_that_is_not_finite_is_refused_with_its_item(bad):
    vectors = np.zeros((3, 2))
    vectors[1, 1] = bad
    with pytest.raises(MachineError, match=r"'tt2' is not finite \(1 of 3 items\)"):
        ItemIndex(vectors, ("tt1", "tt2", "tt3"), "d")


@pytest.mark.parametrize(
    ("vectors", "ids", "similarity", "says"),
    [
        (np.zeros((2, 3)), ("a",), "dot", "1 ids for 2 vectors"),
        (np.zeros((2, 3)), ("a", "a"), "dot", "1 ids are repeated"),
        (np.zeros(3), ("a",), "dot", "not \\(3,\\)"),
        (np.zeros((2, 0)), ("a", "b"), "dot", "not \\(2, 0\\)"),
        (np.zeros((1, 3)), ("a",), "l2", "not 'l2'"),
    ],
)
def test_shapes_and_ids_that_do_not_fit_are_refused(vectors, ids, similarity, says):
    with pytest.raises(ValueError, match=says):
        ItemIndex(vectors, ids, "d", similarity)


@pytest.mark.parametrize("queries", [np.zeros(16), np.zeros((2, 15)), np.full((1, 16), np.nan), np.full((1, 16), 1e40)])
def test_queries_that_do_not_fit_are_refused(queries):
    with pytest.raises(ValueError, match="quer"):
        made().search(queries, 5)


def test_another_digest_is_refused_with_both_shortened():
    index = made(digest="a" * 64)
    index.check("a" * 64)
    with pytest.raises(ArtifactMissing, match=r"other weights or item texts.*\(index a{12}, model b{12}\)") as caught:
        index.check("b" * 64, "crs index-items --model m")
    assert caught.value.hint == "crs index-items --model m"


# ---- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mmap", [False, True])
def test_saved_and_loaded_it_is_the_same(tmp_path, mmap):
    index = ItemIndex(made(40).vectors, tuple(f"ü {n} \ud800" for n in range(40)), "d", "cosine")
    index.save(tmp_path / "here")
    read = ItemIndex.load(tmp_path / "here", mmap=mmap)
    assert np.array_equal(read.vectors, index.vectors)
    assert (read.ids, read.digest, read.similarity, read.engine, read.recall) == (
        index.ids,
        "d",
        "cosine",
        "exact",
        None,
    )
    assert same(read.search(asked(), 9), index.search(asked(), 9))
    assert isinstance(read.vectors.base, np.memmap) == mmap


def test_an_index_of_no_items_can_be_saved(tmp_path):
    ItemIndex(np.zeros((0, 3), np.float32), (), "d").save(tmp_path)
    assert ItemIndex.load(tmp_path).vectors.shape == (0, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"shape": [40, 15]},
        {"shape": None},
        {"similarity": "l2"},
        {"engine": "other"},
        {"ids": ["a"] * 40},
        {"ids": ["a"]},
        {"ids": list(range(40))},
        {"digest": None},
    ],
    ids=str,
)
def test_a_card_that_does_not_fit_is_refused(tmp_path, change):
    made(40).save(tmp_path)
    card = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(card | change))
    with pytest.raises(ArtifactMissing, match="no readable index in") as caught:
        ItemIndex.load(tmp_path)
    assert caught.value.hint == "run crs index-items again"
    assert caught.value.exit_code == 3


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(ArtifactMissing):
        ItemIndex.load(tmp_path)
    made(40).save(tmp_path)
    (tmp_path / "vectors.npy").unlink()
    with pytest.raises(ArtifactMissing, match=r"vectors\.npy"):
        ItemIndex.load(tmp_path)


def test_other_arrays_are_refused(tmp_path):
    index = made(40)
    index.save(tmp_path)
    spoilt = index.vectors.copy()
    spoilt[3, 3] = np.nan
    for array in (index.vectors.astype(np.float64), index.vectors[:39], spoilt, np.array([{}], dtype=object)):
        np.save(tmp_path / "vectors.npy", array, allow_pickle=True)
        with pytest.raises(ArtifactMissing):
            ItemIndex.load(tmp_path)


def test_damaged_files_are_refused_or_read_but_never_end_otherwise(tmp_path):
    made(5, 4).save(tmp_path)
    rng, refused = random.Random(0), 0
    for name in ("vectors.npy", "index.json"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(min(len(data), 128))] = rng.randrange(256)
            (tmp_path / name).write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
            try:
                ItemIndex.load(tmp_path)
            except ArtifactMissing:
                refused += 1
        (tmp_path / name).write_bytes(whole)
    assert refused > 400


# ---- shards -------------------------------------------------------------------------------------------------------


def test_shards_are_contiguous_and_of_nearly_equal_size():
    for n in (0, 1, 3, 10, 6924):
        for shards in (1, 2, 4, 7):
            ranges = [shard_range(n, shard, shards) for shard in range(shards)]
            assert [num for part in ranges for num in part] == list(range(n))
            assert max(map(len, ranges)) - min(map(len, ranges)) <= 1
    for shard, shards in ((4, 4), (-1, 4), (0, 0)):
        with pytest.raises(ValueError):
            shard_range(10, shard, shards)


def parts_of(index, shards):
    ranges = [shard_range(len(index.ids), shard, shards) for shard in range(shards)]
    return [
        ItemIndex(index.vectors[r.start : r.stop], index.ids[r.start : r.stop], index.digest, index.similarity)
        for r in ranges
    ]


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_four_shards_equal_one_index_bit_for_bit(tmp_path, similarity):
    index = made(203, similarity=similarity)
    for num, part in enumerate(parts_of(index, 4)):
        part.save(tmp_path / str(num))
    merged = merge([ItemIndex.load(tmp_path / str(num)) for num in (2, 0, 3, 1)], index.ids)
    merged.save(tmp_path / "merged")
    index.save(tmp_path / "one")
    for name in ("vectors.npy", "index.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert same(merged.search(asked(), 30), index.search(asked(), 30))


def test_a_merged_index_follows_the_order_of_the_ids():
    index = made(9)
    turned = merge(parts_of(index, 2), index.ids[::-1])
    assert np.array_equal(turned.vectors, index.vectors[::-1])
    assert merge(parts_of(index, 20), index.ids).ids == index.ids  # some shards are empty


def test_shards_that_do_not_fit_together_are_refused():
    index = made(10)
    a, b = parts_of(index, 2)
    for parts, ids, says in (
        ([], index.ids, "no shard of the index of 10 items"),
        ([a], index.ids, "5 items are in no shard, 'item5' the first"),
        ([a, b, b], index.ids, "5 items are in two shards, 'item5' the first"),
        ([a, b], index.ids[1:], "1 items in the shards are not in the catalogue, 'item0' the first"),
        ([a, ItemIndex(b.vectors, b.ids, "other")], index.ids, "the 2 shards are of different weights or item texts"),
        ([a, ItemIndex(b.vectors, b.ids, a.digest, "cosine")], index.ids, "of different similarities"),
        ([a, ItemIndex(b.vectors[:, 1:], b.ids, a.digest)], index.ids, r"of different widths: \[16, 15\]"),
    ):
        with pytest.raises(ArtifactMissing, match=says):
            merge(parts, ids)
    with pytest.raises(ValueError, match="1 ids are repeated"):
        merge([a, b], (*index.ids, "item0"))


# ---- approximate search -------------------------------------------------------------------------------------------


def clustered(n=1500, width=24, similarity="dot"):
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((n // 30, width))
    vectors = centres[rng.integers(0, len(centres), n)] + 0.5 * rng.standard_normal((n, width))
    queries = centres[rng.integers(0, len(centres), 60)] + 0.5 * rng.standard_normal((60, width))
    return ItemIndex(vectors, tuple(map(str, range(n))), "d", similarity), queries.astype(np.float32)


@FAISS
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_faiss_finds_nearly_what_exact_search_finds_with_the_same_scores(similarity):
    exact, queries = clustered(similarity=similarity)
    near = exact.approximate(queries, k=10)
    assert (near.engine, exact.engine) == ("faiss", "exact")
    nums, scores = near.search(queries, 10)
    expected, expected_scores = exact.search(queries, 10)
    shared = np.mean([len({*a} & {*b}) / 10 for a, b in zip(nums.tolist(), expected.tolist(), strict=True)])
    assert near.recall == pytest.approx(shared)
    assert near.recall >= 0.95
    assert np.isin(scores, expected_scores).mean() >= 0.95
    assert (np.diff(scores, axis=1) <= 0).all()
    assert np.array_equal(near.scores(queries), exact.scores(queries))


@FAISS
def test_faiss_gives_a_row_the_same_result_in_any_batch():
    exact, queries = clustered()
    near = exact.approximate(queries)
    alone = [near.search(query[None], 10) for query in queries]
    assert same(near.search(queries, 10), [np.concatenate(parts) for parts in zip(*alone, strict=True)])


@FAISS
def test_faiss_builds_the_same_twice_and_is_the_same_after_loading(tmp_path):
    exact, queries = clustered()
    near = exact.approximate(queries, Hnsw(search_effort=99))
    near.save(tmp_path / "a")
    near.approximate(queries, Hnsw(search_effort=99)).save(tmp_path / "b")
    for name in ("vectors.npy", "index.json", "engine.faiss"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    read = ItemIndex.load(tmp_path / "a", mmap=True)
    assert (read.engine, read.recall) == ("faiss", near.recall)
    assert (read.graph.settings, read.graph.recall_k) == (Hnsw(search_effort=99), 50)
    assert same(read.search(queries, 10), near.search(queries, 10))


@FAISS
@pytest.mark.parametrize("k", [0, 1, 1499, 1500, 9999])
def test_faiss_answers_with_as_many_items_as_are_asked_for(k):
    exact, queries = clustered()
    nums, scores = exact.approximate(queries).search(queries[:3], k)
    assert nums.shape == scores.shape == (3, min(k, 1500))
    assert all(len({*row}) == len(row) and min(row, default=0) >= 0 for row in nums.tolist())


@FAISS
def test_faiss_survives_equal_and_zero_vectors():
    vectors = np.zeros((400, 8), dtype=np.float32)
    vectors[:100] = 1
    index = ItemIndex(vectors, tuple(map(str, range(400))), "d", "cosine")
    near = index.approximate(np.ones((2, 8)), k=10)
    assert near.search(np.ones((1, 8)), 10)[1].tolist() == [[pytest.approx(1)] * 10]


@FAISS
def test_a_graph_below_the_floor_is_refused_with_what_to_raise():
    rng = np.random.default_rng(0)
    index = ItemIndex(rng.standard_normal((3000, 64)), tuple(map(str, range(3000))), "d")
    queries = rng.standard_normal((40, 64))
    settings = Hnsw(links=2, build_effort=4, search_effort=2)
    with pytest.raises(UsageError, match=r"finds 0\.\d{3} of the 50 best items, the floor is 0\.950") as caught:
        index.approximate(queries, settings)
    assert caught.value.hint == "raise the search effort above 2, or use --engine exact"
    low = index.approximate(queries, settings, min_recall=0)
    assert 0 < low.recall < 0.95
    with pytest.raises(ValueError, match="cannot be measured"):
        index.approximate(queries[:0], settings)


@FAISS
def test_a_damaged_graph_is_refused(tmp_path):
    exact, queries = clustered(300)
    exact.approximate(queries).save(tmp_path / "whole")
    made(300).approximate(asked(), min_recall=0).save(tmp_path / "narrow")
    graph = tmp_path / "whole" / "engine.faiss"
    whole, narrow = graph.read_bytes(), (tmp_path / "narrow" / "engine.faiss").read_bytes()
    for data in (b"", b"nonsense", whole[:-100], whole[: len(whole) // 2], narrow):
        graph.write_bytes(data)
        with pytest.raises(ArtifactMissing, match="no readable index in"):
            ItemIndex.load(tmp_path / "whole")
    graph.unlink()
    with pytest.raises(ArtifactMissing):
        ItemIndex.load(tmp_path / "whole")


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"pip install 'crscli\[ann\]'"):
        made().approximate(asked())


def test_settings_of_a_graph_are_checked():
    with pytest.raises(UsageError, match="at least 2"):
        Hnsw(search_effort=0)
