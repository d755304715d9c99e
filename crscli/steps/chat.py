"""chat: models/<run> -> somebody to talk to. Keeps conversations and profiles in files."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crscli.catalogue import Catalogue
from crscli.dialogue import Dialogue, Link, Turn, to_json
from crscli.errors import DataError, MachineError, UsageError
from crscli.phrasing import listed
from crscli.session import Host, Memory, Session
from crscli.steps._talking import Opener
from crscli.workspace import Workspace

_OPINIONS = ("liked", "disliked", "seen")
_PROFILE_FORMAT = 1


@dataclass(frozen=True)
class Prepared:
    """A chat that can begin: `opened` loads the model, which takes some seconds."""

    model: str
    keeping: "Kept"
    opened: Callable[[], Session]


def chat(
    workspace_: Workspace, *, dataset: str, opener: Opener, model: str | None = None, profile: str | None = None,
    resume: Path | None = None,
) -> Prepared:  # fmt: skip
    """Choose a model to talk to.

    Args:
        workspace_: where the artifacts are, and the profiles.
        dataset: its name in the workspace.
        opener: opens the model.
        model: a model or run; blend by default, else the newest run, else one that is fitted now.
        profile: the name of what is kept of a person between chats.
        resume: a conversation that was saved, to go on with.

    Raises:
        ArtifactMissing: the model was not trained.
        UsageError: the profile's name cannot be a file's.
    """
    if profile is not None:
        workspace_.artifact(dataset, "models", profile)  # a name like any other in the workspace
    file = workspace_.root / ".profiles" / dataset / f"{profile}.json" if profile is not None else None
    keeping, name = Kept(opener, dataset, file), opener.choose(dataset, model)

    def opened() -> Session:
        host = opener.open(dataset, name)
        return Session(host, keeping.load(host, resume) if resume else keeping.begun(host.catalogue))

    return Prepared(name, keeping, opened)


@dataclass
class Kept:
    """The files of one chat: saved dialogues, exports, a profile; and other models for it.

    Args:
        opener: opens models.
        dataset: what is talked about.
        profile_file: where the profile of `--profile` lies; None for none.
    """

    opener: Opener
    dataset: str
    profile_file: Path | None = None

    def open_model(self, name: str) -> Host:
        """Another model for the same catalogue."""
        return self.opener.open(self.dataset, name)

    def save(self, memory: Memory, path: Path) -> Path:
        """Write a dialogue to a file that `load` reads; one that was saved before is replaced.

        Raises:
            UsageError: there is a file that is no saved dialogue.
        """
        if path.exists() and _read(path) is None:
            raise UsageError(f"{path} is there, and is no saved conversation", "choose another name")
        record = {"crs": "conversation", "catalogue": memory.catalogue.digest, "memory": memory.to_json()}
        return _write(path, json.dumps(record, ensure_ascii=False, indent=1))

    def load(self, host: Host, path: Path) -> Memory:
        """Read what `save` wrote.

        Raises:
            DataError: it is no saved dialogue, or of another catalogue.
        """
        record = _read(path)
        if record is None:
            raise DataError("no saved conversation", "/save FILE writes one", path=path)
        if record.get("catalogue") != host.catalogue.digest:
            raise DataError("a conversation about another catalogue", "chat with --dataset of that one", path=path)
        try:
            return Memory.from_json(host.catalogue, record["memory"])
        except (ValueError, KeyError) as error:
            raise DataError(str(error), "/save FILE writes one", path=path) from None

    def export(self, memory: Memory, path: Path) -> Path:
        """Write a dialogue for people (.md, .txt), or as a dataset's dialogue (.jsonl).

        Raises:
            UsageError: the file is there, or its name has another ending.
        """
        if path.exists():
            raise UsageError(f"{path} is there", "choose another name; nothing is overwritten")
        if path.suffix == ".jsonl":
            return _write(
                path, json.dumps(to_json(Dialogue(path.stem, tuple(memory.turns))), ensure_ascii=False) + "\n"
            )
        if path.suffix not in (".md", ".txt"):
            raise UsageError(f"{path.suffix or path} is no form of export", "name a file .md, .txt or .jsonl")
        bold = "**" if path.suffix == ".md" else ""
        lines = [f"{bold}{turn.role}{bold}: {turn.text}\n" for turn in memory.turns]
        return _write(path, "\n".join(lines))

    def said(self, memory: Memory) -> None:
        """Keep what is thought of films in the profile."""
        if self.profile_file is not None and (held := {i: o for i, o in memory.opinions.items() if o in _OPINIONS}):
            record = {"crs": "profile", "format": _PROFILE_FORMAT, "opinions": self._opinions() | held}
            _write(self.profile_file, json.dumps(record, indent=1))

    def profile(self, action: str) -> list[str]:
        """Show or delete the profile."""
        if self.profile_file is None:
            return ["no profile is kept: crs chat --profile NAME keeps one"]
        if action == "delete":
            self.profile_file.unlink(missing_ok=True)
            return [f"deleted: {self.profile_file}"]
        counts = {o: sum(v == o for v in self._opinions().values()) for o in _OPINIONS}
        return [f"{self.profile_file}: {', '.join(f'{n} {o}' for o, n in counts.items())}"]

    def _opinions(self) -> dict[str, str]:
        """What the profile holds.

        Raises:
            DataError: it is no profile.
        """
        if self.profile_file is None or not self.profile_file.exists():
            return {}
        try:
            record = json.loads(self.profile_file.read_text(encoding="utf-8"))
            return {str(i): str(o) for i, o in record["opinions"].items() if o in _OPINIONS}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError("no profile", "delete the file, or name another profile", path=self.profile_file) from None

    def begun(self, catalogue: Catalogue) -> Memory:
        """A new dialogue with what the profile knows: liked films are spoken of, seen and disliked ones not offered."""
        memory, opinions = Memory(catalogue), {i: o for i, o in self._opinions().items() if i in catalogue}
        memory.opinions |= opinions
        liked = [catalogue.item(i) for i, opinion in opinions.items() if opinion == "liked"][-12:]
        if liked:
            names = listed([item.name for item in liked])
            links, at = [], len("I liked ")
            for item in liked:
                at = f"I liked {names}.".index(item.name, at)
                links.append(Link("item", item.item_id, at, at + len(item.name), opinion="liked"))
                at += len(item.name)
            memory.turns.append(Turn("seeker", f"I liked {names}.", tuple(links)))
        return memory


def _read(path: Path) -> dict[str, Any] | None:
    """A saved dialogue's record; None if the file is none.

    Raises:
        DataError: there is no such file.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such file", path=path) from None
    except (ValueError, OSError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.get("crs") == "conversation" else None


def _write(path: Path, text: str) -> Path:
    """Write a file whole, readable by its owner alone.

    Raises:
        MachineError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror})", "choose another place") from None
    return path
