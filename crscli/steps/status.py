"""status: what the workspace holds, what is stale and why, and which command comes next."""

from dataclasses import dataclass
from typing import Any

from crscli.models import MODELS
from crscli.workspace import KINDS, WITH_RUNS, Freshness, Workspace, freshness


@dataclass(frozen=True)
class ArtifactState:
    """One line of the listing."""

    dataset: str
    artifact: str
    state: Freshness
    why: str
    size_bytes: int
    finished: str
    next_command: str


def status(workspace_: Workspace, *, dataset: str | None = None) -> list[ArtifactState]:
    """The state of every artifact of a dataset, or of all datasets.

    Args:
        workspace_: where to look; reading changes nothing, except that an interrupted write is tidied up.
        dataset: only this one.
    """
    names = [dataset] if dataset else workspace_.datasets()
    return [state for name in names for state in _of_dataset(workspace_, name)]


def _of_dataset(workspace_: Workspace, dataset: str) -> list[ArtifactState]:
    found = list(workspace_.artifacts(dataset))
    states = []
    for kind in KINDS:
        present = [a for a in found if a.kind == kind]
        if not present:
            missing = workspace_.artifact(dataset, kind)
            states.append(ArtifactState(dataset, missing.name, "missing", "", 0, "", _command(kind, dataset, None)))
        for artifact in present:
            state, why = freshness(workspace_, artifact)
            record: dict[str, Any] = artifact.provenance() if state != "damaged" else {"finished": "", "params": {}}
            size = sum(f.stat().st_size for f in artifact.path.rglob("*") if f.is_file())
            command = "" if state == "fresh" else _command(kind, dataset, record) + " --force" * (state == "damaged")
            states.append(
                ArtifactState(dataset, artifact.name, state, why, size, str(record["finished"])[:19], command)
            )
    return states


def _command(kind: str, dataset: str, record: dict[str, Any] | None) -> str:
    """The command that makes or renews an artifact."""
    params = (record or {}).get("params", {})
    command = f"crs {KINDS[kind]} --dataset {params.get('dataset', dataset) if kind not in WITH_RUNS else dataset}"
    if kind == "models":
        default = next(name for name, spec in MODELS.items() if spec.needs_run)
        command += f" --model {params.get('model', default)}"
    elif kind == "reports":
        named = params.get("models", ["blend"])
        command += "".join(f" --model {name}" for name in named)
        command += f" --protocol {params['protocol']}" if "protocol" in params else ""
    return command
