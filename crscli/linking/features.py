"""What tells a film title from the same words said by chance: features of a title at a place in a message.

Names of features are plain strings, so that weights can be read. Knows nothing about how they are weighed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from crscli.linking.message import Message

Features = list[tuple[str, float]]

_AROUND = 60
"""Words before and after a title in which it is looked for again."""

LEAST_PAIRS = 8
"""A pair of words that was counted fewer times tells nothing."""

LEAST_WORDS = 3
"""A word that was counted fewer times may be a slip."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often a title is meant and its words are said otherwise; None for both where nothing is known."""

    marks: int | None
    others: int | None


@dataclass(frozen=True, slots=True)
class Title:
    """What is the same wherever a title stands."""

    features: Features
    one: str
    """"1" for a title of one word, else nothing: set behind names of features that mean more there."""
    prior: str
    """How often its words mean the film, as a class."""


def title_features(title: str, counts: Counts, frequency: "Frequency") -> Title:
    """Features of a title by itself.

    Args:
        title: its key.
        counts: of it in marked dialogues.
        frequency: of its words.
    """
    words = title.split(" ")
    one = "1" if len(words) == 1 else ""
    letters = sum(map(len, words))
    frequencies = [frequency.word(word) for word in words]
    found: Features = [
        (f"words={min(len(words), 5)}", 1.0),
        ("letters", min(letters, 20) / 10),
        ("frequency sum", sum(frequencies) / 10),
        ("frequency max" + one, max(frequencies) / 10),
        ("frequency min" + one, min(frequencies) / 10),
    ]
    commonness = max(frequencies)
    if not one:
        pairs = [frequency.pair(f"{left} {right}") for left, right in pairwise(words)]
        commonness = min(pairs)
        found += [
            ("pair max", max(pairs) / 10),
            ("pair min", commonness / 10),
            (f"pair min {min(len(words), 3)}", commonness / 10),
        ]
    if title.replace(" ", "").isdigit():
        found.append(("digits", 1.0))
    prior = "?" + str(sum(commonness > step for step in (0, 2, 4, 6)))
    if counts.marks is None or counts.others is None:
        found += [("no statistics" + one, 1.0), (f"common={prior}{one}", 1.0)]
    else:
        marks, others = counts.marks, counts.others
        odds = math.log((marks + 0.5) / (others + 0.5))
        found += [
            ("odds", odds),
            ("odds" + one, odds) if one else ("odds many", odds),
            ("said", math.log1p(marks + others)),
            ("others", math.log1p(others)),
        ]
        if not marks:
            found.append(("never marked" if others else "never said", 1.0))
        if not others:
            found.append(("only marked", 1.0))
        chance = (marks + 0.3) / (marks + others + 0.5)
        prior = str(sum(chance >= step for step in (0.02, 0.1, 0.3, 0.6, 0.85)))
        if marks + others < 3:
            prior += "r"
    return Title(found, one, prior)


def place_features(
    message: Message, first: int, stop: int, title: Title, inside: bool, frequency: "Frequency"
) -> Features:
    """Features of the words `first` to `stop` of a message, read as a title.

    Args:
        message: where it stands.
        first: its first word.
        stop: the word after its last.
        title: what it is read as.
        inside: whether it is part of a longer title that could be meant.
        frequency: of words and pairs; "big fan" is said often, so that "Big" before "fan" is hardly a title.
    """
    one = title.one
    found: Features = []
    _capitals(message, first, stop, title, found)
    _shape(message, first, stop, one, found)
    _neighbours(message, first, stop, one, found)
    if inside:
        found.append(("inside" + one, 1.0))
    _elsewhere(message, first, stop, one, found)
    words = message.words
    if first and (pair := frequency.pair(f"{words[first - 1]} {words[first]}")):
        found.append(("pair before" + one, pair / 10))
    if stop < len(words) and (pair := frequency.pair(f"{words[stop - 1]} {words[stop]}")):
        found.append(("pair after" + one, pair / 10))
    if stop < len(words) and frequency.is_word(words[stop - 1] + words[stop]):
        found.append(("split word" + one, 1.0))
    return found


def _elsewhere(message: Message, first: int, stop: int, one: str, found: Features) -> None:
    """Where the first words of the title stand again in the message: said by chance once, perhaps, and meant once."""
    words, capital = message.words, message.capital
    if len(words) < 2 * (stop - first):
        return
    head, size = words[first], stop - first
    for at in range(max(first - _AROUND, 0), min(stop + _AROUND, len(words))):
        if words[at] == head and not first <= at < stop and words[at : at + size] == words[first:stop]:
            if message.has_capitals and capital[at] != capital[first]:
                found.append(("again, " + ("this one" if capital[first] else "that one") + " with capital" + one, 1.0))
            else:
                found.append(("again, " + ("before" if at < first else "after") + one, 1.0))
            return


def _capitals(message: Message, first: int, stop: int, title: Title, found: Features) -> None:
    capital, one = message.capital, title.one
    share = sum(capital[first:stop]) / (stop - first)
    start = message.starts[first]
    if not message.has_capitals:
        state = "small"
    elif message.shouts:
        state = "loud"
    elif not share:
        state = "none"
    elif start:
        state = "start" if one or share > 0.5 else "start only"
    else:
        state = "capital" if capital[first] and (one or share > 0.5) else "some"
    found.append(("case=" + state + one, 1.0))
    found.append(("case=" + state + one + title.prior, 1.0))
    if state not in ("small", "loud"):
        found.append(("capital share" + one, share))
        inner = message.inner_capitals
        if inner[-1] > inner[stop] - inner[first]:
            found.append(("other capitals " + state + one, 1.0))
        if first and capital[first - 1] and message.gap(first) == " " and message.words[first - 1] != "i":
            found.append(("capital before " + ("start" if message.starts[first - 1] else "") + one, 1.0))
        if stop < len(capital) and capital[stop] and message.gap(stop) == " " and message.words[stop] != "i":
            found.append(("capital after" + one, 1.0))


def _shape(message: Message, first: int, stop: int, one: str, found: Features) -> None:
    count = len(message.words)
    if not first:
        found.append(("whole" + one, 1.0) if stop == count else ("opens" + one, 1.0))
    elif stop == count:
        found.append(("closes" + one, 1.0))
    found.append(("share" + one, (stop - first) / count))
    found.append(("log words", math.log(count)))
    before, after = message.gap(first).strip()[-1:], message.gap(stop).strip()[:1]
    if before and before in "\"“'‘*" and after and after in "\"”'’*,.":
        found.append(("quoted" + one, 1.0))
    # In the training texts a bracket follows titles that are named but, for their typed year, not marked.
    after = "" if after == "(" else after
    found.append((f"before={before}{one}", 1.0))
    found.append((f"after={after}{one}", 1.0))


def _neighbours(message: Message, first: int, stop: int, one: str, found: Features) -> None:
    words = message.words
    before = words[first - 1] if first else "^"
    further = words[first - 2] if first > 1 else "^"
    after = words[stop] if stop < len(words) else "$"
    found.append(("<" + before, 1.0))
    found.append(("<<" + further + " " + before, 1.0))
    found.append((">" + after, 1.0))
    found.append((">>" + after + " " + (words[stop + 1] if stop + 1 < len(words) else "$"), 1.0))
    if first and message.starts[first]:
        found.append(("<. " + before, 1.0))
    if stop < len(words) and message.starts[stop]:
        found.append((">. " + after, 1.0))
    if one:
        found.append(("1<" + before, 1.0))
        found.append(("1>" + after, 1.0))


class Frequency:
    """Logs of how often words, and pairs of words, are said among a million."""

    def __init__(self, words: Mapping[str, int], pairs: Mapping[str, int]) -> None:
        """Args: counts of words; counts of pairs with a blank between."""
        self._words, self._pairs = words, pairs
        self._per_word = 1e6 / max(sum(words.values()), 1)
        self._per_pair = 1e6 / max(sum(pairs.values()), 1)

    def word(self, word: str) -> float:
        """Of a word."""
        return math.log(0.1 + self._words.get(word, 0) * self._per_word)

    def is_word(self, word: str) -> bool:
        """Whether it was counted more than once or twice: "girlfriends", when "girl" and "friends" are seen."""
        return self._words.get(word, 0) >= LEAST_WORDS

    def pair(self, pair: str) -> float:
        """Of a pair; one that was counted hardly ever is as rare as one that never was."""
        times = self._pairs.get(pair, 0)
        return math.log(1 + (times if times >= LEAST_PAIRS else 0) * self._per_pair)


def longer_ones(places: Sequence[tuple[int, int]]) -> list[bool]:
    """For each place whether it lies inside a longer one; the places come by start, the shorter first."""
    furthest: dict[int, int] = dict(places)
    found: list[bool] = []
    reach = at = 0
    for first, stop in places:
        if first != at:
            reach, at = max(reach, furthest.get(at, 0)), first
        found.append(reach >= stop or furthest[first] > stop)
    return found
