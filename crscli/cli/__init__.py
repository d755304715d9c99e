"""The commands: options and help, a call of the step, output, exit code. Imports a step inside its command."""

import errno
import os
import signal
import sys

from crscli.cli import conversation, data, knowledge, models, outcomes, overview, serving
from crscli.cli.frame import app
from crscli.errors import MachineError

__all__ = ["app", "conversation", "data", "knowledge", "main", "models", "outcomes", "overview", "serving"]


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
