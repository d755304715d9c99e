"""The one training loop: order, accumulation, precision, schedule, choice on valid, checkpoints, several processes.

Everything random of a step is a function of (seed, step): a resumed run makes the same steps as one that was never
stopped, bit for bit on a CPU. Knows nothing about models besides `Trainable`, nor about the workspace.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from crscli.errors import MachineError
from crscli.progress import Progress, Say, silent
from crscli.training import checkpoints
from crscli.training.interruption import Stop, memory_errors, stopping
from crscli.training.order import epoch_batches
from crscli.training.processes import World, joined

_LOGGED = 2000
"""About how many steps of a run are logged."""
_CHECKPOINT_EVERY_S = 300.0


class Batch(Protocol):
    """What a model makes of some examples."""

    counts: Mapping[str, int]
    """Loss -> how many units its sum is over."""

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        ...


BatchT = TypeVar("BatchT")


def moved(batch: BatchT, device: torch.device) -> BatchT:
    """A batch, a dataclass of tensors and `counts`, on a device."""
    names = [f.name for f in fields(batch) if f.name != "counts"]  # type: ignore[arg-type]
    there = {name: getattr(batch, name).to(device, non_blocking=True) for name in names}
    return replace(batch, **there)  # type: ignore[type-var]


class Trainable(Protocol):
    """All that the loop asks of a model, which is an nn.Module."""

    weights: Mapping[str, float]
    """Loss -> its part in the total."""
    slower: Mapping[str, float]
    """Trained parameter -> its share of the learning rate, where it is not 1."""

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by names that do not change."""
        ...

    def length(self, example: Any) -> int:
        """About how many tokens an example has: like lengths make one batch."""
        ...

    def draw(self, examples: Sequence[Any], rng: np.random.Generator) -> Any:
        """What all parts of a batch have in common, such as negatives; from all its examples, in every process."""
        ...

    def collate(self, examples: Sequence[Any], drawn: Any, rows: Sequence[int]) -> Batch:
        """Some of the batch's examples as tensors; `rows` are their places in the batch."""
        ...

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Loss -> its sum over the batch's units (not the mean: parts of a batch add up)."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast; every field is also a setting of the models that are trained."""

    epochs: int
    batch_size: int
    learning_rate: float
    micro_batch: int = 0
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip: float = 0.0
    validations: int = 1
    patience: int = 0
    seed: int = 0

    @classmethod
    def of(cls, config: Any, *, seed: int) -> "Schedule":
        """From the settings of a model that have the same names."""
        names = set(cls.__dataclass_fields__) - {"seed"}
        return cls(seed=seed, **{name: getattr(config, name) for name in names})

    def steps_per_epoch(self, examples: int) -> int:
        """Optimiser steps of an epoch."""
        return math.ceil(examples / self.batch_size)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (from 0): linear warm-up, then linear decay to zero."""
        warm = max(1, round(self.warmup * steps))
        return self.learning_rate * min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)), 1.0)


@dataclass(frozen=True)
class Run:
    """Where and how a training runs; nothing here changes its result.

    Args:
        directory: for checkpoints and `log.jsonl`; None keeps nothing and cannot be resumed.
        device: to compute on.
        max_steps: stop after so many steps, for a quick look; 0 for none.
        progress: told of steps done.
        say: told what a user should know.
    """

    directory: Path | None = None
    device: str = "cpu"
    max_steps: int = 0
    progress: Progress = silent
    say: Say = silent
    offline: bool = False


@dataclass
class Log:
    """What a training did: lines of `log.jsonl`, and a summary."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


Validate = Callable[[], Mapping[str, float]]


def fit(
    model: Any,
    examples: Sequence[Any],
    schedule: Schedule,
    run: Run,
    *,
    validate: Validate | None = None,
    choose: str = "",
    name: str = "training",
) -> Log:
    """Train a model and leave it with the parameters chosen on valid.

    Args:
        model: a Trainable nn.Module on `run.device`.
        examples: what to learn from.
        schedule: steps and rates.
        run: where it runs.
        validate: figures on valid, asked at the end of every 1 / `validations` epoch, without gradients.
        choose: which of these figures is best when highest; the last parameters are taken if empty.
        name: of the stage, for messages and its folder.

    Raises:
        MachineError: a loss is not finite (the state before it is kept), or memory ran out.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
        SystemExit: SIGTERM; likewise.
    """
    with joined(run.device) as world, stopping() as stop, memory_errors():
        return _Loop(model, examples, schedule, run, world, validate, choose, name).run_all(stop)


def what_it_takes(model: Any, examples: Sequence[Any], schedule: Schedule) -> str:
    """Parameters, steps and memory in a sentence, to be said before a long training.

    Args:
        model: a Trainable that can estimate its memory: `memory_bytes(rows)` of so many examples at once.
        examples: what it would learn from.
        schedule: steps.
    """
    trained = sum(p.numel() for p in model.trained().values())
    every = sum(p.numel() for p in model.parameters())
    steps = schedule.steps_per_epoch(len(examples)) * schedule.epochs
    need = model.memory_bytes(schedule.micro_batch or schedule.batch_size)
    return (
        f"{trained:,} of {every:,} parameters are trained on {len(examples):,} points in {steps:,} steps; "
        f"about {need / 1e9:.1f} GB of memory needed"
    )


class _Loop:
    """One training under way."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[Any],
        schedule: Schedule,
        run: Run,
        world: World,
        validate: Validate | None,
        choose: str,
        name: str,
    ) -> None:
        self.model, self.examples, self.schedule, self.run, self.world = model, examples, schedule, run, world
        self.validate, self.choose, self.name = validate, choose, name
        self.directory = run.directory / name if run.directory else None
        self.parameters: dict[str, nn.Parameter] = model.trained()
        if not self.parameters:
            raise ValueError("the model has no trained parameters")
        self.optimiser = _optimiser(self.parameters, schedule, model.slower)
        self.per_epoch = schedule.steps_per_epoch(len(examples))
        self.steps = self.per_epoch * schedule.epochs
        self.device = next(iter(self.parameters.values())).device
        self.lengths = [model.length(e) for e in examples]
        self.log = Log()
        self.best: dict[str, Any] = {}
        self.best_values: dict[str, Tensor] = {}
        self.since_best = 0
        self.seen = 0
        self.saved = 0

    def run_all(self, stop: Stop) -> Log:
        """All steps from the newest checkpoint on."""
        step = self._resume()
        seen, started, saved = self.seen, time.monotonic(), time.monotonic()
        last = min(self.steps, self.run.max_steps or self.steps)
        self.model.train()
        batches: list[np.ndarray] = []
        epoch = -1
        while step < last and not self._is_patient_no_more():
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                batches = epoch_batches(self.lengths, self.schedule.batch_size, seed=self.schedule.seed, epoch=epoch)
            if self._step(step, batches[step % self.per_epoch], stop):
                break
            step += 1
            self._tell(step, last, (self.seen - seen) / max(1e-9, time.monotonic() - started))
            if self._is_time_to_validate(step):
                self._validated(step)
            if time.monotonic() - saved > _CHECKPOINT_EVERY_S:
                self._checkpoint(step)  # clocks differ between processes: nobody waits for anybody here
                saved = time.monotonic()
        self._checkpoint(step)
        self._stop_if_asked(stop)
        if step == self.run.max_steps < self.steps and not self._is_time_to_validate(step):
            self._validated(step)  # a look that an uninterrupted run would not take: the checkpoint knows nothing of it
        return self._finished(step, time.monotonic() - started)

    def _stop_if_asked(self, stop: Stop) -> None:
        """End if any process was asked to, once the first one has written its checkpoint."""
        if self.world.sum([float(stop.signal != 0)], self.device)[0]:
            stop.raise_()

    # ---- a step -----------------------------------------------------------------------------------------------

    def _step(self, step: int, chosen: np.ndarray, stop: Stop) -> bool:
        """One optimiser step over a global batch; True if it was not made because the user wants to stop."""
        schedule, world = self.schedule, self.world
        examples = [self.examples[num] for num in chosen]
        drawn = self.model.draw(examples, np.random.default_rng([schedule.seed, step]))
        own = range(world.rank, len(examples), world.size)
        size = schedule.micro_batch or max(1, len(own))
        shares = [own[at : at + size] for at in range(0, len(own), size)]
        parts = [self.model.collate([examples[n] for n in rows], drawn, rows) for rows in shares]
        names = list(self.model.weights)
        counts = [float(sum(p.counts.get(n, 0) for p in parts)) for n in names]
        wanted, *totals = world.sum([float(stop.signal != 0), *counts], self.device)
        if wanted:
            return True
        torch.manual_seed(((schedule.seed * 1_000_003 + step) * 1009 + world.rank) % 2**63)
        self.optimiser.zero_grad(set_to_none=True)
        sums = dict.fromkeys(names, 0.0)
        for part in parts:
            losses = self.model.losses(part.to(self.device))
            weighted = [self.model.weights[n] * losses[n] / t for n, t in zip(names, totals, strict=True) if t]
            if weighted:
                torch.stack(weighted).sum().backward()
            for n in names:
                sums[n] += losses[n].detach()
        self._update(step, dict(zip(names, totals, strict=True)), sums, examples)
        return False

    def _update(self, step: int, totals: Mapping[str, float], sums: Mapping[str, Any], examples: Sequence[Any]) -> None:
        parameters = list(self.parameters.values())
        self.world.sum_gradients(parameters)
        means = self.world.sum([float(sums[n]) / t if (t := totals[n]) else 0.0 for n in totals], self.device)
        loss = sum(self.model.weights[n] * m for n, m in zip(totals, means, strict=True))
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not math.isfinite(loss) or not bool(torch.isfinite(norm)):
            self._checkpoint(step)
            self.world.wait()
            named = ", ".join(str(getattr(e, "name", e)) for e in examples[:8])
            raise MachineError(
                f"{self.name}: the loss of step {step + 1} is not finite ({loss}); its examples: {named}",
                "the state before this step is kept; lower learning_rate, or set clip=1",
            )
        if self.schedule.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.schedule.clip, norm)
        rate = self.schedule.rate(step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.optimiser.step()
        self.seen += len(examples)
        if step % max(1, self.steps // _LOGGED) == 0:
            parts = {f"loss/{n}": m for (n, t), m in zip(totals.items(), means, strict=True) if t}
            self._record({"step": step + 1, "loss": loss, **parts, "rate": rate, "norm": float(norm)})

    # ---- validation, choice -----------------------------------------------------------------------------------

    def _is_time_to_validate(self, step: int) -> bool:
        if self.validate is None:
            return False
        every = max(1, self.per_epoch // max(1, self.schedule.validations))
        within = step % self.per_epoch
        at_share = within and within % every == 0 and within // every < self.schedule.validations
        return bool(at_share) or within == 0

    def _validated(self, step: int) -> None:
        figures: dict[str, float] = {}
        if self.validate is None:
            return
        if self.world.is_first:
            self.model.eval()
            with torch.no_grad():
                figures = {n: float(v) for n, v in self.validate().items()}
            self.model.train()
        figures = self.world.share(figures)
        self._record({"step": step, **{f"valid/{n}": v for n, v in figures.items()}})
        if not self.choose:
            return
        value = figures[self.choose]
        if not self.best or value > self.best["value"] or math.isnan(self.best["value"]):
            self.best = {"step": step, "value": value, "figures": figures}
            self.best_values = {n: p.detach().cpu().clone() for n, p in self.parameters.items()}
            self.since_best = 0
        else:
            self.since_best += 1
        shown = ", ".join(f"{n} {v:.4g}" for n, v in figures.items())
        if self.world.is_first:
            best = "" if self.best["step"] == step else f"; best after {self.best['step']}"
            self.run.say(f"{self.name}: after step {step:,} of {self.steps:,}: {shown}{best}")

    def _is_patient_no_more(self) -> bool:
        return bool(self.schedule.patience) and self.since_best >= self.schedule.patience

    # ---- states -----------------------------------------------------------------------------------------------

    def _resume(self) -> int:
        """Go back to the newest checkpoint; the number of steps that were made."""
        newest = checkpoints.newest(self.directory) if self.directory and self.world.is_first else None
        newest = self.world.share(newest)
        if newest is not None:
            folder, state = newest
            self.best_values = checkpoints.restore(folder, self.parameters, self.optimiser)
            self.best, self.since_best, self.seen = state["best"], state["since_best"], state["seen"]
            self.log.rows, self.saved = state["rows"], int(state["step"])
        self.world.wait()  # the first process must not drop what another still reads
        if self.world.is_first and newest is not None:
            self.run.say(f"{self.name}: going on after step {self.saved:,} of {self.steps:,}")
        if self.directory and self.world.is_first:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Rows after the checkpoint will be made again.
            rows = "".join(json.dumps(row) + "\n" for row in self.log.rows)
            (self.directory / "log.jsonl").write_text(rows, encoding="utf-8")
        return self.saved

    def _checkpoint(self, step: int) -> None:
        """Keep the state after so many steps; the first process does."""
        if self.directory and self.world.is_first and step != self.saved:
            state = {"best": self.best, "since_best": self.since_best, "seen": self.seen, "rows": self.log.rows}
            checkpoints.save(self.directory, step, self.parameters, self.optimiser, state, self.best_values)
        self.saved = step

    def _finished(self, step: int, seconds: float) -> Log:
        if self.best:
            checkpoints.put(self.best_values, self.parameters)
        self.model.eval()
        self.log.summary = {
            "steps": step,
            "planned_steps": self.steps,
            "examples": self.seen,
            "seconds": round(seconds, 1),
            "processes": self.world.size,
            "choose": f"valid/{self.choose}" if self.choose else "",
            **({"best_step": self.best["step"], "valid": self.best["figures"]} if self.best else {}),
        }
        return self.log

    def _record(self, row: dict[str, Any]) -> None:
        self.log.rows.append(row)
        if self.directory and self.world.is_first:
            with (self.directory / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def _tell(self, step: int, last: int, rate: float) -> None:
        if not self.world.is_first:
            return
        losses = [r["loss"] for r in self.log.rows[-20:] if "loss" in r]
        mean = sum(losses) / max(1, len(losses))
        self.run.progress(self.name, step, last, f"loss {mean:.3f}, {rate:.1f} examples/s")


def _optimiser(
    parameters: Mapping[str, nn.Parameter], schedule: Schedule, slower: Mapping[str, float]
) -> torch.optim.Optimizer:
    """AdamW; biases, norms and other vectors do not decay."""
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = schedule.weight_decay if parameter.ndim >= 2 else 0.0
        grouped.setdefault((decay, slower.get(name, 1.0)), []).append(parameter)
    groups = [
        {"params": part, "weight_decay": decay, "share": share}
        for (decay, share), part in sorted(grouped.items(), key=lambda g: g[0])
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.999), eps=1e-6, fused=True)
