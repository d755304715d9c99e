"""Time of a search as the catalogue grows, exact and by a graph, and the recall of the graph.

Run by hand: OMP_NUM_THREADS=1 python tests/benchmarks/index.py [--sizes 6924,100000,1000000] [--graph 6924,100000].
The vectors are synthetic: 100 items a cluster, spread about its centre by `--spread` standard deviations of the
centres; queries are drawn alike. Times are medians, in milliseconds a query.
"""

import argparse
import statistics
import time

import numpy as np

from crscli.index import Hnsw, ItemIndex

WIDTH, QUERIES, K = 384, 500, 50


def world(size, spread):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, size // 100), WIDTH), dtype=np.float32)

    def drawn(count):
        near = centres[rng.integers(0, len(centres), count)]
        near += np.float32(spread) * rng.standard_normal((count, WIDTH), dtype=np.float32)
        return near

    return drawn(size), drawn(QUERIES)


def milliseconds(index, queries, batch):
    """Median over searches of one batch, a query."""
    times = []
    for start in range(0, len(queries) - batch + 1, batch):
        begun = time.perf_counter()
        index.search(queries[start : start + batch], K)
        times.append((time.perf_counter() - begun) / batch * 1e3)
        if sum(times) * batch > 20_000 and len(times) >= 3:
            break
    return statistics.median(times)


def row(engine, size, index, queries, built=""):
    one, hundred = (milliseconds(index, queries, batch) for batch in (1, 100))
    best = [index.search(queries, k)[1] for k in (10, 50)]
    least = [ItemIndex.search(exact_of(index), queries, k)[1][:, -1:] for k in (10, 50)]
    recalls = [(found >= lowest).mean() for found, lowest in zip(best, least, strict=True)]
    print(f"| {engine} | {size:,} | {one:.2f} | {hundred:.2f} | {recalls[0]:.3f} | {recalls[1]:.3f} | {built} |")


def exact_of(index):
    return ItemIndex(index.vectors, index.ids, index.digest, index.similarity)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="6924,100000,1000000")
    parser.add_argument("--graph", default="6924,100000")
    parser.add_argument("--similarity", default="cosine")
    parser.add_argument("--spread", type=float, default=1.0)
    given = parser.parse_args()
    print("| engine | items | batch 1, ms | batch 100, ms a query | recall@10 | recall@50 | build |")
    print("|---|---|---|---|---|---|---|")
    for size in map(int, given.sizes.split(",")):
        vectors, queries = world(size, given.spread)
        begun = time.perf_counter()
        index = ItemIndex(vectors, tuple(map(str, range(size))), "", given.similarity)
        row("exact", size, index, queries, f"{time.perf_counter() - begun:.1f} s")
        if str(size) in given.graph.split(","):
            begun = time.perf_counter()
            near = index.approximate(queries, Hnsw(), min_recall=0)
            row("faiss", size, near, queries, f"{time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
