"""Film titles in a message: every reading is scored, then the longest that are believed are kept.

Readings are titles and other names as they stand, and windows of words one edit away from a title; all go through
one classifier and compete in one selection, so that "Star Wars" does not hide a misspelt "Star Wars: The Last Jedi".
Knows nothing about people, genres or opinions.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from crscli.dialogue import Turn
from crscli.linking.aliases import ACRONYMS
from crscli.linking.choice import Choice
from crscli.linking.features import Counts, Frequency, Title, longer_ones, place_features, title_features
from crscli.linking.films import Films, Name
from crscli.linking.message import Message
from crscli.linking.statistics import ENOUGH_MARKS, Statistics
from crscli.linking.weights import Classifier, probability

BELIEVED = 0.45
"""Least probability of a link; chosen on validation dialogues for precision in all ways of writing."""

SAID_SO, CLEAR, ASKED, ECHO, ALONE, LISTED = 0.5, 0.35, 0.15, 0.8, 0.3, 0.05
"""Probability given to a pronoun that is written like a title. Least ones: of another small pronoun; of a title in
quotes or that is the whole answer; of a small word that also stands in a title with capitals; of the one capital
among small words; of a capital word in a list of titles."""

_LONGEST_WINDOW = 8
_SURE_LETTERS = 14
"""Letters of a window that may be near a title by misspelling although all its words are common."""

_COMMON = 10
_NEEDED_MARKS = 3
_FRANCHISE = {"movies", "films", "series", "franchise", "franchises", "trilogy", "saga", "flicks"}
_PRONOUNS = {"it", "her", "him", "us", "me", "you", "he", "she", "they", "we", "them", "i", "my"}
_POINTERS = {"new", "old", "original", "called"}
_VERBS = {"is", "was", "has", "had", "looks", "sounds", "seems", "would", "will", "really"}
_TIME = {"in", "since", "from", "until", "till", "year", "around", "circa", "of", "before", "after"}
_YEARS = {"year", "years"}
_LIST = re.compile(r"(?:\s*\(\d{4}\))?\s*(?:[,/+;&]|,?\s*(?:and|or|n)\s)\s*(?:(?:and|or)\s)?\s*", re.I)
_OPENING, _CLOSING = re.compile(r"[\"“]$"), re.compile(r"[.,!?]?[\"”]")
_CLOWN = {"clown", "pennywise"}


@dataclass(frozen=True, slots=True)
class Find:
    """Films read in the words `first` to `stop` of a message."""

    first: int
    stop: int
    titles: tuple[int, ...]
    score: float
    reason: str
    year: int | None = None
    distance: int = 0
    needed: float = 0.0
    """Probability from which on it is believed."""

    marks: int = 0
    """How often a title that is misspelt was marked: of two that are as near, the one named more often is meant."""


class FilmFinder:
    """Finds the films of a catalogue in messages."""

    def __init__(self, films: Films, classifier: Classifier, statistics: Statistics, choice: Choice) -> None:
        """Args: what is found, how it is judged, what is known of it, and how a film of a title is chosen."""
        self._films, self._classifier, self._statistics, self._choice = films, classifier, statistics, choice
        self._common = {word for word, times in statistics.words.items() if times >= _COMMON}
        self._frequency = Frequency(statistics.words, statistics.pairs)
        self._rare_titles_known = statistics.marks.total() >= ENOUGH_MARKS
        self._judged: dict[str, tuple[Title, float]] = {}

    def find(
        self, message: Message, taken: Collection[tuple[int, int]] = (), before: Sequence[Turn] = ()
    ) -> list[Find]:
        """The films of a message, by place and without overlap.

        Args:
            message: where to look.
            taken: (first, stop) of words that name people: a title of one word in there is not read.
            before: the turns before it.
        """
        if not message.words:
            return []
        asked = bool(before) and (before[-1].text.rstrip().endswith("?") or bool(before[-1].items))
        read = [*self._exact(message, taken, asked), *self._misspelt(message)]
        kept = _longest([find for find in read if find.score >= find.needed])
        listed = [find for find in read if find.score < find.needed and _is_listed(find, kept, message)]
        return _without_echoes(message, _longest([*kept, *listed]) if listed else kept)

    # ---- names as they stand ----------------------------------------------------------------------------------

    def _exact(self, message: Message, taken: Collection[tuple[int, int]], asked: bool) -> Iterator[Find]:
        readings = list(self._films.index.find(message.words))
        inside = longer_ones([(first, stop) for first, stop, _ in readings])
        for (first, stop, number), is_inside in zip(readings, inside, strict=True):
            if any(f <= first and stop <= s and (stop - first == 1 or (f, s) == (first, stop)) for f, s in taken):
                continue
            name = self._films.name(number)
            year = self._year_beside(message, first, stop, name.titles)
            if year is not None:
                yield Find(first, stop, name.titles, 1.0, "title with its year", year)
                continue
            if name.kind != "title" and not self._is_allowed(name, message, first):
                continue
            score = self._score(message, first, stop, name, is_inside)
            if stop - first == 1:
                score = self._one_word(message, first, score)
            if name.kind != "title":
                needed = 0.0 if name.key in ACRONYMS else BELIEVED
                yield Find(first, stop, name.titles, score, f"alias '{name.key}'", needed=needed)
            else:
                needed = self._needed(name, message, first, stop, asked)
                yield Find(first, stop, name.titles, score, _how(message, first, stop), needed=needed)

    def _needed(self, name: Name, message: Message, first: int, stop: int, asked: bool) -> float:
        """The least probability of a title at a place."""
        if _is_quoted(message, first, stop) or (asked and stop - first == len(message.words)):
            return ASKED
        is_known = self._counts(name).marks is not None
        return ALONE if is_known and stop - first == 1 and _stands_out(message, first) else BELIEVED

    def _year_beside(self, message: Message, first: int, stop: int, titles: tuple[int, ...]) -> int | None:
        """The year written behind a title or before it ("the 1990 It"), if a film of it is of that year."""
        if stop - 1 in message.years:
            year = message.years[stop - 1][0]
            return year if self._choice.with_year(titles, year) else None
        if stop < len(message.words) and message.gap(stop).strip() in ("", ","):
            typed = message.year_of(stop)
            if typed is not None and self._choice.with_year(titles, typed, 0):
                return typed
        if first and message.gap(first) == " ":
            typed = message.year_of(first - 1)
            if typed is not None and self._choice.with_year(titles, typed, 0):
                return typed
        return None

    def _score(self, message: Message, first: int, stop: int, name: Name, inside: bool) -> float:
        title, logit = self._title(name)
        place = place_features(message, first, stop, title, inside, self._frequency)
        return probability(self._classifier.bias + logit + self._classifier.logit(place))

    def _title(self, name: Name) -> tuple[Title, float]:
        known = self._judged.get(name.key)
        if known is None:
            title = title_features(name.key, self._counts(name), self._frequency)
            known = self._judged[name.key] = title, self._classifier.logit(title.features)
        return known

    def _counts(self, name: Name) -> Counts:
        """Of a title; of another name those of its film as marked, and its own otherwise."""
        marks = max(self._statistics.marks[self._films.keys[title]] for title in name.titles)
        others = self._statistics.others[name.key]
        if marks + others == 0 and not self._rare_titles_known:
            return Counts(None, None)
        return Counts(marks, others)

    def _is_allowed(self, name: Name, message: Message, first: int) -> bool:
        """Whether another name may stand for its film: the film is named often, or the name is no common phrase."""
        if name.kind in ("numeral", "short", "hand"):
            return True
        counts = self._counts(name)
        is_one = " " not in name.key
        if is_one and not (message.capital[first] and not message.starts[first]):
            return False
        if counts.marks is not None and counts.others is not None and self._rare_titles_known:
            return counts.marks >= _NEEDED_MARKS and counts.others <= 0.5 * counts.marks
        words = name.key.split(" ")
        return not is_one and any(word not in self._common for word in words)

    def _one_word(self, message: Message, at: int, score: float) -> float:
        """The probability of a title of one word, where a rule knows better than the weights."""
        words = message.words
        word, before = words[at], words[at - 1] if at else ""
        if word in _PRONOUNS:
            if self._is_pronoun_meant(message, at):
                return max(score, SAID_SO)
            if message.capital[at] and not message.shouts:
                return score
            return max(score, SAID_SO) if score >= CLEAR else 0.0
        if before in ("every", "each") or (message.year_of(at) and self._is_time(words, at)):
            return 0.0
        # "I saw saw": one of the two is the verb.
        return max(score, SAID_SO) if before == word and score >= ASKED else score

    @staticmethod
    def _is_time(words: Sequence[str], at: int) -> bool:
        """Whether a number is said as a year: "in 2012", "2012 was a bad year"."""
        return (at > 0 and words[at - 1] in _TIME) or not _YEARS.isdisjoint(words[at + 1 : at + 5])

    def _is_pronoun_meant(self, message: Message, at: int) -> bool:
        """Whether a word like "it" is a title: a capital inside a sentence, "the new it", "called it", the clown."""
        words, gap = message.words, message.gap(at)
        after = words[at + 1] if at + 1 < len(words) else ""
        if message.capital[at] and not message.shouts and not message.starts[at] and gap == " ":
            return after not in _VERBS
        if at and gap == " " and (words[at - 1] == "called" or words[at - 2 : at - 1] == ["the"]):
            return words[at - 1] in _POINTERS or (words[at - 1] in ("movie", "film") and after not in _VERBS)
        return words[at] == "it" and not _CLOWN.isdisjoint(words)

    # ---- misspelt titles --------------------------------------------------------------------------------------

    def _misspelt(self, message: Message) -> Iterator[Find]:
        words, common = message.words, self._common
        exact: list[tuple[int, int]] | None = None
        for first, stop, number, distance in self._windows(words, common):
            window = words[first:stop]
            name = self._films.name(number)
            if name.key == " ".join(window) or _digits("".join(window)) != _digits(name.key):
                continue
            if exact is None:
                exact = [(f, s) for f, s, _ in self._films.index.find(words)]
            if distance and _adds_a_stray_word(words, first, stop, exact, common):
                continue
            year = self._year_beside(message, first, stop, name.titles)
            score = 1.0 if year is not None else self._score(message, first, stop, name, False)
            if score >= BELIEVED:
                typed = message.text[message.tokens[first].start : message.tokens[stop - 1].end]
                marks = (self._counts(name).marks or 0) if distance else 0
                yield Find(first, stop, name.titles, score, f"misspelt '{typed}'", year, distance, BELIEVED, marks)

    def _windows(self, words: Sequence[str], common: Collection[str]) -> Iterator[tuple[int, int, int, int]]:
        """(first word, word after the last, number of a title, distance) of the windows near a title."""
        halves, count = self._films.halves, len(words)
        for first in range(count):
            joined, rare = "", False
            for stop in range(first + 1, min(first + _LONGEST_WINDOW, count) + 1):
                word = words[stop - 1]
                joined += word
                rare = rare or word not in common
                if len(joined) < 7:
                    continue
                if len(joined) > 46:
                    break
                if rare or len(joined) >= _SURE_LETTERS:
                    for number, distance in halves.near(joined):
                        yield first, stop, number, distance
                else:
                    for number in halves.same(joined):
                        yield first, stop, number, 0


def _longest(finds: Sequence[Find]) -> list[Find]:
    """Finds without overlap, by place: the longest first, the nearest to what is typed, the likeliest."""
    kept: list[Find] = []
    used: set[int] = set()
    for find in sorted(finds, key=lambda f: (f.first - f.stop, f.distance, -f.marks, -f.score)):
        words = range(find.first, find.stop)
        if used.isdisjoint(words):
            used.update(words)
            kept.append(find)
    return sorted(kept, key=lambda f: f.first)


def _is_quoted(message: Message, first: int, stop: int) -> bool:
    """Whether words stand in double quotes with nothing else but a mark of punctuation."""
    return _OPENING.search(message.gap(first)) is not None and _CLOSING.match(message.gap(stop)) is not None


def _stands_out(message: Message, at: int) -> bool:
    """Whether a word has a capital inside a sentence, and the words beside it have none."""
    capital, words = message.capital, message.words
    if not capital[at] or message.starts[at] or message.shouts or message.gap(at) != " ":
        return False
    if capital[at - 1] and words[at - 1] != "i":
        return False
    return at + 1 == len(words) or not capital[at + 1] or message.gap(at + 1) != " "


def _is_listed(find: Find, kept: Sequence[Find], message: Message) -> bool:
    """Whether a weak word with a capital is one of a list of titles: "Heat, Casino and Goodfellas"."""
    if find.score < LISTED or find.stop - find.first > 1 or not message.capital[find.first]:
        return False
    for other in kept:
        left, right = (find, other) if find.first < other.first else (other, find)
        if left.stop == right.first and message.capital[other.first] and _LIST.fullmatch(message.gap(right.first)):
            return True
    return False


def _without_echoes(message: Message, finds: list[Find]) -> list[Find]:
    """Leave out a small word that a capital title has in it as well: "taken by surprise by Taken 2"."""
    capitals = [f for f in finds if message.capital[f.first] and message.has_capitals]
    if not capitals or len(finds) == 1:
        return finds
    said = {
        word
        for f in capitals
        if f.stop - f.first > 1 or not message.starts[f.first]
        for word in message.words[f.first : f.stop]
    }
    return [
        f
        for f in finds
        if f.stop - f.first > 1 or f.score >= ECHO or message.capital[f.first] or message.words[f.first] not in said
    ]


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def _adds_a_stray_word(
    words: Sequence[str], first: int, stop: int, exact: Sequence[tuple[int, int]], common: Collection[str]
) -> bool:
    """Whether a window is a title as it stands and a short common word: "Ghostbusters is", near "Ghostbusters II"."""
    for f, s in exact:
        if first <= f and s <= stop and s - f < stop - first:
            rest = (*words[first:f], *words[s:stop])
            if sum(map(len, rest)) <= 3 and all(word in common for word in rest):
                return True
    return False


def _how(message: Message, first: int, stop: int) -> str:
    """What shows that a title is meant, in words."""
    if stop < len(message.words) and message.words[stop] in _FRANCHISE:
        return "title, franchise"
    if first == 0 and stop == len(message.words):
        return "title, alone"
    if _is_quoted(message, first, stop):
        return "title, quoted"
    return "title, capital" if message.capital[first] and not message.starts[first] else "title"
