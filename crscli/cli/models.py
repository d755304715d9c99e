"""The commands around models: train, evaluate, and the demo."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from crscli.cli.frame import DatasetOption, DryRunOption, ForceOption, Run, SeedOption, command
from crscli.console import Console
from crscli.workspace import Workspace


class Split(StrEnum):
    """The split that is measured on."""

    test = "test"
    valid = "valid"


class Format(StrEnum):
    """Further files of a report."""

    markdown = "markdown"
    latex = "latex"


def _model_names(incomplete: str) -> list[str]:
    from crscli.models import MODELS

    return [name for name in MODELS if name.startswith(incomplete)]


def _protocol_names(incomplete: str) -> list[str]:
    from crscli.protocols import PROTOCOLS

    return [name for name in PROTOCOLS if name.startswith(incomplete)]


@command("train")
def train(
    run: Run,
    model: Annotated[str, typer.Option("--model", "-m", help="crs models lists them.", autocompletion=_model_names)],
    dataset: DatasetOption = None,
    run_name: Annotated[str | None, typer.Option("--run", help="Name of the run; the model's by default.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="key=value, wins over the file.")] = None,
    refit: Annotated[
        bool | None,
        typer.Option(
            "--refit/--no-refit",
            help="After the choice, learn from train and valid; by default where valid was cut off train.",
            show_default=False,
        ),
    ] = None,
    kg: Annotated[
        str | None, typer.Option(help="Graph that the model takes items' neighbours from, where it can (blend).")
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Fit a model: reads items/ and dialogues/, writes models/RUN.

    Examples:

      crs train --model blend

      crs train -d redial -m blend --set ranker=linear --run blend-linear
    """
    from crscli.steps.train import train as step

    chosen = run.dataset(dataset)
    made = step(
        run.workspace, dataset=chosen, model=model, run=run_name, config=config,
        sets=tuple(sets or ()), refit=refit, kg=kg, seed=seed, force=force, dry_run=dry_run,
        progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made.__dict__)
        return
    took = f" in {made.seconds:.0f} s" if made.status == "written" else ""
    if made.status == "dry run":
        reads = f"{chosen}/items, {chosen}/dialogues"
        run.console.line(f"dry run: would read {reads}; fit on {' + '.join(made.fitted_on)}; write {made.path}")
        run.console.table(["setting", "value"], [[k, v] for k, v in made.settings.items()], numbers=False)
        return
    run.console.line(f"{made.run}: {made.status}{took}; fitted on {' + '.join(made.fitted_on)}; {made.path}")
    run.console.table(["setting", "value"], [[k, v] for k, v in made.settings.items()], numbers=False)
    for name, value in made.log.items():
        run.console.detail(f"{name}: {value}")
    if made.status == "written":
        run.console.say(f"next: crs evaluate --dataset {chosen} --model {made.run}{run.place}")


@command("evaluate")
def evaluate(
    run: Run,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Model or run; may be repeated.", autocompletion=_model_names),
    ] = None,
    dataset: DatasetOption = None,
    protocol: Annotated[
        str | None, typer.Option(help="crs protocols lists them.", autocompletion=_protocol_names)
    ] = None,
    split: Annotated[Split, typer.Option(help="Split to measure on.")] = Split.test,
    exclude_mentioned: Annotated[
        bool, typer.Option("--exclude-mentioned", help="Take items of the context out of every ranking.")
    ] = False,
    candidates: Annotated[Path | None, typer.Option(help="File with the ids or titles of the items to rank.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first rows: a quick look, comparable to nothing.")] = None,
    run_name: Annotated[str | None, typer.Option("--run", help="Name of the report.")] = None,
    formats: Annotated[list[Format] | None, typer.Option("--format", help="Further files; may be repeated.")] = None,
    draws: Annotated[int, typer.Option(min=10, help="Bootstrap draws.")] = 1000,
    seed: SeedOption = 0,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Measure models beside the trivial baselines: reads models/, writes reports/.

    Examples:

      crs evaluate --model blend

      crs evaluate -m blend --protocol redial-merged-new --exclude-mentioned

      crs evaluate --model blend --model ease --format latex --json
    """
    from crscli.steps.evaluate import evaluate as step

    names = list(dict.fromkeys(models or []))
    made = step(
        run.workspace, dataset=run.dataset(dataset, names[0] if names else None), models=names, protocol=protocol,
        split=split.value, exclude_mentioned=exclude_mentioned, candidates=candidates, limit=limit, run=run_name,
        formats=[f.value for f in formats or ()], draws=draws, seed=seed, force=force, dry_run=dry_run,
        progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made.report)
        return
    if made.status == "dry run":
        _show_caption(run.console, made.report)
        run.console.line(f"dry run: would measure {', '.join(['the trivial baselines', *names])}; write {made.path}")
        return
    _show_report(run.console, made.report)
    run.console.say(f"{made.status}: {made.path}")


@command("demo")
def demo(run: Run, force: ForceOption = False) -> None:
    """Run every step on the bundled sample data; no network, no GPU, about a minute.

    Works in a folder of its own inside the workspace (.demo).
    """
    from crscli.steps.demo import demo as step

    own = Workspace(run.workspace.root / ".demo")
    made = step(own, force=force, progress=run.console.progress, say=run.console.say)
    if run.console.as_json:
        run.console.document({"report": made.evaluated.report, "conversation": made.conversation})
        return
    _show_report(run.console, made.evaluated.report, short=True)
    run.console.line()
    for seeker, reply in made.conversation:
        run.console.line(f"seeker       {seeker}")
        run.console.line(f"recommender  {reply}")
    run.console.line()
    run.console.line("Next:")
    for text in made.next_commands:
        run.console.line(f"  {text}")


def _show_caption(console: Console, report: dict[str, Any]) -> None:
    from crscli.report import caption

    for line in caption(report):
        console.line(line)


def _show_report(console: Console, report: dict[str, Any], *, short: bool = False) -> None:
    """The tables of a report."""
    from crscli import report as reports

    _show_caption(console, report)
    console.line()
    tables = [reports.main_table(report)]
    if not short:
        tables += [reports.subset_table(report), reports.published_table(report)]
        compared = reports.comparison_table(report)
        tables += [compared] if console.verbose or len(report["models"]) <= 5 else []
    for num, (columns, rows) in enumerate(tables):
        if rows:
            console.table(columns, rows)
            if num == 0:
                console.line(reports.distinct_items(report))
            console.line()
