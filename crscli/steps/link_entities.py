"""link-entities: items + dialogues -> links/."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crscli import workspace
from crscli.catalogue import Catalogue
from crscli.datasets.corpus import SPLITS
from crscli.dialogue import Dialogue, Link, Turn, from_json, load_dialogues
from crscli.errors import UsageError
from crscli.linking import LINKER, Linker
from crscli.linking.measure import VARIANTS, measure
from crscli.linking.opinions import untold, with_opinions
from crscli.linking.stored import FILE, MARKED, Place, write_links
from crscli.progress import Progress, Say, silent
from crscli.steps._dataset import items_of, write_json
from crscli.workspace import Artifact, Recipe, Workspace

STEP_FORMAT = 1
ENOUGH_MARKS = 1_000
"""Marks with a place in train from which the linker's weights are learnt from them."""

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Linked:
    """What the step made, for the tables: links by split and kind, shares of messages with a film, measurements."""

    dataset: str
    path: Path
    weights: str
    messages: dict[str, int] = field(default_factory=dict)
    links: dict[str, dict[str, int]] = field(default_factory=dict)
    opinions: dict[str, int] = field(default_factory=dict)
    with_film: dict[str, float] = field(default_factory=dict)
    evaluation: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    status: str = "written"


def link_entities(
    workspace_: Workspace,
    *,
    dataset: str,
    fit: bool | None = None,
    evaluate: bool = False,
    variants: str = "abcde",
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> Linked:
    """Find the films, people and genres that every message names, and what seekers say of them.

    The linker learns from train alone. A dataset's own marks keep their ids.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        fit: learn the weights from the marks in train, or take those of the package; by default as there are enough.
        evaluate: measure the linker on the marks of test, else of valid.
        variants: the ways of writing to measure, letters of `linking.measure.VARIANTS`.
        seed: of the fit and of the measurement.
        force: link even if nothing has changed.
        dry_run: say what would be made.
        progress: told of the dialogues done.
        say: told what a user should know.

    Raises:
        UsageError: there are no marks to learn from or to measure against.
        ArtifactMissing: the dataset was not fetched, or the catalogue is of another fetch.
    """
    if not variants or set(variants) - VARIANTS.keys():
        told = "; ".join(f"{letter} {what}" for letter, what in VARIANTS.items())
        raise UsageError(f"--variants {variants!r} names no way of writing", f"take letters of: {told}")
    source, dialogues = items_of(workspace_, dataset), workspace_.artifact(dataset, "dialogues")
    artifact = workspace_.artifact(dataset, "links")
    inputs = {part.name: part.digest for part in (source, dialogues)}

    def recipe(measured: str) -> Recipe:
        return Recipe("link-entities", STEP_FORMAT, {"fit": fit, "variants": measured}, inputs, {"seed": seed})

    letters = "".join(sorted(set(variants))) if evaluate else ""
    # A measured artifact also serves where no measurement is asked for.
    there = "" if force or not artifact.exists() else artifact.provenance()["params"].get("variants", "")
    if not force and artifact.is_current(recipe(letters or there)):
        return _from_notes(artifact, "up to date")
    folder = dialogues.open()
    splits = [split for split in SPLITS if (folder / f"{split}.jsonl").exists()]
    train = load_dialogues(folder / "train.jsonl") if "train" in splits else []
    learns, weights = _weights(train, fit, dataset)
    measured = _measured_split(folder, splits) if evaluate else None
    if dry_run:
        return Linked(dataset, artifact.path, weights, status="dry run")
    say(f"linking {dataset}: weights {weights}")
    started = time.monotonic()
    notes: dict[str, Any] = {"weights": weights}
    with workspace.write(artifact, recipe(letters), notes=notes) as directory:
        catalogue = Catalogue.load(source.open() / "items.parquet")
        if learns:
            linker = Linker.fit(catalogue, train, seed=seed, progress=progress)
        else:
            linker = Linker.bundled(catalogue, train)
        del train
        (directory / LINKER).mkdir()
        linker.save(directory / LINKER)
        counts = _Counts()
        write_links(directory / FILE, counts.counted(_found(linker, folder, splits, progress)))
        notes |= counts.notes()
        if measured:
            marked = load_dialogues(folder / f"{measured}.jsonl")
            notes["evaluation"] = measure(linker, marked, variants=letters, seed=seed, progress=progress)
            write_json(directory / EVALUATION, {"split": measured, "rows": notes["evaluation"]})
    return replace(_from_notes(artifact, "written"), seconds=time.monotonic() - started)


def _weights(train: Sequence[Dialogue], fit: bool | None, dataset: str) -> tuple[bool, str]:
    """Whether the weights are learnt from train, and where they come from in words."""
    marks = sum(link.kind == "item" and link.start >= 0 for d in train for turn in d.turns for link in turn.links)
    if fit and not marks:
        raise UsageError(f"dataset {dataset} has no train marks to learn from", "leave out --fit")
    learns = marks >= ENOUGH_MARKS if fit is None else fit
    return learns, f"learnt from {marks} train marks" if learns else "of the package"


def _from_notes(artifact: Artifact, status: str) -> Linked:
    return Linked(artifact.dataset, artifact.path, **artifact.provenance()["notes"], status=status)


def _measured_split(folder: Path, splits: Sequence[str]) -> str:
    """The split whose marks the linker is measured on."""
    for split in ("test", "valid"):
        if split in splits and any(_has_places(dialogue) for dialogue in _read(folder / f"{split}.jsonl")):
            return split
    raise UsageError(
        "--evaluate compares with a dataset's own marks, and neither test nor valid has any with a place in the text",
        "leave out --evaluate",
    )


def _has_places(dialogue: Dialogue) -> bool:
    return any(link.kind == "item" and link.start >= 0 for turn in dialogue.turns for link in turn.links)


def _read(path: Path) -> Iterator[Dialogue]:
    """The dialogues of a file, one at a time."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield from_json(json.loads(line))


def _found(
    linker: Linker, folder: Path, splits: Sequence[str], progress: Progress
) -> Iterator[tuple[Place, tuple[Link, ...]]]:
    for split in splits:
        for done, dialogue in enumerate(_read(folder / f"{split}.jsonl"), start=1):
            before: list[Turn] = []
            for number, turn in enumerate(dialogue.turns):
                links = _links_of(linker, turn, before)
                before.append(Turn(turn.role, turn.text, links))
                yield (split, dialogue.dialogue_id, number), links
            progress(f"linking {split}", done, None)


def _links_of(linker: Linker, turn: Turn, before: Sequence[Turn]) -> tuple[Link, ...]:
    """A turn's links: its own marks first, in their order, then what else was found."""
    found = linker.link(turn.text, before, role=turn.role)
    if not turn.links:
        return found
    new = [untold(link) for link in found if link.start >= 0]
    own = [_as_marked(mark, new) for mark in turn.links]
    rest = [link for link in new if not any(_is_same_place(link, mark) for mark in own)]
    return with_opinions(turn.text, [*own, *rest], before, turn.role)


def _as_marked(mark: Link, found: Sequence[Link]) -> Link:
    """A mark with what the linker makes of it."""
    for link in found:
        same = _is_same_place(link, mark) or (mark.start < 0 and mark.id in (link.id, *link.candidates))
        if link.kind == mark.kind and same:
            place = link if mark.start < 0 else mark
            return replace(link, id=mark.id, start=place.start, end=place.end, reason=MARKED)
    return replace(mark, reason=MARKED)


def _is_same_place(link: Link, mark: Link) -> bool:
    return link.start < mark.end and mark.start < link.end


class _Counts:
    """Counts what goes by."""

    def __init__(self) -> None:
        self._messages: Counter[str] = Counter()
        self._films: Counter[str] = Counter()
        self._opinions: Counter[str] = Counter()
        self._kinds: dict[str, Counter[str]] = {}

    def counted(self, found: Iterator[tuple[Place, tuple[Link, ...]]]) -> Iterator[tuple[Place, tuple[Link, ...]]]:
        for place, links in found:
            split = place[0]
            self._messages[split] += 1
            placed = [link for link in links if link.start >= 0 or link.reason.startswith(MARKED)]
            self._films[split] += any(link.kind == "item" for link in placed)
            kinds = self._kinds.setdefault(split, Counter())
            kinds.update(link.kind for link in placed)
            kinds["answers"] += len(links) - len(placed)
            self._opinions.update(link.opinion for link in links if link.opinion)
            yield place, links

    def notes(self) -> dict[str, Any]:
        """What the provenance tells."""
        return {
            "messages": dict(self._messages),
            "links": {split: dict(sorted(kinds.items())) for split, kinds in self._kinds.items()},
            "opinions": dict(sorted(self._opinions.items())),
            "with_film": {s: round(self._films[s] / n, 4) for s, n in self._messages.items()},
        }
