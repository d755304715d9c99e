"""A small model for the training loop, with everything that can make a resumed run differ; and, as a program, one fit.

Examples are bags of tokens; the wanted token is learnt against negatives that are drawn for the whole batch.
"""

import json
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crscli import training
from crscli.errors import CrsError
from crscli.training import Run, Schedule, checkpoints, fit

TOKENS = 24
PLAIN = Schedule(epochs=3, batch_size=6, learning_rate=0.02, seed=5)


@dataclass(frozen=True)
class Example:
    name: str
    tokens: tuple[int, ...]
    wanted: int
    is_rare: bool


def examples(number=40):
    """The wanted token is the first one's successor; every seventh example has a second loss."""
    rng = np.random.default_rng(3)
    rows = [tuple(int(t) for t in rng.integers(0, TOKENS, rng.integers(1, 9))) for _ in range(number)]
    return [Example(f"e{n}", row, (row[0] + 1) % TOKENS, n % 7 == 0) for n, row in enumerate(rows)]


@dataclass
class SmallBatch:
    ids: Tensor
    real: Tensor
    wanted: Tensor
    rare: Tensor
    negatives: Tensor
    counts: dict[str, int]

    def to(self, device):
        return replace(self, ids=self.ids.to(device))


class Small(nn.Module):
    """A Trainable; `events` are called from the losses of a step, counted from 1."""

    def __init__(self, seed=0, dropout=0.2, events=None):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.table = nn.Embedding(TOKENS, 8)
            self.mix = nn.Linear(8, 8)
            self.norm = nn.LayerNorm(8)
            self.frozen = nn.Parameter(torch.randn(3, 3), requires_grad=False)
        self.dropout = nn.Dropout(dropout)
        self.weights = {"choice": 1.0, "rare": 0.5}
        self.slower = {}
        self.factor = 1.0
        self.events = events or {}
        self.calls = 0
        self.rows_seen = []
        self.drawn = []

    def trained(self):
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def length(self, example):
        return len(example.tokens)

    def draw(self, examples, rng):
        self.drawn.append(rng.choice(TOKENS, 5, replace=False))
        return self.drawn[-1]

    def collate(self, examples, drawn, rows):
        assert len(examples) == len(rows) > 0
        self.rows_seen.append([e.name for e in examples])
        width = max(len(e.tokens) for e in examples)
        ids = torch.zeros(len(examples), width, dtype=torch.long)
        real = torch.zeros(len(examples), width)
        for num, example in enumerate(examples):
            ids[num, : len(example.tokens)] = torch.tensor(example.tokens)
            real[num, : len(example.tokens)] = 1.0
        rare = torch.tensor([float(e.is_rare) for e in examples])
        counts = {"choice": len(examples), "rare": int(rare.sum())}
        return SmallBatch(ids, real, torch.tensor([e.wanted for e in examples]), rare, torch.from_numpy(drawn), counts)

    def losses(self, batch):
        self.calls += 1
        if self.calls in self.events:
            self.events[self.calls]()
        vectors = self.dropout(self.table(batch.ids))
        first = vectors[:, 0] + (vectors * batch.real[..., None]).sum(1) / batch.real.sum(1, keepdim=True)
        hidden = self.dropout(self.norm(self.mix(first)))
        candidates = torch.cat([batch.wanted[:, None], batch.negatives.expand(len(batch.wanted), -1)], 1)
        scores = torch.einsum("bd,bcd->bc", hidden, self.table(candidates))
        wanted = torch.zeros(len(scores), dtype=torch.long)
        return {
            "choice": F.cross_entropy(scores, wanted, reduction="sum") * self.factor,
            "rare": (hidden.square().sum(1) * batch.rare).sum(),
        }

    def values(self):
        return {name: p.detach().clone() for name, p in self.trained().items()}


def judge(model):
    """Figures on valid that draw random numbers of their own, as a careless validation would."""

    def validate():
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.rand(7)
        np.random.rand(3)  # noqa: NPY002
        return {"agreement": float((model.table.weight @ model.mix.weight).mean()), "other": 1.0}

    return validate


def differing(one, other):
    """Names of values that are not the same to the last bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def dying_after(calls):
    """A function that ends the process when it has been called so often."""
    actions = iter([lambda path: None] * calls)
    return lambda path: next(actions, die)(path)


def main(text):
    """Fits as asked for in JSON, one after the other; `kill` ends the process in the losses of that step."""
    rank = os.environ.get("RANK", "0")
    for asked in json.loads(text):
        schedule = replace(PLAIN, **asked.get("schedule", {}))
        events = {asked["kill"]: die} if "kill" in asked else {}
        if asked.get("kill_rank", rank) != rank:
            events = {}
        model = Small(dropout=asked.get("dropout", 0.2), events=events)
        training._CHECKPOINT_EVERY_S = asked.get("every_s", 300)
        if "kill_in_sync" in asked:
            checkpoints._sync = dying_after(asked["kill_in_sync"])
        directory = Path(asked["directory"].format(rank=rank)) if "directory" in asked else None
        run = Run(directory, max_steps=asked.get("max_steps", 0))
        rows, name = examples(asked.get("examples", 40)), asked.get("name", "training")
        log = fit(model, rows, schedule, run, validate=judge(model), choose="agreement", name=name)
        if "out" in asked:
            out = Path(asked["out"].format(rank=rank))
            checkpoints.save_tensors(model.values(), out)
            out.with_suffix(".json").write_text(
                json.dumps({"rows": log.rows, "summary": log.summary, "seen": model.rows_seen})
            )


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except CrsError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
