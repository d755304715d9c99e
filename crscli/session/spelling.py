"""Words as people misspell them: genres ("horor", "comdey"), small words in a hurry ("teh", "whats", "pls")."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rapidfuzz.distance import DamerauLevenshtein

from crscli.dialogue import Turn
from crscli.names import tokens

_WORDS = (
    "action", "adventure", "animated", "animation", "cartoon", "comedy", "comedies", "crime", "documentary",
    "documentaries", "drama", "family", "fiction", "fantasy", "funny",
    "historical", "horror", "musical", "mystery", "romance",
    "romantic", "scary", "science", "thriller", "thrillers", "western", "hilarious", "superhero", "classic",
)  # fmt: skip
_SLIPS = {
    "teh": "the", "hte": "the", "thsi": "this", "taht": "that", "thta": "that", "waht": "what", "whta": "what",
    "wat": "what", "wut": "what", "wht": "what", "whats": "what's", "whos": "who's", "whens": "when's",
    "wheres": "where's", "hows": "how's", "whys": "why's", "wich": "which", "whcih": "which", "adn": "and",
    "abt": "about", "wth": "with", "wiht": "with", "witout": "without", "frm": "from", "fomr": "from",
    "frist": "first", "fisrt": "first", "secnd": "second", "secound": "second", "thrid": "third",
    "moive": "movie", "moives": "movies", "movei": "movie", "moveis": "movies", "mvoie": "movie", "movi": "movie",
    "flim": "film", "flims": "films", "filsm": "films", "somthing": "something", "somehting": "something",
    "somethin": "something", "somethign": "something", "smthing": "something", "smth": "something",
    "smthn": "something", "sumthing": "something", "sth": "something", "anythin": "anything", "anyting": "anything",
    "nothin": "nothing", "esle": "else", "directer": "director", "diretor": "director", "dircetor": "director",
    "acter": "actor", "actres": "actress", "recomend": "recommend", "reccomend": "recommend",
    "reccommend": "recommend", "recommand": "recommend", "watchd": "watched", "allready": "already",
    "alredy": "already", "tonite": "tonight", "2nite": "tonight", "becuase": "because", "plz": "please",
    "pls": "please", "gimme": "give me", "lookin": "looking", "nvm": "never mind", "nevermind": "never mind",
    "dont": "don't", "doesnt": "doesn't", "didnt": "didn't", "isnt": "isn't", "wasnt": "wasn't", "arent": "aren't",
    "havent": "haven't", "hasnt": "hasn't", "cant": "can't", "wont": "won't", "wouldnt": "wouldn't",
    "shouldnt": "shouldn't", "ive": "i've", "weve": "we've", "theyve": "they've", "shes": "she's", "thats": "that's",
    "lets": "let's", "im": "i'm", "youre": "you're", "u": "you", "ur": "your", "luv": "love",
    "xmas": "christmas", "hav": "have", "wif": "with", "kk": "ok", "poss": "possible",
    "bf": "boyfriend", "gf": "girlfriend", "scfi": "sci-fi", "scifi": "sci-fi", "sifi": "sci-fi", "romcom": "rom-com",
    "docu": "documentary", "pic": "picture", "fav": "favourite", "fave": "favourite", "tmrw": "tomorrow",
}  # fmt: skip
"""Typed in a hurry -> what is meant; none of them is an English word that people use of films."""
_REAL = {
    "actions", "auction", "comely", "crimes", "cartoons", "dramas", "musicals", "romances", "westerns", "classics",
    "scare", "scars", "scarf", "fanny", "horrors", "animate", "adventures", "fantasies", "prime", "grime", "factions",
    "suctions", "caution", "camedy", "actin", "acting", "historically", "musically", "drams", "romanic", "eastern",
}  # fmt: skip
"""Words as near as a misspelling that mean something else, or that the readers know."""


@dataclass(frozen=True)
class Respelt:
    """A turn as it should have been typed, and where its words stand in what was typed."""

    turn: Turn
    changes: tuple[tuple[int, int, str], ...] = ()
    """(start, end, right) in the text as typed, by place."""

    def placed(self, at: int) -> int:
        """The place in the text as typed of one in the turn's text."""
        by = 0  # how much longer the text has become so far
        for start, end, right in self.changes:
            if at <= start + by:
                break
            longer = len(right) - (end - start)
            if at < start + by + len(right):
                return min(start + at - (start + by), end)
            by += longer
        return at - by


def respelt(turn: Turn) -> Respelt:
    """The turn with its misspelt words as they should be; links keep their words."""
    changes = tuple(_wrong(turn))
    for start, end, right in reversed(changes):
        text = turn.text[:start] + right + turn.text[end:]
        by = len(right) - (end - start)
        links = tuple(x if x.start <= start else replace(x, start=x.start + by, end=x.end + by) for x in turn.links)
        turn = replace(turn, text=text, links=links)
    return Respelt(turn, changes)


def _wrong(turn: Turn) -> Iterator[tuple[int, int, str]]:
    for token in tokens(turn.text):
        word = token.word
        slip = _SLIPS.get(word) if turn.text[token.start : token.end].lower() == word else None
        if slip is None and (len(word) < 5 or word in _WORDS or word in _REAL or not word.isalpha()):
            continue
        if any(x.kind != "genre" and x.start < token.end and token.start < x.end for x in turn.links if x.start >= 0):
            continue
        right = slip or _nearest(word)
        if right:
            yield token.start, token.end, right


def _nearest(word: str) -> str:
    """The genre word that a word is a misspelling of, "" for none."""
    allowed = 1 if len(word) < 8 else 2
    near = (
        right
        for right in _WORDS
        if right[0] == word[0] and DamerauLevenshtein.distance(word, right, score_cutoff=allowed) <= allowed
    )
    return next(near, "")
