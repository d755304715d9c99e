"""An OpenAI-compatible endpoint on this machine that answers, and misbehaves as it is told."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(text, read=7, written=3):
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}}  # fmt: skip


class Endpoint:
    """`faults`, names or functions, are acted out one a request; then each is answered with its last message."""

    def __init__(self, faults=(), forever=None, delay=0.0):
        self.faults, self.forever, self.delay = list(faults), forever, delay
        self.lock = threading.Lock()
        self.asked, self.keys, self.answered, self.at_once, self.most = [], [], [], 0, 0

    def fault(self):
        with self.lock:
            return self.faults.pop(0) if self.faults else self.forever


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body, headers=(), declared=None):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(declared or len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_POST(self):
        world = self.server.world
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        with world.lock:
            world.asked.append(text)
            world.keys.append(self.headers.get("Authorization"))
            world.at_once += 1
            world.most = max(world.most, world.at_once)
        try:
            time.sleep(world.delay)
            fault = world.fault()
            if fault:
                (fault if callable(fault) else FAULTS[fault])(self, body)
            else:
                self.send(200, answer(f"heard: {text}"))
                with world.lock:
                    world.answered.append(text)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with world.lock:
                world.at_once -= 1


def error(status, message, headers=()):
    return lambda handler, body: handler.send(status, {"error": {"message": message}}, headers)


def cut(handler, body):
    """Half of the bytes that were promised, then the end."""
    raw = json.dumps(answer("whole")).encode()
    handler.send(200, raw[: len(raw) // 2], declared=len(raw))
    handler.close_connection = True


def hang(handler, body):
    time.sleep(1.5)
    handler.close_connection = True


def drip(handler, body):
    """A byte now and then: no read takes long, the whole would take for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)
    handler.close_connection = True


def echo_key(handler, body):
    """An error that repeats the key it was given."""
    handler.send(401, {"error": {"message": f"bad key {handler.headers['Authorization']}"}})


FAULTS = {
    "reset": lambda handler, body: handler.connection.close(),
    "cut": cut,
    "hang": hang,
    "drip": drip,
    "429": error(429, "slow down", [("Retry-After", "7")]),
    "500": error(500, "oops"),
    "503 page": lambda handler, body: handler.send(503, b"<html>busy</html>"),
    "not json": lambda handler, body: handler.send(200, b"hello"),
    "half json": lambda handler, body: handler.send(200, json.dumps(answer("x")).encode()[:-9]),
    "no choices": lambda handler, body: handler.send(200, {"choices": []}),
    "wrong shape": lambda handler, body: handler.send(200, {"choices": [{"text": "old form"}]}),
    "null": lambda handler, body: handler.send(200, answer(None)),
    "401": echo_key,
    "403": error(403, "not you"),
    "404": error(404, "no such model"),
    "400": error(400, "maximum context length is 8 tokens"),
    "old limit": lambda handler, body: (
        error(400, "use max_completion_tokens")(handler, body)
        if "max_tokens" in body
        else handler.send(200, answer("new form"))
    ),
    "redirect": error(307, "", [("Location", "http://localhost:1/elsewhere")]),
    "huge": lambda handler, body: handler.send(200, answer("x" * 5_000_000)),
}


@contextmanager
def running(world):
    """The endpoint's address while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.world = True, world
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":  # tells its address and runs until it is killed
    world = Endpoint(delay=0.01)
    with running(world) as address:
        print(address, flush=True)
        while True:
            time.sleep(0.2)
            print(json.dumps({"asked": len(world.asked), "distinct": len(set(world.asked)),
                              "answered": len(world.answered)}), flush=True)  # fmt: skip
