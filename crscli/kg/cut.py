"""Cutting the neighbourhood of films out of a dump of triples, as UniCRS does.

Source: RUCAIBox/UniCRS, data/*/extract_subkg.py: every relation is followed, and only afterwards are the triples
of other relations dropped.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crscli.kg.triples import BadLines, Position, Triple, read_triples
from crscli.progress import Progress, silent

ONTOLOGY = "http://dbpedia.org/ontology/"
FILM_RELATIONS = tuple(
    f"<{ONTOLOGY}{name}>"
    for name in (
        "author", "cinematography", "company", "composer", "country", "director", "distributor", "editing", "editor",
        "executiveProducer", "format", "genre", "language", "location", "musicComposer", "narrator", "network",
        "person", "previousWork", "producer", "productionCompany", "starring", "subsequentWork", "writer",
    )
)  # fmt: skip
"""The relations that UniCRS keeps for ReDial."""


@dataclass(frozen=True)
class Cut:
    """Triples around seeds, and how many seeds have none. Names of resources keep their angle brackets."""

    triples: list[tuple[str, str, str]]
    isolated_seeds: int


class Dump:
    """The files of one dump; their bad lines are counted once, however often they are read.

    Args:
        files: read in this order.
        bad: what to do with lines that are no triple.
        progress: told of bytes read.
    """

    def __init__(self, files: Sequence[Path], bad: BadLines | None = None, progress: Progress = silent) -> None:
        self.files = files
        self.bad = bad or BadLines()
        self.progress = progress
        self._read_before = False

    def triples(self, position: Position = 0, wanted: Collection[bytes] | None = None) -> Iterator[Triple]:
        """The triples that have a wanted term at that position; all of them without any."""
        bad = BadLines(self.bad.limit) if self._read_before else self.bad
        terms = None if wanted is None else frozenset(wanted)
        for file in self.files:
            yield from read_triples(file, position=position, wanted=terms, bad=bad, progress=self.progress)
        self._read_before = True


def is_between_resources(triple: Triple) -> bool:
    """Whether a triple is a statement of DBpedia's ontology about two of its resources."""
    head, relation, tail = triple
    return b"ontology" in relation and b"dbpedia" in head and b"dbpedia" in tail and tail.startswith(b"<")


def cut(
    dump: Dump,
    seeds: Collection[str],
    *,
    hops: int = 2,
    relations: Collection[str] = FILM_RELATIONS,
    keep: Callable[[Triple], bool] = is_between_resources,
) -> Cut:
    """Outgoing neighbourhood of seeds.

    One reading of the dump a hop: the triples whose head was reached in the hop before. Memory grows with what is
    reached, not with the dump.

    Args:
        dump: read `hops` times.
        seeds: resources with their angle brackets.
        hops: how far to go.
        relations: of the triples that are kept in the end; every relation is followed.
        keep: which triples count at all.
    """
    kept_relations = {relation.encode() for relation in relations}
    start = {seed.encode() for seed in seeds}
    reached, frontier = set(start), start
    kept: set[Triple] = set()
    for hop in range(hops):
        tails: set[bytes] = set()
        for triple in filter(keep, dump.triples(0, frontier)):
            if triple[1] in kept_relations:
                kept.add(triple)
            if hop + 1 < hops:  # the last hop's tails lead nowhere
                tails.add(triple[2])
        frontier = tails - reached
        reached |= frontier
    ends = {end for head, _, tail in kept for end in (head, tail)}
    plain = sorted((head.decode(), relation.decode(), tail.decode()) for head, relation, tail in kept)
    return Cut(plain, len(start - ends))
