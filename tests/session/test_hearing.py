import pytest

from crscli.dialogue import Link, Turn
from crscli.session.hearing import hear


def heard(text, *links):
    return hear(Turn("seeker", text, links))


def film(text, title):
    at = text.index(title)
    return Link("item", "1", at, at + len(title))


def person(text, name):
    at = text.index(name)
    return Link("person", name, at, at + len(name))


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("hello there", "greet"),
        ("thanks a lot", "thank"),
        ("you're the best", "thank"),
        ("ok bye", "bye"),
        ("what can you do", "help"),
        ("why that one?", "why"),
        ("let's start over", "start over"),
        ("surprise me", "surprise"),
        ("not sure what i want", "surprise"),
        ("another one please", "more"),
        ("sounds great", "accept"),
        ("ok deal", "accept"),
        ("nah", "refuse"),
        ("ok not that then", "refuse"),
        ("none of these", "refuse"),
        ("already seen it", "seen"),
        ("they know those", "seen"),
        ("I know that one by heart. Something else, perhaps?", "seen"),
        ("something like that", "alike"),
        ("you are useless", "abuse"),
        ("who is the president of France?", "aside"),
        ("tell me a joke", "aside"),
        ("ich suche einen lustigen film", "foreign"),
        ("...", "silent"),
        ("can you recommend a movie", "recommend"),
    ],
)
def test_what_a_message_does(text, act):
    assert act in heard(text)


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("have you seen it?", "seen"),
        ("I haven't seen it", "seen"),
        ("I did not like it", "alike"),
        ("why not a comedy", "why"),
        ("with a strong female lead?", "aside"),
        ("is there something for the kids?", "ask"),
        ("can you find something for my kids?", "ask"),
        ("based on a true story", "ask"),
    ],
)
def test_what_it_does_not(text, act):
    assert act not in heard(text)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("who directed it?", "directors"),
        ("who's in the second one", "cast"),
        ("who's that guy in it?", "cast"),
        ("when did it come out", "year"),
        ("which of them is the newest", "year"),
        ("how long is it", "runtime"),
        ("which one is shorter?", "runtime"),
        ("what language is it in", "language"),
        ("is it ok for kids?", "kids"),
        ("is the first one ok for a 4 yr old", "kids"),
        ("what genre is it", "genres"),
        ("is it scary", "genre"),
        ("would it be too scary?", "genre"),
        ("what is it about", "plot"),
        ("where can I watch it", "where"),
        ("is it any good", "opinion"),
        ("haven't seen the first one, worth it?", "opinion"),
        ("is it violent", "else"),
    ],
)
def test_what_is_asked(text, asked):
    assert heard(text).asked == asked


def test_who_is_asked_about():
    for text in ("is Tom Hanks in it?", "has Tom Hanks worked with her", "does Tom Hanks play in the second one?"):
        assert heard(text, person(text, "Tom Hanks")).asked == "person"
    assert heard("is he in it?").asked == "person"


def test_a_stop_in_a_title_ends_no_sentence():
    text = "would Monsters, Inc. be too scary?"
    assert heard(text, film(text, "Monsters, Inc.")).asked == "genre"


@pytest.mark.parametrize(
    ("text", "places", "bare"),
    [
        ("the second one", (1,), True),
        ("number 2", (1,), True),
        ("the last one then", (-1,), True),
        ("who is in the third one", (2,), False),
        ("the first time I saw it", (), False),
    ],
)
def test_where_a_message_points(text, places, bare):
    assert (heard(text).places, heard(text).bare) == (places, bare)


def test_a_title_is_not_read_as_words():
    text = "I saw Seen It All"
    assert "seen" not in heard(text, film(text, "Seen It All")).acts - {"seen"}
    assert heard("why?").acts == {"why"}
    assert heard("with him").same_person
    assert heard("what else did she make").same_person
    assert heard("all of them").every
