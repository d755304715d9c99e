"""People of a catalogue found in what is typed: full names, surnames that mean one person, nicknames and typos.

Knows names and how well known their owners are; nothing about films that have the same name.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import OSA

from crscli.catalogue import Catalogue
from crscli.dialogue import Link
from crscli.linking.nicknames import NEEDS_COMPANY, NICKNAMES
from crscli.names import NameIndex, Token, key

_SUFFIXES = {"jr", "sr", "ii", "iii", "iv"}
_ARTICLES = {"the", "a", "an", "el", "la", "los"}
# Between the words of one name stand blanks, a dot after an initial, a hyphen, quotes around a nickname.
_GAP = re.compile(r"[\s\-\"“”]{0,3}")
_POSSESSIVE = re.compile(r"['’`´][sS]$")
_NAMED_AFTER = {"by", "with", "starring", "stars", "featuring", "feat"}
_NAMED_BEFORE = {"movie", "movies", "film", "films", "flick", "flicks"}
_WORD = re.compile(r"[^\W\d_]+")

# Chosen on ReDial train: a surname stands for its best known owner if he has this share of all mentions of people
# and at least half of those of the surname.
_KNOWN = 60 / 37_400
_FUNCTION_WORD = 200
_BESIDE = _NAMED_BEFORE | {"and", "or", "is", "in", "was", "has"}
_FUZZY_LETTERS = 8
_SURNAME_LETTERS = 5
# Surnames that are words as well, for catalogues without plots to count words in.
_EVERYDAY = _WORD.findall(
    "black white brown green young stone price power powers street woods rivers field fields waters banks bacon "
    "berry cross curry fisher hardy heard hunter knight mason marsh north parker quick short singer sharp swift "
    "sweet weaver wells wilder winter winters worth house close foster sparks chase miles butler coffin crystal "
    "groom grace carpenter bridges cannon candy strain burns stern holly potter shepherd walker small little "
    "strong baker bishop savage noble mcdonald "
)
_FUNCTION_WORDS = _WORD.findall("the and with for his her this that from who one they them then was but like love")
_LONGEST = 4
"""Words of a window that is looked up with a typo."""


@dataclass(frozen=True, slots=True)
class _Find:
    first: int
    stop: int
    name: str
    score: float
    reason: str


class People:
    """Finds the cast, directors and writers of a catalogue in a text."""

    def __init__(self, catalogue: Catalogue, popularity: np.ndarray) -> None:
        """Index the names.

        Args:
            catalogue: its items' people are known.
            popularity: (N,) how often each item is mentioned; zeros where that is not known.
        """
        mass: defaultdict[str, float] = defaultdict(float)
        for item, marks in zip(catalogue, popularity, strict=True):
            for name in {*item.cast, *item.directors, *item.writers}:
                mass[name] += 1 + float(marks)
        everyday = _everyday(catalogue)
        self._common = {word for word, count in everyday.items() if count >= 3}
        self._by_key: dict[str, str] = {}
        keys = {name: key(name) for name in mass}
        for name, _ in sorted(mass.items(), key=lambda pair: (-pair[1], pair[0])):
            whole = keys[name]
            if whole.count(" ") and whole.split(" ", 1)[0] not in _ARTICLES:
                self._by_key.setdefault(whole, name)
        for whole, name in list(self._by_key.items()):
            for short in _shorter(whole):
                self._by_key.setdefault(short, name)
        self._names = list(self._by_key.values())
        self._index = NameIndex(self._by_key)
        known = {name: name for name in mass} | {keys[name]: name for name in mass}
        self._nicknames = {k: known[v] for k, v in NICKNAMES.items() if v in known and k not in self._index}
        self._nickname_index = NameIndex(self._nicknames)
        self._first_names = {whole.split(" ", 1)[0] for whole in self._by_key}
        self._last_names = {whole.rsplit(" ", 1)[1] for whole in self._by_key}
        self._mass, self._everyday = mass, everyday
        self._needed = max(_KNOWN * float(len(catalogue) + popularity.sum()), 3.0)
        titles = {key(item.title) for item in catalogue}
        self._surnames = {s: n for s, n in _surnames(mass, everyday, self._needed).items() if s not in titles}
        self._typos = _TypoIndex(self._by_key)

    def find(self, tokens: Sequence[Token], text: str) -> list[Link]:
        """Links of kind person, by place and without overlap.

        Args:
            tokens: of the text, as `names.tokens` gives them.
            text: as typed; capitals and what stands between words tell names apart.
        """
        if not tokens:
            return []
        words = [
            t.word[:-1] if t.word.endswith("s") and _POSSESSIVE.search(text, t.start, t.end) else t.word for t in tokens
        ]
        taken = [False] * len(words)
        found: list[_Find] = []
        for find in self._all(words, tokens, text):
            if not any(taken[find.first : find.stop]):
                found.append(find)
                taken[find.first : find.stop] = [True] * (find.stop - find.first)
        found = [f for f in found if f.reason != "nickname" or self._is_meant(f, found, words, tokens, text)]
        return [self._link(f, tokens, text, words) for f in sorted(found, key=lambda f: f.first)]

    def _all(self, words: list[str], tokens: Sequence[Token], text: str) -> Iterator[_Find]:
        """Every reading, the surest first."""
        exact = [f for f in self._exact(words) if _is_together(f, tokens, text)]
        yield from sorted(exact, key=lambda f: (f.first - f.stop, f.reason, f.first))
        typos = [f for f in self._misspelt(words) if _is_together(f, tokens, text)]
        yield from sorted(typos, key=lambda f: (-f.score, f.first - f.stop, -self._mass[f.name]))
        for at, word in enumerate(words):
            name = self._surnames.get(word)
            if name and self._is_surname(at, name, words, tokens, text):
                yield _Find(at, at + 1, name, 0.9, "surname")

    def _exact(self, words: list[str]) -> Iterator[_Find]:
        for first, stop, number in self._index.find(words):
            yield _Find(first, stop, self._names[number], 1.0, "full name")
        if self._nicknames:
            for first, stop, _ in self._nickname_index.find(words):
                yield _Find(first, stop, self._nicknames[" ".join(words[first:stop])], 0.9, "nickname")

    def _misspelt(self, words: list[str]) -> Iterator[_Find]:
        """Windows one edit away from a full name, and names with blanks at other places."""
        count = len(words)
        for first, word in enumerate(words):
            if len(word) >= _FUZZY_LETTERS and word not in self._common:
                yield from self._one_word(first, word)
            for stop in range(first + 2, min(first + _LONGEST, count) + 1):
                if word not in self._first_names and words[stop - 1] not in self._last_names:
                    continue
                window = words[first:stop]
                if all(w in self._common for w in window):
                    continue
                for whole, distance in self._typos.near("".join(window)):
                    if distance == 0 or self._is_typo(window, whole):
                        yield _Find(first, stop, self._by_key[whole], 0.9 - 0.1 * distance, "misspelt name")

    def _is_typo(self, window: list[str], whole: str) -> bool:
        """Whether a name is known enough to be what was meant by a window one edit away."""
        words, mass = whole.split(" "), self._mass[self._by_key[whole]]
        if len(words) != len(window):
            return False
        typed = [w for w, known in zip(window, words, strict=True) if w != known]
        if len(typed) > 1 or any(self._everyday[w] >= _FUNCTION_WORD for w in typed):
            return False
        is_known = any(w in self._common or w in self._first_names or w in self._last_names for w in typed)
        return mass >= self._needed * (0.5 if is_known else 0.1)

    def _one_word(self, first: int, word: str) -> Iterator[_Find]:
        for whole, distance in self._typos.near(word):
            if distance == 0:
                yield _Find(first, first + 1, self._by_key[whole], 0.9, "misspelt name")

    def _is_surname(self, at: int, name: str, words: list[str], tokens: Sequence[Token], text: str) -> bool:
        """Whether a surname alone means the person: a capital and no other name beside it."""
        before = words[at - 1] if at and _joined(tokens[at - 1], tokens[at], text) else ""
        after = words[at + 1] if at + 1 < len(words) and _joined(tokens[at], tokens[at + 1], text) else ""
        if not text[tokens[at].start].isupper():
            return before in _NAMED_AFTER or (after in _NAMED_BEFORE and before not in self._first_names)
        if after and text[tokens[at + 1].start].isupper() and after not in _BESIDE:
            return False
        if at and len(words[at - 1]) == 1 and text[tokens[at - 1].end] == ".":
            return False
        if not before or not text[tokens[at - 1].start].isupper():
            return before not in self._first_names or before in self._common
        own = key(name).split(" ", 1)[0]
        if OSA.distance(before, own, score_cutoff=1) <= 1:
            return True
        return before in self._common and before not in self._first_names

    def _is_meant(self, find: _Find, found: list[_Find], words: list[str], tokens: Sequence[Token], text: str) -> bool:
        """Whether a nickname that has other meanings is said like a person's."""
        if " ".join(words[find.first : find.stop]) not in NEEDS_COMPANY:
            return True
        before = words[find.first - 1] if find.first else ""
        after = words[find.stop] if find.stop < len(words) else ""
        if before in _NAMED_AFTER or after in {"plays", "played", "acts", "stars"} or after in _NAMED_BEFORE:
            return True
        if " ".join(words[find.stop : find.stop + 2]) in ("is in", "was in", "in it", "in that", "in this"):
            return True
        # "Kevin Hart and The Rock", "the rock, adam sandler"
        others = [f for f in found if f is not find]
        beside = {f.stop for f in others} | {f.first for f in others}
        return find.first - (before == "and") in beside or find.stop + (after == "and") in beside

    def _link(self, find: _Find, tokens: Sequence[Token], text: str, words: list[str]) -> Link:
        first, last = find.first, tokens[find.stop - 1]
        reason = find.reason
        if reason in ("surname", "nickname") and first and _joined(tokens[first - 1], tokens[first], text):
            own = key(find.name).split(" ", 1)[0]
            if len(own) > 2 and OSA.distance(words[first - 1], own, score_cutoff=1) <= 1:
                first, reason = first - 1, "misspelt name"
        end = last.end - 2 if last.word != words[find.stop - 1] else last.end
        return Link("person", find.name, tokens[first].start, end, find.score, reason=reason)


class _TypoIndex:
    """Names found by one of their halves: a single edit leaves the other one as it was."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._halves: dict[str, list[str]] = {}
        for whole in keys:
            plain = whole.replace(" ", "")
            if len(plain) >= _FUZZY_LETTERS:
                half = len(plain) // 2
                self._halves.setdefault(f"{len(plain)}^{plain[:half]}", []).append(whole)
                self._halves.setdefault(f"{len(plain)}${plain[half:]}", []).append(whole)

    def near(self, window: str) -> Iterator[tuple[str, int]]:
        """(key, distance 0 or 1) of the names near a window without blanks."""
        size = len(window)
        if size < _FUZZY_LETTERS - 1:
            return
        halves, seen = self._halves, set()
        for length in (size, size - 1, size + 1):
            half = length // 2
            for part in (f"{length}^{window[:half]}", f"{length}${window[size - (length - half) :]}"):
                for whole in halves.get(part, ()):
                    if whole not in seen:
                        seen.add(whole)
                        distance = OSA.distance(window, whole.replace(" ", ""), score_cutoff=1)
                        if distance <= 1:
                            yield whole, distance


def _everyday(catalogue: Catalogue) -> Counter[str]:
    """How often a word is written small in the plots, where a name would have a capital."""
    counts: Counter[str] = Counter(dict.fromkeys(_EVERYDAY, 20) | dict.fromkeys(_FUNCTION_WORDS, _FUNCTION_WORD))
    for item in catalogue:
        for found in _WORD.finditer(item.plot):
            word = found.group()
            if word[0].islower():
                counts[word] += 1
    return counts


def _shorter(whole: str) -> Iterator[str]:
    """A name without "Jr." and without middle initials."""
    words = whole.split(" ")
    plain = words[:-1] if words[-1] in _SUFFIXES and len(words) > 2 else words
    if plain is not words:
        yield " ".join(plain)
    middle = [w for w in plain[1:-1] if len(w) > 1]
    if len(middle) < len(plain) - 2 and len(plain[0]) > 1:
        yield " ".join((plain[0], *middle, plain[-1]))


def _surnames(mass: Mapping[str, float], everyday: Counter[str], needed: float) -> dict[str, str]:
    """Surname -> the one person that it stands for."""
    whole: defaultdict[str, float] = defaultdict(float)
    first_names: defaultdict[str, float] = defaultdict(float)
    best: dict[str, str] = {}
    for name, popularity in sorted(mass.items()):
        words = [word for word in key(name).split(" ") if word not in _SUFFIXES]
        if len(words) < 2:
            continue
        surname = words[-1]
        whole[surname] += popularity
        first_names[words[0]] += popularity
        if surname not in best or popularity > mass[best[surname]]:
            best[surname] = name
    return {
        surname: name
        for surname, name in best.items()
        if len(surname) >= _SURNAME_LETTERS
        and mass[name] >= whole[surname] / 2
        # A word that is also used small needs a better known owner.
        and mass[name] >= max(needed, 3) * max(1.0, 0.6 * (1 + everyday[surname]))
        and first_names[surname] <= 0.6 * mass[name]
    }


def _joined(left: Token, right: Token, text: str) -> bool:
    """Whether nothing but blanks stands between two words."""
    return text[left.end : right.start].strip(" ") == ""


def _is_together(find: _Find, tokens: Sequence[Token], text: str) -> bool:
    """Whether the words of a name belong together: no comma and no end of sentence between them."""
    for at in range(find.first, find.stop - 1):
        left, right = tokens[at], tokens[at + 1]
        gap = text[left.end : right.start]
        if gap.startswith("." if len(left.word) <= 2 else "," if right.word in _SUFFIXES else "-"):
            gap = gap[1:]
        if not _GAP.fullmatch(gap):
            return False
    return True
