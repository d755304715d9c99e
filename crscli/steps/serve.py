"""serve: models/<run> -> an HTTP service with a page. Keeps conversations in the workspace."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from crscli.errors import ConfigError
from crscli.llm.client import Endpoint, Llm
from crscli.progress import Progress, Say, silent
from crscli.steps._talking import Opener, talking
from crscli.web.access import ENVIRONMENT_TOKEN, LOOPBACK, Settings, Tokens, is_loopback, read_tokens
from crscli.web.app import make_app
from crscli.web.server import address_of, bound, run, run_workers
from crscli.web.store import Store
from crscli.workspace import Workspace


def serve(
    workspace_: Workspace, *, dataset: str, model: str | None = None, voice: str = "own",
    endpoint: Endpoint | None = None, host: str = "127.0.0.1", port: int = 8080, token_file: Path | None = None,
    workers: int = 1, device: str = "auto", offline: bool = False, progress: Progress = silent, say: Say = silent,
) -> None:  # fmt: skip
    """Serve a model until Ctrl-C.

    Args:
        workspace_: where the artifacts are, and the conversations.
        dataset: its name in the workspace.
        model: a model or run; blend by default, else the newest run, else one that is fitted now.
        voice: own (a model that speaks uses its own words), plain, or llm.
        endpoint: of `--voice llm`, and of models that ask a language model.
        host: the address to listen at; one that others can reach needs a token.
        port: to listen at; 0 for a free one.
        token_file: a token on a line; without, the environment's.
        workers: processes, each with its own copy of the model.
        device: of neural models.
        offline: the model asks nobody.
        progress: told of a fit.
        say: told the address.

    Raises:
        ArtifactMissing: the model was not trained.
        ConfigError: a token is missing, or is none.
        MachineError: the address is in use, or conversations cannot be kept.
        UsageError: the address is none.
    """
    tokens = read_tokens(token_file)
    is_private = is_loopback(host)
    if not is_private and not tokens:
        raise ConfigError(
            f"{host} can be reached by others, and everybody may ask",
            f"give --token-file FILE or set {ENVIRONMENT_TOKEN}; or leave out --host",
        )
    with talking(endpoint, offline=offline) as llm:  # what is wrong with it is told before a model is loaded
        opener = Opener(workspace_, voice, llm, device=device, offline=offline, progress=progress, say=say)
        name = opener.choose(dataset, model)
    listening = bound("127.0.0.1" if host == "localhost" else host, port)
    with listening:
        file = workspace_.root / ".sessions" / f"{dataset}.sqlite"
        Store(file).close()  # what is wrong with it is told before a model is loaded
        hosts = LOOPBACK | {f"[{host}]" if ":" in host else host} if is_private else None
        service = _Service(workspace_.root, dataset, name, voice, endpoint, device, offline, file, tokens, hosts)
        app = service.made() if workers == 1 else None
        say(f"{name} on {dataset}: {address_of(listening)} (Ctrl-C ends)")
        if not is_private:
            say("this is plain HTTP: what is said can be read on the way, unless a proxy with TLS stands before it")
        if app is not None:
            run(app, listening)
        else:
            run_workers(service.made, listening, workers)


@dataclass(frozen=True)
class _Service:
    """What a process needs to know to answer."""

    root: Path
    dataset: str
    model: str
    voice: str
    endpoint: Endpoint | None
    device: str
    offline: bool
    file: Path
    tokens: tuple[str, ...]
    hosts: frozenset[str] | None

    def made(self) -> FastAPI:
        """The application, in the process that answers; the client of an endpoint lives as long as the process."""
        llm = Llm(self.endpoint, None, offline=self.offline) if self.endpoint else None
        opener = Opener(Workspace(self.root), self.voice, llm, device=self.device, offline=self.offline)
        settings = Settings(self.model, Tokens(self.tokens), self.hosts)
        return make_app(opener.open(self.dataset, self.model), Store(self.file), settings)
