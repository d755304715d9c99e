"""chat: a workspace -> somebody to talk to. Opens a model with its linker; keeps dialogues and profiles in files."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crscli import config as configuration
from crscli.catalogue import Catalogue
from crscli.dialogue import Dialogue, Link, Turn, to_json
from crscli.errors import ArtifactMissing, DataError, MachineError, UsageError
from crscli.linking import LINKER, Linker
from crscli.llm.voice import LlmVoice
from crscli.models import MODELS, model_class, model_spec
from crscli.phrasing import listed
from crscli.progress import Progress, Say, silent
from crscli.session import Host, Memory
from crscli.steps._dataset import DatasetInputs, find_run, load_run, online, read_dataset
from crscli.steps._llm import LlmChoice, OpenedLlm
from crscli.workspace import Artifact, Workspace

DEFAULT = "blend"
AT_ONCE = "cooccurrence"
"""Answers where nothing was trained: it is fitted in a second."""
VOICES = ("own", "plain", "llm")
_OPINIONS = ("liked", "disliked", "seen")
_PROFILE_FORMAT = 1


@dataclass
class Opener:
    """What opens models for one chat or server.

    Args:
        workspace_: where the artifacts are.
        voice: own (a model that speaks uses its own words), plain, or llm.
        llm: the endpoint of `--voice llm` and of models that ask one.
        shown: films of a recommendation.
        device: of neural models.
        offline: no socket is opened.
        progress: told of a fit.
        say: told what a user should know.
    """

    workspace_: Workspace
    voice: str = "own"
    llm: LlmChoice | None = None
    shown: int = 3
    device: str = "auto"
    offline: bool = False
    progress: Progress = silent
    say: Say = silent
    _opened_llm: OpenedLlm | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.voice not in VOICES:
            raise UsageError(f"unknown voice {self.voice!r}", f"known: {', '.join(VOICES)}")
        if self.voice == "llm" and self.llm is None:
            raise UsageError("--voice llm needs an endpoint", "give --llm-base-url URL and --llm-model NAME")

    def close(self) -> None:
        """Let go of the endpoint."""
        if self._opened_llm is not None:
            self._opened_llm.__exit__()
            self._opened_llm = None

    def open(self, dataset: str, model: str) -> Host:
        """A model to talk to.

        Args:
            dataset: its name in the workspace.
            model: a model or run.

        Raises:
            ArtifactMissing: it was not trained, or is stale.
        """
        run = self._run(dataset, model)
        links = self.workspace_.artifact(dataset, "links")
        data = read_dataset(self.workspace_, dataset, dialogues=run is None or not links.exists())
        recommender = self._loaded(data, model, run)
        if links.exists():
            linker = Linker.load(links.open() / LINKER, data.catalogue)
        else:
            linker = Linker.bundled(data.catalogue, data.splits.get("train", []))
        voice = LlmVoice(self._llm(dataset).llm) if self.voice == "llm" else None
        return Host(recommender, linker.link, self.shown, own_words=self.voice == "own", voice=voice)

    def choose(self, dataset: str, model: str | None = None) -> str:
        """The model or run to talk to: the one that is named, else blend, else the newest run, else one fitted now.

        Raises:
            ArtifactMissing: it was not trained.
        """
        if model is not None:
            self._run(dataset, model)
            return model
        runs = [a for a in self.workspace_.artifacts(dataset) if a.kind == "models"]
        newest = max(runs, key=lambda a: str(a.provenance()["finished"]), default=None)
        run = find_run(self.workspace_, dataset, DEFAULT) or newest
        if run is None:
            better = f"crs train --dataset {dataset} --model {DEFAULT} gives a better one"
            self.say(f"model: {AT_ONCE}, fitted now; {better}")
            return AT_ONCE
        self.say(f"model: {run.run} (--model for others)")
        return str(run.run)

    def _run(self, dataset: str, model: str) -> Artifact | None:
        """The run of a model; None if it is fitted on the spot."""
        run = find_run(self.workspace_, dataset, model)
        if run is None and model_spec(model).needs_run:
            raise ArtifactMissing(
                f"{model} was not trained on {dataset}", f"run: crs train --dataset {dataset} --model {model}"
            )
        return run

    def _loaded(self, data: DatasetInputs, name: str, run: Artifact | None) -> Any:
        if run is not None:
            recommender, _ = load_run(
                self.workspace_, run, data, device=self.device, offline=self.offline, say=self.say
            )
        else:
            model_type = model_class(name)
            settings = configuration.resolve(model_type.config_class, MODELS[name].preset)
            more = online(model_type, self.offline)
            recommender = model_type.fit(data.catalogue, data.fit_data(), settings, progress=self.progress, **more)
        if hasattr(recommender, "use_llm"):
            if self.llm is not None:
                recommender.use_llm(self._llm(data.name).llm)
            elif getattr(recommender, "needs_llm", False):
                raise UsageError(f"{name} asks a language model", "give --llm-base-url URL and --llm-model NAME")
        if hasattr(recommender, "use_base"):
            base = str(recommender.config.base)
            recommender.use_base(self._loaded(data, base, self._run(data.name, base)))
        return recommender

    def _llm(self, dataset: str) -> OpenedLlm:
        assert self.llm is not None, "it was checked"
        if self._opened_llm is None:
            self._opened_llm = OpenedLlm(self.llm, self.workspace_, dataset, self.offline, self.progress, self.say)
        return self._opened_llm


# ---- files ------------------------------------------------------------------------------------------------------


@dataclass
class Kept:
    """The files of one chat: saved dialogues, exports, a profile; and other models for it.

    Args:
        open_model: opens a model by name.
        profile_file: where the profile of `--profile` lies; None for none.
    """

    open_model_: Callable[[str], Host]
    profile_file: Path | None = None

    def open_model(self, name: str) -> Host:
        """Another model for the same catalogue."""
        return self.open_model_(name)

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


def profile_path(workspace_: Workspace, dataset: str, name: str) -> Path:
    """Where a profile lies.

    Raises:
        UsageError: the name cannot be a file's.
    """
    workspace_.artifact(dataset, "models", name)
    return workspace_.root / ".profiles" / dataset / f"{name}.json"


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
