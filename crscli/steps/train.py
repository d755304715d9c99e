"""train: dialogues + items, for some models links, a graph and a fusion run -> models/<run>."""

from pathlib import Path

from crscli.models import model_class, model_spec
from crscli.progress import Progress, Say, silent
from crscli.steps._training import Choice, Machine, Trained, carried_out, prepared, refuse_what_it_cannot
from crscli.workspace import Workspace

STEP_FORMAT = 1


def train(
    workspace_: Workspace,
    *,
    dataset: str,
    model: str,
    run: str | None = None,
    config: Path | None = None,
    sets: tuple[str, ...] = (),
    recipe: str | None = None,
    refit: bool | None = None,
    kg: str | None = None,
    fusion: str | None = None,
    acts: str | None = None,
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
    """Fit a model and save it as a run.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        model: a name in MODELS.
        run: the run's name; the model's by default.
        config: a TOML file of settings.
        sets: key=value settings.
        recipe: a named set of settings of the model, such as "code" for what released code does.
        refit: after the choice on valid, learn from train and valid; by default where valid was cut off train.
        kg: the graph that the model learns on, or takes items' neighbours from; the newest where it needs one.
        fusion: the fusion run that the training begins with; the newest of the model by default.
        acts: the dataset of the workspace whose turns say what they do, for models that learn it; iard by default,
            where it is there; "none" for none.
        device: of a neural model: auto, cpu, cuda, cuda:N.
        devices: processes of a neural model, each on a device of its own.
        max_steps: stop each stage of a neural model after so many steps; for a quick look.
        seed: of everything random.
        force: train even if nothing has changed, and replace a run with other settings.
        dry_run: say what would be made, and what it would take.
        offline: no model is downloaded.
        progress: told how far it is.
        say: told what a user should know.

    Raises:
        UsageError: a run of that name was made with other settings; the model cannot do what is asked.
        ArtifactMissing: links, a graph or a fusion run that it needs are not there, or are stale.
    """
    choice = Choice(model, run, config, sets, recipe, refit, kg, fusion, seed, max_steps, acts)
    machine = Machine(device, devices, max_steps, offline)
    refuse_what_it_cannot(model, model_spec(model), machine, choice)
    work = prepared(workspace_, "train", STEP_FORMAT, "models", dataset, model_class(model), choice, say)
    return carried_out(work, machine, force=force, dry_run=dry_run, progress=progress, say=say)
