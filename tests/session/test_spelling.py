import pytest

from crscli.dialogue import Link, Turn
from crscli.session.spelling import respelt


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("a comdey", "a comedy"),
        ("horor or thriler", "horror or thriller"),
        ("somthing romntic", "something romantic"),
        ("waht year is teh frist one", "what year is the first one"),
        ("whos in it", "who's in it"),
        ("nvm, i dont want that", "never mind, i don't want that"),
        ("a comely actor acting in a western", "a comely actor acting in a western"),
        ("", ""),
    ],
)
def test_words_as_they_should_be(typed, right):
    assert respelt(Turn("seeker", typed)).turn.text == right


def test_linked_words_stay_and_links_move_along():
    turn = Turn("seeker", "somthing like Horor Nite, teh comdey", (Link("item", "1", 14, 24),))
    spelt = respelt(turn).turn
    assert spelt.text == "something like Horor Nite, the comedy"
    assert [spelt.text[x.start : x.end] for x in spelt.links] == ["Horor Nite"]


def test_places_are_those_of_the_text_as_typed():
    turn = Turn("seeker", "smth like a comdey nvm frm the 80s")
    spelt = respelt(turn)
    for word, typed in (("comedy", "comdey"), ("from", "frm"), ("80s", "80s"), ("like", "like"), ("something", "smth")):
        at = spelt.turn.text.index(word)
        start, end = spelt.placed(at), spelt.placed(at + len(word))
        assert turn.text[start:end] == typed
