"""evaluate: dialogues + items + models/<run> -> reports/<run>."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crscli import config as configuration
from crscli import evaluation, report, workspace
from crscli.catalogue import Catalogue
from crscli.datasets.candidates import read_candidates
from crscli.errors import ArtifactMissing, UsageError
from crscli.models import MODELS, model_class, model_spec
from crscli.progress import Progress, Say, silent
from crscli.protocols import TestSet, protocol_for, select
from crscli.recommender import Recommender
from crscli.steps._dataset import DatasetInputs, find_run, load_kg, load_run, read_dataset, write_json
from crscli.workspace import Artifact, Recipe, Workspace

STEP_FORMAT = 1
TRIVIAL = ("copy", "popularity", "copy-popularity")
DRAWS = 1000


@dataclass(frozen=True)
class Evaluated:
    """The report and where it lies."""

    report: dict[str, Any]
    path: Path
    status: str = "written"


def evaluate(
    workspace_: Workspace,
    *,
    dataset: str,
    models: Sequence[str],
    protocol: str | None = None,
    split: str = "test",
    exclude_mentioned: bool = False,
    candidates: Path | None = None,
    limit: int | None = None,
    run: str | None = None,
    formats: Sequence[str] = (),
    draws: int = DRAWS,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> Evaluated:
    """Measure models and the trivial baselines on the same rows.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        models: names of models or runs; a model without a run is fitted on the spot if it can be.
        protocol: a name in PROTOCOLS; the dataset's own by default.
        split: "test" or "valid".
        exclude_mentioned: take items of the context out of every ranking.
        candidates: a file that lists the items to rank.
        limit: only the first rows; the report says so and is comparable to nothing.
        run: the report's name.
        formats: "markdown", "latex": further files of the table.
        draws: bootstrap draws.
        seed: of the intervals and tests.
        force: measure even if nothing has changed.
        dry_run: say what would be measured.
        progress: told of rows done.
        say: told what a user should know.
    """
    _check_options(split, limit, formats)
    data = read_dataset(workspace_, dataset)
    chosen = protocol_for(protocol, data.corpus, data.form)
    listed = read_candidates(candidates, data.catalogue) if candidates else None
    graph = workspace_.artifact(dataset, "kg", chosen.graph) if chosen.graph else None
    linked = load_kg(graph, data.catalogue).linked if graph and graph.exists() else None
    test_set = select(
        chosen, data.splits, split, data.catalogue, corpus=data.corpus, form=data.form, listed=listed, linked=linked
    )
    names = list(dict.fromkeys([*TRIVIAL, *models]))
    runs = {name: _run_of(workspace_, dataset, name) for name in names}
    params = {
        "models": names,
        "asked": list(models),
        "settings": _settings(runs),
        "protocol": chosen.name,
        "split": split,
        "exclude_mentioned": exclude_mentioned,
        "candidates": _digest(test_set),
        "candidates_file": None if candidates is None else str(candidates),
        "seed": seed,
        "limit": limit,
        "draws": draws,
        "formats": sorted(formats),
    }
    inputs = data.inputs | {a.name: a.digest for a in (*runs.values(), graph) if a}
    recipe = Recipe("evaluate", STEP_FORMAT, params, inputs, {"seed": seed})
    artifact = workspace_.artifact(dataset, "reports", run or _report_name(params, models))
    if limit is not None:
        test_set = _first_rows(test_set, limit)
    head = report.header(data.name, data.corpus, data.form, test_set, params, seed, marked=data.marked)
    if dry_run:
        return Evaluated(head, artifact.path, "dry run")
    if not force and artifact.is_current(recipe):
        saved = json.loads((artifact.path / "metrics.json").read_text(encoding="utf-8"))
        return Evaluated(saved, artifact.path, "up to date")
    made, predictions = _measured(head, data, runs, test_set, progress, say)
    with workspace.write(artifact, recipe) as directory:
        write_json(directory / "metrics.json", made)
        _save_predictions(directory / "predictions.parquet", predictions, data.catalogue)
        for name in formats:
            file, render = report.FORMATS[name]
            (directory / file).write_text(render(made), encoding="utf-8")
    return Evaluated(made, artifact.path)


def _measured(
    head: dict[str, Any],
    data: DatasetInputs,
    runs: dict[str, Artifact | None],
    test_set: TestSet,
    progress: Progress,
    say: Say,
) -> tuple[dict[str, Any], list[evaluation.Predictions]]:
    """Rank with every model, one after the other, and build the report.

    The models that were asked for are compared with each other and with the best trivial one.
    """
    seed, draws, exclude = head["seed"], head["bootstrap_draws"], head["exclude_mentioned"]
    predictions, facts = [], {}
    for name, artifact in runs.items():
        recommender, facts[name] = _recommender(name, artifact, data, head["split"], seed, progress, say)
        predicted = evaluation.predict(name, recommender, test_set, exclude_mentioned=exclude, progress=progress)
        predictions.append(predicted)
    figures = [evaluation.figures(p, draws=draws, seed=seed) for p in predictions]
    asked = head["models_asked"]
    named = [p for p in predictions if p.model in asked or (asked and p.model == TRIVIAL[-1])]
    compared = evaluation.compare(named, aggregation=test_set.protocol.aggregate, seed=seed)
    return report.build(head, figures, compared, facts), predictions


def _check_options(split: str, limit: int | None, formats: Sequence[str]) -> None:
    if split not in ("valid", "test"):
        raise UsageError(f"split {split!r} cannot be measured on", "use --split test or --split valid; train is learnt")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves no rows", "give at least 1")
    for name in formats:
        if name not in report.FORMATS:
            raise UsageError(f"unknown format {name!r}", f"known: {', '.join(report.FORMATS)}")


def _run_of(workspace_: Workspace, dataset: str, name: str) -> Artifact | None:
    """The run to load for a name; None if the model is fitted on the spot."""
    if name in TRIVIAL:
        return None
    artifact = find_run(workspace_, dataset, name)
    if artifact is None and model_spec(name).needs_run:
        raise ArtifactMissing(
            f"{name} was not trained on {dataset}", f"run: crs train --dataset {dataset} --model {name}"
        )
    return artifact


def _settings(runs: dict[str, Artifact | None]) -> dict[str, dict[str, Any]]:
    """The settings of the models that are fitted on the spot; those of a run are part of the run."""
    return {
        name: configuration.describe(configuration.resolve(model_class(name).config_class, MODELS[name].preset))
        for name, artifact in runs.items()
        if artifact is None
    }


def _recommender(
    name: str,
    artifact: Artifact | None,
    data: DatasetInputs,
    split: str,
    seed: int,
    progress: Progress,
    say: Say,
) -> tuple[Recommender, dict[str, Any]]:
    """Load a run, or fit a count-based model for this split."""
    if artifact is not None:
        recommender, record = load_run(artifact, data)
        if artifact.run != name:
            say(f"{name}: run {artifact.run}, the newest of this model")
        if split in record["fitted_on"]:
            raise UsageError(
                f"run '{artifact.name}' has learnt from {split}: its figures there would mean nothing",
                f"train one for choosing: crs train --dataset {data.name} --model {record['model']}"
                f" --no-refit --run {record['model']}-choice",
            )
        return recommender, {"run": artifact.name, "model": record["model"], "fitted_on": record["fitted_on"]}
    spec, model_type = MODELS[name], model_class(name)
    settings = configuration.resolve(model_type.config_class, spec.preset)
    fit_data = data.fit_data(refit=False if split == "valid" else None)
    learnt = ["train", "valid"] if fit_data.refit and fit_data.valid else ["train"]
    if name not in TRIVIAL:
        say(f"no run of {name}: fitted now on {' + '.join(learnt)}")
    fitted = model_type.fit(data.catalogue, fit_data, settings, seed=seed, progress=progress)
    return fitted, {"run": None, "model": name, "fitted_on": learnt}


def _digest(test_set: TestSet) -> str:
    return hashlib.sha256(test_set.candidates.tobytes()).hexdigest()[:16]


def _report_name(params: dict[str, Any], models: Sequence[str]) -> str:
    """A name that two different measurements do not share by accident."""
    joined = "+".join(models) if models else "trivial"
    if len(joined) > 50:
        joined = joined[:40] + "+" + hashlib.sha256(joined.encode()).hexdigest()[:8]
    parts = [params["protocol"], params["split"], joined]
    parts += ["excluded"] if params["exclude_mentioned"] else []
    parts += [f"of-{params['candidates'][:8]}"] if params["candidates_file"] else []
    parts += [f"draws{params['draws']}"] if params["draws"] != DRAWS else []
    parts += [f"seed{params['seed']}"] if params["seed"] else []
    parts += [f"first{params['limit']}"] if params["limit"] else []
    return ".".join(parts)


def _first_rows(test_set: TestSet, limit: int) -> TestSet:
    rows = test_set.rows[:limit]
    counts = {**test_set.counts, "rows": len(rows), "labels": sum(len(r.labels) for r in rows)}
    return replace(test_set, rows=rows, dialogue_nums=test_set.dialogue_nums[:limit], counts=counts, checked=False)


def _save_predictions(path: Path, predictions: Sequence[evaluation.Predictions], catalogue: Catalogue) -> None:
    """One record per model and row: the labels, their ranks (0 = not among the first 100), the first 50 items."""
    columns: dict[str, list[Any]] = {
        key: [] for key in ("model", "dialogue_id", "turn_num", "labels", "repeated", "ranks", "top")
    }
    ids = np.array(catalogue.vocabulary.ids, dtype=object)
    for prediction in predictions:
        for row, ranks, top in zip(prediction.test_set.rows, prediction.ranks, prediction.top, strict=True):
            values = (
                prediction.model, row.dialogue_id, row.turn_num, list(row.labels), list(row.repeated),
                ranks.tolist(), ids[top].tolist(),
            )  # fmt: skip
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    pq.write_table(pa.table(columns), path, compression="zstd")
