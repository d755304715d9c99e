"""Who asks an OpenAI-compatible endpoint: several requests at once, again after a fault, nothing twice.

The door to the network for language models. What comes from the `openai` package, its exceptions too, holds the request
with the key: it is turned into words where it is caught, and raised outside, chained to nothing.
"""

import json
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from crscli.errors import SourceError, UsageError
from crscli.llm.answers import body_of, kept, key_of, read_answer, unkept
from crscli.llm.credential import NO_KEY, check_address, read_key
from crscli.llm.faults import Fault, Refused
from crscli.llm.prompts import Completion, Request
from crscli.metadata.cache import Cache, Reply
from crscli.progress import Progress, silent

MAX_ANSWER = 4_000_000
"""Bytes of an answer; more is no answer."""
_LONGEST_WAIT_S = 60.0
_MOST_OF_A_REFUSAL = 65_536
_SENT = {
    "host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length",
    "x-stainless-raw-response",  # by which the package knows its own request again
}  # fmt: skip
"""Headers that go out beside the key; an organisation and others of the environment are not meant for any endpoint."""


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
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))  # the same place has the same answers
        if not self.model or not self.model.isprintable():
            raise UsageError(f"{self.model!r} is no name of a language model", "give --llm-model NAME")
        prices = (self.prompt_price, self.completion_price)
        counts = self.retries >= 0 and 1 <= self.concurrency <= 1000
        if not (counts and 0 < self.timeout_s < 1e6 and all(0 <= p < 1e9 for p in prices)):
            raise UsageError(
                "an endpoint's timeout must be above 0, retries and prices at least 0, concurrency 1 to 1,000",
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


class Llm:
    """The client of an endpoint; a Completer."""

    def __init__(
        self,
        endpoint: Endpoint,
        cache: Cache | None,
        *,
        offline: bool = False,
        collect: bool = False,
        progress: Progress = silent,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Say who is asked.

        Args:
            endpoint: where.
            cache: of its answers, which the thread that opened it alone may use; without one nothing is kept, and any
                threads may ask.
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
        self._sleep = sleep
        self._unknown: frozenset[str] = frozenset()
        self._key = "" if offline or collect else read_key(endpoint.base_url, endpoint.key_file)
        self._client = None if offline or collect else _client(endpoint, self._key)
        self._counting = threading.Lock()

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
        found = {key: known for key in wanted if (known := self._kept(key)) is not None}
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
        failed: Fault | None = None
        done: _Done = queue.SimpleQueue()
        # One for each call: threads that Ctrl-C left behind are not woken by the next.
        stop = threading.Event()
        started = time.monotonic()
        try:
            running = self._start(missing, done, stop)
            while running:
                if (came := done.get()) is None:
                    running -= 1
                elif isinstance(came[1], Exception):
                    raise came[1]
                elif isinstance(came[1], Fault):
                    failed = failed or came[1]
                else:
                    self._keep(found, *came)
                    self._progress(f"asking {self.endpoint.model}", len(found), len(missing))
        finally:
            stop.set()
            while not done.empty():  # after Ctrl-C: what has come meanwhile is kept
                if (came := done.get()) is not None:
                    self._keep(found, *came)
            self._tell(found, time.monotonic() - started)
        if failed is not None:
            kept_now = f"; {len(found):,} of {len(missing):,} answers came and are kept"
            raise failed.kind(f"{failed.what}{kept_now}", failed.hint)
        return found

    def _keep(self, found: dict[str, Completion], key: str, result: "Completion | Fault | Exception") -> None:
        if isinstance(result, Completion):
            if self._cache is not None:
                self._cache.put(key, Reply(200, kept(result)))
            found[key] = result

    def _kept(self, key: str) -> Completion | None:
        reply = self._cache.get(key) if self._cache is not None else None
        return unkept(reply.body) if reply is not None else None

    def _tell(self, found: dict[str, Completion], seconds: float) -> None:
        read = sum(c.prompt_tokens for c in found.values())
        written = sum(c.completion_tokens for c in found.values())
        cost = (read * self.endpoint.prompt_price + written * self.endpoint.completion_price) / 1e6
        self._count(
            asked=len(found), prompt_tokens=read, completion_tokens=written, seconds=seconds, cost=cost,
        )  # fmt: skip

    def _start(self, missing: dict[str, Request], done: "_Done", stop: threading.Event) -> int:
        """Threads that tell (key, answer or fault) as they come, and None at their end; how many there are."""
        todo: queue.SimpleQueue[tuple[str, Request]] = queue.SimpleQueue()
        for pair in missing.items():
            todo.put(pair)

        def work() -> None:
            try:
                while not stop.is_set():
                    key, request = todo.get_nowait()
                    try:
                        result: Completion | Fault | Exception = self._answered(request, stop)
                    except Exception as error:  # a bug of ours, told by the thread that waits
                        result = error
                    if not isinstance(result, Completion):
                        stop.set()
                    done.put((key, result))
            except queue.Empty:
                pass
            finally:
                done.put(None)

        threads = min(self.endpoint.concurrency, len(missing))
        for _ in range(threads):
            # Daemons: Ctrl-C ends the process without waiting for a server that hangs.
            threading.Thread(target=work, daemon=True).start()
        return threads

    def _answered(self, request: Request, stop: threading.Event) -> Completion | Fault:
        """Ask for one answer, again after faults that may pass."""
        attempt = 0
        while True:
            result = self._asked_once(request)
            if isinstance(result, Completion) or not result.again or stop.is_set():
                return result
            if attempt == self.endpoint.retries:
                return replace(result, what=f"{result.what} ({attempt + 1} tries)")
            # Jitter: requests that failed together are not asked again together.
            usual = 0.5 * 2 ** min(attempt, 7) * random.uniform(0.5, 1.5)
            wait = usual if result.after_s is None else result.after_s
            (self._sleep or stop.wait)(min(_LONGEST_WAIT_S, wait))
            if stop.is_set():
                return result
            attempt += 1
            self._count(repeated=1)

    def _asked_once(self, request: Request) -> Completion | Fault:
        """One try. Names that the model does not take are left out, then and later; that is no other try."""
        place = self.endpoint.base_url
        while True:
            body = body_of(request, self.endpoint.model, without=self._unknown)
            sent = self._sent(body)
            if not isinstance(sent, Refused):
                break
            said = sent.said(self._hidden)
            if not (unknown := sent.unknown(body, said)):
                return sent.fault(place, self.endpoint.model, said)
            self._unknown |= unknown
        if isinstance(sent, Fault):
            return sent
        try:
            answer = read_answer(json.loads(sent))
        except (ValueError, RecursionError) as error:
            what = str(error) if str(error).startswith("an answer") else "an answer that is not JSON, or not all of it"
            return Fault(f"{place} gave {what}")
        # An endpoint may say back what it was sent; a word that stands for a key on this machine is left alone.
        return replace(answer, text=self._hidden(answer.text)) if len(self._key) >= 16 else answer

    def _hidden(self, text: str) -> str:
        """A text without the key."""
        return text if self._key in ("", NO_KEY) else text.replace(self._key, "***")

    def _sent(self, body: dict[str, Any]) -> bytes | Refused | Fault:
        """Send a request; what comes of it. What is caught here ends here: it knows the key."""
        openai, place = _openai(), self.endpoint.base_url
        assert self._client is not None, "it is online"
        try:
            with self._client.chat.completions.with_streaming_response.create(**body) as response:
                return self._body(response)
        except _Unusable as error:
            return Fault(f"{place} {error}")
        except Exception as error:
            # Some versions of the package wrap what a hook of the transport raises.
            refused = error if isinstance(error, Refused) else error.__cause__
            if isinstance(refused, Refused):
                return Refused(refused.status, refused.wait, refused.body)
            if isinstance(error, openai.APITimeoutError):
                return Fault(f"{place} gave no answer within {self.endpoint.timeout_s:g} s")
            if isinstance(error, openai.APIConnectionError):
                return Fault(f"{place} cannot be reached")
            return Fault(f"{place} broke off its answer ({type(error).__name__})")

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

    def _count(self, **more: float) -> None:
        with self._counting:
            before = asdict(self.usage)
            self.usage = Usage(**{name: before[name] + more.get(name, 0) for name in before})


class _Unusable(Exception):
    """An answer that is too large or too slow."""


_Done = queue.SimpleQueue[tuple[str, Completion | Fault | Exception] | None]


def _openai() -> ModuleType:
    """The one door to the package."""
    try:
        import openai
    except ImportError:
        raise UsageError("a language model is asked with the extra: pip install 'crscli[llm]'") from None
    return openai


def _client(endpoint: Endpoint, key: str) -> Any:
    openai = _openai()

    def send_only_these(request: Any) -> None:
        for name in set(request.headers) - _SENT:
            del request.headers[name]
        request.headers["authorization"] = f"Bearer {key}"

    def refuse(response: Any) -> None:
        # Before the package does: it would read all of what an endpoint that failed sends, for as long as it does.
        if response.status_code >= 300:
            raise Refused(response.status_code, response.headers.get("retry-after"), some_of(response))

    def some_of(response: Any) -> bytes:
        body, until = b"", time.monotonic() + endpoint.timeout_s
        try:
            for part in response.iter_bytes():
                body += part
                if len(body) > _MOST_OF_A_REFUSAL or time.monotonic() > until:
                    break
        except Exception:  # the status counts, whatever becomes of the words
            return b""
        return body

    return openai.OpenAI(
        api_key=key,
        base_url=endpoint.base_url,
        timeout=endpoint.timeout_s,
        max_retries=0,  # its own count neither what is kept nor Ctrl-C
        http_client=openai.DefaultHttpxClient(
            follow_redirects=False,
            timeout=endpoint.timeout_s,
            # A proxy of the environment would get what goes to this machine in plain http, the key too.
            trust_env=endpoint.base_url.lower().startswith("https:"),
            event_hooks={"request": [send_only_these], "response": [refuse]},
        ),
    )
