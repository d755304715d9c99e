"""Words for genres as people misspell them: "horor", "comdey", "thrillr"."""

from collections.abc import Iterator
from dataclasses import replace

from rapidfuzz.distance import DamerauLevenshtein

from crscli.dialogue import Turn
from crscli.names import tokens

_WORDS = (
    "action", "adventure", "animated", "animation", "cartoon", "comedy", "comedies", "crime", "documentary",
    "documentaries", "drama", "family", "fiction", "fantasy", "funny",
    "historical", "horror", "musical", "mystery", "romance",
    "romantic", "scary", "science", "thriller", "thrillers", "western", "hilarious", "superhero", "classic",
)  # fmt: skip
_REAL = {
    "actions", "auction", "comely", "crimes", "cartoons", "dramas", "musicals", "romances", "westerns", "classics",
    "scare", "scars", "scarf", "fanny", "horrors", "animate", "adventures", "fantasies", "prime", "grime", "factions",
    "suctions", "caution", "camedy", "actin", "acting", "historically", "musically", "drams", "romanic", "eastern",
}  # fmt: skip
"""Words as near as a misspelling that mean something else, or that the readers know."""


def respelt(turn: Turn) -> Turn:
    """The turn with misspelt genre words as they should be; links keep their words."""
    for start, end, right in reversed(list(_wrong(turn))):
        text = turn.text[:start] + right + turn.text[end:]
        by = len(right) - (end - start)
        links = tuple(x if x.start <= start else replace(x, start=x.start + by, end=x.end + by) for x in turn.links)
        turn = replace(turn, text=text, links=links)
    return turn


def _wrong(turn: Turn) -> Iterator[tuple[int, int, str]]:
    for token in tokens(turn.text):
        word = token.word
        if len(word) < 5 or word in _WORDS or word in _REAL or not word.isalpha():
            continue
        if any(x.kind != "genre" and x.start < token.end and token.start < x.end for x in turn.links if x.start >= 0):
            continue
        allowed = 1 if len(word) < 8 else 2
        for right in _WORDS:
            if right[0] == word[0] and DamerauLevenshtein.distance(word, right, score_cutoff=allowed) <= allowed:
                yield token.start, token.end, right
                break
