"""Speed and memory of the linker, and how its bundled weights are made.

Run by hand:
    python tests/benchmarks/linking.py DIR_OF_REDIAL            messages a second, ratio to rapidfuzz, memory
    python tests/benchmarks/linking.py --fit DIR_OF_REDIAL      learn from all train dialogues, write weights.json
    python tests/benchmarks/linking.py --figures DIR_OF_REDIAL  the five ways of writing, on the test dialogues

The directory holds the published files of ReDial. Names beyond its titles are made of random words; each size is
measured in a process of its own.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

from rapidfuzz import fuzz, process

import crscli.linking
from crscli.catalogue import Catalogue, Item
from crscli.datasets import redial
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.linking import Linker
from crscli.linking.features import LEAST_PAIRS
from crscli.linking.measure import measure

PEOPLE = 18_026
LEAST_WORDS = 3
"""A word that was counted fewer times is not bundled."""


def corpus(directory):
    return redial.read(Source(directory, redial.ALLOW), bad=BadRows(0, print))


def fit(directory):
    """All train dialogues, the bare item list: nothing of the test dialogues is read into the weights."""
    read = corpus(directory)
    linker = Linker.fit(Catalogue(read.items), read.splits["train"], progress=told())
    classifier, statistics = linker.classifier, linker.statistics
    plain = {
        "bias": classifier.bias,
        "weights": dict(sorted(classifier.weights.items())),
        "words": {w: n for w, n in sorted(statistics.words.items()) if n >= LEAST_WORDS},
        "pairs": {w: n for w, n in sorted(statistics.pairs.items()) if n >= LEAST_PAIRS},
    }
    place = Path(str(files(crscli.linking).joinpath("weights.json")))
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    place.write_text(text + "\n", encoding="utf-8", newline="\n")
    print(f"{place}: {len(classifier.weights)} weights, {len(plain['words'])} words, {len(text) / 1e6:.2f} MB")


def told():
    def progress(label, done, total):
        if done % 2000 == 0:
            print(f"{label} {done}/{total}", file=sys.stderr)

    return progress


def figures(directory):
    read = corpus(directory)
    linker = Linker.bundled(Catalogue(read.items), read.splits["train"])
    for row in measure(linker, read.splits["test"]):
        print(json.dumps(row))


def names(count, draw, words=2):
    """Distinct names of random words."""
    found = set()
    while len(found) < count:
        length = draw.choice((1, 2, 2, 3)) + words - 2
        found.add(" ".join(word(draw) for _ in range(max(length, 1))).title())
    return sorted(found)


def word(draw):
    return "".join(draw.choice("bcdfghjklmnprstvw") + draw.choice("aeiou") for _ in range(draw.choice((2, 3, 3, 4))))


def with_people(items, count=PEOPLE):
    """The items, each with some of `count` made-up people."""
    draw = random.Random(1)
    people = [f"{word(draw).title()} {word(draw).title()}" for _ in range(count)]
    share = -(-count // len(items))
    return [
        Item(item.item_id, item.title, item.year, cast=tuple(people[n * share : (n + 1) * share]))
        for n, item in enumerate(items)
    ]


def speed(directory, extra):
    read = corpus(directory)
    draw = random.Random(0)
    items = with_people(read.items)
    items += [Item(f"x{n}", title, 1950 + n % 70) for n, title in enumerate(names(extra, draw, 3))] if extra else []
    linker = Linker.bundled(Catalogue(items), read.splits["train"])
    messages = [turn.text for dialogue in read.splits["test"] for turn in dialogue.turns]
    started = time.process_time()
    for dialogue in read.splits["test"]:
        linker.link_all(dialogue)
    ours = len(messages) / (time.process_time() - started)
    titles = [item.title for item in items]
    some = draw.sample(messages, 40)
    started = time.process_time()
    for text in some:
        process.extract(text, titles, scorer=fuzz.WRatio, limit=5)
    usual = len(some) / (time.process_time() - started)
    return {"titles": len(titles), "people": PEOPLE, "messages/s": round(ours), "extract messages/s": round(usual, 1),
            "ratio": round(ours / usual)}  # fmt: skip


def memory(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    draw = random.Random(0)
    catalogue = Catalogue(Item(str(n), title) for n, title in enumerate(names(count, draw, 3)))
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    linker = Linker.bundled(catalogue)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    linker.link("have you seen anything new")
    megabytes = {"linker MB": after - whole, "with catalogue MB": after - before}
    return {"titles": count, **{k: round(v / 1024) for k, v in megabytes.items()}, "built in s": round(seconds, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        fit(options.directory)
    elif options.figures:
        figures(options.directory)
    elif options.one:
        kind, size = options.one.split(":")
        print(json.dumps(speed(options.directory, int(size)) if kind == "speed" else memory(int(size))))
    else:
        for one in ("speed:0", "speed:53000", "memory:100000", "memory:1000000"):
            command = [sys.executable, __file__, str(options.directory), "--one", one]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
