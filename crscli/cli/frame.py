"""What every command is built on: the app, the options that all share, the console, errors as exit codes."""

import inspect
import os
import shlex
from collections.abc import Callable
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
    "First steps: crs demo. Then: crs fetch-dataset, fetch-metadata, link-entities, build-kg, train, "
    "index-items, evaluate.\n\n"
    "Exit codes: 0 ok, 1 a bug of crs, 2 usage, 3 missing or stale artifact, 4 bad input data, 5 network, "
    "6 credentials or configuration, 7 machine, 8 workspace locked, 9 checksum, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", "-d", help="Dataset in the workspace; chosen and said aloud where left out."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Do it again even if nothing has changed.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be read and written; write nothing.")]
DeviceOption = Annotated[
    str, typer.Option(envvar="CRS_DEVICE", help="Of neural models: auto (a GPU where there is one), cpu, cuda, cuda:N.")
]
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
        # Of several processes that train together only the first speaks.
        is_first = os.environ.get("RANK", "0") == "0"
        self.console = Console(as_json=as_json, quiet=quiet or not is_first, verbose=verbose)
        # Results are told once: where crs itself has started the processes, by the one that waits for them.
        self.tells_results = is_first and not os.environ.get("TORCHELASTIC_RUN_ID", "").startswith("crs-")
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
