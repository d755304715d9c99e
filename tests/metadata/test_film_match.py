import pytest

from crscli.catalogue import Item
from crscli.metadata.match import Candidate, choose, match_list, title_key, title_similarity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Matrix", "matrix"),
        ("Matrix, The", "The Matrix"),
        ("Fast & Furious", "Fast and Furious"),
        ("Rocky V", "Rocky 5"),
        ("It: Chapter Two", "It Chapter 2"),
        ("Amélie", "Amelie"),
        ("WALL·E", "WALL-E"),
        ("Ocean's Eleven", "Oceans Eleven"),
        ("A", "a"),
        ("Police Academy  (1984)", "Police Academy"),
        ("...", "..."),
        ("V for Vendetta", "v for vendetta"),
    ],
)
def test_titles_that_are_the_same(one, other):
    assert title_key(one) == title_key(other)
    assert title_similarity(one, other) == 1.0


@pytest.mark.parametrize(
    ("one", "other", "least", "most"),
    [
        ("Toy Story 2", "Toy Story 3", 0.0, 0.5),
        ("Toy Story", "Toy Story 2", 0.0, 0.5),
        ("Headhunter", "Headhunters", 0.9, 0.99),
        ("Borat", "Borat: Cultural Learnings of America", 0.9, 0.9),
        ("Her", "Here", 0.0, 0.87),
        ("SWAT", "S.W.A.T.", 0.97, 0.97),
        ("310 to Yuma", "3:10 to Yuma", 0.97, 0.97),
        ("Up", "Us", 0.0, 0.5),
        ("It", "It Follows", 0.0, 0.5),
        ("Alien", "Alien Resurrection", 0.0, 0.5),
        ("300", "301", 0.0, 0.5),
        ("The", "A", 0.0, 0.3),
    ],
)
def test_titles_that_are_not(one, other, least, most):
    assert least <= title_similarity(one, other) <= most
    assert title_similarity(one, other) == title_similarity(other, one)


def films(*rows):
    return [Candidate(f"tmdb:{n}", (title,), year, *votes) for n, (title, year, *votes) in enumerate(rows)]


@pytest.mark.parametrize(
    ("title", "year", "candidates", "wanted", "reason"),
    [
        ("Psycho", 1998, [("Psycho", 1960, 9000), ("Psycho", 1998, 10)], "tmdb:1", "title and year"),
        ("Psycho", 1960, [("Psycho", 1960), ("Psycho", 1998)], "tmdb:0", "title and year"),
        ("Psycho", None, [("Psycho", 1960), ("Psycho", 1998)], None, "2 films fit equally well"),
        ("Psycho", None, [("Psycho", 1960, 9000), ("Psycho", 1998, 1)], None, "2 films fit equally well"),
        ("Psycho", 1979, [("Psycho", 1960), ("Psycho", 1998)], None, "the years are not"),
        ("Psycho", None, [("Psycho", 1960), ("Psycho II", 1983)], "tmdb:0", "title"),
        ("Frozen", 2013, [("Frozen", 2013, 12000), ("Frozen", 2013, 3)], "tmdb:0", "votes"),
        ("Frozen", 2013, [("Frozen", 2013, 120), ("Frozen", 2013, 30)], None, "2 films fit"),
        ("Frozen", 2013, [("Frozen", 2013, 40), ("Frozen", 2013, 0)], None, "2 films fit"),
        ("The Host", 2007, [("The Host", 2006), ("The Host", 2013)], "tmdb:0", "title"),
        ("The Host", 2007, [("The Host", 2006), ("The Host", 2008)], None, "2 films fit"),
        ("The Host", 2006, [("The Host", 2006), ("The Host", 2007)], "tmdb:0", "title and year"),
        ("Headhunter", 2009, [("Headhunters", 2009)], "tmdb:0", "title and year"),
        ("Headhunter", 2009, [("Headhunters", 2010)], None, "not alike enough"),
        ("Fighter", 2011, [("The Fighter", 2010)], None, "neither the title nor the year"),
        ("Fighter", 2010, [("The Fighter", 2010)], "tmdb:0", "title and year"),
        ("Fighter", None, [("The Fighter", 2010)], "tmdb:0", "title"),
        ("Headhunter", None, [("Headhunters", 2011)], None, "not alike enough"),
        ("Toy Story 2", 1999, [("Toy Story 3", 1999)], None, "no title alike"),
        ("Her", 2013, [("Here", 2013)], None, "not alike enough"),
        ("Borat", 2006, [("Borat: Cultural Learnings", 2006)], "tmdb:0", "title and year"),
        ("Saga", 2006, [("Saga: One", 2006), ("Saga: Two", 2006)], None, "2 films fit"),
        ("The Dark Tower", None, [("The Dark Tower", 2017), ("Dark Tower", 1989)], "tmdb:0", "title"),
        ("Heat", 1995, [("Heat", None)], "tmdb:0", "title"),
        ("Heat", 1995, [], None, "nothing found"),
        ("Heat", 1995, [("Casablanca", 1995)], None, "no title alike"),
    ],
)
def test_a_film_is_chosen_or_refused(title, year, candidates, wanted, reason):
    match = choose([title], year, films(*candidates))
    assert match.id == wanted
    assert reason in match.reason
    assert match.outcome == ("matched" if wanted else match.outcome)
    assert match.outcome != "matched" or wanted
    row = match.row()
    assert row["outcome"] == match.outcome
    assert len(row.get("candidates", [])) == min(len(candidates), 5)


def test_uncertain_and_missing_are_told_apart():
    assert choose(["Heat"], 1995, films(("Heat", 1972))).outcome == "uncertain"
    assert choose(["Heat"], 1995, films(("Casablanca", 1942))).outcome == "missing"


def test_any_title_of_the_film_and_of_the_candidate_counts():
    abroad = Candidate("tmdb:194", ("Amélie", "Le Fabuleux Destin d'Amélie Poulain"), 2001)
    assert choose(["Le fabuleux destin d'Amelie Poulain"], 2001, [abroad]).id == "tmdb:194"
    assert choose(["Edge of Tomorrow", "Live Die Repeat"], 2014, films(("Live Die Repeat", 2014))).id == "tmdb:0"


# Lists.


def outcome(items, records):
    found, matches = match_list(items, records)
    assert found.keys() == {i for i, m in matches.items() if m.outcome == "matched"}
    assert matches.keys() == {i.item_id for i in items}
    return {i: records.index(r) for i, r in found.items()}, {i: m.reason for i, m in matches.items()}


def test_films_of_a_list_are_found_by_item_id_known_id_or_title():
    items = [
        Item("1", "One", 2001),
        Item("2", "Two", 2002, ids=("imdb:tt2",)),
        Item("3", "Three", 2003),
        Item("4", "No"),
    ]
    records = [Item("", "Three", 2003), Item("", "Deux", 2002, ids=("imdb:tt2",)), Item("1", "One", 2001)]
    found, reasons = outcome(items, records)
    assert found == {"1": 2, "2": 1, "3": 0}
    assert reasons == {"1": "item id", "2": "both are imdb:tt2", "3": "title and year", "4": "nothing found"}


def test_ids_of_another_list_are_not_believed():
    items = [Item(str(n), f"Film {n}", 2000) for n in range(20)]
    others = [Item(str(n), f"Film {(n + 7) % 20}", 2000) for n in range(20)]
    found, _ = outcome(items, others)
    assert found == {str(n): (n - 7) % 20 for n in range(20)}
    unnamed = [Item(str(n), "") for n in range(20)]
    assert outcome(items, unnamed)[0] == {str(n): n for n in range(20)}


def test_remakes_stay_apart_and_copies_of_one_film_share_a_record():
    items = [Item("a", "Psycho", 1960), Item("b", "Psycho", 1998), Item("c", "Jaws", 1975), Item("d", "Jaws")]
    found, _ = outcome(items, [Item("", "Psycho", 1998), Item("", "Jaws", 1975), Item("", "Psycho", 1960)])
    assert found == {"a": 2, "b": 0, "c": 1, "d": 1}


def test_a_title_without_year_is_refused_where_it_may_be_another_film():
    records = [Item("", "psycho", cast=("Anthony Perkins",)), Item("", "jaws")]
    items = [Item("a", "Psycho", 1960), Item("b", "Psycho", 1998), Item("c", "Jaws", 1975)]
    found, reasons = outcome(items, records)
    assert found == {"c": 1}
    assert reasons["a"] == "films of this title are of 1960, 1998"
    found, reasons = outcome([Item("a", "Psycho")], [Item("", "Psycho", 1960), Item("", "Psycho", 1998)])
    assert found == {}


def test_a_record_of_the_year_beside_is_refused_where_another_item_is_of_that_year():
    records = [Item("", "The Boy", 2016)]
    assert outcome([Item("a", "The Boy", 2015)], records)[0] == {"a": 0}
    found, reasons = outcome([Item("a", "The Boy", 2015), Item("b", "The Boy", 2016)], records)
    assert found == {"b": 0}
    assert reasons["a"] == "the titles are alike, the years are not"


def test_a_film_that_is_listed_twice_is_one_film():
    same = [
        Item("", "saw", plot="Two men wake up."),
        Item("", "Saw", plot="Two men wake up."),
        Item("", "up", cast=("A",)),
    ]
    assert outcome([Item("1", "Saw", 2004)], same)[0] == {"1": 0}
    two = [Item("", "saw", cast=("A", "B")), Item("", "saw", cast=("C",))]
    assert outcome([Item("1", "Saw", 2004)], two)[0] == {}
