import pytest

from crscli.dialogue import Link, Turn
from crscli.wishes import Wish, WishReader, fold, in_words, masked, read

PEOPLE = ["Adam Sandler", "Tom Cruise", "Robert Downey Jr.", "Robert Downey", "Chloë Sevigny", "Sinbad"]
READER = WishReader(PEOPLE)


def item(text, title, item_id="1"):
    at = text.index(title)
    return Link("item", item_id, at, at + len(title))


def seeker(text, *titles):
    return Turn("seeker", text, tuple(item(text, t, str(n)) for n, t in enumerate(titles)))


def stated(text, *titles):
    """Wishes as "horror", "-horror" unwanted, "(horror)" only said."""
    found = READER.of_turn(seeker(text, *titles))
    return [f"{'' if w.wanted else '-'}{w.value}" if w.asked else f"({w.value})" for w in found]


GENRES = {
    "Can you recommend some scary movies?": ["horror"],
    "I like both action and science fiction.": ["action", "science fiction"],
    "do you know any good action?": ["action"],
    "Looking for a romantic comedy": ["romance", "comedy"],
    "something funny please": ["comedy"],
    "I love a good rom-com": ["comedy", "romance"],
    "It was really funny": ["(comedy)"],
    "Is it scary?": ["(horror)"],
    "That is a great thriller also.": ["(thriller)"],
    "no horror please": ["-horror"],
    "I like comedies, no horror": ["comedy", "-horror"],
    "I'm not a huge musical fan but action is fine": ["-musical", "action"],
    "I don't like scary movies": ["-horror"],
    "I dont really like westerns": ["-western"],
    "nothing too scary": ["-horror"],
    "anything but horror": ["-horror"],
    "any genre except for sci fi and fantasy": ["-science fiction", "-fantasy"],
    "I'm not really into action movies": ["-action"],
    "Not so much horror, more drama": ["-horror", "drama"],
    "tired of action movies": ["-action"],
    "I can't stand musicals": ["-musical"],
    "Hi, other than horror I like it all": ["-horror"],
    "not sure, maybe a comedy": ["comedy"],
    "Why not a comedy?": ["comedy"],
    "no I like horror": ["horror"],
    "no, a drama": ["drama"],
    "not only horror": ["horror"],
    "Isn't it a comedy?": ["(comedy)"],
    "It's not a comedy": ["(comedy)"],
    "It was not funny": ["(comedy)"],
    "Do you have a drama that is not a chick flick?": ["drama", "-romance"],
    "I haven't seen that but I want a western": ["western"],
    "horror movies scare me": ["-horror"],
    "scary movies, but not too gory": ["horror"],
    "I've never seen that, it would be funny!": ["(comedy)"],
    "it doesn't have to be a comedy": ["comedy"],
    "what is the weather like": [],
    "": [],
}

YEARS = {
    "something from the 80s": ["1980-1989"],
    "I like 80's and 90's comedies": ["1980-1989", "1990-1999", "comedy"],
    "movies of the 1970s or the eighties": ["1970-1979", "1980-1989"],
    "a 2000s film": ["2000-2009"],
    "my dad is in his 50s": [],
    "anything from 1994": ["1994-1994"],
    "since 2010": ["2010-"],
    "before 1980": ["-1979"],
    "any old movies?": ["old"],
    "I'm looking for some newer movies": ["new"],
    "I want something new": ["new"],
    "is there anything in theaters": ["new"],
    "I have not seen the new one": ["(new)"],
    "Grease is a classic": ["(old)"],
    "I love classics": ["old"],
    "I'm not really into old movies": ["-old"],
    "no black and white ones": ["-old"],
    "it cost $20s and 30s": ["1930-1939"],
    "I was born in 1850": [],
}

OTHERS = {
    "I love Adam Sandler": ["Adam Sandler"],
    "adam sandler's films": ["Adam Sandler"],
    "with ROBERT DOWNEY JR in it": ["Robert Downey Jr."],
    "Isn't Chloe Sevigny in that?": ["Chloë Sevigny"],
    "without Tom Cruise": ["-Tom Cruise"],
    "there's no Tom Cruise in it": ["-Tom Cruise"],
    "I am not a big Tom Cruise fan": ["-Tom Cruise"],
    "sinbad the sailor": [],
    "We love Disney": ["Disney"],
    "Not Disney, though.": ["-Disney"],
    "I went to Disney World": [],
    "marvel movies are great": ["Marvel", "superhero"],
    "a superhero movie": ["superhero"],
    "any dc movies": ["DC", "superhero"],
    "a movie to watch with my kids": ["kids"],
    "for my 9 year old son": ["kids"],
    "not for kids": ["-kids"],
    "I was a kid then": [],
}


@pytest.mark.parametrize("text", [*GENRES, *YEARS, *OTHERS])
def test_what_a_sentence_asks_for(text):
    wanted = (GENRES | YEARS | OTHERS)[text]
    assert sorted(stated(text)) == sorted(wanted)


def test_spans_show_what_was_understood():
    text = "No horror for me, I want ADAM SANDLER from the 90's"
    shown = {w.value: text[w.start : w.end] for w in READER.of_turn(seeker(text))}
    assert shown == {"horror": "horror", "Adam Sandler": "ADAM SANDLER", "1990-1999": "90's"}


def test_marked_titles_ask_for_nothing_and_their_places_are_kept():
    text = "Scary Movie 3 (2003) or a thriller from Adam Sandler"
    turn = seeker(text, "Scary Movie 3 (2003)")
    assert masked(turn) == "@" * 20 + text[20:]
    assert stated(text, "Scary Movie 3 (2003)") == ["thriller", "Adam Sandler"]
    assert stated("Adam Sandler: The Film", "Adam Sandler: The Film") == []
    assert stated("mail@horror.com wants @ horror") == ["horror", "horror"]


def test_a_linked_person_goes_before_a_name_found():
    turn = Turn("seeker", "with the Sandler guy", (Link("person", "Adam Sandler", 9, 16),))
    (wish,) = READER.of_turn(turn)
    assert (wish.kind, wish.value, wish.start) == ("person", "Adam Sandler", 9)
    twice = Turn("seeker", "Adam Sandler", (Link("person", "adam-sandler-id", 0, 12),))
    assert [w.value for w in READER.of_turn(twice)] == ["adam-sandler-id"]
    assert READER.people_in(Turn("recommender", "Tom Cruise and no Adam Sandler")) == ["Tom Cruise", "Adam Sandler"]


@pytest.mark.parametrize(
    ("text", "value", "than"),
    [
        ("I want something like Alien but newer", "newer", "0"),
        ("similar to Alien, only more recent", "newer", "0"),
        ("like Alien but older", "older", "0"),
        ("I like Alien. Something newer", "new", ""),
        ("like Alien but funnier", "comedy", ""),
        ("like Alien but for kids", "kids", ""),
        ("like Alien but with Adam Sandler", "Adam Sandler", ""),
    ],
)
def test_like_a_film_but_different(text, value, than):
    (wish,) = READER.of_turn(seeker(text, "Alien"))
    assert (wish.value, wish.than, wish.wanted, wish.asked) == (value, than, True, True)


@pytest.mark.parametrize(
    ("question", "answer", "wanted"),
    [
        ("Do you like horror?", "Yes!", ["horror"]),
        ("Do you like horror?", "No", ["-horror"]),
        ("Are you into comedies or dramas?", "yeah sure", ["comedy", "drama"]),
        ("Are you into comedies or dramas?", "Yes, dramas", ["drama"]),
        ("Do you like horror?", "What is that?", []),
        ("I saw a horror film. How are you?", "yes", []),
        ("Have you seen a horror film?", "yes", []),
        ("Do you like horror", "yes", []),
    ],
)
def test_a_plain_answer_to_a_question(question, answer, wanted):
    wishes = read([Turn("recommender", question), Turn("seeker", answer)])
    assert [f"{'' if w.wanted else '-'}{w.value}" for w in wishes.every if w.asked] == wanted
    assert all(w.turn == 1 for w in wishes.every)


def dialogue(*texts):
    return read([Turn("seeker" if n % 2 == 0 else "recommender", text) for n, text in enumerate(texts)], PEOPLE)


def test_a_later_word_replaces_an_earlier_one_on_the_same_thing():
    wishes = dialogue("I like horror and comedies", "I hate comedies", "No horror after all", "Ok")
    assert [w.value for w in wishes.wanted("genre")] == ["comedy"]
    assert [(w.value, w.turn) for w in wishes.unwanted()] == [("horror", 2)]
    back = dialogue("no horror", "Ok", "I do want horror")
    assert [w.value for w in back.wanted()] == ["horror"]
    assert not back.unwanted()


def test_new_years_replace_those_of_earlier_turns_but_not_of_the_same():
    wishes = dialogue("80s and 90s movies", "Ok", "rather something new")
    assert [w.value for w in wishes.wanted("years")] == ["new"]
    assert [w.value for w in dialogue("80s and 90s movies").wanted("years")] == ["1980-1989", "1990-1999"]


def test_what_is_only_said_never_unsays_a_wish():
    wishes = dialogue("I want comedies", "Ok", "That was funny")
    assert [w.value for w in wishes.wanted("genre")] == ["comedy"]
    assert fold([]).every == ()


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("genre", "horror", "horror"),
        ("years", "1980-1989", "the 1980s"),
        ("years", "1985-1989", "1985 to 1989"),
        ("years", "1994-1994", "1994"),
        ("years", "2010-", "2010 or later"),
        ("years", "-1979", "1979 or earlier"),
        ("years", "new", "something new"),
        ("audience", "kids", "something for kids"),
        ("theme", "superhero", "superheroes"),
        ("person", "Adam Sandler", "Adam Sandler"),
    ],
)
def test_a_wish_in_words(kind, value, words):
    assert in_words(Wish(kind, value, True, True, 0, 0, 0)) == words


def test_strange_texts_survive():
    for text in ("\x00😀", "not " * 3000 + "horror", "@" * 50, "horror " * 3000, "like " * 2000 + "but"):
        READER.read([Turn("seeker", text)])
