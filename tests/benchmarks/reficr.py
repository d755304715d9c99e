"""ReFICR's two large products: python tests/benchmarks/reficr.py [search] [chunks]

search: the nearest of 6,051 items for 3,457 dialogues at width 4,096 (ReDial with a 7B model): blocks, against the
published form (a cosine of every pair, elementwise) on a twentieth of the dialogues, scaled up.
chunks: peak memory and time of a training step with 64 rows and 10 passages each, by the slots that hold their hidden
states at once (GradCache), against the whole batch. Each measurement is a process of its own; medians of three.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

CHUNKS = (0, 32_768, 8_192, 2_048)


def peak_gb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def search(form):
    import numpy as np

    from crscli.models.reficr import mining

    rng = np.random.default_rng(0)
    rows = 3457 if form == "blocks" else 64
    queries = rng.standard_normal((rows, 4096), dtype=np.float32)
    items = rng.standard_normal((6051, 4096), dtype=np.float32)
    before, started = peak_gb(), time.monotonic()
    if form == "blocks":
        mining.best(queries, items, 50)
    else:
        for start in range(0, rows, 16):  # one temporary for 16 dialogues: 1.6 GB
            products = queries[start : start + 16, None, :] * items[None]
            products.sum(-1).argsort(1)[:, ::-1][:, :50]
    seconds = time.monotonic() - started
    scale = 3457 / rows
    return {"extra GB": peak_gb() - before if form == "blocks" else 3457 * 6051 * 4096 * 4 / 1e9 / 4,
            "seconds": seconds * scale}  # fmt: skip


def chunks(slots):
    import torch

    from crscli.backbone import Adapter, Backbone, Shape
    from crscli.models.reficr.config import ReficrConfig
    from crscli.models.reficr.layout import Embedded
    from crscli.models.reficr.network import ReficrBatch, ReficrNetwork, _branched, _padded

    shape = Shape(4, 256, 4, 4096, positions=256)
    backbone = Backbone.load("tiny", adapter=Adapter("full"), shape=shape, corpus=["a b c"], dropout=0.0)
    config = ReficrConfig(backbone="tiny", tune="full", in_batch=True, chunk_tokens=slots, language_weight=0.0)
    network = ReficrNetwork(backbone, config, items=[]).train()
    draw = torch.Generator().manual_seed(0)
    texts = [Embedded(tuple(torch.randint(0, 200, (96,), generator=draw).tolist()), 8) for _ in range(640 + 64)]
    queries, spans = _padded(texts[:64])
    passages, passage_spans = _padded(texts[64:])
    positive = torch.eye(64, dtype=torch.bool).repeat_interleave(10, dim=1) & (torch.arange(640) % 10 == 0)
    batch = ReficrBatch(queries, spans, passages, passage_spans, positive, ~positive,
                        torch.zeros(64, dtype=torch.long), **_branched([], aloud=False))  # fmt: skip
    before, started = peak_gb(), time.monotonic()
    network.losses(batch)["items"].backward()
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]))
    return {"extra GB": peak_gb() - before, "seconds": time.monotonic() - started, "norm": norm}


def measured(*arguments):
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, __file__, "one", *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        runs.append(json.loads(done.stdout))
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main(wanted):
    if "search" in wanted:
        ours, published = measured("search", "blocks"), measured("search", "published")
        print(f"search: blocks {ours['extra GB']:.2f} GB extra, {ours['seconds']:.1f} s; published form "
              f"{published['extra GB']:.0f} GB a quarter, {published['seconds'] / ours['seconds']:.0f} times the "
              "time")  # fmt: skip
    if "chunks" in wanted:
        for slots in CHUNKS:
            found = measured("chunks", slots)
            print(f"chunks of {slots or 'all':>6} slots: {found['extra GB']:.2f} GB extra, {found['seconds']:.1f} s, "
                  f"gradient {found['norm']:.6f}")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        which, argument = sys.argv[2:]
        print(json.dumps(search(argument) if which == "search" else chunks(int(argument))))
    else:
        main(sys.argv[1:] or ["search", "chunks"])
