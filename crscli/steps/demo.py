"""demo: the bundled sample data through every step that exists, in a workspace of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from crscli import phrasing
from crscli.dialogue import Dialogue, Link, merge_turns
from crscli.progress import Progress, Say, silent
from crscli.recommender import Session
from crscli.steps.evaluate import Evaluated, evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.train import find_run, load_run, read_dataset, train
from crscli.workspace import Workspace

DATASET = "sample"
MODELS = ("cooccurrence", "blend")
TURNS = 3


@dataclass(frozen=True)
class Shown:
    """What the demo ends with."""

    evaluated: Evaluated
    conversation: list[tuple[str, str]]
    next_commands: list[str]


def demo(workspace_: Workspace, *, force: bool = False, progress: Progress = silent, say: Say = silent) -> Shown:
    """Run every step on the sample data.

    Args:
        workspace_: the demo's own.
        force: repeat steps that are up to date.
        progress: told how far a step is.
        say: told what each step did.
    """
    say("1/4  crs fetch-dataset --dataset sample")
    fetched = fetch_dataset(workspace_, dataset=DATASET, force=force, progress=progress)
    counts = ", ".join(f"{n:,} {split}" for split, n in fetched.splits.items())
    say(f"     {fetched.status}: {fetched.items:,} films; dialogues: {counts}")
    say("2/4  crs train --model blend")
    trained = train(workspace_, dataset=DATASET, model="blend", force=force, progress=progress)
    say(f"     {trained.status}: settings chosen on the validation dialogues, then refitted")
    say("3/4  crs evaluate " + " ".join(f"--model {m}" for m in MODELS))
    evaluated = evaluate(workspace_, dataset=DATASET, models=MODELS, protocol="turns", force=force, progress=progress)
    say(f"     {evaluated.status}: {evaluated.path}")
    say("4/4  a conversation with blend, on a test dialogue's seeker")
    root = workspace_.root
    commands = [
        f"crs status --workspace {root}",
        f"crs evaluate --workspace {root} --model blend --protocol turns-new --exclude-mentioned",
        "crs fetch-dataset --dataset redial        (or inspired, or your own: crs datasets)",
        "crs train --dataset redial --model blend",
    ]
    return Shown(evaluated, _conversation(workspace_), commands)


def _conversation(workspace_: Workspace) -> list[tuple[str, str]]:
    """Three turns between the seeker of a test dialogue and blend.

    The links of the seeker's texts are the sample data's own marks.
    """
    data = read_dataset(workspace_, DATASET)
    run = find_run(workspace_, DATASET, "blend")
    assert run is not None, "the demo has just trained it"
    recommender, _ = load_run(run, data)
    dialogue = max(data.splits["test"], key=_talkative)
    said = [t for t in merge_turns(dialogue.turns) if t.role == "seeker"][:TURNS]
    marks: dict[str, tuple[Link, ...]] = {t.text: t.links for t in said}
    link: Callable[[str], tuple[Link, ...]] = lambda text: marks.get(text, ())  # noqa: E731
    session: Any = Session(recommender, link, partial(phrasing.realise, data.catalogue))
    return [(turn.text, session.say(turn.text).text) for turn in said]


def _talkative(dialogue: Dialogue) -> tuple[int, int]:
    """Prefers a seeker with three turns that name films early, then long ones."""
    said = [t for t in merge_turns(dialogue.turns) if t.role == "seeker"][:TURNS]
    return len(said) * 10 + min(5, sum(len(t.links) for t in said)), sum(len(t.text) for t in said)
