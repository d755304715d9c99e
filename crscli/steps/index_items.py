"""index-items: a trained run + the items -> index/<run>."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from crscli import workspace
from crscli.dialogue import cut
from crscli.errors import ArtifactMissing, UsageError
from crscli.index import ENGINES, Hnsw, ItemIndex, merge, shard_range
from crscli.models import model_class
from crscli.progress import Progress, Say, silent
from crscli.steps._dataset import DatasetInputs, find_run, load_run, read_dataset
from crscli.workspace import Artifact, Recipe, Workspace

STEP_FORMAT = 1
_BLOCK = 256
"""Items that are encoded together."""
_QUERIES = 500
"""Contexts of valid (else train) that an approximate engine is measured with."""


@dataclass(frozen=True)
class Indexed:
    """What the step made, for the table."""

    run: str
    path: Path
    items: int
    width: int
    engine: str
    similarity: str
    recall: float | None
    parts: int
    status: str = "written"
    inputs: list[str] = field(default_factory=list)


def index_items(
    workspace_: Workspace,
    *,
    dataset: str,
    model: str,
    engine: str = "exact",
    search_effort: int = 256,
    min_recall: float = 0.95,
    shard: str | None = None,
    merged: bool = False,
    device: str = "auto",
    offline: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> Indexed:
    """Encode every item with a trained model and keep the vectors.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        model: a run, or a model whose newest run is taken.
        engine: "exact", or "faiss" for an approximate search.
        search_effort: of an approximate engine: more finds more and is slower.
        min_recall: the share of the exact first 50 that an approximate engine must find.
        shard: "2/8" encodes the second of eight parts alone, for machines that share the work.
        merged: put the parts together that were encoded with `shard`.
        device: to encode on.
        offline: no model is downloaded.
        force: encode even if nothing has changed.
        dry_run: say what would be made.
        progress: told of items done.
        say: told what a user should know.

    Raises:
        UsageError: the model has no item vectors; the engine finds less than `min_recall`.
        ArtifactMissing: there is no such run; parts are missing or of other weights.
    """
    part = _parsed(shard)
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}", f"known: {', '.join(ENGINES)}")
    if part and (merged or engine != "exact"):
        raise UsageError("--shard goes with neither --merge nor --engine", "give these when the parts are put together")
    data = read_dataset(workspace_, dataset)
    run = find_run(workspace_, dataset, model)
    if run is None:
        raise ArtifactMissing(
            f"{model} was not trained on {dataset}", f"run: crs train --dataset {dataset} --model {model}"
        )
    name = str(run.run)
    parts = _parts(workspace_, dataset, name) if merged else []
    artifact = workspace_.artifact(dataset, "index", f"{name}.shard-{part[0]}-of-{part[1]}" if part else name)
    params = {
        "engine": engine, "shard": shard, "merge": merged,
        **({"search_effort": search_effort, "min_recall": min_recall} if engine != "exact" else {}),
    }  # fmt: skip
    inputs = data.inputs | {a.name: a.digest for a in (run, *parts)}
    recipe = Recipe("index-items", STEP_FORMAT, params, inputs)
    if not force and artifact.is_current(recipe):
        return _told(ItemIndex.load(artifact.path), artifact, len(parts), "up to date")
    if not hasattr(model_class(run.provenance()["params"]["model"]), "encode_items"):
        raise UsageError(f"{model} has no item vectors", "name a model that has, such as pecrs-tiny")
    if dry_run:
        return Indexed(name, artifact.path, len(data.catalogue), 0, engine, "", None, len(parts), "dry run", [*inputs])
    loaded, _ = load_run(workspace_, run, data, device=device, offline=offline, index=False, say=say)
    with workspace.write(artifact, recipe) as directory:
        index = _merged(parts, loaded, data) if merged else _encoded(loaded, data, part, progress)
        if engine == "faiss":
            say(f"building a graph over {len(data.catalogue):,} items; a hundred thousand take minutes")
            queries = loaded.encode_queries(_contexts(data))
            index = index.approximate(queries, Hnsw(search_effort=search_effort), min_recall=min_recall)
        index.save(directory)
    return _told(index, artifact, len(parts), "written")


def _told(index: ItemIndex, artifact: Artifact, parts: int, status: str) -> Indexed:
    items, width = index.vectors.shape
    name = str(artifact.run)
    return Indexed(name, artifact.path, items, width, index.engine, index.similarity, index.recall, parts, status)


def _parsed(shard: str | None) -> tuple[int, int] | None:
    """(which, of how many) of "2/8"."""
    if shard is None:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(
            f"--shard {shard!r} is not i/n with i from 1 to n", "write --shard 2/8 for the second of eight"
        )
    return int(found[1]), int(found[2])


def _encoded(model: Any, data: DatasetInputs, part: tuple[int, int] | None, progress: Progress) -> ItemIndex:
    """Vectors of all items, or of one part of them.

    Items are encoded in blocks that are the same whatever the part, and cut to it: products of matrices differ in
    their last bits from batch to batch, and the parts together shall be the whole.
    """
    ids = data.catalogue.vocabulary.ids
    chosen = shard_range(len(ids), part[0] - 1, part[1]) if part else range(len(ids))
    vectors = []
    first = min(chosen.start, max(0, len(ids) - 1))  # a part without items has the width of one that has some
    for start in range(first // _BLOCK * _BLOCK, max(chosen.stop, 1), _BLOCK):
        block = range(start, min(start + _BLOCK, len(ids)))
        encoded = model.encode_items(data.catalogue, numbers=block)
        vectors.append(encoded[max(chosen.start - start, 0) : max(chosen.stop - start, 0)])
        progress("encoding items", min(block.stop, chosen.stop) - chosen.start, len(chosen))
    return ItemIndex(
        np.concatenate(vectors), tuple(ids[n] for n in chosen), model.item_digest, similarity=model.similarity
    )


def _parts(workspace_: Workspace, dataset: str, run: str) -> list[Artifact]:
    """The parts that were encoded apart, all of one division.

    Raises:
        ArtifactMissing: there is none, or one is missing.
    """
    named = re.compile(re.escape(run) + r"\.shard-(\d+)-of-(\d+)")
    found = [(m, a) for a in workspace_.artifacts(dataset) if a.kind == "index" and (m := named.fullmatch(str(a.run)))]
    divisions = {int(m[2]) for m, _ in found}
    there = sorted(int(m[1]) for m, _ in found)
    command = f"crs index-items --dataset {dataset} --model {run} --shard i/n"
    if not found:
        raise ArtifactMissing(f"no part of an index of {run} is there", f"run {command} for each part")
    if len(divisions) > 1:
        raise ArtifactMissing(
            f"the parts are of different divisions: {', '.join(str(n) for n in sorted(divisions))}",
            "delete the folders of the wrong one, index/RUN.shard-i-of-n",
        )
    missing = sorted(set(range(1, divisions.pop() + 1)) - set(there))
    if missing:
        raise ArtifactMissing(
            f"parts {', '.join(str(n) for n in missing)} of the index of {run} are missing", f"run {command} for them"
        )
    return [a for _, a in sorted(found, key=lambda pair: int(pair[0][1]))]


def _merged(parts: list[Artifact], model: Any, data: DatasetInputs) -> ItemIndex:
    index = merge([ItemIndex.load(a.open()) for a in parts], data.catalogue.vocabulary.ids)
    index.check(model.item_digest, "encode the parts again with the weights of this run")
    return replace(index, similarity=model.similarity)


def _contexts(data: DatasetInputs) -> list[Any]:
    """Contexts of valid, else of train."""
    dialogues = data.splits.get("valid") or data.splits["train"]
    return [e.context for d in dialogues for e in cut(d)][:_QUERIES]
