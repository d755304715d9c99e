"""Why an endpoint gave no answer, in words, and whether asking again may help. Knows no network."""

import email.utils
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from crscli.errors import ConfigError, CrsError, SourceError, UsageError

_LATER = "run the same command again: answers that came are kept and are not asked for again"


@dataclass(frozen=True)
class Fault:
    """Why there is no answer; `again` whether asking again may help, and after how long the endpoint wants it."""

    what: str
    again: bool = True
    kind: type[CrsError] = SourceError
    hint: str = _LATER
    after_s: float | None = None


class Refused(Exception):
    """An answer whose status is no success; `wait` is its Retry-After, `body` what was read of it."""

    def __init__(self, status: int, wait: str | None, body: bytes) -> None:
        super().__init__(status)
        self.status, self.wait, self.body = status, wait, body

    def said(self, hidden: Callable[[str], str]) -> str:
        """Its message in one short line, without the key; what has no form of one says nothing."""
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            return ""
        inner = body.get("error", body) if isinstance(body, dict) else None
        message = inner.get("message", inner.get("detail")) if isinstance(inner, dict) else inner
        text = message if isinstance(message, str) else ""
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return hidden(line)[:200]  # hidden before it is cut: a part of a key is a secret too

    def unknown(self, body: Mapping[str, Any], said: str) -> set[str]:
        """Names in the body of a request that its model does not take; newer ones refuse names that all had."""
        if self.status != 400:
            return set()
        marks = {"max_tokens": "max_completion_tokens", "temperature": "'temperature'"}
        return {name for name, mark in marks.items() if name in body and mark in said}

    def fault(self, place: str, model: str, said: str) -> Fault:
        """What it means."""
        status, told = self.status, f": {said}" if said else ""
        if status in (401, 403):
            how = "check the key: CRS_LLM_KEY, OPENAI_API_KEY or --llm-key-file"
            return Fault(f"{place} refused the key (status {status})", False, ConfigError, how)
        if status == 404:
            how = "check --llm-base-url, which mostly ends in /v1, and --llm-model"
            return Fault(f"{place} knows no model {model!r} (status 404){told}", False, UsageError, how)
        if status in (408, 409, 425, 429) or status >= 500:
            return Fault(f"{place} answered with status {status}{told}", after_s=_seconds(self.wait))
        if 300 <= status < 400:
            how = "give the address that it leads to; a key is sent nowhere else"
            return Fault(f"{place} leads to another address (status {status})", False, SourceError, how)
        how = "shorten what is asked (context_characters, candidates), or take another model"
        return Fault(f"{place} refused a request (status {status}){told}", False, UsageError, how)


def _seconds(wait: str | None) -> float | None:
    """What a Retry-After asks for, given as a number or as a date; None where it cannot be read."""
    if wait is None:
        return None
    try:
        seconds = float(wait) if wait.strip()[:1].isdigit() else _date(wait) - time.time()
    except ValueError:
        return None
    return max(0.0, seconds)


def _date(text: str) -> float:
    date = email.utils.parsedate_to_datetime(text)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
