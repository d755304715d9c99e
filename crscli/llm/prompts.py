"""What is asked of a language model behind an endpoint, and what it answers. Knows no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """A chat to be continued; `temperature` 0 asks for the likeliest answer, `max_tokens` cuts it."""

    messages: tuple[Message, ...]
    max_tokens: int = 512
    temperature: float = 0.0


@dataclass(frozen=True)
class Completion:
    """An answer; tokens are those that the endpoint counted, 0 where it counts none."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_cached: bool = False


class Completer(Protocol):
    """Whatever answers requests: the client of an endpoint, or a stand-in in a test."""

    def complete(self, asked: Sequence[Request]) -> list[Completion]:
        """An answer for each request, in their order."""
        ...
