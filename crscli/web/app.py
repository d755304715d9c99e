"""The routes of the service: OpenAI's chat, recommendations, opinions, sessions, and the page."""

import copy
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Literal

from fastapi import FastAPI, Path, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import crscli
from crscli.dialogue import Turn
from crscli.errors import CrsError
from crscli.session import Host, Memory
from crscli.web import contract
from crscli.web.access import Settings
from crscli.web.batching import Batched
from crscli.web.contract import Refused
from crscli.web.conversations import Conversations, Said, cards
from crscli.web.guard import OPEN_PATHS, OWNER, Guard, refusal_headers
from crscli.web.metrics import Metrics
from crscli.web.store import Store

_LOG = logging.getLogger(__name__)
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}
_JSON = "application/json"
_ROUTES: tuple[tuple[str, str, str, type[BaseModel] | None, str], ...] = (
    ("POST", "/v1/chat/completions", "chat_completions", contract.Completion, "text/event-stream"),
    ("POST", "/v1/recommendations", "recommendations", contract.Recommendations, _JSON),
    ("POST", "/v1/opinions", "opinions", contract.Marked, _JSON),
    ("GET", "/v1/sessions/{session_id}", "read_session", contract.SessionBody, _JSON),
    ("DELETE", "/v1/sessions/{session_id}", "delete_session", contract.Deleted, _JSON),
    ("GET", "/v1/models", "models", contract.Models, _JSON),
    ("GET", "/health", "health", contract.Health, _JSON),
    ("GET", "/metrics", "metrics", None, "text/plain"),
)
"""Method, path, name, what is returned, and a form that it may have."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": contract.ErrorBody} for status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503)
}


def make_app(host: Host, store: Store, settings: Settings) -> FastAPI:
    """The application.

    Args:
        host: whom one talks to; its model is asked by one thread at a time, and in batches.
        store: keeps conversations; closed when the application ends.
        settings: who may ask, and how much.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(
        title="crs", version=crscli.__version__, summary="Conversational recommendation.", docs_url=None,
        redoc_url=None, redirect_slashes=False, lifespan=lifespan,
    )  # fmt: skip
    metrics = Metrics([*_PAGE, *(path for _, path, *_ in _ROUTES), "/openapi.json"])
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    routes = _Routes(host, store, settings, metrics)
    bearer = [Security(HTTPBearer(auto_error=False))] if settings.tokens else []
    for method, path, name, returned, kind in _ROUTES:
        app.add_api_route(
            path, getattr(routes, name), methods=[method], operation_id=name, response_model=returned,
            responses={**_ERRORS, 200: {"content": {kind: {}}}}, dependencies=[] if path in OPEN_PATHS else bearer,
            response_class=JSONResponse if returned else PlainTextResponse,
        )  # fmt: skip
    for path, (file, media_type) in _PAGE.items():
        _add_file(app, path, files("crscli.web").joinpath("page", file).read_bytes(), media_type)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_exception_handler(CrsError, _failed)
    return app


def _add_file(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    async def file(_: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    app.add_route(path, file, include_in_schema=False)


class _Routes:
    """What each route does. They are plain functions, so that each request has a thread of its own."""

    def __init__(self, host: Host, store: Store, settings: Settings, metrics: Metrics) -> None:
        self._host = copy.copy(host)
        if not isinstance(host.recommender, Batched):
            self._host.recommender = Batched(host.recommender)
        self._store, self._settings, self._metrics = store, settings, metrics
        self._conversations = Conversations(self._host, store, settings.turns_at_most)

    def chat_completions(self, body: contract.ChatRequest, request: Request) -> Any:
        """Answer a conversation, given as messages or continued by its id; as OpenAI's route of this name."""
        self._check_model(body.model)
        turns = _turns(body.messages)
        said = self._conversations.say(request.scope[OWNER], turns, body.session_id)
        completion = contract.Completion(
            id=f"chatcmpl-{secrets.token_hex(12)}", created=int(time.time()), model=self._settings.model,
            choices=[contract.Choice(message=contract.AssistantMessage(content=said.reply.text))],
            usage=_usage(turns, said.reply.text), crs=self._crs(said),
        )  # fmt: skip
        if not body.stream:
            return completion
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return StreamingResponse(_streamed(completion, with_usage=with_usage), media_type="text/event-stream")

    def recommendations(self, body: contract.RecommendationsRequest, request: Request) -> contract.Recommendations:
        """The best items for a conversation; it stays as it is."""
        self._check_model(body.model)
        if body.messages is None and body.session_id is None:
            raise Refused(422, "give messages, session_id, or both", "missing", param="messages")
        turns = _turns(body.messages or [])
        found = self._conversations.recommend(request.scope[OWNER], turns, body.session_id, body.limit)
        shown = cards(self._host, found.items, found.reasons, found.memory)
        return contract.Recommendations(
            model=self._settings.model, data=shown, wishes=_wishes(found.memory), relaxed=list(found.relaxed)
        )

    def opinions(self, body: contract.OpinionRequest, request: Request) -> contract.Marked:
        """Take down what the user thinks of an item; what was seen or disliked is not recommended again."""
        self._conversations.mark(request.scope[OWNER], body.session_id, body.item_id, body.opinion)
        return contract.Marked(session_id=body.session_id, item_id=body.item_id, opinion=body.opinion)

    def read_session(self, request: Request, session_id: str = Path(max_length=128)) -> contract.SessionBody:
        """All that is kept of a conversation."""
        memory, kept = self._conversations.read(request.scope[OWNER], session_id)
        turns, known = [], self._host.catalogue
        for turn in memory.turns:
            is_own = turn.role == "recommender"
            shown = [i for i in dict.fromkeys(turn.items) if is_own and i in memory.reasons]
            items, reasons = [known.item(i) for i in shown], [memory.reasons[i] for i in shown]
            role: Literal["user", "assistant"] = "assistant" if is_own else "user"
            shown_items = cards(self._host, items, reasons, memory)
            turns.append(contract.TurnBody(role=role, text=turn.text, items=shown_items))
        return contract.SessionBody(
            id=session_id, created=int(kept.began), expires=int(kept.used + self._store.idle_s), turns=turns,
            opinions=dict(memory.opinions), wishes=_wishes(memory),
        )  # fmt: skip

    def delete_session(self, request: Request, session_id: str = Path(max_length=128)) -> contract.Deleted:
        """Forget a conversation."""
        self._conversations.forget(request.scope[OWNER], session_id)
        return contract.Deleted(id=session_id)

    def models(self) -> contract.Models:
        """The model that answers."""
        return contract.Models(data=[contract.ModelBody(id=self._settings.model)])

    def health(self) -> contract.Health:
        """That the service answers."""
        return contract.Health()

    def metrics(self) -> Response:
        """Counts for Prometheus."""
        batched: Any = self._host.recommender
        text = self._metrics.text(
            {"crs_sessions": ("Conversations that are kept.", len(self._store))},
            {
                "crs_batches_total": ("Batches that were ranked.", batched.batches),
                "crs_ranked_total": ("Contexts that were ranked.", batched.rows),
            },
        )
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    def _check_model(self, name: str | None) -> None:
        if name is not None and name not in (self._settings.model, "crs"):
            here = f"this service has the model {self._settings.model}"
            raise Refused(404, here, "model_not_found", param="model")

    def _crs(self, said: Said) -> contract.Crs:
        reply = said.reply
        return contract.Crs(
            session_id=said.session_id, act=reply.act, items=cards(self._host, reply.items, reply.reasons, said.memory),
            wishes=_wishes(said.memory), relaxed=list(reply.relaxed), question=reply.question,
        )  # fmt: skip


def _turns(messages: Sequence[contract.Message]) -> list[Turn]:
    """What both sides said; messages of one side in a row are one turn.

    Raises:
        Refused: one of the user's is too long.
    """
    most, said = contract.TEXT_AT_MOST, list[tuple[str, str]]()
    for message in messages:
        text = message.text.strip()
        if message.role not in ("user", "assistant") or (message.role == "assistant" and not text):
            continue
        if said and said[-1][0] == message.role:
            text = f"{said.pop()[1]}\n{text}".strip()
        if message.role == "user" and len(text) > most:
            what = f"a message has {most:,} characters at most; this one has {len(text):,}"
            raise Refused(422, what, "too_long", param="messages")
        said.append((message.role, text))
    return [Turn("seeker", text) if role == "user" else Turn("recommender", text[:most]) for role, text in said]


def _wishes(memory: Memory) -> list[str]:
    return list(dict.fromkeys(limit.words for limit in memory.limits()))


def _usage(turns: Sequence[Turn], text: str) -> contract.Usage:
    read, written = sum(len(turn.text.split()) for turn in turns), len(text.split())
    return contract.Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


async def _streamed(completion: contract.Completion, *, with_usage: bool) -> AsyncIterator[str]:
    """A reply word by word, as server-sent events. It is kept already: who goes away early loses nothing."""
    for chunk in _chunks(completion, with_usage=with_usage):
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _chunks(completion: contract.Completion, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    head = {"id": completion.id, "object": "chat.completion.chunk", "created": completion.created}
    head |= {"model": completion.model}

    def chunk(delta: dict[str, str], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]} | more

    yield chunk({"role": "assistant", "content": ""}, crs={"session_id": completion.crs.session_id})
    words = completion.choices[0].message.content.split(" ")
    for num, word in enumerate(words):
        yield chunk({"content": word if num == 0 else f" {word}"})
    yield chunk({}, "stop", crs=completion.crs.model_dump())
    if with_usage:
        yield head | {"choices": [], "usage": completion.usage.model_dump()}


# ---- errors ---------------------------------------------------------------------------------------------------------


def _answered(refused: Refused) -> JSONResponse:
    return JSONResponse(refused.to_json(), refused.status, headers=refusal_headers(refused))


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _answered(error)


def _malformed(_: Request, error: Exception) -> Response:
    """What does not fit the contract; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid" or tuple(first["loc"]) == ("body",):
        return _answered(Refused(400, "the request is no JSON object", "invalid_json"))
    place = ".".join(str(part) for part in first["loc"][1:])
    return _answered(
        Refused(422, f"{place}: {first['msg']}" if place else first["msg"], "invalid", param=place or None)
    )


def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return _answered(Refused(400, "the request is no JSON object", "invalid_json"))
    words = {404: "there is nothing at this address", 405: "this address does not take that method"}
    what = words.get(error.status_code, "the request cannot be answered")
    answer = _answered(Refused(error.status_code, what, {404: "not_found"}.get(error.status_code, "not_allowed")))
    if error.status_code == 405:
        there = [m for m, path, *_ in _ROUTES if _fits(request.url.path, path)]
        answer.headers["allow"] = ", ".join(there or ["GET", "HEAD"])
    return answer


def _fits(path: str, route: str) -> bool:
    start, is_open, _ = route.partition("{")
    return path.startswith(start) if is_open else path == route


def _failed(_: Request, error: Exception) -> Response:
    """What crs itself says cannot be done now: no space, an endpoint that is away."""
    assert isinstance(error, CrsError)
    _LOG.error("a request was not answered: %s", error.message)
    return _answered(Refused(503, "the service cannot answer now; its log tells why", "unavailable"))
