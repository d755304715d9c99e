"""A running `crs serve` under load: many conversations at once, each checked to be its own; and across kill -9.

Run by hand: python tests/benchmarks/serve.py --workspace DIR --dataset redial [--sessions 50] [--seconds 600]
Starts the service, holds so many conversations at once, each of a client of its own, with a pause between the turns,
and with --kill kills the service half way with SIGKILL and starts it again. Prints turns, errors, mixed, lost and whole
conversations, and milliseconds a turn.
"""

import argparse
import http.client
import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

PORT = 8797
SAID = ("a comedy please", "more", "something from the 90s", "who is in the first one?", "seen it", "why?", "not scary")


def ask(method: str, path: str, body: dict | None = None, client: int = 0) -> tuple[int, dict]:
    """One request; its status and answer. Clients have addresses of their own, since each has a rate."""
    source = (f"127.0.1.{client + 1}", 0)
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60, source_address=source)
    try:
        data = json.dumps(body) if body is not None else None
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Seeker(threading.Thread):
    """One conversation: says things, remembers them, and compares what the service has kept."""

    def __init__(self, num: int, until: float, pause_s: float, counts: dict, lock: threading.Lock) -> None:
        super().__init__(daemon=True)
        self.rng, self.until, self.pause_s = random.Random(num), until, pause_s
        self.counts, self.lock, self.num = counts, lock, num
        self.said: list[str] = []
        self.session = ""

    def run(self) -> None:
        while time.monotonic() < self.until:
            time.sleep(self.rng.uniform(0.5, 1.5) * self.pause_s)
            line = f"{self.rng.choice(SAID)} ({self.num})"
            body: dict = {"messages": [{"role": "user", "content": line}]}
            body |= {"session_id": self.session} if self.session else {}
            started = time.perf_counter()
            try:
                status, answer = ask("POST", "/v1/chat/completions", body, self.num)
            except OSError:
                self.count("refused")  # killed just now
                time.sleep(1)
                continue
            if status != 200:
                self.count(f"status_{status}")
                continue
            self.session = answer["crs"]["session_id"]
            self.said.append(line)
            with self.lock:
                self.counts["ms"].append(1000 * (time.perf_counter() - started))
            if len(self.said) > 30:
                self.check()
                self.session, self.said = "", []
        self.check()

    def check(self) -> None:
        """Whether the service has kept this conversation, and nothing else in it."""
        if not self.session:
            return
        status, kept = ask("GET", f"/v1/sessions/{self.session}", client=self.num)
        if status != 200:
            self.count("lost")
            return
        own = [turn["text"] for turn in kept["turns"] if turn["role"] == "user"]
        # A turn whose answer the kill cut off may have been kept: it is this conversation's all the same.
        mixed = any(f"({self.num})" not in line for line in own) or not set(self.said) <= set(own)
        self.count("mixed" if mixed else "whole")

    def count(self, name: str) -> None:
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + 1


def started(workspace: Path, dataset: str, model: str) -> subprocess.Popen:
    """The service, once it answers."""
    command = [sys.executable, "-m", "crscli", "serve", "-w", str(workspace), "-d", dataset, "-m", model, "-q"]
    process = subprocess.Popen([*command, "--port", str(PORT)])
    for _ in range(600):
        try:
            if ask("GET", "/health")[0] == 200:
                return process
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the service does not answer")


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--model", default="blend")
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between the turns of one conversation")
    parser.add_argument("--kill", action="store_true", help="kill the service half way, and start it again")
    asked = parser.parse_args()
    service = started(asked.workspace, asked.dataset, asked.model)
    counts: dict = {"ms": []}
    lock, until = threading.Lock(), time.monotonic() + asked.seconds
    seekers = [Seeker(num, until, asked.pause, counts, lock) for num in range(asked.sessions)]
    for seeker in seekers:
        seeker.start()
    if asked.kill:
        time.sleep(asked.seconds / 2)
        service.send_signal(signal.SIGKILL)
        service.wait()
        service = started(asked.workspace, asked.dataset, asked.model)
    for seeker in seekers:
        seeker.join()
    service.terminate()
    ms = np.array(counts.pop("ms"))
    told = {f"p{q}_ms": round(float(np.percentile(ms, q)), 1) for q in (50, 90, 99)}
    print(json.dumps({"turns": len(ms), **counts, **told}, indent=1))


if __name__ == "__main__":
    main()
