"""Films that are named together: "all the Toy Story films", "the Harry Potter series"."""

import re
from collections.abc import Sequence
from dataclasses import replace

from crscli.catalogue import Catalogue
from crscli.dialogue import Link, Turn
from crscli.linking.opinions import with_opinions
from crscli.names import Token, tokens

_COLLECTIVE = frozenset({"series", "trilogy", "trilogies", "saga", "franchise"})
_FILMS = (
    frozenset({"films", "movies", "flicks", "parts", "ones", "sequels", "installments", "instalments"}) | _COLLECTIVE
)
_EACH = frozenset({"film", "movie", "part"})
"""Of a series after "every" alone."""
_WHOLE = frozenset({"all", "every", "each", "both", "whole", "entire"})
_SMALL = frozenset({
    "a", "an", "the", "of", "in", "on", "at", "to", "for", "with", "from", "by", "and", "or", "but", "as", "is",
    "it", "its", "be", "me", "my", "you", "your", "we", "our", "they", "their", "this", "that", "these",
    "those", "all", "every", "each", "both", "whole", "entire", "some", "any", "no", "not", "other", "more",
    "most", "many", "few", "good", "great", "best", "old", "new", "big", "little", "seen", "watch", "watched",
    "love", "loved", "like", "liked", "hate", "hated", "first", "last", "two", "three", "i", "he", "she",
})  # fmt: skip
_PART = re.compile(r"\d{1,2}|ii|iii|iv|v|vi|vii|viii|ix|part|parts|chapter|episode|vol|volume")
_LONGEST = 5
_AT_MOST = 8
"""Series that one message names."""


class Series:
    """The series among the films of a catalogue: two films at least whose titles begin alike and go on as parts do."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Sort the titles by their first word, articles left out."""
        self._titles: dict[str, list[tuple[str, tuple[str, ...], str]]] = {}
        for item in catalogue:
            words = tokens(item.title)
            if words and words[0].word in ("the", "a", "an"):
                words = words[1:]
            if words:
                colon = re.search(r"[:–]|\s-", item.title[words[0].end :])
                before_it = [w.word for w in words if colon and w.end <= words[0].end + colon.start()]
                told = (item.item_id, tuple(w.word for w in words), " ".join(before_it))
                self._titles.setdefault(words[0].word, []).append(told)

    def with_all(self, text: str, links: Sequence[Link], before: Sequence[Turn]) -> tuple[Link, ...]:
        """The links of a message and those to the further films of each series that it names.

        Args:
            text: of the message.
            links: found in it.
            before: the turns before it.
        """
        words, found = tokens(text), list(links)
        places = [end for end, word in enumerate(words) if word.word in _FILMS or word.word in _EACH][:_AT_MOST]
        for end in places:
            for start in range(max(0, end - _LONGEST), end):
                named = words[start:end]
                if _may_name(text, words, start, end, found) and (members := self._members([w.word for w in named])):
                    found += _more(members, named, found)
                    break
        if len(found) == len(links):
            return tuple(links)
        placed = [link for link in found if link.start >= 0]
        return with_opinions(text, [replace(link, opinion=None) for link in placed], before, "seeker")

    def _members(self, words: Sequence[str]) -> list[str]:
        """Ids of the films whose titles begin with these words."""
        if words[0] in _SMALL or words[-1] in _SMALL:
            return []
        size, name = len(words), " ".join(words)
        found = [
            item_id
            for item_id, title, before_colon in self._titles.get(words[0], ())
            if title[:size] == tuple(words)
            and (size > 1 or size == len(title) or before_colon == name or _PART.fullmatch(title[size]))
        ]
        return found if len(found) > 1 else []


def _may_name(text: str, words: Sequence[Token], start: int, end: int, links: Sequence[Link]) -> bool:
    """Whether the words before "films" may be a name: a single small word is one only where something says so."""
    is_whole = any(token.word in _WHOLE for token in words[max(0, start - 3) : start])
    if is_whole or words[end].word in _EACH:
        return is_whole
    at = words[start].start
    is_linked = any(link.kind == "item" and link.start <= at < link.end for link in links)
    return words[end].word in _COLLECTIVE or end - start > 1 or text[at].isupper() or is_linked


def _more(members: Sequence[str], named: Sequence[Token], found: Sequence[Link]) -> list[Link]:
    """Links to the members that have none yet."""
    start, end = named[0].start, named[-1].end
    linked = {link.id for link in found if link.kind == "item" and link.start < end and start < link.end}
    return [Link("item", i, start, end) for i in members if i not in linked]
