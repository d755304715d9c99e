"""How fast and how large a training step of a neural model is on this machine, at its real size with random weights.

    python tests/benchmarks/step.py --workspace DIR --dataset redial --model pecrs-small --model pecrs-medium

Prints a table: seconds a step (median), points a second, peak memory, arithmetic a step and its share of the rate that
a large matrix product reaches here (bf16 on a GPU, fp32 on a CPU). Whole steps are timed, collating included.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from crscli import config as configuration
from crscli.backbone import pick_device
from crscli.models import fusion_class, model_class, model_spec
from crscli.steps._dataset import find_kg, load_kg, read_dataset
from crscli.steps._neural import peak_bytes
from crscli.training import Run, fit
from crscli.workspace import Workspace


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--kg")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    rate = matrix_rate(device)
    workspace = Workspace(arguments.workspace)
    print(
        f"{torch.cuda.get_device_name(device) if device.startswith('cuda') else device}, matrix product "
        f"{rate / 1e12:.1f} TFLOP/s; {arguments.dataset}; {' '.join(arguments.sets)}"
    )
    print("| model, stage | batch | trained of parameters | s a step | points/s | peak, GB | TFLOP a step | of rate |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in arguments.model:
        for row in measured(name, arguments, device, rate, workspace):
            print(row, flush=True)


def measured(name, arguments, device, rate, workspace):
    """One row of the table for each stage; fusion, where there is one, is a stage like the others."""
    spec = model_spec(name)
    data = read_dataset(workspace, arguments.dataset, linked=spec.needs_graph)
    fit_data = data.fit_data(refit=False)
    if spec.needs_graph:
        graph = load_kg(find_kg(workspace, arguments.dataset, arguments.kg), data.catalogue)
        fit_data = replace(fit_data, graph=graph)
    preset = dict(spec.preset)
    for part in ("backbone", "encoder"):
        if hasattr(model_class(name).config_class, part):
            value = preset.get(part, getattr(model_class(name).config_class, part))
            preset[part] = value if value == "tiny" else f"random:{value}"
    settings = configuration.resolve(model_class(name).config_class, preset, sets=arguments.sets, environment={})
    classes = [fusion_class(name)] if spec.fusion else []
    for model_type in (*classes, model_class(name)):
        model = model_type.untrained(data.catalogue, fit_data, settings).on(device)
        for stage, network, points, schedule in model.stages(fit_data.train, 0):
            yield f"| `{name}`, {stage} | {stage_row(network, points, schedule, arguments.steps, device, rate)}"


def stage_row(network, points, schedule, many, device, rate):
    """Figures of one stage."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)

    def steps(count):
        started = time.perf_counter()
        fit(network, points, schedule, Run(device=device, max_steps=count))
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    steps(3)
    with FlopCounterMode(display=False) as counter:
        steps(5)
    work = counter.get_total_flops() / 5
    before = [steps(1) for _ in range(3)]
    seconds = statistics.median((steps(many) - statistics.median(before)) / (many - 1) for _ in range(3))
    every = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.trained().values())
    return (
        f"{schedule.batch_size} | {trained:,} of {every / 1e6:.1f} M | {seconds:.3f} | "
        f"{schedule.batch_size / seconds:.1f} | {peak_bytes(device) / 1e9:.1f} | {work / 1e12:.2f} | "
        f"{work / seconds / rate:.0%} |"
    )


def matrix_rate(device):
    """Operations a second of a large matrix product."""
    size = 8192 if device.startswith("cuda") else 1024
    kind = torch.bfloat16 if device.startswith("cuda") else torch.float32
    one, other = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    for _ in range(3):
        one @ other
    times = []
    for _ in range(10):
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        one @ other
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(times)


if __name__ == "__main__":
    main()
