"""train: dialogues + items -> models/<run>."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crscli import config as configuration
from crscli import workspace
from crscli.errors import UsageError
from crscli.models import MODELS, model_class, model_spec
from crscli.progress import Progress, Say, silent
from crscli.steps._dataset import find_kg, load_kg, read_dataset, write_json
from crscli.workspace import Artifact, Recipe, Workspace

STEP_FORMAT = 1


@dataclass(frozen=True)
class Trained:
    """What the step made, for the table."""

    run: str
    model: str
    path: Path
    settings: dict[str, Any]
    log: dict[str, Any]
    fitted_on: list[str]
    seconds: float
    status: str = "written"


def train(
    workspace_: Workspace,
    *,
    dataset: str,
    model: str,
    run: str | None = None,
    config: Path | None = None,
    sets: tuple[str, ...] = (),
    refit: bool | None = None,
    kg: str | None = None,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
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
        refit: after the choice on valid, learn from train and valid; by default where valid was cut off train.
        kg: the graph that the model takes items' neighbours from, if it can.
        seed: of everything random.
        force: train even if nothing has changed, and replace a run with other settings.
        dry_run: say what would be made.
        progress: told how far it is.
        say: told what a user should know.

    Raises:
        UsageError: a run of that name was made with other settings; the model uses no graph.
    """
    spec, model_type = model_spec(model), model_class(model)
    if run is not None and run != model and run in MODELS:
        raise UsageError(
            f"run name {run!r} is the name of another model", f"take another one, such as --run {model}-{run}"
        )
    settings = configuration.resolve(model_type.config_class, spec.preset, file=config, sets=sets)
    artifact = workspace_.artifact(dataset, "models", run or model)
    data = read_dataset(workspace_, dataset)
    fit_data, inputs = data.fit_data(refit=refit), data.inputs
    if kg is not None:
        if not spec.uses_graph:
            raise UsageError(f"{model} uses no knowledge graph", "leave out --kg")
        graph = find_kg(workspace_, dataset, kg)
        fit_data = replace(fit_data, neighbours=load_kg(graph, data.catalogue).item_neighbours())
        inputs = inputs | {graph.name: graph.digest}
    fitted_on = ["train", "valid"] if fit_data.refit and fit_data.valid else ["train"]
    params = {"model": model, "settings": configuration.describe(settings), "refit": fit_data.refit}
    params |= {"kg": kg} if kg else {}
    recipe = Recipe("train", STEP_FORMAT, params, inputs, {"seed": seed})
    made = Trained(artifact.run or model, model, artifact.path, configuration.describe(settings), {}, fitted_on, 0.0)
    if not force and artifact.is_current(recipe):
        log = json.loads((artifact.path / "log.json").read_text(encoding="utf-8"))
        return replace(made, log=log, status="up to date")
    if artifact.exists() and not force:
        _refuse_other_settings(artifact, recipe)
    if dry_run:
        return replace(made, status="dry run")
    say(f"fitting {model} on {dataset}: {len(fit_data.train)} train and {len(fit_data.valid)} validation dialogues")
    started = time.monotonic()
    with workspace.write(artifact, recipe) as directory:
        fitted = model_type.fit(data.catalogue, fit_data, settings, seed=seed, progress=progress)
        fitted.save(directory)
        log = getattr(fitted, "log", {})
        write_json(directory / "log.json", log)
        record = {**params, "fitted_on": fitted_on, "seed": seed, "catalogue": data.catalogue.digest}
        write_json(directory / "config.json", record)
    return replace(made, log=log, seconds=time.monotonic() - started)


def _refuse_other_settings(artifact: Artifact, recipe: Recipe) -> None:
    """A run made with other settings is somebody's work: it is not replaced in passing."""
    before = artifact.provenance()
    old = {**before["params"].get("settings", {}), "model": before["params"].get("model"), **before["seeds"]}
    new = {**recipe.params["settings"], "model": recipe.params["model"], **recipe.seeds}
    changed = [f"{k} {old.get(k)!r} -> {v!r}" for k, v in new.items() if old.get(k) != v]
    changed += [name for name in ("refit", "kg") if before["params"].get(name) != recipe.params.get(name)]
    if changed:
        raise UsageError(
            f"run '{artifact.name}' exists with other settings ({', '.join(changed)})",
            "keep both with --run NAME, or replace it with --force",
        )
