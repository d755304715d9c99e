"""Scripted seekers (turns.toml): how many turns are understood, and how many recommendations break what was stated.

What an item keeps to is judged here from its own fields, by rules that are not the session's.
"""

import itertools
import json
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.datasets.sample import HERE
from crscli.linking import Linker
from crscli.recommender import Ranking
from crscli.session import Host, Memory, Session
from crscli.session.questions import Question

PARTS = {"developed on": 40, "first held out": 80, "second held out": 110, "third held out": 122}
"""Which dialogues patterns were developed on, and which were then tried; each with the number after its last."""
QUESTIONS = {
    "genre": "Would you rather have a {} or a {}?",
    "years": "Should it be a newer one, or from before {}?",
    "length": "Do you have time for a long one, or should it stay under two hours?",
    "kids": "Will children be watching?",
    "person": "Is there an actor or director you like?",
}
OPINIONS = {
    "seen": {"seen", "liked", "disliked"},
    "refused": {"refused", "disliked"},
    "liked": {"liked"},
    "disliked": {"disliked", "refused"},
}
"""What is expected -> the opinions that do."""


class Famous:
    """Ranks all items in one fixed order, as popularity would, whatever was said."""

    tasks = frozenset({"rank"})

    def __init__(self, catalogue):
        self.catalogue = catalogue
        self.order = np.random.default_rng(7).permutation(len(catalogue))

    def rank(self, contexts, k):
        return [Ranking(self.order[:k], -np.arange(len(self.order[:k]), dtype=np.float32)) for _ in contexts]


# ---- what is expected -------------------------------------------------------------------------------------------


def options(token: str) -> list[frozenset[str]]:
    """The sets of limits that an expected one may stand for: "?" none as well, "x / y" either, "a~b" both or one."""
    found: list[frozenset[str]] = [frozenset()] if token.startswith("?") else []
    for reading in token.removeprefix("?").split(" / "):
        sign, kind, values = re.fullmatch(r"(-?)(\w+):(.*)", reading).groups()
        found.append(frozenset({f"{sign}{kind}:{'|'.join(sorted(re.split('[|~]', values)))}"}))
        if "~" in values:
            found.append(frozenset(f"{sign}{kind}:{value}" for value in values.split("~")))
    return found


def as_expected(limits: frozenset[str], tokens: list[str]) -> bool:
    """Whether limits are what the tokens allow; of a theme, plurals are as good."""
    found = frozenset(map(without_plural, limits))
    sets = (frozenset().union(*chosen) for chosen in itertools.product(*map(options, tokens)))
    return any(frozenset(map(without_plural, allowed)) == found for allowed in sets)


def without_plural(limit: str) -> str:
    sign, kind, values = re.fullmatch(r"(-?)(\w+):(.*)", limit).groups()
    if kind == "theme":
        values = re.sub(r"(?<=ss)es\b|(?<=[^s\W])s\b", "", values)
    return f"{sign}{kind}:{values}"


def held(memory: Memory) -> frozenset[str]:
    """The limits that a session holds, in the words of turns.toml."""
    known = memory.catalogue
    told = []
    for limit in memory.limits():
        values = [w.value + (f" than {known.item(w.than).title}" if w.than else "") for w in limit.wishes]
        told.append(f"{'' if limit.wanted else '-'}{limit.kind}:{'|'.join(sorted(values))}")
    return frozenset(told)


# ---- what an item keeps to --------------------------------------------------------------------------------------


def has_theme(item: Item, value: str) -> bool:
    kinds, text = set(item.genres), f"{item.plot} {' '.join(item.keywords)}".lower()
    if value == "light":
        return bool(kinds & {"comedy", "family", "musical", "animation"}) and not kinds & {"horror", "war"}
    if value == "dark":
        return bool(kinds & {"thriller", "crime", "horror", "mystery"})
    if value == "sadness":
        return "drama" in kinds and not kinds & {"comedy", "family", "musical", "animation"}
    if value == "violence":
        return bool(kinds & {"horror", "war"}) or "killer" in text
    return all(re.search(rf"\b{re.escape(re.sub('(?:y|ies|s)$', '', word))}", text) for word in value.split())


def has(catalogue: Catalogue, item: Item, kind: str, value: str) -> bool:
    """Whether an item has what a limit names."""
    if kind == "genre":
        return value in item.genres
    if kind == "person":
        return value in (*item.cast, *item.directors, *item.writers)
    if kind == "language":
        return item.language != "en" if value == "foreign" else item.language == value
    if kind == "audience":
        kinds = set(item.genres)
        return bool(kinds & {"family", "animation"}) and not kinds & {"horror", "thriller", "crime", "war"}
    if kind == "theme":
        return has_theme(item, value)
    if kind == "years" and " than " in value:
        how, _, title = value.partition(" than ")
        year = next(other.year for other in catalogue if other.title == title)
        return item.year > year if how == "newer" else item.year < year
    if kind == "years" and value in ("new", "old"):
        return item.year >= 2013 if value == "new" else item.year <= 1995
    first, _, last = value.partition("-")
    number = item.year if kind == "years" else item.runtime
    return int(first or 0) <= number <= int(last or 9999)


def keeps(catalogue: Catalogue, item: Item, limit: str) -> bool:
    sign, kind, values = re.fullmatch(r"(-?)(\w+):(.*)", limit).groups()
    if kind == "studio":
        return True  # the catalogue tells of none
    return any(has(catalogue, item, kind, value) for value in values.split("|")) != bool(sign)


def is_relaxed(token: str, relaxed: tuple[str, ...]) -> bool:
    """Whether a reply says that it does not keep to what is expected; what is refused is never given up."""
    kind, _, values = token.partition(" / ")[0].partition(":")
    said = " ".join(relaxed).lower()
    if token.startswith("-") or not said:
        return False
    if kind in ("years", "length", "language", "audience"):
        signs = {
            "years": r"\b\d{4}|something (?:old|new)",
            "length": "minutes",
            "language": r"language|\b[a-z]+(?:ish|nch|ese|ean|lian|man)\b",
            "audience": "for kids",
        }
        return re.search(signs[kind], said) is not None
    return any(value.lower() in said for value in re.split("[|~]", values))


# ---- playing a dialogue -----------------------------------------------------------------------------------------


@dataclass
class Played:
    """What came of dialogues: turns, what was missed, items recommended, what they break."""

    turns: int = 0
    missed: list[str] = field(default_factory=list)
    items: int = 0
    broken: list[str] = field(default_factory=list)

    def __add__(self, other: "Played") -> "Played":
        missed, broken = self.missed + other.missed, self.broken + other.broken
        return Played(self.turns + other.turns, missed, self.items + other.items, broken)

    @property
    def figures(self) -> str:
        understood = 1 - len(self.missed) / self.turns
        violated = len(self.broken) / max(1, self.items)
        return (
            f"understood {understood:.3f} of {self.turns} turns, "
            f"violated {violated:.3f} of {self.items} recommended items"
        )


class Script:
    """One dialogue being played."""

    def __init__(self, host: Host, name: str) -> None:
        self.talk = Session(host)
        self.catalogue = host.catalogue
        self.name = name
        self.offered: list[Item] = []
        self.tokens: list[str] = []
        self.spent: set[str] = set()

    def film(self, reference: str) -> Item:
        """The film of a title, or of @2; the last where fewer were offered."""
        if reference.startswith("@"):
            place = int(reference[1:])
            known = self.offered or list(self.catalogue)[:1]
            return known[min(place, len(known)) - 1 if place > 0 else -1]
        return next(item for item in self.catalogue if reference in (item.title, item.name))

    def filled(self, text: str) -> str:
        def put(found: re.Match[str]) -> str:
            item = self.film(f"@{found[1]}")
            return item.cast[0] if found[2] else item.title

        return re.sub(r"\{(\d)(\.cast)?\}", put, text)

    def ask(self, asked: str) -> None:
        """Make the session have asked a question."""
        topic, *chosen = asked.split()
        memory = self.talk.memory
        before = memory.turns[-1]
        memory.turns[-1] = replace(before, text=f"{before.text} {QUESTIONS[topic].format(*chosen)}")
        memory.question = Question(topic, tuple(chosen))

    def play(self, turn: dict) -> Played:
        if "asked" in turn:
            self.ask(turn["asked"])
        told = {opinion: [self.film(x) for x in turn.get(opinion, ())] for opinion in OPINIONS}
        about = self.film(turn["about"]).title if "about" in turn else ""
        says = self.filled(turn.get("says", "")).lower().split("|")
        self.tokens = turn.get("limits", self.tokens)
        text = self.filled(turn["say"])
        reply = self.talk.say(text)
        memory = self.talk.memory
        wrong = []
        if not as_expected(held(memory), self.tokens):
            wrong.append(f"limits {sorted(held(memory))}, not {self.tokens}")
        if reply.act not in turn.get("act", reply.act).split("|"):
            wrong.append(f"act {reply.act}, not {turn['act']}")
        if about not in reply.text:
            wrong.append(f"not about {about}")
        if not any(part in reply.text.lower() for part in says):
            wrong.append(f"does not say {says}")
        for opinion, items in told.items():
            known = [memory.opinions.get(item.item_id) in OPINIONS[opinion] for item in items]
            wrong += [f"{item.title} is not {opinion}" for item, knows in zip(items, known, strict=True) if not knows]
        named = [item.title for item in reply.items]
        wrong += [f"does not offer {title}" for title in turn.get("offers", ()) if title not in named]
        self.spent |= {item.item_id for items in told.values() for item in items}
        broken = [f"{text!r}: {self.name}: {why}" for item in reply.items for why in self.breaks(item, reply.relaxed)]
        self.spent |= {item.item_id for item in reply.items}
        self.offered = list(reply.items) or self.offered
        missed = [f"{self.name}: {text!r}: {'; '.join(wrong)}  [{reply.act}: {reply.text[:90]}]"] if wrong else []
        return Played(1, missed, len(reply.items), broken)

    def breaks(self, item: Item, relaxed: tuple[str, ...]) -> list[str]:
        """What a recommended item breaks, at most one thing."""
        if item.item_id in self.spent:
            return [f"{item.name} was shown, seen or refused"]
        for token in self.tokens:
            if token.startswith("?") or is_relaxed(token, relaxed):
                continue
            if not any(all(keeps(self.catalogue, item, x) for x in chosen) for chosen in options(token)):
                return [f"{item.name} is not {token}, relaxed {relaxed}"]
        return []


def play(host: Host, dialogues: list[dict]) -> Played:
    total = Played()
    for dialogue in dialogues:
        script = Script(host, dialogue["name"])
        for turn in dialogue["turns"]:
            total += script.play(turn)
    return total


def dialogues(name: str = "turns") -> list[dict]:
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))["dialogue"]


def host() -> Host:
    rows = map(json.loads, (HERE / "items.jsonl").read_text(encoding="utf-8").splitlines())
    catalogue = Catalogue(Item(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) for row in rows)
    return Host(Famous(catalogue), Linker.bundled(catalogue).link)


@pytest.fixture(scope="module")
def played() -> dict[str, Played]:
    every, one = dialogues(), host()
    starts = dict(zip(PARTS, (0, *PARTS.values()), strict=False))
    found = {name: play(one, every[starts[name] : end]) for name, end in PARTS.items()}
    for name, part in found.items():
        print(f"{name}: {part.figures}")
        print(*part.missed, *part.broken, sep="\n")
    return found


def test_there_are_enough_turns():
    assert len(dialogues()) == PARTS["third held out"]
    assert sum(len(dialogue["turns"]) for dialogue in dialogues()) >= 400


def test_turns_are_understood(played):
    total = sum(played.values(), Played())
    print(total.figures)
    assert len(total.missed) <= 0.05 * total.turns


def test_recommendations_keep_to_what_was_stated(played):
    total = sum(played.values(), Played())
    assert total.items > 700
    assert len(total.broken) <= 0.01 * total.items


def test_phrasings_that_nobody_foresaw_do_not_fall_back():
    """Far from the 0.95 of the others: what is reached here is kept."""
    found = play(host(), dialogues("turns_unforeseen"))
    print(found.figures, *found.missed, *found.broken, sep="\n")
    assert found.turns == 544
    assert len(found.missed) <= 0.55 * found.turns
