import csv
import gzip
import json
import re
from collections import Counter

import pytest
from tmdb_server import FILMS, film, serving

from crscli.catalogue import Item
from crscli.metadata.cache import Cache
from crscli.metadata.session import Credential, Pace, TmdbSession
from crscli.metadata.tmdb import Credit, Tmdb, is_understood, read_details


@pytest.fixture
def asked(tmp_path, server):
    with client(tmp_path, server) as (tmdb, _):
        yield tmdb


class client:
    """A client of a stand-in, with its session."""

    def __init__(self, folder, server):
        self.session = TmdbSession(
            Cache(folder / "tmdb.sqlite"), Credential("k" * 32), base=server.base, pace=Pace(1e9),
            is_understood=is_understood,
        )  # fmt: skip

    def __enter__(self):
        return Tmdb(self.session), self.session

    def __exit__(self, *_):
        self.session.close()
        self.session.cache.close()


def paths(server):
    return [path.split("?")[0].removeprefix("/3") for path, _ in server.seen]


# What is asked.


def test_a_film_takes_one_search_and_one_details_call(asked, server):
    found = asked.fetch([Item("m", "The Matrix", 1999)])
    assert paths(server) == ["/search/movie", "/movie/603"]
    assert "query=The+Matrix" in server.seen[0][0]
    assert "year=1999" in server.seen[0][0]
    assert "append_to_response=credits%2Ckeywords%2Calternative_titles" in server.seen[1][0]
    assert found.matches["m"].reason == "title and year"
    assert found.records["m"] == Item(
        "", "The Matrix", 1999, genres=("Drama", "Science Fiction"), directors=("A Director",), writers=("A Writer",),
        cast=("First", "Second"), companies=("A Studio",), keywords=("dream",), language="en",
        plot="About The Matrix of 1999.", ids=("tmdb:603", "imdb:tt0000603"), runtime=103,
    )  # fmt: skip
    assert found.credits["m"] == [
        Credit("Acting", "Actor", "First", 0), Credit("Acting", "Actor", "Second", 1),
        Credit("Directing", "Director", "A Director", 0), Credit("Writing", "Screenplay", "A Writer", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "wanted", "requests"),
    [
        (Item("", "Psycho", 1998), "tmdb:11252", 1),
        (Item("", "Psycho", 1960), "tmdb:539", 1),
        (Item("", "Psycho"), None, 1),
        (Item("", "Psycho", 1979), None, 2),  # with the year, and once without
        (Item("", "Carrie", 1977), "tmdb:9552", 2),
        (Item("", "Matrix, The", 1999), "tmdb:603", 1),
        (Item("", "300", 2006), "tmdb:1271", 2),
        (Item("", "No Such Film", 2000), None, 2),
        (Item("", "Whatever", 1900, ids=("tmdb:539",)), "tmdb:539", 0),
        (Item("", "Whatever", 1900, ids=("imdb:tt0000603",)), "tmdb:603", 1),
        (Item("", "The Matrix", 1999, ids=("imdb:tt9999999",)), "tmdb:603", 2),
        (Item("", "The Matrix", 1999, ids=("imdb:tt1?/../x", "tmdb:x", "wikidata:Q1")), "tmdb:603", 1),
    ],
)
def test_how_a_film_is_found(item, wanted, requests, asked, server):
    assert asked.match(item).id == wanted
    assert len(server.seen) == requests


def test_a_film_is_found_by_a_title_that_only_its_details_tell(asked, server):
    further = {"titles": [{"iso_3166_1": "US", "title": "Live Die Repeat"}, {"iso_3166_1": "FR", "title": "Demain"}]}
    server.films[:] = [film(137113, "Edge of Tomorrow: Live Die Repeat It", 2014, alternative_titles=further)]
    assert asked.match(Item("", "Live Die Repeat", 2014)).id == "tmdb:137113"
    assert asked.match(Item("", "Live Die Repeat", 1999)).id is None


def test_a_film_of_the_year_beside_is_refused_where_another_item_is_of_that_year(asked):
    items = [Item("a", "Carrie", 1977), Item("b", "Carrie", 1976), Item("c", "Psycho", 1961)]
    found = asked.fetch(items).matches
    assert {i: m.id for i, m in found.items()} == {"a": None, "b": "tmdb:9552", "c": "tmdb:539"}
    assert found["a"].outcome == "uncertain"


def test_what_a_user_settled_is_not_searched_for(asked, server):
    items = [Item("a", "Psycho"), Item("b", "Carrie"), Item("c", "The Matrix", 1999)]
    found = asked.fetch(items, settled={"a": "539", "b": None, "c": "999"})
    assert {i: m.outcome for i, m in found.matches.items()} == {"a": "matched", "b": "missing", "c": "missing"}
    assert found.matches["c"].reason == "TMDB has no tmdb:999 any more"
    assert paths(server) == ["/movie/539", "/movie/999"]


def test_aliases_are_titles_where_english_is_spoken_and_the_original_one():
    rows = [("US", "Amelie from Montmartre"), ("FR", "Amélie"), ("RU", "Амели"), ("GB", "Amélie")]
    titles = {"titles": [{"iso_3166_1": country, "title": title} for country, title in rows]}
    details = next(f for f in FILMS if f["id"] == 194) | {"alternative_titles": titles}
    assert read_details(details)[0].aliases == ("Le Fabuleux Destin d'Amélie Poulain", "Amelie from Montmartre")


def test_credits_keep_each_line_once_and_the_cast_in_billing_order():
    cast = [
        {"name": "B", "order": 1},
        {"name": "A", "order": 0},
        {"name": "B", "order": 2},
        {"name": "Z"},
        {"name": " "},
    ]
    crew = [{"name": "A", "job": "Director", "department": "Directing"}] * 2 + [{"name": "C", "job": None}]
    item, credits = read_details({"id": 1, "title": "X", "credits": {"cast": cast, "crew": crew}})
    assert item.cast == ("A", "B", "Z")
    assert item.directors == ("A",)
    assert [(c.department, c.job, c.name) for c in credits[3:]] == [("Directing", "Director", "A"), ("Crew", "", "C")]


def test_votes_and_popularity_are_not_taken():
    plain, famous = (read_details(film(1, "X", 2000, vote_count=n, popularity=n)) for n in (1, 10**6))
    assert plain == famous


# Real replies.


@pytest.mark.realdata
def test_recorded_replies(shared_data, tmp_path):
    details = json.loads((shared_data / "tmdb_api" / "movie_all.json").read_text(encoding="utf-8"))
    search = json.loads((shared_data / "tmdb_api" / "search_movie.json").read_text(encoding="utf-8"))
    batman = film(272, "Batman Begins", 2005, credits=details["credits"])
    with serving([details, batman]) as server, client(tmp_path, server) as (asked, _):
        found = asked.fetch([Item("r", "Riddick", 2013)])
        server.script = [lambda handler: handler.reply(200, json.dumps(search).encode())]
        assert asked.match(Item("b", "Batman Begins", 2005)).id == "tmdb:272"
        assert asked.match(Item("b", "Batman Begins")).id == "tmdb:272"
        assert asked.match(Item("b", "Batman Begins", 1989)).outcome == "uncertain"
    riddick = found.records["r"]
    assert riddick.ids == ("tmdb:87421", "imdb:tt1411250")
    assert riddick.cast[:3] == ("Vin Diesel", "Karl Urban", "Katee Sackhoff")
    assert riddick.directors == ("David Twohy",)
    assert riddick.genres == ("Action", "Science Fiction", "Thriller")
    assert "aliens" in riddick.keywords
    assert riddick.plot.startswith("Betrayed by his own kind")
    assert {c.department for c in found.credits["r"]} >= {"Acting", "Directing", "Writing"}
    assert sum(c.department == "Acting" for c in found.credits["r"]) == len(
        {row["name"] for row in details["credits"]["cast"]}
    )


@pytest.mark.realdata
def test_films_of_tmdb_5000_as_others_write_them(shared_data, tmp_path):
    """Every film whose title another one has, and each 48th, typed in five ways."""
    with gzip.open(shared_data / "metadata" / "tmdb_5000_movies.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    films = [
        film(int(r["id"]), r["title"], r["release_date"][:4], original_title=r["original_title"],
             vote_count=int(r["vote_count"]), release_date=r["release_date"])
        for r in rows if r["release_date"]
    ]  # fmt: skip
    times = Counter(f["title"] for f in films)
    remade = [f for f in films if times[f["title"]] > 1]
    assert len(remade) == 6
    chosen = remade + films[::48]
    forms = {
        "as it is": lambda f: Item("", f["title"], int(f["release_date"][:4])),
        "a year later": lambda f: Item("", f["title"], int(f["release_date"][:4]) + 1),
        "thirty years off": lambda f: Item("", f["title"], int(f["release_date"][:4]) - 30),
        "no year": lambda f: Item("", f["title"]),
        "lower case, no punctuation but &": lambda f: Item(
            "", re.sub(r"[^\w& ]", "", f["title"].lower()), int(f["release_date"][:4])
        ),
    }
    found = {name: Counter() for name in forms}
    with serving(films) as server, client(tmp_path, server) as (asked, _):
        for name, form in forms.items():
            for one in chosen:
                match = asked.match(form(one))
                found[name]["right" if match.id == f"tmdb:{one['id']}" else "wrong" if match.id else match.outcome] += 1
        assert all(asked.match(Item("", f["title"])).outcome == "uncertain" for f in remade)
    assert len(chosen) == 107
    assert found == {
        "as it is": {"right": 107},
        "a year later": {"right": 107},
        "thirty years off": {"uncertain": 107},
        "no year": {"right": 100, "uncertain": 7},
        "lower case, no punctuation but &": {"right": 107},
    }
