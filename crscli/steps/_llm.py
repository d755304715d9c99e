"""The language model behind an endpoint that some models ask: what the user chose, opened for one evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from crscli.errors import UsageError
from crscli.llm.batch import read_batch, write_batch
from crscli.llm.client import Endpoint, Llm
from crscli.metadata.cache import Cache
from crscli.progress import Progress, Say
from crscli.workspace import Workspace


@dataclass(frozen=True)
class LlmChoice:
    """The endpoint, and batch files in place of asking it.

    `batch_out` is where requests without an answer are written instead of being sent; `batch_in` a file of answers.
    """

    endpoint: Endpoint
    batch_out: Path | None = None
    batch_in: Path | None = None

    def describe(self) -> dict[str, Any]:
        """What decides the answers."""
        return self.endpoint.describe()


def endpoint_of(base_url: str | None, model: str | None, **settings: Any) -> Endpoint | None:
    """The endpoint that the options name; None where they name none.

    Raises:
        UsageError: one of them is missing, or is not as it must be.
    """
    if base_url is None and model is None:
        return None
    if base_url is None or model is None:
        missing = "--llm-base-url URL" if base_url is None else "--llm-model NAME"
        raise UsageError("an endpoint needs its address and the name of its model", f"give {missing} too")
    return Endpoint(base_url, model, **settings)


def chosen(
    base_url: str | None, model: str | None, *, price: str, batch_out: Path | None, batch_in: Path | None,
    **settings: Any,
) -> LlmChoice | None:  # fmt: skip
    """What the options say; None where they name no endpoint.

    Raises:
        UsageError: one of them is missing, or is not as it must be.
    """
    try:
        read, written = (float(part) for part in price.split(","))
    except ValueError:
        raise UsageError(f"--llm-price {price!r} is not two numbers", "write --llm-price 0.15,0.60") from None
    endpoint = endpoint_of(base_url, model, prompt_price=read, completion_price=written, **settings)
    return LlmChoice(endpoint, batch_out, batch_in) if endpoint is not None else None


class OpenedLlm:
    """An endpoint with the cache of a dataset, for as long as it is measured."""

    def __init__(
        self, choice: LlmChoice, workspace_: Workspace, dataset: str, offline: bool, progress: Progress, say: Say
    ) -> None:
        self._choice = choice
        self._cache = Cache(workspace_.root / dataset / "raw" / "llm.sqlite")
        if choice.batch_in is not None:
            taken, failed = read_batch(choice.batch_in, self._cache)
            say(f"{choice.batch_in}: {taken:,} answers taken, {failed:,} requests had failed")
        self.llm = Llm(
            choice.endpoint, self._cache, offline=offline, collect=choice.batch_out is not None, progress=progress
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.llm.close()
        self._cache.close()

    @property
    def collects(self) -> bool:
        """Whether requests are written to a file, so that there is nothing to measure yet."""
        return self._choice.batch_out is not None

    def write_batch(self) -> Path:
        """Write the requests that have no answer."""
        assert self._choice.batch_out is not None, "it was asked for"
        write_batch(self._choice.batch_out, self.llm.collected, self._choice.endpoint.model)
        return self._choice.batch_out

    def describe(self) -> dict[str, Any]:
        """What is asked and what it took."""
        return {**self.llm.describe(), **self.llm.usage.describe()}


def refuse_without_llm(names: Sequence[str], classes: Sequence[Any], choice: LlmChoice | None) -> None:
    """Refuse models that ask a language model where none is named, before anything is fitted.

    Raises:
        UsageError: there is one.
    """
    asking = [name for name, model in zip(names, classes, strict=True) if getattr(model, "needs_llm", False)]
    if asking and choice is None:
        raise UsageError(
            f"{asking[0]} asks a language model, and none is named",
            "give --llm-base-url URL and --llm-model NAME, of any OpenAI-compatible endpoint; the key comes from "
            "CRS_LLM_KEY or --llm-key-file",
        )
    if choice is not None and not any(hasattr(model, "use_llm") for model in classes):
        raise UsageError("none of these models asks a language model", "leave out --llm-..., or add -m llm-zeroshot")
