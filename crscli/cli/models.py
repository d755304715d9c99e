"""The commands that make models: pretrain-fusion, train, index-items."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crscli.cli.frame import DatasetOption, DeviceOption, DryRunOption, ForceOption, Run, SeedOption, command
from crscli.console import Console


def model_names(incomplete: str) -> list[str]:
    """Names of models that begin so."""
    from crscli.models import MODELS

    return [name for name in MODELS if name.startswith(incomplete)]


ModelOption = Annotated[str, typer.Option("--model", "-m", help="crs models lists them.", autocompletion=model_names)]
RunNameOption = Annotated[str | None, typer.Option("--run", help="Name of the run; the model's by default.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key=value, wins over the file.")]
RecipeOption = Annotated[
    str | None, typer.Option(help="Named settings: paper (the default) or code, where a model's two differ.")
]
BackboneOption = Annotated[
    str | None,
    typer.Option(help="Language model: a folder, a hub id, random:gpt2 or tiny; the same as --set backbone=."),
]
ActsOption = Annotated[
    str | None,
    typer.Option(
        help="Dataset of the workspace whose turns say what they do, for ReFICR: iard, where it is there; or none."
    ),
]
DevicesOption = Annotated[int, typer.Option(min=1, help="Processes that train together, each on its own device.")]
MaxStepsOption = Annotated[
    int, typer.Option(min=0, help="Stop each stage after so many steps: a quick look, comparable to nothing.")
]


@command("pretrain-fusion")
def pretrain_fusion(
    run: Run,
    model: ModelOption,
    dataset: DatasetOption = None,
    run_name: RunNameOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    recipe: RecipeOption = None,
    backbone: BackboneOption = None,
    kg: Annotated[str | None, typer.Option(help="Graph to learn on; the newest by default.")] = None,
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    max_steps: MaxStepsOption = 0,
    seed: SeedOption = 0,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Teach UniCRS's prompts to name what a response names: reads dialogues/, links/ and kg/NAME, writes fusion/RUN.

    What is trained after it can be no better than this stage: it says whether it has reached what it should.

    Examples:

      crs pretrain-fusion --model unicrs-tiny

      crs pretrain-fusion -d redial -m unicrs --set fusion_rate=1e-3
    """
    from crscli.steps.pretrain_fusion import pretrain_fusion as step

    chosen = run.dataset(dataset)
    made = step(
        run.workspace, dataset=chosen, model=model, run=run_name, config=config, sets=_settings(sets, backbone),
        recipe=recipe, kg=kg, device=device, devices=devices, max_steps=max_steps, seed=seed, force=force,
        dry_run=dry_run, offline=run.offline, progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    _show_trained(run, made, f"crs train --dataset {chosen} --model {made.model}")


@command("train")
def train(
    run: Run,
    model: ModelOption,
    dataset: DatasetOption = None,
    run_name: RunNameOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    recipe: RecipeOption = None,
    backbone: BackboneOption = None,
    refit: Annotated[
        bool | None,
        typer.Option(
            "--refit/--no-refit",
            help="After the choice, learn from train and valid; by default where valid was cut off train.",
            show_default=False,
        ),
    ] = None,
    kg: Annotated[
        str | None,
        typer.Option(
            help="Graph that the model learns on (the newest by default), or that blend takes neighbours from."
        ),
    ] = None,
    fusion: Annotated[
        str | None, typer.Option(help="Fusion run that UniCRS begins with; its newest by default.")
    ] = None,
    acts: ActsOption = None,
    device: DeviceOption = "auto",
    devices: DevicesOption = 1,
    max_steps: MaxStepsOption = 0,
    seed: SeedOption = 0,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Fit a model: reads items/ and dialogues/, for some links/, kg/NAME and fusion/RUN, writes models/RUN.

    A training that is interrupted goes on where it was when the command is run again.

    Examples:

      crs train --model blend

      crs train -d redial -m blend --set ranker=linear --run blend-linear

      crs train --model unicrs-tiny

      crs train --model pecrs-small --dry-run
    """
    from crscli.steps.train import train as step

    chosen = run.dataset(dataset)
    made = step(
        run.workspace, dataset=chosen, model=model, run=run_name, config=config, sets=_settings(sets, backbone),
        recipe=recipe, refit=refit, kg=kg, fusion=fusion, acts=acts, device=device, devices=devices,
        max_steps=max_steps, seed=seed, force=force, dry_run=dry_run, offline=run.offline,
        progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    _show_trained(run, made, f"crs evaluate --dataset {chosen} --model {made.run}")


def _settings(sets: list[str] | None, backbone: str | None) -> tuple[str, ...]:
    return (*(sets or ()), *([f"backbone={backbone}"] if backbone else []))


def _show_trained(run: Run, made: Any, following: str) -> None:
    """What train or pretrain-fusion made or would make."""
    if not run.tells_results:
        return
    console = run.console
    if console.as_json:
        console.document(made.__dict__)
        return
    settings = [[k, v] for k, v in made.settings.items()]
    if made.status == "dry run":
        fitted = " + ".join(made.fitted_on)
        console.line(f"dry run: would read {', '.join(made.inputs)}; fit on {fitted}; write {made.path}")
        _show_plan(console, made.plan)
        console.table(["setting", "value"], settings, numbers=False)
        return
    took = f" in {made.seconds:.0f} s" if made.status == "written" else ""
    console.line(f"{made.run}: {made.status}{took}; fitted on {' + '.join(made.fitted_on)}; {made.path}")
    console.table(["setting", "value"], settings, numbers=False)
    for name, value in made.log.items():
        console.detail(f"{name}: {value}")
    if made.status == "written":
        console.say(f"next: {following}{run.place}")


def _show_plan(console: Console, plan: dict[str, Any] | None) -> None:
    """What a training would take."""
    if plan is None:
        return
    columns = list(plan["stages"]) if len(plan["stages"]) > 1 else [""]
    of = list(plan["stages"].values())
    rows = [
        ["parameters", *(f"{s['parameters']:,}" for s in of)],
        ["of them trained", *(f"{s['trained']:,} ({s['trained'] / s['parameters']:.2%})" for s in of)],
        ["points", *(f"{s['points']:,}" for s in of)],
        ["steps", *(f"{s['steps']:,}" for s in of)],
        ["memory, estimated", *(f"{s['memory_bytes'] / 1e9:.1f} GB" for s in of)],
        ["a step, longest points", *(f"{s['seconds_per_step']:.2f} s" for s in of)],
        ["all steps at most", *(f"{s['hours']:.1f} h" for s in of)],
    ]
    console.table(["what it would take", *columns], rows, numbers=False)
    free, peak = (f"{plan[name] / 1e9:.1f} GB" for name in ("free_bytes", "peak_bytes"))
    console.line(f"on {plan['device']}: {free} free, {peak} held by the probe; time of validation is not counted")
    console.line()


@command("index-items")
def index_items(
    run: Run,
    model: Annotated[str, typer.Option("--model", "-m", help="Model or run.", autocompletion=model_names)],
    dataset: DatasetOption = None,
    engine: Annotated[str, typer.Option(help="exact, or faiss: approximate, for very many items.")] = "exact",
    search_effort: Annotated[int, typer.Option(help="Of faiss: more finds more and is slower.")] = 256,
    min_recall: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the exact first 50 that faiss must find.")
    ] = 0.95,
    shard: Annotated[str | None, typer.Option(help="i/n: encode the i-th of n parts alone.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Put parts together that were encoded with --shard.")] = False,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Encode the items with a trained model: reads models/RUN and the items, writes index/RUN.

    Evaluation and chat use it; without it they encode the items themselves each time.

    Examples:

      crs index-items --model pecrs-tiny

      crs index-items --model pecrs-small --shard 2/8

      crs index-items --model pecrs-small --merge --engine faiss
    """
    from crscli.steps.index_items import index_items as step

    made = step(
        run.workspace, dataset=run.dataset(dataset, model), model=model, engine=engine, search_effort=search_effort,
        min_recall=min_recall, shard=shard, merged=merge, device=device, offline=run.offline, force=force,
        dry_run=dry_run, progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made.__dict__)
        return
    if made.status == "dry run":
        run.console.line(f"dry run: would read {', '.join(made.inputs)}; write {made.path}")
        return
    found = "" if made.recall is None else f", finds {made.recall:.3f} of the exact first 50"
    put = f" from {made.parts} parts" if made.parts else ""
    run.console.line(f"{made.run}: {made.status}; {made.items:,} items{put}, {made.width} wide, {made.engine}{found}")
    run.console.line(str(made.path))
