"""The command for talking from elsewhere: serve."""

from pathlib import Path
from typing import Annotated

import typer

from crscli.cli.conversation import TalkerOption, VoiceOption, talked_about
from crscli.cli.frame import DatasetOption, DeviceOption, Run, command
from crscli.cli.outcomes import LlmKeyOption, LlmModelOption, LlmTimeoutOption, LlmUrlOption
from crscli.errors import UsageError


@command("serve")
def serve(
    run: Run,
    model: TalkerOption = None,
    dataset: DatasetOption = None,
    host: Annotated[str, typer.Option(help="Address to listen at; one that others can reach needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8080,
    token_file: Annotated[
        Path | None, typer.Option(help="Who may ask: a token on a line, mode 600; else CRS_SERVE_TOKEN.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with its own copy of the model.")] = 1,
    voice: VoiceOption = "own",
    llm_base_url: LlmUrlOption = None,
    llm_model: LlmModelOption = None,
    llm_key_file: LlmKeyOption = None,
    llm_timeout: LlmTimeoutOption = 20.0,
    device: DeviceOption = "auto",
) -> None:
    """Serve a recommender to browsers and programs: a page to talk to, and an HTTP interface as OpenAI's.

    The page is at the address that is said. Programs ask /v1/chat/completions, /v1/recommendations, /v1/opinions and
    /v1/sessions; /openapi.json describes them, /metrics counts for Prometheus. Conversations are kept for a day.

    Examples:

      crs serve

      crs serve --model pecrs-tiny --port 9000

      crs serve --host 0.0.0.0 --token-file tokens.txt

      crs serve --voice llm --llm-base-url URL --llm-model NAME
    """
    from crscli.steps._talking import asked_in_talk

    try:
        from crscli.steps.serve import serve as step
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "pydantic", "starlette", "uvicorn"):
            raise
        raise UsageError("crs serve needs the extra: pip install 'crscli[serve]'") from None
    endpoint = asked_in_talk(llm_base_url, llm_model, key_file=llm_key_file, timeout_s=llm_timeout)
    workspace, about = talked_about(run, dataset, model)
    step(
        workspace, dataset=about, model=model, voice=voice, endpoint=endpoint, host=host, port=port,
        token_file=token_file, workers=workers, device=device, offline=run.offline, progress=run.console.progress,
        say=run.console.say,
    )  # fmt: skip
