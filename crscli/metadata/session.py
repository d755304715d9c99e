"""How TMDB is asked: the credential, the pace, retries, limits and the cache. The door to the network.

The credential joins a request when it is sent and is in nothing that is kept, logged or raised. For that, errors of
`requests` (they hold the whole address) are turned into words before anything is raised, outside of the `except`
that caught them: no exception is chained to one of them. Knows the address of a film's data, not its meaning.
"""

import email.utils
import ipaddress
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import requests
import urllib3

from crscli.errors import ConfigError, CrsError, SourceError
from crscli.keyfile import read_secret
from crscli.metadata.cache import Cache, Reply

BASE = "https://api.themoviedb.org/3"
ENVIRONMENT_KEY = "TMDB_API_KEY"
ENVIRONMENT_BASE = "CRS_TMDB_URL"
RETRIED = frozenset({408, 429, 500, 502, 503, 504, 520, 522, 524})

_HOW = "a read access token (v4) or key (v3) of themoviedb.org/settings/api, in a file of mode 0600 with --key-file"
_LOG_OF_ADDRESSES = logging.getLogger("urllib3.connectionpool")
_LATER = "run the same command again later: it goes on where it stopped"


class ReplyError(SourceError):
    """One request got no usable answer; another one may."""


class NotCached(SourceError):
    """Offline, and the reply was never fetched."""


class Credential(requests.auth.AuthBase):
    """A TMDB credential; its form tells which: a v4 read token (long, with dots) or a v3 key."""

    def __init__(self, secret: str) -> None:
        """Raises: ConfigError if it can be neither."""
        if not re.fullmatch(r"[A-Za-z0-9._~+/=-]{8,2000}", secret):
            raise ConfigError(
                f"the TMDB credential has {len(secret)} characters, or some that no key has", f"it must be {_HOW}"
            )
        self._secret = secret
        self.version = 4 if secret.count(".") >= 2 and len(secret) > 40 else 3

    def __repr__(self) -> str:
        return f"<TMDB v{self.version} credential>"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Join it to a request that is about to be sent. As an `auth` it also keeps .netrc from replacing it."""
        if self.version == 4:
            request.headers["Authorization"] = f"Bearer {self._secret}"
        else:
            request.prepare_url(request.url, {"api_key": self._secret})
        return request

    def hidden(self, text: str) -> str:
        """A text without it."""
        return text.replace(self._secret, "***").replace(quote(self._secret, safe=""), "***")


def read_credential(key_file: Path | None, environment: Mapping[str, str] = os.environ) -> Credential:
    """The credential of a key file, else of the environment.

    Raises:
        ConfigError: there is none, it has no form of one, or others may read the file.
    """
    if key_file is None:
        secret = environment.get(ENVIRONMENT_KEY, "").strip()
        if not secret:
            raise ConfigError("no TMDB credential", f"give {_HOW}, or set {ENVIRONMENT_KEY}")
        return Credential(secret)
    return Credential(read_secret(key_file, f"give {_HOW}"))


def base_address(environment: Mapping[str, str] = os.environ) -> str:
    """Where TMDB is: its own address, or that of a stand-in from CRS_TMDB_URL.

    Raises:
        ConfigError: it is neither https nor on this machine: the credential would travel in the open.
    """
    given = environment.get(ENVIRONMENT_BASE, BASE).rstrip("/")
    try:
        parts = urlsplit(given)
        host = parts.hostname if parts.port != 0 else None  # a port that is none raises here
    except ValueError:
        parts, host = urlsplit(""), None
    safe = parts.scheme == "https" or (parts.scheme == "http" and _is_here(host or ""))
    if not host or not safe or parts.query or parts.fragment or parts.username:
        raise ConfigError(
            f"{ENVIRONMENT_BASE} is no https address (or http on localhost)", f"such as {BASE}, which is the default"
        )
    return given


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Pace:
    """Keeps requests apart so that at most `rate` a second start."""

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.apart = 1.0 / rate
        self.clock, self.sleep = clock, sleep
        self._next = clock()

    def wait(self) -> None:
        """Return when the next request may start."""
        now = self.clock()
        if self._next > now:
            self.sleep(self._next - now)
        self._next = max(self._next, now) + self.apart


@dataclass(frozen=True)
class Limits:
    """What a reply may take.

    Args:
        connect: seconds until there is a connection.
        read: seconds between two pieces of a reply.
        whole: seconds for all of it.
        size: bytes of its unpacked body.
        attempts: tries in all.
        wait: the longest pause between two, in seconds.
    """

    connect: float = 10.0
    read: float = 20.0
    whole: float = 60.0
    size: int = 16 * 2**20
    attempts: int = 5
    wait: float = 60.0


@dataclass(frozen=True)
class _Fault:
    """Why a try gave nothing: another may help, or (`again` is False) not. Its words may still name the credential."""

    error: CrsError
    again: bool = True
    wait: float | None = None  # seconds the server asked for


class _Hide(logging.Filter):
    """Takes the credential out of what urllib3 logs of addresses."""

    def __init__(self, hidden: Callable[[str], str]) -> None:
        super().__init__()
        self._hidden = hidden

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._hidden(record.getMessage()), ()
        return True


class TmdbSession(requests.Session):
    """The session that tmdbv3api is given: it takes the library's address apart and sends a request of its own.

    `content` is the last reply, as it came; `sent` counts the requests that went out.
    """

    def __init__(
        self,
        cache: Cache,
        credential: Credential | None,
        *,
        base: str = BASE,
        pace: Pace | None = None,
        limits: Limits | None = None,
        is_understood: Callable[[str, dict[str, Any]], bool] = lambda path, body: True,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            cache: of the replies; films that TMDB does not have are kept too, errors never.
            credential: None is offline: what the cache has not raises NotCached.
            base: address before the path.
            pace: of the requests; 20 a second by default.
            limits: of each reply.
            is_understood: whether a body has the form that is expected for a path; others are errors.
        """
        super().__init__()
        self.cache, self.base = cache, base
        self._credential = credential
        self._pace = pace or Pace(20.0)
        self._limits = limits or Limits()
        self._is_understood = is_understood
        self.sent = 0
        self.content: dict[str, Any] = {}
        # A proxy of the environment would get what goes to this machine in plain http.
        self.trust_env = base.startswith("https:")
        self.headers.update({"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "crs"})
        self._log_filter = _Hide(self._hidden)
        _LOG_OF_ADDRESSES.addFilter(self._log_filter)

    def close(self) -> None:
        """Close the connections."""
        super().close()
        _LOG_OF_ADDRESSES.removeFilter(self._log_filter)

    def request(self, method: str | bytes, url: str | bytes, **options: Any) -> requests.Response:  # type: ignore[override]
        """Answer what the library asks: from the cache, else from the network.

        Raises:
            ConfigError: TMDB refuses the credential.
            ReplyError: this request has no usable answer, after all tries.
            SourceError: the service cannot be reached, or asks to come back later.
            NotCached: offline, and the reply is not in the cache.
        """
        parts = urlsplit(str(url))
        path = parts.path.removeprefix("/3")
        query = sorted((k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k != "api_key")
        name = f"{path}?{urlencode(query)}"
        reply = self.cache.get(name)
        if reply is None:
            if self._credential is None:
                raise NotCached(f"offline, and the reply to {name} is not in {self.cache.path}", "run it online once")
            reply = self._fetch(path, query)
            self.cache.put(name, reply)
        self.content = json.loads(reply.body)
        response = requests.Response()
        response.status_code, response._content = reply.status, reply.body
        response.encoding, response.url = "utf-8", f"{self.base}{name}"
        return response

    def _fetch(self, path: str, query: list[tuple[str, str]]) -> Reply:
        attempt = 1
        while not isinstance(found := self._tried(path, query), Reply):
            if not found.again or attempt == self._limits.attempts:
                tries = f" ({attempt} tries)" if attempt > 1 else ""
                message = f"{self.base}{path}: {found.error.message}{tries}"
                raise type(found.error)(self._hidden(message), found.error.hint)
            wait = 2.0 ** (attempt - 1) if found.wait is None else found.wait
            self._pace.sleep(min(max(wait, 0.0), self._limits.wait))
            attempt += 1
        return found

    def _hidden(self, text: str) -> str:
        return self._credential.hidden(text) if self._credential else text

    def _tried(self, path: str, query: list[tuple[str, str]]) -> Reply | _Fault:
        """One request at its time."""
        self._pace.wait()
        self.sent += 1
        return self._try(path, query)

    def _try(self, path: str, query: list[tuple[str, str]]) -> Reply | _Fault:
        """One request. What is caught here ends here: it knows the address with the key."""
        try:
            response = super().request(
                "GET", self.base + path, params=query, auth=self._credential, stream=True, allow_redirects=False,
                timeout=(self._limits.connect, self._limits.read),
            )  # fmt: skip
            try:
                return self._judged(path, response)
            finally:
                response.close()
        except requests.exceptions.SSLError as error:
            hint = "a proxy between? set REQUESTS_CA_BUNDLE to its certificate"
            return _Fault(SourceError(f"no trusted connection: {_reason(error)}", hint), again=False)
        except urllib3.exceptions.DecodeError:
            return _Fault(ReplyError("the reply cannot be unpacked", _LATER))
        except (OSError, urllib3.exceptions.HTTPError) as error:  # those of requests are OSErrors
            return _Fault(SourceError(f"the connection failed: {_reason(error)}", _LATER))

    def _judged(self, path: str, response: requests.Response) -> Reply | _Fault:
        status = response.status_code
        if 300 <= status < 400:
            host = urlsplit(response.headers.get("Location", "")).hostname or "another path"
            message = f"redirected to {host}, which TMDB does not do; the credential was not sent there"
            return _Fault(SourceError(message, f"a proxy that asks to log in? check {ENVIRONMENT_BASE}"), again=False)
        if status in (401, 403):
            message = f"TMDB refuses the {self._credential!r} ({status} {response.reason})"
            return _Fault(ConfigError(message, f"check it: it must be {_HOW}"), again=False)
        if status in RETRIED:
            kind = SourceError if status == 429 else ReplyError
            error = kind(f"the server answered {status} {response.reason}", _LATER)
            return _Fault(error, wait=retry_after(response.headers.get("Retry-After")))
        body = self._body(response)
        if isinstance(body, _Fault):
            return body
        content = _object(body)
        if status == 200 and content is not None and self._is_understood(path, content):
            return Reply(status, body)
        if status == 404 and content is not None and content.get("success") is False and "/search/" not in path:
            return Reply(status, body)  # TMDB's own way to say that it has no such film
        if status != 200:
            again, what = False, f"the server answered {status} {response.reason}"
        else:
            again, what = True, f"the reply has not the form of TMDB's: {body[:60].decode('utf-8', 'replace')!r}"
        return _Fault(ReplyError(what, _LATER), again=again)

    def _body(self, response: requests.Response) -> bytes | _Fault:
        """The unpacked body, as far as the limits allow."""
        deadline = self._pace.clock() + self._limits.whole
        body = bytearray()
        # Not iter_content: it waits for a whole piece, however slowly its bytes come.
        while piece := response.raw.read1(2**16, decode_content=True):
            body += piece
            if len(body) > self._limits.size:
                return _Fault(ReplyError(f"the reply is longer than {self._limits.size:,} bytes", _LATER), again=False)
            if self._pace.clock() > deadline:
                return _Fault(SourceError(f"the reply took more than {self._limits.whole:g} s", _LATER))
        return bytes(body)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _reason(error: BaseException) -> str:
    """The innermost cause: requests and urllib3 wrap it several times."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return str(error) or type(error).__name__


def retry_after(text: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a Retry-After asks for, given as a number or as a date; None if it cannot be read."""
    if text is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now()
