"""Years as people say them beyond decades: "prior to 1990", "between 1980 and 1995", "the last ten years".

Knows text and what year it is, not whether a span is wanted.
"""

import re
from collections.abc import Iterator

_YEAR = r"(?:the\s+)?(?:year\s+)?(?P<year>19[2-9]\d|20[0-4]\d)(?![\w'’-])"
_TO = r"(?P<first>19\d\d|20[0-4]\d)\s*(?:-|–|to|and|until|through)\s*(?P<last>19\d\d|20[0-4]\d)\b"
_UNDER = re.compile(
    rf"\b(?:(?:prior|previous)\s+to|(?:older|earlier)\s+than|pre|predat(?:es?|ing)|to\s+predate)[\s-]+{_YEAR}", re.I
)
_UP_TO = re.compile(rf"\b(?:no(?:t|thing)?\s+(?:later|newer|more\s+recent)\s+than|up\s+(?:to|until))\s+{_YEAR}", re.I)
_OVER = re.compile(rf"\b(?:(?:newer|later|more\s+recent|younger)\s+than|post)[\s-]+{_YEAR}", re.I)
_ON = re.compile(
    rf"\b(?:no(?:t|thing)?\s+(?:older|earlier)\s+than)\s+{_YEAR}|"
    r"\b(?P<from>19[2-9]\d|20[0-4]\d)\s*(?:\+|(?:and|or)\s+(?:later|newer|after|up)|onwards?|on\b)",
    re.I,
)
_BETWEEN = re.compile(rf"(?:\b(?:between|from)\s+)?\b{_TO}", re.I)
_BARE = re.compile(
    r"(?<![\w'’-])(?P<year>19[2-9]\d|20[0-4]\d)(?=\s+(?:movies?|films?|flicks?|ones?|releases?)\b)|"
    r"^\W*(?:something\s+|anything\s+|maybe\s+)?(?P<only>19[2-9]\d|20[0-4]\d)\W*$",
    re.I,
)
_NUMBERS = {
    "couple": 2, "two": 2, "three": 3, "few": 5, "four": 4, "five": 5, "several": 6, "six": 6, "eight": 8, "ten": 10,
    "fifteen": 15, "twenty": 20, "thirty": 30,
}  # fmt: skip
_RECENT = re.compile(
    rf"\b(?:last|past|recent)\s+(?:(?P<number>\d\d?|{'|'.join(_NUMBERS)})\s+(?:of\s+)?(?P<unit>years?|decades?)|(?P<decade>decade)|(?P<years>years))\b",
    re.I,
)
_AT_MOST_OLD = re.compile(
    rf"\b(?:(?:not?|nothing|n['’]t\s+be)\s+(?:\w+\s+)?older\s+than|(?:less|younger|newer)\s+than|under|max(?:imum)?)\s+"
    rf"(?P<number>\d\d?|{'|'.join(_NUMBERS)})\s+(?:of\s+)?years(?:\s+(?P<old>old))?",
    re.I,
)
_DECADE_ON = re.compile(
    r"(?:\b(?P<nought>noughties|naughties|aughts|two\s+thousands)\b|\b(?P<decade>19\d0|20\d0|\d0)['’]?s)"
    r"(?:(?P<on>\s+(?:or|and)\s+(?:later|newer|after|up|onwards?|beyond)|\s+onwards?)|(?P<back>\s+(?:or|and)\s+(?:earlier|older|before)))?",
    re.I,
)
_CENTURY = re.compile(
    r"\b(?:(?P<new>(?:this|the\s+current|(?:the\s+)?21st)\s+century|(?:the\s+)?new\s+millen+ium)|(?:(?:last|(?:the\s+)?20th|previous)\s+century))\b",
    re.I,
)


def periods(text: str, now: int) -> Iterator[tuple[str, int, int]]:
    """Spans of years, as ("first-last", start, end): "prior to 1990" gives "-1989".

    Args:
        text: of a message.
        now: the year that "the last ten years" end with.
    """
    for pattern, form in ((_UP_TO, "-{0}"), (_UNDER, "-{1}"), (_OVER, "{2}-"), (_ON, "{0}-"), (_BARE, "{0}-{0}")):
        for found in pattern.finditer(text):
            year = int(next(filter(None, found.groups())))
            yield form.format(year, year - 1, year + 1), *found.span()
    for found in _BETWEEN.finditer(text):
        first, last = sorted((int(found["first"]), int(found["last"])))
        yield f"{first}-{last}", *found.span()
    for found in _RECENT.finditer(text):
        number = (found["number"] or "").lower()
        count = _NUMBERS.get(number) or (int(number) if number else 10 if found["decade"] else 5)
        count *= 10 if (found["unit"] or "").lower().startswith("decade") else 1
        yield f"{now - count}-", *found.span()
    for found in _AT_MOST_OLD.finditer(text):
        if "older" in found.group().lower() or found["old"]:
            number = found["number"].lower()
            yield f"{now - (_NUMBERS.get(number) or int(number))}-", *found.span()
    for found in _DECADE_ON.finditer(text):
        first = 2000 if found["nought"] else int(found["decade"])
        first += 0 if first > 99 else 2000 if first < 20 else 1900
        if found["on"] or found["back"] or found["nought"]:
            until = "" if found["on"] else str(first + 9)
            yield f"{'' if found['back'] else first}-{until}", *found.span()
    for found in _CENTURY.finditer(text):
        yield ("2000-" if found["new"] else "-1999"), *found.span()
