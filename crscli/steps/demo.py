"""demo: the bundled sample data through every step that exists, in a workspace of its own."""

from dataclasses import dataclass
from functools import partial

from crscli import phrasing
from crscli.catalogue import Catalogue
from crscli.dialogue import Link
from crscli.progress import Progress, Say, silent
from crscli.recommender import Session
from crscli.steps.evaluate import Evaluated, evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.train import find_run, load_run, read_dataset, train
from crscli.workspace import Workspace

DATASET = "sample"
MODELS = ("cooccurrence", "blend")
TITLES = ("Toy Story (1995)", "Finding Nemo (2003)")
SAID = (
    "Hi! We are looking for an animated film for the whole family tonight.",
    "Good idea. The kids know Toy Story (1995) by heart. What else is like that?",
    "They loved Finding Nemo (2003) too. One more, please!",
)


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
    say(f"     {trained.status}: fitted on {' + '.join(trained.fitted_on)}")
    say("3/4  crs evaluate " + " ".join(f"--model {m}" for m in MODELS))
    evaluated = evaluate(workspace_, dataset=DATASET, models=MODELS, protocol="turns", force=force, progress=progress)
    say(f"     {evaluated.status}: {evaluated.path}")
    say("4/4  a conversation with blend")
    root = workspace_.root
    commands = [
        f"crs status --workspace {root}",
        f"crs evaluate --workspace {root} --model blend --protocol turns-new --exclude-mentioned",
        "crs fetch-dataset --dataset redial        (or inspired, or your own: crs datasets)",
        "crs train --dataset redial --model blend",
    ]
    return Shown(evaluated, _conversation(workspace_), commands)


def _conversation(workspace_: Workspace) -> list[tuple[str, str]]:
    """A seeker's lines, written for this, and blend's replies."""
    data = read_dataset(workspace_, DATASET)
    run = find_run(workspace_, DATASET, "blend")
    assert run is not None, "the demo has just trained it"
    recommender, _ = load_run(run, data)
    session = Session(recommender, partial(_exact_titles, data.catalogue), partial(phrasing.realise, data.catalogue))
    return [(text, session.say(text).text) for text in SAID]


def _exact_titles(catalogue: Catalogue, text: str) -> tuple[Link, ...]:
    """Mentions of the titles in TITLES, written exactly."""
    by_name = {item.name: item.item_id for item in catalogue}
    found = [(text.find(name), name) for name in TITLES]
    return tuple(Link("item", by_name[name], at, at + len(name)) for at, name in sorted(found) if at >= 0)
