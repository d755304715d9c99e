"""Speed and memory of reading a dump of triples, beside a plain loop over its lines and a conforming parser.

Run by hand: python tests/benchmarks/triples.py [--lines 20000000]. The dump is synthetic, in the form of DBpedia's
mapping-based objects: three resources a line, sorted by head, six triples a head. Each reader runs in a process of its
own, so that time on the processor and the peak of memory are its own. The conforming parser is pyoxigraph where it is
installed, else the line parser that crs itself falls back on.
"""

import argparse
import importlib.util
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crscli.kg.cut import FILM_RELATIONS, Dump, cut
from crscli.kg.triples import parse, read_triples

SEEDS = 6000
A_HEAD = 6
HEAD = "<http://dbpedia.org/resource/{}>"


def write_dump(path, lines):
    """Write the dump; SEEDS heads, spread over it, are films."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 11))).title() for _ in range(4000)]
    words[::40] = [word + "é" for word in words[::40]]
    relations = [relation.strip("<>") for relation in FILM_RELATIONS]
    relations += ["http://dbpedia.org/ontology/" + word.lower() for word in words[1:600:2]]
    heads = lines // A_HEAD
    films = max(1, heads // SEEDS)
    tails = [f"{rng.choice(words)}_{rng.choice(words)}" for _ in range(200_000)]
    with path.open("w", encoding="utf-8") as file:
        for num in range(heads):
            name = f"{words[num % 4000]}_{words[num // 4000 % 4000]}" + ("_(film)" if num % films == 0 else "")
            chosen = rng.choices(tails, k=A_HEAD)
            for relation, tail in zip(rng.choices(relations, k=A_HEAD), chosen, strict=True):
                file.write(
                    f"<http://dbpedia.org/resource/{name}> <{relation}> <http://dbpedia.org/resource/{tail}> .\n"
                )


def films_of(path):
    with path.open("rb") as file:
        return {line.split(b" ", 1)[0] for line in file if b"_(film)> " in line[:90]}


def line_loop(path, seeds):
    with path.open("rb") as file:
        return sum(1 for _ in file)


def line_loop_with_test(path, seeds):
    count = 0
    with path.open("rb") as file:
        for line in file:
            count += line.split(b" ", 1)[0] in seeds
    return count


def conforming(path, seeds):
    if importlib.util.find_spec("pyoxigraph"):
        import pyoxigraph

        wanted = {seed.decode().strip("<>") for seed in seeds}
        return sum(
            t.subject.value in wanted for t in pyoxigraph.parse(path=str(path), format=pyoxigraph.RdfFormat.N_TRIPLES)
        )
    with path.open("rb") as file:
        return sum(parse(line.rstrip(b"\n"))[0] in seeds for line in file)


def crs_reads(path, seeds):
    return sum(1 for _ in read_triples(path, wanted=seeds))


def crs_cuts_two_hops(path, seeds):
    return len(cut(Dump([path]), {seed.decode() for seed in seeds}).triples)


READERS = [line_loop, line_loop_with_test, conforming, crs_reads, crs_cuts_two_hops]


def measure(reader, path, seeds):
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    found = reader(path, seeds)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"found": found, "wall": seconds, "cpu": cpu, "mb": after.ru_maxrss // 1024}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=20_000_000)
    options.add_argument("--one", nargs=3, metavar=("READER", "DUMP", "SEEDS"))
    given = options.parse_args()
    if given.one:
        name, dump, seeds = given.one
        reader = next(r for r in READERS if r.__name__ == name)
        print(json.dumps(measure(reader, Path(dump), frozenset(Path(seeds).read_bytes().split(b"\n")))))
        return
    with tempfile.TemporaryDirectory() as folder:
        dump, seeds = Path(folder) / "dump.nt", Path(folder) / "seeds"
        write_dump(dump, given.lines)
        films = films_of(dump)
        seeds.write_bytes(b"\n".join(sorted(films)))
        with dump.open("rb") as file:
            lines = sum(1 for _ in file)
        print(f"{lines:,} lines, {dump.stat().st_size / lines:.0f} bytes each, {len(films):,} seeds\n")
        print("| reader | found | lines/s of one core | seconds | peak, MB |")
        print("| --- | --- | --- | --- | --- |")
        for reader in READERS:
            command = [sys.executable, __file__, "--one", reader.__name__, str(dump), str(seeds)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            r = json.loads(done.stdout)
            read = lines * (2 if reader is crs_cuts_two_hops else 1)
            name = reader.__name__.replace("_", " ")
            if reader is conforming:
                name += " (pyoxigraph)" if importlib.util.find_spec("pyoxigraph") else " (line parser of crs)"
            print(
                f"| {name} | {r['found']:,} | {read / r['cpu'] / 1e6:.2f} M | {r['wall']:.1f} | {r['mb']:,} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
