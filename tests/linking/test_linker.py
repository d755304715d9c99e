"""The linker on a small catalogue of well-known titles, with the bundled weights and no counts."""

import json
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Dialogue, Link, Turn
from crscli.linking import Linker

FILMS = {
    "it17": ("It", 2017), "it90": ("It", 1990), "her": ("Her", 2013), "saw": ("Saw", 2004), "taken2": ("Taken 2", 2012),
    "taken": ("Taken", 2008), "frozen": ("Frozen", 2013), "frozen2": ("Frozen II", 2019), "jum95": ("Jumanji", 1995),
    "jum17": ("Jumanji", 2017), "mag16": ("The Magnificent Seven", 2016), "seven": ("Seven", 1995),
    "avengers": ("Avengers: Infinity War", 2018), "lambs": ("The Silence of the Lambs", 1991),
    "dead2": ("Deadpool 2", 2018), "dead3": ("Deadpool 3", 2024), "exorcist": ("The Exorcist", 1973),
    "ghost": ("Ghostbusters", 1984), "ghost2": ("Ghostbusters II", 1989), "carriers": ("Carriers", 2009),
    "carrie": ("Carrie", 1976), "wars": ("Star Wars", 1977), "jedi": ("Star Wars: Episode VIII – The Last Jedi", 2017),
    "heat": ("Heat", 1995), "casino": ("Casino", 1995), "goodfellas": ("Goodfellas", 1990), "y2012": ("2012", 2009),
    "panther": ("Black Panther", 2018), "panther77": ("The Black Panther", 1977), "amelie": ("Amélie", 2001),
    "phoenix": ("Phoenix", 2014), "diehard": ("Die Hard", 1988), "ford": ("Ford v Ferrari", 2019),
    "spider": ("Spider-Man: Homecoming", 2017),
    "lotr": ("The Lord of the Rings: The Fellowship of the Ring", 2001), "halloween": ("Halloween", 1978),
    "saw4": ("Saw", 2003), "marley": ("Marley & Me", 2008), "matrix": ("The Matrix", 1999), "mad": ("Madagascar", 2005),
    "else": ("Anything Else", 2003), "friday": ("Friday", 1995), "ring": ("The Ring", 2002), "empty": ("…", None),
}  # fmt: skip
CAST = {"jum95": ("Robin Williams",), "jum17": ("Dwayne Johnson",), "her": ("Joaquin Phoenix",)}


@pytest.fixture(scope="module")
def catalogue():
    return Catalogue(Item(i, title, year, cast=CAST.get(i, ())) for i, (title, year) in FILMS.items())


@pytest.fixture(scope="module")
def linker(catalogue):
    return Linker.bundled(catalogue)


def films(linker, text, before=()):
    return [(link.id, text[link.start : link.end]) for link in linker.link(text, before) if link.kind == "item"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Have you seen The Matrix?", [("matrix", "The Matrix")]),
        ("i really liked the matrix", [("matrix", "the matrix")]),
        ("How about Saw (2004) or Heat (1995)?", [("saw", "Saw (2004)"), ("heat", "Heat (1995)")]),
        (
            "I liked Ghostbusters &amp; Marley &amp; Me a lot",
            [("ghost", "Ghostbusters"), ("marley", "Marley &amp; Me")],
        ),
        ('How has "The Exorcist" been received?', [("exorcist", "The Exorcist")]),
        ("I liked Goodfellas (big fan of the actors)", [("goodfellas", "Goodfellas")]),
        ("Did you like amelie or Amélie’s music?", [("amelie", "amelie")]),
        ("have you seen marley and me", [("marley", "marley and me")]),
        (
            "My top 3: Heat, Casino and Goodfellas",
            [("heat", "Heat"), ("casino", "Casino"), ("goodfellas", "Goodfellas")],
        ),
    ],
)
def test_a_title_is_found_as_people_type_it(linker, text, wanted):
    assert films(linker, text)[: len(wanted)] == wanted


@pytest.mark.parametrize(
    "text",
    [
        "have you seen it",
        "i recommend it",
        "We saw it twice and then went home.",
        "I was taken by surprise",
        "anything else you can suggest?",
        "Ocean waves come on friday, have a good one!",
        "We watch it every Halloween",
        "2012 was a bad year",
        "i was born in 2012",
        "Is it your phone that rings? I told her so.",
        "",
        "   ",
        "!!!",
    ],
)
def test_words_that_are_titles_too_need_evidence(linker, text):
    assert films(linker, text) == []


def test_a_pronoun_with_a_capital_inside_a_sentence_is_a_title(linker):
    assert films(linker, "I told her to watch Her.") == [("her", "Her")]
    assert [i for i, _ in films(linker, "Have you seen It? The clown one.")] == ["it17"]


def test_a_year_beside_a_title_settles_which_film(linker):
    assert films(linker, "The 1990 It scared me more than the new one.") == [("it90", "It")]
    assert films(linker, "it (1990) is old") == [("it90", "it (1990)")]
    assert [i for i, _ in films(linker, "Jumanji 1995 was better")] == ["jum95"]
    assert "its year" in linker.link("Jumanji (1996)")[0].reason
    assert films(linker, "Heat (2012)") in ([("heat", "Heat")], [])


def test_old_new_and_people_settle_which_film(linker):
    assert [i for i, _ in films(linker, "I loved the original Jumanji")] == ["jum95"]
    assert [i for i, _ in films(linker, "I loved the new Jumanji")] == ["jum17"]
    assert [i for i, _ in films(linker, "jumanji with robin williams or the new jumanji?")] == ["jum95", "jum17"]


def test_one_film_under_two_ids_and_remakes_are_all_candidates(linker):
    (link,) = linker.link("How about Saw (2004)?")
    assert link.candidates == ("saw", "saw4")
    (link,) = linker.link("Have you watched Jumanji?")
    assert set(link.candidates) == {"jum95", "jum17"}
    assert link.candidates[0] == link.id


def test_a_small_article_before_a_capital_may_be_none_of_the_title(catalogue):
    text = "Have you seen the Black Panther movie?"
    told = [Dialogue("d", (Turn("seeker", f"Black Panther {n}", (Link("item", "panther", 0, 13),)),)) for n in range(9)]
    assert films(Linker.bundled(catalogue, told), text) == [("panther", "the Black Panther")]


@pytest.mark.parametrize(
    ("text", "wanted", "reason"),
    [
        ("infinity war made me cry", "avengers", "alias 'infinity war'"),
        ("i loved silence of the lambs!!", "lambs", "alias 'silence of the lambs'"),
        ("Have you seen Frozen 2?", "frozen2", "alias 'frozen 2'"),
        ("Have you seen Ford vs Ferrari?", "ford", "alias 'ford vs ferrari'"),
        ("have you watched star wars the last jedi yet", "jedi", "alias 'star wars the last jedi'"),
        ("lotr is my favorite", "lotr", "alias 'lotr'"),
        ("all of the die hard movies", "diehard", "title, franchise"),
    ],
)
def test_other_names_of_films(linker, text, wanted, reason):
    (link,) = [x for x in linker.link(text) if x.kind == "item"]
    assert (link.id, link.reason.split(", not seen")[0]) == (wanted, reason)


@pytest.mark.parametrize(
    ("text", "wanted", "typed"),
    [
        ("Haven't seen Deapdool 2 yet", "dead2", "Deapdool 2"),
        ("the excorcist freaked me out as a kid", "exorcist", "the excorcist"),
        ("spiderman homecoming was fun", "spider", "spiderman homecoming"),
        ("Have you seen Star Wars: Episode VIII – The Lsat Jedi?", "jedi", "Star Wars: Episode VIII – The Lsat Jedi"),
        ("I liked goodfelas a lot", "goodfellas", "goodfelas"),
        ("We watched Mad Agascar", "mad", "Mad Agascar"),
    ],
)
def test_one_typo_in_a_title_is_forgiven(linker, text, wanted, typed):
    (link,) = [x for x in linker.link(text) if x.kind == "item"]
    assert (link.id, text[link.start : link.end], link.reason.split(", not")[0]) == (
        wanted,
        typed,
        f"misspelt '{typed}'",
    )


def test_a_stray_word_is_no_typo_and_numbers_are_never_typos(linker):
    assert films(linker, "Ghostbusters is great")[0] == ("ghost", "Ghostbusters")
    assert films(linker, "I think Carrie is scary")[0] == ("carrie", "Carrie")
    assert all(i != "dead3" for i, _ in films(linker, "Deadpool 4 will come"))


def test_the_longest_title_wins(linker):
    assert films(linker, "the Magnificent Seven is a great western") == [("mag16", "the Magnificent Seven")]
    assert films(linker, "I was taken by surprise by Taken 2") == [("taken2", "Taken 2")]


def test_a_person_beats_a_one_word_title_inside_the_name(linker):
    links = linker.link("Joaquin Phoenix was great in Her")
    assert [(link.kind, link.id) for link in links if link.kind != "genre"] == [
        ("person", "Joaquin Phoenix"),
        ("item", "her"),
    ]


def test_a_bare_title_answers_the_recommender(linker):
    before = [Turn("recommender", "What is your favorite film?")]
    assert films(linker, "frozen", before) == [("frozen", "frozen")]
    assert films(linker, "it", before) == []


def test_genres_stand_outside_of_films_and_people(linker):
    kinds = [(link.kind, link.id) for link in linker.link("Infinity War is no horror movie")]
    assert ("genre", "war") not in kinds
    assert ("genre", "horror") in kinds


def test_a_dialogue_is_linked_turn_by_turn(linker):
    turns = (Turn("recommender", "Have you seen The Matrix?"), Turn("seeker", "Yes, I loved it!"))
    first, second = linker.link_all(Dialogue("d", turns))
    assert [link.id for link in first] == ["matrix"]
    assert all(link.start == -1 for link in second)


def test_what_is_saved_is_what_is_loaded(catalogue, tmp_path):
    text = "Jumanji, Seven and the excorcist with Robin Williams"
    turns = (Turn("seeker", text, (Link("item", "jum95", 0, 7), Link("item", "seven", 9, 14))),)
    linker = Linker.bundled(catalogue, [Dialogue("d", turns)])
    linker.save(tmp_path)
    loaded = Linker.load(tmp_path, catalogue)
    assert loaded.link(text) == linker.link(text)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}


def test_a_linker_is_fitted_on_marked_dialogues_alone(catalogue):
    names = [(i, title) for i, (title, _) in FILMS.items() if len(title) > 3]
    dialogues = []
    for n in range(40):
        i, title = names[n % len(names)]
        text = f"I like {title} and watched it on friday"
        dialogues.append(Dialogue(str(n), (Turn("seeker", text, (Link("item", i, 7, 7 + len(title)),)),)))
    linker = Linker.fit(catalogue, dialogues)
    assert films(linker, "I like Goodfellas and watched it on friday") == [("goodfellas", "Goodfellas")]
    assert linker.classifier == Linker.fit(catalogue, dialogues).classifier


def test_an_empty_catalogue_links_no_film():
    assert [x for x in Linker.bundled(Catalogue([])).link("Have you seen The Matrix?") if x.kind == "item"] == []


PIECES = st.lists(
    st.one_of(
        st.sampled_from([title for title, _ in FILMS.values()]),
        st.sampled_from(
            ["(2004)", "&amp;", "&", "it", "IT", "Robin Williams", "horror", "(", ")", '"', "the", ", ", "İ", "ß"]
        ),
        st.text(max_size=12),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(PIECES, st.sampled_from(["", " ", "  "]), st.booleans())
def test_places_lie_in_the_text_and_never_overlap(linker, pieces, blank, small):
    text = blank.join(pieces)
    text = text.lower() if small else text
    end = 0
    for link in linker.link(text):
        if link.kind == "genre" and link.start < end:  # one word may name two genres
            continue
        assert 0 <= end <= link.start < link.end <= len(text)
        assert text[link.start : link.end].strip()
        end = link.end


def test_the_bundled_weights_are_small_and_hold_no_title_of_several_words():

    place = files("crscli.linking").joinpath("weights.json")
    text = place.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    plain = json.loads(text)
    assert set(plain) == {"bias", "weights", "words", "pairs"}
    assert max(name.count(" ") for name in plain["pairs"]) == 1


def test_dialogues_without_any_mark_say_nothing_against_titles():
    told = [
        Dialogue(str(n), (Turn("seeker", "I watched heat again"), Turn("recommender", "Heat is good")))
        for n in range(9)
    ]
    catalogue = Catalogue([Item("1", "Heat", 1995), Item("2", "Alien", 1979)])
    assert Linker.bundled(catalogue, told).link("Have you seen Heat?") == Linker.bundled(catalogue).link(
        "Have you seen Heat?"
    )
    assert [link.id for link in Linker.bundled(catalogue, told).link("Have you seen Heat?")] == ["1"]
