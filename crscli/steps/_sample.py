"""The bundled sample with a trained blend, for who has nothing else: the workspace of the demo."""

from pathlib import Path

from crscli.progress import Progress, Say, silent
from crscli.steps._dataset import find_run
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.fetch_metadata import fetch_metadata
from crscli.steps.link_entities import link_entities
from crscli.steps.train import train
from crscli.workspace import Workspace

DATASET, MODEL = "sample", "blend"


def sample_workspace(root: Path, *, progress: Progress = silent, say: Say = silent) -> Workspace:
    """The demo's workspace inside another one, with blend trained on the bundled sample: made where it is not there."""
    own = Workspace(root / ".demo")
    if find_run(own, DATASET, MODEL) is None:
        say("the workspace is empty: the bundled sample (352 films) is made ready, once, in some ten seconds")
        fetch_dataset(own, dataset=DATASET, progress=progress)
        fetch_metadata(own, dataset=DATASET, progress=progress)
        link_entities(own, dataset=DATASET, progress=progress)
        train(own, dataset=DATASET, model=MODEL, progress=progress)
    else:
        say("the workspace is empty: the bundled sample of crs demo is taken")
    return own
