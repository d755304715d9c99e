"""The commands that prepare data: datasets, metadata, links, graphs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from crscli.cli.frame import DryRunOption, ForceOption, Run, SeedOption, command


class Valid(StrEnum):
    """How a validation split is cut off train."""

    latest = "latest"
    random = "random"


def _dataset_names(incomplete: str) -> list[str]:
    from crscli.datasets import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


@command("fetch-dataset")
def fetch_dataset(
    run: Run,
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="redial, inspired, sample or jsonl.", autocompletion=_dataset_names)
    ],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Folder, archive or file with the published names, instead of a download."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in the workspace.")] = None,
    form: Annotated[str | None, typer.Option(help="published, or a paper's processed form: unicrs, pecrs.")] = None,
    valid: Annotated[
        Valid, typer.Option(help="How validation dialogues are cut off train where the files have none.")
    ] = Valid.latest,
    valid_share: Annotated[float, typer.Option(help="Their share of the train dialogues.")] = 0.12,
    seed: SeedOption = 0,
    sequences: Annotated[
        bool, typer.Option("--sequences", help="Read mention sequences without text too (ReDial).")
    ] = False,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Bad rows that may be skipped.")] = 0,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Read a dataset and normalise it: writes items/ and dialogues/.

    Examples:

      crs fetch-dataset --dataset sample

      crs fetch-dataset --dataset redial --from ~/data/redial

      crs fetch-dataset -d inspired --form pecrs --from ~/pecrs/data/INSPIRED

      crs fetch-dataset --dataset jsonl --from my_shop/ --name my-shop
    """
    from crscli.steps.fetch_dataset import fetch_dataset as step

    made = step(
        run.workspace, dataset=dataset, source=source, name=name, form=form, valid=valid.value,
        valid_share=valid_share, seed=seed, sequences=sequences, max_bad_rows=max_bad_rows, offline=run.offline,
        force=force, dry_run=dry_run, progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made.__dict__)
        return
    for note in made.notes:
        run.console.say(f"note: {note}")
    run.console.line(f"{made.dataset}: {made.status} ({made.corpus}, {made.form}); {made.items:,} items")
    run.console.table(
        ["split", "dialogues", "turns"], [[s, f"{n:,}", f"{made.turns[s]:,}"] for s, n in made.splits.items()]
    )
    if made.status == "written":
        run.console.say(f"next: crs train --dataset {made.dataset} --model blend{run.place}")
