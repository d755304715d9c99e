"""The commands that measure models and show them: evaluate, demo."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from crscli.cli.frame import DatasetOption, DeviceOption, DryRunOption, ForceOption, Run, SeedOption, command
from crscli.cli.models import ActsOption, model_names
from crscli.console import Console
from crscli.workspace import Workspace


class Split(StrEnum):
    """The split that is measured on."""

    test = "test"
    valid = "valid"


class Task(StrEnum):
    """What is measured of a model."""

    rank = "rank"
    respond = "respond"
    management = "dialogue-management"


class Analysis(StrEnum):
    """Looks behind the figures."""

    genre = "genre"
    turns = "turns"
    decoding = "decoding"
    fields = "fields"
    candidates = "candidates"
    conversations = "conversations"
    pipeline = "pipeline"
    ablation = "ablation"
    scarcity = "scarcity"


class SeekerMode(StrEnum):
    """What simulated seekers do of their own accord."""

    free = "free"
    ask = "ask"
    chat = "chat"


class Seekers(StrEnum):
    """Who plays them."""

    rules = "rules"
    llm = "llm"


class Format(StrEnum):
    """Further files of a report."""

    markdown = "markdown"
    latex = "latex"


def _protocol_names(incomplete: str) -> list[str]:
    from crscli.protocols import PROTOCOLS

    return [name for name in PROTOCOLS if name.startswith(incomplete)]


LlmUrlOption = Annotated[
    str | None,
    typer.Option(
        "--llm-base-url", help="OpenAI-compatible endpoint of models that ask a language model: https://HOST/v1."
    ),
]
LlmModelOption = Annotated[str | None, typer.Option("--llm-model", envvar="CRS_LLM_MODEL", help="Its model.")]
LlmKeyOption = Annotated[
    Path | None,
    typer.Option("--llm-key-file", help="File with its key, mode 0600; else CRS_LLM_KEY or OPENAI_API_KEY."),
]
LlmConcurrencyOption = Annotated[int, typer.Option("--llm-concurrency", min=1, help="Requests at once.")]
LlmTimeoutOption = Annotated[float, typer.Option("--llm-timeout", min=0.1, help="Seconds for a request.")]
LlmPriceOption = Annotated[
    str, typer.Option("--llm-price", help="Dollars a million tokens, read and written: 0.15,0.60; for the report.")
]
LlmBatchOutOption = Annotated[
    Path | None, typer.Option("--llm-batch-out", help="Write the requests to a batch file in place of asking.")
]
LlmBatchInOption = Annotated[Path | None, typer.Option("--llm-batch-in", help="Take answers from a batch file.")]


@command("evaluate")
def evaluate(
    run: Run,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Model or run; may be repeated.", autocompletion=model_names),
    ] = None,
    dataset: DatasetOption = None,
    protocol: Annotated[
        str | None, typer.Option(help="crs protocols lists them.", autocompletion=_protocol_names)
    ] = None,
    split: Annotated[Split, typer.Option(help="Split to measure on.")] = Split.test,
    exclude_mentioned: Annotated[
        bool, typer.Option("--exclude-mentioned", help="Take items of the context out of every ranking.")
    ] = False,
    candidates: Annotated[Path | None, typer.Option(help="File with the ids or titles of the items to rank.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first rows: a quick look, comparable to nothing.")] = None,
    run_name: Annotated[str | None, typer.Option("--run", help="Name of the report.")] = None,
    formats: Annotated[list[Format] | None, typer.Option("--format", help="Further files; may be repeated.")] = None,
    draws: Annotated[int, typer.Option(min=10, help="Bootstrap draws.")] = 1000,
    tasks: Annotated[
        list[Task] | None,
        typer.Option("--task", help="rank and respond by default; dialogue-management for models that predict acts."),
    ] = None,
    acts: ActsOption = None,
    decoding: Annotated[
        str,
        typer.Option(
            help="How replies are made: greedy, beam, diverse-beam, top-k, nucleus or beam-sampling, with settings "
            "as in top-k:k=25."
        ),
    ] = "greedy",
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Also reply with the real response's decision whether to recommend.")
    ] = False,
    analyse: Annotated[
        list[Analysis] | None, typer.Option(help="Further tables and pictures; may be repeated.")
    ] = None,
    llm_base_url: LlmUrlOption = None,
    llm_model: LlmModelOption = None,
    llm_key_file: LlmKeyOption = None,
    llm_concurrency: LlmConcurrencyOption = 8,
    llm_timeout: LlmTimeoutOption = 60.0,
    llm_price: LlmPriceOption = "0,0",
    llm_batch_out: LlmBatchOutOption = None,
    llm_batch_in: LlmBatchInOption = None,
    simulate: Annotated[
        int | None, typer.Option(min=1, help="Let so many simulated seekers talk to the models, in place of all else.")
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Exchanges of a simulated dialogue, at most.")] = 5,
    shown: Annotated[int, typer.Option(min=1, help="Items of a recommendation in it.")] = 3,
    mode: Annotated[
        SeekerMode,
        typer.Option(help="Simulated seekers volunteer wishes and answer, or, as iEvaLM's, only one of both."),
    ] = SeekerMode.free,
    seekers: Annotated[
        Seekers, typer.Option(help="Who plays them: rules, or a language model (--llm-base-url).")
    ] = Seekers.rules,
    leaky: Annotated[
        bool, typer.Option("--leaky", help="Tell the language model the titles, as iEvaLM does; marked in the report.")
    ] = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Measure models beside the trivial baselines: reads models/, writes reports/.

    Examples:

      crs evaluate --model blend

      crs evaluate -m blend --protocol redial-merged-new --exclude-mentioned

      crs evaluate --model blend --model ease --format latex --json

      crs evaluate -m pecrs-tiny --decoding nucleus:p=0.9 --analyse genre

      crs evaluate --model unicrs-tiny --analyse ablation --analyse scarcity

      crs evaluate -m reficr-tiny --task dialogue-management

      crs evaluate -m llm-zeroshot --llm-base-url URL --llm-model NAME

      crs evaluate -m blend --simulate 500
    """
    from crscli.steps._llm import chosen
    from crscli.steps.evaluate import evaluate as step

    names = list(dict.fromkeys(models or []))
    llm = chosen(
        llm_base_url, llm_model, key_file=llm_key_file, concurrency=llm_concurrency, timeout_s=llm_timeout,
        price=llm_price, batch_out=llm_batch_out, batch_in=llm_batch_in,
    )  # fmt: skip
    if simulate is not None:
        how = {"dialogues": simulate, "turns": turns, "shown": shown, "mode": mode.value, "seekers": seekers.value}
        how |= {"leaky": leaky, "split": split.value, "seed": seed}
        asked = {"models": names, "llm": llm, "run": run_name, "device": device, "force": force}
        _simulate(run, run.dataset(dataset, names[0] if names else None), how, asked)
        return
    made = step(
        run.workspace, dataset=run.dataset(dataset, names[0] if names else None), models=names, protocol=protocol,
        split=split.value, exclude_mentioned=exclude_mentioned, candidates=candidates, limit=limit, run=run_name,
        formats=[f.value for f in formats or ()], draws=draws, acts=acts, llm=llm, decoding=decoding, oracle=oracle,
        tasks=[t.value for t in tasks or (Task.rank, Task.respond)], analyse=[a.value for a in analyse or ()],
        device=device, seed=seed, force=force, dry_run=dry_run, offline=run.offline, progress=run.console.progress,
        say=run.console.say,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made.report)
        return
    if made.status == "dry run":
        _show_caption(run.console, made.report)
        run.console.line(f"dry run: would measure {', '.join(['the trivial baselines', *names])}; write {made.path}")
        return
    if made.status == "requests written":
        run.console.line(f"requests written: {made.path}; answer them, then give the answers with --llm-batch-in FILE")
        return
    _show_report(run.console, made.report)
    run.console.say(f"{made.status}: {made.path}")


def _simulate(run: Run, dataset: str, how: dict[str, Any], asked: dict[str, Any]) -> None:
    """Simulated dialogues, and their table."""
    from crscli.report import simulation_table
    from crscli.steps._simulating import Simulating, simulate

    made = simulate(
        run.workspace, dataset=dataset, how=Simulating(**how), offline=run.offline, progress=run.console.progress,
        say=run.console.say, **asked,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made)
        return
    told = f"{made['dialogues']:,} dialogues of {made['dataset']} ({made['split']}), {made['shown']} items each time"
    run.console.line(f"{told}, seekers: {made['seekers']}, {made['mode']}{', LEAKY' if made['leaky'] else ''}")
    run.console.table(*simulation_table(made))


@command("demo")
def demo(run: Run, force: ForceOption = False) -> None:
    """Run every step on the bundled sample data; no network, no GPU, about three minutes.

    Works in a folder of its own inside the workspace (.demo).
    """
    from crscli.steps.demo import demo as step

    own = Workspace(run.workspace.root / ".demo")
    made = step(own, force=force, progress=run.console.progress, say=run.console.say)
    if run.console.as_json:
        plain = {"report": made.evaluated.report, "conversations": made.conversations}
        run.console.document(plain)
        return
    _show_report(run.console, made.evaluated.report, short=True)
    run.console.line()
    for model, said in made.conversations.items():
        whose = "" if model == "blend" else ", in its own words, which it has from 360 dialogues and from nothing else"
        run.console.line(f"{model}{whose}:")
        for seeker, reply in said:
            run.console.line(f"seeker       {seeker}")
            run.console.line(f"recommender  {reply}")
        run.console.line()
    run.console.line("Next:")
    for text in made.next_commands:
        run.console.line(f"  {text}")
    asks = run.console.is_interactive and not run.console.quiet
    if asks and typer.confirm("\nTalk to blend about these films now?", default=True):
        from crscli.cli.conversation import talk_about_the_sample

        talk_about_the_sample(run, own)


def _show_caption(console: Console, report: dict[str, Any]) -> None:
    from crscli.report import caption

    for line in caption(report):
        console.line(line)


def _show_report(console: Console, report: dict[str, Any], *, short: bool = False) -> None:
    """The tables of a report."""
    from crscli import report as reports

    _show_caption(console, report)
    console.line()
    tables = [(*reports.main_table(report), [reports.distinct_items(report)])] if report["models"] else []
    if spoken := reports.text_table(report):
        tables.append((*spoken, [] if short else reports.text_notes(report)))
    if managed := reports.management_table(report):
        tables.append((*managed, reports.management_notes(report)))
    for line in reports.llm_notes(report):
        console.line(line)
    if not short:
        tables += [(*reports.subset_table(report), []), (*reports.published_table(report), [])]
        compared = reports.comparison_table(report)
        tables += [(*compared, [])] if console.verbose or len(report["models"]) <= 5 else []
    for columns, rows, notes in tables:
        if rows:
            console.table(columns, rows)
            for line in notes:
                console.line(line)
            console.line()
    for name, found in report.get("analyses", {}).items():
        console.line(f"{name}: {found['summary']}; {found['picture']}")
        console.table(found["columns"], found["rows"])
        console.line()
