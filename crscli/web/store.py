"""Conversations in a SQLite file, for as long as they are used. Knows no catalogue, and nothing of HTTP.

A conversation is found by an id that cannot be guessed, and only by who began it. The file holds no id, only its
digest: who reads the file cannot go on with a conversation.
"""

import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from crscli.errors import MachineError

IDLE_S = 86_400.0
MOST = 5_000
_FORMAT = 1
_BUSY_S = 30.0


class Busy(Exception):
    """Others have been waiting for the same conversation for long."""


@dataclass(frozen=True)
class Kept:
    """A conversation as it was written last.

    `version` counts the writes; `began` and `used` are seconds since 1970; `memory` is what `Memory.to_json` gave.
    """

    version: int
    began: float
    used: float
    memory: dict[str, Any]


class _Turnstile:
    """A lock that can be referred to weakly: it goes when nobody is at it."""

    def __init__(self) -> None:
        self.lock = Lock()


class Store:
    """The file. Each write is on disk when it returns, and is whole whenever the process ends."""

    def __init__(
        self, path: Path, *, idle_s: float = IDLE_S, most: int = MOST, now: Callable[[], float] = time.time
    ) -> None:
        """Open the file, or make it.

        Args:
            path: of the file; its folder is made if need be.
            idle_s: a conversation that was not used for so long is gone.
            most: conversations of one owner; beyond them the one that was not used for longest goes.
            now: seconds since 1970.

        Raises:
            MachineError: it cannot be written, or is no such file.
        """
        self.path = path
        self.idle_s, self._most, self._now = idle_s, most, now
        self._door = Lock()
        self._turnstiles: WeakValueDictionary[str, _Turnstile] = WeakValueDictionary()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # conversations are nobody else's to read
            self._base = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
            for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                self._base.execute(f"PRAGMA {setting}")
            if self._base.execute("PRAGMA user_version").fetchone()[0] not in (0, _FORMAT):
                raise sqlite3.DatabaseError("written by another version of crs")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, owner TEXT NOT NULL, said TEXT NOT NULL, "
                "version INTEGER NOT NULL, began REAL NOT NULL, used REAL NOT NULL, memory TEXT NOT NULL)"
            )
            for name, columns in (("by_use", "owner, used"), ("by_text", "owner, said"), ("by_age", "used")):
                self._base.execute(f"CREATE INDEX IF NOT EXISTS {name} ON sessions ({columns})")
            self._base.execute(f"PRAGMA user_version = {_FORMAT}")
            self._drop_idle()

    def close(self) -> None:
        """Let go of the file."""
        with self._door:
            self._base.close()

    def create(self, owner: str, memory: dict[str, Any], said: str = "") -> str:
        """Keep a new conversation; gives its id.

        Args:
            owner: who may find it again.
            memory: plain values.
            said: a digest of what was said in it, to find it by.
        """
        session_id, now = secrets.token_urlsafe(32), self._now()
        with self._door, self._errors():
            self._drop_idle()
            self._base.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, 1, ?, ?, ?)",
                (_digest(session_id), owner, said, now, now, json.dumps(memory)),
            )
            self._base.execute(
                "DELETE FROM sessions WHERE id IN "
                "(SELECT id FROM sessions WHERE owner = ? ORDER BY used DESC, id LIMIT -1 OFFSET ?)",
                (owner, self._most),
            )
        return session_id

    def read(self, owner: str, session_id: str) -> Kept | None:
        """A conversation; None if it is none of this owner's, or is gone."""
        return self._read("id = ?", owner, _digest(session_id))

    def find(self, owner: str, said: str) -> Kept | None:
        """The newest conversation of an owner in which just this was said."""
        return self._read("said = ?", owner, said)

    def _read(self, where: str, owner: str, value: str) -> Kept | None:
        with self._door, self._errors():
            row = self._base.execute(
                f"SELECT version, began, used, memory FROM sessions WHERE {where} AND owner = ? AND used >= ? "
                "ORDER BY used DESC LIMIT 1",
                (value, owner, self._now() - self.idle_s),
            ).fetchone()
        return None if row is None else Kept(row[0], row[1], row[2], json.loads(row[3]))

    def write(self, owner: str, session_id: str, before: Kept, memory: dict[str, Any], said: str = "") -> bool:
        """Keep how a conversation went on; False if it is not as it was read, since somebody else was quicker."""
        with self._door, self._errors():
            done = self._base.execute(
                "UPDATE sessions SET memory = ?, said = ?, used = ?, version = version + 1 "
                "WHERE id = ? AND owner = ? AND version = ?",
                (json.dumps(memory), said, self._now(), _digest(session_id), owner, before.version),
            )
            return done.rowcount == 1

    def delete(self, owner: str, session_id: str) -> bool:
        """Forget a conversation; False if there is none."""
        with self._door, self._errors():
            done = self._base.execute(
                "DELETE FROM sessions WHERE id = ? AND owner = ? AND used >= ?",
                (_digest(session_id), owner, self._now() - self.idle_s),
            )
            return done.rowcount == 1

    def __len__(self) -> int:
        with self._door, self._errors():
            oldest = self._now() - self.idle_s
            return int(self._base.execute("SELECT count(*) FROM sessions WHERE used >= ?", (oldest,)).fetchone()[0])

    @contextmanager
    def held(self, session_id: str, timeout_s: float = _BUSY_S) -> Iterator[None]:
        """Have a conversation for oneself, among the threads of this process.

        Raises:
            Busy: others had it for all of the time.
        """
        with self._door:
            turnstile = self._turnstiles.setdefault(_digest(session_id), _Turnstile())
        if not turnstile.lock.acquire(timeout=timeout_s):
            raise Busy
        try:
            yield
        finally:
            turnstile.lock.release()

    def _drop_idle(self) -> None:
        self._base.execute("DELETE FROM sessions WHERE used < ?", (self._now() - self.idle_s,))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise MachineError(
                f"the conversations in {self.path} cannot be kept: {error}",
                "free space or mend its rights; if the file is damaged delete it: conversations begin anew",
            ) from None


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode("utf-8", "replace")).hexdigest()
