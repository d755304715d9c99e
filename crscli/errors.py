"""Errors a user can meet, each with a hint that mends it and the exit code of the process.

A message says what was found and what was expected, with values; the hint is a command or an action.
Everything else that is raised is a bug of ours and ends in a traceback with exit code 1.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


class CrsError(Exception):
    """A problem that the user can mend."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CrsError):
    """An unknown name, key or combination of options."""

    exit_code = 2


class ArtifactMissing(CrsError):
    """A needed artifact is not in the workspace, is incomplete, or was made from other inputs."""

    exit_code = 3


class DataError(CrsError):
    """Bad input data; names the file and, where there is one, the line (counted from 1)."""

    exit_code = 4

    def __init__(
        self, message: str, hint: str | None = None, *, path: Path | str | None = None, line: int | None = None
    ) -> None:
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(place + message, hint)
        self.path = path
        self.line = line


class SourceError(CrsError):
    """The network or a remote service failed; trying again later may help."""

    exit_code = 5


class ConfigError(CrsError):
    """Credentials or a configuration file are wrong."""

    exit_code = 6


class MachineError(CrsError):
    """The machine does not suffice: memory, disk, rights, device."""

    exit_code = 7


class WorkspaceLocked(CrsError):
    """Another process is writing the same artifact."""

    exit_code = 8


class ChecksumError(CrsError):
    """Bytes differ from their recorded or published checksum."""

    exit_code = 9


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str | None = None) -> UsageError:
    """A UsageError for an unknown name that suggests the nearest known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?" + (f" ({hint})" if hint else "")
    elif hint is None:
        hint = f"known: {', '.join(names)}"
    return UsageError(f"unknown {kind} {name!r}", hint)
