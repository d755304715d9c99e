"""evaluate: dialogues + items + models/<run> -> reports/<run>."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crscli import comparisons, report, workspace
from crscli import config as configuration
from crscli.analyses import ANALYSES, refuse_unfit
from crscli.answers import Speaking
from crscli.datasets.candidates import read_candidates
from crscli.decoding import Decoding
from crscli.dialogue import Example
from crscli.errors import ArtifactMissing, UsageError, unknown_name
from crscli.management import Turns
from crscli.models import MODELS, model_class, model_spec
from crscli.progress import Progress, Say, silent
from crscli.protocols import TestSet, protocol_for, select
from crscli.steps._acts import acts_to_predict, find_acts
from crscli.steps._dataset import (
    DatasetInputs,
    find_run,
    load_kg,
    read_dataset,
    reads_links,
    refuse_stale_run,
    write_json,
)
from crscli.steps._llm import LlmChoice, OpenedLlm, refuse_without_llm
from crscli.steps._measuring import TRIVIAL, Managing, Measuring, compared_settings
from crscli.workspace import Artifact, Recipe, Workspace

STEP_FORMAT = 2
TASKS = ("rank", "respond", "dialogue-management")
USUAL_TASKS = TASKS[:2]
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
    tasks: Sequence[str] = USUAL_TASKS,
    acts: str | None = None,
    llm: LlmChoice | None = None,
    decoding: str = "greedy",
    oracle: bool = False,
    analyse: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    offline: bool = False,
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
        tasks: "rank", and "respond" for the models that speak: replies to every turn, and what can be said of them;
            "dialogue-management" for those that predict what a turn does.
        acts: the dataset of the workspace whose turns say what they do; iard by default, where it is there.
        llm: the endpoint of models that ask a language model.
        decoding: how replies are made (crscli.decoding).
        oracle: reply a second time with the real response's decision whether to recommend.
        analyse: names in ANALYSES: further tables and pictures.
        device: of neural models.
        seed: of the intervals and tests.
        force: measure even if nothing has changed.
        dry_run: say what would be measured.
        offline: no model is downloaded.
        progress: told of rows done.
        say: told what a user should know.
    """
    _check_options(split, limit, formats, tasks, analyse)
    how = Decoding.parse(decoding)
    names = list(dict.fromkeys([*TRIVIAL, *models]))
    runs = {name: _run_of(workspace_, dataset, name) for name in names}
    refuse_without_llm(names, [_class_of(*pair) for pair in runs.items()], llm)
    bases = _bases(workspace_, dataset, runs)
    data = read_dataset(workspace_, dataset)
    chosen = protocol_for(protocol, data.corpus, data.form)
    listed = read_candidates(candidates, data.catalogue) if candidates else None
    graph = workspace_.artifact(dataset, "kg", chosen.graph) if chosen.graph else None
    linked = load_kg(graph, data.catalogue).linked if graph and graph.exists() else None

    def rows_of(given: DatasetInputs) -> TestSet:
        found = select(
            chosen, given.splits, split, data.catalogue, corpus=data.corpus, form=data.form, listed=listed,
            linked=linked,
        )  # fmt: skip
        return found if limit is None else _first_rows(found, limit)

    test_set = rows_of(data)
    # Models that learn on a graph see the people and genres that were linked; the others see what they were fitted on.
    told = read_dataset(workspace_, dataset, linked=True) if any(map(reads_links, runs.values())) else data
    if analyse:
        refuse_unfit(analyse, [_class_of(name, artifact) for name, artifact in runs.items() if name not in TRIVIAL])
    managing = _managing(workspace_, data, test_set, tasks, acts, names, runs, say)
    related = _related(workspace_, runs, data, analyse, say) if set(analyse) & set(comparisons.KINDS) else {}
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
        "formats": sorted(set(formats)),
        "tasks": sorted(set(tasks)),
        "decoding": str(how),
        "oracle": oracle,
        "analyse": sorted(set(analyse)),
        **({"llm": llm.describe()} if llm else {}),
        **({"acts": managing.source.dataset} if managing and managing.source else {}),
    }
    indexes = [workspace_.artifact(dataset, "index", str(a.run)) for a in runs.values() if a]
    others = [a for listed in related.values() for a in listed]
    used = [a for a in (*runs.values(), *others, graph, *(i for i in indexes if i.exists())) if a]
    used += [managing.source] if managing and managing.source else []
    used += [base for _, base in bases.values() if base]
    inputs = told.inputs | {a.name: a.digest for a in used}
    recipe = Recipe("evaluate", STEP_FORMAT, params, inputs, {"seed": seed})
    artifact = workspace_.artifact(dataset, "reports", run or _report_name(params, models))
    head = report.header(data.name, data.corpus, data.form, test_set, params, seed, marked=data.marked)
    if dry_run:
        return Evaluated(head, artifact.path, "dry run")
    if not force and artifact.is_current(recipe):
        saved = json.loads((artifact.path / "metrics.json").read_text(encoding="utf-8"))
        return Evaluated(saved, artifact.path, "up to date")
    speaking = Speaking(how, oracle) if "respond" in tasks else None
    test_sets = {False: test_set, True: test_set if told is data else rows_of(told)}
    with OpenedLlm(llm, workspace_, dataset, offline, progress, say) if llm else nullcontext() as opened:
        measuring = Measuring(
            workspace_, head, data, runs, bases, related, test_sets, speaking, managing, opened, sorted(set(analyse)),
            device, offline, progress, say,
        )  # fmt: skip
        if opened and opened.collects:
            measuring.ask()
            return Evaluated(head, opened.write_batch(), "requests written")
        with workspace.write(artifact, recipe) as directory:
            made = measuring.run(directory)
            write_json(directory / "metrics.json", made)
            for name in formats:
                file, render = report.FORMATS[name]
                (directory / file).write_text(render(made), encoding="utf-8")
    return Evaluated(made, artifact.path)


def _managing(
    workspace_: Workspace, data: DatasetInputs, test_set: TestSet, tasks: Sequence[str], acts: str | None,
    names: Sequence[str], runs: Mapping[str, Artifact | None], say: Say,
) -> Managing | None:  # fmt: skip
    """What is measured of predicting acts; None where it is not asked for.

    Raises:
        UsageError: it is asked for, and none of the models predicts acts.
    """
    if "dialogue-management" not in tasks:
        return None
    if not any("manage" in _class_of(name, runs[name]).tasks for name in names):
        raise UsageError(
            "--task dialogue-management fits none of these models", "name one with --model, as reficr-tiny"
        )
    source = find_acts(workspace_, acts, say)
    annotated = acts_to_predict(source, data, test_set.split)
    if not annotated:
        say("no turn says what it does: only whether a turn recommends is measured (crs fetch-dataset -d iard)")
    naming = [
        Example(
            r.dialogue_id, r.turn_num, r.context, r.response, tuple(i for i in r.response.items if i in data.catalogue)
        )
        for r in test_set.responses
    ]
    return Managing({"acts": Turns.annotated(annotated), "recommends": Turns.naming(naming)}, source)


def _check_options(
    split: str, limit: int | None, formats: Sequence[str], tasks: Sequence[str], analyse: Sequence[str]
) -> None:
    if split not in ("valid", "test"):
        raise UsageError(f"split {split!r} cannot be measured on", "use --split test or --split valid; train is learnt")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves no rows", "give at least 1")
    for name in formats:
        if name not in report.FORMATS:
            raise UsageError(f"unknown format {name!r}", f"known: {', '.join(report.FORMATS)}")
    for kind, names, known in (("task", tasks, TASKS), ("analysis", analyse, tuple(ANALYSES))):
        for name in names:
            if name not in known:
                raise unknown_name(kind, name, known)


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


def _related(
    workspace_: Workspace, runs: Mapping[str, Artifact | None], data: DatasetInputs, analyse: Sequence[str], say: Say
) -> dict[str, list[Artifact]]:
    """All runs of the models that were asked for, each name's own first; those that are stale are named and left out.

    Raises:
        UsageError: a comparison is asked for and there is nothing to compare.
    """
    related: dict[str, list[Artifact]] = {}
    for name, own in runs.items():
        if own is None:
            continue
        model = own.provenance()["params"]["model"]
        related[name] = [own]
        for other in workspace_.artifacts(own.dataset):
            if other.kind != "models" or other.run == own.run or other.provenance()["params"]["model"] != model:
                continue
            try:
                refuse_stale_run(workspace_, other, data)
            except ArtifactMissing as error:
                say(f"left out: {error.message}")
            else:
                if not other.provenance()["params"].get("max_steps"):
                    related[name].append(other)
    for kind in (k for k in comparisons.KINDS if k in analyse):
        labels = {
            name: {comparisons.label(kind, *map(compared_settings, (listed[0], a))) for a in listed} - {None}
            for name, listed in related.items()
        }
        if all(len(found) < 2 for found in labels.values()):
            setting = "template=false" if kind == "ablation" else "share=0.2"
            raise UsageError(
                f"--analyse {kind} compares runs of a model, and there are none that differ in "
                + ("a setting" if kind == "ablation" else "their share of the dialogues"),
                f"train some, as crs train --model unicrs-tiny --set {setting} --run NAME",
            )
    return related


def _bases(
    workspace_: Workspace, dataset: str, runs: Mapping[str, Artifact | None]
) -> dict[str, tuple[str, Artifact | None]]:
    """The model whose candidates another one orders: its name, and its run, where it has one.

    Raises:
        ArtifactMissing: it was not trained.
        UsageError: it needs candidates of another model itself.
    """
    bases = {}
    for name, artifact in runs.items():
        if getattr(_class_of(name, artifact), "needs_base", False):
            settings = artifact.provenance()["params"]["settings"] if artifact else _settings({name: None})[name]
            base = settings["base"]
            found = _run_of(workspace_, dataset, base)
            if hasattr(_class_of(base, found), "use_base"):
                raise UsageError(f"{base} orders candidates of another model itself", "name one that finds items")
            bases[name] = base, found
    return bases


def _class_of(name: str, artifact: Artifact | None) -> Any:
    """The class of a model, or of a run's model."""
    return model_class(artifact.provenance()["params"]["model"] if artifact else name)


def _settings(runs: dict[str, Artifact | None]) -> dict[str, dict[str, Any]]:
    """The settings of the models that are fitted on the spot; those of a run are part of the run."""
    return {
        name: configuration.describe(configuration.resolve(model_class(name).config_class, MODELS[name].preset))
        for name, artifact in runs.items()
        if artifact is None
    }


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
    parts += [params["decoding"].replace(":", "-").replace(",", "-").replace("=", "")] if _is_odd(params) else []
    managed = ["management"] if "dialogue-management" in params["tasks"] else []
    parts += managed or (["no-replies"] if "respond" not in params["tasks"] else [])
    parts += ["oracle"] if params["oracle"] else []
    parts += params["analyse"]
    name = ".".join(parts)
    # A name of the workspace has 100 letters at most.
    return name if len(name) <= 100 else f"{name[:90]}+{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _is_odd(params: dict[str, Any]) -> bool:
    return "respond" in params["tasks"] and params["decoding"] != "greedy"


def _first_rows(test_set: TestSet, limit: int) -> TestSet:
    rows = test_set.rows[:limit]
    counts = {**test_set.counts, "rows": len(rows), "labels": sum(len(r.labels) for r in rows)}
    last = {(r.dialogue_id, r.turn_num) for r in rows[-1:]}
    responses = []
    for row in test_set.responses:
        responses.append(row)
        if (row.dialogue_id, row.turn_num) in last:
            break
    numbers, counts = test_set.dialogue_nums[:limit], counts | {"responses": len(responses)}
    return replace(test_set, rows=rows, dialogue_nums=numbers, counts=counts, checked=False, responses=responses)
