"""Replies of a service on disk, so that nothing is asked twice. Knows no service; it never sees a credential."""

import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from crscli.errors import MachineError, WorkspaceLocked

DAY = 86_400.0
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its HTTP status and its body, unpacked."""

    status: int
    body: bytes


class Cache:
    """A SQLite file of replies by request, held by one process. A kill loses none of those that came."""

    def __init__(self, path: Path, *, max_age_days: float | None = None, now: Callable[[], float] = time.time) -> None:
        """Open the file, or make it.

        Args:
            path: of the file; its folder is made if need be.
            max_age_days: replies older than this count as not there; None for no limit.
            now: seconds since 1970.

        Raises:
            MachineError: it cannot be written, or is no such file.
            WorkspaceLocked: another process has it open.
        """
        self.path = path
        self._now = now
        self._oldest = 0.0 if max_age_days is None else now() - max_age_days * DAY
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=0.0, isolation_level=None)
            # The log makes a commit cheap; held alone, it needs no shared memory, which network disks do not have.
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
                self._base.execute(f"PRAGMA {setting}")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS replies (request TEXT PRIMARY KEY, status INTEGER NOT NULL, "
                "fetched_at REAL NOT NULL, body BLOB NOT NULL) WITHOUT ROWID"
            )
            if self._base.execute("PRAGMA user_version").fetchone()[0] not in (0, _FORMAT):
                raise sqlite3.DatabaseError("written by another version of crs")
            self._base.execute(f"PRAGMA user_version = {_FORMAT}")

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def __len__(self) -> int:
        with self._errors():
            return int(self._base.execute("SELECT count(*) FROM replies").fetchone()[0])

    def get(self, request: str) -> Reply | None:
        """The reply to a request, None if there is none that is new enough."""
        with self._errors():
            row = self._base.execute(
                "SELECT status, body FROM replies WHERE request = ? AND fetched_at >= ?", (request, self._oldest)
            ).fetchone()
            return None if row is None else Reply(row[0], zlib.decompress(row[1]))

    def put(self, request: str, reply: Reply) -> None:
        """Keep a reply; it is on disk when this returns."""
        with self._errors():
            self._base.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)",
                (request, reply.status, self._now(), zlib.compress(reply.body)),
            )

    def older_than(self, days: float) -> int:
        """How many replies are older."""
        with self._errors():
            oldest = self._now() - days * DAY
            return int(self._base.execute("SELECT count(*) FROM replies WHERE fetched_at < ?", (oldest,)).fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, zlib.error, OSError) as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
                raise WorkspaceLocked(
                    f"another process is fetching into {self.path}", "wait for it to end, then run this again"
                ) from None
            raise MachineError(
                f"the cache {self.path} cannot be used: {error}",
                "free space or mend its rights; if it is damaged delete it: its replies are fetched again",
            ) from None
