"""How long a film may be and what language it should be in, as people say it. Knows text alone."""

import re
from collections.abc import Iterator

from crscli import genres
from crscli.languages import FOREIGN, SAID, code_of

SHORT, LONG = 100, 140
"""Minutes: what is short is not longer, what is long not shorter."""
_ABOUT = 15

_NUMBERS = {"a": 1.0, "an": 1.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "half an": 0.5, "half": 0.5}
_TIME = (
    r"(?P<number>\d{1,3}(?:[.,]\d)?|half\s+an?|an?|one|two|three|four|ninety|sixty)"
    r"(?P<half>\s+and\s+a\s+half)?(?:\s*-\s*|\s*)(?P<unit>hours?|hrs?|h|minutes?|mins?|m)(?![a-z])"
    r"(?P<more>\s+and\s+(?:a\s+half|(?P<rest>\d{1,2})\s*(?:minutes?|mins?)?)|\s*(?P<tail>[0-5]\d)(?:\s*m(?:in(?:ute)?s?)?)?\b)?"
)
_FILMS = r"(?:movies?|films?|flicks?|ones?|stuff|watch|features?|things?)"
_AT_MOST = re.compile(
    rf"(?:(?:(?:n['’]t|\b(?:no|not|nothing|none|never|cannot|cant|wont|avoid))\s+(?:\w+\s+){{0,2}}?"
    rf"(?:(?:any\s+)?(?:longer|more)\s+than|over|past|beyond|above|exceeding)"
    rf"|\b(?:under|less\s+than|cap(?:ped)?\s+(?:it\s+)?at|shorter\s+than|at\s+most|max(?:imum)?"
    rf"(?:\s+of)?|within|below|sub[-\s]*|up\s+to|(?:only|just)\s+(?:have|got)(?:\s+(?:about|around))?|(?:have|got)\s+(?:only|just)"
    rf"(?:\s+(?:about|around))?|fits?\s+in(?:to)?))\s+|<=?\s*){_TIME}",
    re.I,
)
_AT_LEAST = re.compile(rf"(?:\b(?:over|more\s+than|longer\s+than|at\s+least)\s+|>=?\s*){_TIME}", re.I)
_NONE_OF = re.compile(
    rf"\b(?:no|not|nothing|none|never|avoid|without)\s+(?:[\w'’]+\s+){{0,4}}?{_TIME}[\s-]+(?:long\s+)?(?:\w+\s+)?"
    r"(?:movies?|films?|flicks?|ones?|things?|epics?|monsters?|marathons?|slogs?|beasts?)\b",
    re.I,
)
"""What is as long as that is not wanted."""
_AROUND = re.compile(rf"\b(?:around|about|roughly|approximately)\s+{_TIME}(?:\s+long)?", re.I)
_OR_LESS = re.compile(
    rf"(?<![\w.]){_TIME}\s+(?:or\s+(?:less|shorter|under)|max(?:imum)?|tops|at\s+most|(?:is|are|would\s+be|feels)\s+(?:\w+\s+)?(?:too\s+(?:much|long)|my\s+limit|the\s+(?:limit|max\w*|most)|pushing\s+it))\b",
    re.I,
)
_SHORT = re.compile(
    rf"\b(?:(?:something|somethin|smth|sth|anything|pretty|fairly|quite|rather|nice\s+and)\s+(?:\w+\s+)?short(?!\s+(?:story|stories|circuit))|"
    rf"short(?:er|ish)?(?=\s+(?:\w+\s+)?{_FILMS}\b)|(?:not|isn'?t|nothing|n['’]?t\s+be)\s+(?:too\s+|very\s+|so\s+|that\s+)?long\b"
    r"|quick\s+(?:watch|one|movie|film)|on\s+the\s+shorter\s+side|short\s+and\s+sweet|"
    r"(?<!been )(?:too|2)\s+long(?!\s+(?:ago|since))|shorter\b(?!\s+than))",
    re.I,
)
_LONG = re.compile(
    rf"\b(?:(?:something|anything|pretty|quite|rather)\s+long(?!\s+(?:ago|time))|(?:really\s+)?long(?:er)?(?=\s+{_FILMS}\b)|"
    r"long\s+(?:and\s+)?epic|epic\s+length|too\s+short|longer\b(?!\s+than))",
    re.I,
)
_HAS_LENGTH = re.compile(
    r"\b(?:hours?|hrs?|minutes?|mins?|long\w*|short\w*|quick)\b|\d\s*(?:h|m)(?:rs?|ours?|ins?|inutes?)?(?![a-z])", re.I
)
_IN = re.compile(r"\b(?:in|speaks?|spoken|from)\s+$", re.I)
_SPEAKS = re.compile(r"\b(?:you|u|i|we)\s+(?:\w+\s+)?(?:speak|know|understand|talk)\s+$", re.I)
_KIND = re.compile(
    rf"^(?:[- ](?:language|speaking|spoken))?\s+(?:\w+\s+)?(?:{_FILMS}|cinema|language|hits?|classics?|directors?)\b",
    re.I,
)
_ASKED = re.compile(r"\b(?:something|anything|any|some|prefer(?:ably)?|maybe|want|like)\s+(?:\w+\s+)?$", re.I)
_FOREIGN = re.compile(
    rf"\bforeign(?:[- ]language)?(?=\s+(?:\w+\s+)?{_FILMS}\b)|\b(?:something|anything)\s+foreign\b|"
    r"\bnot\s+in\s+english\b|\bnon[- ]english\b|\bforeign(?=\s*(?:[,.!?;]|$))|"
    r"\bwith\s+subtitles\b|\bforeign\s+language\b",
    re.I,
)
_NO_SUBTITLES = re.compile(
    r"\b(?:no|without|hates?|dislikes?|avoid|can['’]?t\s+(?:read|stand|follow|do|be\s+bothered\s+with)|(?:don['’]?t|do\s+not)\s+(?:\w+\s+)?"
    r"(?:like|want|do|fancy|feel\s+like|enjoy|read(?:ing)?))\s+(?:\w+\s+){0,2}(?:subtitles?|subs)\b|\b(?:no|without)\s+reading\b",
    re.I,
)


def lengths(text: str) -> Iterator[tuple[str, int, int]]:
    """Running times asked for, as ("first-last" in minutes, start, end): "under two hours" gives "-120"."""
    if not _HAS_LENGTH.search(text):
        return
    taken: list[tuple[int, int]] = []
    for form, pattern in (
        ("most", _AT_MOST),
        ("most", _OR_LESS),
        ("most", _NONE_OF),
        ("least", _AT_LEAST),
        ("about", _AROUND),
    ):
        for found in pattern.finditer(text):
            if any(a < found.end() and found.start() < b for a, b in taken):
                continue
            taken.append(found.span())
            told = _minutes(found)
            if not told:
                continue
            value = {"most": f"-{told}", "least": f"{told}-", "about": f"{max(1, told - _ABOUT)}-{told + _ABOUT}"}[form]
            yield value, *found.span()
    for value, pattern in ((f"-{SHORT}", _SHORT), (f"{LONG}-", _LONG)):
        for found in pattern.finditer(text):
            if not any(a < found.end() and found.start() < b for a, b in taken):
                taken.append(found.span())
                yield value, *found.span()


def _minutes(found: re.Match[str]) -> int:
    word = " ".join(found["number"].lower().split())
    number = {"ninety": 90.0, "sixty": 60.0}.get(word) or _NUMBERS.get(word)
    if number is None:
        number = float(word.replace(",", "."))
    number += 0.5 if found["half"] else 0.0
    in_hours = found["unit"].lower().startswith("h")
    total = number * (60 if in_hours else 1)
    if found["more"] and in_hours:
        total += float(found["rest"] or found["tail"] or 30)
    return round(total) if total <= 999 else 0


def said_languages(text: str) -> Iterator[tuple[str, int, int]]:
    """Languages asked for, as (code or FOREIGN, start, end); a film's people and food are passed over."""
    for found in _FOREIGN.finditer(text):
        yield FOREIGN, *found.span()
    for found in _NO_SUBTITLES.finditer(text):
        yield "en", *found.span()
    for found in SAID.finditer(text):
        if _SPEAKS.search(text[max(0, found.start() - 40) : found.start()]):
            continue
        before, after = text[max(0, found.start() - 40) : found.start()], text[found.end() : found.end() + 40]
        near = _KIND.match(after) or any(span.start <= 12 for span in genres.said(after))
        asked = near or _IN.search(before) or (_ASKED.search(before) and not re.match(r"\s+\w", after))
        if asked and not re.search(r"\bnot\s+in\s+$", before, re.I):
            yield code_of(found.group()), *found.span()
