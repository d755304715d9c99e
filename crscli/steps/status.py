"""status: what the workspace holds, what is stale and why, and which command comes next."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import crscli
from crscli import config as configuration
from crscli.datasets import DATASETS
from crscli.errors import ArtifactMissing, ChecksumError
from crscli.models import MODELS, model_class
from crscli.workspace import KINDS, Artifact, Workspace

Freshness = Literal["fresh", "stale", "missing", "damaged"]
_OPTIONAL = ("index", "fusion")
"""Kinds that save time and are not missed."""
_READ_CATALOGUE = ("links", "kg", "fusion", "models", "index", "reports")


@dataclass(frozen=True)
class ArtifactState:
    """One line of the listing."""

    dataset: str
    artifact: str
    state: Freshness
    why: str
    size_bytes: int
    finished: str
    next_command: str


def status(workspace_: Workspace, *, dataset: str | None = None) -> list[ArtifactState]:
    """The state of every artifact of a dataset, or of all datasets.

    Args:
        workspace_: where to look; reading changes nothing, except that an interrupted write is tidied up.
        dataset: only this one.

    Raises:
        ArtifactMissing: there is no such dataset.
    """
    known = workspace_.datasets()
    if dataset is not None and dataset not in known:
        raise ArtifactMissing(
            f"no dataset {dataset!r} in workspace {workspace_.root}; there is: {', '.join(known) or 'none'}",
            f"run: crs fetch-dataset --dataset {dataset}",
        )
    names = known if dataset is None else [dataset]
    return [state for name in names for state in _of_dataset(workspace_, name)]


def freshness(workspace_: Workspace, artifact: Artifact) -> tuple[Freshness, str]:
    """Whether an artifact still matches the artifacts it was made from, and if not, why."""
    if not artifact.exists():
        return "missing", ""
    try:
        record = artifact.provenance()
        artifact.open()
    except ChecksumError as error:
        return "damaged", error.message
    known = workspace_.datasets()
    for name, digest in record["inputs"].items():
        parts = name.split("/")
        if len(parts) not in (2, 3) or parts[1] not in KINDS or parts[0] not in (artifact.dataset, *known):
            continue  # a source file outside the workspace
        made_from = workspace_.artifact(*parts)
        if not made_from.exists():
            return "stale", f"{name} is gone"
        try:
            changed = made_from.digest != digest
        except ChecksumError:
            return "stale", f"{name} is damaged"
        if changed:
            return "stale", f"{name} has changed"
    catalogue = workspace_.artifact(artifact.dataset, "catalogue")
    if artifact.kind in _READ_CATALOGUE and catalogue.exists() and catalogue.name not in record["inputs"]:
        return "stale", f"made without {catalogue.name}"
    if record["versions"].get("crs") != crscli.__version__:
        return "stale", f"made by crs {record['versions'].get('crs')}"
    return "fresh", ""


def _of_dataset(workspace_: Workspace, dataset: str) -> list[ArtifactState]:
    found = list(workspace_.artifacts(dataset))
    states = []
    for kind in KINDS:
        present = [a for a in found if a.kind == kind]
        if not present and kind not in _OPTIONAL:
            missing = workspace_.artifact(dataset, kind)
            states.append(ArtifactState(dataset, missing.name, "missing", "", 0, "", _command(missing, {})))
        for artifact in present:
            state, why = freshness(workspace_, artifact)
            record = _record(artifact)
            size = sum(f.stat().st_size for f in artifact.path.rglob("*") if f.is_file())
            command = "" if state == "fresh" else _command(artifact, record) + " --force" * (state == "damaged")
            states.append(
                ArtifactState(dataset, artifact.name, state, why, size, str(record.get("finished", ""))[:19], command)
            )
    return states


def _record(artifact: Artifact) -> dict[str, Any]:
    """Its provenance; empty where that is the damaged file."""
    try:
        return artifact.provenance()
    except ChecksumError:
        return {}


def _command(artifact: Artifact, record: dict[str, Any]) -> str:
    """The command that makes an artifact, or renews it under the same name with the settings it was made with."""
    params, seeds = record.get("params", {}), record.get("seeds", {})
    makers: dict[str, Callable[[Artifact, dict[str, Any]], list[str]]] = {
        "catalogue": _metadata_options,
        "links": _links_options,
        "kg": partial(_graph_options, notes=record.get("notes", {})),
        "models": _train_options,
        "fusion": _train_options,
        "index": _index_options,
        "reports": _evaluate_options,
    }
    options = makers.get(artifact.kind, _fetch_options)(artifact, params)
    options += [f"--seed {seed}" for seed in seeds.values() if seed]
    return " ".join([f"crs {KINDS[artifact.kind]}", *options])


def _fetch_options(artifact: Artifact, params: dict[str, Any]) -> list[str]:
    dataset = params.get("dataset", artifact.dataset)
    options = [f"--dataset {dataset}"]
    if not params or dataset not in DATASETS:
        return options
    first_form = next(iter(DATASETS[dataset].forms))
    options += [f"--form {params['form']}"] if params["form"] != first_form else []
    options += ["--from PATH"] if dataset != "sample" and not DATASETS[dataset].downloads else []
    options += [f"--name {artifact.dataset}"] if artifact.dataset != dataset else []
    options += [f"--valid {params['valid']}"] if params["valid"] != "latest" else []
    options += [f"--valid-share {params['valid_share']}"] if params["valid_share"] != 0.12 else []
    options += ["--sequences"] if params["sequences"] else []
    return options + ([f"--max-bad-rows {params['max_bad_rows']}"] if params["max_bad_rows"] else [])


def _metadata_options(artifact: Artifact, params: dict[str, Any]) -> list[str]:
    options = [f"--dataset {artifact.dataset}"]
    if not params:
        return options
    named = ["file" if name not in ("tmdb", "items") else name for name in params["sources"]]
    if len(named) > 1 and named[-1] == "items":
        named.pop()  # the item list comes last by itself
    options += [f"--source {name}" for name in dict.fromkeys(named)] if named != ["items"] else []
    options += [f"--from {file}" for file in params["files"]]
    options += [f"--ids {params['ids']}"] if params["ids"] else []
    return options + ([f"--max-bad-rows {params['max_bad_rows']}"] if params["max_bad_rows"] else [])


def _links_options(artifact: Artifact, params: dict[str, Any]) -> list[str]:
    options = [f"--dataset {artifact.dataset}"]
    if params.get("fit") is not None:
        options += ["--fit" if params["fit"] else "--no-fit"]
    if params.get("variants"):
        options += ["--evaluate"] + ([f"--variants {params['variants']}"] if params["variants"] != "abcde" else [])
    return options


def _graph_options(artifact: Artifact, params: dict[str, Any], *, notes: dict[str, Any]) -> list[str]:
    options = [f"--dataset {artifact.dataset}"]
    if not params:
        return options
    options += [f"--source {params['source']}"] if params["source"] != "metadata" else []
    options += [f"{option} {path}" for option, paths in notes["files"].items() for path in paths]
    options += [f"--hops {params['hops']}"] if params.get("hops", 2) != 2 else []
    options += ["--paper"] if params.get("paper") else []
    options += [f"--max-bad-rows {params['max_bad_rows']}"] if params.get("max_bad_rows", 100) != 100 else []
    usual = params["form"] or params["source"]
    return options + ([f"--name {artifact.run}"] if artifact.run != usual else [])


def _train_options(artifact: Artifact, params: dict[str, Any]) -> list[str]:
    default = next(name for name, spec in MODELS.items() if spec.needs_run)
    model = params.get("model", artifact.run or default)
    options = [f"--dataset {artifact.dataset}", f"--model {model}"]
    if not params or model not in MODELS:
        return options
    usual = configuration.describe(
        configuration.resolve(model_class(model).config_class, MODELS[model].preset, environment={})
    )
    changed = {key: value for key, value in params["settings"].items() if usual.get(key) != value}
    options += [f"--set {shlex.quote(f'{key}={value}')}" for key, value in changed.items()]
    if artifact.kind == "models":
        options += ["--refit" if params["refit"] else "--no-refit"]
    for option in ("kg", "fusion"):
        options += [f"--{option} {params[option]}"] if params.get(option) else []
    if getattr(model_class(model), "learns_acts", False):
        options += [f"--acts {params.get('acts', 'none')}"]
    options += [f"--max-steps {params['max_steps']}"] if params.get("max_steps") else []
    return options + ([f"--run {artifact.run}"] if artifact.run != model else [])


def _evaluate_options(artifact: Artifact, params: dict[str, Any]) -> list[str]:
    options = [f"--dataset {artifact.dataset}"]
    if not params:
        default = next(name for name, spec in MODELS.items() if spec.needs_run)
        return [*options, f"--model {default}"] + ([f"--run {artifact.run}"] if artifact.run else [])
    options += [f"--model {name}" for name in params["asked"]]
    options += [f"--protocol {params['protocol']}"]
    options += [f"--split {params['split']}"] if params["split"] != "test" else []
    options += ["--exclude-mentioned"] if params["exclude_mentioned"] else []
    options += [f"--candidates {shlex.quote(params['candidates_file'])}"] if params["candidates_file"] else []
    options += [f"--limit {params['limit']}"] if params["limit"] else []
    options += [f"--format {name}" for name in params["formats"]]
    options += [f"--draws {params['draws']}"] if params["draws"] != 1000 else []
    options += [f"--task {name}" for name in params["tasks"]] if params["tasks"] != ["rank", "respond"] else []
    options += [f"--acts {params['acts']}"] if params.get("acts") else []
    options += [f"--decoding {params['decoding']}"] if params["decoding"] != "greedy" else []
    options += ["--oracle"] if params["oracle"] else []
    options += [f"--analyse {name}" for name in params["analyse"]]
    return [*options, f"--run {artifact.run}"]


def _index_options(artifact: Artifact, params: dict[str, Any]) -> list[str]:
    run = re.sub(r"\.shard-\d+-of-\d+$", "", str(artifact.run)) if artifact.run else "RUN"
    options = [f"--dataset {artifact.dataset}", f"--model {run}"]
    options += [f"--shard {params['shard']}"] if params.get("shard") else []
    options += ["--merge"] if params.get("merge") else []
    if params.get("engine", "exact") != "exact":
        options += [f"--engine {params['engine']}"]
        options += [f"--search-effort {params['search_effort']}"] if params["search_effort"] != 256 else []
        options += [f"--min-recall {params['min_recall']}"] if params["min_recall"] != 0.95 else []
    return options
