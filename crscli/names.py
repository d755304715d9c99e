"""Names in text: how a text is split and normalised, and an index that finds every known name in it.

A name is found whatever its case, accents, punctuation, apostrophes and "&". Knows nothing about what a name stands
for.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

_TOKEN = re.compile(r"[^\W_]+(?:['’`´][^\W_]+)*|&")
_WORD = re.compile(r"[^\W_]+")
_INSIDE = re.compile(r"(?<=[^\W_])['`](?=[^\W_])")
_APOSTROPHES = str.maketrans("", "", "'’`´")
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")


class Token(NamedTuple):
    """A normalised word and its place in the text."""

    word: str
    start: int
    end: int


def normalised(word: str) -> str:
    """One word in lower case, without accents and apostrophes: "Amélie’s" gives "amelies", "&" gives "and"."""
    if word.isascii():
        plain = word.lower()
    else:
        parts = unicodedata.normalize("NFKD", word)
        plain = "".join(c for c in parts if not unicodedata.combining(c)).casefold()
    if plain == "&":
        return "and"
    return plain if plain.isalnum() else plain.translate(_APOSTROPHES)


def tokens(text: str) -> list[Token]:
    """The words of a text with their character offsets; an HTML entity keeps its place and reads as what it stands for.

    "Law &amp; Order" gives law, and, order, with the offsets of the text as it is.
    """
    if "&" in text and _ENTITY.search(text):
        return list(_tokens_with_entities(text))
    return [Token(normalised(m.group()), m.start(), m.end()) for m in _TOKEN.finditer(text)]


def _tokens_with_entities(text: str) -> Iterator[Token]:
    """Tokens of the unescaped text, with the offsets of the escaped one."""
    plain: list[str] = []
    places: list[int] = []
    at = 0
    for found in [*_ENTITY.finditer(text), None]:
        stop = found.start() if found else len(text)
        plain.append(text[at:stop])
        places.extend(range(at, stop))
        if found:
            value = html.unescape(found.group())
            plain.append(value)
            places.extend([found.start()] * len(value))
            at = found.end()
    places.append(len(text))
    for m in _TOKEN.finditer("".join(plain)):
        yield Token(normalised(m.group()), places[m.start()], places[m.end()])


def key(name: str) -> str:
    """What a name is looked up by: its normalised words, with blanks between."""
    if name.isascii() and "&" not in name:  # most of all names, and catalogues have many
        return " ".join(_WORD.findall(_INSIDE.sub("", name.lower())))
    return " ".join(token.word for token in tokens(name))


def singular(word: str) -> str:
    """A word in lower case without its plural, roughly: "stories" gives "story", "wishes" gives "wish"."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 5 and word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


class NameIndex:
    """Finds every known name in a list of words; names are numbered in the order they were given.

    A dictionary of whole names, and for each first word the lengths that its names have: a look-up a plausible
    n-gram. One million names of three words take about 250 MB.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        """Args: keys as `key` makes them; an empty one and one that was given before are passed over."""
        self.numbers: dict[str, int] = {}
        lengths: dict[str, int] = {}
        for number, name in enumerate(keys):
            if name and name not in self.numbers:
                self.numbers[name] = number
                first, blanks = name.split(" ", 1)[0], name.count(" ")
                lengths[first] = lengths.get(first, 0) | (1 << blanks)
        # Lengths as sorted tuples, one object for each distinct set of them.
        shared: dict[int, tuple[int, ...]] = {}
        for bits in set(lengths.values()):
            shared[bits] = tuple(n + 1 for n in range(bits.bit_length()) if bits >> n & 1)
        self._lengths = {first: shared[bits] for first, bits in lengths.items()}

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, name: object) -> bool:
        return name in self.numbers

    def get(self, name: str) -> int | None:
        """The number of a key, None if there is none."""
        return self.numbers.get(name)

    def find(self, words: Sequence[str]) -> Iterator[tuple[int, int, int]]:
        """All names in the words, also those inside and across one another.

        Yields:
            (first word, word after the last, number of the name), by first word, the shorter first.
        """
        count = len(words)
        for first, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                stop = first + length
                if stop > count:
                    break
                number = self.numbers.get(" ".join(words[first:stop]) if length > 1 else word)
                if number is not None:
                    yield first, stop, number
