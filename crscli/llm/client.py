"""Who asks an OpenAI-compatible endpoint: several requests at once, again after a fault, nothing twice.

The door to the network for language models. What comes from the `openai` package, its exceptions too, holds the request
with the key: it is turned into words where it is caught, and raised outside, chained to nothing.
"""

import json
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from crscli.errors import ConfigError, CrsError, SourceError, UsageError
from crscli.llm.answers import body_of, kept, key_of, read_answer, unkept
from crscli.llm.credential import check_address, read_key
from crscli.llm.prompts import Completion, Request
from crscli.metadata.cache import Cache, Reply
from crscli.progress import Progress, silent

MAX_ANSWER = 4_000_000
"""Bytes of an answer; more is no answer."""
_LONGEST_WAIT_S = 60.0
_LATER = "run the same command again: answers that came are kept and are not asked for again"


@dataclass(frozen=True)
class Endpoint:
    """Where a language model is asked, and how.

    Prices are dollars a million tokens, read and written; they are told in reports alone.
    """

    base_url: str
    model: str
    key_file: Path | None = None
    timeout_s: float = 60.0
    retries: int = 5
    concurrency: int = 8
    prompt_price: float = 0.0
    completion_price: float = 0.0

    def __post_init__(self) -> None:
        check_address(self.base_url)
        if not self.model:
            raise UsageError("the language model has no name", "give --llm-model NAME")
        prices = (self.prompt_price, self.completion_price)
        if self.timeout_s <= 0 or self.retries < 0 or self.concurrency < 1 or not all(0 <= p < 1e9 for p in prices):
            raise UsageError(
                "an endpoint's timeout must be above 0, retries and prices at least 0, concurrency at least 1",
                "leave out --llm-timeout, --llm-concurrency and --llm-price for the usual ones",
            )

    def describe(self) -> dict[str, Any]:
        """What decides its answers, and what they cost; never the key."""
        shown = asdict(self)
        return {name: shown[name] for name in ("base_url", "model", "prompt_price", "completion_price")}


@dataclass(frozen=True)
class Usage:
    """What asking took: tokens and cost of what was asked now; a rerun has only `cached` answers and costs nothing."""

    asked: int = 0
    cached: int = 0
    repeated: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    def describe(self) -> dict[str, Any]:
        """As values of a report."""
        return asdict(self)


@dataclass(frozen=True)
class _Fault:
    """Why there is no answer; `again` whether asking again may help, and after how long the endpoint wants it."""

    what: str
    again: bool = True
    kind: type[CrsError] = SourceError
    hint: str = _LATER
    after_s: float | None = None


class Llm:
    """The client of an endpoint; a Completer."""

    def __init__(
        self,
        endpoint: Endpoint,
        cache: Cache,
        *,
        offline: bool = False,
        collect: bool = False,
        progress: Progress = silent,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Say who is asked.

        Args:
            endpoint: where.
            cache: of its answers; used by the thread that made it alone.
            offline: no socket is opened: what is not kept is an error.
            collect: nothing is asked: requests without an answer are gathered in `collected` and answered with nothing.
            progress: told of answers.
            sleep: waits, between tries.

        Raises:
            ConfigError: there is no key, or it may not be sent there.
            UsageError: the package `openai` is not installed.
        """
        self.endpoint, self.usage = endpoint, Usage()
        self.collected: dict[str, Request] = {}
        self._cache, self._offline, self._collects, self._progress = cache, offline, collect, progress
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._limit = "max_tokens"
        self._key = "" if offline or collect else read_key(endpoint.base_url, endpoint.key_file)
        self._client = None if offline or collect else _client(endpoint, self._key)
        self._repeated = 0

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()

    def describe(self) -> dict[str, Any]:
        """The endpoint."""
        return self.endpoint.describe()

    def complete(self, asked: Sequence[Request]) -> list[Completion]:
        """An answer for each request, in their order; equal ones are asked once, kept ones not at all.

        Raises:
            SourceError: the endpoint gave no usable answer, again and again.
            ConfigError: the key was refused.
            UsageError: the model is unknown, or a request is not as the endpoint wants it.
            KeyboardInterrupt: Ctrl-C; what came is kept.
        """
        keys = [key_of(request, self.endpoint.model, self.endpoint.base_url) for request in asked]
        wanted = dict(zip(keys, asked, strict=True))
        found = {key: unkept(reply.body) for key in wanted if (reply := self._cache.get(key)) is not None}
        tokens = sum(c.prompt_tokens + c.completion_tokens for c in found.values())
        self._count(cached=len(found), cached_tokens=tokens)
        missing = {key: request for key, request in wanted.items() if key not in found}
        if missing and self._collects:
            self.collected |= missing
            found |= dict.fromkeys(missing, Completion(""))
        elif missing and self._offline:
            raise SourceError(
                f"offline, and {len(missing):,} of {len(wanted):,} requests were never answered", "run it online once"
            )
        else:
            found |= self._ask(missing)
        return [found[key] for key in keys]

    # ---- asking -----------------------------------------------------------------------------------------------

    def _ask(self, missing: dict[str, Request]) -> dict[str, Completion]:
        """Ask in threads; keep each answer as it comes. The first request that fails for good stops the others."""
        found: dict[str, Completion] = {}
        failed: _Fault | None = None
        started = time.monotonic()
        self._stop.clear()
        try:
            for key, result in self._results(missing):
                if isinstance(result, _Fault):
                    failed = failed or result
                    continue
                self._cache.put(key, Reply(200, kept(result)))
                found[key] = result
                self._progress(f"asking {self.endpoint.model}", len(found), len(missing))
        finally:
            self._stop.set()
            read = sum(c.prompt_tokens for c in found.values())
            written = sum(c.completion_tokens for c in found.values())
            self._count(
                asked=len(found), repeated=self._repeated, prompt_tokens=read, completion_tokens=written,
                seconds=time.monotonic() - started,
                cost=(read * self.endpoint.prompt_price + written * self.endpoint.completion_price) / 1e6,
            )  # fmt: skip
            self._repeated = 0
        if failed is not None:
            kept_now = f"; {len(found):,} of {len(missing):,} answers came and are kept"
            raise failed.kind(f"{failed.what}{kept_now}", failed.hint)
        return found

    def _results(self, missing: dict[str, Request]) -> Iterator[tuple[str, Completion | _Fault]]:
        """(key, answer or fault) as they come; threads that are stopped end after the request they are at."""
        todo: queue.SimpleQueue[tuple[str, Request]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[str, Completion | _Fault] | None] = queue.SimpleQueue()
        for pair in missing.items():
            todo.put(pair)

        def work() -> None:
            try:
                while not self._stop.is_set():
                    key, request = todo.get_nowait()
                    result = self._answered(request)
                    if isinstance(result, _Fault):
                        self._stop.set()
                    done.put((key, result))
            except queue.Empty:
                pass
            finally:
                done.put(None)

        threads = min(self.endpoint.concurrency, len(missing))
        for _ in range(threads):
            # Daemons: Ctrl-C ends the process without waiting for a server that hangs.
            threading.Thread(target=work, daemon=True).start()
        while threads:
            result = done.get()
            if result is None:
                threads -= 1
            else:
                yield result

    def _answered(self, request: Request) -> Completion | _Fault:
        """Ask for one answer, again after faults that may pass."""
        attempt = 0
        while True:
            result = self._asked_once(request)
            if isinstance(result, Completion) or not result.again or self._stop.is_set():
                return result
            if attempt == self.endpoint.retries:
                return replace(result, what=f"{result.what} ({attempt + 1} tries)")
            # Jitter: requests that failed together are not asked again together.
            usual = 0.5 * 2**attempt * random.uniform(0.5, 1.5)
            self._sleep(min(_LONGEST_WAIT_S, usual if result.after_s is None else result.after_s))
            attempt += 1
            self._repeated += 1

    def _asked_once(self, request: Request) -> Completion | _Fault:
        """One try."""
        openai = _openai()
        assert self._client is not None, "it is online"
        try:
            body = body_of(request, self.endpoint.model, limit=self._limit)
            with self._client.chat.completions.with_streaming_response.create(**body) as response:
                raw = self._body(response)
        except openai.APIStatusError as error:
            return self._refused(error.status_code, error.response.headers, _said(error.body))
        except openai.APITimeoutError:
            return _Fault(f"{self.endpoint.base_url} gave no answer within {self.endpoint.timeout_s:g} s")
        except openai.APIConnectionError:
            return _Fault(f"{self.endpoint.base_url} cannot be reached")
        except openai.OpenAIError as error:
            return _Fault(f"{self.endpoint.base_url}: {type(error).__name__}")
        except _Unusable as error:
            return _Fault(f"{self.endpoint.base_url} {error}")
        except Exception as error:  # the transport's own, where the body breaks off
            return _Fault(f"{self.endpoint.base_url} broke off its answer ({type(error).__name__})")
        try:
            return read_answer(json.loads(raw))
        except (ValueError, RecursionError) as error:
            what = str(error) if str(error).startswith("an answer") else "an answer that is not JSON, or not all of it"
            return _Fault(f"{self.endpoint.base_url} gave {what}")

    def _body(self, response: Any) -> bytes:
        """The bytes of an answer, no more than there may be and no longer than it may take."""
        parts, size, until = [], 0, time.monotonic() + self.endpoint.timeout_s
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER:
                raise _Unusable(f"gave an answer of more than {MAX_ANSWER // 1_000_000} MB")
            if time.monotonic() > until:
                raise _Unusable(f"had not ended its answer after {self.endpoint.timeout_s:g} s")
        return b"".join(parts)

    def _refused(self, status: int, headers: Any, said: str) -> _Fault:
        """What an HTTP status that is no success means."""
        place = self.endpoint.base_url
        said = said.replace(self._key, "***") if self._key else said
        told = f": {said}" if said else ""
        if status in (401, 403):
            how = "check the key: CRS_LLM_KEY, OPENAI_API_KEY or --llm-key-file"
            return _Fault(f"{place} refused the key (status {status})", False, ConfigError, how)
        if status == 404:
            how = "check --llm-base-url, which mostly ends in /v1, and --llm-model"
            return _Fault(f"{place} knows no model {self.endpoint.model!r} (status 404){told}", False, UsageError, how)
        if status == 400 and "max_completion_tokens" in said and self._limit == "max_tokens":
            self._limit = "max_completion_tokens"  # newer models know the old name no more
            return _Fault(f"{place} refused a request (status 400){told}", after_s=0.0)
        if status in (408, 409, 425, 429) or status >= 500:
            return _Fault(f"{place} answered with status {status}{told}", after_s=_retry_after(headers))
        if 300 <= status < 400:
            how = "give the address that it leads to; a key is sent nowhere else"
            return _Fault(f"{place} leads to another address (status {status})", False, SourceError, how)
        how = "shorten what is asked (context_characters, candidates), or take another model"
        return _Fault(f"{place} refused a request (status {status}){told}", False, UsageError, how)

    def _count(self, **more: float) -> None:
        before = asdict(self.usage)
        self.usage = Usage(**{name: before[name] + more.get(name, 0) for name in before})


class _Unusable(Exception):
    """An answer that is too large or too slow."""


def _retry_after(headers: Any) -> float | None:
    """Seconds that the endpoint wants to be left alone; a date is not read."""
    try:
        seconds = float(headers.get("retry-after"))
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _said(body: Any) -> str:
    """The message of an error's body, in one short line; what is no such form says nothing."""
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else inner
    text = message if isinstance(message, str) else ""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def _openai() -> ModuleType:
    """The one door to the package."""
    try:
        import openai
    except ImportError:
        raise UsageError("a language model is asked with the extra: pip install 'crscli[llm]'") from None
    return openai


def _client(endpoint: Endpoint, key: str) -> Any:
    openai = _openai()
    return openai.OpenAI(
        api_key=key,
        base_url=endpoint.base_url,
        timeout=endpoint.timeout_s,
        max_retries=0,  # its own count neither what is kept nor Ctrl-C
        http_client=openai.DefaultHttpxClient(follow_redirects=False, timeout=endpoint.timeout_s),
    )
