"""Film metadata from TMDB: one search and one details call a film, through tmdbv3api.

The library only makes the addresses: requests, retries, limits, credential and cache are the session's. It keeps
settings and page numbers in `os.environ`, the key among them: around each call it gets a made-up key there, and the
environment is put back.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tmdbv3api import Find, Movie, Search
from tmdbv3api.exceptions import TMDbException

from crscli.catalogue import Item, minutes
from crscli.datasets.corpus import clean
from crscli.errors import SourceError
from crscli.metadata.match import Candidate, Match, choose, of_title, title_key, years_by_title
from crscli.metadata.session import NotCached, ReplyError, TmdbSession
from crscli.progress import Progress, silent

NOTICE = "This product uses the TMDB API but is not endorsed or certified by TMDB."
MAX_PAGES = 2  # of a search; the film sought is on the first one nearly always
MAX_CAST = 20  # people in an item's cast; the credits keep all
MAX_FAILURES = 3  # films in a row without a usable reply: then the service is down, not a film's page broken
APPENDED = "credits,keywords,alternative_titles"

_ENGLISH = {"US", "GB", "CA", "AU", "NZ", "IE"}
_OWN_VARIABLES = ("page", "total_results", "total_pages")


@dataclass(frozen=True, slots=True)
class Credit:
    """One line of a film's credits; `order` is the billing of the cast, the place in the list of the crew."""

    department: str
    job: str
    name: str
    order: int


@dataclass
class Fetch:
    """What a run over a list of items brought, by item id; `unanswered` got no usable reply, and why."""

    records: dict[str, Item] = field(default_factory=dict)
    credits: dict[str, list[Credit]] = field(default_factory=dict)
    matches: dict[str, Match] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)


class Tmdb:
    """Finds films on TMDB and reads what it knows of them."""

    def __init__(self, session: TmdbSession) -> None:
        """Bind the library to a session, which it keeps in a class: each client gets classes of its own."""
        self._session = session
        with _library_environment():
            self._search = type("Search", (Search,), {})(obj_cached=False, session=session)
            self._movie = type("Movie", (Movie,), {})(obj_cached=False, session=session)
            self._find = type("Find", (Find,), {})(obj_cached=False, session=session)

    def fetch(
        self,
        items: Iterable[Item],
        *,
        settled: Mapping[str, str | None] | None = None,
        progress: Progress = silent,
    ) -> Fetch:
        """Find each item, and read its details.

        Args:
            items: with their titles, years and ids: one that names its TMDB or IMDb id is not searched for.
            settled: item id -> TMDB id (None: TMDB does not have it) as a user settled it.
            progress: told of the items done.

        Raises:
            SourceError: the service failed; tells how far it came.
            ConfigError: the credential is refused.
        """
        found, todo, failures = Fetch(), list(items), 0
        years = years_by_title(todo)
        for done, item in enumerate(todo):
            progress("tmdb", done, len(todo))
            try:
                self._fetch_one(item, settled or {}, of_title(item, years), found)
                failures = 0
            except NotCached as error:
                found.unanswered[item.item_id] = error.message
            except ReplyError as error:
                found.unanswered[item.item_id] = error.message
                failures += 1
                if failures == min(MAX_FAILURES, len(todo)):
                    raise _stopped(error, done - failures + 1, len(todo)) from None
            except SourceError as error:
                raise _stopped(error, done, len(todo)) from None
        progress("tmdb", len(todo), len(todo))
        return found

    def _fetch_one(self, item: Item, settled: Mapping[str, str | None], others: Collection[int], found: Fetch) -> None:
        if item.item_id in settled:
            tmdb_id = settled[item.item_id]
            match = (
                Match("missing", "settled by hand")
                if tmdb_id is None
                else Match("matched", "settled by hand", f"tmdb:{tmdb_id}", 1.0)
            )
        else:
            match = self.match(item, others)
        if match.id is not None:
            details = self.details(match.id)
            if details is None:
                match = replace(match, outcome="missing", reason=f"TMDB has no {match.id} any more", id=None)
            else:
                found.records[item.item_id], found.credits[item.item_id] = read_details(details)
        found.matches[item.item_id] = match

    def match(self, item: Item, others: Collection[int] = ()) -> Match:
        """Which film on TMDB an item is; `others` are the years of further items of its title."""
        for known in item.ids:
            if re.fullmatch(r"tmdb:\d{1,12}", known):
                return Match("matched", "its TMDB id is known", known, 1.0)
        for known in item.ids:
            if re.fullmatch(r"imdb:tt\d{1,12}", known) and (by_imdb := self._by_imdb(known[5:])):
                return Match("matched", "its IMDb id is known", by_imdb, 1.0)
        titles = (item.title, *item.aliases)
        seen: dict[str, Candidate] = {}
        for year in dict.fromkeys((item.year, None)):
            for page in self._pages(_as_said(item.title), year):
                seen.update((c.id, c) for c in page)
                match = choose(titles, item.year, seen.values(), others)
                if match.outcome == "matched":
                    return match
        return self._by_further_titles(item, seen, others) or choose(titles, item.year, seen.values(), others)

    def _by_imdb(self, imdb_id: str) -> str | None:
        answer = self._call(partial(self._find.find_by_imdb_id, imdb_id))
        films = _candidates((answer or {}).get("movie_results"))
        return films[0].id if len(films) == 1 else None

    def _by_further_titles(self, item: Item, seen: Mapping[str, Candidate], others: Collection[int]) -> Match | None:
        """A match by the titles that only the details tell, of the two best films of the right year."""
        if item.year is None:
            return None
        near = [c for c in seen.values() if c.year is not None and abs(c.year - item.year) <= 1]
        near.sort(key=lambda c: -c.votes)
        extended = dict(seen)
        for candidate in near[:2]:
            further = _further_titles(self.details(candidate.id) or {})
            extended[candidate.id] = replace(candidate, titles=(*candidate.titles, *further))
        match = choose((item.title, *item.aliases), item.year, extended.values(), others)
        return match if match.outcome == "matched" else None

    def _pages(self, title: str, year: int | None) -> Iterator[list[Candidate]]:
        for page in range(1, MAX_PAGES + 1):
            answer = self._call(partial(self._search.movies, title, year=year, page=page)) or {}
            found = _candidates(answer.get("results"))
            yield found
            pages = answer.get("total_pages")
            if not found or not isinstance(pages, int) or pages <= page:
                return

    def details(self, tmdb_id: str) -> dict[str, Any] | None:
        """The reply about a film with credits, keywords and further titles; None if TMDB does not have it."""
        return self._call(partial(self._movie.details, tmdb_id.removeprefix("tmdb:"), append_to_response=APPENDED))

    def _call(self, ask: Callable[[], object]) -> dict[str, Any] | None:
        """The content of the reply to a call; None where TMDB says that there is no such thing.

        The library's object is left: fields of a reply, such as "keys", take the place of its methods.
        """
        with _library_environment():
            try:
                ask()
            except TMDbException:
                return None
        return self._session.content


def is_understood(path: str, body: Mapping[str, Any]) -> bool:
    """Whether a reply has the form that is expected of its path; only such replies are kept."""
    if path.startswith("/search/"):
        return isinstance(body.get("results"), list)
    if path.startswith("/find/"):
        return isinstance(body.get("movie_results"), list)
    return isinstance(body.get("id"), int) and isinstance(body.get("title"), str)


def read_details(details: Mapping[str, Any]) -> tuple[Item, list[Credit]]:
    """What a details reply tells of a film, and its credits. Votes and popularity are left: they tell the future.

    Returns:
        The film, with an empty item id; fields that are null or of another form are empty.
    """
    credits = read_credits(details.get("credits"))
    title, year = str(details["title"]), _year(details.get("release_date"))
    imdb = details.get("imdb_id")
    plot, language = details.get("overview"), details.get("original_language")
    words = details.get("keywords")

    def people(*jobs: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c.name for c in credits if c.job in jobs))

    item = Item(
        "",
        clean(title),
        year,
        genres=_names(details.get("genres")),
        directors=people("Director"),
        writers=people("Writer", "Screenplay", "Author", "Story", "Novel"),
        cast=people("Actor")[:MAX_CAST],
        companies=_names(details.get("production_companies")),
        keywords=_names(words.get("keywords") if isinstance(words, dict) else None),
        plot=clean(plot) if isinstance(plot, str) else "",
        language=language if isinstance(language, str) else "",
        aliases=_aliases(title, details),
        runtime=minutes(details.get("runtime")),
        ids=(f"tmdb:{details['id']}", *([f"imdb:{imdb}"] if isinstance(imdb, str) and imdb else [])),
    )
    return item, credits


def read_credits(value: Any) -> list[Credit]:
    """The cast by billing, then the crew, each line once; people of both lists keep both."""
    parts = value if isinstance(value, dict) else {}
    cast = [row for row in _rows(parts.get("cast")) if row["name"]]
    cast.sort(key=lambda row: row["order"] if isinstance(row.get("order"), int) else sys.maxsize)
    lines = [("Acting", "Actor", clean(row["name"])) for row in cast]
    crew = [
        (str(row.get("department") or "Crew"), str(row.get("job") or ""), clean(row["name"]))
        for row in _rows(parts.get("crew"))
    ]
    return [
        Credit(*line, order) for part in (dict.fromkeys(lines), dict.fromkeys(crew)) for order, line in enumerate(part)
    ]


def _candidates(value: Any) -> list[Candidate]:
    """The films of a result list, each once; entries without id or title are passed over."""
    found: dict[str, Candidate] = {}
    for row in value if isinstance(value, list) else []:
        if isinstance(row, dict) and isinstance(row.get("id"), int) and isinstance(row.get("title"), str):
            titles = [t for t in (row["title"], row.get("original_title")) if isinstance(t, str) and t]
            votes = row.get("vote_count")
            name = f"tmdb:{row['id']}"
            found.setdefault(
                name,
                Candidate(
                    name,
                    tuple(dict.fromkeys(titles)) or (row["title"],),
                    _year(row.get("release_date")),
                    votes if isinstance(votes, int) else 0,
                ),
            )
    return list(found.values())


def _further_titles(details: Mapping[str, Any]) -> list[str]:
    titles = details.get("alternative_titles")
    rows = titles.get("titles") if isinstance(titles, dict) else None
    original = details.get("original_title")
    found = [original] if isinstance(original, str) else []
    return found + [row["title"] for row in _rows(rows, "title") if row.get("iso_3166_1") in _ENGLISH]


def _aliases(title: str, details: Mapping[str, Any]) -> tuple[str, ...]:
    """Its original title, and those by which it goes where English is spoken."""
    own, found = title_key(title), dict[str, str]()
    for other in _further_titles(details):
        found.setdefault(title_key(other), clean(other))
    return tuple(alias for name, alias in found.items() if name != own)


def _rows(value: Any, name: str = "name") -> list[dict[str, Any]]:
    """The objects of a list that have a name."""
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get(name), str) and row[name].strip()]


def _names(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(clean(row["name"]) for row in _rows(value)))


def _year(value: Any) -> int | None:
    start = value[:4] if isinstance(value, str) else ""
    return int(start) if len(start) == 4 and start.isascii() and start.isdigit() and start > "1800" else None


def _as_said(title: str) -> str:
    """A title with its article in front: of "Matrix, The" it is "The Matrix"."""
    name, comma, article = title.rpartition(", ")
    return f"{article} {name}" if comma and article.lower() in ("the", "a", "an") else title


def _stopped(error: SourceError, done: int, total: int) -> SourceError:
    kept = f"{done:,} of {total:,} items are done, and every reply that came is kept"
    return SourceError(f"{error.message}; {kept}", error.hint or "run the same command again")


@contextlib.contextmanager
def _library_environment() -> Iterator[None]:
    """The variables of the library as it needs them, and afterwards as they were. TMDB_PROXIES goes to its `eval`."""
    kept = {k: v for k, v in os.environ.items() if k.startswith("TMDB_") or k in _OWN_VARIABLES}
    for name in kept:
        del os.environ[name]
    os.environ["TMDB_API_KEY"], os.environ["TMDB_LANGUAGE"] = "not-the-key", "en-US"
    try:
        yield
    finally:
        for name in [k for k in os.environ if k.startswith("TMDB_") or k in _OWN_VARIABLES]:
            del os.environ[name]
        os.environ.update(kept)
