import pytest

from crscli.genres import GENRES, SUPERHERO, canonical, said


def named(text):
    return [(span.genre, text[span.start : span.end].lower(), span.strength) for span in said(text)]


def test_there_are_22_genres_and_no_name_stands_for_two():
    assert len(GENRES) == 22
    names = [name for genre, spec in GENRES.items() for name in (genre, *spec.names)]
    assert {name for name in names if names.count(name) > 1} == {"romantic comedy"}


@pytest.mark.parametrize(
    ("name", "genre"),
    [
        ("Sci-Fi", "science fiction"),
        ("SCI_FI", "science fiction"),
        ("Children's", "family"),
        (" Film-Noir ", "crime"),
        ("scary", "horror"),
        ("Polka", "polka"),
    ],
)
def test_catalogues_names_become_one(name, genre):
    assert canonical(name) == genre


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("any good comedies?", [("comedy", "comedies", "noun")]),
        ("it was really funny", [("comedy", "funny", "adjective")]),
        ("a rom-com please", [("comedy", "rom-com", "noun"), ("romance", "rom-com", "noun")]),
        ("romantic comedy", [("romance", "romantic", "noun"), ("comedy", "comedy", "noun")]),
        ("Scary movies", [("horror", "scary", "noun")]),
        ("a bit scary", [("horror", "scary", "adjective")]),
        ("syfy or SciFi", [("science fiction", "syfy", "noun"), ("science fiction", "scifi", "noun")]),
        ("a family movie", [("family", "family", "noun")]),
        ("kid friendly", [("family", "kid friendly", "noun")]),
        ("war movies", [("war", "war", "noun")]),
        ("a war drama", [("war", "war", "noun"), ("drama", "drama", "noun")]),
        ("crime mystery", [("crime", "crime", "noun"), ("mystery", "mystery", "noun")]),
        ("set in WWII", [("war", "wwii", "noun")]),
        ("a true story", [("biography", "true story", "noun")]),
        ("crime, drama", [("crime", "crime", "noun"), ("drama", "drama", "noun")]),
        ("old westerns", [("western", "westerns", "noun")]),
        ("commedy or comidies", [("comedy", "commedy", "noun"), ("comedy", "comidies", "noun")]),
        ("not horror", [("horror", "horror", "noun")]),
    ],
)
def test_genres_are_found_as_they_are_said(text, wanted):
    assert named(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my family loves it",
        "a fight against his family",
        "Star Wars movies",
        "an action figure",
        "no drama queen please",
        "swept across Western Europe",
        "it remains a mystery to me",
        "the kids went home",
        "I love the music in it",
        "short and sweet",
        "it was news to me",
        "infinity war movie",
    ],
)
def test_other_senses_are_left(text):
    assert named(text) == []


@pytest.mark.parametrize("text", ["a superhero movie", "super heroes", "marvel", "DC movies", "comic book stuff"])
def test_superheroes_are_heard_although_they_are_no_genre(text):
    assert SUPERHERO.search(text)
    assert named(text) == []


def test_dc_alone_is_a_town():
    assert not SUPERHERO.search("I live in DC")
