"""A small random world: films with series, articles and years, in dialogues that mark them or only type them."""

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn, cut

TITLES = [
    "The Alder", "Birch", "Cedar", "Cedar II", "Star Dust", "Star Dust: The Return", "A Fir", "Elm 3", "Elm",
    "Warm Night", "Night", "Quiet", "七人", "Ürün", "Never Named", "The",
]  # fmt: skip
YEARS = [1990, 1991, None, 2003, 2003, 2010, 1972, None, 1985, 2020, 2021, 1999, 1954, 2008, 2000, 2001]
WORDS = [
    "quiet", "warm", "night", "films", "story", "funny", "scary", "long", "short", "love", "war", "space", "crime",
    "old", "new", "good", "bad", "maybe", "again", "i'd", "watch", "like", "star", "dust", "alder",
]  # fmt: skip
COMMON = "the film"


@pytest.fixture(scope="session")
def catalogue():
    return Catalogue(Item(f"{num}", t, y) for num, (t, y) in enumerate(zip(TITLES, YEARS, strict=True)))


def turn(role, rng):
    """Words with common ones between, marked titles, marks without a place, and titles that only stand there."""
    text = ""
    links = []
    for _ in range(rng.integers(1, 5)):
        text += " ".join(rng.choice(WORDS, rng.integers(1, 4))) + f" {COMMON} "
        num = int(rng.choice(14, p=np.arange(1, 15) / 105))
        kind = rng.random()
        if kind < 0.3:
            links.append(Link("item", str(num), len(text), len(text) + len(TITLES[num])))
        elif kind < 0.4:
            links.append(Link("item", str(num)))
        if kind < 0.3 or kind > 0.8:
            text += TITLES[num]
        text += "? " if kind > 0.95 else ", "
    links += [Link("item", "unknown")] * (rng.random() < 0.1) + [Link("genre", "drama", 0, 3)]
    return Turn(role, text, tuple(links))


def talks(count, seed, start=0):
    rng = np.random.default_rng(seed)
    for num in range(count):
        turns = [turn(("seeker", "recommender")[rng.integers(2)], rng) for _ in range(rng.integers(2, 8))]
        yield Dialogue(f"d{start + num}", tuple(turns), order=start + num, recommender_id=f"w{rng.integers(9)}")


@pytest.fixture(scope="session")
def dialogues():
    return list(talks(70, seed=1))


@pytest.fixture(scope="session")
def contexts():
    """Contexts of other dialogues, and odd ones."""
    found = [e.context for d in talks(60, seed=2, start=1000) for e in cut(d)]
    odd = [
        Context(()),
        Context((Turn("seeker", ""),)),
        Context((Turn("seeker", "completely different", (Link("item", "unknown"),)),)),
        Context((Turn("seeker", "only a mention", (Link("item", "14"),)),)),
        Context((Turn("recommender", "Never Named? See Elm 3.", ()), Turn("seeker", "quiet quiet quiet night"))),
    ]
    return [*odd, *found]
