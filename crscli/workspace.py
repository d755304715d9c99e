"""Where artifacts live, how they are written so that nothing is ever half there, and what made them.

An artifact is a directory that holds `provenance.json`. It is written to a sibling, synced, and renamed into
place; the provenance is written last. Only `steps` and `cli` use this module; it knows nothing about contents.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

import crscli
from crscli.errors import ArtifactMissing, ChecksumError, MachineError, UsageError, WorkspaceLocked

KINDS: dict[str, str] = {
    "dialogues": "fetch-dataset",
    "items": "fetch-dataset",
    "catalogue": "fetch-metadata",
    "links": "link-entities",
    "kg": "build-kg",
    "fusion": "pretrain-fusion",
    "models": "train",
    "index": "index-items",
    "reports": "evaluate",
}
"""Artifact kind -> the command that makes it, in the order of the work."""

WITH_RUNS = ("kg", "fusion", "models", "index", "reports")
PROVENANCE = "provenance.json"
_RECORDED = {"step", "params", "inputs", "seeds", "fingerprint", "digest", "outputs", "versions", "finished", "notes"}
_VERSIONS = (
    "numpy",
    "scipy",
    "pyarrow",
    "bm25s",
    "torch",
    "torch-geometric",
    "transformers",
    "tokenizers",
    "peft",
    "safetensors",
)


@dataclass(frozen=True)
class Recipe:
    """All that decides the content of an artifact, besides the code's version.

    `inputs` maps the name of an artifact or source file to its digest; `step_format` rises when a step's output
    changes its form.
    """

    step: str
    step_format: int
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints make equal artifacts."""
        plain = json.dumps(asdict(self) | {"version": crscli.__version__}, sort_keys=True, default=str)
        return hashlib.sha256(plain.encode()).hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A place in the workspace: `dataset/kind` or `dataset/kind/run`."""

    root: Path
    dataset: str
    kind: str
    run: str | None = None

    @property
    def name(self) -> str:
        """The name that messages and provenance use: "redial/models/blend"."""
        return "/".join(part for part in (self.dataset, self.kind, self.run) if part)

    @property
    def path(self) -> Path:
        """Its directory, whether it is there or not."""
        return self.root.joinpath(self.name)

    def exists(self) -> bool:
        """Whether it is there and complete. What an interrupted write left behind is finished or undone first."""
        if any(s.exists() for s in _siblings(self.path)):
            with contextlib.suppress(WorkspaceLocked, MachineError), _locked(self):
                _recover(self.path)
        return (self.path / PROVENANCE).is_file()

    def provenance(self) -> dict[str, Any]:
        """The record of what made it.

        Raises:
            ArtifactMissing: it is not there; the hint is the command that makes it.
            ChecksumError: the record cannot be read.
        """
        if not self.exists():
            known = Workspace(self.root).datasets()
            there = f" (this workspace holds: {', '.join(known)})" if known and self.dataset not in known else ""
            raise ArtifactMissing(f"no artifact '{self.name}' in workspace {self.root}", f"run: {self._maker}{there}")
        file = self.path / PROVENANCE
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(record, dict) or not record.keys() >= _RECORDED:
                raise ValueError("it is no record of crs")
            if record["digest"] != _digest(record["outputs"]):
                raise ValueError("its digest does not fit its outputs")
        except (ValueError, OSError) as error:
            raise ChecksumError(f"{file} cannot be read ({error})", f"run again: {self._maker} --force") from None
        return record

    @property
    def _maker(self) -> str:
        """The command that makes it, as far as its name tells."""
        option = {"models": "model", "index": "model", "fusion": "model", "kg": "source"}.get(self.kind)
        run = f" --{option} {self.run}" if self.run and option else ""
        return f"crs {KINDS[self.kind]} --dataset {self.dataset}{run}"

    @property
    def digest(self) -> str:
        """A digest over the output hashes alone: a step repeated with the same result changes nothing after it."""
        return self.provenance()["digest"]

    def open(self) -> Path:
        """Its directory, after a check that every file is whole.

        Raises:
            ArtifactMissing: it is not there.
            ChecksumError: a file is missing, cut, longer, or has other bytes than when it was written.
        """
        for name, record in self.provenance()["outputs"].items():
            file = self.path / name
            found = file.stat().st_size if file.is_file() else None
            again = f"run again: {self._maker} --force"
            if found != record["bytes"]:
                raise ChecksumError(f"{file}: {record['bytes']} bytes expected, found {found}", again)
            if file_digest(file) != record["sha256"]:
                raise ChecksumError(f"{file} has other bytes than when it was written", again)
        return self.path

    def is_current(self, recipe: Recipe) -> bool:
        """Whether it was made by this recipe and is whole."""
        if not self.exists():
            return False
        try:
            if self.provenance()["fingerprint"] != recipe.fingerprint:
                return False
            self.open()
        except (ChecksumError, KeyError):
            return False
        return True


class Workspace:
    """A directory of datasets, each with its artifacts."""

    def __init__(self, root: Path) -> None:
        """Name a workspace; nothing is read or made yet."""
        self.root = root

    def artifact(self, dataset: str, kind: str, run: str | None = None) -> Artifact:
        """The place of an artifact.

        Raises:
            UsageError: the dataset's or run's name cannot be a folder's name.
        """
        for label, name in (("dataset", dataset), ("run", run)):
            if name is not None and not _is_plain_name(name):
                raise UsageError(
                    f"{label} name {name!r} cannot be used",
                    "use letters, digits, '.', '_', '+' and '-', at most 100, not starting with '.' or '-'",
                )
        return Artifact(self.root, dataset, kind, run)

    def datasets(self) -> list[str]:
        """Names of the datasets that hold at least one complete artifact, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(d.name for d in self.root.iterdir() if d.is_dir() and any(self.artifacts(d.name)))

    def artifacts(self, dataset: str) -> Iterator[Artifact]:
        """The complete artifacts of a dataset, in the order of the work."""
        for kind in KINDS:
            base = self.root / dataset / kind
            names = sorted(_final_name(p) for p in base.iterdir() if p.is_dir()) if base.is_dir() else []
            found = dict.fromkeys(names) if kind in WITH_RUNS else {None: None}
            for run in found:
                if (run is None or _is_plain_name(run)) and _is_plain_name(dataset):
                    artifact = Artifact(self.root, dataset, kind, run)
                    if artifact.exists():
                        yield artifact

    def choose_dataset(self, model: str | None = None) -> tuple[str, str]:
        """The dataset a command works on when none is named, and why it is that one.

        The only one there is; else the one with the newest run of `model`; else the one written last.

        Raises:
            ArtifactMissing: the workspace is empty.
        """
        names = self.datasets()
        if not names:
            raise ArtifactMissing(
                f"workspace {self.root} holds no dataset",
                "run: crs fetch-dataset --dataset sample (offline), or crs datasets for what else there is",
            )
        if len(names) == 1:
            return names[0], "the only dataset in the workspace"
        every = [(*_recorded(a), a) for name in names for a in self.artifacts(name)]
        runs = [(when, a) for when, of, a in every if a.kind == "models" and model in (a.run, of)]
        if model and runs:
            return max(runs, key=lambda pair: pair[0])[1].dataset, f"it has the newest run of {model}"
        return max(every, key=lambda found: found[0])[2].dataset, "the dataset written last"


@contextlib.contextmanager
def write(artifact: Artifact, recipe: Recipe, *, notes: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Write an artifact: yields an empty directory, and puts it in place when the body ends without an error.

    Args:
        artifact: what is written; an older version stays whole until the new one is.
        recipe: what makes it.
        notes: further facts for the provenance, filled in by the body if it likes.

    Raises:
        WorkspaceLocked: another process is writing the same artifact.
        MachineError: the workspace is read-only, or the disk is full.
    """
    started = datetime.now(UTC)
    final = artifact.path
    partial, _ = _siblings(final)
    with _machine_errors(final), _locked(artifact):
        _recover(final)
        partial.mkdir(parents=True)
        try:
            yield partial
            _seal(partial, recipe, started, notes or {})
            _swap(partial, final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def scratch(artifact: Artifact, recipe: Recipe) -> Path:
    """Where a long step keeps its state until the artifact is written; it may not be there yet.

    The folder is of this recipe alone, so that only the same work is ever gone on with.
    """
    name = f"{artifact.kind}-{artifact.run or ''}-{recipe.fingerprint[:16]}"
    return artifact.root / artifact.dataset / ".scratch" / name


def file_digest(path: Path) -> str:
    """Sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of crs, Python and the libraries that decide results."""
    found = {"crs": crscli.__version__, "python": platform.python_version()}
    for name in _VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _seal(directory: Path, recipe: Recipe, started: datetime, notes: Mapping[str, Any]) -> None:
    """Sync every file, then write the provenance, then sync the directory."""
    outputs = {}
    for file in sorted(p for p in directory.rglob("*") if p.is_file()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
        name = file.relative_to(directory).as_posix()
        outputs[name] = {"sha256": file_digest(file), "bytes": file.stat().st_size}
    record = {
        "format": 1,
        **asdict(recipe),
        "fingerprint": recipe.fingerprint,
        "digest": _digest(outputs),
        "outputs": outputs,
        "command": ["crs", *sys.argv[1:]],
        "versions": versions(),
        "device": f"cpu, {os.cpu_count()} cores, {platform.machine()}",
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="microseconds"),
        "notes": dict(notes),
    }
    with (directory / PROVENANCE).open("w", encoding="utf-8") as handle:
        json.dump(record, handle, indent=1, ensure_ascii=False)
        handle.flush()
        os.fsync(handle.fileno())
    _sync_directory(directory)


def _digest(outputs: Any) -> str:
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def _recorded(artifact: Artifact) -> tuple[str, str]:
    """When it was finished, and its model; "" where its record is damaged: no choice among datasets fails on one."""
    try:
        record = artifact.provenance()
    except ChecksumError:
        return "", ""
    return record["finished"], str(record["params"].get("model", ""))


def _swap(partial: Path, final: Path) -> None:
    """Put a sealed directory in place; a kill at any point leaves one whole version to recover."""
    old = _siblings(final)[1]
    if final.exists():
        os.rename(final, old)
    os.rename(partial, final)
    _sync_directory(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _recover(final: Path) -> None:
    """Finish or undo what an interrupted `write` left behind. Call it under the artifact's lock."""
    partial, old = _siblings(final)
    if not (final / PROVENANCE).is_file():
        if final.exists():  # a folder that is no artifact: made by hand or by a tool; never deleted
            raise MachineError(
                f"{final} is in the way: it exists but is no artifact of crs", "move the folder elsewhere, or delete it"
            )
        if old.exists():  # killed between the two renames: the new version is sealed, take it
            os.rename(partial if (partial / PROVENANCE).is_file() else old, final)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _siblings(final: Path) -> tuple[Path, Path]:
    return final.with_name(f".{final.name}.partial"), final.with_name(f".{final.name}.old")


def _final_name(path: Path) -> str:
    """The artifact's name of one of its siblings; a run may itself be called "x.old"."""
    return re.sub(r"^\.(.+)\.(partial|old)$", r"\1", path.name)


def _is_plain_name(name: str) -> bool:
    allowed = name.replace("-", "a").replace("_", "a").replace(".", "a").replace("+", "a")
    return allowed.isascii() and allowed.isalnum() and name[0] not in ".-+" and len(name) <= 100


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(artifact: Artifact) -> Iterator[None]:
    """Hold the artifact's kernel lock: it is free again the moment its holder dies."""
    folder = artifact.root / artifact.dataset / ".locks"
    with _machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{artifact.kind}-{artifact.run or ''}.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise WorkspaceLocked(
                f"another process is writing '{artifact.name}'", "wait for it to end, then run this again"
            ) from None
    try:
        yield
    finally:
        lock.release()


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_NUMPY_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy's OSError of a full disk has no errno


@contextlib.contextmanager
def _machine_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing right into a MachineError."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL or _NUMPY_CUT_SHORT.fullmatch(str(error)):
            raise MachineError(
                f"no space left to write {path}", "free some space, or use another --workspace"
            ) from None
        if error.errno in _NOT_ALLOWED:
            raise MachineError(
                f"cannot write {path} ({os.strerror(error.errno)})", "change its rights, or use another --workspace"
            ) from None
        raise
