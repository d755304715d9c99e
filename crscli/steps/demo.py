"""demo: the bundled sample data through every step that exists, in a workspace of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crscli.progress import Progress, Say, silent
from crscli.session import Session
from crscli.steps._talking import Opener
from crscli.steps._training import Trained
from crscli.steps.build_kg import build_kg
from crscli.steps.evaluate import Evaluated, evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.fetch_metadata import fetch_metadata
from crscli.steps.index_items import index_items
from crscli.steps.link_entities import link_entities
from crscli.steps.pretrain_fusion import pretrain_fusion
from crscli.steps.train import train
from crscli.workspace import Workspace

DATASET = "sample"
MODELS = ("cooccurrence", "blend", "kbrd", "pecrs-tiny", "unicrs-tiny", "reficr-tiny")
SHORTER: dict[str, tuple[str, ...]] = {
    "kbrd": ("generation_epochs=5",),
    "pecrs-tiny": ("epochs=2",),
    "reficr-tiny": ("first_epochs=1", "epochs=1"),
    "unicrs-tiny": ("fusion_epochs=3", "conversation_epochs=2", "recommendation_epochs=3"),
}
"""Enough to see them learn, in about three minutes; KBRD's words, which are shown, cost little."""
SAID = (
    "Hi! We are looking for an animated film for the whole family tonight.",
    "Good idea. The kids know toy story by heart. What else is like that?",
    "They loved findng nemo too, but nothing scary please. One more!",
)


@dataclass(frozen=True)
class Shown:
    """What the demo ends with."""

    evaluated: Evaluated
    conversations: dict[str, list[tuple[str, str]]]
    next_commands: list[str]


def demo(workspace_: Workspace, *, force: bool = False, progress: Progress = silent, say: Say = silent) -> Shown:
    """Run every step on the sample data.

    Args:
        workspace_: the demo's own.
        force: repeat steps that are up to date.
        progress: told how far a step is.
        say: told what each step did.
    """
    say(f"1/13  crs fetch-dataset --dataset {DATASET}")
    fetched = fetch_dataset(workspace_, dataset=DATASET, force=force, progress=progress)
    counts = ", ".join(f"{n:,} {split}" for split, n in fetched.splits.items())
    say(f"     {fetched.status}: {fetched.items:,} films; dialogues: {counts}")
    say(f"2/13  crs fetch-metadata --dataset {DATASET}")
    catalogue = fetch_metadata(workspace_, dataset=DATASET, force=force, progress=progress)
    known = ", ".join(f"{name} {count:,}" for name, count in catalogue.coverage.items() if count)
    say(f"     {catalogue.status}: films with {known}")
    say("3/13  crs link-entities")
    linked = link_entities(workspace_, dataset=DATASET, force=force, progress=progress)
    found = {kind: sum(split.get(kind, 0) for split in linked.links.values()) for kind in ("item", "person", "genre")}
    say(f"     {linked.status}: {found['item']:,} films, {found['person']:,} people, {found['genre']:,} genres found")
    say("4/13  crs build-kg")
    built = build_kg(workspace_, dataset=DATASET, force=force, progress=progress)
    say(f"     {built.status}: {built.statistics['entities']:,} entities, {built.statistics['triples']:,} triples")
    fits: list[tuple[Any, str]] = [(train, "blend"), (train, "kbrd"), (train, "pecrs-tiny")]
    fits += [(pretrain_fusion, "unicrs-tiny"), (train, "unicrs-tiny"), (train, "reficr-tiny")]
    for num, (step, model) in enumerate(fits, 5):
        sets = SHORTER.get(model, ())
        command = f"crs {step.__name__.replace('_', '-')} --model {model}"
        say(f"{num}/13  {' '.join([command, *(f'--set {pair}' for pair in sets)])}")
        made = step(workspace_, dataset=DATASET, model=model, sets=sets, force=force, progress=progress)
        say(f"     {made.status}: {_told(made)}")
    say("11/13  crs index-items --model pecrs-tiny")
    indexed = index_items(workspace_, dataset=DATASET, model="pecrs-tiny", force=force, progress=progress)
    say(f"     {indexed.status}: {indexed.items:,} films, {indexed.width} wide")
    say("12/13  crs evaluate " + " ".join(f"--model {m}" for m in MODELS))
    evaluated = evaluate(workspace_, dataset=DATASET, models=MODELS, protocol="turns", force=force, progress=progress)
    say(f"     {evaluated.status}: {evaluated.path}")
    say("13/13  conversations with blend and, in its own words, with kbrd")
    root = workspace_.root
    commands = [
        f"crs chat --workspace {root}",
        f"crs status --workspace {root}",
        f"crs evaluate --workspace {root} --model blend --protocol turns-new --exclude-mentioned",
        "crs fetch-dataset --dataset redial        (or inspired, or your own: crs datasets)",
        "crs train --dataset redial --model blend",
    ]
    said = {"blend": SAID, "kbrd": SAID[:2]}
    return Shown(evaluated, {m: _conversation(workspace_, m, lines) for m, lines in said.items()}, commands)


def _told(made: Trained) -> str:
    """What came of a training: its stages and their steps."""
    stages = [
        f"{stage} {log['steps']:,} steps" for stage, log in made.log.items() if isinstance(log, dict) and "steps" in log
    ]
    stages += [f"{made.log['steps']:,} steps"] if "steps" in made.log else []
    return ", ".join(stages) or f"fitted on {' + '.join(made.fitted_on)}"


def _conversation(workspace_: Workspace, model: str, said: Sequence[str]) -> list[tuple[str, str]]:
    """A seeker's lines, written for this, and a model's replies; in its own words if it has any."""
    session = Session(Opener(workspace_, shown=2).open(DATASET, model))
    return [(text, session.say(text).text) for text in said]
