"""A stand-in for TMDB on the loopback: films that it searches and tells of, and the faults it is asked for."""

import gzip
import json
import threading
import time
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def film(number, title, year, **facts):
    """A details reply; `cast` and `crew` are short for credits."""
    cast, crew = facts.pop("cast", []), facts.pop("crew", [])
    return {
        "id": number,
        "title": title,
        "original_title": title,
        "original_language": "en",
        "runtime": 100 + number % 60,
        "overview": f"About {title} of {year}.",
        "release_date": f"{year}-06-01",
        "imdb_id": f"tt{number:07d}",
        "popularity": 1.5,
        "vote_count": 100,
        "genres": [{"id": 18, "name": "Drama"}, {"id": 878, "name": "Science Fiction"}],
        "production_companies": [{"id": 1, "name": "A Studio"}],
        "keywords": {"keywords": [{"id": 3, "name": "dream"}]},
        "alternative_titles": {"titles": []},
        "credits": {
            "cast": [{"id": n, "name": name, "order": n} for n, name in enumerate(cast or ["First", "Second"])],
            "crew": [
                {"id": n, "name": name, "department": department, "job": job}
                for n, (name, department, job) in enumerate(
                    crew or [("A Director", "Directing", "Director"), ("A Writer", "Writing", "Screenplay")]
                )
            ],
        },
    } | facts


FILMS = [
    film(603, "The Matrix", 1999),
    film(604, "The Matrix Reloaded", 2003),
    film(539, "Psycho", 1960),
    film(11252, "Psycho", 1998),
    film(9552, "Carrie", 1976),
    film(133805, "Carrie", 2013),
    film(194, "Amélie", 2001, original_title="Le Fabuleux Destin d'Amélie Poulain", original_language="fr"),
    film(1271, "300", 2007),
]


@cache
def plain(title):
    return "".join(c for c in title.lower() if c.isalnum())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers)))
            script = self.server.script
            fault = (script.pop(0) if len(script) > 1 else script[0]) if script else None
        try:
            if fault is None:
                self.answer()
            else:
                fault(self)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", headers=None):
        self.send_response(status)
        facts = {"Connection": "close", "Content-Length": len(body), "Content-Type": "application/json;charset=utf-8"}
        for name, value in (facts | (headers or {})).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def answer(self, **headers):
        self.reply(*self.right(), headers or None)

    def right(self):
        """Status and body of what TMDB says."""
        parts = urlsplit(self.path)
        path, query = parts.path.removeprefix("/3"), parse_qs(parts.query)
        films = self.server.films
        if path == "/search/movie":
            wanted = plain(query["query"][0])
            found = [f for f in films if wanted in plain(f["title"])]
            if "year" in query:
                found = [f for f in found if str(f.get("release_date"))[:4] == query["year"][0]]
            kept = ("id", "title", "original_title", "release_date", "vote_count")
            body = {"page": 1, "results": [{k: f.get(k) for k in kept} for f in found], "total_pages": 1}
        elif path.startswith("/find/"):
            body = {"movie_results": [f for f in films if f.get("imdb_id") == path[6:]]}
        else:
            body = next((f for f in films if path == f"/movie/{f['id']}"), None)
        if body is None:
            missing = {"success": False, "status_code": 34, "status_message": "The resource could not be found."}
            return 404, json.dumps(missing).encode()
        return 200, json.dumps(body).encode()


@contextmanager
def serving(films=FILMS):
    """Serve; `seen` holds the requests, `script` the faults to come, of which the last one stays for ever."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.films, server.seen, server.script, server.lock = list(films), [], [], threading.Lock()
        server.base = f"http://127.0.0.1:{server.server_address[1]}/3"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# Faults: what one request gets. `well` is none of them.


def well(handler):
    handler.answer()


def says(status, body=b"", **headers):
    return lambda handler: handler.reply(status, body, {k.replace("_", "-"): v for k, v in headers.items()})


def slow_headers(handler):
    time.sleep(0.25)
    handler.close_connection = True


def drip(handler):
    """A body of which a byte comes now and then: no single read is slow."""
    handler.reply(200, b"{", {"Content-Length": 10_000})
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def reset(handler):
    handler.connection.shutdown(2)


def cut(handler):
    _, body = handler.right()
    handler.reply(200, body[:40], {"Content-Length": len(body)})


def longer_than_announced(handler):
    _, body = handler.right()
    handler.reply(200, body, {"Content-Length": 10**17})


def negative_length(handler):
    _, body = handler.right()
    handler.reply(200, body, {"Content-Length": -5})


def broken_gzip(handler):
    packed = bytearray(gzip.compress(handler.right()[1]))
    packed[12:30] = b"\0" * 18
    handler.reply(200, bytes(packed), {"Content-Encoding": "gzip"})


BOMB = gzip.compress(b" " * 20_000_000, 1)


def bomb(handler):
    handler.reply(200, BOMB, {"Content-Encoding": "gzip"})


def endless(handler):
    handler.reply(200, b"[", {"Content-Length": None})
    while True:
        handler.wfile.write(b"1," * 5000)


def redirect(to):
    return lambda handler: handler.reply(302, b"", {"Location": to or handler.path})


def mislabelled(handler):
    handler.reply(200, handler.right()[1], {"Content-Type": "text/html; charset=iso-8859-1"})


def not_utf8(handler):
    handler.reply(200, '{"id": 194, "title": "Amélie", "results": []}'.encode("latin-1"))


def changed(change):
    """The right answer after a change."""

    def answer(handler):
        status, body = handler.right()
        content = json.loads(body)
        handler.reply(status, json.dumps(change(content) or content).encode())

    return answer
