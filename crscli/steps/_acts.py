"""Dialogues of another dataset in the workspace whose turns are annotated with what they do (IARD)."""

from collections.abc import Sequence

from crscli.datasets.iard import learnable
from crscli.dialogue import Dialogue, load_dialogues
from crscli.errors import ArtifactMissing, UsageError
from crscli.progress import Say
from crscli.steps._dataset import DatasetInputs
from crscli.workspace import Artifact, Workspace

USUAL = "iard"


def find_acts(workspace_: Workspace, name: str | None, say: Say) -> Artifact | None:
    """The dialogues of that dataset; without a name those of `iard`, if it is in the workspace; "none" for none.

    Raises:
        ArtifactMissing: there is no dataset of that name.
    """
    if name == "none":
        return None
    artifact = workspace_.artifact(name or USUAL, "dialogues")
    if artifact.exists():
        if name is None:
            say(f"acts of dataset {USUAL}, which is in the workspace (--acts none leaves them out)")
        return artifact
    if name is None:
        return None
    raise ArtifactMissing(
        f"no dataset {name!r} whose turns could be annotated", f"run: crs fetch-dataset --dataset {USUAL} --from DIR"
    )


def acts_to_learn(artifact: Artifact, data: DatasetInputs) -> dict[str, list[Dialogue]]:
    """Its train and valid dialogues, without those that the dataset is measured on.

    Raises:
        UsageError: no turn of them is annotated.
    """
    held_out = {d.dialogue_id for s in ("valid", "test") for d in data.splits.get(s, ())}
    measured_on = held_out if data.corpus == "redial" else set()
    found = {split: learnable(_annotated(artifact, (split,)), measured_on) for split in ("train", "valid")}
    if not found["train"]:
        raise UsageError(f"no turn of '{artifact.name}' says what it does", "name another dataset with --acts, or none")
    return found


def acts_to_predict(artifact: Artifact | None, data: DatasetInputs, split: str) -> list[Dialogue]:
    """The annotated dialogues of a split: of the other dataset, or of the dataset itself."""
    own = [d for d in data.splits.get(split, ()) if any(t.acts for t in d.turns)]
    return own or ([] if artifact is None else _annotated(artifact, (split,)))


def _annotated(artifact: Artifact, splits: Sequence[str]) -> list[Dialogue]:
    folder = artifact.open()
    files = [path for s in splits if (path := folder / f"{s}.jsonl").exists()]
    return [d for path in files for d in load_dialogues(path) if any(t.acts for t in d.turns)]
