import email.utils
import logging
import os
import sqlite3
import time
import traceback
import zlib

import pytest
import tmdb_server as tmdb
from tmdb_server import film, says, serving, well

from crscli.catalogue import Item
from crscli.errors import ConfigError, CrsError, SourceError
from crscli.metadata.cache import Cache
from crscli.metadata.session import Credential, Limits, NotCached, Pace, ReplyError, TmdbSession
from crscli.metadata.tmdb import Tmdb, is_understood

V3 = "canary0123456789abcdef0123456789"
V4 = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJjYW5hcnkifQ.s3cr3t-canary_signature"
LIMITS = Limits(connect=1.0, read=0.15, whole=0.3, size=200_000, attempts=3, wait=60.0)
MATRIX = Item("m1", "The Matrix", 1999)
LATER = email.utils.formatdate(time.time() + 3600, usegmt=True)


class Session(TmdbSession):
    """Closes its cache too."""

    def close(self):
        super().close()
        self.cache.close()


def client(folder, base, secret=V4, *, limits=LIMITS, rate=1e9):
    """A client whose pauses between tries are listed, not slept."""
    waits = []
    pace = Pace(rate, sleep=lambda seconds: waits.append(round(seconds)) if seconds > 0.01 else None)
    session = Session(
        Cache(folder / "tmdb.sqlite"),
        Credential(secret) if secret else None,
        base=base, pace=pace, limits=limits, is_understood=is_understood,
    )  # fmt: skip
    return Tmdb(session), session, waits


HTML = b"<html><title>502 Bad Gateway</title></html>"
DEEP = b'{"results": ' + b"[" * 60_000 + b"]" * 60_000 + b"}"

# (fault, the answers in turn, how the search for The Matrix ends, words of the message, waits)
FAULTS = [
    ("429 with Retry-After", [says(429, Retry_After="2"), well], "ok", "", [2]),
    ("429 without Retry-After", [says(429), says(429), well], "ok", "", [1, 2]),
    ("429 for ever", [says(429, Retry_After="7")], SourceError, "answered 429", [7, 7]),
    ("429 with an absurd Retry-After", [says(429, Retry_After="999999"), well], "ok", "", [60]),
    ("503 with a date in Retry-After", [says(503, Retry_After=LATER), well], "ok", "", [60]),
    ("500 with HTML, for ever", [says(500, HTML)], ReplyError, "answered 500", [1, 2]),
    ("502 once", [says(502, HTML), well], "ok", "", [1]),
    ("slow headers", [tmdb.slow_headers, well], "ok", "", [1]),
    ("slow body", [tmdb.drip, well], "ok", "", [1]),
    ("connection reset", [tmdb.reset, well], "ok", "", [1]),
    ("body cut", [tmdb.cut, tmdb.cut, tmdb.cut], SourceError, "connection failed", [1, 2]),
    ("Content-Length beyond the body", [tmdb.longer_than_announced, well], "ok", "", [1]),
    ("negative Content-Length", [tmdb.negative_length, well], "ok", "", []),
    ("broken gzip", [tmdb.broken_gzip], ReplyError, "cannot be unpacked", [1, 2]),
    ("gzip bomb", [tmdb.bomb], ReplyError, "longer than 200,000 bytes", []),
    ("endless body", [tmdb.endless], ReplyError, "longer than 200,000 bytes", []),
    ("redirect to another host", [tmdb.redirect("https://elsewhere.example/3")], SourceError, "elsewhere.example", []),
    ("redirect in a circle", [tmdb.redirect(None)], SourceError, "redirected to another path", []),
    ("401", [says(401, b'{"success": false, "status_code": 7}')], ConfigError, "refuses the <TMDB v4 credential>", []),
    ("403", [says(403, HTML)], ConfigError, "403", []),
    ("404 that is not TMDB's", [says(404, HTML)], ReplyError, "answered 404", []),
    ("422", [says(422, b'{"errors": ["query must be provided"]}')], ReplyError, "answered 422", []),
    ("empty body", [says(200, b""), well], "ok", "", [1]),
    ("HTML of a login page", [says(200, HTML)], ReplyError, "<html>", [1, 2]),
    ("a list, not an object", [says(200, b'[{"id": 603}]')], ReplyError, "not the form", [1, 2]),
    ("results are no list", [says(200, b'{"results": {"id": 603}}')], ReplyError, "not the form", [1, 2]),
    ("error told as 200", [says(200, b'{"success": false}')], ReplyError, "not the form", [1, 2]),
    ("nested too deeply", [says(200, DEEP)], ReplyError, "not the form", [1, 2]),
    ("bytes that are not UTF-8", [tmdb.not_utf8], ReplyError, "not the form", [1, 2]),
    ("wrong content type and charset", [tmdb.mislabelled, well], "ok", "", []),
]  # fmt: skip


def test_there_are_more_than_24_kinds_of_fault():
    assert len(FAULTS) + len(CONTENTS) + 4 == 42  # four: refused connection, TLS, no such host, 404 of a film
    assert len({name for name, *_ in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(("name", "script", "ends", "words", "waits"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_fault_ends_as_documented_and_is_not_kept(name, script, ends, words, waits, server, tmp_path):
    server.script = list(script)
    asked, session, waited = client(tmp_path, server.base)
    with session:
        if ends == "ok":
            assert asked.match(MATRIX).id == "tmdb:603"
        else:
            with pytest.raises(ends) as caught:
                asked.match(MATRIX)
            assert type(caught.value) is ends
            assert words in caught.value.message
            assert caught.value.hint
            assert len(session.cache) == 0
            server.script = []
            assert asked.match(MATRIX).id == "tmdb:603"  # what failed is asked again, and only that
        assert waited == waits
        requests = len(server.seen)
        assert asked.match(MATRIX).id == "tmdb:603"
        assert len(server.seen) == requests


def refused():
    with serving() as server:
        return server.base


ADDRESSES = [
    ("connection refused", refused, "refused"),
    ("no TLS at the other end", None, "no trusted connection"),
    ("no such host", lambda: "http://nowhere.invalid/3", "connection failed"),
]


@pytest.mark.parametrize(("name", "base", "words"), ADDRESSES, ids=[a[0] for a in ADDRESSES])
def test_an_address_that_does_not_answer(name, base, words, server, tmp_path):
    base = base() if base else server.base.replace("http:", "https:")
    asked, session, _ = client(tmp_path, base)
    with session, pytest.raises(SourceError, match=words):
        asked.match(MATRIX)


def test_a_film_that_tmdb_does_not_have_is_asked_for_once(server, tmp_path):
    asked, session, _ = client(tmp_path, server.base)
    with session:
        assert asked.details("tmdb:1") is None
        assert asked.details("tmdb:1") is None
    assert len(server.seen) == 1


NOTHING = dict.fromkeys(
    ("overview", "genres", "credits", "keywords", "imdb_id", "release_date", "production_companies",
     "alternative_titles", "original_title", "original_language", "runtime")
)  # fmt: skip
CONTENTS = [
    ("all fields null", lambda d: d | NOTHING if "credits" in d else d, Item("", "The Matrix", ids=("tmdb:603",))),
    ("fields of other types", lambda d: d | {k: 7 for k in NOTHING},
     Item("", "The Matrix", ids=("tmdb:603",), runtime=7)),
    ("entries of other types", lambda d: d | {"genres": [None, 3, {"name": None}, {"name": "Drama"}]}, "genres"),
    ("results twice, one without id", lambda d: d | {"results": [{"title": "x"}, None, *d["results"], *d["results"]]}
     if "results" in d else d, "title"),
    ("endless paging", lambda d: d | {"total_pages": 10**9} if "results" in d else d, "title"),
    ("popularity and votes are texts", lambda d: d | {"popularity": "93.49", "vote_count": "many"}, "title"),
    ("keys like the library's own", lambda d: d | {"keys": 1, "_json": [], "items": None, "page": 2}, "title"),
    ("people listed twice", lambda d: d | {"credits": {k: v * 2 for k, v in d["credits"].items()}}
     if "credits" in d else d, "cast"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "wanted"), CONTENTS, ids=[c[0] for c in CONTENTS])
def test_odd_contents_give_what_is_sound_in_them(name, change, wanted, server, tmp_path):
    server.script = [tmdb.changed(change)]
    asked, session, _ = client(tmp_path, server.base)
    with session:
        found = asked.fetch([MATRIX]).records["m1"]
    if isinstance(wanted, Item):
        assert found == wanted
    else:
        right = {"title": "The Matrix", "cast": ("First", "Second"), "genres": ("Drama",)}
        assert getattr(found, wanted) == right[wanted]
    assert len(server.seen) == 2


def test_unknown_films_with_endless_pages_end(server, tmp_path):
    server.script = [tmdb.changed(lambda d: {"results": [{"id": 5, "title": "Other"}], "total_pages": 10**9})]
    asked, session, _ = client(tmp_path, server.base)
    with session:
        assert asked.match(MATRIX).outcome == "missing"
    assert len(server.seen) == 4  # two pages with the year, two without


def test_unicode_escapes_and_half_surrogates(server, tmp_path):
    server.script = [tmdb.changed(lambda d: d | {"overview": "Am\u00e9lie \ud83d"} if "overview" in d else d)]
    asked, session, _ = client(tmp_path, server.base)
    with session:
        plot = asked.fetch([Item("a", "Amélie", 2001)]).records["a"].plot
    assert plot == "Amélie \ufffd"


# Items one after another.


def test_one_broken_page_does_not_stop_the_rest_but_three_in_a_row_do(server, tmp_path):
    items = [Item(f"i{n}", f["title"], int(f["release_date"][:4])) for n, f in enumerate(server.films[:5])]
    asked, session, _ = client(tmp_path, server.base, limits=Limits(attempts=1))
    with session:
        server.script = [says(500), well]
        found = asked.fetch(items)
        assert list(found.unanswered) == ["i0"]
        assert "answered 500" in found.unanswered["i0"]
        assert len(found.records) == 4
        server.script = [says(500)]
        new = [Item(f"n{n}", f"New {n}", 2000) for n in range(9)]
        with pytest.raises(SourceError, match=r"answered 500.*; 2 of 11 items are done, and every reply .* is kept"):
            asked.fetch([*items[1:3], *new])


def test_progress_is_told(server, tmp_path):
    told = []
    asked, session, _ = client(tmp_path, server.base)
    with session:
        asked.fetch([MATRIX, Item("p", "Psycho", 1960)], progress=lambda *said: told.append(said))
    assert told == [("tmdb", 0, 2), ("tmdb", 1, 2), ("tmdb", 2, 2)]


def test_requests_keep_their_pace():
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(20.0, clock=lambda: now[0], sleep=sleep)
    for _ in range(41):
        pace.wait()
    assert now[0] == pytest.approx(2.0)  # 20 a second
    now[0] += 60.0
    slept.clear()
    pace.wait()
    pace.wait()
    assert slept == [pytest.approx(0.05)]  # a pause is not made up for by a burst


def test_offline_asks_nobody(server, tmp_path):
    asked, session, _ = client(tmp_path, server.base)
    with session:
        asked.fetch([MATRIX])
    asked, session, _ = client(tmp_path, "http://nowhere.invalid/3", secret=None)
    with session:
        found = asked.fetch([MATRIX, Item("p", "Psycho", 1960)])
        assert found.records.keys() == {"m1"}
        assert "offline" in found.unanswered["p"]
        with pytest.raises(NotCached):
            asked.match(Item("p", "Psycho", 1960))


# The credential.


@pytest.mark.parametrize("secret", [V3, V4])
def test_the_credential_travels_as_it_should_and_is_kept_nowhere(secret, server, tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.setenv("TMDB_API_KEY", "the-users-own")
    monkeypatch.setenv("TMDB_PROXIES", "__import__('os').abort()")  # the library would evaluate it
    before = dict(os.environ)
    caplog.set_level(logging.DEBUG)
    asked, session, _ = client(tmp_path, server.base, secret)
    texts = []
    with session:
        asked.fetch([MATRIX])
        errors = [
            [says(500)],
            [tmdb.reset],
            [says(401)],
            [tmdb.cut],
            [says(200, secret.encode())],
            [tmdb.redirect(None)],
        ]
        for script in errors:
            server.script = script
            with pytest.raises(CrsError) as caught:
                asked.match(Item("p", "Psycho", 1960))
            error = caught.value
            texts += ["".join(traceback.format_exception(error)), repr(error), str(error.hint), repr(vars(error))]
            assert (error.__cause__, error.__context__) == (None, None)
        texts += [repr(session), repr(session._credential), str(vars(asked))]
    assert len(texts) == 4 * len(errors) + 3
    for path, headers in server.seen:
        assert (f"api_key={V3}" in path) == (secret == V3)
        assert headers.get("Authorization") == (f"Bearer {V4}" if secret == V4 else None)
        assert "not-the-key" not in path
    for text in (
        *texts,
        *capfd.readouterr(),
        caplog.text,
        *map(str, caplog.records),
        *(str(r.args) for r in caplog.records),
    ):
        assert secret not in text
    if secret == V3:
        assert "api_key=***" in caplog.text  # it was logged, and taken out
    assert dict(os.environ) == before
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert secret.encode() not in path.read_bytes()
    with sqlite3.connect(tmp_path / "tmdb.sqlite") as base:
        rows = base.execute("SELECT request, status, fetched_at, body FROM replies").fetchall()
    assert len(rows) == 2
    for *facts, body in rows:
        assert secret not in str(facts)
        assert secret.encode() not in zlib.decompress(body)


def test_a_netrc_does_not_replace_the_credential(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    asked, session, _ = client(tmp_path, server.base)
    session.trust_env = True
    with session:
        asked.match(MATRIX)
    assert server.seen[0][1]["Authorization"] == f"Bearer {V4}"


def test_two_clients_do_not_share_their_sessions(server, tmp_path):
    one, first, _ = client(tmp_path / "one", server.base, V3)
    with serving([film(1, "The Matrix", 1999)]) as other:
        two, second, _ = client(tmp_path / "two", other.base, V4)
        with first, second:
            assert one.match(MATRIX).id == "tmdb:603"
            assert two.match(MATRIX).id == "tmdb:1"
