import re
from itertools import pairwise

import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Turn
from crscli.phrasing import Phrases, card_of, kind_of_film, listed, offer, sentence_of, shortened
from crscli.recommender import Reason

PLAIN = Item("1", "Dune", 2021)
RICH = Item("2", "Alien", 1979, genres=("Horror", "Science Fiction", "Thriller"), directors=("Ridley Scott",))
NASTY = Item("4", 'Who\'s "{item}" {0}?')
CATALOGUE = Catalogue([PLAIN, RICH, NASTY])

REASONS = {
    "mention": ("2", r"Alien \(1979\)"),
    "word": ("space ship", "space ship"),
    "request": ("a comedy from 1988", "a comedy from 1988"),
    "person": ("Adam Sandler", "Adam Sandler"),
    "name": ("Adam Sandler", "Adam Sandler"),
    "metadata": ("time travel", "time travel"),
    "dialogues": ("", r"(asked for much the same|conversations like this|wishes like yours)"),
    "popularity": ("", r"(favourite of many|lot of people|keep coming back)"),
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


def said(context, items, reasons):
    phrases = Phrases(context)
    return offer(phrases, items, sentence_of(phrases, CATALOGUE, reasons))


@pytest.mark.parametrize("like", ["", "2"])
@pytest.mark.parametrize("kind", REASONS)
def test_every_wording_of_a_reason_reads_as_english(kind, like):
    evidence, shown = REASONS[kind]
    reason = Reason(kind, evidence, 1.0, like=like if kind == "metadata" else "")
    texts = {said(c, [PLAIN], [reason]) for c in contexts()}
    assert len(texts) >= 10
    for text in texts:
        assert "Dune (2021)" in text
        assert re.search(shown, text)
        assert SENTENCE.fullmatch(text)
        assert not re.search(r"[{}]|  | [.,?]|\.\.|None", text)
    card = card_of(CATALOGUE, [reason])
    assert card[0].isupper()
    assert not re.search(r"[{}]|None", card)


def test_further_items_are_listed_after_the_first_ones_reason():
    for context in contexts(2, 5):
        text = said(context, [PLAIN, RICH, NASTY], [Reason("word", "sand", 1.0)])
        assert 'Alien (1979) or Who\'s "{item}" {0}?' in text
        assert text.index("Dune") < text.index("sand") < text.index("Alien")
        assert not re.search(r"[.?] [a-z]", text.replace("{0}? ", ""))


def test_titles_and_evidence_stand_as_they_are():
    for context in contexts(2, 5):
        text = said(context, [NASTY], [Reason("word", "{evidence} \ud800 %s", 1.0)])
        assert 'Who\'s "{item}" {0}?' in text
        assert "{evidence} \ud800 %s" in text
    strange = Context((Turn("seeker", "\ud800"),))
    assert said(strange, [PLAIN], [Reason("mention", "no such item", 1.0)])


def test_the_same_dialogue_reads_the_same_and_replies_in_a_row_differ():
    reasons = [Reason("dialogues", "", 1.0)]
    every = list(contexts())
    for start in range(0, len(every), 6):
        texts, again = ([said(c, [PLAIN], reasons) for c in every[start : start + 6]] for _ in range(2))
        assert texts == again
        offers = [re.split(r"(?<=[.?]) ", text)[0] for text in texts]
        assert len(set(offers)) == 6
        assert all(a != b for a, b in pairwise(offers))


def test_words_are_put_together():
    assert [listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert kind_of_film(["Comedy"]) == "a comedy"
    assert kind_of_film(["animation", "adventure"]) == "an animated adventure"
    assert kind_of_film(["comedy", "romance"]) == "a romantic comedy"
    assert kind_of_film(["Science Fiction", "action"]) == "a science fiction action film"
    assert shortened("One. Two. Three.", 11) == "One. Two."
    assert shortened("no sentence ends in here", 14) == "no sentence …"
    assert shortened("short") == "short"
