"""Who may ask, how often and how much: tokens, rates and limits of a service."""

import hashlib
import hmac
import ipaddress
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from crscli.errors import ConfigError, UsageError
from crscli.keyfile import read_secret

ENVIRONMENT_TOKEN = "CRS_SERVE_TOKEN"
_HOW = "give --token-file FILE (a token on a line, mode 600)"
_LEAST_LETTERS = 16
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CLIENTS_AT_MOST = 10_000
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names under which a browser on this machine may ask; a name that others can point here is none of them."""


class Tokens:
    """Those who may ask, by their tokens; with none, everybody is one and the same."""

    def __init__(self, tokens: Sequence[str] = ()) -> None:
        self._owners = {hashlib.sha256(token.encode()).digest(): _owner(token) for token in tokens}

    def __bool__(self) -> bool:
        return bool(self._owners)

    def owner(self, authorisation: str) -> str | None:
        """Whose token an Authorization header holds, None if nobody's; takes as long for each."""
        if not self._owners:
            return ""
        scheme, _, token = authorisation.partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        found = [owner for known, owner in self._owners.items() if hmac.compare_digest(known, given)]
        return found[0] if found and scheme.lower() == "bearer" else None


def _owner(token: str) -> str:
    return hashlib.sha256(b"owner " + token.encode()).hexdigest()[:32]


def read_tokens(token_file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The tokens of a file, else that of the environment; none where there is neither.

    Raises:
        ConfigError: one is no token, the file holds none, or others may read it.
    """
    if token_file is None:
        given = environment.get(ENVIRONMENT_TOKEN, "").strip()
        return _checked([given], ENVIRONMENT_TOKEN) if given else ()
    lines = map(str.strip, read_secret(token_file, _HOW).splitlines())
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise ConfigError(f"{token_file} holds no token", _HOW)
    return _checked(tokens, str(token_file))


def _checked(tokens: Sequence[str], place: str) -> tuple[str, ...]:
    if any(len(token) < _LEAST_LETTERS or not _TOKEN.fullmatch(token) for token in tokens):
        hint = "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        raise ConfigError(f"{place}: a token has {_LEAST_LETTERS} characters at least, and no blanks", hint)
    return tuple(tokens)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    Raises:
        UsageError: it is no address.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise UsageError(f"{host!r} is no address", "give --host 127.0.0.1, or another IP address") from None


class Buckets:
    """A token bucket for each client: so many requests at once, and so many a minute in the long run."""

    def __init__(self, per_minute: float, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._now = per_minute / 60.0, float(burst), now
        self._left: dict[str, tuple[float, float]] = {}
        self._door = Lock()

    def wait(self, client: str) -> float:
        """Take one request of a client; 0 if it may be answered, else the seconds after which one may."""
        with self._door:
            now = self._now()
            if client not in self._left and len(self._left) >= _CLIENTS_AT_MOST:
                self._drop_full(now)
            left, then = self._left.get(client, (self._burst, now))
            left = min(self._burst, left + (now - then) * self._per_second)
            self._left[client] = (left - 1.0 if left >= 1.0 else left, now)
            return 0.0 if left >= 1.0 else (1.0 - left) / self._per_second

    def _drop_full(self, now: float) -> None:
        """Forget clients that have all they may have; if there are none, those that were here longest ago."""
        full = [c for c, (left, then) in self._left.items() if left + (now - then) * self._per_second >= self._burst]
        oldest = sorted(self._left, key=lambda c: self._left[c][1])[: _CLIENTS_AT_MOST // 10]
        for client in full or oldest:
            del self._left[client]


@dataclass(frozen=True)
class Settings:
    """What holds of one service.

    Args:
        model: the name it goes by.
        tokens: who may ask.
        hosts: names that the Host header may have; None for any.
        body_at_most: bytes of a request.
        body_s: seconds in which it must have come.
        per_minute: requests of a client in the long run.
        burst: requests of a client at once.
        turns_at_most: of a conversation.
    """

    model: str = "crs"
    tokens: Tokens = field(default_factory=Tokens)
    hosts: frozenset[str] | None = LOOPBACK
    body_at_most: int = 64 * 1024
    body_s: float = 10.0
    per_minute: float = 120.0
    burst: int = 60
    turns_at_most: int = 1_000
