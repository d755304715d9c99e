"""The genres of films: one name for each, what catalogues call them, and the words that people use for them.

Knows how a genre is said, not whether it is wanted (`wishes`) or whose it is.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

Strength = Literal["noun", "adjective"]


@dataclass(frozen=True)
class Genre:
    """A genre.

    Args:
        names: further names in catalogues.
        nouns: patterns of words that name it ("comedies"); they ask for it.
        adjectives: patterns of words that describe a film ("funny"); the words around tell whether they ask for it.
    """

    names: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    adjectives: tuple[str, ...] = ()


_FILM = r"(?=\s+(?:movies?|films?|flicks?|ones?|pictures?|stuff|genres?|type|kind)\b)"

GENRES: dict[str, Genre] = {
    "action": Genre(
        ("action & adventure",),
        (r"action(?!\s+figures?\b)",),
        (r"action[ -]packed", r"explosions?", r"shoot[ -]?outs?", r"car chases?"),
    ),
    "adventure": Genre((), (r"adventures?",), (r"adventurous",)),
    "animation": Genre(
        ("animated", "anime", "cartoon"),
        (r"animat(?:ed|ion|ions)", r"cartoons?", r"anime", r"pixar"),
    ),
    "biography": Genre(
        ("biographical", "biopic"), (r"bio[ -]?pics?", r"biograph(?:y|ies|ical)", r"true stor(?:y|ies)")
    ),
    "comedy": Genre(
        ("comedies", "romantic comedy", "black comedy"),
        (r"comm?[ei]d(?:y|ies|ic|ys)", r"rom[ -]?coms?", r"spoofs?", r"parod(?:y|ies)"),
        (
            r"funny",
            r"funniest",
            r"funnier",
            r"hill?arious",
            r"humou?r(?:ous)?",
            r"laugh(?:s|ing)?",
            r"goofy",
            r"slapstick",
            r"giggles?",
            r"cracks? (?:me|us) up",
            r"in stitches",
        ),
    ),
    "crime": Genre(
        ("gangster", "film-noir", "film noir", "noir"),
        (
            r"crimes?" + _FILM,
            r"crime(?=\s*(?:[,.!?/]|and\b|or\b|dramas?\b|thrillers?\b|myster|comed|action\b|stor(?:y|ies)\b|$))",
            r"gangsters?",
            r"mafia",
            r"mob" + _FILM,
            r"heists?",
            r"true crime",
            r"noir",
        ),
    ),
    "documentary": Genre(
        ("documentaries",), (r"documentar(?:y|ies|ys)", r"docu?s(?=\b)", r"docu" + _FILM, r"docuseries")
    ),
    "drama": Genre(
        ("dramas",), (r"dramas?(?!\s+(?:queen|free))",), (r"dramatic", r"tear[ -]?jerkers?", r"tearjerkers?")
    ),
    "family": Genre(
        ("children", "children's", "kids"),
        (
            r"family" + _FILM,
            r"family[ -]friendly",
            r"family(?=\s+night\b)",
            r"kids?'?s?" + _FILM,
            r"children'?s?" + _FILM,
            r"kid[ -]friendly",
            r"(?<=for the )(?:whole )?family",
            r"disney" + _FILM,
        ),
    ),
    "fantasy": Genre((), (r"fantas(?:y|ies)",), (r"magical",)),
    "history": Genre(("historical",), (r"historical", r"period pieces?", r"history" + _FILM)),
    "horror": Genre(
        ("scary", "slasher"),
        (r"horrors?", r"slashers?", r"zombies?" + _FILM, r"scary" + _FILM, r"gore"),
        (
            r"scary",
            r"scariest",
            r"scarier",
            r"creepy",
            r"creepier",
            r"creepiest",
            r"spooky",
            r"terrifying",
            r"gory",
            r"(?:(?<=to )|(?<=ll )|(?<=that )|(?<=will )|(?<=can ))(?:scare|frighten|spook)s? (?:me|us|the)\b",
            r"creeps?\s+(?:me|us)\s+out",
            r"(?:good|proper|real)\s+(?:scare|fright)s?",
            r"frightening",
            r"chilling",
            r"be scared",
        ),
    ),
    "music": Genre((), (r"music" + _FILM, r"concert films?")),
    "musical": Genre(("musicals",), (r"musicals?",)),
    "mystery": Genre(
        ("mysteries",), (r"(?<!remains a )(?<!still a )myster(?:y|ies)(?!\s+to\b)", r"whodunn?its?"), (r"mysterious",)
    ),
    "romance": Genre(
        ("romantic", "romantic comedy"),
        (
            r"romances?",
            r"rom[ -]?coms?",
            r"chick[ -]?flicks?",
            r"love stor(?:y|ies)",
            r"romantic" + _FILM,
            r"romantic(?=\s+comed)",
        ),
        (r"romantic", r"romancey", r"kiss(?:es|ing)", r"falling in love"),
    ),
    "science fiction": Genre(
        ("sci-fi", "scifi", "sci fi", "sci-fi & fantasy", "science-fiction"),
        (r"sci[ -]?fis?", r"science[ -]fictions?", r"sy[ -]?fy"),
        (r"futuristic",),
    ),
    "short": Genre(("short film",), (r"short films?",)),
    "sport": Genre(("sports",), (r"sports?" + _FILM,)),
    "thriller": Genre(
        ("thrillers", "suspense"),
        (r"thril+ers?", r"suspen[sc]e"),
        (
            r"suspen[sc]e?ful",
            r"thrilling",
            r"(?:the )?edge of (?:my|your|our|the) seats?",
            r"nail[ -]?bit(?:ing|ers?)",
            r"gripping",
        ),
    ),
    "war": Genre(
        (),
        (
            r"(?<!star )(?<!star-)(?<!infinity )(?<!civil )(?<!world )wars?" + _FILM,
            r"(?<!star )(?<!civil )war(?=\s+(?:dramas?|stor(?:y|ies)|epics?|thrillers?)\b)",
            r"ww ?(?:2|ii|1|i)\b",
            r"world war (?:2|ii|two|1|i|one)" + _FILM,
            r"military" + _FILM,
        ),
    ),
    "western": Genre(
        ("westerns",),
        (r"westerns?(?!\s+(?:europe|world|civili[sz]ation|culture|union|front|coast))", r"cowboys?(?!\s+boots?)"),
    ),
}
"""Name of a genre -> how it is called."""

SUPERHERO = re.compile(
    r"\b(?:super[ -]?hero(?:es|s)?|marvel|dc(?=\s+(?:comics?|movies?|films?|universe))|comic[ -]books?)\b", re.I
)
"""No genre of catalogues, but asked for often: action and adventure."""


@dataclass(frozen=True, slots=True)
class GenreSpan:
    """A genre said in a text."""

    genre: str
    start: int
    end: int
    strength: Strength


@cache
def _names() -> dict[str, str]:
    known: dict[str, str] = {}
    for genre, spec in GENRES.items():
        for name in (genre, *spec.names):
            known.setdefault(name, genre)
    return known


def canonical(name: str) -> str:
    """The one name of a catalogue's genre: "Sci-Fi" gives "science fiction"; an unknown genre in lower case."""
    plain = " ".join(name.lower().replace("_", " ").split())
    return _names().get(plain, plain)


def known(names: Iterable[str]) -> list[str]:
    """The genres of GENRES that a catalogue's names stand for, sorted; "action comedy film" holds several."""
    return sorted({genre for name in names for genre in _known_in(name)})


@cache
def _known_in(name: str) -> frozenset[str]:
    return frozenset(({canonical(name)} & GENRES.keys()) | {span.genre for span in said(name)})


@cache
def _patterns() -> list[tuple[str, Strength, re.Pattern[str]]]:
    found: list[tuple[str, Strength, re.Pattern[str]]] = []
    for genre, spec in GENRES.items():
        if spec.nouns:
            found.append((genre, "noun", re.compile(rf"\b(?:{'|'.join(spec.nouns)})(?!\w)", re.I)))
        if spec.adjectives:
            found.append((genre, "adjective", re.compile(rf"\b(?:{'|'.join(spec.adjectives)})(?!\w)", re.I)))
    return found


@cache
def _any() -> re.Pattern[str]:
    every = [pattern for spec in GENRES.values() for pattern in (*spec.nouns, *spec.adjectives)]
    return re.compile(rf"\b(?:{'|'.join(every)})(?!\w)", re.I)


def said(text: str) -> Iterator[GenreSpan]:
    """The genres said in a text, by place; a word that names two ("romcom") gives both, a noun hides its adjective."""
    if not _any().search(text):
        return
    found: dict[tuple[str, int], GenreSpan] = {}
    for genre, strength, pattern in _patterns():
        for m in pattern.finditer(text):
            found.setdefault((genre, m.start()), GenreSpan(genre, m.start(), m.end(), strength))
    yield from sorted(found.values(), key=lambda span: (span.start, span.end, span.genre))
