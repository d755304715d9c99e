from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from crscli import phrasing
from crscli.catalogue import Catalogue, Item
from crscli.decoding import Decoding
from crscli.dialogue import Dialogue, Link, Turn
from crscli.recommender import PLACEHOLDER, FitData, Ranking, Reason, Session, Utterance, without_recommenders_of
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
        return [(Reason("word", f"word{n}", 1.0),) for n in item_nums]


@pytest.fixture
def catalogue():
    return Catalogue(Item(f"i{num:02}", title) for num, title in enumerate(TITLES))


def session(recommender, shown=1, links=None):
    catalogue = recommender.catalogue
    found = links or {}
    return Session(recommender, lambda text, before: found.get(text, ()), partial(phrasing.realise, catalogue), shown)


def test_what_was_mentioned_or_offered_is_not_offered_again(catalogue):
    links = {"I loved Aliens": (Link("item", "i01", 8, 14), Link("item", "unknown"))}
    talk = session(Counting(catalogue), links=links)
    offered = [talk.say(text).items for text in ["I loved Aliens", *["More!"] * 9, "And?", "What else?"]]
    ids = [item.item_id for items in offered for item in items]
    assert ids == [i.item_id for i in catalogue if i.item_id != "i01"]
    assert offered[-2:] == [(), ()]
    assert [t.role for t in talk.turns] == ["seeker", "recommender"] * 12
    assert talk.turns[-1].text
    assert talk.turns[-1].links == ()


def test_the_recommender_hears_all_that_was_said_with_its_links(catalogue):
    recommender = Counting(catalogue)
    talk = session(recommender, links={"Heat!": (Link("item", "i09", 0, 4),)})
    first = talk.say("Heat!")
    talk.say("Next")
    assert first.links == (Link("item", "i09", 0, 4),)
    assert recommender.asked[0].mentions == ("i09",)
    assert recommender.asked[1].mentions == (first.items[0].item_id, "i09")
    assert [t.text for t in recommender.asked[1].turns] == ["Heat!", first.text, "Next"]


@pytest.mark.parametrize("shown", [1, 3, 6])
def test_links_of_a_reply_point_at_the_names_of_its_items_and_do_not_overlap(catalogue, shown):
    talk = session(Explaining(catalogue), shown)
    for text in ("Hi", "Seen", "No", "Well"):
        reply = talk.say(text)
        links = talk.turns[-1].links
        assert [link.id for link in links] == [item.item_id for item in reply.items]
        assert [reply.text[link.start : link.end] for link in links] == [item.name for item in reply.items]
        spans = sorted((link.start, link.end) for link in links)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_a_name_inside_a_longer_one_is_not_taken_for_it(catalogue):
    alien = catalogue[0]
    said = "Like Aliens or Alien 3 and (Alien)?"
    talk = Session(Counting(catalogue), lambda text, before: (), lambda *_: said, shown=5)
    talk.say("Hi")
    starts = {link.id: link.start for link in talk.turns[-1].links}
    assert starts == {"i00": 28, "i01": 5, "i02": -1, "i03": -1, "i04": 15}
    assert talk.turns[-1].links[2].end == -1
    assert talk.turns[-1].text[28:33] == alien.name


def test_reasons_come_from_a_recommender_that_can_explain_and_are_empty_without(catalogue):
    told = session(Explaining(catalogue), 2).say("Hi")
    assert [[r.evidence for r in reasons] for reasons in told.reasons] == [["word0"], ["word1"]]
    silent = session(Counting(catalogue), 2).say("Hi")
    assert silent.reasons == ((), ())
    assert len(silent.items) == 2


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
    found = links or {}
    return Session(Speaking(catalogue), lambda text, before: found.get(text, ()), None, **options)


def test_the_items_of_a_reply_are_those_that_the_model_names(catalogue):
    talk = speaking(catalogue, shown=5)
    reply = talk.say("Hi")
    assert reply.text == "How about Alien, or Aliens?"
    assert [item.item_id for item in reply.items] == ["i00", "i01"]
    assert [[r.evidence for r in reasons] for reasons in reply.reasons] == [["word0"], ["word1"]]
    links = talk.turns[-1].links
    assert [reply.text[x.start : x.end] for x in links] == ["Alien", "Aliens"]
    assert [x.id for x in links] == ["i00", "i01"]
    assert talk.turns[-1].role == "recommender"


def test_a_model_that_names_nothing_offers_nothing(catalogue):
    talk = speaking(catalogue)
    talk.recommender.template = "What do you like?"
    reply = talk.say("Hi")
    assert (reply.text, reply.items, reply.reasons) == ("What do you like?", (), ())
    assert talk.turns[-1].links == ()


def test_a_film_that_is_named_twice_is_offered_once(catalogue):
    talk = speaking(catalogue)
    talk.recommender.respond = lambda *_, **__: [Utterance("Dune! Dune!", "", (5, 5), True)]
    assert [item.item_id for item in talk.say("Hi").items] == ["i05"]
    assert [(x.id, x.start) for x in talk.turns[-1].links] == [("i05", 0)]


def test_the_model_hears_the_dialogue_and_chooses_among_films_not_named_before(catalogue):
    talk = speaking(catalogue, {"Aliens!": (Link("item", "i01", 0, 6),)}, decoding=Decoding("top-k", k=3))
    assert [item.item_id for item in talk.say("Aliens!").items] == ["i00", "i02"]
    model = talk.recommender
    assert (model.heard, str(model.decoding), model.told) == (model.asked[0], "top-k:k=3", None)
    assert 1 not in model.given
    assert [item.item_id for item in talk.say("More").items] == ["i03", "i04"]
    assert not {0, 1, 2} & set(model.given)


def test_it_decides_itself_and_samples_unless_told_otherwise(catalogue):
    talk = speaking(catalogue)
    talk.say("Hi")
    assert talk.recommender.decoding == Decoding("nucleus", p=0.9)
    assert talk.recommender.told is None


def test_words_of_ones_own_go_before_those_of_the_model(catalogue):
    talk = Session(Speaking(catalogue), lambda text, before: (), lambda context, items, why: f"See {items[0].name}.")
    assert talk.say("Hi").text == "See Alien."
    assert not hasattr(talk.recommender, "given")


def test_what_is_refused_is_not_named_by_a_model_that_speaks():
    films = Catalogue(
        Item(str(num), f"Film{num}", 1980 + num, (("Horror", "Comedy")[num % 2],), ("Ann Lee",) * (num == 1))
        for num in range(9)
    )
    talk = speaking(films)
    assert [i.item_id for i in talk.say("Hello").items] == ["0", "1"]
    assert [i.item_id for i in talk.say("No horror please").items] == ["3", "5"]
    assert talk.recommender.given[-4:] == [2, 4, 6, 8]  # kept, behind all others
    talk = speaking(films)
    assert [i.item_id for i in talk.say("nothing scary, and not with Ann Lee").items] == ["3", "5"]


def test_a_trained_model_holds_a_dialogue_in_its_own_words(neural_workspace):
    workspace = Workspace(neural_workspace)
    run, data = find_run(workspace, "tiny", "pecrs-tiny"), read_dataset(workspace, "tiny")
    model, _ = load_run(workspace, run, data, device="cpu")
    talks = [Session(model, lambda text, before: (), None) for _ in range(2)]
    texts = ["I loved Alder", "[REC] [MOVIE_ID] [SEP]", "", "More!", "🎬" * 500]
    offered = []
    for text in texts:
        one, other = (talk.say(text) for talk in talks)
        assert one == other  # what is drawn hangs on what was said
        assert not any(token in one.text for token in ("[REC", "[SEP]", PLACEHOLDER, "[MOVIE"))
        assert all(item.name in one.text for item in one.items)
        offered += [item.item_id for item in one.items]
    assert len(set(offered)) == len(offered)


# ---- what may be learnt from ----------------------------------------------------------------------------------


def dialogue(dialogue_id, recommender_id=None):
    return Dialogue(dialogue_id, (Turn("seeker", "Hi"),), recommender_id=recommender_id)


def ids(dialogues):
    return [d.dialogue_id for d in dialogues]


def test_a_choice_on_valid_is_not_fitted_on_its_recommenders():
    train = [dialogue("a", "x"), dialogue("b", "y"), dialogue("c"), dialogue("d", "x")]
    valid = [dialogue("e", "y"), dialogue("f")]
    chosen = FitData(train, valid, refit=False)
    assert ids(chosen.for_choice) == ids(chosen.learnable) == ["a", "c", "d"]  # an unknown recommender bars nobody
    assert ids(FitData(train, valid).learnable) == ["a", "b", "c", "d", "e", "f"]
    assert ids(FitData(train, refit=False).learnable) == ids(train)
    assert ids(without_recommenders_of(train, [])) == ids(train)


def test_what_is_refused_is_not_offered_and_years_are_heeded():
    films = Catalogue(
        [
            Item("1", "Night", 1984, ("Horror",), ("Ann Lee",)),
            Item("2", "Laughs", 1995, ("Comedy",), (), ("Bo Ray",)),
            Item("3", "Toys", 2018, ("Animation",)),
            Item("4", "Dunes", 1986, ("Drama",)),
        ]
    )

    def offered(*said, links=()):
        talk = Session(Counting(films), lambda text, before: links, lambda context, items, why: items[0].name)
        return [talk.say(text).text for text in said]

    assert offered("Hello") == ["Night (1984)"]
    assert offered("No horror please, and not Bo Ray") == ["Toys (2018)"]
    assert offered("Something from the 80s, nothing scary") == ["Dunes (1986)"]
    assert offered("Something from the 40s") == ["Night (1984)"]  # none fits: the ranking as it is
    named = (Link("item", "2", 5, 11),)
    assert offered("Like Laughs but newer", links=named) == ["Toys (2018)"]
