import email.utils
import errno
import gzip
import hashlib
import io
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from crscli.datasets import download as download_module
from crscli.datasets.download import Download, download, sha256_of
from crscli.errors import ChecksumError, MachineError, SourceError

BODY = bytes(range(256)) * 1200  # 307,200 bytes: several pieces
SIZE = len(BODY)
DIGEST = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        self.server.seen.append((self.path, dict(self.headers)))
        script = self.server.script
        answer = script.pop(0) if len(script) > 1 else script[0]
        answer(self)

    def log_message(self, *_):
        pass

    def reply(self, status, headers=None, body=b""):
        self.send_response(status)
        for name, value in ({"Connection": "close", "Content-Length": len(body)} | (headers or {})).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server():
    """A server on the loopback that gives the answers of its `script` in turn, the last one for ever."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.seen, served.script = [], [whole()]
        served.url = f"http://127.0.0.1:{served.server_address[1]}/data.bin"
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def whole(body=BODY, cut=None, ranges=True, etag='"one"', **headers):
    """An answer that honours ranges, and breaks off after `cut` bytes of this answer."""

    def answer(handler):
        facts = {name.replace("_", "-"): value for name, value in headers.items()}
        start, asked = 0, handler.headers.get("Range")
        if etag:
            facts["ETag"] = etag
        if asked and ranges and handler.headers.get("If-Range") in (None, etag, facts.get("Last-Modified")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return handler.reply(416, {"Content-Range": f"bytes */{len(body)}"})
            facts["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        facts = {"Content-Length": len(rest)} | facts
        handler.reply(206 if start else 200, facts, rest if cut is None else rest[:cut])

    return answer


def says(status, headers=None, body=b""):
    return lambda handler: handler.reply(status, headers, body)


def fetch(server, tmp_path, sha256=DIGEST, size=SIZE, name="data.bin", **options):
    waits = []
    facts = {key: options.pop(key) for key in ("max_bytes",) if key in options}
    item = Download(options.pop("url", server.url), name, sha256, size, **facts)
    path = download(item, tmp_path, sleep=waits.append, **options)
    assert path == tmp_path / name
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]  # no .part is left
    return path.read_bytes(), waits


def headers_of(server, number):
    return server.seen[number][1]


# What goes well.


def test_a_file_is_fetched_checked_and_told_of(server, tmp_path):
    told = []
    body, waits = fetch(server, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert body == BODY
    assert waits == []
    assert told[0] == (0, len(BODY))
    assert told[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert headers_of(server, 0)["Accept-Encoding"] == "identity"


def test_nothing_is_printed(server, tmp_path, capfd):
    fetch(server, tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("facts", [{}, {"sha256": None}, {"size": None}, {"sha256": DIGEST.upper()}])
def test_a_complete_file_needs_no_request(facts, server, tmp_path):
    (tmp_path / "data.bin").write_bytes(BODY)
    body, _ = fetch(server, tmp_path, offline=True, **facts)
    assert body == BODY
    assert server.seen == []


@pytest.mark.parametrize("old", [b"", BODY[:-1], b"x" + BODY[1:]])
def test_a_wrong_file_under_the_name_is_replaced(old, server, tmp_path):
    (tmp_path / "data.bin").write_bytes(old)
    assert fetch(server, tmp_path)[0] == BODY


def test_a_file_without_known_checksum_is_taken_and_can_be_recorded(server, tmp_path):
    fetch(server, tmp_path, sha256=None, size=None)
    assert sha256_of(tmp_path / "data.bin") == DIGEST


def test_a_body_without_length_is_taken(server, tmp_path):
    def chunked(handler):
        handler.reply(200, {"Content-Length": None, "Transfer-Encoding": "chunked"})
        for piece in (BODY[:1000], BODY[1000:]):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    server.script = [chunked]
    assert fetch(server, tmp_path)[0] == BODY


def test_a_gz_file_stays_one_even_if_the_server_calls_it_an_encoding(server, tmp_path):
    packed = gzip.compress(BODY, mtime=0)
    server.script = [whole(packed, Content_Encoding="gzip", Content_Type="text/plain")]
    digest = hashlib.sha256(packed).hexdigest()
    assert fetch(server, tmp_path, digest, len(packed), "data.jsonl.gz")[0] == packed
    with pytest.raises(SourceError, match=r"compresses it \(gzip\)"):
        fetch(server, tmp_path / "other", None, None, "data.jsonl")


def test_a_session_of_ones_own_is_used_and_left_open(server, tmp_path):
    with requests.Session() as session:
        session.headers["X-Mine"] = "yes"
        fetch(server, tmp_path, session=session)
        assert headers_of(server, 0)["X-Mine"] == "yes"
        assert session.get(server.url, timeout=5).content == BODY


# Going on where it stopped.


def test_a_cut_body_goes_on_where_it_was_cut(server, tmp_path):
    server.script = [whole(cut=100_000), whole(cut=50_000), whole()]
    body, waits = fetch(server, tmp_path)
    assert body == BODY
    assert waits == [1.0, 2.0]
    assert [headers_of(server, n).get("Range") for n in range(3)] == [None, "bytes=100000-", "bytes=150000-"]
    assert headers_of(server, 1)["If-Range"] == '"one"'


def test_a_cut_is_seen_even_if_the_library_does_not_tell(server, tmp_path):
    class Lenient(requests.Session):
        def get(self, url, **options):
            response = super().get(url, **options)
            response.raw.enforce_content_length = False
            return response

    server.script = [whole(cut=100_000), whole()]
    with Lenient() as session:
        assert fetch(server, tmp_path, None, None, session=session) == (BODY, [1.0])
    assert headers_of(server, 1)["Range"] == "bytes=100000-"


def test_a_later_call_goes_on_too(server, tmp_path):
    server.script = [whole(cut=100_000)]
    with pytest.raises(SourceError, match=r"the transfer was cut: .*\(1 tries; 100,000 bytes are kept\)"):
        fetch(server, tmp_path, attempts=1)
    server.script = [whole()]
    assert fetch(server, tmp_path)[0] == BODY
    assert headers_of(server, 1)["Range"] == "bytes=100000-"


def test_a_date_serves_where_the_tag_is_weak_or_missing(server, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.script = [whole(cut=9, etag='W/"weak"', Last_Modified=date), whole(etag=None, Last_Modified=date)]
    assert fetch(server, tmp_path)[0] == BODY
    assert headers_of(server, 1)["If-Range"] == date


def test_without_tag_and_date_it_starts_anew(server, tmp_path):
    server.script = [whole(cut=9, etag=None), whole(etag=None)]
    assert fetch(server, tmp_path)[0] == BODY
    assert "Range" not in headers_of(server, 1)


def test_a_server_that_ignores_ranges_sends_it_all_again(server, tmp_path):
    server.script = [whole(cut=100_000), whole(ranges=False)]
    assert fetch(server, tmp_path)[0] == BODY
    assert headers_of(server, 1)["Range"] == "bytes=100000-"


def test_a_file_changed_between_tries_starts_anew(server, tmp_path):
    server.script = [whole(body=b"old" * 99_999, cut=100_000), whole(etag='"two"')]
    assert fetch(server, tmp_path, size=None)[0] == BODY


def answered_part(start, total=SIZE, etag='"one"'):
    body = BODY[start:]
    content_range = f"bytes {start}-{len(BODY) - 1}/{total}"
    return says(206, {"Content-Range": content_range, "ETag": etag, "Content-Length": len(body)}, body)


@pytest.mark.parametrize(
    "wrong",
    [
        answered_part(50_000),
        answered_part(100_000, total=len(BODY) + 1),
        answered_part(100_000, etag='"two"'),
        says(206, {"ETag": '"one"'}, BODY[100_000:]),
        says(416, {"Content-Range": "bytes */5"}),
    ],
    ids=["start", "total", "etag", "no range", "416"],
)
def test_another_part_than_asked_for_starts_anew(wrong, server, tmp_path):
    server.script = [whole(cut=100_000), wrong, whole()]
    body, waits = fetch(server, tmp_path)
    assert body == BODY
    assert waits == [1.0, 0.0]
    assert "Range" not in headers_of(server, 2)


def test_a_part_of_another_address_or_with_broken_notes_is_not_continued(server, tmp_path):
    for notes in ('{"url": "http://elsewhere/", "validator": "\\"one\\"", "total": null}', "{", "[]", "\xff"):
        (tmp_path / "data.bin.part").write_bytes(b"rubbish")
        (tmp_path / "data.bin.part.json").write_text(notes, encoding="latin1")
        assert fetch(server, tmp_path)[0] == BODY
        assert [headers.get("Range") for _, headers in server.seen] == [None]
        server.seen.clear()
        (tmp_path / "data.bin").unlink()


def test_a_whole_part_only_gets_its_name(server, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            fetch(server, tmp_path)
    assert fetch(server, tmp_path)[0] == BODY
    assert len(server.seen) == 1


def test_an_interrupt_keeps_what_came(server, tmp_path):
    def stop(done, total):
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, progress=stop)
    assert fetch(server, tmp_path)[0] == BODY
    assert int(headers_of(server, 1)["Range"][6:-1]) > 100_000


# Trying again.


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(status, server, tmp_path):
    server.script = [says(status), says(status), whole()]
    body, waits = fetch(server, tmp_path)
    assert body == BODY
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("asked", "least", "most"), [("7", 7, 7), ("0", 0, 0), ("9999", 60, 60), ("-3", 1, 1), ("soon", 1, 1)]
)
def test_the_wait_that_the_server_asks_for_is_kept_up_to_a_minute(asked, least, most, server, tmp_path):
    server.script = [says(429, {"Retry-After": asked}), whole()]
    _, (wait,) = fetch(server, tmp_path)
    assert least <= wait <= most


def test_a_wait_may_be_a_date(server, tmp_path):
    dates = [email.utils.formatdate(time.time() + 30, usegmt=True), "Wed, 21 Oct 2015 07:28:00 GMT"]
    server.script = [*(says(503, {"Retry-After": date}) for date in dates), whole()]
    _, (ahead, past) = fetch(server, tmp_path)
    assert 25 < ahead <= 30
    assert past == 0


def test_it_gives_up_after_the_last_try(server, tmp_path):
    server.script = [says(503)]
    with pytest.raises(SourceError, match=r"answered 503 Service Unavailable \(3 tries\)") as caught:
        fetch(server, tmp_path, attempts=3)
    assert caught.value.exit_code == 5
    assert len(server.seen) == 3


def test_a_refused_connection_is_tried_again(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/data.bin"
        waits = []
        with pytest.raises(SourceError, match=r"the connection failed: .*refused.*2 tries"):
            download(Download(url, "data.bin"), tmp_path, attempts=2, sleep=waits.append)
    assert waits == [1.0]


def test_a_silent_server_is_tried_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUTS", (1.0, 0.05))
    server.script = [lambda handler: time.sleep(0.2), whole()]
    assert fetch(server, tmp_path)[1] == [1.0]


# Ends at once.


@pytest.mark.parametrize("status", [401, 403, 404, 410, 501, 204, 304])
def test_a_refusal_ends_at_once_and_names_the_way_by_hand(status, server, tmp_path):
    server.script = [says(status)]
    with pytest.raises(SourceError) as caught:
        fetch(server, tmp_path)
    assert f"{server.url}: the server answered {status}" in str(caught.value)
    assert "--from DIR_OR_ARCHIVE" in caught.value.hint
    assert len(server.seen) == 1


def test_offline_opens_no_socket_and_says_what_to_put_where(server, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(SourceError, match="offline") as caught:
        fetch(server, tmp_path / "raw", offline=True)
    assert caught.value.exit_code == 5
    for word in (
        server.url,
        str(tmp_path / "raw" / "data.bin"),
        "307,200 bytes",
        DIGEST,
        "--from DIR_OR_ARCHIVE",
    ):
        assert word in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_wrong_bytes_get_no_name_and_are_removed(ranges, server, tmp_path):
    server.script = [whole(cut=100_000, ranges=ranges), whole(body=b"x" * len(BODY), ranges=ranges)]
    with pytest.raises(ChecksumError, match=rf"came, expected 307,200 bytes, sha256 {DIGEST}") as caught:
        fetch(server, tmp_path)
    assert caught.value.exit_code == 9
    assert list(tmp_path.iterdir()) == []
    server.script = [whole()]
    assert fetch(server, tmp_path)[0] == BODY


@pytest.mark.parametrize(("size", "body"), [(len(BODY) + 1, BODY), (5, BODY), (None, b"")])
def test_a_wrong_size_gets_no_name(size, body, server, tmp_path):
    server.script = [whole(body)]
    with pytest.raises(ChecksumError):
        fetch(server, tmp_path, sha256=None, size=size)
    assert not (tmp_path / "data.bin").exists()
    assert not (tmp_path / "data.bin.part").exists()


def test_a_file_that_is_too_large_is_refused_before_and_while_it_comes(server, tmp_path):
    with pytest.raises(SourceError, match="307,200 bytes announced, more than the 1,000 allowed"):
        fetch(server, tmp_path, None, None, max_bytes=1000)

    def endless(handler):
        handler.reply(200, {"Content-Length": None})
        handler.wfile.write(BODY)

    server.script = [endless]
    for facts in ({"size": None, "max_bytes": 1000}, {"size": 1000}):
        with pytest.raises(SourceError, match="more than the 1,000 bytes expected came"):
            fetch(server, tmp_path, sha256=None, **facts)
    assert not (tmp_path / "data.bin.part").exists()


def test_a_page_instead_of_the_file_is_refused(server, tmp_path):
    page = b"<html>log in first</html>"
    server.script = [says(200, {"Content-Type": "text/html; charset=utf-8"}, page)]
    with pytest.raises(SourceError, match=r"an HTML page came instead of data.bin") as caught:
        fetch(server, tmp_path)
    assert "browser" in caught.value.hint
    assert fetch(server, tmp_path, None, len(page), "page.html")[0] == page


# Redirects.


def test_redirects_are_followed(server, tmp_path):
    server.script = [says(302, {"Location": "/there"}), says(308, {"Location": server.url + "?x=1"}), whole()]
    assert fetch(server, tmp_path)[0] == BODY
    assert [path for path, _ in server.seen] == ["/data.bin", "/there", "/data.bin?x=1"]


def test_redirects_without_end_are_refused(server, tmp_path):
    server.script = [says(302, {"Location": "/data.bin"})]
    with pytest.raises(SourceError, match="redirected in a circle"):
        fetch(server, tmp_path)
    server.seen.clear()
    server.script = [says(302, {"Location": f"/{number}"}) for number in range(9)]
    with pytest.raises(SourceError, match="redirected more than 5 times"):
        fetch(server, tmp_path)
    assert len(server.seen) == 6


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_only_http_addresses_are_asked(place, server, tmp_path):
    server.script = [says(302, {"Location": place})]
    with pytest.raises(SourceError, match="not an http address"):
        fetch(server, tmp_path)
    with pytest.raises(SourceError, match="not an http address"):
        fetch(server, tmp_path, url=place)


def test_a_safe_address_is_never_left_for_an_unsafe_one(tmp_path):
    class Redirecting:
        def get(self, url, **_):
            response = requests.Response()
            response.status_code, response.raw = 302, io.BytesIO()
            response.headers["Location"] = "http://127.0.0.1/data.bin"
            return response

    with pytest.raises(SourceError, match="redirected from https to http"):
        download(Download("https://127.0.0.1/data.bin", "data.bin"), tmp_path, session=Redirecting())


# The machine.


def test_a_full_disk_keeps_what_came(server, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left on device") as caught:
        fetch(server, tmp_path)
    assert caught.value.exit_code == 7
    assert (tmp_path / "data.bin.part").stat().st_size == len(BODY)
    monkeypatch.undo()
    assert fetch(server, tmp_path)[0] == BODY


def test_a_really_full_disk_is_the_machines_fault(server, tmp_path):
    (tmp_path / "data.bin.part").symlink_to("/dev/full")
    with pytest.raises(MachineError, match="No space left"):
        fetch(server, tmp_path)


def test_a_folder_that_cannot_be_made_is_the_machines_fault(server, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MachineError):
        fetch(server, tmp_path / "file" / "raw")
    assert server.seen == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc/x"])
def test_a_name_is_a_plain_one(name, tmp_path):
    with pytest.raises(ValueError, match="plain file name"):
        download(Download("http://127.0.0.1/", name), tmp_path)
