"""What train and pretrain-fusion have in common: what is fitted from which artifacts, where it runs, and its record."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from crscli import config as configuration
from crscli import workspace
from crscli.errors import UsageError, unknown_name
from crscli.models import MODELS, ModelSpec, model_class, model_spec
from crscli.progress import Progress, Say
from crscli.recommender import FitData
from crscli.steps._acts import acts_to_learn, find_acts
from crscli.steps._dataset import (
    NEURAL,
    DatasetInputs,
    find_fusion,
    find_kg,
    load_kg,
    online,
    read_dataset,
    refuse_stale,
    write_json,
)
from crscli.workspace import Artifact, Recipe, Workspace


@dataclass(frozen=True)
class Trained:
    """What a step made, for the table; `plan` is what a neural model would take, in a dry run."""

    run: str
    model: str
    path: Path
    settings: dict[str, Any]
    log: dict[str, Any]
    fitted_on: list[str]
    seconds: float
    status: str = "written"
    inputs: tuple[str, ...] = ()
    plan: dict[str, Any] | None = None


@dataclass(frozen=True)
class Machine:
    """Where a neural model is trained; its result is the same everywhere, up to rounding."""

    device: str = "auto"
    devices: int = 1
    max_steps: int = 0
    offline: bool = False


@dataclass(frozen=True)
class Choice:
    """What the user asks to be fitted."""

    model: str
    run: str | None = None
    config: Path | None = None
    sets: tuple[str, ...] = ()
    recipe: str | None = None
    refit: bool | None = None
    kg: str | None = None
    fusion: str | None = None
    seed: int = 0
    max_steps: int = 0
    acts: str | None = None


@dataclass(frozen=True)
class Work:
    """A fit that is to be done."""

    artifact: Artifact
    recipe: Recipe
    data: DatasetInputs
    fit_data: FitData
    settings: Any
    spec: ModelSpec
    model_type: Any

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.recipe.params["model"])

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.recipe.seeds["seed"]

    @property
    def fitted_on(self) -> list[str]:
        """The splits that are learnt."""
        return ["train", "valid"] if self.fit_data.refit and self.fit_data.valid else ["train"]

    def save(self, fitted: Any, directory: Path, log: Any) -> None:
        """Write a fitted model, its log, and how it was made."""
        fitted.save(directory)
        write_json(directory / "log.json", log)
        record = {**self.recipe.params, "fitted_on": self.fitted_on, "seed": self.seed}
        write_json(directory / "config.json", record | {"catalogue": self.data.catalogue.digest})


def prepared(
    workspace_: Workspace, step: str, step_format: int, kind: str, dataset: str, model_type: Any, choice: Choice,
    say: Say,
) -> Work:  # fmt: skip
    """Settings, data, graph and fusion run of a fit.

    Args:
        workspace_: where the artifacts are.
        step: the command's name.
        step_format: of what it writes.
        kind: of the artifact that it writes.
        dataset: its name in the workspace.
        model_type: the class that is fitted.
        choice: what the user asks for.
        say: told which graph and fusion run are taken where none is named.

    Raises:
        UsageError: settings that do not fit, or that a fusion run was not made with.
        ArtifactMissing: links, a graph or a fusion run are not there, or are stale.
    """
    model, spec = choice.model, model_spec(choice.model)
    preset = spec.preset | _recipe(model, model_type, choice.recipe)
    settings = configuration.resolve(model_type.config_class, preset, file=choice.config, sets=choice.sets)
    artifact = workspace_.artifact(dataset, kind, choice.run or model)
    data = read_dataset(workspace_, dataset, linked=spec.needs_graph)
    fit_data, inputs = data.fit_data(refit=False if spec.is_neural else choice.refit), data.inputs
    params = {"model": model, "settings": configuration.describe(settings), "refit": fit_data.refit}
    kg = choice.kg
    if kind == "models" and spec.fusion and getattr(settings, "pretrained", True):
        fusion = find_fusion(workspace_, dataset, model, choice.fusion)
        kg = _check_fusion(fusion, settings, inputs, model_type.structure, choice)
        say(f"fusion run {fusion.run}" + ("" if choice.fusion else ", the newest of this model"))
        fit_data = replace(fit_data, fusion=fusion.open())
        params |= {"fusion": str(fusion.run)}
        inputs = inputs | {fusion.name: fusion.digest}
    if kg is not None or spec.needs_graph:
        graph = find_kg(workspace_, dataset, kg)
        if kg is None:
            say(f"graph {graph.run}, the newest")
        loaded = load_kg(graph, data.catalogue)
        given: dict[str, Any] = {"graph": loaded} if spec.needs_graph else {"neighbours": loaded.item_neighbours()}
        fit_data = replace(fit_data, **given)
        params |= {"kg": str(graph.run)}
        inputs = inputs | {graph.name: graph.digest}
    if getattr(model_type, "learns_acts", False) and (acts := find_acts(workspace_, choice.acts, say)) is not None:
        learnt = acts_to_learn(acts, data)
        fit_data = replace(fit_data, annotated=learnt["train"], annotated_valid=learnt["valid"])
        params |= {"acts": acts.dataset}
        inputs = inputs | {acts.name: acts.digest}
    params |= {"max_steps": choice.max_steps} if choice.max_steps else {}
    recipe = Recipe(step, step_format, params, inputs, {"seed": choice.seed})
    return Work(artifact, recipe, data, fit_data, settings, spec, model_type)


def carried_out(work: Work, machine: Machine, *, force: bool, dry_run: bool, progress: Progress, say: Say) -> Trained:
    """Fit, save and tell, unless there is nothing new to do.

    Raises:
        UsageError: a run of that name was made with other settings.
    """
    artifact, settings = work.artifact, configuration.describe(work.settings)
    made = Trained(
        artifact.run or work.model, work.model, artifact.path, settings, {}, work.fitted_on, 0.0,
        inputs=tuple(work.recipe.inputs),
    )  # fmt: skip
    if not force and artifact.is_current(work.recipe):
        return replace(made, log=_log_of(artifact), status="up to date")
    if artifact.exists() and not force:
        _refuse_other_settings(artifact, work.recipe)
    neural = import_module(NEURAL) if work.spec.is_neural else None
    if dry_run:
        return replace(made, status="dry run", plan=neural.plan(work, machine, say) if neural else None)
    train, valid = work.fit_data.train, work.fit_data.valid
    say(f"fitting {work.model} on {artifact.dataset}: {len(train)} train and {len(valid)} validation dialogues")
    started = time.monotonic()
    if neural:
        neural.train(work, machine, force, progress, say)
    else:
        with workspace.write(artifact, work.recipe) as directory:
            fitted = work.model_type.fit(
                work.data.catalogue, work.fit_data, work.settings, seed=work.seed, progress=progress,
                **online(work.model_type, machine.offline),
            )  # fmt: skip
            work.save(fitted, directory, getattr(fitted, "log", {}))
    return replace(made, log=_log_of(artifact), seconds=time.monotonic() - started)


def refuse_what_it_cannot(model: str, spec: ModelSpec, machine: Machine, choice: Choice) -> None:
    """Refuse options that say nothing to a model.

    Raises:
        UsageError: there is one.
    """
    if choice.run is not None and choice.run != model and choice.run in MODELS:
        raise UsageError(
            f"run name {choice.run!r} is the name of another model",
            f"take another one, such as --run {model}-{choice.run}",
        )
    if choice.kg is not None and not (spec.uses_graph or spec.needs_graph):
        raise UsageError(f"{model} uses no knowledge graph", "leave out --kg")
    if choice.fusion is not None and not spec.fusion:
        raise UsageError(f"{model} begins with no fusion run", "leave out --fusion")
    if choice.acts is not None and not getattr(model_class(model), "learns_acts", False):
        raise UsageError(f"{model} learns no acts", "leave out --acts, or train a reficr")
    if spec.is_neural and choice.refit:
        raise UsageError(
            f"{model} chooses its parameters on valid and is not fitted again", "leave out --refit, or train a blend"
        )
    if not spec.is_neural and (machine.devices != 1 or machine.max_steps or machine.device not in ("auto", "cpu")):
        raise UsageError(
            f"{model} is fitted on the CPU at once, not in steps", "leave out --device, --devices and --max-steps"
        )
    if machine.devices < 1 or machine.max_steps < 0:
        raise UsageError("--devices must be at least 1, --max-steps at least 0", "leave them out for one process")


def _check_fusion(
    fusion: Artifact, settings: Any, inputs: Mapping[str, str], structure: tuple[str, ...], choice: Choice
) -> str:
    """The graph of a fusion run, after a check that the training can begin with it."""
    refuse_stale(fusion, inputs)
    record = fusion.provenance()["params"]
    before = record["settings"]
    odd = [name for name in structure if before.get(name) != getattr(settings, name)]
    if odd:
        told = ", ".join(f"{name} {before.get(name)!r}, not {getattr(settings, name)!r}" for name in odd)
        raise UsageError(
            f"fusion run '{fusion.name}' was made with {told}",
            "give the same settings, or make another one: crs pretrain-fusion --run NAME, then --fusion NAME",
        )
    share = settings.share if settings.share_of == "all" else 1.0
    if before["share"] != share:
        raise UsageError(
            f"fusion run '{fusion.name}' has learnt from {before['share']:.0%} of the dialogues, not {share:.0%}",
            f"make one: crs pretrain-fusion --set share={share} --run NAME, then --fusion NAME; or keep this one with "
            "--set share_of=recommendation",
        )
    if choice.kg is not None and choice.kg != record["kg"]:
        raise UsageError(
            f"fusion run '{fusion.name}' was made with graph {record['kg']}, not {choice.kg}",
            "leave out --kg, or make another fusion run with it",
        )
    return str(record["kg"])


def _log_of(artifact: Artifact) -> dict[str, Any]:
    """What the fit recorded; nothing in one of several processes, which does not write."""
    file = artifact.path / "log.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _recipe(model: str, model_type: Any, recipe: str | None) -> dict[str, Any]:
    """The settings of a named recipe."""
    if recipe is None:
        return {}
    recipes: dict[str, dict[str, Any]] = getattr(model_type, "recipes", {})
    if not recipes:
        raise UsageError(f"{model} has no recipes", "leave out --recipe")
    if recipe not in recipes:
        raise unknown_name("recipe", recipe, recipes)
    return recipes[recipe]


def _refuse_other_settings(artifact: Artifact, recipe: Recipe) -> None:
    """A run made with other settings is somebody's work: it is not replaced in passing."""
    before = artifact.provenance()
    old = {**before["params"].get("settings", {}), "model": before["params"].get("model"), **before["seeds"]}
    new = {**recipe.params["settings"], "model": recipe.params["model"], **recipe.seeds}
    changed = [f"{k} {old.get(k)!r} -> {v!r}" for k, v in new.items() if old.get(k) != v]
    changed += [
        name
        for name in ("refit", "kg", "fusion", "acts", "max_steps")
        if before["params"].get(name) != recipe.params.get(name)
    ]
    if changed:
        raise UsageError(
            f"run '{artifact.name}' exists with other settings ({', '.join(changed)})",
            "keep both with --run NAME, or replace it with --force",
        )
