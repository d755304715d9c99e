import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter

import pyarrow.parquet as pq
import pytest
import tiny
from tmdb_server import film, says, well

from crscli.catalogue import Catalogue
from crscli.errors import ConfigError, DataError, SourceError
from crscli.metadata.cache import Cache
from crscli.metadata.tmdb import NOTICE
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.fetch_metadata import fetch_metadata
from crscli.workspace import Workspace

CANARY = "canary0123456789abcdef0123456789"
DAY = 86_400


@pytest.fixture
def workspace(tmp_path, tiny_source, server, monkeypatch):
    """The tiny dataset, and a stand-in that has its films but the last one, and a remake of the first."""
    server.films[:] = [film(100 + n, title, 1990 + n) for n, title in enumerate(tiny.TITLES[:7])]
    server.films.append(film(999, tiny.TITLES[0], 2015))
    monkeypatch.setenv("CRS_TMDB_URL", server.base)
    monkeypatch.setenv("TMDB_API_KEY", CANARY)
    workspace = Workspace(tmp_path / "workspace")
    fetch_dataset(workspace, dataset="jsonl", source=tiny_source, name="tiny")
    return workspace


def fetch(workspace, **options):
    return fetch_metadata(workspace, dataset="tiny", sources=["tmdb"], **({"rate": 1e9} | options))


def folder(workspace):
    return workspace.artifact("tiny", "catalogue").open()


def requests(server):
    return Counter(path for path, _ in server.seen)


def test_what_is_written(workspace, server, capfd):
    made = fetch(workspace)
    assert made.sources == ["tmdb", "items"]
    assert made.outcomes == {"tmdb": {"matched": 7, "missing": 1}}
    assert made.coverage == {
        "genres": 8, "directors": 7, "writers": 7, "cast": 7, "companies": 7, "keywords": 7, "language": 7, "plot": 7,
        "year": 8, "runtime": 7, "aliases": 0, "ids": 7,
    }  # fmt: skip
    assert made.notes == ["tmdb: 16 requests; 16 replies in tmdb.sqlite", NOTICE]
    assert (folder(workspace) / "NOTICE").read_text(encoding="utf-8") == NOTICE + "\n"
    items = Catalogue.load(folder(workspace) / "items.parquet")
    assert items[0].ids == ("tmdb:100", "imdb:tt0000100")
    assert items[0].genres == ("drama", "science fiction")
    assert items[7].genres == ("odd",)
    assert items.digest == Catalogue.load(workspace.artifact("tiny", "items").open() / "items.parquet").digest
    credits = pq.read_table(folder(workspace) / "credits.parquet").to_pylist()
    assert len(credits) == 7 * 4
    assert credits[2] == {
        "item_id": "f0", "department": "Directing", "job": "Director", "name": "A Director", "order": 0
    }  # fmt: skip
    matches = [json.loads(line) for line in (folder(workspace) / "matches.jsonl").read_text().splitlines()]
    assert [(m["item_id"], m["outcome"], m["id"]) for m in matches][::7] == [
        ("f0", "matched", "tmdb:100"), ("f7", "missing", None)
    ]  # fmt: skip
    assert capfd.readouterr() == ("", "")


def test_a_rerun_asks_nothing_and_age_asks_again(workspace, server, monkeypatch):
    made = fetch(workspace)
    asked = len(server.seen)
    assert fetch(workspace).status == "up to date"
    assert fetch(workspace).notes == made.notes
    monkeypatch.delenv("TMDB_API_KEY")
    assert fetch(workspace, offline=True, force=True).status == "written"
    assert fetch(workspace, max_age=100).status == "up to date"
    assert len(server.seen) == asked
    with sqlite3.connect(workspace.root / "tiny" / "raw" / "tmdb.sqlite") as base:
        base.execute("UPDATE replies SET fetched_at = ? WHERE request LIKE '/movie/10%'", (time.time() - 160 * DAY,))
    base.close()
    assert any("7 replies are older than 150 days" in note for note in fetch(workspace, offline=True, force=True).notes)
    monkeypatch.setenv("TMDB_API_KEY", CANARY)
    again = fetch(workspace, max_age=150)
    assert again.status == "written"
    assert len(server.seen) == asked + 7
    assert not any("older" in note for note in again.notes)


def test_the_key_is_in_no_file_and_nowhere_else(workspace, server, capfd):
    told = []
    fetch(workspace, say=told.append, progress=lambda *said: told.append(str(said)))
    assert all(f"api_key={CANARY}" in path for path, _ in server.seen)
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        assert CANARY.encode() not in path.read_bytes()
    with sqlite3.connect(workspace.root / "tiny" / "raw" / "tmdb.sqlite") as base:
        for row in base.execute("SELECT * FROM replies"):
            assert CANARY not in str(row[:3]) + zlib.decompress(row[3]).decode()
    base.close()
    assert CANARY not in "".join(told) + "".join(capfd.readouterr())
    assert {name for name, value in os.environ.items() if CANARY in value} == {"TMDB_API_KEY"}  # the user's own


def test_a_refused_key_keeps_what_came(workspace, server):
    server.script = [well] * 6 + [says(401)]
    with pytest.raises(ConfigError, match=r"refuses the <TMDB v3 credential> \(401"):
        fetch(workspace)
    assert not workspace.artifact("tiny", "catalogue").exists()
    server.script = []
    fetch(workspace)
    twice = {path for path, count in requests(server).items() if count > 1}
    assert len(twice) == 1  # the one that was refused


def test_a_network_fault_keeps_what_came(workspace, server):
    server.script = [well] * 6 + [says(429, Retry_After="0")]
    with pytest.raises(SourceError, match=r"answered 429 .*\(5 tries\); 3 of 8 items are done") as caught:
        fetch(workspace)
    assert caught.value.exit_code == 5
    assert "goes on where it stopped" in caught.value.hint
    server.script = []
    fetch(workspace)
    assert sorted(requests(server).values()) == [1] * 15 + [6]


def test_a_film_without_a_reply_is_asked_for_again_in_the_next_run(workspace, server):
    server.script = [well, *[says(500, Retry_After="0")] * 5, well]
    made = fetch(workspace)
    assert made.outcomes["tmdb"] == {"matched": 6, "missing": 1, "unanswered": 1}
    assert any("no reply for 1 items" in note and "answered 500" in note for note in made.notes)
    line = json.loads((folder(workspace) / "matches.jsonl").read_text().splitlines()[0])
    assert (line["item_id"], line["outcome"]) == ("f0", "unanswered")
    asked = len(server.seen)
    assert fetch(workspace).outcomes["tmdb"] == {"matched": 7, "missing": 1}
    assert len(server.seen) == asked + 1
    assert fetch(workspace).status == "up to date"


def test_offline_tells_what_is_missing(workspace, server):
    with pytest.raises(SourceError, match="offline, and no reply of TMDB was ever kept"):
        fetch(workspace, offline=True)
    cache = workspace.root / "tiny" / "raw" / "tmdb.sqlite"
    assert not cache.exists()
    Cache(cache).close()
    made = fetch(workspace, offline=True)
    assert made.outcomes["tmdb"] == {"unanswered": 8}
    assert NOTICE not in made.notes
    assert any("no reply for 8 items (offline" in note for note in made.notes)
    assert server.seen == []
    assert fetch(workspace).outcomes["tmdb"] == {"matched": 7, "missing": 1}


def test_ids_settle_what_a_search_cannot(workspace, tmp_path):
    ids = tmp_path / "ids.csv"
    ids.write_text("item_id,tmdb_id\nf0,tmdb:999\nf1,\n")
    made = fetch(workspace, ids=ids)
    assert made.outcomes["tmdb"] == {"matched": 6, "missing": 2}
    assert Catalogue.load(folder(workspace) / "items.parquet")[0].ids[0] == "tmdb:999"
    for content, message in [("f0,x1\n", r"ids.csv:2: tmdb_id 'x1' is no number"), ("f99,1\n", "item 'f99' is not in"),
                             ("f0,1\nf0,2\n", r"ids.csv:3: item 'f0' is settled twice")]:  # fmt: skip
        ids.write_text("item_id,tmdb_id\n" + content)
        with pytest.raises(DataError, match=message):
            fetch(workspace, ids=ids)


def test_ids_that_a_file_knows_need_no_search(workspace, server, tmp_path):
    rows = [{"title": title, "year": 1990 + n, "ids": [f"tmdb:{100 + n}"], "plot": "Mine."}
            for n, title in enumerate(tiny.TITLES[:7])]  # fmt: skip
    tiny.write_lines(tmp_path / "films.jsonl", rows)
    fetch_metadata(workspace, dataset="tiny", sources=["file", "tmdb"], files=[tmp_path / "films.jsonl"], rate=1e9)
    assert sum("/movie/1" in path for path, _ in server.seen) == 7
    assert sum("/search/" in path for path, _ in server.seen) == 2  # for the one that no file knows
    items = Catalogue.load(folder(workspace) / "items.parquet")
    assert (items[0].plot, items[0].directors) == ("Mine.", ("A Director",))


def test_nothing_is_fetched_twice_after_ctrl_c(workspace, server):
    def interrupt(label, done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(workspace, progress=interrupt)
    assert len(server.seen) == 8
    assert not workspace.artifact("tiny", "catalogue").exists()
    fetch(workspace)
    assert set(requests(server).values()) == {1}


def test_the_key_may_be_a_token_in_a_file(workspace, server, tmp_path, monkeypatch):
    monkeypatch.delenv("TMDB_API_KEY")
    token = f"{'a' * 20}.{'canary' * 10}.{'c' * 43}"
    file = tmp_path / "token"
    file.write_text(token)
    with pytest.raises(ConfigError, match="can be read by others"):
        fetch(workspace, key_file=file)
    file.chmod(0o600)
    fetch(workspace, key_file=file)
    assert all(headers["Authorization"] == f"Bearer {token}" for _, headers in server.seen)
    assert not any("api_key" in path for path, _ in server.seen)
    assert not any(token in value for value in os.environ.values())
    for path in workspace.root.rglob("*"):
        assert path.is_dir() or token.encode() not in path.read_bytes()


KILLED = """
import sys
from pathlib import Path
from crscli.steps.fetch_metadata import fetch_metadata
from crscli.workspace import Workspace
fetch_metadata(Workspace(Path(sys.argv[1])), dataset="tiny", sources=["tmdb"], rate=1e9)
"""


def test_nothing_is_fetched_twice_after_a_kill(workspace, server):
    reached, go_on = threading.Event(), threading.Event()

    def held(handler):
        handler.server.seen.pop()  # it never gets an answer
        reached.set()
        go_on.wait(10)

    server.script = [well] * 7 + [held]
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(workspace.root)])
    try:
        assert reached.wait(20)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        go_on.set()
    server.script = []
    assert len(server.seen) == 7
    assert fetch(workspace).outcomes["tmdb"] == {"matched": 7, "missing": 1}
    assert len(server.seen) == 16
    assert set(requests(server).values()) == {1}
