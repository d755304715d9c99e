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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from crscli import workspace
from crscli.backbone import pick_device
from crscli.errors import MachineError, UsageError
from crscli.figures import curves
from crscli.index import ItemIndex
from crscli.models import model_class
from crscli.progress import Progress, Say
from crscli.steps.train import Machine, Work
from crscli.training import Run, Schedule, fit, what_it_takes
from crscli.training.processes import is_first, is_worker, launch
from crscli.workspace import Workspace

PROBE_STEPS = 2


@dataclass(frozen=True)
class Plan:
    """What a training would take."""

    parameters: int
    trained: int
    points: int
    steps: int
    device: str
    memory_bytes: int
    free_bytes: int
    seconds_per_step: float = 0.0
    peak_bytes: int = 0


def plan(work: Work, machine: Machine, say: Say) -> dict[str, Any]:
    """Count, estimate, and make a few steps that are thrown away.

    A known shape with random weights takes as long and as much memory as the real ones, and needs no download.
    """
    settings = work.settings
    model_type = model_class(work.model)
    try:
        shaped = replace(settings, backbone=f"random:{settings.backbone.partition('@')[0]}")
        model = model_type.untrained(work.data.catalogue, work.fit_data, shaped, seed=work.seed)
    except UsageError:  # no known shape: the weights themselves
        model = model_type.untrained(
            work.data.catalogue, work.fit_data, settings, seed=work.seed, offline=machine.offline
        )
    device = pick_device(machine.device)
    model.on(device)
    points = model.points(work.fit_data.train)
    made = _planned(model, len(points), work, device)
    say(what_it_takes(model.network, points, Schedule.of(settings, seed=work.seed)))
    say(f"probe: {PROBE_STEPS + 1} steps with the longest points, thrown away")
    # Long rows first, as the peak of a whole run would be.
    longest = sorted(points, key=model.network.length, reverse=True)[: settings.batch_size * (PROBE_STEPS + 1)]
    once = replace(Schedule.of(settings, seed=work.seed), epochs=1)
    fit(model.network, longest, once, Run(device=device, max_steps=1), name="probe")
    started = time.monotonic()
    fit(model.network, longest, once, Run(device=device, max_steps=PROBE_STEPS), name="probe")
    seconds = (time.monotonic() - started) / PROBE_STEPS
    made = replace(made, seconds_per_step=round(seconds, 3), peak_bytes=peak_bytes(device))
    return {**asdict(made), "hours": round(seconds * made.steps / 3600, 2)}


def _planned(model: Any, points: int, work: Work, device: str) -> Plan:
    network, schedule = model.network, Schedule.of(work.settings, seed=work.seed)
    return Plan(
        sum(p.numel() for p in network.parameters()),
        sum(p.numel() for p in network.trained().values()),
        points,
        schedule.steps_per_epoch(points) * schedule.epochs,
        device,
        network.memory_bytes(schedule.micro_batch or schedule.batch_size),
        _free_bytes(device),
    )


def _free_bytes(device: str) -> int:
    """Memory that is free on a device; 0 if unknown."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), 0)


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
    model_type = model_class(work.model)

    def fitted() -> Any:
        return model_type.fit(
            work.data.catalogue, work.fit_data, work.settings, seed=work.seed, progress=progress, run=run
        )

    if not is_first():
        fitted()
        return
    notes: dict[str, Any] = {"device": _named(device), "processes": int(os.environ.get("WORLD_SIZE", "1"))}
    with workspace.write(work.artifact, work.recipe, notes=notes) as target:
        model = fitted()
        # Times are no output: the same training again must leave the same bytes.
        notes["seconds"] = model.log.summary.pop("seconds")
        work.save(model, target, model.log.summary)
        rows = "".join(json.dumps(row) + "\n" for row in model.log.rows)
        (target / "log.jsonl").write_text(rows, encoding="utf-8")
        chosen_by = model.log.summary["choose"].removeprefix("valid/")
        curves(model.log.rows, target / "curves.png", title=work.artifact.name, choose=chosen_by)
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):  # another training may keep its state there
        directory.parent.rmdir()


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
    arguments = ["train", "--workspace", str(work.artifact.root), "--dataset", dataset, "--model", work.model]
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
