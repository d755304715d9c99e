"""How long a chat takes to start and to answer, and whether it grows: 1,000 turns of one dialogue and of many.

Run by hand: python tests/benchmarks/chat.py --workspace DIR --dataset redial [--model blend] [--turns 1000]
Prints seconds to the first prompt (a new process, with and without a file cache that is warm), milliseconds a turn
(median, 90th, 99th percentile, longest), and the memory of the process before, halfway and after.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from crscli.catalogue import Catalogue
from crscli.session import Host, Session
from crscli.steps._talking import Opener
from crscli.workspace import Workspace

WORDS = (
    "I loved {title}", "something funny please", "more", "who is in the second one?", "seen it", "no horror",
    "anything with {person}?", "not that one", "something like {title} but newer", "why?", "what is it about?",
    "a thriller from the 90s", "less than two hours", "for the kids", "hi", "thanks!", "what else do you have",
    "my husband wants an action movie", "how long is it?", "I did not like {title}", "forget the 90s, any year",
)  # fmt: skip


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def lines(catalogue: Catalogue, count: int, seed: int) -> list[str]:
    """Messages with titles and people of the catalogue."""
    rng = random.Random(seed)
    people = sorted({p for item in catalogue for p in item.cast}) or ["Tom Hanks"]
    titles = [item.title for item in catalogue]
    return [rng.choice(WORDS).format(title=rng.choice(titles), person=rng.choice(people)) for _ in range(count)]


def talk(host: Host, said: list[str], each: int) -> list[float]:
    """Seconds of every turn; a new dialogue after `each` turns."""
    seconds = []
    for num, line in enumerate(said):
        if num % each == 0:
            session = Session(host)
        started = time.perf_counter()
        session.say(line)
        seconds.append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--model", default="blend")
    parser.add_argument("--turns", type=int, default=1000)
    asked = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "crscli",
        "chat",
        "-w",
        str(asked.workspace),
        "-d",
        asked.dataset,
        "-q",
        "-m",
        asked.model,
    ]
    starts = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, input="/quit\n", text=True, check=True, capture_output=True)
        starts.append(time.perf_counter() - started)
    host = Opener(Workspace(asked.workspace)).open(asked.dataset, asked.model)
    said = lines(host.catalogue, asked.turns, seed=0)
    talk(host, said[:20], 10)
    found = {"start_s": [round(s, 2) for s in starts]}
    for name, each in (("dialogues_of_10", 10), ("one_dialogue", len(said))):
        before = resident()
        seconds = talk(host, said[: len(said) // 2], each)
        halfway = resident()
        seconds += talk(host, said[len(said) // 2 :], each)
        ms = 1000 * np.array(seconds)
        found[name] = {
            **{f"p{q}_ms": round(float(np.percentile(ms, q)), 1) for q in (50, 90, 99)},
            "longest_ms": round(float(ms.max()), 1),
            "memory_mb": [round(before), round(halfway), round(resident())],
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
