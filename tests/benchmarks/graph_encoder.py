"""Our relational convolution beside torch_geometric's: python tests/benchmarks/graph_encoder.py.

A random graph of 30,000 nodes and 300,000 edges whose ends are drawn by a power law; 8 bases; forward and backward in
fp32 on one thread. Each case has a process of its own: CPU seconds are the median of the rounds, memory is the most
that the process held above what it held with graph, features and parameters in place; gradients are in it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings

warnings.simplefilter("ignore")

import torch  # noqa: E402
from torch_geometric.nn import FastRGCNConv, RGCNConv  # noqa: E402

from crscli.graph_encoder import RelationalConv, RelationalGraph  # noqa: E402

NODES, EDGES, BASES = 30_000, 300_000, 8
FORMS = ("ours", "RGCNConv", "FastRGCNConv")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", help="one case, as JSON; for the processes that this one starts")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measured(**json.loads(arguments.case), rounds=arguments.rounds)))
        return
    print("| relations | width | input | form | CPU s | memory, GB | RGCNConv / ours: CPU | memory |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for relations in (25, 92):
        for width in (128, 384):
            for tables in (False, True):
                told(relations, width, tables, arguments.rounds)
    print()
    for width in (128, 384):
        whole, some = (child(25, width, False, form, arguments.rounds) for form in ("ours", "640 rows"))
        print(f"width {width}: 640 rows take {some['seconds']:.2f} s, all {whole['seconds']:.2f} s")


def told(relations, width, tables, rounds):
    """Rows of one case."""
    found = {}
    for form in FORMS:
        # It holds a matrix, or a row of a table, for each edge, and the gradient of it.
        needed = 2 * EDGES * (width if tables else width * width) * 4
        if form == "FastRGCNConv" and needed > free_bytes() / 2:
            found[form] = {"needs": needed}
        else:
            found[form] = child(relations, width, tables, form, rounds)
    ours, theirs = found["ours"], found["RGCNConv"]
    for form, figures in found.items():
        start = f"| {relations} | {width} | {'tables' if tables else 'features'} | {form} |"
        if "needs" in figures:
            print(f"{start} - | needs {figures['needs'] / 1e9:.0f} | | |")
            continue
        ratio = ""
        if form == "ours":
            ratio = f"{theirs['seconds'] / ours['seconds']:.1f} | {theirs['bytes'] / ours['bytes']:.1f}"
        print(f"{start} {figures['seconds']:.2f} | {figures['bytes'] / 1e9:.2f} | {ratio or ' |'} |", flush=True)


def child(relations, width, tables, form, rounds):
    """A case in a process of its own."""
    case = json.dumps({"relations": relations, "width": width, "tables": tables, "form": form})
    command = [sys.executable, __file__, "--case", case, "--rounds", str(rounds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measured(relations, width, tables, form, rounds):
    """CPU seconds of a forward and backward pass, and bytes held above what was there before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    popular = torch.arange(1, NODES + 1, dtype=torch.float64) ** -0.7
    ends = torch.stack([torch.multinomial(popular, EDGES, replacement=True) for _ in range(2)])
    ends[1] = torch.randperm(NODES)[ends[1]]
    kinds = torch.randint(0, relations, (EDGES,))
    features = None if tables else torch.randn(NODES, width, requires_grad=True)
    if form in ("ours", "640 rows"):
        conv = RelationalConv(None if tables else width, width, relations=relations, bases=BASES, nodes=NODES)
        graph = RelationalGraph(ends, kinds, nodes=NODES, relations=relations)
        chosen = torch.randperm(NODES)[:640] if form == "640 rows" else None
        given = (features, graph, chosen)
        if chosen is None:
            graph.all()
    else:
        conv = {"RGCNConv": RGCNConv, "FastRGCNConv": FastRGCNConv}[form](
            NODES if tables else width, width, relations, num_bases=BASES
        )
        given = (features, ends, kinds)
    before = held()
    seconds = []
    for _ in range(rounds):
        conv.zero_grad(set_to_none=True)
        started = time.process_time()
        conv(*given).square().mean().backward()
        seconds.append(time.process_time() - started)
    return {"seconds": statistics.median(seconds), "bytes": peak() - before}


def held():
    """Bytes that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak():
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def free_bytes():
    """Memory that is free on this machine."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


if __name__ == "__main__":
    main()
