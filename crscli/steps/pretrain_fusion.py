"""pretrain-fusion: dialogues + items + links + a graph -> fusion/<run>."""

from pathlib import Path

from crscli.models import fusion_class, model_spec
from crscli.progress import Progress, Say, silent
from crscli.steps._training import Choice, Machine, Trained, carried_out, prepared, refuse_what_it_cannot
from crscli.workspace import Workspace

STEP_FORMAT = 1


def pretrain_fusion(
    workspace_: Workspace,
    *,
    dataset: str,
    model: str,
    run: str | None = None,
    config: Path | None = None,
    sets: tuple[str, ...] = (),
    recipe: str | None = None,
    kg: str | None = None,
    device: str = "auto",
    devices: int = 1,
    max_steps: int = 0,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    offline: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> Trained:
    """Let a model's prompts learn to name what a visible response names, before any training proper.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        model: a name in MODELS of a model that is pre-trained so.
        run: the run's name; the model's by default.
        config: a TOML file of settings.
        sets: key=value settings.
        recipe: a named set of settings of the model.
        kg: the graph that it learns on; the newest by default.
        device: auto, cpu, cuda, cuda:N.
        devices: processes, each on a device of its own.
        max_steps: stop after so many steps; for a quick look.
        seed: of everything random.
        force: train even if nothing has changed, and replace a run with other settings.
        dry_run: say what would be made, and what it would take.
        offline: no model is downloaded.
        progress: told how far it is.
        say: told what a user should know; so whether the stage has reached what it should.

    Raises:
        UsageError: a run of that name was made with other settings; the model has no such stage.
        ArtifactMissing: links or a graph are not there, or are stale.
    """
    choice = Choice(model, run, config, sets, recipe, None, kg, None, seed, max_steps)
    machine = Machine(device, devices, max_steps, offline)
    model_type = fusion_class(model)
    refuse_what_it_cannot(model, model_spec(model), machine, choice)
    work = prepared(workspace_, "pretrain-fusion", STEP_FORMAT, "fusion", dataset, model_type, choice, say)
    return carried_out(work, machine, force=force, dry_run=dry_run, progress=progress, say=say)
