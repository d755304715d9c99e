"""Bodies of requests and answers as the chat-completions form has them. Knows no network and no files."""

import hashlib
import json
from collections.abc import Collection
from typing import Any

from crscli.llm.prompts import Completion, Request


def body_of(request: Request, model: str, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The body of a request, `without` names that the endpoint refuses: newer models limit tokens by another one."""
    body = {
        "model": model,
        "messages": [{"role": m.role, "content": _sound(m.content)} for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if "max_tokens" in without:
        body["max_completion_tokens"] = request.max_tokens
    return {name: value for name, value in body.items() if name not in without}


def key_of(request: Request, model: str, base_url: str) -> str:
    """What an answer is kept under: the same request to the same model at the same place has the same key."""
    plain = json.dumps([base_url, body_of(request, model)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def _sound(text: str) -> str:
    """A text without halves of characters, which no endpoint takes and no file keeps."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read_answer(body: Any) -> Completion:
    """The completion of an answer's body; an answer without text is an empty one.

    Raises:
        ValueError: it has no form of one.
    """
    if not isinstance(body, dict) or not isinstance(body.get("choices"), list) or not body["choices"]:
        raise ValueError("an answer without choices")
    message = body["choices"][0].get("message") if isinstance(body["choices"][0], dict) else None
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
        raise ValueError("an answer whose first choice holds no message")
    usage: Any = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    read, written = (_count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return Completion(_sound(message.get("content") or ""), read, written)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def kept(completion: Completion) -> bytes:
    """A completion as it is kept."""
    return json.dumps(
        [completion.text, completion.prompt_tokens, completion.completion_tokens], ensure_ascii=False
    ).encode()


def unkept(body: bytes) -> Completion | None:
    """The completion that `kept` wrote; None where it wrote something else."""
    try:
        text, read, written = json.loads(body)
    except (ValueError, TypeError):
        return None
    return Completion(text, read, written, is_cached=True) if isinstance(text, str) else None
