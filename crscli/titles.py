"""Titles that a language model names in an answer, and which items of a catalogue they are.

Reads whatever a model may answer: a title a line, numbered or not, a list on one line, JSON, prose around it, nothing.
Knows no prompt and no model.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crscli.catalogue import Catalogue
from crscli.linking.aliases import ROMAN, article_forms, without_article
from crscli.linking.films import Films
from crscli.linking.fuzzy import LengthIndex
from crscli.names import key

LETTERS_AN_EDIT = 6
"""One edit is forgiven for so many letters, an article not counted; a title of fewer letters must be exact."""
MOST_EDITS = 2
YEAR_SLACK = 1
"""Years of one film differ so much, by festival and by country."""
_LONGEST_ANSWER, _LONGEST_LINE, _LONGEST_TITLE = 20_000, 2_000, 200
"""Characters that are read; more is a model that has run wild."""
_LOOSE = frozenset({"part", "front", "short"})
"""Kinds of other names that need a year: "John Wick" alone is none of its sequels."""
_PROSE = 12
"""A line of more words is no title."""

# The endpoint may leave out where thoughts begin, and the limit on tokens where they end.
_THOUGHT = re.compile(r"\A.*</think(?:ing)?>|<think(?:ing)?>.*\Z", re.S | re.I)
_TAG = re.compile(r"<[/|]?[a-zA-Z][^<>\n]{0,60}>")
_ADDRESS = re.compile(r"(?<=\])\((?:[^()\s]|\([^()\s]{0,60}\)){0,300}\)")
# "3:10 to Yuma" begins with no number of a list: a blank, or what is no digit, follows one.
_NUMBERED = re.compile(r"[\W_]{0,9}?[(\[#]{0,2}\d{1,2}\s?(?:[.):\]]{1,2}\**|[-–—](?=\s))(?:\s+|(?=[^\d\s]))(?=.*\w)")
_COUNTED = re.compile(r"\W{0,9}?(\d{1,2})\s+(?=.*\w)")
_BULLETED = re.compile(r"\s*[-–—•·●▪*+>]\s*(?:(?<=\s)|(?=\w))(?=.*\w)")
_NEXT_NUMBER = re.compile(r"[\s,;]{1,9}(?=\(?\d{1,2}[.)]\s)")
_DATED = re.compile(r"[(\[][^()\[\]]{0,40}?\b((?:18|19|20)\d\d)\b[^()\[\]]{0,40}[)\]]")
_BARE_YEAR = re.compile(r"[\s,–—-]+((?:18|19|20)\d\d)[\W_]*$")
_BRACKET = re.compile(r"\s*[(\[]")
# What follows a dash or colon is a remark, no second title, if it begins small, ends as a sentence does, or is long.
_REMARK = re.compile(
    r"(?:\s+[-–—]+|:)\**\s+(?=[a-z]|(?:\S+\s+){3}.*[.!?]$|(?:\S+\s+){8})|,?\s+(?:directed by|starring)\s"
)
_SEPARATOR = re.compile(r"\s{0,9}[,;|]\s{0,9}(?:and\s+|or\s+)?")
_JSON_FIELD = re.compile(
    r'"(?:movie|film)?[ _]?(?:title|name|movie|film)"\s*:\s*"((?:[^"\\\n]|\\.){0,300})"'
    r'(?:\s*,\s*"(?:release[ _])?year"\s*:\s*"?(\d{4}))?',
    re.I,
)
_JSON_LIST = re.compile(r'\[\s*"')
_JSON_TEXT = re.compile(r'"((?:[^"\\\n]|\\.){0,300})"')


@dataclass(frozen=True, slots=True)
class NamedTitle:
    """A title that was named, and the item that it is.

    `item_num` is -1 out of the catalogue; `edits` tells how many letters are written otherwise than in the catalogue.
    """

    text: str
    year: int | None = None
    item_num: int = -1
    edits: int = 0


def said(answer: str) -> str:
    """An answer without the thoughts that a reasoning model writes before it, and without tags."""
    return _TAG.sub(" ", _THOUGHT.sub(" ", answer)[:_LONGEST_ANSWER])


class TitleReader:
    """Finds the items of a catalogue that an answer names."""

    def __init__(self, catalogue: Catalogue, popularity: np.ndarray) -> None:
        """Args: catalogue; popularity (N,), which decides between items of one title where no year is given."""
        self._items = catalogue.items
        self._popularity = popularity
        self._films = Films(catalogue)
        self._near_index = LengthIndex(self._films.keys)

    def read(self, answer: str) -> list[NamedTitle]:
        """All titles of an answer in its order, repeated ones too.

        In an answer with two numbered lines, or else two with bullets, only those count; in one without, a line that
        ends as a sentence does or is long is prose, unless it names an item.
        """
        answer = said(answer)
        quoted = _quoted(answer)
        if quoted:
            return [self.find(text) for text in quoted if key(text)]
        return [named for line, listed in _lines(answer) for named in self._of_line(line[:_LONGEST_LINE], listed)]

    def find(self, text: str) -> NamedTitle:
        """The item that one title means, the year as it stands in brackets or at the end.

        The same title, or another name that the linker knows of it (an alias, other numerals, no article): of several
        items the one whose year is nearest, without a year the most popular. The very title is taken whatever the
        year says, since models err in years; any other name, or a part of the text, only if the years agree within
        YEAR_SLACK. Else the nearest title within MOST_EDITS, fewer in a short one, with the same numbers in it and
        the same year: "Rocky II" is never "Rocky III".

        Source: He et al., CIKM 2023, who forgive two edits whatever the length and read no years.
        """
        likeliest = list(dict.fromkeys(readings(text)))
        for place, (title, year) in enumerate(likeliest):
            item = self._of_name(key(title), year, whole=not place)
            if item is not None:
                return NamedTitle(title, year, item)
        for title, year in likeliest:
            near = self._near(key(title), year)
            if near is not None:
                return NamedTitle(title, year, *near)
        return NamedTitle(*likeliest[0])

    # ---- one line ---------------------------------------------------------------------------------------------

    def _of_line(self, line: str, listed: bool) -> list[NamedTitle]:
        """The titles of a line, which mostly is one."""
        places = [found.end() for found in _DATED.finditer(line)]
        if len(places) > 1 and not listed:
            parts = [line[start:end] for start, end in zip([0, *places], places, strict=False)]
            return [self.find(part) for part in (re.sub(r"^[\s,;|]+(?:and\s+)?", "", p) for p in parts) if key(part)]
        whole = self.find(line)
        if whole.item_num < 0 or whole.edits:
            pieces = self._pieces(_SEPARATOR.split(line))
            if len(pieces) > 4 or sum(piece.item_num >= 0 for piece in pieces) > 1:
                return pieces
        if whole.item_num < 0 and not listed and not places and _is_prose(line):
            return []
        return [whole]

    def _pieces(self, parts: Sequence[str]) -> list[NamedTitle]:
        """Titles between commas; a title that holds commas itself is put together again."""
        found: list[NamedTitle] = []
        at = 0
        while at < len(parts):
            for stop in range(min(at + 4, len(parts)), at, -1):
                named = self.find(", ".join(parts[at:stop]))
                if (named.item_num >= 0 and not named.edits) or stop == at + 1:
                    break
            if key(named.text):
                found.append(named)
            at = stop
        return found

    # ---- one title --------------------------------------------------------------------------------------------

    def _of_name(self, name: str, year: int | None, whole: bool) -> int | None:
        if not name or (year is None and name.isdigit() and len(name) < 3):
            return None  # "12." is the number of a line rather than a film
        same_title: list[int] = []
        for form in (name, *article_forms(name)):
            number = self._films.index.get(form)
            if number is None:
                continue
            known = self._films.name(number)
            items = [item for title in known.titles for item in self._films.items_of(title)]
            slack = YEAR_SLACK if known.kind in _LOOSE else YEAR_SLACK + 1
            agreeing = [item for item in items if self._gap(item, year) <= slack]
            if agreeing:
                return self._best(agreeing, year)
            if whole and form == name and known.kind == "title":
                same_title = items
        return self._best(same_title, year) if same_title else None

    def _near(self, name: str, year: int | None) -> tuple[int, int] | None:
        """(item, edits) of the nearest title."""
        window = name.replace(" ", "")
        plain = (without_article(name) or name).replace(" ", "")
        edits = min(MOST_EDITS, len(plain) // LETTERS_AN_EDIT)
        if not edits or len(window) > _LONGEST_TITLE:
            return None
        numbers = _numbers(name)
        by_distance: dict[int, list[int]] = {}
        for title, distance in self._near_index.near(window, edits):
            if _numbers(self._films.keys[title]) == numbers:
                items = [i for i in self._films.items_of(title) if self._gap(i, year) in (0, YEAR_SLACK + 1)]
                by_distance.setdefault(distance, []).extend(items)
        return next(((self._best(items, year), distance) for distance, items in by_distance.items() if items), None)

    def _gap(self, item: int, year: int | None) -> int:
        """Years between; an unknown year is worse than one that agrees, better than any other."""
        own = self._items[item].year
        if own is None or year is None:
            return YEAR_SLACK + 1
        gap = abs(own - year)
        return gap if gap <= YEAR_SLACK else gap + 1

    def _best(self, items: Sequence[int], year: int | None) -> int:
        return min(items, key=lambda item: (self._gap(item, year), -float(self._popularity[item]), item))


def _quoted(answer: str) -> list[str]:
    """The titles of an answer in JSON, whole or cut off; an empty list for another answer."""
    fields = [(text, year) for text, year in _JSON_FIELD.findall(answer)]
    if fields:
        return [_plain(text) + (f" ({year})" if year else "") for text, year in fields]
    start = _JSON_LIST.search(answer)
    if start is None:
        return []
    end = answer.rfind("]", start.end())
    return [_plain(text) for text in _JSON_TEXT.findall(answer[start.start() : end if end >= 0 else len(answer)])]


def _plain(text: str) -> str:
    """What stands between the quotes of a JSON text."""
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _lines(answer: str) -> Iterator[tuple[str, bool]]:
    """(line, whether it is one of a numbered or bulleted list), without bullets; numbers stay."""
    answer = _ADDRESS.sub("", answer)
    lines = [line for line in answer.splitlines() if key(line) and not line.lstrip().startswith("```")]
    if len(lines) < 3:
        lines = [part for line in lines for part in _parted(line)]
    numbered = [line for line in lines if _NUMBERED.match(line)]
    counted = [(found, line) for line in lines if (found := _COUNTED.match(line))]
    bulleted = [(found, line) for line in lines if (found := _BULLETED.match(line))]
    numbers = [int(found.group(1)) for found, _ in counted]
    if len(numbered) > 1:
        yield from ((line, True) for line in numbered)
    elif len(numbers) > 2 and numbers == list(range(1, len(numbers) + 1)):
        yield from ((line[found.end() :], True) for found, line in counted)
    elif len(bulleted) > 1:
        yield from ((line[found.end() :], True) for found, line in bulleted)
    else:
        yield from ((line, False) for line in lines)


def _parted(line: str) -> list[str]:
    """A numbered list on one line as lines."""
    parts = _NEXT_NUMBER.split(line)
    return parts if len(parts) > 2 else [line]


def readings(line: str) -> Iterator[tuple[str, int | None]]:
    """What may be the title in a line, and its year, the likeliest first; numbers, years and remarks are cut off."""
    line = line[:_LONGEST_LINE]
    number = _NUMBERED.match(line)
    for text in (line[number.end() :], line) if number else (line,):
        dated = _DATED.search(text)
        head, year = text, None
        if dated and key(text[: dated.start()]):
            head, year = text[: dated.start()], int(dated.group(1))
        head = head.strip(" \t*_`\"'“”‘’«»,;-–—#>|")
        yield head, year
        bare = None if year else _BARE_YEAR.search(head)
        if bare and bare.start():
            yield head[: bare.start()], int(bare.group(1))
        for cut in (_BRACKET.search(head), _REMARK.search(head)):
            if cut and key(head[: cut.start()]):
                yield head[: cut.start()], year


def _numbers(name: str) -> list[str]:
    """The numbers in a title, which no typing error changes."""
    words = (ROMAN.get(word, word) for word in name.split(" "))
    return [number for word in words for number in re.findall(r"\d+", word)]


def _is_prose(line: str) -> bool:
    return line.rstrip(" *_\"'”’)").endswith((".", "!", "?", ":", "…")) or len(line.split()) > _PROSE
