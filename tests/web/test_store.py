import json
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from crscli.errors import MachineError
from crscli.web.store import Busy, Store


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "deep" / "sessions.sqlite")
    yield opened
    opened.close()


def test_a_conversation_is_found_by_its_owner_alone(store):
    session_id = store.create("anna", {"turns": [1]})
    assert store.read("anna", session_id).memory == {"turns": [1]}
    for owner, other in (("bert", session_id), ("", session_id), ("anna", session_id[:-1]), ("anna", "' OR 1=1 --")):
        assert store.read(owner, other) is None
        assert not store.delete(owner, other)
    assert not store.write("bert", session_id, store.read("anna", session_id), {})
    assert store.delete("anna", session_id)
    assert len(store) == 0


def test_ids_cannot_be_guessed_and_are_not_in_the_file(store):
    ids = [store.create("anna", {}) for _ in range(100)]
    assert len(set(ids)) == 100
    assert {len(i) for i in ids} == {43}
    written = b"".join(file.read_bytes() for file in store.path.parent.iterdir())
    assert not [i for i in ids if i.encode() in written]
    assert all(file.stat().st_mode & 0o077 == 0 for file in store.path.parent.iterdir())


def test_of_two_writers_the_second_is_told(store, tmp_path):
    session_id = store.create("", {"said": 0})
    elsewhere = Store(store.path)  # another process, as far as locks go
    mine, theirs = store.read("", session_id), elsewhere.read("", session_id)
    assert elsewhere.write("", session_id, theirs, {"said": 1})
    assert not store.write("", session_id, mine, {"said": 2})
    assert store.read("", session_id).memory == {"said": 1}
    elsewhere.close()


def test_what_was_said_finds_the_newest(tmp_path):
    clock = [0.0]
    store = Store(tmp_path / "s", now=lambda: clock[0])
    for num in range(3):
        clock[0] += 1
        store.create("anna", {"num": num}, "digest")
    assert store.find("anna", "digest").memory == {"num": 2}
    assert store.find("bert", "digest") is None
    store.close()


def test_the_idle_and_the_many_go(tmp_path):
    clock = [0.0]
    store = Store(tmp_path / "s", idle_s=100, most=3, now=lambda: clock[0])
    used = store.create("anna", {})
    others = store.create("bert", {})
    for _ in range(3):
        clock[0] += 10
        assert store.write("anna", used, store.read("anna", used), {})
        store.create("anna", {})
    assert store.read("anna", used) is not None  # the one used last stays
    assert len(store) == 4
    assert store.read("bert", others) is not None  # another owner's are not pushed out
    clock[0] += 100.5
    assert store.read("anna", used) is None
    store.close()
    assert len(Store(tmp_path / "s", idle_s=100, now=lambda: clock[0])) == 0


def test_one_at_a_time_has_a_conversation(store):
    inside = []

    def work(num):
        with store.held("one"):
            inside.append(num)
            assert len(inside) == 1
            time.sleep(0.002)
            inside.pop()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(24)))
    with store.held("one"), store.held("another"), ThreadPoolExecutor(1) as threads, pytest.raises(Busy):
        threads.submit(lambda: store.held("one", timeout_s=0.01).__enter__()).result()
    assert len(store._turnstiles) == 0


WRITER = """
import sys
from pathlib import Path
from crscli.web.store import Store
store = Store(Path(sys.argv[1]))
session_id = store.create("", {"num": 0, "text": "x" * 20_000})
print(session_id, flush=True)
for num in range(1, 100_000):
    assert store.write("", session_id, store.read("", session_id), {"num": num, "text": "x" * 20_000})
    print(num, flush=True)
"""


def test_a_kill_loses_nothing_that_was_answered(tmp_path):
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True
        )
        session_id = writer.stdout.readline().strip()
        lines = [writer.stdout.readline() for _ in range(20)]
        writer.kill()
        lines += writer.stdout.readlines()
        writer.wait()
        acknowledged = int([line for line in lines if line.endswith("\n")][-1])
        store = Store(tmp_path / "s")
        kept = store.read("", session_id)
        assert kept.memory["num"] in (acknowledged, acknowledged + 1)
        assert store._base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store.close()


def test_what_is_no_such_file_is_told(tmp_path):
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(MachineError, match="cannot be kept") as told:
        Store(tmp_path / "text")
    assert "delete it" in told.value.hint
    with sqlite3.connect(tmp_path / "newer") as base:
        base.execute("PRAGMA user_version = 99")
    with pytest.raises(MachineError, match="another version"):
        Store(tmp_path / "newer")
    os.mkdir(tmp_path / "folder")
    with pytest.raises(MachineError):
        Store(tmp_path / "folder")


def test_memory_is_kept_as_json(store):
    said = {"turns": [{"text": "Amélie \u2028 \U0001f600 <b>"}]}
    session_id = store.create("", said)
    assert store.read("", session_id).memory == said
    [(text,)] = store._base.execute("SELECT memory FROM sessions").fetchall()
    assert json.loads(text) == said
