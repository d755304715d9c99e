"""What films shall be about, or shall not: "set in space", "spy thriller", "boxing", "no princesses".

A theme is asked for in the words of the catalogue: a whole keyword of some film, or, after words as plain as "about",
any word of the plots that few films have. Which items have it is `limits.Shelf.about`.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from crscli import genres
from crscli.catalogue import Catalogue
from crscli.dialogue import Turn
from crscli.names import Token, singular, tokens
from crscli.wishes import Wish, is_negated, masked

_MOST_ABOUT = 0.08
"""Share of a catalogue: what more films are about tells nothing."""
_SHORT = 120
"""Letters of a sentence that may say no more than its theme."""
_LONGEST = 3
"""Words of a theme."""
_ABOUT = re.compile(
    r"\b(?:(?<!how )(?<!what )about|involving|featuring|centred\s+(?:on|around)"
    r"|(?:takes?\s+place|set)\s+(?:in|on|at|during|around)|deal(?:s|ing)?\s+with|to\s+do\s+with|revolv(?:es|ing)\s+around)\s+",
    re.I,
)
"""After these any telling word is a theme."""
_LIKES = re.compile(
    r"\b(?:with|about|into|(?<!i am )(?<!i was )in|loves?|likes?|enjoys?|obsessed\s+with"
    r"|mad\s+about|crazy\s+about|interested\s+in"
    r"|fan\s+of)\s+(?:(?:an?|the|some|lots\s+of|lot\s+of|real|big|any|my|cool|cute|stuff\s+with)\s+)*$",
    re.I,
)
"""After these a keyword is one."""
_FOLLOWED = re.compile(
    r"^[\s-]+(?:themed\s+|related\s+|based\s+)?(?:movies?|films?|flicks?|stuff|ones?|stor(?:y|ies)|tales?|pictures?|thing|comed\w+|drama\w*"
    r"|thrillers?|horrors?|musicals?|westerns?|romances?|documentar\w+|cartoons?|adventures?|myster\w+|sci[ -]?fi)\b",
    re.I,
)
_REFUSED = re.compile(
    r"\b(?:no|not|without|avoid|hates?|enough|nothing\s+(?:with|about|on|set\s+in)|nightmares?\s+(?:about|of|from)|(?:sick|tired|bored|scared|afraid|terrified|frightened)\s+of|allergic\s+to|fed\s+up\s+with|minus"
    r"|anything\s+but|other\s+than|except(?:\s+for)?)\s+(?:(?:any|more|the|an?|of|about|those|these|stupid|silly|\w+ing)\s+)*$",
    re.I,
)
_LISTED = re.compile(
    r"\b(?:into|likes?|loves?|wants?|with|about|involving|fan\s+of|looking\s+for|something|anything|need)\b[^.!?;\n]{0,60}"
    r"(?:,|\band|\bor|\bplus)\s+(?:(?:an?|the|some)\s+)?$",
    re.I,
)
"""A list of wishes goes on with it."""
_JOINED = re.compile(
    r"^\s*(?:,|/|&|\band\b|\bor\b|\bnor\b|\bno\b|\bthe\b|\ban?\b|\bin\b|\bset\b|\babout\b|\bwith\b|\s)*$", re.I
)
_NONE = frozenset(
    {"a", "an", "and", "the", "both", "last", "first", "next", "hour", "night", "day", "time", "times", "people",
     "person", "man", "woman", "guy", "year", "years", "lot", "bit", "end", "idea", "problem", "thanks", "way",
     "need", "worries", "more", "preference", "preferences", "one", "two", "three", "from", "by", "into", "over",
     "under", "than", "then", "also", "just", "like", "that", "this", "it", "its", "them", "him", "her", "me", "you",
     "us", "my", "your", "his", "our", "their", "less", "some", "any", "ones", "movie", "movies", "film", "films",
     "something", "anything", "things", "thing", "stuff", "kind", "kinds", "type", "plot", "story", "wife",
     "husband", "girlfriend", "boyfriend", "friend", "friends", "kids", "kid", "child", "children", "family",
     "parents", "grandparents", "son", "daughter", "mom", "dad", "mum", "mother", "father", "brother", "sister",
     "date", "hours", "minutes", "minute", "second", "third", "fourth", "please", "tonight", "today", "evening",
     "weekend", "good", "great", "nice", "best", "old", "new", "same", "actor", "actress", "director", "subtitles",
     "what", "which", "who", "how", "why", "is", "are", "was", "be", "been", "to", "of", "for", "in", "on", "at",
     "but", "or", "not", "no", "nothing", "really", "very", "much", "too", "long", "short", "everyone", "everybody",
     "everything", "age", "ages", "group", "part", "mood", "wish", "wishes", "remake", "sequel", "english", "work",
     "life", "world", "fine", "okay", "name", "words", "before", "after", "during", "while", "until", "since",
     "because", "if", "when", "where", "cinema", "feeling", "feelings", "vibe", "vibes", "requirement", "rule",
     "filter", "cast", "scene", "scenes", "couch", "sofa", "popcorn", "wine", "dinner", "pizza", "home", "house",
     "screen", "job", "office", "meeting", "boss", "roommate", "flatmate", "guest", "guests", "visit", "sleep",
     "i", "nightmare", "nightmares", "whats", "happening", "happen", "happens", "bad", "better", "worse", "worst",
     "boring", "interesting", "awesome", "care", "dozen", "pronto", "surprise", "love", "well", "list", "fan",
     "fans", "hope", "theater", "theatre", "still", "true", "couple", "talking", "morning", "chat", "mine", "star",
     "stars", "fiction", "science", "dark", "black", "play", "chance", "bet", "rent", "past", "hit", "hate",
     "dude", "plan", "plans", "current", "general", "forever", "waiting", "hearing", "strange", "conversation",
     "run", "popular", "acting", "case", "head", "call", "hell", "lost", "planning", "deal", "fast", "performance",
     "lie", "winner", "bed", "eye", "eyes", "moving", "search", "guess", "check", "surprised", "crazy", "here",
     "there", "heard", "god", "shot", "box", "fall", "alone", "memory", "memories", "laughing", "moment",
     "moments", "fun", "friend's", "mind", "sound", "sounds", "look", "looks", "feel", "think", "know", "want"}
)  # fmt: skip
"""Words that no film is asked to be about."""
_FILLERS = frozenset(
    {"or", "and", "maybe", "perhaps", "please", "ok", "okay", "hmm", "hm", "um", "well", "then", "so", "something",
     "anything", "some", "any", "a", "an", "the", "one", "ones", "movie", "movies", "film", "films", "flick",
     "flicks", "stuff", "with", "about", "in", "on", "from", "set", "like", "want", "i", "id", "im", "we", "would",
     "to", "see", "watch", "how", "what", "got", "have", "you", "do", "need", "me", "give", "show", "find",
     "looking", "for", "is", "there", "are", "s", "of", "kind", "type", "really", "rather", "also", "too", "just",
     "more", "instead", "tonight", "if", "possible", "ideally", "preferably", 
     "again", "tho", "though", "now", "good", "great", "nice", "know", "recommend", "suggest", "mood", "feel", "but",
     "think", "mind", "dont", "actually", "cool", "yes", "yeah", "no"}
)  # fmt: skip
"""Words around a theme that is all that a sentence says."""


_SKIPPED = frozenset({"a", "an", "the", "some", "any", "lots", "lot", "of", "really", "real", "big", "old", "young"})
_ONE_PHRASE = re.compile(r"[\w\s'’-]*$")


class Knows(Protocol):
    """What tells of the words of a catalogue: the shelf of `limits`."""

    catalogue: Catalogue

    keywords: frozenset[str]

    @property
    def themes(self) -> frozenset[str]:
        """Keywords, each word without its plural."""
        ...

    def about(self, words: Sequence[str]) -> list[int]:
        """Item numbers whose plots or keywords have all of the words."""
        ...


class _Found(NamedTuple):
    words: tuple[str, ...]
    start: int
    end: int


def themes(turn: Turn, number: int, shelf: Knows, taken: Sequence[tuple[int, int]] = ()) -> Iterator[Wish]:
    """The themes that a turn asks for or refuses.

    Args:
        turn: the message, with its links.
        number: of the turn in the dialogue.
        shelf: tells which items are about some words.
        taken: places in the text that name something else.
    """
    text = masked(turn)
    closed = [*taken, *((x.start, x.end) for x in turn.links if x.start >= 0 and x.kind != "genre")]
    closed += [(span.start, span.end) for span in genres.said(text)]
    closed += [found.span() for found in genres.SUPERHERO.finditer(text)]
    words = [t for t in tokens(text) if not any(a < t.end and t.start < b for a, b in closed)]
    every = _keywords(words, shelf, text) + _plain(words, shelf, text) + _refused(words, shelf, text)
    every = sorted(every, key=lambda found: (found.start, -found.end))
    before: Wish | None = None
    end = 0
    for found in every:
        if found.start < end:
            continue
        wanted = _wanted(text, found, before, every, closed)
        if wanted is not None:
            end = found.end
            before = Wish("theme", text[found.start : found.end].lower(), wanted, True, number, found.start, found.end)
            yield before


def _wanted(
    text: str, found: _Found, before: Wish | None, every: Sequence[_Found], closed: Sequence[tuple[int, int]]
) -> bool | None:
    """Whether a theme that is named is asked for or refused; None where it is only spoken of."""
    ahead, behind = text[max(0, found.start - 60) : found.start], text[found.end : found.end + 30]
    if _REFUSED.search(ahead):
        return False
    if before is not None and _JOINED.match(text[before.end : found.start]):
        return before.wanted
    listed = _LISTED.search(text[max(0, found.start - 90) : found.start])
    if listed or _LIKES.search(ahead) or _ABOUT.search(ahead[-30:]) or _FOLLOWED.match(behind):
        return not is_negated(text, found.start, found.end)
    named = [(x.start, x.end) for x in every]
    return True if alone(text, found.start, found.end, [*named, *closed]) else None


def alone(text: str, start: int, end: int, named: Sequence[tuple[int, int]] = ()) -> bool:
    """Whether a sentence says no more than what stands at a place, and at those that are named besides."""
    first, stop = _sentence(text, start, end)
    if stop - first > _SHORT:
        return False
    every = [(start, end), *named]
    rest = [t for t in tokens(text[first:stop]) if not any(a < first + t.end and first + t.start < b for a, b in every)]
    return all(t.word in _FILLERS for t in rest)


def _sentence(text: str, start: int, end: int) -> tuple[int, int]:
    before = max(text.rfind(stop, 0, start) for stop in ".!?;,\n")
    after = min((at for stop in ".!?;,\n" if (at := text.find(stop, end)) >= 0), default=len(text))
    return before + 1, after


def _keywords(words: Sequence[Token], shelf: Knows, text: str) -> list[_Found]:
    """Whole keywords of the catalogue that a text says, the longest first at each place."""
    found = []
    for at in range(len(words)):
        for count in range(min(_LONGEST, len(words) - at), 0, -1):
            chosen = words[at : at + count]
            plain = tuple(singular(t.word) for t in chosen)
            if all(t.word in _NONE or len(t.word) < 3 for t in chosen):
                continue
            together = all(text[a.end : b.start].strip(" -") == "" for a, b in itertools.pairwise(chosen))
            if together and " ".join(plain) in shelf.themes and _tells(plain, shelf):
                found.append(_Found(plain, chosen[0].start, chosen[-1].end))
                break
    return found


def _plain(words: Sequence[Token], shelf: Knows, text: str) -> list[_Found]:
    """What follows an "about", as many words as some plots have."""
    found = []
    for about in _ABOUT.finditer(text):
        near = [t for t in words if about.end() <= t.start <= about.end() + 40]
        small = sum(1 for _ in itertools.takewhile(lambda t: t.word in _SKIPPED, near))
        after = [t for t in near[small : small + 2] if t.word not in _NONE and len(t.word) > 2]
        if not after or not _ONE_PHRASE.match(text[about.end() : after[-1].end]):
            continue
        for chosen in (after, after[:1]):
            plain = tuple(singular(t.word) for t in chosen)
            if chosen and _tells(plain, shelf):
                found.append(_Found(plain, chosen[0].start, chosen[-1].end))
                break
    return found


def _refused(words: Sequence[Token], shelf: Knows, text: str) -> list[_Found]:
    """Words of plots and parts of keywords that are refused: "no guns", "not football", "no singing"."""
    following = dict(itertools.pairwise(words))
    return [
        _Found((singular(t.word),), t.start, t.end)
        for t in words
        if t.word not in _NONE
        and not (t.word.endswith("ing") and t in following and following[t].word not in _NONE)
        and (singular(t.word) in shelf.keywords or (len(t.word) > 3 and t.word.endswith(("s", "ing"))))
        and _REFUSED.search(text[max(0, t.start - 40) : t.start])
        and _tells((singular(t.word),), shelf)
    ]


def _tells(words: Sequence[str], shelf: Knows) -> bool:
    count = len(shelf.about(words))
    return 0 < count <= max(3, _MOST_ABOUT * len(shelf.catalogue))
