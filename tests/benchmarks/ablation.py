"""What each group of blend's features gives: one fit for each group left out, as a markdown table.

Run by hand: python tests/benchmarks/ablation.py --workspace DIR [--dataset redial] [--model blend] [--set key=value].
Every fit is of the train dialogues alone, without those of the recommenders of the validation split, and is measured
on the validation and the test split; nothing is chosen by either here.
"""

import argparse
import time
from pathlib import Path

from crscli import config as configuration
from crscli import evaluation
from crscli.models import model_class, model_spec
from crscli.protocols import protocol_for, select
from crscli.signals.features import GROUPS
from crscli.steps._dataset import read_dataset
from crscli.workspace import Workspace

SPLITS = ("valid", "test")
METRICS = ("recall@1", "recall@10", "recall@50")


def measure(data, test_sets, model, sets, exclude):
    """The figures of one fit on every split, and the seconds it took."""
    kind = model_class(model)
    settings = configuration.resolve(kind.config_class, model_spec(model).preset, sets=sets)
    started = time.perf_counter()
    fitted = kind.fit(data.catalogue, data.fit_data(refit=False), settings)
    seconds = time.perf_counter() - started
    found = {}
    for split, test_set in test_sets.items():
        predictions = evaluation.predict(model, fitted, test_set, exclude_mentioned=exclude)
        estimates = evaluation.figures(predictions, draws=200).estimates[test_set.protocol.aggregate]["all"]
        found[split] = [estimates[name] for name in METRICS]
    return found, seconds


def row(name, found, full):
    """A line of the table: the figures, and their difference from those with everything."""
    cells = [
        f"{one.value:.3f} [{one.low:.3f}-{one.high:.3f}]" + ("" if full is found else f" {one.value - all_.value:+.3f}")
        for split in SPLITS
        for one, all_ in zip(found[split], full[split], strict=True)
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--dataset", default="redial")
    parser.add_argument("--protocol", default="redial-merged-new")
    parser.add_argument("--model", default="blend")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--groups", default=",".join(GROUPS))
    given = parser.parse_args()
    data = read_dataset(Workspace(given.workspace), given.dataset)
    protocol = protocol_for(given.protocol, data.corpus, data.form)
    test_sets = {
        split: select(protocol, data.splits, split, data.catalogue, corpus=data.corpus, form=data.form)
        for split in SPLITS
    }
    header = [f"{split} {name.replace('recall', 'R')}" for split in SPLITS for name in METRICS]
    print(f"| left out | {' | '.join(header)} |")
    print(f"|{' --- |' * (1 + len(header))}")
    full = None
    for group in ("", *given.groups.split(",")):
        sets = [*given.sets, f"without={group}"]
        found, seconds = measure(data, test_sets, given.model, sets, protocol.new_only)
        full = full or found
        print(f"{row(group or 'nothing', found, full)} <!-- {seconds:.0f} s -->", flush=True)


if __name__ == "__main__":
    main()
