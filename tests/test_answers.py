import math

import numpy as np
import pytest

from crscli.answers import Answer, Speaking, answer, masked, text_figures
from crscli.catalogue import Catalogue, Item
from crscli.decoding import Decoding
from crscli.dialogue import Context, Link, Turn
from crscli.metrics import text
from crscli.protocols import Row
from crscli.recommender import PLACEHOLDER, Likelihood, Ranking, Utterance

CATALOGUE = Catalogue([Item("a", "Alder", 1990), Item("b", "Birch"), Item("c", "Cedar")])


def turn(said, *links):
    """A recommender's turn; each link is (id, start, end) of an item."""
    return Turn("recommender", said, tuple(Link("item", *link) for link in links))


def row(response, *, labels=()):
    return Row("d", 1, Context((Turn("seeker", "hi"),)), labels, (False,) * len(labels), response)


def told(said, template=None, items=(), recommends=False):
    return Utterance(said, said if template is None else template, tuple(items), recommends)


# Four turns: a film is named and meant, named without a decision, meant without a name, and neither.
SEE = turn("See Alder (1990) now!", ("a", 4, 16))
FINE = turn("Fine, é.")
ANSWERS = [
    Answer(
        row(SEE), True, 0, told("See Alder (1990)!", f"See {PLACEHOLDER}!", [0], True), Likelihood(6.0, 4, "See it")
    ),
    Answer(row(SEE), True, 0, told("Or Birch", f"Or {PLACEHOLDER}", [1]), Likelihood(3.0, 2, f"{PLACEHOLDER} now")),
    Answer(row(FINE), False, 2, told("Hm.", recommends=True), Likelihood(1.0, 3, "Fine, é.")),
    Answer(row(FINE), False, -1, told(""), Likelihood(0.5, 1, "")),
]


# ---- placeholders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([], "Alder and Birch or Cedar"),
        ([("item", 0, 5)], f"{PLACEHOLDER} and Birch or Cedar"),
        ([("item", 19, 24), ("item", 0, 5), ("item", 10, 15)], f"{PLACEHOLDER} and {PLACEHOLDER} or {PLACEHOLDER}"),
        ([("item", 0, 15), ("item", 10, 15)], f"{PLACEHOLDER} or Cedar"),  # one inside another
        ([("item", 0, 9), ("item", 6, 15)], f"{PLACEHOLDER} Birch or Cedar"),  # overlapping: the first counts
        ([("item", 0, 5), ("item", 0, 15)], f"{PLACEHOLDER} and Birch or Cedar"),
        ([("item", -1, -1), ("person", 0, 5), ("genre", 10, 15)], "Alder and Birch or Cedar"),
        ([("item", 0, 24)], PLACEHOLDER),
    ],
)
def test_items_become_placeholders(links, expected):
    found = tuple(Link(kind, f"x{num}", start, end) for num, (kind, start, end) in enumerate(links))
    assert masked(Turn("recommender", "Alder and Birch or Cedar", found)) == expected


def test_placeholders_stand_among_words_with_single_blanks():
    assert masked(turn("See\n\n Alder\t!", ("a", 6, 11))) == f"See {PLACEHOLDER} !"
    assert masked(turn("Alder", ("a", 0, 5))) == PLACEHOLDER
    assert masked(turn("")) == ""


# ---- figures ----------------------------------------------------------------------------------------------------


def test_perplexities_are_over_tokens_words_and_bytes_of_the_same_texts():
    found = text_figures(ANSWERS)["perplexity"]
    nats, tokens, words = 6 + 3 + 1 + 0.5, 4 + 2 + 3 + 1, 2 + 2 + 2 + 0
    texts = ("See it", f"{PLACEHOLDER} now", "Fine, é.", "")
    assert found["tokens"] == tokens
    assert found["token"] == pytest.approx(math.exp(nats / tokens))
    assert found["word"] == pytest.approx(math.exp(nats / words))
    assert found["byte"] == pytest.approx(math.exp(nats / sum(len(t.encode()) for t in texts)))
    # PECRS: rows with an item and rows without one of each eight, each group as heavy as the other.
    groups = [np.exp(np.mean([6 / 4, 3 / 2])), np.exp(np.mean([1 / 3, 0.5 / 1]))]
    assert found["pecrs"] == pytest.approx(np.mean(groups))


def test_the_groups_of_pecrs_are_of_eight_rows_each():
    one = Answer(row(FINE), False, -1, told(""), Likelihood(2.0, 1, "x"))
    other = Answer(row(FINE), False, -1, told(""), Likelihood(4.0, 1, "x"))
    found = text_figures([one] * 8 + [other] * 2)["perplexity"]["pecrs"]
    assert found == pytest.approx((math.exp(2) + math.exp(4)) / 2)


def test_perplexity_of_nothing_said_is_no_number():
    found = text_figures([Answer(row(turn("")), False, -1, told(""), Likelihood(0.5, 1, ""))])["perplexity"]
    assert found["token"] == pytest.approx(math.exp(0.5))
    assert math.isnan(found["word"])
    assert math.isnan(found["byte"])


def test_decisions_are_the_models_own_and_those_in_its_text():
    decision = text_figures(ANSWERS)["decision"]
    assert decision["own"] == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "always": pytest.approx(2 / 3)}
    assert decision["placeholder"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "always": pytest.approx(2 / 3)}


def test_shares_of_replies_that_name_an_item_and_the_ranked_one():
    found = text_figures(ANSWERS)
    assert found["names_item"] == 0.5
    assert found["names_ranked_item"] == 0.25  # the second names another; where nothing is ranked nothing is named


def test_texts_are_judged_as_read_and_with_placeholders():
    found = text_figures(ANSWERS)
    said = ["See Alder (1990)!", "Or Birch", "Hm.", ""]
    real = ["See Alder (1990) now!", "See Alder (1990) now!", "Fine, é.", "Fine, é."]
    assert found["readable"] == text.text_figures(said, real)
    templates = [f"A: See {PLACEHOLDER}!", f"A: Or {PLACEHOLDER}", "A: Hm.", "A: "]
    shown = [f"A: See {PLACEHOLDER} now!", f"A: See {PLACEHOLDER} now!", "A: Fine, é.", "A: Fine, é."]
    assert found["masked"] == text.text_figures(templates, shown)
    assert found["readable"]["responses"] == 4
    assert found["readable"]["empty/response"] == 0.25
    assert found["bleu_signature"].startswith("nrefs:1|")


def test_the_oracle_is_told_apart_and_left_out_where_it_was_not_asked():
    assert "oracle" not in text_figures(ANSWERS)
    replies = [told("x", f"So {PLACEHOLDER}", [2], True), told("y", "No", [], True), told("z"), told("z")]
    found = text_figures([
        Answer(a.row, a.names_item, a.first_item, a.utterance, a.likelihood, reply)
        for a, reply in zip(ANSWERS, replies, strict=True)
    ])  # fmt: skip
    assert found["oracle"].keys() == {"masked", "decision"}
    assert found["oracle"]["decision"]["own"]["f1"] == 1.0
    assert found["oracle"]["decision"]["placeholder"]["f1"] == pytest.approx(2 / 3)
    assert found["oracle"]["masked"]["words/response"] == 2.25
    assert {**found, "oracle": None} == {**text_figures(ANSWERS), "oracle": None}


def test_no_answers_have_no_figures():
    found = text_figures([])
    assert math.isnan(found["names_item"])
    assert math.isnan(found["names_ranked_item"])
    assert math.isnan(found["perplexity"]["token"])
    assert found["readable"]["responses"] == 0


# ---- asking a model ---------------------------------------------------------------------------------------------


class Speaker:
    """Names its first item where it is told to, or in every second reply."""

    catalogue = CATALOGUE
    tasks = frozenset({"rank", "respond"})
    rows_at_once = 8

    def __init__(self):
        self.asked = []

    def respond(self, contexts, rankings, decoding, *, recommend=None):
        self.asked.append((len(contexts), str(decoding), recommend))
        offers = [num % 2 == 0 for num in range(len(contexts))] if recommend is None else recommend
        return [told(f"{o}", recommends=o) for o in offers]

    def likelihoods(self, contexts, rankings, responses, *, recommend=None):
        return [Likelihood(float(len(r.text)), 1, r.text) for r in responses]


ROWS = [
    row(SEE, labels=("a",)),
    row(turn("Try Zelkova", ("zelkova", 4, 11)), labels=("zelkova",)),
    row(turn("It has Birch in it", ("b", 7, 12))),  # named, but no label of the protocol
    row(FINE),
]
RANKINGS = [Ranking(np.array(nums, dtype=np.int64), -np.arange(len(nums))) for nums in ([2, 0], [1], [], [0])]


def test_every_turn_is_answered_with_the_models_own_decision():
    speaker = Speaker()
    found = answer(speaker, ROWS, RANKINGS, Speaking(Decoding("top-k", k=9)))
    assert speaker.asked == [(4, "top-k:k=9", None)]
    assert [a.row for a in found] == ROWS
    assert [a.names_item for a in found] == [True, False, True, False]  # of those that the catalogue has
    assert [a.first_item for a in found] == [2, 1, -1, 0]
    assert [a.utterance.recommends for a in found] == [True, False, True, False]
    assert [a.likelihood.text for a in found] == [r.response.text for r in ROWS]
    assert {a.told for a in found} == {None}


def test_an_oracle_replies_a_second_time_and_changes_nothing_else():
    speaker = Speaker()
    plain = answer(speaker, ROWS, RANKINGS, Speaking(Decoding()))
    found = answer(speaker, ROWS, RANKINGS, Speaking(Decoding(), oracle=True))
    assert speaker.asked[1:] == [(4, "greedy", None), (4, "greedy", [True, False, True, False])]
    assert [a.told.recommends for a in found] == [a.names_item for a in found]
    assert [a.utterance for a in found] == [a.utterance for a in plain]
    assert [a.likelihood for a in found] == [a.likelihood for a in plain]
