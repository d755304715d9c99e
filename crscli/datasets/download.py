"""Fetches one published file over HTTP: resumed where it was cut, checked before it gets its name.

The file grows as `<name>.part`, with what the server said of it in `<name>.part.json`, and takes its final
name only when its size and sha256 are right. Knows nothing about any data set and never prints.
"""

import email.utils
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from crscli.errors import ChecksumError, MachineError, SourceError

TIMEOUTS = (10.0, 30.0)  # seconds: to connect, between two reads
MAX_REDIRECTS = 5
MAX_WAIT = 60.0  # seconds between two tries
RETRIED = frozenset({408, 429, 500, 502, 503, 504})

_CHUNK = 2**16
_OFFLINE = "or give what you have with --from DIR_OR_ARCHIVE"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """A published file: its address, the name it gets here, and what it must be.

    A `sha256` or `size` (bytes) of None is not known beforehand; the size the server announces still counts.
    """

    url: str
    name: str
    sha256: str | None = None
    size: int | None = None
    max_bytes: int = 2 * 2**30


class _Again(Exception):
    """This try failed in a way that another may mend."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait  # seconds the server asked for


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "make room or mend the rights, then start again: it goes on where it stopped"
        raise MachineError(f"{path}: cannot be written or read: {error.strerror or error}", hint) from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal; MachineError if it cannot be read."""
    with _on_disk(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    item: Download,
    directory: Path,
    *,
    offline: bool = False,
    session: requests.Session | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Bring a published file into a directory, unless it is there already.

    A cut or interrupted transfer goes on where it stopped, in this call or a later one, if the server says
    that the file is still the same; else it starts anew. Where `item.sha256` is None, `sha256_of` of the
    result tells what to record.

    Args:
        item: the file.
        directory: where it goes; made if need be.
        offline: open no connection.
        session: taken for the requests; None for one of its own.
        progress: called with the bytes there and the bytes in all (None if unknown), after each piece.
        attempts: tries in all, for errors that may pass.
        sleep: waits between tries, in seconds.

    Returns:
        The path of the complete and checked file.

    Raises:
        SourceError: offline, the server refuses or fails, or sends something other than the file.
        ChecksumError: the bytes are not the published ones; they are removed.
        MachineError: the disk is full or may not be written; what came so far is kept.
    """
    if Path(item.name).name != item.name or item.name in ("", ".", ".."):
        raise ValueError(f"a download's name must be a plain file name, not {item.name!r}")
    target = directory / item.name
    if _is_complete(target, item):
        return target
    if offline:
        size = "" if item.size is None else f"{item.size:,} bytes"
        what = ", ".join(filter(None, [size, f"sha256 {item.sha256}" if item.sha256 else ""]))
        hint = f"fetch {item.url} elsewhere and put it at {target}{f' ({what})' if what else ''}, {_OFFLINE}"
        raise SourceError(f"offline, and {target} is not there or not the published file", hint)
    with _on_disk(directory):
        directory.mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda done, total: None)
    with ExitStack() as stack:
        used = session or stack.enter_context(requests.Session())
        _Fetch(item, target, used, tell).run(attempts, sleep)
    return target


def _is_complete(path: Path, item: Download) -> bool:
    with _on_disk(path):
        if not path.is_file():
            return False
        size = path.stat().st_size
    if not size or (item.size is not None and size != item.size):
        return False
    return item.sha256 is None or sha256_of(path) == item.sha256.lower()


class _Fetch:
    """One file on its way."""

    def __init__(
        self,
        item: Download,
        target: Path,
        session: requests.Session,
        progress: Callable[[int, int | None], None],
    ) -> None:
        self.item, self.target, self.session, self.progress = item, target, session, progress
        self.part = target.with_name(target.name + ".part")
        self.notes = target.with_name(target.name + ".part.json")

    def run(self, attempts: int, sleep: Callable[[float], None]) -> None:
        for attempt in range(1, attempts + 1):
            try:
                self._try()
                break
            except _Again as error:
                _log.info("%s: try %d of %d: %s", self.item.url, attempt, attempts, error)
                if attempt == attempts:
                    there = self._offset(self._recall())
                    kept = f"; {there:,} bytes are kept" if there else ""
                    raise SourceError(
                        f"{self.item.url}: {error} ({attempts} tries{kept})",
                        f"start again later, fetch it by hand to {self.target}, {_OFFLINE}",
                    ) from error
                wait = 2.0 ** (attempt - 1) if error.wait is None else error.wait
                sleep(min(max(wait, 0.0), MAX_WAIT))
        self._finish()

    # What is known of an earlier try.

    def _recall(self) -> dict[str, str | int | None]:
        """The validator and total of the part on disk; empty if it cannot be continued."""
        try:
            notes = json.loads(self.notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        usable = isinstance(notes, dict) and notes.get("url") == self.item.url
        return notes if usable and isinstance(notes.get("validator"), str) and notes["validator"] else {}

    def _offset(self, notes: dict[str, str | int | None]) -> int:
        with _on_disk(self.part):
            return self.part.stat().st_size if notes and self.part.is_file() else 0

    def _forget(self) -> None:
        with _on_disk(self.part):
            self.part.unlink(missing_ok=True)
            self.notes.unlink(missing_ok=True)

    # One try.

    def _try(self) -> None:
        notes = self._recall()
        offset = self._offset(notes)
        if offset and offset == notes.get("total"):
            return  # it was complete, only its name was not given yet
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": str(notes["validator"])}
        try:
            response = self._open(headers)
            try:
                self._judge(response)
                self._receive(response, offset, notes)
            finally:
                response.close()
        except requests.exceptions.SSLError as error:
            hint = f"a proxy between? set REQUESTS_CA_BUNDLE to its certificate, {_OFFLINE}"
            raise SourceError(f"{self.item.url}: no trusted connection: {error}", hint) from error
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise _Again(f"the connection failed: {_reason(error)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise _Again(f"the transfer was cut: {_reason(error)}") from error
        except requests.RequestException as error:
            raise SourceError(f"{self.item.url}: {error}", self._by_hand()) from error

    def _open(self, headers: dict[str, str]) -> requests.Response:
        """The answer after at most five redirects, each to http or https and never from https to http."""
        url, seen = self.item.url, set[str]()
        while True:
            if urlsplit(url).scheme.lower() not in ("http", "https"):
                raise SourceError(f"{self.item.url}: not an http address: {url}", self._by_hand())
            if url in seen or len(seen) > MAX_REDIRECTS:
                how = "in a circle" if url in seen else f"more than {MAX_REDIRECTS} times"
                raise SourceError(f"{self.item.url}: redirected {how}", self._by_hand())
            seen.add(url)
            response = self.session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUTS)
            if response.status_code not in (301, 302, 303, 307, 308) or "Location" not in response.headers:
                return response
            response.close()
            following = urljoin(url, response.headers["Location"])
            if urlsplit(url).scheme.lower() == "https" and urlsplit(following).scheme.lower() == "http":
                raise SourceError(f"{self.item.url}: redirected from https to http", self._by_hand())
            url = following

    def _judge(self, response: requests.Response) -> None:
        """Let only an answer pass that holds the file, or a part of it."""
        status = response.status_code
        if status in RETRIED:
            raise _Again(f"the server answered {status} {response.reason}", _wait(response.headers.get("Retry-After")))
        if status == 416:
            self._forget()
            raise _Again("the server has no bytes past those kept: starting anew", 0.0)
        if status not in (200, 206):
            raise SourceError(f"{self.item.url}: the server answered {status} {response.reason}", self._by_hand())
        kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml") and not self.item.name.lower().endswith((".html", ".htm")):
            message = f"{self.item.url}: an HTML page came instead of {self.item.name}"
            hint = f"it may ask to log in or to confirm: fetch it in a browser to {self.target}, {_OFFLINE}"
            raise SourceError(message, hint)
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity") and not self.item.name.lower().endswith((".gz", ".tgz", ".bz2", ".zip")):
            message = f"{self.item.url}: the server compresses it ({coding}) although asked not to"
            raise SourceError(message, self._by_hand())

    def _receive(self, response: requests.Response, offset: int, notes: dict[str, str | int | None]) -> None:
        validator = _validator(response)
        total = _length(response.headers.get("Content-Length"))
        if response.status_code == 206:
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            total = _length(found[3]) if found else None
            known = notes.get("total")
            same = found and int(found[1]) == offset and (known is None or total is None or total == known)
            if not offset or not same or (validator and validator != notes.get("validator")):
                self._forget()
                raise _Again("the server sent another part than asked for: starting anew", 0.0)
            validator, total = str(notes["validator"]), known if isinstance(known, int) else total
        else:
            offset = 0  # it ignored the range, or has a newer file: this is the whole of it
        self._check_total(total)
        facts = {"url": self.item.url, "validator": validator, "total": total}
        with _on_disk(self.notes):
            self.notes.write_text(json.dumps(facts), encoding="utf-8")
        done = self._store(response, offset, total)
        if total is not None and done != total:
            raise _Again(f"the transfer was cut at {done:,} of {total:,} bytes")
        with _on_disk(self.notes):
            self.notes.write_text(json.dumps(facts | {"total": done}), encoding="utf-8")

    def _check_total(self, total: int | None) -> None:
        if total is None:
            return
        if total > self.item.max_bytes:
            limit = f"more than the {self.item.max_bytes:,} allowed"
            raise SourceError(f"{self.item.url}: {total:,} bytes announced, {limit}", self._by_hand())
        if self.item.size is not None and total != self.item.size:
            self._forget()
            message = f"{self.item.url}: the server has {total:,} bytes, the published file has {self.item.size:,}"
            raise ChecksumError(message, f"the file may have been replaced; {self._by_hand()}")

    def _store(self, response: requests.Response, offset: int, total: int | None) -> int:
        """Write the body behind the first `offset` bytes; the bytes then there."""
        most = min(n for n in (total, self.item.size, self.item.max_bytes) if n is not None)
        done = offset
        with _on_disk(self.part):
            file = self.part.open("r+b" if offset else "wb", buffering=0)  # closing it then writes nothing more
        with file:
            with _on_disk(self.part):
                file.seek(offset)
            self.progress(done, total)
            # Not iter_content: it would undo a Content-Encoding, and a .gz has to stay one.
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                done += len(chunk)
                if done > most:
                    self._forget()
                    message = f"{self.item.url}: more than the {most:,} bytes expected came"
                    raise SourceError(message, self._by_hand())
                with _on_disk(self.part):
                    left = memoryview(chunk)
                    while left:
                        left = left[file.write(left) :]
                self.progress(done, total)
            with _on_disk(self.part):
                os.fsync(file.fileno())
        return done

    # The end.

    def _finish(self) -> None:
        with _on_disk(self.part):
            size = self.part.stat().st_size
        digest = sha256_of(self.part)
        wanted = self.item.sha256.lower() if self.item.sha256 else None
        if not size or (self.item.size is not None and size != self.item.size) or wanted not in (None, digest):
            self._forget()
            expected = [] if self.item.size is None else [f"{self.item.size:,} bytes"]
            expected += [f"sha256 {wanted}"] if wanted else []
            message = f"{self.item.url}: {size:,} bytes with sha256 {digest} came"
            message += f", expected {', '.join(expected)}" if expected else ", expected a file"
            raise ChecksumError(message, f"removed; start again, and if it stays so {self._by_hand()}")
        with _on_disk(self.target):
            os.replace(self.part, self.target)
            self.notes.unlink(missing_ok=True)
            if os.name == "posix":
                folder = os.open(self.target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        _log.info("%s: %d bytes, sha256 %s", self.target, size, digest)

    def _by_hand(self) -> str:
        return f"fetch it by hand to {self.target}, {_OFFLINE}"


def _reason(error: Exception) -> str:
    """The innermost cause: requests and urllib3 wrap it several times."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return str(error) or type(error).__name__


def _validator(response: requests.Response) -> str:
    """What If-Range may name: a strong ETag, else the date; a weak ETag does not promise equal bytes."""
    etag = response.headers.get("ETag", "").strip()
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "").strip()


def _length(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def _wait(text: str | None) -> float | None:
    """Seconds that a Retry-After asks for, given as a number or as a date."""
    if text is None:
        return None
    if (seconds := _length(text)) is not None:
        return float(seconds)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
