"""The ban of repeated n-grams beside transformers' own: python tests/benchmarks/generation_ban.py.

64 rows that have read 200 tokens go on for 64 steps, vocabulary 32,768; seconds of the bans alone, without a model.
"""

import statistics
import time

import torch
from transformers import NoRepeatNGramLogitsProcessor

from crscli.repeats import Repeats

ROWS, READ, STEPS, VOCABULARY, N, ROUNDS = 64, 200, 64, 32_768, 3, 5


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (ROWS, READ + STEPS), generator=generator)  # few tokens: many repeats
    logits = torch.randn(ROWS, VOCABULARY, generator=generator)
    every = torch.arange(ROWS)
    seconds = {"crs": [], "transformers": []}
    for _ in range(ROUNDS):
        history = Repeats(N, ids[:, :READ].tolist(), torch.device("cpu"))
        spent = {"crs": 0.0, "transformers": 0.0}
        for step in range(READ, READ + STEPS):
            own, other = logits.clone(), logits.clone()
            started = time.process_time()
            own = history.ban(own)
            history.go_on(every, ids[:, step])
            between = time.process_time()
            other = NoRepeatNGramLogitsProcessor(N)(ids[:, :step], other)
            spent["transformers"] += time.process_time() - between
            spent["crs"] += between - started
            assert torch.equal(own, other)
        for name, value in spent.items():
            seconds[name].append(value)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:14} {value / STEPS * 1e3:8.2f} ms a step")
    print(f"transformers / crs: {medians['transformers'] / medians['crs']:.1f}")


if __name__ == "__main__":
    main()
