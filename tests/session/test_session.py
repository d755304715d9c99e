from itertools import pairwise

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.decoding import Decoding
from crscli.dialogue import Link
from crscli.errors import UsageError
from crscli.recommender import PLACEHOLDER, Ranking, Reason, Utterance
from crscli.session import Host, Memory, Session
from crscli.steps._dataset import find_run, load_run, read_dataset
from crscli.workspace import Workspace

TITLES = ["Alien", "Aliens", "Brazil", "Casablanca", "Alien 3", "Dune", "Eraserhead", "Fargo", "Gilda", "Heat", "Ikiru"]


class Counting:
    """Ranks all items by number, whatever was said."""

    tasks = frozenset({"rank"})

    def __init__(self, catalogue):
        self.catalogue = catalogue
        self.asked = []

    def rank(self, contexts, k):
        self.asked += contexts
        every = np.arange(len(self.catalogue))[:k]
        return [Ranking(every, -every.astype(np.float32)) for _ in contexts]


class Explaining(Counting):
    def explain(self, context, item_nums):
        return [(Reason("name", f"name {n}", 1.0),) for n in item_nums]


@pytest.fixture
def catalogue():
    return Catalogue(Item(f"i{num:02}", title) for num, title in enumerate(TITLES))


def session(recommender, shown=1, links=None, **options):
    found = links or {}
    return Session(Host(recommender, lambda text, before: found.get(text, ()), shown, **options))


def test_what_was_mentioned_or_offered_is_not_offered_again(catalogue):
    links = {"I loved Aliens": (Link("item", "i01", 8, 14), Link("item", "unknown"))}
    talk = session(Counting(catalogue), links=links)
    offered = [talk.say(text).items for text in ["I loved Aliens", *["More!"] * 9, "Another?", "What else?"]]
    ids = [item.item_id for items in offered for item in items]
    assert ids == [i.item_id for i in catalogue if i.item_id != "i01"]
    assert offered[-2:] == [(), ()]
    turns = talk.memory.turns
    assert [t.role for t in turns] == ["seeker", "recommender"] * 12
    assert turns[-1].text
    assert turns[-1].links == ()


def test_the_recommender_hears_all_that_was_said_with_its_links(catalogue):
    recommender = Counting(catalogue)
    talk = session(recommender, links={"Heat!": (Link("item", "i09", 0, 4),)})
    first = talk.say("Heat!")
    talk.say("Another one")
    assert first.links == (Link("item", "i09", 0, 4),)
    assert recommender.asked[0].mentions == ("i09",)
    assert recommender.asked[1].mentions == ("i09",)  # an offer that was not taken up is no evidence
    assert [t.text for t in recommender.asked[1].turns] == ["Heat!", "Another one"]
    talk.memory.opinions[first.items[0].item_id] = "liked"
    talk.say("More")
    assert recommender.asked[2].mentions == (first.items[0].item_id, "i09")


@pytest.mark.parametrize("shown", [1, 3, 6])
def test_links_of_a_reply_point_at_the_names_of_its_items_and_do_not_overlap(catalogue, shown):
    talk = session(Explaining(catalogue), shown)
    for text in ("Surprise me", "Seen it", "No", "More"):
        reply = talk.say(text)
        links = talk.memory.turns[-1].links
        assert [link.id for link in links] == [item.item_id for item in reply.items]
        assert [reply.text[link.start : link.end] for link in links] == [item.name for item in reply.items]
        spans = sorted((link.start, link.end) for link in links)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_a_name_inside_a_longer_one_is_not_taken_for_it(catalogue):
    said = "Like Aliens or Alien 3 and (Alien)?"
    talk = session(Counting(catalogue), shown=5, voice=lambda context, items, draft: said)
    talk.say("Surprise me")
    links = talk.memory.turns[-1].links
    assert {link.id: link.start for link in links} == {"i00": 28, "i01": 5, "i02": -1, "i03": -1, "i04": 15}
    assert links[2].end == -1


def test_reasons_come_from_a_recommender_that_can_explain_and_are_never_missing(catalogue):
    told = session(Explaining(catalogue), 2).say("Surprise me")
    assert [[r.evidence for r in reasons] for reasons in told.reasons] == [["name 0"], ["name 1"]]
    assert all("name" in why for why in told.whys)
    silent = session(Counting(catalogue), 2).say("Surprise me")
    assert [[r.kind for r in reasons] for reasons in silent.reasons] == [["popularity"], ["popularity"]]
    assert len(silent.items) == 2


def test_a_greeting_is_answered_by_a_question_and_recommends_nothing(catalogue):
    recommender = Counting(catalogue)
    talk = session(recommender)
    first = talk.say("Hi there")
    assert (first.act, first.items, first.question) == ("ask", (), "liked")
    assert recommender.asked == []
    assert talk.say("not sure").items  # who knows nothing is not asked the same again


FILMS = Catalogue(
    [
        Item("1", "Night", 1984, ("Horror",), ("Ann Lee",), plot="A house is haunted.", runtime=95, language="en"),
        Item("2", "Laughs", 1995, ("Comedy",), (), ("Bo Ray",), runtime=150, language="fr"),
        Item("3", "Toys", 2018, ("Animation", "Family"), ("Cy Dee",), runtime=80, language="en"),
        Item("4", "Dunes", 1986, ("Drama",), (), ("Bo Ray", "Ann Lee"), plot="A family crosses a desert."),
        Item("5", "Laughs Again", 2001, ("Comedy", "Drama"), ("Ann Lee",), ("Bo Ray",), runtime=99, language="en"),
    ]
)


def offered(*said, links=None, shown=1):
    talk = session(Counting(FILMS), shown, links)
    return [[item.title for item in talk.say(text).items] for text in said]


def test_what_is_asked_for_and_refused_is_kept_to():
    assert offered("Surprise me") == [["Night"]]
    assert offered("No horror please, and not Bo Ray") == [["Toys"]]
    assert offered("Something from the 80s, nothing scary") == [["Dunes"]]
    assert offered("a comedy under two hours") == [["Laughs Again"]]
    assert offered("something french") == [["Laughs"]]
    assert offered("for the kids") == [["Toys"]]
    named = {"Like Laughs but newer": (Link("item", "2", 5, 11),)}
    assert offered("Like Laughs but newer", links=named) == [["Toys"]]
    assert offered("with Bo Ray", "more", "more", shown=2) == [["Laughs", "Dunes"], ["Laughs Again"], ["Night", "Toys"]]


def test_what_nothing_keeps_to_is_relaxed_openly_the_nearest_first():
    talk = session(Counting(FILMS), 2)
    reply = talk.say("a comedy from the 50s with Bo Ray")
    assert [i.title for i in reply.items] == ["Laughs", "Laughs Again"]
    assert reply.relaxed == ("the 1950s",)
    assert "a comedy from the 1950s with Bo Ray" in reply.text
    assert "the year" in reply.text
    assert not session(Counting(FILMS)).say("no horror, no comedies, no dramas, no animation").items


def test_wishes_that_the_catalogue_cannot_be_held_to_are_said_to_be_left_out(catalogue):
    reply = session(Counting(catalogue)).say("something funny from the 80s")
    assert reply.items
    assert "the genre" in reply.text
    assert "the year" in reply.text


def test_facts_are_answered_from_the_catalogue_and_the_unknown_is_unknown():
    talk = session(Counting(FILMS), 3)
    talk.say("surprise me")
    assert "haunted" in talk.say("what is it about?").text
    assert "Bo Ray" in talk.say("who is in the second one?").text
    assert "150 minutes" in talk.say("how long is it?").text
    assert "do not know" in talk.say("who directed it?").text or "director" in talk.say("who directed it?").text
    assert "80 minutes" in talk.say("how long is the third one?").text
    assert "Animat" in talk.say("is it ok for kids?").text or "anim" in talk.say("is it ok for kids?").text


def test_refused_and_seen_items_are_remembered_and_why_is_answered():
    talk = session(Counting(FILMS), 2)
    assert "popular" in talk.say("surprise me").reasons[0][0].kind
    assert talk.say("why the second one?").text.startswith("Laughs (1995): ")
    talk.say("I've already seen the first one")
    assert talk.memory.opinions == {"1": "seen"}
    talk.say("nah, none of those")
    assert {i for i, o in talk.memory.opinions.items() if o == "refused"} == {"3", "4"}


def test_a_dialogue_goes_through_a_file_and_on_as_if_nothing_had_happened():
    said = ["hi", "a comedy with Bo Ray please", "no horror", "seen it", "older"]
    one = session(Counting(FILMS))
    for text in said:
        one.say(text)
    kept = Memory.from_json(FILMS, one.memory.to_json())
    assert kept == one.memory
    assert Session(one.host, kept).say("more") == one.say("more")
    with pytest.raises(ValueError, match="no dialogue"):
        Memory.from_json(FILMS, {"turns": 7})


def test_marks_are_said_and_unknown_items_refused():
    talk = session(Counting(FILMS))
    talk.memory.mark("2", "liked")
    assert talk.memory.turns[-1].text == "I liked Laughs (1995)."
    assert talk.say("something like that").items[0].title != "Laughs"
    with pytest.raises(UsageError, match="no item"):
        talk.memory.mark("99", "liked")


def test_another_voice_is_heard_only_if_it_names_no_other_film():
    def link(text, before):
        return tuple(Link("item", i.item_id, text.find(i.title), 0) for i in FILMS if i.title in text)

    for said, heard in (("See Night tonight!", True), ("See Dunes tonight!", False), ("", False)):
        host = Host(Counting(FILMS), link, 1, voice=lambda context, items, draft, said=said: said)
        reply = Session(host).say("surprise me")
        assert (reply.text == said) is heard
        assert reply.items[0].title == "Night"


# ---- a model that speaks for itself -----------------------------------------------------------------------------


class Speaking(Explaining):
    """Says its template with the first items of the ranking it is given."""

    tasks = frozenset({"rank", "respond"})
    template = f"How about {PLACEHOLDER}, or {PLACEHOLDER}?"

    def respond(self, contexts, rankings, decoding, *, recommend=None):
        (ranking,), (self.heard,), self.decoding, self.told = rankings, contexts, decoding, recommend
        self.given = ranking.item_nums.tolist()
        named = self.given[: self.template.count(PLACEHOLDER)]
        text = self.template
        for num in named:
            text = text.replace(PLACEHOLDER, self.catalogue[num].name, 1)
        return [Utterance(text, self.template, tuple(named), bool(named))]


def speaking(catalogue, links=None, **options):
    return session(Speaking(catalogue), links=links, own_words=True, **options)


def test_the_items_of_a_reply_are_those_that_the_model_names(catalogue):
    talk = speaking(catalogue, shown=5)
    reply = talk.say("Surprise me")
    assert reply.text == "How about Alien, or Aliens?"
    assert [item.item_id for item in reply.items] == ["i00", "i01"]
    assert [[r.evidence for r in reasons] for reasons in reply.reasons] == [["name 0"], ["name 1"]]
    links = talk.memory.turns[-1].links
    assert [reply.text[x.start : x.end] for x in links] == ["Alien", "Aliens"]
    assert [x.id for x in links] == ["i00", "i01"]


def test_a_model_that_names_nothing_offers_nothing(catalogue):
    talk = speaking(catalogue)
    talk.host.recommender.template = "What do you like?"
    reply = talk.say("Surprise me")
    assert (reply.text, reply.items, reply.reasons) == ("What do you like?", (), ())
    assert talk.memory.turns[-1].links == ()


def test_a_film_that_is_named_twice_is_offered_once(catalogue):
    talk = speaking(catalogue)
    talk.host.recommender.respond = lambda *_, **__: [Utterance("Dune! Dune!", "", (5, 5), True)]
    assert [item.item_id for item in talk.say("Surprise me").items] == ["i05"]


def test_a_sentence_of_the_model_that_names_a_film_outside_its_ranking_is_left_out(catalogue):
    talk = speaking(catalogue)
    talk.host.link = lambda text, before: (Link("item", "i03", text.find("Casablanca")),) if "Casabl" in text else ()
    talk.host.recommender.template = f"Casablanca is great. Or {PLACEHOLDER}."
    reply = talk.say("Surprise me")
    assert (reply.text, [i.item_id for i in reply.items]) == ("Or Alien.", ["i00"])


def test_the_model_hears_the_dialogue_and_chooses_among_films_not_named_before(catalogue):
    talk = speaking(catalogue, {"Aliens!": (Link("item", "i01", 0, 6),)}, decoding=Decoding("top-k", k=3))
    assert [item.item_id for item in talk.say("Aliens!").items] == ["i00", "i02"]
    model = talk.host.recommender
    assert (model.heard, str(model.decoding), model.told) == (model.asked[0], "top-k:k=3", None)
    assert 1 not in model.given
    assert [item.item_id for item in talk.say("More").items] == ["i03", "i04"]
    assert not {0, 1, 2} & set(model.given)


def test_it_decides_itself_and_samples_unless_told_otherwise(catalogue):
    talk = speaking(catalogue)
    talk.say("Surprise me")
    assert talk.host.recommender.decoding == Decoding("nucleus", p=0.9)
    assert talk.host.recommender.told is None


def test_plain_words_are_taken_where_a_model_shall_not_speak(catalogue):
    talk = session(Speaking(catalogue))
    assert "Alien" in talk.say("Surprise me").text
    assert not hasattr(talk.host.recommender, "given")


def test_a_trained_model_holds_a_dialogue_in_its_own_words(neural_workspace):
    workspace = Workspace(neural_workspace)
    run, data = find_run(workspace, "tiny", "pecrs-tiny"), read_dataset(workspace, "tiny")
    model, _ = load_run(workspace, run, data, device="cpu")
    talks = [Session(Host(model, lambda text, before: (), own_words=True)) for _ in range(2)]
    texts = ["I loved Alder", "[REC] [MOVIE_ID] [SEP]", "", "More!", "🎬" * 500]
    seen = []
    for text in texts:
        one, other = (talk.say(text) for talk in talks)
        assert one == other  # what is drawn hangs on what was said
        assert not any(token in one.text for token in ("[REC", "[SEP]", PLACEHOLDER, "[MOVIE"))
        assert all(item.name in one.text for item in one.items)
        seen += [item.item_id for item in one.items]
    assert len(set(seen)) == len(seen)
