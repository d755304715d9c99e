"""People who are called by their surname alone where a linker asks for more: "fincher", "no mr eastwood"."""

import re
from collections import Counter
from collections.abc import Sequence

from crscli.catalogue import Catalogue
from crscli.dialogue import Link
from crscli.names import key, tokens

_FILMS = 2
"""In as many films at least somebody is known by the surname."""
_SHARE = 0.6
"""Of the films of all who have it."""
_WORDS = frozenset({
    "allen", "baker", "banks", "bishop", "black", "bridges", "brooks", "brown", "bullock", "carpenter", "chase",
    "cross", "curry", "day", "field", "fields", "fisher", "ford", "foster", "fox", "grace", "grant", "gray",
    "green", "hall", "hardy", "hill", "holland", "house", "hunt", "hunter", "jackson", "jones", "king",
    "knight", "lane", "law", "lee", "little", "lord", "love", "lynch", "marsh", "martin", "mason", "moore",
    "murphy", "murray", "newman", "north", "page", "parker", "phoenix", "pitt", "poe", "pope", "potter",
    "power", "powers", "price", "quick", "rock", "rose", "rush", "short", "singer", "smith", "snow", "stone",
    "strong", "swift", "turner", "walker", "waters", "watts", "west", "white", "wilder", "williams", "willis",
    "wood", "woods", "worth", "young",
})  # fmt: skip
"""Surnames that are words or first names as well: they need company."""
_CALLED = re.compile(
    r"\b(?:mr|mrs|ms|miss|director|by|with|starring|of|no|not|without|drop|ditch|forget|bin|lose|skip|some|any|more|another|than|"
    r"for|like|love|loves?|enough|avoid|anything|film|movie|real|big|hate|hates)\.?\s+(?:\w+\s+)?$",
    re.I,
)
_FOLLOWED = re.compile(
    r"^(?:['’]s)?\s+(?:movies?|films?|flicks?|ones?|kick|fan|again|tho(?:ugh)?|please|instead|then|is|was)\b",
    re.I,
)
_FEW_WORDS = 3


class Surnames:
    """The people of a catalogue by surname."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Count who is in how many films."""
        films: Counter[str] = Counter()
        for item in catalogue:
            films.update({*item.cast, *item.directors, *item.writers})
        found: dict[str, list[str]] = {}
        for name, _ in films.most_common():
            parts = key(name).split()
            if len(parts) > 1 and len(parts[-1]) > 3:
                found.setdefault(parts[-1], []).append(name)
        titles = {word for item in catalogue for word in key(item.title).split()}
        self._people = {
            surname: names[0]
            for surname, names in found.items()
            if films[names[0]] >= _FILMS
            and films[names[0]] >= _SHARE * sum(films[name] for name in names)
            and surname not in titles
            and surname not in _WORDS
        }

    def with_called(self, text: str, links: Sequence[Link]) -> tuple[Link, ...]:
        """The links of a message and those to people who are called by their surname.

        Args:
            text: of the message.
            links: found in it.
        """
        words, found = tokens(text), []
        for token in words:
            name = self._people.get(token.word.removesuffix("s") if token.word not in self._people else token.word)
            taken = any(link.start < token.end and token.start < link.end for link in links)
            if name is None or taken or any(link.id == name for link in links):
                continue
            before, after = text[max(0, token.start - 40) : token.start], text[token.end : token.end + 20]
            is_name = text[token.start].isupper() and token.start > 0
            if is_name or len(words) <= _FEW_WORDS or _CALLED.search(before) or _FOLLOWED.match(after):
                found.append(Link("person", name, token.start, token.end))
        return tuple(sorted((*links, *found), key=lambda link: link.start)) if found else tuple(links)
