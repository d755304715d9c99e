import re
from itertools import pairwise

import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Turn
from crscli.phrasing import realise
from crscli.recommender import Reason

PLAIN = Item("1", "Dune", 2021)
RICH = Item("2", "Alien", 1979, genres=("Horror", "Science Fiction", "Thriller"), directors=("Ridley Scott",))
ACTION = Item("3", "The Matrix", 1999, genres=("Action",), directors=("Lana Wachowski", "Lilly Wachowski", "Another"))
NASTY = Item("4", 'Who\'s "{item}" {0}?')
CATALOGUE = Catalogue([PLAIN, RICH, ACTION, NASTY])

REASONS = {
    "mention": ("2", r"Alien \(1979\)"),
    "word": ("space ship", '"space ship"'),
    "request": ("something new", "something new"),
    "name": ("Adam Sandler", "Adam Sandler"),
    "metadata": ("time travel", "time travel"),
    "dialogues": ("", r"(Others who asked|conversations like this)"),
    "popularity": ("", r"(favourite of many|lot of people)"),
    "repeat": ("1", r"(You brought it up|spoke of it before)"),
}
SENTENCE = re.compile(r'["A-Z0-9].*[.?]')


def contexts(replies=6, openings=40):
    """Dialogues of 0 to so many replies, with so many different openings."""
    for opening in range(openings):
        for reply in range(replies):
            turns = [Turn("seeker", f"Hello {opening}")]
            for _ in range(reply):
                turns += [Turn("recommender", "Try this."), Turn("seeker", "More?")]
            yield Context(tuple(turns))


def wordings(items, reasons):
    return {realise(CATALOGUE, c, items, reasons) for c in contexts()}


@pytest.mark.parametrize("kind", REASONS)
def test_every_wording_of_a_reason_reads_as_english(kind):
    evidence, shown = REASONS[kind]
    said = wordings([PLAIN], [(Reason(kind, evidence, 1.0),)])
    assert len(said) >= 10  # 6 offers, times 2 or 3 reasons
    for text in said:
        assert "Dune (2021)" in text
        assert re.search(shown, text)
        assert SENTENCE.fullmatch(text)
        assert not re.search(r"[{}]|  | [.,?]|\.\.|None", text)


def test_a_pair_of_words_is_not_called_a_word():
    assert not any("word" in text for text in wordings([PLAIN], [(Reason("word", "space ship", 1.0),)]))


def test_what_the_item_is_follows_as_a_sentence():
    about = {text.split("1979)")[1].split(maxsplit=1)[-1] for text in wordings([RICH], [])}
    assert any(a.endswith("Horror and Science Fiction, directed by Ridley Scott.") for a in about)
    two = wordings([ACTION], [])
    assert all("Action, directed by Lana Wachowski and Lilly Wachowski." in text for text in two)
    assert not any("Another" in text or "Thriller" in text for text in two | about)
    lower = Item("5", "Up", 2009, genres=("animation",))
    assert {text.rsplit(" ", 1)[-1] for text in wordings([lower], [])} == {"Animation.", "animation."}
    assert not any(re.search(r"[.?] [a-z]", text) for text in wordings([lower], []))


def test_further_items_are_listed_after_the_first_ones_reason():
    reasons = [(Reason("word", "sand", 1.0),), (Reason("word", "space", 1.0),), ()]
    two = wordings([PLAIN, RICH], reasons[:2])
    assert all(text.endswith("Or, if that is not it: Alien (1979).") for text in two)
    assert all('"sand"' in text and '"space"' not in text for text in two)
    three = realise(CATALOGUE, Context(()), [PLAIN, RICH, ACTION], reasons)
    assert three.endswith("Or, if that is not it: Alien (1979) and The Matrix (1999).")
    four = realise(CATALOGUE, Context(()), [PLAIN, RICH, ACTION, NASTY], reasons)
    assert "Alien (1979), The Matrix (1999) and Who's" in four


def test_nothing_to_offer_is_said_too():
    assert realise(CATALOGUE, Context(()), [], []) == "I have nothing left to offer that we have not spoken about."


def test_titles_and_evidence_stand_as_they_are():
    for context in contexts(2, 5):
        text = realise(CATALOGUE, context, [NASTY], [(Reason("word", "{evidence} \ud800 %s", 1.0),)])
        assert 'Who\'s "{item}" {0}?' in text
        assert "{evidence} \ud800 %s" in text
    strange = Context((Turn("seeker", "\ud800"),))
    assert realise(CATALOGUE, strange, [PLAIN], [(Reason("mention", "no such item", 1.0),)])


def test_the_same_dialogue_reads_the_same_and_replies_in_a_row_differ():
    reasons = [(Reason("dialogues", "", 1.0),)]
    every = list(contexts())
    for start in range(0, len(every), 6):
        said, again = ([realise(CATALOGUE, c, [PLAIN], reasons) for c in every[start : start + 6]] for _ in range(2))
        assert said == again
        offers = [re.split(r"(?<=[.?]) ", text)[0] for text in said]
        assert len(set(offers)) == 6
        whys = [text.split(" ", len(offer.split()))[-1] for text, offer in zip(said, offers, strict=True)]
        assert all(a != b for a, b in pairwise(whys))
    assert len({realise(CATALOGUE, c, [PLAIN], []) for c in contexts(1)}) == 6
