"""fetch-dataset: published files, an archive or your own files -> items/ and dialogues/."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from crscli import datasets, workspace
from crscli.catalogue import Catalogue
from crscli.datasets.corpus import Corpus, ValidRule, check_splits_apart, cut_valid
from crscli.datasets.download import Download, download
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import Dialogue, save_dialogues
from crscli.errors import DataError, UsageError
from crscli.progress import Progress, Say, silent
from crscli.workspace import Artifact, Recipe, Workspace

STEP_FORMAT = 1
SAMPLE = Path(datasets.__file__).parent / "sample"
SPLITS = ("train", "valid", "test", "sequences")


@dataclass(frozen=True)
class Fetched:
    """What the step made, for the table."""

    dataset: str
    corpus: str
    form: str
    items: int
    splits: Mapping[str, int]
    turns: Mapping[str, int]
    notes: list[str] = field(default_factory=list)
    status: str = "written"


def fetch_dataset(
    workspace_: Workspace,
    *,
    dataset: str,
    source: Path | None = None,
    name: str | None = None,
    form: str | None = None,
    valid: ValidRule = "latest",
    valid_share: float = 0.12,
    seed: int = 0,
    sequences: bool = False,
    max_bad_rows: int = 0,
    offline: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> Fetched:
    """Read a dataset and normalise it.

    Args:
        workspace_: where the artifacts go.
        dataset: a name in DATASETS.
        source: a folder, archive or file with the published names; downloaded where None.
        name: the dataset's name in the workspace; by default its own, with the form where that is not the first.
        form: the published files or a processed form of a paper.
        valid: how a validation split is cut off train where the files have none.
        valid_share: its share of the train dialogues.
        seed: of the random cut.
        sequences: read mention sequences too (ReDial).
        max_bad_rows: rows that may be skipped.
        offline: open no socket.
        force: write even if nothing has changed.
        dry_run: say what would be read and written, and write nothing.
        progress: told of bytes downloaded.
        say: told what a user should know.
    """
    spec, form, described = datasets.dataset_form(dataset, form)
    published = form == next(iter(spec.forms))
    if name is None:
        name = dataset if published else f"{dataset}-{form}"
    if not 0 <= valid_share < 1:
        raise UsageError(f"--valid-share {valid_share} is no share", "give a number from 0 to below 1, such as 0.12")
    items, dialogues = workspace_.artifact(name, "items"), workspace_.artifact(name, "dialogues")
    place = source or (SAMPLE if dataset == "sample" else None)
    if place is None:
        if not (published and spec.downloads):
            what = dataset if published else f"{dataset} in the form {form}"
            raise UsageError(f"{what} is read from your own files", "name them with --from DIR_OR_ARCHIVE")
        if dry_run:
            return Fetched(
                name, dataset, form, 0, {}, {}, [f"would download to {workspace_.root / name}/raw"], "dry run"
            )
        place = _downloaded(workspace_, name, dataset, offline, progress, say)
    reader = import_module(described.reader)
    opened = Source(place, reader.ALLOW)
    params = {
        "dataset": dataset, "form": form, "valid": valid, "valid_share": valid_share, "sequences": sequences,
        "max_bad_rows": max_bad_rows,
    }  # fmt: skip
    inputs = {file: opened.digest(file)[0] for file in opened.names()}
    recipe = Recipe("fetch-dataset", STEP_FORMAT, params, inputs, {"valid": seed})
    if not force and items.is_current(recipe) and dialogues.is_current(recipe):
        return _fetched(dialogues.provenance()["notes"], name, dataset, form, "up to date")
    bad = BadRows(max_bad_rows, lambda error: say(f"skipped: {error.message}"))
    corpus: Corpus = reader.read(opened, bad=bad, **_reader_options(reader, sequences, dataset, name))
    if dataset != "jsonl" and corpus.name != dataset:
        raise DataError(f"{place}: these are files of {corpus.name}, not of {dataset}", f"use --dataset {corpus.name}")
    facts = {"valid_from_train": _cut(corpus, valid, valid_share, seed)} | _facts(corpus, name, bad)
    if dialogues.exists() and not force:
        _refuse_another_dataset(dialogues, dataset, form)
    if dry_run:
        return _fetched(facts, name, dataset, form, "dry run")
    # Both are complete before either is put in place: a full disk leaves the old ones together.
    with (
        workspace.write(items, recipe, notes=facts) as item_folder,
        workspace.write(dialogues, recipe, notes=facts) as dialogue_folder,
    ):
        Catalogue(corpus.items).save(item_folder / "items.parquet")
        for split, content in _contents(corpus).items():
            save_dialogues(content, dialogue_folder / f"{split}.jsonl")
    stale = [a.name for a in workspace_.artifacts(name) if a.kind not in (items.kind, dialogues.kind)]
    if stale:
        say(f"made from the former version, and stale if it differs: {', '.join(stale)} (crs status)")
    return _fetched(facts, name, dataset, form, "written")


def _refuse_another_dataset(dialogues: Artifact, dataset: str, form: str) -> None:
    """A dataset of the same name but of another source is somebody's work: it is not replaced in passing."""
    before = dialogues.provenance()["params"]
    if (before["dataset"], before["form"]) != (dataset, form):
        raise UsageError(
            f"'{dialogues.dataset}' holds {before['dataset']} in the form {before['form']}, not {dataset} ({form})",
            "keep both with --name NAME, or replace it with --force",
        )


def _fetched(facts: Mapping[str, Any], name: str, dataset: str, form: str, status: str) -> Fetched:
    """What the provenance's notes tell."""
    return Fetched(name, dataset, form, facts["items"], facts["dialogues"], facts["turns"], facts["notes"], status)


def _reader_options(reader: Any, sequences: bool, dataset: str, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {"sequences": sequences}
    if reader.__name__ == "crscli.datasets.jsonl":
        options["name"] = "sample" if dataset == "sample" else name
    return options


def _downloaded(workspace_: Workspace, name: str, dataset: str, offline: bool, progress: Progress, say: Say) -> Path:
    """The published files in raw/; what is there and whole is not downloaded again."""
    spec = datasets.DATASETS[dataset]
    raw = workspace_.artifact(name, "dialogues").path.parent / "raw"
    say(f"{dataset}: {spec.licence}; {spec.citation}")
    files = []
    for url, file, sha256 in spec.downloads:
        told = partial(progress, file)
        files.append(download(Download(url, file, sha256), raw, offline=offline, progress=told))
    return files[0] if len(files) == 1 else raw


def _cut(corpus: Corpus, rule: ValidRule, share: float, seed: int) -> bool:
    """Cut a validation split where there is none, and make sure that splits do not overlap; whether one was cut."""
    train = corpus.splits.get("train", [])
    cuts = bool(train) and "valid" not in corpus.splits and share > 0
    if cuts:
        corpus.splits["train"], corpus.splits["valid"] = cut_valid(train, rule=rule, share=share, seed=seed)
        in_time = rule == "latest" and all(d.order is not None for d in train)
        how = "the latest" if in_time else f"a random {share:.0%} (seed {seed}), not the latest,"
        corpus.notes.append(f"valid: {how} {len(corpus.splits['valid'])} of {len(train)} train dialogues")
    if "test" not in corpus.splits:
        corpus.notes.append("no test dialogues in the source")
    if not any(turn.items for content in corpus.splits.values() for d in content for turn in d.turns):
        corpus.notes.append("no turn marks an item: crs link-entities finds those that are named in the text")
    check_splits_apart(corpus.splits)
    if not any(corpus.splits.values()):
        raise DataError("no dialogue could be read")
    return cuts


def _contents(corpus: Corpus) -> dict[str, list[Dialogue]]:
    found = {split: corpus.splits[split] for split in SPLITS[:3] if split in corpus.splits}
    return found | ({"sequences": corpus.sequences} if corpus.sequences else {})


def _facts(corpus: Corpus, name: str, bad: BadRows) -> dict[str, Any]:
    contents = _contents(corpus)
    notes = corpus.notes + ([f"{bad.count} bad rows skipped"] if bad.count else [])
    corpus.notes[:] = notes
    return {
        "corpus": corpus.name,
        "form": corpus.form,
        "name": name,
        "items": len(corpus.items),
        "dialogues": {split: len(content) for split, content in contents.items()},
        "turns": {split: sum(len(d.turns) for d in content) for split, content in contents.items()},
        "notes": notes,
    }
