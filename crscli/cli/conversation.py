"""The command for talking: chat."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crscli.cli.frame import DatasetOption, DeviceOption, Run, command
from crscli.cli.models import model_names
from crscli.cli.outcomes import LlmKeyOption, LlmModelOption, LlmTimeoutOption, LlmUrlOption
from crscli.workspace import Workspace

TalkerOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model or run that recommends; blend.", autocompletion=model_names),
]
VoiceOption = Annotated[
    str, typer.Option(help="Who finds the words: own (of models that have some), plain, or llm (--llm-base-url).")
]


@command("chat")
def chat(
    run: Run,
    model: TalkerOption = None,
    dataset: DatasetOption = None,
    voice: VoiceOption = "own",
    shown: Annotated[int, typer.Option(min=1, max=10, help="Films in a recommendation.")] = 3,
    profile: Annotated[
        str | None, typer.Option(help="Keep what you like, dislike and have seen under this name, for the next chat.")
    ] = None,
    show_profile: Annotated[bool, typer.Option("--show-profile", help="Print what --profile keeps, and end.")] = False,
    delete_profile: Annotated[bool, typer.Option("--delete-profile", help="Delete it, and end.")] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with a conversation that /save has kept.")] = None,
    llm_base_url: LlmUrlOption = None,
    llm_model: LlmModelOption = None,
    llm_key_file: LlmKeyOption = None,
    llm_timeout: LlmTimeoutOption = 60.0,
    device: DeviceOption = "auto",
) -> None:
    """Talk to a recommender, in the terminal or through a pipe.

    Say what you like and dislike, name films, people, years, a length; ask who is in a film, what it is about, or why
    it was recommended; "more", "seen it", "the second one" are understood. /help lists the commands.

    Examples:

      crs chat

      crs chat --model pecrs-tiny --dataset inspired

      crs chat --profile anna

      echo 'something funny with Tom Hanks' | crs chat --json

      crs chat --voice llm --llm-base-url URL --llm-model NAME
    """
    from crscli.steps._talking import Opener, asked_in_talk, talking
    from crscli.steps.chat import chat as step

    endpoint = asked_in_talk(llm_base_url, llm_model, key_file=llm_key_file, timeout_s=llm_timeout)
    workspace, about = talked_about(run, dataset, model)
    with talking(endpoint, offline=run.offline) as llm:
        opener = Opener(
            workspace, voice, llm, shown, device, run.offline, progress=run.console.progress, say=run.console.say
        )
        made = step(workspace, dataset=about, opener=opener, model=model, profile=profile, resume=resume)
        if show_profile or delete_profile:
            for line in made.keeping.profile("delete" if delete_profile else "show"):
                run.console.line(line)
            return
        _talk(run, workspace, about, made)


def talk_about_the_sample(run: Run, workspace: Workspace) -> None:
    """A chat about the sample in the demo's workspace."""
    from crscli.steps._talking import Opener
    from crscli.steps.chat import chat as step

    opener = Opener(workspace, progress=run.console.progress, say=run.console.say)
    _talk(run, workspace, "sample", step(workspace, dataset="sample", opener=opener))


def _talk(run: Run, workspace: Workspace, about: str, made: Any) -> None:
    from crscli.console.chat import Chat
    from crscli.console.commands import Commands

    def opened() -> Commands:
        return Commands(made.opened(), made.model, made.keeping)

    Chat(run.console, opened, workspace.root / ".chat-history").run(
        f"{made.model} on {about}. What would you like to watch?"
    )


def talked_about(run: Run, dataset: str | None, model: str | None) -> tuple[Workspace, str]:
    """The workspace and the dataset to talk about: an empty workspace gives way to the bundled sample's.

    A choice that was not the user's is said aloud.
    """
    from crscli.steps._sample import sample_workspace

    if dataset is not None:
        return run.workspace, dataset
    workspace = run.workspace
    if not workspace.datasets():
        workspace = sample_workspace(workspace.root, progress=run.console.progress, say=run.console.say)
    name, why = workspace.choose_dataset(model or "blend")
    run.console.say(f"dataset: {name} ({why})")
    return workspace, name
