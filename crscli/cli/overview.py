"""The commands that tell what there is: the workspace's state, the lists, the machine."""

from typing import Annotated

import typer

from crscli.cli.frame import DatasetOption, Run, command
from crscli.errors import MachineError


@command("status")
def status(run: Run, dataset: DatasetOption = None) -> None:
    """Show each artifact: missing, fresh, stale (and why) or damaged, its size, and the next command."""
    from crscli.steps.status import status as step

    states = step(run.workspace, dataset=dataset)
    if run.console.as_json:
        run.console.document([s.__dict__ for s in states])
        return
    if not states:
        run.console.line(f"workspace {run.workspace.root} is empty; start with: crs fetch-dataset --dataset sample")
        return
    run.console.table(
        ["artifact", "state", "size", "finished (UTC)"],
        [[s.artifact, s.state + (f": {s.why}" if s.why else ""), _size(s.size_bytes), s.finished] for s in states],
        numbers=False,
    )
    for state in states:
        if state.next_command:
            run.console.line(f"{state.artifact}: {state.next_command}{run.place}")


@command("models")
def models(run: Run) -> None:
    """List the models."""
    from crscli.models import MODELS

    if run.console.as_json:
        run.console.document({name: spec.__dict__ for name, spec in MODELS.items()})
        return
    rows = [[n, s.summary, "crs train" if s.needs_run else "fitted by evaluate", s.source] for n, s in MODELS.items()]
    run.console.table(["model", "what it does", "made by", "source"], rows, numbers=False)


@command("datasets")
def datasets(run: Run) -> None:
    """List the datasets and their forms, with licence and file names."""
    from crscli.datasets import DATASETS

    if run.console.as_json:
        plain = {n: {**s.__dict__, "forms": {f: x.summary for f, x in s.forms.items()}} for n, s in DATASETS.items()}
        run.console.document(plain)
        return
    rows = [
        [name if num == 0 else "", form, spec.summary if num == 0 else "", described.summary, spec.licence]
        for name, spec in DATASETS.items()
        for num, (form, described) in enumerate(spec.forms.items())
    ]
    run.console.table(["dataset", "form", "what it is", "files", "licence"], rows, numbers=False)


@command("protocols")
def protocols(run: Run) -> None:
    """List the evaluation protocols with the counts they must give."""
    from crscli.protocols import PROTOCOLS

    if run.console.as_json:
        plain = {
            n: {**p.__dict__, "expected": {"/".join(k): v for k, v in p.expected.items()}} for n, p in PROTOCOLS.items()
        }
        run.console.document(plain)
        return
    rows = []
    for name, p in PROTOCOLS.items():
        on = ", ".join(f"{corpus} ({form})" for corpus, form in p.accepts) or "any dataset"
        counts = next(iter(p.expected.values()), {}) if p.accepts else {}
        shown = f"{counts['rows']:,} / {counts['labels']:,}" if counts else ""
        rows.append([name, p.summary, on, shown, {"micro": "labels", "row": "rows"}[p.aggregate]])
    run.console.table(["protocol", "rows", "data", "test rows / labels", "mean over"], rows, numbers=False)


@command("schema")
def schema(run: Run, name: Annotated[str, typer.Argument(help="report, items, dialogues or provenance.")]) -> None:
    """Print the JSON schema of a file that crs reads or writes."""
    from crscli.errors import unknown_name
    from crscli.schemas import SCHEMAS

    if name not in SCHEMAS:
        raise unknown_name("schema", name, SCHEMAS)
    run.console.document(SCHEMAS[name])


@command("doctor")
def doctor(run: Run) -> None:
    """Show versions, devices, threads and disk, and what is wrong with the machine."""
    from crscli.steps.doctor import doctor as step

    facts = step(run.workspace)
    if run.console.as_json:
        run.console.document(facts)
        return
    rows = []
    for key, value in facts.items():
        if key == "problems":
            continue
        if key.endswith("_bytes"):
            key, value = key.removesuffix("_bytes"), _size(value) if value else "unknown"
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(value)
        rows.append([key.replace("_", " "), value])
    run.console.table(["what", "found"], rows, numbers=False)
    for problem in facts["problems"]:
        run.console.error(problem, None)
    if facts["problems"]:
        raise typer.Exit(MachineError.exit_code)
    run.console.line("no problem found")


def _size(size_bytes: int) -> str:
    value = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
