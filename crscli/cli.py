"""The commands: options and help, a call of the step, output, exit code. Imports a step inside its command."""

import errno
import inspect
import os
import shlex
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from crscli import __version__
from crscli.console import Console
from crscli.errors import CrsError, MachineError
from crscli.workspace import Workspace

app = typer.Typer(
    name="crs",
    help="Conversational recommender systems: from raw dialogues to trusted figures.\n\n"
    "First steps: crs demo. Then: crs fetch-dataset, crs train, crs evaluate.\n\n"
    "Exit codes: 0 ok, 1 a bug of crs, 2 usage, 3 missing or stale artifact, 4 bad input data, 5 network, "
    "6 credentials or configuration, 7 machine, 8 workspace locked, 9 checksum, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Valid(StrEnum):
    """How a validation split is cut off train."""

    latest = "latest"
    random = "random"


class Split(StrEnum):
    """The split that is measured on."""

    test = "test"
    valid = "valid"


class Format(StrEnum):
    """Further files of a report."""

    markdown = "markdown"
    latex = "latex"


def _dataset_names(incomplete: str) -> list[str]:
    from crscli.datasets import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


def _model_names(incomplete: str) -> list[str]:
    from crscli.models import MODELS

    return [name for name in MODELS if name.startswith(incomplete)]


def _protocol_names(incomplete: str) -> list[str]:
    from crscli.protocols import PROTOCOLS

    return [name for name in PROTOCOLS if name.startswith(incomplete)]


DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", "-d", help="Dataset in the workspace; chosen and said aloud where left out."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Do it again even if nothing has changed.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be read and written; write nothing.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]

_SHARED: dict[str, Any] = {
    "workspace": Annotated[
        Path, typer.Option("--workspace", "-w", envvar="CRS_WORKSPACE", help="Folder that holds all artifacts.")
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="Results as one JSON document on stdout.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and results.")],
    "verbose": Annotated[int, typer.Option("--verbose", "-v", count=True, help="More details; may be repeated.")],
    "offline": Annotated[bool, typer.Option("--offline", envvar="CRS_OFFLINE", help="Open no socket.")],
}
_DEFAULTS: dict[str, Any] = {
    "workspace": Path("workspace"),
    "as_json": False,
    "quiet": False,
    "verbose": 0,
    "offline": False,
}


class Run:
    """What every command gets: the workspace, the console, and whether sockets are allowed."""

    def __init__(self, workspace: Path, as_json: bool, quiet: bool, verbose: int, offline: bool) -> None:
        self.workspace = Workspace(workspace)
        self.console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
        self.offline = offline
        # What a command to type next must repeat.
        is_usual = workspace == _DEFAULTS["workspace"] or "CRS_WORKSPACE" in os.environ
        self.place = "" if is_usual else f" --workspace {shlex.quote(str(workspace))}"

    def check(self) -> None:
        """Raise a MachineError if the workspace is a file."""
        if self.workspace.root.exists() and not self.workspace.root.is_dir():
            raise MachineError(f"workspace {self.workspace.root} is a file", "name a folder with --workspace")

    def dataset(self, given: str | None, model: str | None = None) -> str:
        """The dataset to work on; a choice that was not the user's is said aloud."""
        if given is not None:
            return given
        name, why = self.workspace.choose_dataset(model)
        self.console.say(f"dataset: {name} ({why})")
        return name


def command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command; its first parameter is a Run, built from the options that every command has."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(**options: Any) -> None:
            shared = {key: options.pop(key) for key in _SHARED}
            with (prepared := Run(**shared)).console:
                _report_errors(prepared.console, partial(_checked, function, prepared, options))

        own = list(inspect.signature(function).parameters.values())[1:]
        extra = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[key], annotation=annotation)
            for key, annotation in _SHARED.items()
        ]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__signature__ = inspect.Signature([*own, *extra])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *extra)}
        app.command(name)(run)
        return run

    return register


def _checked(function: Callable[..., None], run: Run, options: dict[str, Any]) -> None:
    run.check()
    function(run, **options)


def _report_errors(console: Console, body: Callable[[], None]) -> None:
    """Turn what a user can mend into a message and an exit code."""
    try:
        body()
    except CrsError as error:
        console.error(error.message, error.hint)
        raise typer.Exit(error.exit_code) from None
    except MemoryError:
        console.error("out of memory", "use a smaller dataset or --limit, or a machine with more memory")
        raise typer.Exit(MachineError.exit_code) from None
    except KeyboardInterrupt:
        console.error("interrupted", "nothing is half-written; run the same command again to finish")
        raise typer.Exit(130) from None


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


# ---- steps ----------------------------------------------------------------------------------------------------


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
        sets=tuple(sets or ()), refit=refit, seed=seed, force=force, dry_run=dry_run,
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


# ---- listings -------------------------------------------------------------------------------------------------


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


def _size(size_bytes: int) -> str:
    value = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def main() -> None:
    """Entry point: SIGTERM ends like Ctrl-C, a closed pipe ends quietly."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        # A name that the terminal's encoding lacks is shown escaped.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        app()
    except BrokenPipeError:
        # The reader has gone (| head): point stdout elsewhere so that the interpreter's last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # The results could not be written: nothing more goes to stdout, not even at the end of the interpreter.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write("error: no space left where the output goes\n")
        sys.exit(MachineError.exit_code)
