"""Other names of titles: without the article, the part after the colon, other numerals, acronyms written by hand.

Knows how titles are shortened, not which film is meant.
"""

import re
from collections.abc import Iterator

from crscli.names import key

ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8"}
_ARABIC = {arabic: roman for roman, arabic in ROMAN.items()}
_VERSUS = {"vs", "versus", "v"}
_PARTS = {"part", "pt", "chapter", "volume", "vol", "episode", "ep"}
ARTICLES = ("the", "a", "an")
_COLON = re.compile(r":\s+|\s+[-–—]\s+")

BY_HAND: dict[str, tuple[str, ...]] = {
    "lotr": ("The Lord of the Rings: The Fellowship of the Ring", "The Lord of the Rings"),
    "lord of the rings": ("The Lord of the Rings", "The Lord of the Rings: The Fellowship of the Ring"),
    "fellowship of the ring": ("The Lord of the Rings: The Fellowship of the Ring",),
    "two towers": ("The Lord of the Rings: The Two Towers",),
    "return of the king": ("The Lord of the Rings: The Return of the King",),
    "potc": ("Pirates of the Caribbean: The Curse of the Black Pearl",),
    "pirates of the caribbean": ("Pirates of the Caribbean: The Curse of the Black Pearl",),
    "harry potter": (
        "Harry Potter and the Sorcerer's Stone",
        "Harry Potter and the Philosopher's Stone",
    ),
    "hp": ("Harry Potter and the Sorcerer's Stone", "Harry Potter and the Philosopher's Stone"),
    "gotg": ("Guardians of the Galaxy",),
    "gotg 2": ("Guardians of the Galaxy Vol. 2",),
    "f and f": ("The Fast and the Furious",),
    "fast and furious": ("Fast & Furious", "The Fast and the Furious"),
    "fast n furious": ("Fast & Furious", "The Fast and the Furious"),
    "2fast": ("2 Fast 2 Furious",),
    "2 fast": ("2 Fast 2 Furious",),
    "too fast too furious": ("2 Fast 2 Furious",),
    "se7en": ("Seven", "Se7en"),
    "seven": ("Se7en",),
    "hunger games": ("The Hunger Games",),
    "a new hope": ("Star Wars: Episode IV - A New Hope", "Star Wars Episode IV: A New Hope", "Star Wars"),
    "empire strikes back": ("Star Wars: Episode V - The Empire Strikes Back", "The Empire Strikes Back"),
    "return of the jedi": ("Star Wars: Episode VI - Return of the Jedi", "Return of the Jedi"),
    "phantom menace": ("Star Wars: Episode I - The Phantom Menace",),
    "attack of the clones": ("Star Wars: Episode II - Attack of the Clones",),
    "revenge of the sith": ("Star Wars: Episode III - Revenge of the Sith",),
    "force awakens": ("Star Wars: The Force Awakens", "Star Wars: Episode VII - The Force Awakens"),
    "last jedi": ("Star Wars: The Last Jedi", "Star Wars: Episode VIII - The Last Jedi"),
    "rogue one": ("Rogue One: A Star Wars Story",),
    "indiana jones": ("Raiders of the Lost Ark", "Indiana Jones and the Raiders of the Lost Ark"),
    "wall e": ("WALL·E", "WALL-E"),
    "et": ("E.T. the Extra-Terrestrial", "E.T."),
    "e t": ("E.T. the Extra-Terrestrial",),
    "borat": ("Borat: Cultural Learnings of America for Make Benefit Glorious Nation of Kazakhstan",),
    "anchorman": ("Anchorman: The Legend of Ron Burgundy",),
    "talladega nights": ("Talladega Nights: The Ballad of Ricky Bobby",),
    "dr strangelove": ("Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb", "Dr. Strangelove"),
    "birdman": ("Birdman or (The Unexpected Virtue of Ignorance)",),
    "kingsman": ("Kingsman: The Secret Service",),
    "deathly hallows": ("Harry Potter and the Deathly Hallows – Part 1",),
    "prisoner of azkaban": ("Harry Potter and the Prisoner of Azkaban",),
    "goblet of fire": ("Harry Potter and the Goblet of Fire",),
    "chamber of secrets": ("Harry Potter and the Chamber of Secrets",),
    "walter mitty": ("The Secret Life of Walter Mitty",),
    "benjamin button": ("The Curious Case of Benjamin Button",),
    "eternal sunshine": ("Eternal Sunshine of the Spotless Mind",),
    "wolf of wallstreet": ("The Wolf of Wall Street",),
    "cuckoos nest": ("One Flew Over the Cuckoo's Nest",),
    "nightmare before christmas": ("The Nightmare Before Christmas",),
    "napolean dynamite": ("Napoleon Dynamite",),
}
"""Key as typed -> titles it may stand for; the first that the catalogue has is taken."""

ACRONYMS = frozenset(k for k in BY_HAND if " " not in k) | {"f and f", "e t", "gotg 2"}
"""Those that nobody types by chance."""


def numerals(title: str) -> Iterator[str]:
    """The key of a title with its numerals, "part" and "versus" written in other ways; not the key itself."""
    words = title.split(" ")
    forms = {title}
    if any(w in ROMAN or w in _ARABIC for w in words[1:]):
        rest = words[1:]
        arabic = [words[0], *(ROMAN.get(w, w) for w in rest)]
        roman = [words[0], *(_ARABIC.get(w, w) for w in rest)]
        for form in (arabic, roman):
            forms.add(" ".join(form))
            forms.add(" ".join(_without_parts(form)))
    if len(words) > 2 and any(w in _PARTS for w in words[1:-1]):
        forms.add(" ".join(_without_parts(words)))
    if any(w in _VERSUS for w in words[1:-1]):
        for versus in _VERSUS:
            forms.add(" ".join([words[0], *(versus if w in _VERSUS else w for w in words[1:-1]), words[-1]]))
    if "and" in words[1:-1]:
        forms.add(" ".join("n" if w == "and" else w for w in words))
    yield from sorted(forms - {title})


def _without_parts(words: list[str]) -> list[str]:
    """Leave out "part" where a number follows."""
    return [
        w
        for at, w in enumerate(words)
        if not (at and w in _PARTS and at + 1 < len(words) and (words[at + 1].isdigit() or words[at + 1] in ROMAN))
    ]


def without_article(title: str) -> str | None:
    """The key of a title without its leading article, None where it has none or is nothing else."""
    first, _, rest = title.partition(" ")
    return rest if rest and first in ARTICLES else None


def article_forms(title: str) -> Iterator[str]:
    """The other keys that differ from a title's in the leading article alone."""
    plain = without_article(title) or title
    if plain != title:
        yield plain
    for article in ARTICLES:
        form = f"{article} {plain}"
        if form != title:
            yield form


def parts(title: str) -> list[str]:
    """Keys of the parts of a written title that colons and dashes make; an empty list for a title of one part."""
    pieces = [piece for part in _COLON.split(title) if (piece := key(part))] if _COLON.search(title) else []
    return pieces if len(pieces) > 1 else []
