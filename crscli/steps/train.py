"""train: dialogues + items -> models/<run>."""

import json
import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from crscli import config as configuration
from crscli import workspace
from crscli.errors import UsageError, unknown_name
from crscli.models import MODELS, ModelSpec, model_class, model_spec
from crscli.progress import Progress, Say, silent
from crscli.recommender import FitData
from crscli.steps._dataset import NEURAL, DatasetInputs, find_kg, load_kg, read_dataset, write_json
from crscli.workspace import Artifact, Recipe, Workspace

STEP_FORMAT = 1


@dataclass(frozen=True)
class Trained:
    """What the step made, for the table; `plan` is what a neural model would take, in a dry run."""

    run: str
    model: str
    path: Path
    settings: dict[str, Any]
    log: dict[str, Any]
    fitted_on: list[str]
    seconds: float
    status: str = "written"
    plan: dict[str, Any] | None = None


@dataclass(frozen=True)
class Machine:
    """Where a neural model is trained; its result is the same everywhere, up to rounding."""

    device: str = "auto"
    devices: int = 1
    max_steps: int = 0
    offline: bool = False


@dataclass(frozen=True)
class Work:
    """A fit that is to be done."""

    artifact: Artifact
    recipe: Recipe
    data: DatasetInputs
    fit_data: FitData
    settings: Any
    spec: ModelSpec

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


def train(
    workspace_: Workspace,
    *,
    dataset: str,
    model: str,
    run: str | None = None,
    config: Path | None = None,
    sets: tuple[str, ...] = (),
    recipe: str | None = None,
    refit: bool | None = None,
    kg: str | None = None,
    device: str = "auto",
    devices: int = 1,
    max_steps: int = 0,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    offline: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> Trained:
    """Fit a model and save it as a run.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        model: a name in MODELS.
        run: the run's name; the model's by default.
        config: a TOML file of settings.
        sets: key=value settings.
        recipe: a named set of settings of the model, such as "code" for what released code does.
        refit: after the choice on valid, learn from train and valid; by default where valid was cut off train.
        kg: the graph that the model takes items' neighbours from, if it can.
        device: of a neural model: auto, cpu, cuda, cuda:N.
        devices: processes of a neural model, each on a device of its own.
        max_steps: stop a neural model after so many steps; for a quick look.
        seed: of everything random.
        force: train even if nothing has changed, and replace a run with other settings.
        dry_run: say what would be made, and what it would take.
        offline: no model is downloaded.
        progress: told how far it is.
        say: told what a user should know.

    Raises:
        UsageError: a run of that name was made with other settings; the model cannot do what is asked.
    """
    spec, model_type = model_spec(model), model_class(model)
    if run is not None and run != model and run in MODELS:
        raise UsageError(
            f"run name {run!r} is the name of another model", f"take another one, such as --run {model}-{run}"
        )
    machine = Machine(device, devices, max_steps, offline)
    _refuse_what_it_cannot(model, spec, machine, refit, kg)
    preset = spec.preset | _recipe(model, model_type, recipe)
    settings = configuration.resolve(model_type.config_class, preset, file=config, sets=sets)
    artifact = workspace_.artifact(dataset, "models", run or model)
    data = read_dataset(workspace_, dataset)
    fit_data, inputs = data.fit_data(refit=False if spec.is_neural else refit), data.inputs
    if kg is not None:
        graph = find_kg(workspace_, dataset, kg)
        fit_data = replace(fit_data, neighbours=load_kg(graph, data.catalogue).item_neighbours())
        inputs = inputs | {graph.name: graph.digest}
    params = {"model": model, "settings": configuration.describe(settings), "refit": fit_data.refit}
    params |= ({"kg": kg} if kg else {}) | ({"max_steps": max_steps} if max_steps else {})
    work = Work(artifact, Recipe("train", STEP_FORMAT, params, inputs, {"seed": seed}), data, fit_data, settings, spec)
    made = Trained(
        artifact.run or model, model, artifact.path, configuration.describe(settings), {}, work.fitted_on, 0.0
    )
    if not force and artifact.is_current(work.recipe):
        return replace(made, log=_log_of(artifact), status="up to date")
    if artifact.exists() and not force:
        _refuse_other_settings(artifact, work.recipe)
    neural = import_module(NEURAL) if spec.is_neural else None
    if dry_run:
        return replace(made, status="dry run", plan=neural.plan(work, machine, say) if neural else None)
    say(f"fitting {model} on {dataset}: {len(fit_data.train)} train and {len(fit_data.valid)} validation dialogues")
    started = time.monotonic()
    if neural:
        neural.train(work, machine, force, progress, say)
    else:
        with workspace.write(artifact, work.recipe) as directory:
            fitted = model_type.fit(data.catalogue, fit_data, settings, seed=seed, progress=progress)
            work.save(fitted, directory, getattr(fitted, "log", {}))
    return replace(made, log=_log_of(artifact), seconds=time.monotonic() - started)


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


def _refuse_what_it_cannot(model: str, spec: ModelSpec, machine: Machine, refit: bool | None, kg: str | None) -> None:
    if kg is not None and not spec.uses_graph:
        raise UsageError(f"{model} uses no knowledge graph", "leave out --kg")
    if spec.is_neural and refit:
        raise UsageError(
            f"{model} chooses its parameters on valid and is not fitted again", "leave out --refit, or train a blend"
        )
    if not spec.is_neural and (machine.devices != 1 or machine.max_steps or machine.device not in ("auto", "cpu")):
        raise UsageError(
            f"{model} is fitted on the CPU at once, not in steps", "leave out --device, --devices and --max-steps"
        )
    if machine.devices < 1 or machine.max_steps < 0:
        raise UsageError("--devices must be at least 1, --max-steps at least 0", "leave them out for one process")


def _refuse_other_settings(artifact: Artifact, recipe: Recipe) -> None:
    """A run made with other settings is somebody's work: it is not replaced in passing."""
    before = artifact.provenance()
    old = {**before["params"].get("settings", {}), "model": before["params"].get("model"), **before["seeds"]}
    new = {**recipe.params["settings"], "model": recipe.params["model"], **recipe.seeds}
    changed = [f"{k} {old.get(k)!r} -> {v!r}" for k, v in new.items() if old.get(k) != v]
    changed += [name for name in ("refit", "kg", "max_steps") if before["params"].get(name) != recipe.params.get(name)]
    if changed:
        raise UsageError(
            f"run '{artifact.name}' exists with other settings ({', '.join(changed)})",
            "keep both with --run NAME, or replace it with --force",
        )
