"""Cost of the count-based models and of an evaluation as the catalogue grows.

Run by hand: python tests/benchmarks/scale.py [--sizes 10000,100000,1000000]. Each size runs in a process of its own,
so that the peak of memory is its own. Dialogues are synthetic and bounded in number; titles are made of random words.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np

from crscli import evaluation
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Dialogue, Link, Turn
from crscli.models.neighbours import SignalConfig, SignalModel
from crscli.protocols import PROTOCOLS, select
from crscli.recommender import FitData

DIALOGUES, ROWS = 5_000, 500


def world(size):
    """A catalogue of `size` items and dialogues whose items follow a Zipf law."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 50_000, size=(size, 3))
    items = [Item(str(n), " ".join(f"w{w}" for w in row), 1950 + n % 70) for n, row in enumerate(words.tolist())]
    named = np.minimum(rng.zipf(1.3, size=(DIALOGUES + ROWS, 6)) - 1, size - 1)
    named = (named * 7919) % size  # popular items are spread over the numbers
    dialogues = []
    for num, row in enumerate(named.tolist()):
        turns = [
            Turn(("seeker", "recommender")[t % 2], f"I like w{row[t] % 50_000}", (Link("item", str(row[t])),))
            for t in range(6)
        ]
        dialogues.append(Dialogue(str(num), tuple(turns), order=num))
    return Catalogue(items), dialogues[:DIALOGUES], dialogues[DIALOGUES:]


def measure(size, signal):
    catalogue, train, test = world(size)
    started = time.perf_counter()
    model = SignalModel.fit(catalogue, FitData(train), SignalConfig(signal=signal))
    fitted = time.perf_counter()
    test_set = select(PROTOCOLS["turns"], {"test": test}, "test", catalogue, corpus="x", form="jsonl")
    rows = min(len(test_set.rows), ROWS)
    test_set.rows[:] = test_set.rows[:rows]
    test_set = replace(test_set, dialogue_nums=test_set.dialogue_nums[:rows])
    begun = time.perf_counter()
    predictions = evaluation.predict(signal, model, test_set, exclude_mentioned=True)
    ranked = time.perf_counter()
    evaluation.figures(predictions)
    done = time.perf_counter()
    return {
        "items": size,
        "model": signal,
        "fit_s": round(fitted - started, 2),
        "rank_ms_per_row": round(1000 * (ranked - begun) / rows, 2),
        "figures_s": round(done - ranked, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "SIGNAL"))
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(int(options.one[0]), options.one[1])))
        return
    print("| items | model | fit, s | rank, ms/row | intervals, s | peak, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in map(int, options.sizes.split(",")):
        for signal in ("cooccurrence", "ease", "knn", "bm25"):
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(size), signal], capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            r = json.loads(done.stdout)
            cells = [f"{size:,}", signal, r["fit_s"], r["rank_ms_per_row"], r["figures_s"], f"{r['peak_mb']:,}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
