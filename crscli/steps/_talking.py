"""Whom to talk to: a model of the workspace with its linker, as a session's host."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crscli import config as configuration
from crscli.errors import ArtifactMissing, UsageError
from crscli.linking import LINKER, Linker
from crscli.llm.client import Endpoint, Llm
from crscli.llm.prompts import Completer
from crscli.llm.voice import LlmVoice
from crscli.models import MODELS, model_class, model_spec
from crscli.progress import Progress, Say, silent
from crscli.session import Host
from crscli.steps._dataset import DatasetInputs, find_run, load_run, online, read_dataset
from crscli.steps._llm import endpoint_of
from crscli.workspace import Artifact, Workspace

DEFAULT = "blend"
AT_ONCE = "cooccurrence"
"""Answers where nothing was trained: it is fitted in a second."""
VOICES = ("own", "plain", "llm")
_TRIES_AGAIN = 0
"""Somebody is waiting: where an endpoint fails, the reply goes on without it, and the next one asks again."""


def asked_in_talk(
    base_url: str | None, model: str | None, *, key_file: Path | None, timeout_s: float
) -> Endpoint | None:
    """The endpoint that the options of a talk name, if any.

    Raises:
        UsageError: one of them is missing, or is not as it must be.
    """
    return endpoint_of(
        base_url, model, key_file=key_file, timeout_s=timeout_s, retries=_TRIES_AGAIN, concurrency=1
    )  # fmt: skip


@contextmanager
def talking(endpoint: Endpoint | None, *, offline: bool) -> Iterator[Llm | None]:
    """The client of an endpoint, for talks: what is said in them is kept nowhere.

    Raises:
        ConfigError: there is no key, or it may not be sent there.
    """
    if endpoint is None:
        yield None
        return
    llm = Llm(endpoint, None, offline=offline)
    try:
        yield llm
    finally:
        llm.close()


@dataclass
class Opener:
    """What opens models for one chat or server.

    Args:
        workspace_: where the artifacts are.
        voice: own (a model that speaks uses its own words), plain, or llm.
        llm: the language model of `--voice llm` and of models that ask one.
        shown: films of a recommendation.
        device: of neural models.
        offline: no socket is opened.
        refit: whether a model that is fitted on the spot learns from valid too; as it is usual by default.
        progress: told of a fit.
        say: told what a user should know.
    """

    workspace_: Workspace
    voice: str = "own"
    llm: Completer | None = None
    shown: int = 3
    device: str = "auto"
    offline: bool = False
    refit: bool | None = None
    progress: Progress = silent
    say: Say = silent

    def __post_init__(self) -> None:
        if self.voice not in VOICES:
            raise UsageError(f"unknown voice {self.voice!r}", f"known: {', '.join(VOICES)}")
        if self.voice == "llm" and self.llm is None:
            raise UsageError("--voice llm needs an endpoint", "give --llm-base-url URL and --llm-model NAME")

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
        voice = LlmVoice(self.llm) if self.voice == "llm" and self.llm is not None else None
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
            learnt = data.fit_data(refit=self.refit)
            recommender = model_type.fit(data.catalogue, learnt, settings, progress=self.progress, **more)
        if hasattr(recommender, "use_llm"):
            if self.llm is not None:
                recommender.use_llm(self.llm)
            elif getattr(recommender, "needs_llm", False):
                raise UsageError(f"{name} asks a language model", "give --llm-base-url URL and --llm-model NAME")
        if hasattr(recommender, "use_base"):
            base = str(recommender.config.base)
            recommender.use_base(self._loaded(data, base, self._run(data.name, base)))
        return recommender
