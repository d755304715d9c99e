"""Batch files: requests in the form that endpoints take to answer later, and the answers of such a file.

One JSON object a line: `custom_id`, `method`, `url` and `body` of a request; `custom_id` and `response` of an answer.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from crscli.errors import DataError, UsageError
from crscli.llm.answers import body_of, kept, read_answer
from crscli.llm.prompts import Request
from crscli.metadata.cache import Cache, Reply


def write_batch(path: Path, collected: Mapping[str, Request], model: str) -> None:
    """Write requests by their keys, which become their `custom_id`.

    Raises:
        UsageError: the file cannot be written.
    """
    lines = [
        json.dumps(
            {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body_of(request, model)},
            ensure_ascii=False,
        )
        for key, request in collected.items()
    ]
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "name another file") from None


def read_batch(path: Path, cache: Cache) -> tuple[int, int]:
    """Keep the answers of a batch file; how many were kept, and how many requests had failed.

    Raises:
        DataError: a line is no answer of a batch; what came before it is kept.
    """
    taken = failed = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                key, body = _entry(line, path, number)
                if body is None:
                    failed += 1
                    continue
                try:
                    cache.put(key, Reply(200, kept(read_answer(body))))
                except ValueError as error:
                    raise DataError(str(error), path=path, line=number) from None
                taken += 1
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"cannot be read: {what}", "give the file of answers with --llm-batch-in", path=path) from None
    return taken, failed


def _entry(line: str, path: Path, number: int) -> tuple[str, object]:
    """(key, body of the answer, or None where the request failed)."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError("not JSON", "give the whole file as the endpoint wrote it", path=path, line=number) from None
    key = row.get("custom_id") if isinstance(row, dict) else None
    if not isinstance(key, str) or not ("response" in row or "error" in row):
        raise DataError("no answer of a batch: custom_id and response are missing", path=path, line=number)
    response = row.get("response")
    if not isinstance(response, dict) or response.get("status_code", 200) != 200:
        return key, None
    return key, response.get("body")
