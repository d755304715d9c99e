"""What train, index-items and evaluate do with models that are trained by steps: plans, processes, files, indexes.

Loaded only where such a model is asked for, since it brings torch.
"""

import contextlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from crscli import workspace
from crscli.backbone import free_bytes, is_random, pick_device
from crscli.errors import MachineError, UsageError
from crscli.figures import curves
from crscli.index import ItemIndex
from crscli.progress import Progress, Say
from crscli.steps._training import Machine, Work
from crscli.training import Run, Schedule, fit, what_it_takes
from crscli.training.processes import is_first, is_worker, launch
from crscli.workspace import Workspace

PROBE_STEPS = 2


def plan(work: Work, machine: Machine, say: Say) -> dict[str, Any]:
    """Count, estimate, and make a few steps of each stage that are thrown away.

    A known shape with random weights takes as long and as much memory as the real ones, and needs no download.

    Returns:
        parameters, those trained (the most of a stage), points and steps of all stages, device, bytes estimated, free
        and at the peak, seconds of a step with the longest points, hours; `stages` with the same of each.
    """
    device = pick_device(machine.device)
    model = _shaped(work, machine)
    model.on(device)
    free = free_bytes(device)
    stages = {}
    for name, network, points, schedule in model.stages(work.fit_data.train, work.seed):
        say(f"{name}: {what_it_takes(network, points, schedule)}")
        stages[name] = _probed(name, network, points, schedule, device, say)
    every = list(stages.values())
    steps, hours = sum(s["steps"] for s in every), sum(s["hours"] for s in every)
    return {
        "parameters": max(s["parameters"] for s in every),
        "trained": max(s["trained"] for s in every),
        "points": sum(s["points"] for s in every),
        "steps": steps,
        "device": device,
        "memory_bytes": max(s["memory_bytes"] for s in every),
        "free_bytes": free,
        "seconds_per_step": round(hours * 3600 / steps, 3),
        "peak_bytes": peak_bytes(device),
        "hours": round(hours, 2),
        "stages": stages,
    }


def _shaped(work: Work, machine: Machine) -> Any:
    """The model as training begins with it, with random weights where their shape is known."""
    settings, data = work.settings, work.fit_data
    named = {n: v for n in ("backbone", "encoder") if not is_random(v := getattr(settings, n, "random"))}
    random = {n: f"random:{v.partition('@')[0]}" for n, v in named.items()}
    with contextlib.suppress(UsageError):  # no known shape: the weights themselves
        made = replace(settings, **random)
        without = replace(data, fusion=None) if random else data  # a fusion run is of the real weights
        return work.model_type.untrained(work.data.catalogue, without, made, seed=work.seed)
    return work.model_type.untrained(work.data.catalogue, data, settings, seed=work.seed, offline=machine.offline)


def _probed(
    name: str, network: Any, points: Sequence[Any], schedule: Schedule, device: str, say: Say
) -> dict[str, Any]:
    """What a stage would take, by a few steps of it."""
    say(f"{name}: probe of {PROBE_STEPS + 1} steps with the longest points, thrown away")
    # Long rows first, as the peak of a whole run would be.
    longest = sorted(points, key=network.length, reverse=True)[: schedule.batch_size * (PROBE_STEPS + 1)]
    once = replace(schedule, epochs=1)
    fit(network, longest, once, Run(device=device, max_steps=1), name="probe")
    started = time.monotonic()
    fit(network, longest, once, Run(device=device, max_steps=PROBE_STEPS), name="probe")
    seconds = (time.monotonic() - started) / PROBE_STEPS
    steps = schedule.steps_per_epoch(len(points)) * schedule.epochs
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained": sum(p.numel() for p in network.trained().values()),
        "points": len(points),
        "steps": steps,
        "memory_bytes": network.memory_bytes(schedule.micro_batch or schedule.batch_size),
        "seconds_per_step": round(seconds, 3),
        "hours": seconds * steps / 3600,
    }


def peak_bytes(device: str) -> int:
    """The most memory that this process has held."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def train(work: Work, machine: Machine, afresh: bool, progress: Progress, say: Say) -> None:
    """Train and save: here, or in several processes that this one starts and waits for.

    Args:
        work: what is trained.
        machine: where.
        afresh: forget what an interrupted training left.
        progress: told of steps.
        say: told what a user should know.
    """
    directory = workspace.scratch(work.artifact, work.recipe)
    if afresh and not is_worker():
        shutil.rmtree(directory, ignore_errors=True)
    if machine.devices > 1 and not is_worker():
        _launch(work, machine, say)
        return
    device = pick_device(machine.device)
    if is_worker() and device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    run = Run(directory, device, machine.max_steps, progress, say if is_first() else _quiet, machine.offline)

    def fitted() -> Any:
        return work.model_type.fit(
            work.data.catalogue, work.fit_data, work.settings, seed=work.seed, progress=progress, run=run
        )

    if not is_first():
        fitted()
        return
    notes: dict[str, Any] = {"device": _named(device), "processes": int(os.environ.get("WORLD_SIZE", "1"))}
    with workspace.write(work.artifact, work.recipe, notes=notes) as target:
        model = fitted()
        # Times are no output: the same training again must leave the same bytes.
        notes["seconds"] = round(sum(log.summary.pop("seconds") for log in model.logs.values()), 1)
        _save(work, model, target)
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):  # another training may keep its state there
        directory.parent.rmdir()


def _save(work: Work, model: Any, target: Path) -> None:
    """The model, its log and its curves; a model of several stages has a log and a picture of each."""
    logs, stages = model.logs, len(model.logs) > 1
    summaries = {stage: log.summary for stage, log in logs.items()}
    work.save(model, target, summaries if stages else next(iter(summaries.values())))
    with (target / "log.jsonl").open("w", encoding="utf-8") as file:
        for stage, log in logs.items():
            file.writelines(json.dumps(({"stage": stage} if stages else {}) | row) + "\n" for row in log.rows)
    for stage, log in logs.items():
        name, of = (f"curves-{stage}.png", f", {stage}") if stages else ("curves.png", "")
        chosen_by = log.summary["choose"].removeprefix("valid/")
        curves(log.rows, target / name, title=f"{work.artifact.name}{of}", choose=chosen_by)


def _launch(work: Work, machine: Machine, say: Say) -> None:
    """Start the same training in several processes."""
    if pick_device(machine.device).startswith("cuda") and torch.cuda.device_count() < machine.devices:
        raise MachineError(
            f"{machine.devices} devices are asked for, {torch.cuda.device_count()} GPUs are there",
            "lower --devices, or give --device cpu",
        )
    say(f"starting {machine.devices} processes")
    settings = [f"--set={key}={value}" for key, value in work.recipe.params["settings"].items()]
    seed, dataset = str(work.seed), work.artifact.dataset
    params = work.recipe.params
    arguments = [work.recipe.step, "--workspace", str(work.artifact.root), "--dataset", dataset, "--model", work.model]
    for option in ("fusion", "kg", "acts"):
        arguments += [f"--{option}", params[option]] if option in params else []
    arguments += ["--run", str(work.artifact.run), "--seed", seed, "--device", machine.device, *settings, "--force"]
    arguments += ["--max-steps", str(machine.max_steps)] if machine.max_steps else []
    arguments += ["--offline"] if machine.offline else []
    launch(arguments, machine.devices)


def _quiet(*_: object) -> None:
    """The other processes say nothing."""


def _named(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def ready(
    workspace_: Workspace, dataset: str, run: str, model: Any, device: str, say: Say, *, index: bool = True
) -> Any:
    """A loaded model on its device, with the index that `index-items` made for its run, if there is one.

    Raises:
        ArtifactMissing: the index is of other weights or items.
    """
    model.on(pick_device(device))
    artifact = workspace_.artifact(dataset, "index", run)
    if not index or not hasattr(model, "use_index"):
        return model
    command = f"crs index-items --dataset {dataset} --model {run}"
    if artifact.exists():
        found = ItemIndex.load(artifact.open())
        found.check(model.item_digest, f"run: {command} --force")
        model.use_index(found)
    else:
        say(f"{run}: its items are encoded now; {command} keeps them")
    return model
