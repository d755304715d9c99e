"""People who are called by their surname alone where a linker asks for more: "fincher", "no mr eastwood"."""

import re
from collections import Counter
from collections.abc import Sequence

from crscli.catalogue import Catalogue
from crscli.dialogue import Link, Turn
from crscli.names import Token, key, tokens

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
_ALSO_WORDS = frozenset({
    "will", "mark", "bill", "grace", "rose", "art", "drew", "hope", "faith", "joy", "may", "june", "april",
    "christian", "dick", "pat", "rob", "sue", "jack", "cross", "field", "fields", "law", "love", "rush",
    "short", "strong", "stone", "white", "black", "brown", "green", "gray", "grey", "wood", "woods", "day",
    "fox", "hill", "long", "young", "king", "price", "power", "page", "snow", "swift", "worth", "little",
    "quick", "bridges", "chase", "lord", "house", "hall", "guy", "don", "ray", "sean", "max", "sandy", "dean",
    "frank", "gene", "carol", "holly", "robin", "dawn", "eve", "miles", "rich", "penny", "olive",
})  # fmt: skip
"""Names that are words: those who were named are called by them with a capital alone."""
_CALLED = re.compile(
    r"\b(?:mr|mrs|ms|miss|director|by|with|starring|of|no|not|without|drop|ditch|forget|bin|lose|skip|some|any|more|another|than|"
    r"for|like|about|love|loves?|enough|avoid|anything|film|movie|real|big|hate|hates)\.?\s+(?:\w+\s+)?$",
    re.I,
)
_FOLLOWED = re.compile(
    r"^(?:['’]s)?\s+(?:movies?|films?|flicks?|ones?|kick|fan|again|tho(?:ugh)?|please|instead|then|is|was)\b",
    re.I,
)
_FEW_WORDS = 3
_NEAR = 40


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

    def with_called(self, text: str, links: Sequence[Link], before: Sequence[Turn]) -> tuple[Link, ...]:
        """The links of a message and those to people who are called by their surname.

        Args:
            text: of the message.
            links: found in it.
            before: the turns before it; who was named there is called by either name.
        """
        words, found = tokens(text), []
        known = self._spoken_of(before)
        for token in words:
            word = token.word if token.word in self._people else token.word.removesuffix("s")
            small = token.word in _ALSO_WORDS and not text[token.start].isupper()
            name = (None if small else known.get(token.word)) or self._people.get(word)
            taken = any(link.start < token.end and token.start < link.end for link in links)
            if name is None or taken or any(link.id == name for link in links):
                continue
            is_few = len(words) <= _FEW_WORDS
            if token.word in known or is_few or _is_called(text, token):
                found.append(Link("person", name, token.start, token.end))
        return tuple(sorted((*links, *found), key=lambda link: link.start)) if found else tuple(links)

    def _spoken_of(self, before: Sequence[Turn]) -> dict[str, str]:
        """Who was named in a dialogue, by first name and by surname."""
        links = [link for turn in before if turn.role == "seeker" for link in turn.links if link.kind == "person"]
        return {part: link.id for link in links for part in (key(link.id).split()[0], key(link.id).split()[-1])}


def _is_called(text: str, token: Token) -> bool:
    """Whether the words around say that it is a name."""
    if text[token.start].isupper() and token.start > 0:
        return True
    return bool(_CALLED.search(text[max(0, token.start - _NEAR) : token.start]) or _FOLLOWED.match(text[token.end :]))
