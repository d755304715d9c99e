"""Plain questions about an item, answered from the catalogue: who is in it, what is it about, is it for children.

What the catalogue does not say is said to be unknown. Knows items and wordings; no dialogue.
"""

from collections.abc import Callable

from crscli import genres
from crscli.catalogue import Item
from crscli.languages import name_of
from crscli.phrasing import Phrases, kind_of_film, listed, shortened
from crscli.session.hearing import Asked

_NAMES_AT_MOST = 5
_UNKNOWN: dict[Asked, str] = {
    "plot": "the plot", "cast": "the cast", "directors": "the director", "writers": "the writers", "year": "the year",
    "genres": "the genre", "runtime": "the length", "language": "the language", "kids": "the genre",
    "genre": "the genre",
    "person": "the cast", "keywords": "the themes",
}  # fmt: skip
_NOT_FOR_KIDS = {"horror", "thriller", "crime", "war"}


def answer(phrases: Phrases, item: Item, asked: Asked, *, person: str = "", genre: str = "") -> str:
    """What the catalogue says of an item.

    Args:
        phrases: of the reply.
        item: what is asked about.
        asked: what of it.
        person: whom the question names, where it asks whether he is in it.
        genre: the genre that the question names, where it asks whether it is one.
    """
    if asked == "else":
        return phrases("facts.else", item=item.name)
    told = _ANSWERS[asked](phrases, item, person, genre) if asked in _ANSWERS else ""
    return told or phrases("facts.unknown", item=item.name, what=_UNKNOWN.get(asked, "that"))


def about(phrases: Phrases, item: Item) -> str:
    """What kind of film it is, by and with whom, and what it is about; "" where nothing is known."""
    kind = kind_of_film(genres.known(item.genres))
    parts = [f"{item.name} is {kind}"] if kind else []
    parts += [f"directed by {listed(item.directors[:2])}"] if kind and item.directors else []
    parts += [f"with {listed(item.cast[:3])}"] if kind and item.cast else []
    plot = shortened(item.plot)
    if not parts:
        return phrases("facts.plot", item=item.name, plot=plot) if plot else ""
    return f"{', '.join(parts)}.{' ' + plot if plot else ''}"


def facts_line(item: Item) -> str:
    """Genres, length and language on a line: "comedy, drama · 104 min · French"."""
    parts = [", ".join(genres.known(item.genres) or [g.lower() for g in item.genres][:3])]
    parts += [f"{item.runtime} min"] if item.runtime else []
    parts += [name_of(item.language)] if item.language and item.language != "en" else []
    return " · ".join(part for part in parts if part)


def _plot(phrases: Phrases, item: Item, *_: str) -> str:
    return phrases("facts.plot", item=item.name, plot=shortened(item.plot)) if item.plot else ""


def _people(field: str) -> Callable[..., str]:
    def tell(phrases: Phrases, item: Item, *_: str) -> str:
        names = getattr(item, field)[:_NAMES_AT_MOST]
        one = field == "cast" and len(names) == 1
        return phrases(f"facts.{field}{'_one' if one else ''}", item=item.name, people=listed(names)) if names else ""

    return tell


def _year(phrases: Phrases, item: Item, *_: str) -> str:
    return phrases("facts.year", item=item.title, year=str(item.year)) if item.year else ""


def _genres(phrases: Phrases, item: Item, *_: str) -> str:
    kind = kind_of_film(genres.known(item.genres) or item.genres)
    return phrases("facts.genres", item=item.name, genres=kind) if kind else ""


def _runtime(phrases: Phrases, item: Item, *_: str) -> str:
    if not item.runtime:
        return ""
    hours, minutes = divmod(item.runtime, 60)
    told = f"{hours} h {minutes:02}" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"
    return phrases("facts.runtime", item=item.name, minutes=str(item.runtime), hours=told)


def _language(phrases: Phrases, item: Item, *_: str) -> str:
    return phrases("facts.language", item=item.name, language=name_of(item.language)) if item.language else ""


def _keywords(phrases: Phrases, item: Item, *_: str) -> str:
    return phrases("facts.keywords", item=item.name, keywords=listed(item.keywords[:5])) if item.keywords else ""


def _kids(phrases: Phrases, item: Item, *_: str) -> str:
    own = genres.known(item.genres)
    if not own:
        return ""
    fits = ("family" in own or "animation" in own) and not _NOT_FOR_KIDS & set(own)
    return phrases(f"facts.kids_{'yes' if fits else 'no'}", item=item.name, genres=kind_of_film(own))


def _genre(phrases: Phrases, item: Item, _: str, genre: str) -> str:
    own = genres.known(item.genres)
    if not own or not genre:
        return ""
    return phrases(f"facts.genre_{'yes' if genre in own else 'no'}", item=item.name, genres=kind_of_film(own))


def _person(phrases: Phrases, item: Item, person: str, _: str) -> str:
    if not item.cast and not item.directors:
        return ""
    if person in item.cast:
        return phrases("facts.person_yes", item=item.name, person=person)
    if person in item.directors:
        return phrases("facts.person_director", item=item.name, person=person)
    people = listed((item.cast or item.directors)[:3])
    return phrases("facts.person_no", item=item.name, person=person, people=people)


def _opinion(phrases: Phrases, item: Item, *_: str) -> str:
    return phrases("facts.opinion", about=about(phrases, item) or item.name)


def _where(phrases: Phrases, item: Item, *_: str) -> str:
    return phrases("facts.where", item=item.name)


_ANSWERS: dict[Asked, Callable[..., str]] = {
    "plot": _plot, "cast": _people("cast"), "directors": _people("directors"), "writers": _people("writers"),
    "year": _year, "genres": _genres, "runtime": _runtime, "language": _language, "keywords": _keywords, "kids": _kids,
    "genre": _genre, "person": _person, "opinion": _opinion, "where": _where,
}  # fmt: skip
