"""A dataset and its trained runs as the artifacts hold them: what several steps read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from crscli import config as configuration
from crscli.catalogue import Catalogue
from crscli.datasets.corpus import SPLITS
from crscli.dialogue import Dialogue, load_dialogues
from crscli.errors import ArtifactMissing, UsageError
from crscli.kg import KnowledgeGraph
from crscli.linking.stored import read_links, with_links
from crscli.models import model_class, model_spec
from crscli.progress import Say, silent
from crscli.recommender import FitData
from crscli.workspace import Artifact, Workspace

NEURAL = "crscli.steps._neural"
"""The module for models that are trained by steps: imported where one is asked for, since it brings torch."""


@dataclass(frozen=True)
class DatasetInputs:
    """A dataset as its artifacts hold it."""

    name: str
    corpus: str
    form: str
    valid_from_train: bool
    catalogue: Catalogue
    splits: dict[str, list[Dialogue]]
    sequences: list[Dialogue]
    inputs: dict[str, str]
    marked: bool = True
    """Whether the dialogues name items by marks of their own, or by what the linker found."""

    def fit_data(self, *, refit: bool | None = None) -> FitData:
        """What a model may learn from; a validation split that was cut off train goes back after the choice."""
        if "train" not in self.splits:
            raise UsageError(f"dataset {self.name} has no train dialogues", "fetch it from files that have them")
        if not has_mentions(self.splits):
            raise ArtifactMissing(
                f"no turn of dataset {self.name} names an item", f"run: crs link-entities --dataset {self.name}"
            )
        return FitData(
            self.splits["train"],
            self.splits.get("valid", []),
            self.sequences,
            self.valid_from_train if refit is None else refit,
        )


def read_dataset(workspace_: Workspace, dataset: str, *, linked: bool = False, dialogues: bool = True) -> DatasetInputs:
    """Load a dataset's items and dialogues, every file checked.

    Items come with metadata where `catalogue/` is there. Dialogues that name no item of their own get the films that
    `link-entities` found; others keep their own marks alone.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        linked: add the people and genres that `link-entities` found to the turns.
        dialogues: read them; a chat with a trained model needs the items alone.

    Raises:
        ArtifactMissing: it was not fetched, or not to the end; the catalogue or the links are of another fetch; links
            are asked for that were not made.
        ChecksumError: a file was changed since.
    """
    items, said = workspace_.artifact(dataset, "items"), workspace_.artifact(dataset, "dialogues")
    if items.provenance()["fingerprint"] != said.provenance()["fingerprint"]:
        raise ArtifactMissing(
            f"'{items.name}' and '{said.name}' are of different fetches: the last one was interrupted",
            "run the same crs fetch-dataset command again",
        )
    facts = said.provenance()["notes"]
    folder = said.open() if dialogues else said.path
    names = [s for s in (*SPLITS, "sequences") if dialogues and (folder / f"{s}.jsonl").exists()]
    loaded = {s: load_dialogues(folder / f"{s}.jsonl") for s in names}
    sequences = loaded.pop("sequences", [])
    source = items_of(workspace_, dataset)
    used = {a.name: a.digest for a in (items, said, source)}
    links = workspace_.artifact(dataset, "links")
    marked = has_mentions(loaded)
    if dialogues and (linked or (links.exists() and not marked)):
        found = read_links(_up_to(links, source, said).open())
        loaded = {split: with_links(split, content, found) for split, content in loaded.items()}
        used |= {links.name: links.digest}
    return DatasetInputs(
        dataset,
        facts["corpus"],
        facts["form"],
        facts["valid_from_train"],
        Catalogue.load(source.open() / "items.parquet"),
        loaded,
        sequences,
        used,
        marked,
    )


def items_of(workspace_: Workspace, dataset: str) -> Artifact:
    """The items with their metadata, where these were fetched; else the bare list.

    Raises:
        ArtifactMissing: the metadata are of another fetch.
    """
    items, catalogue = workspace_.artifact(dataset, "items"), workspace_.artifact(dataset, "catalogue")
    return _up_to(catalogue, items) if catalogue.exists() else items


def _up_to(artifact: Artifact, *made_from: Artifact) -> Artifact:
    """The artifact, after a check that it was made from these as they are now."""
    before = artifact.provenance()["inputs"]
    for source in made_from:
        if before.get(source.name) != source.digest:
            raise ArtifactMissing(
                f"'{artifact.name}' is stale: it was made from another version of '{source.name}'",
                f"crs status --dataset {artifact.dataset} shows the command that renews it",
            )
    return artifact


def has_mentions(splits: Mapping[str, Sequence[Dialogue]]) -> bool:
    """Whether any dialogue names an item by a mark of its own."""
    return any(turn.items for dialogues in splits.values() for d in dialogues for turn in d.turns)


def find_run(workspace_: Workspace, dataset: str, name: str) -> Artifact | None:
    """The run of that name, else the newest complete run of the model of that name."""
    named = workspace_.artifact(dataset, "models", name)
    if named.exists():
        return named
    runs = [a for a in workspace_.artifacts(dataset) if a.kind == "models"]
    of_model = [(a.provenance()["finished"], a) for a in runs if a.provenance()["params"].get("model") == name]
    return max(of_model, key=lambda pair: pair[0])[1] if of_model else None


def reads_links(run: Artifact | None) -> bool:
    """Whether a run's model learns on a graph, and so reads the people and genres that were linked."""
    return run is not None and model_spec(run.provenance()["params"]["model"]).needs_graph


def load_run(
    workspace_: Workspace,
    artifact: Artifact,
    data: DatasetInputs,
    *,
    device: str = "auto",
    offline: bool = False,
    index: bool = True,
    say: Say = silent,
) -> tuple[Any, dict[str, Any]]:
    """Load a trained model, and what its config.json tells.

    Args:
        workspace_: where its index may be.
        artifact: the run.
        data: the dataset as it is now.
        device: of a neural model.
        offline: no model is downloaded.
        index: use the index that was made for the run.
        say: told what a user should know.

    Raises:
        ArtifactMissing: it was made from other dialogues or items, or without the metadata that are there now.
    """
    refuse_stale_run(workspace_, artifact, data)
    folder = artifact.open()
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model_type = model_class(record["model"])
    settings = configuration.resolve(model_type.config_class, record["settings"], environment={})
    if not model_spec(record["model"]).is_neural:
        return model_type.load(folder, data.catalogue, settings, **online(model_type, offline)), record
    model = model_type.load(folder, data.catalogue, settings, seed=record["seed"], offline=offline)
    neural = import_module(NEURAL)
    run = artifact.run or record["model"]
    return neural.ready(workspace_, artifact.dataset, run, model, device, say, index=index), record


def refuse_learnt(artifact: Artifact, record: Mapping[str, Any], split: str) -> None:
    """Refuse to measure a run on what it has learnt from.

    Args:
        artifact: the run.
        record: its config.json.
        split: what is measured on.

    Raises:
        UsageError: it has learnt from it.
    """
    if split in record["fitted_on"]:
        raise UsageError(
            f"run '{artifact.name}' has learnt from {split}: its figures there would mean nothing",
            f"train one for choosing: crs train --dataset {artifact.dataset} --model {record['model']}"
            f" --no-refit --run {record['model']}-choice",
        )


def online(model_type: Any, offline: bool) -> dict[str, bool]:
    """What a model is told of the network, if it could use it when it is fitted or loaded."""
    return {"offline": offline} if getattr(model_type, "takes_offline", False) else {}


def refuse_stale_run(workspace_: Workspace, artifact: Artifact, data: DatasetInputs) -> None:
    """Refuse a run whose dialogues, items, or, where it reads them, links are no longer those it learnt from.

    Raises:
        ArtifactMissing: they are not.
    """
    links = workspace_.artifact(artifact.dataset, "links")
    refuse_stale(artifact, data.inputs | ({links.name: links.digest} if reads_links(artifact) else {}))


def refuse_stale(artifact: Artifact, inputs: Mapping[str, str]) -> None:
    """Refuse a run that was made from other dialogues, items or links than there are now.

    Graphs, fusion runs and another dataset's acts are part of the run: it has saved what it takes from them.

    Raises:
        ArtifactMissing: it was.
    """
    before = artifact.provenance()["inputs"]
    kinds = ((name, *name.split("/")[:2]) for name in before.keys() | inputs.keys())
    names = {name for name, owner, kind in kinds if owner == artifact.dataset and kind not in ("kg", "fusion")}
    stale = [name for name in names if before.get(name) != inputs.get(name)]
    if stale:
        raise ArtifactMissing(
            f"run '{artifact.name}' is stale: it was made from another version of {', '.join(sorted(stale))}",
            f"crs status --dataset {artifact.dataset} shows the command that renews it with its settings",
        )


def find_fusion(workspace_: Workspace, dataset: str, model: str, name: str | None = None) -> Artifact:
    """The fusion run of that name, or the newest one of the model.

    Raises:
        ArtifactMissing: there is none.
    """
    runs = [a for a in workspace_.artifacts(dataset) if a.kind == "fusion"]
    own = [a for a in runs if a.provenance()["params"]["model"] == model]
    if name is None and own:
        return max(own, key=lambda a: a.provenance()["finished"])
    wanted = workspace_.artifact(dataset, "fusion", name or model)
    if not wanted.exists():
        there = f" (there is: {', '.join(str(a.run) for a in runs)})" if runs else ""
        raise ArtifactMissing(
            f"no fusion run '{wanted.name}'{there}", f"run: crs pretrain-fusion --dataset {dataset} --model {model}"
        )
    return wanted


def find_kg(workspace_: Workspace, dataset: str, name: str | None = None) -> Artifact:
    """The graph of that name, or the newest one.

    Raises:
        ArtifactMissing: there is none.
    """
    graphs = [a for a in workspace_.artifacts(dataset) if a.kind == "kg"]
    if name is None and graphs:
        return max(graphs, key=lambda a: a.provenance()["finished"])
    wanted = workspace_.artifact(dataset, "kg", name or "metadata")
    if not wanted.exists():
        there = f" (there is: {', '.join(str(a.run) for a in graphs)})" if graphs else ""
        raise ArtifactMissing(f"no graph '{wanted.name}'{there}", f"run: crs build-kg --dataset {dataset}")
    return wanted


def load_kg(artifact: Artifact, catalogue: Catalogue) -> KnowledgeGraph:
    """The graph of an artifact.

    Raises:
        ArtifactMissing: it was built from other items.
    """
    graph = KnowledgeGraph.load(artifact.open())
    if graph.items.ids != catalogue.vocabulary.ids:
        raise ArtifactMissing(
            f"'{artifact.name}' is stale: it was built from other items",
            f"crs status --dataset {artifact.dataset} shows the command that renews it",
        )
    return graph


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
