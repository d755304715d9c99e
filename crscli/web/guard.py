"""What stands before every route: who asks, from where, how often and how much; and the headers of every answer.

A page elsewhere in the same browser must not talk to a service on this machine. It could by a name of its own that it
points here, or by a form: so the Host header is checked, and what a browser says of the page that asks.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import MutableMapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crscli.web.access import Buckets, Settings
from crscli.web.contract import Refused
from crscli.web.metrics import Metrics

OWNER = "crs.owner"
"""Where a request's scope tells whose it is."""
OPEN_PATHS = frozenset({"/", "/page.css", "/page.js", "/icon.svg", "/favicon.ico", "/health"})
"""What is answered without a token: nothing in it is anybody's."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_LOG = logging.getLogger(__name__)


class Guard:
    """Around the application. Whatever goes wrong inside is answered in words and told in the log."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self._settings, self._metrics = app, settings, metrics
        self._buckets = Buckets(settings.per_minute, settings.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, answer = time.perf_counter(), _Answer(scope["path"], send)
        try:
            self._admit(scope, Headers(scope=scope))
            await self.app(scope, await self._read(scope, receive), answer.send)
        except Refused as refused:
            await answer.refuse(refused)
        except Exception:
            _LOG.exception("a request failed")
            await answer.refuse(Refused(500, "the service has failed; its log tells how", "internal_error"))
        finally:
            self._metrics.count(scope["method"], scope["path"], answer.status, time.perf_counter() - began)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        """Raise Refused where a request is from the wrong place, nobody's, or one too many."""
        hosts, host = self._settings.hosts, headers.get("host", "")
        if hosts is not None and _name(host) not in hosts:
            raise Refused(400, "this service does not go by that name; ask for 127.0.0.1 or localhost", "wrong_host")
        if scope["path"] in OPEN_PATHS:
            return
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") == "cross-site" or (origin is not None and not _is_same(origin, host)):
            raise Refused(403, "pages of other sites may not ask", "cross_origin")
        owner = self._settings.tokens.owner(headers.get("authorization", ""))
        address = scope["client"][0] if scope.get("client") else ""
        wait_s = self._buckets.wait(f"{address} {owner}")
        if wait_s:
            raise Refused(429, f"too many requests; ask again in {math.ceil(wait_s)} s", "rate_limit", wait_s=wait_s)
        if owner is None:
            raise Refused(401, "a token is needed: Authorization: Bearer TOKEN", "invalid_token")
        scope[OWNER] = owner

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """The body, read as far as it may be, as the application reads it."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return receive
        headers, most = Headers(scope=scope), self._settings.body_at_most
        too_large = Refused(413, f"a request has {most // 1024} KB at most", "too_large")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:12]) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the request ended early", "cut_off")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Refused(408, "the request did not come in time", "timeout") from None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            raise Refused(415, "requests are JSON: Content-Type: application/json", "not_json")
        return _replayed(bytes(body), receive)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be read again."""
    is_read = False

    async def again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower().rstrip(".")


def _is_same(origin: str, host: str) -> bool:
    """Whether an Origin header names the place that was asked."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


class _Answer:
    """An answer on its way out: what every one carries, and what is remembered of it."""

    def __init__(self, path: str, send: Send) -> None:
        self.status = 0
        self._send = send
        is_page = path in OPEN_PATHS and path != "/health"
        self._headers = HEADERS | {"Cache-Control": "no-cache" if is_page else "no-store"}

    async def send(self, message: MutableMapping[str, object]) -> None:
        """Pass a message on, the first one with the headers."""
        if message["type"] == "http.response.start":
            self.status = int(str(message["status"]))
            headers = MutableHeaders(raw=message.setdefault("headers", []))  # type: ignore[arg-type]
            for name, value in self._headers.items():
                headers[name] = value
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Answer in words, where the answer has not begun."""
        if self.status:
            return  # the server cuts the connection: half an answer must not look like a whole one
        body = json.dumps(refused.to_json()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in refusal_headers(refused).items()]
        await self.send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def refusal_headers(refused: Refused) -> dict[str, str]:
    """The headers that go with a refusal."""
    found = {"retry-after": str(math.ceil(refused.wait_s))} if refused.wait_s else {}
    found |= {"www-authenticate": "Bearer"} if refused.status == 401 else {}
    # What is left of the request is not read.
    return found | ({"connection": "close"} if refused.status in (408, 413) else {})
