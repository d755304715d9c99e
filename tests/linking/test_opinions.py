import time
from collections import Counter

import pytest
import redial_films
from hypothesis import given
from hypothesis import strategies as st

from crscli.dialogue import Link, Turn
from crscli.linking.opinions import ANSWERS, CONTINUES, NOT_SEEN, untold, with_opinions


def links_of(text, names, kind="item"):
    """A link for each name, where it stands in the text."""
    return [Link(kind, name, text.index(name), text.index(name) + len(name), reason="title") for name in names]


def says(text, *names, before=(), role="seeker"):
    """Name -> opinion, or "not seen"."""
    told = with_opinions(text, links_of(text, names), before, role)
    return {link.id: NOT_SEEN if NOT_SEEN in link.reason else link.opinion for link in told}


def recommender(text, *names):
    return Turn("recommender", text, tuple(links_of(text, names)))


def seeker(text, *names):
    return Turn("seeker", text, tuple(links_of(text, names)))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("I loved Alpha", {"Alpha": "liked"}),
        ("hated Alpha", {"Alpha": "disliked"}),
        ("not Alpha again", {"Alpha": "disliked"}),
        ("Alpha was great but I did not like Beta", {"Alpha": "liked", "Beta": "disliked"}),
        ("I loved Alpha, Beta and Gamma", {"Alpha": "liked", "Beta": "liked", "Gamma": "liked"}),
        ("loved Alpha, haven't seen Beta", {"Alpha": "liked", "Beta": NOT_SEEN}),
        ("I havent seen Alpha", {"Alpha": NOT_SEEN}),
        ("I have to check out Alpha", {"Alpha": NOT_SEEN}),
        ("I'll watch Alpha tonight", {"Alpha": NOT_SEEN}),
        ("I want to see Alpha", {"Alpha": NOT_SEEN}),
        ("I haven't seen Alpha in years", {"Alpha": "seen"}),
        ("I saw Alpha yesterday", {"Alpha": "seen"}),
        ("I saw Alpha. It was awesome!", {"Alpha": "liked"}),
        ("I saw Alpha. It was so boring", {"Alpha": "disliked"}),
        ("I’ve seen Alpha, didn’t really care for it", {"Alpha": "disliked"}),
        ("Alpha wasn't bad", {"Alpha": "liked"}),
        ("Alpha is way too long", {"Alpha": "disliked"}),
        ("Is Alpha any good?", {"Alpha": None}),
        ("Have you seen Alpha?", {"Alpha": None}),
        ("Did you like Alpha?", {"Alpha": None}),
        ("any funny movies like Alpha or Beta?", {"Alpha": "liked", "Beta": "liked"}),
        ("something similar to Alpha", {"Alpha": "liked"}),
        ("what about Alpha", {"Alpha": None}),
        ("my husband hates Alpha", {"Alpha": None}),
        ("who doesn't love Alpha", {"Alpha": None}),
        ("Alpha", {"Alpha": None}),
    ],
)
def test_opinions_are_told_by_clause(text, wanted):
    names = [name for name in ("Alpha", "Beta", "Gamma") if name in text]
    assert says(text, *names) == wanted


def test_the_recommenders_messages_are_not_read():
    assert says("I loved Alpha", "Alpha", role="recommender") == {"Alpha": None}


def test_words_of_a_title_are_no_opinion():
    assert says("I saw Love Hates Fun today", "Love Hates Fun") == {"Love Hates Fun": "seen"}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("yes, loved it", "liked"),
        ("no, hated that one", "disliked"),
        ("seen them all", "seen"),
        ("Yes", "seen"),
        ("nope", NOT_SEEN),
        ("not yet, I'll check it out", NOT_SEEN),
        ("it was ok", "liked"),
        ("yeah but it was boring", "disliked"),
        ("who is in it?", None),
        ("I love comedies", None),
        ("thanks, have a great day", None),
        ("Great, thanks!", None),
    ],
)
def test_an_answer_is_about_the_films_of_the_other_side(answer, wanted):
    before = [seeker("hello"), recommender("Have you seen Alpha?", "Alpha")]
    told = with_opinions(answer, (), before, "seeker")
    assert [(x.id, x.start, x.end, NOT_SEEN if NOT_SEEN in x.reason else x.opinion) for x in told] == (
        [("Alpha", -1, -1, wanted)] if wanted else []
    )
    assert all(x.reason.startswith(ANSWERS) for x in told)


def test_both_and_all_answer_every_film_of_the_last_messages():
    before = [recommender("try Alpha", "Alpha"), recommender("or Beta", "Beta")]
    assert says("loved both", before=before) == {"Alpha": "liked", "Beta": "liked"}
    assert says("loved that one", before=before) == {"Beta": "liked"}


def test_a_yes_to_a_question_for_liking_is_a_like():
    assert says("yes", before=[recommender("Did you like Alpha?", "Alpha")]) == {"Alpha": "liked"}


def test_films_alone_go_on_with_the_message_before_or_answer_a_question():
    assert says("and Beta", "Beta", before=[seeker("I hated Alpha", "Alpha")])["Beta"] == "disliked"
    assert says("Beta", "Beta", before=[recommender("What movies do you like?")]) == {"Beta": "liked"}


def test_a_verdict_after_an_own_film_is_about_it():
    before = [recommender("try Beta", "Beta"), seeker("Also Alpha", "Alpha")]
    told = with_opinions("it was amazing", (), before, "seeker")
    assert [(x.id, x.opinion, x.reason) for x in told] == [("Alpha", "liked", CONTINUES)]


def test_films_that_were_only_answered_are_not_answered_again():
    first = with_opinions("yes, loved it", (), [recommender("Alpha?", "Alpha")], "seeker")
    before = [recommender("Alpha?", "Alpha"), Turn("seeker", "yes, loved it", first), recommender("And Beta?", "Beta")]
    assert says("no", before=before) == {"Beta": NOT_SEEN}


def test_a_film_without_a_place_has_what_the_whole_message_says():
    told = with_opinions("I loved it so much", [Link("item", "a")], (), "seeker")
    assert [(x.id, x.opinion) for x in told] == [("a", "liked")]


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        ("I don't like horror", "horror", "disliked"),
        ("not a huge musical fan", "musical", "disliked"),
        ("I'm a big comedy fan", "comedy", "liked"),
        ("I love scary movies", "scary", "liked"),
        ("no horror please", "horror", "disliked"),
        ("nothing too scary", "scary", "disliked"),
        ("I like action, drama and comedy", "comedy", "liked"),
        ("looking for a comedy", "comedy", None),
        ("I would like a comedy", "comedy", None),
        ("do you like comedy?", "comedy", None),
        ("it's not a comedy", "comedy", None),
        ("my kids hate horror", "horror", None),
    ],
)
def test_genres(text, name, wanted):
    assert [x.opinion for x in with_opinions(text, links_of(text, [name], "genre"), (), "seeker")] == [wanted]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("love Adam Sandler", "liked"),
        ("I can't stand Adam Sandler", "disliked"),
        ("Adam Sandler is hilarious", "liked"),
        ("Adam Sandler is so annoying", "disliked"),
        ("something with Adam Sandler", None),
        ("is it with Adam Sandler?", None),
    ],
)
def test_people(text, wanted):
    links = links_of(text, ["Adam Sandler"], "person")
    assert [x.opinion for x in with_opinions(text, links, (), "seeker")] == [wanted]


@pytest.mark.parametrize("reason", ["", "title"])
def test_untold_takes_back_what_was_told(reason):
    text = "never saw Alpha"
    plain = Link("item", "Alpha", 10, 15, reason=reason)
    (told,) = with_opinions(text, [plain], (), "seeker")
    assert told != plain
    assert untold(told) == plain


def test_a_long_message_without_stops_is_read_quickly():
    text = "i really do not want to " * 2000 + "see Alpha"
    assert says(text, "Alpha") == {"Alpha": NOT_SEEN}


def test_many_names_in_one_sentence_are_read_quickly():
    text = "love horror " * 2000
    links = [Link("genre", "horror", at * 12 + 5, at * 12 + 11) for at in range(2000)]
    started = time.process_time()
    told = with_opinions(text, links, (), "seeker")
    assert time.process_time() - started < 2
    assert len(told) == 2000


@given(st.text(max_size=120), st.text(max_size=120))
def test_any_text_can_be_read(text, other):
    end = len(text)
    links = (Link("item", "a", 0, end // 2), Link("genre", "horror", end // 2, end), Link("item", "b"))
    before = [recommender(other), Turn("seeker", other, links[2:])]
    told = with_opinions(text, links, before, "seeker")
    assert [(x.kind, x.id, x.start, x.end) for x in told[:3]] == [(x.kind, x.id, x.start, x.end) for x in links]


def answers(dialogues):
    """Counts of (question, answer in the form, answer from the text)."""
    counts = Counter()
    for dialogue in dialogues:
        heard = {}
        for number, turn in enumerate(dialogue.turns):
            for link in with_opinions(turn.text, turn.links, dialogue.turns[:number], turn.role):
                told = NOT_SEEN if NOT_SEEN in link.reason else link.opinion
                heard.setdefault(link.id, set()).add(told)
        for item_id, form in dialogue.forms.get("seeker", {}).items():
            told = heard.get(item_id, set())
            liked = 0 if "disliked" in told else 1 if "liked" in told else None
            seen = 0 if NOT_SEEN in told else 1 if told - {None} else None
            for question, read in (("liked", liked), ("seen", seen)):
                if form.get(question) in (0, 1):
                    counts[question, form[question], read] += 1
    return counts


def figures(counts, question):
    """(answers, share covered, accuracy on covered, precision of 0)."""
    of = {key[1:]: n for key, n in counts.items() if key[0] == question}
    covered = {key: n for key, n in of.items() if key[1] is not None}
    right = sum(n for (form, read), n in covered.items() if form == read)
    total, told = sum(of.values()), sum(covered.values())
    return total, told / total, right / told, of[0, 0] / (of[0, 0] + of[1, 0])


@pytest.mark.realdata
def test_opinions_agree_with_the_forms_of_redial(shared_data):
    counts = answers(redial_films.load(shared_data).test)
    total, covered, accuracy, dislikes = figures(counts, "liked")
    print(f"liked: {total} answers, {covered:.3f} covered, {accuracy:.3f} right, dislikes {dislikes:.3f}")
    assert total == 6017
    assert covered >= 0.55
    assert accuracy >= 0.96
    assert dislikes >= 0.65
    total, covered, accuracy, _ = figures(counts, "seen")
    print(f"seen: {total} answers, {covered:.3f} covered, {accuracy:.3f} right")
    assert total == 6540
    assert covered >= 0.65
    assert accuracy >= 0.86


def test_what_others_did_not_like_is_not_liked():
    for text in ("they didn't like Heat", "my kids did not really like Heat"):
        assert [
            link.opinion
            for link in with_opinions(text, [Link("item", "1", text.index("Heat"), len(text))], (), "seeker")
        ] == [None]
