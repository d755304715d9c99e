"""What ReFICR answers: always a permutation, one reading for a whole turn, items only from the ranking."""

import random

import numpy as np
import pytest
import torch
from reficr_world import CATALOGUE, TRAIN, VALID, dialogue, untrained

from crscli.decoding import Decoding
from crscli.dialogue import ACTS, Context, Turn, cut
from crscli.labels import order_of
from crscli.models.reficr import prompts
from crscli.models.reficr.rows import answer_rows, check_guards, stored
from crscli.recommender import FitData, Ranking

CONTEXTS = [e.context for d in VALID for e in cut(d)]


def hostile(rng):
    """A generation as no parser would like it."""
    pieces = ["[3]", "[1]\n", "[0]", "[11]", "[-2]", "[999999999999]", "2", "2.", "10) ", "[ 4 ]", "\n", ", ", "[[5]]",
              "<a>", "\x00", "The best is [2], then [2].", "[7", "]6[", "one", "🎬", "[3] Alien (1979)", "1, 2, 3",
              "{'order': [2, 1]}", "0x3", "３", "[٣]", "1e9", "-1", "[1.5]"]  # fmt: skip
    return "".join(rng.choice(pieces) for _ in range(rng.randint(0, 12)))


def test_a_thousand_hostile_answers_all_make_permutations():
    rng = random.Random(0)
    for _ in range(1000):
        number = rng.randint(1, len(CATALOGUE))
        text = hostile(rng) if rng.random() < 0.7 else "".join(chr(rng.randint(1, 0x2FF)) for _ in range(60))
        labels = order_of(text, [CATALOGUE[n] for n in range(number)]).labels
        assert sorted(prompts.completed([label - 1 for label in labels], number)) == list(range(number)), text


def test_a_free_answer_in_the_form_that_is_learnt_is_read_back():
    model = untrained()
    text = model.network.backbone.text(model.layout.order([2, 0, 3, 1])[:-1])
    assert order_of(text, [CATALOGUE[n] for n in range(4)]).labels == (3, 1, 4, 2)


@pytest.mark.parametrize("ranking", ["likelihood", "constrained", "free", "random", "none"])
@pytest.mark.parametrize("layout", ["shared", "paper"])
def test_every_way_of_ordering_permutes_the_candidates(ranking, layout):
    model = untrained(ranking=ranking, layout=layout, candidates=10)
    model._finish(FitData(TRAIN), [])
    model.threshold = 0.0
    plain = untrained(ranking="none", layout=layout, candidates=10)
    plain._finish(FitData(TRAIN), [])
    for own, other in zip(model.rank(CONTEXTS, 12), plain.rank(CONTEXTS, 12), strict=True):
        assert sorted(own.item_nums[:10]) == sorted(other.item_nums[:10])
        assert own.item_nums[10:].tolist() == other.item_nums[10:].tolist()
        assert (np.diff(own.scores) <= 0).all()


def test_options_are_as_likely_as_when_they_are_read_one_by_one():
    model = untrained()
    voice, layout = model.voice, model.layout
    options = [layout.acts["recommend"], layout.acts["chat"], (layout.end,), layout.yes, tuple(layout.text("[10]"))]
    asked = voice.ask(CONTEXTS, [layout.manage()] * len(CONTEXTS))
    found = voice.options(asked.prefix, asked.first, options)
    for row, context in enumerate(CONTEXTS):
        stem, branch = layout.placed(context, layout.manage())
        for num, option in enumerate(options):
            ids = torch.tensor([[*stem, *branch.prompt, *option]])
            with torch.no_grad():
                hidden, _ = voice.backbone.encode(voice.backbone.embed(ids))
                logits = voice.backbone.logits(hidden[0, -len(option) - 1 : -1]).log_softmax(-1)
            want = logits[torch.arange(len(option)), torch.tensor(option)].sum()
            assert float(found[row, num]) == pytest.approx(float(want), abs=1e-3)


def test_the_dialogue_is_read_once_for_all_subtasks_of_a_turn():
    model = untrained(layout="shared")
    model._finish(FitData(TRAIN), [])
    contexts = CONTEXTS[:1]
    rankings = model.rank(contexts, 5)
    model.manage(contexts)
    model.respond(contexts, rankings, Decoding(max_tokens=4))
    model.likelihoods(contexts, rankings, [VALID[0].turns[3]])
    assert model.voice.tokens_read == len(model.layout.stem(contexts[0]))
    apart = untrained(layout="paper")
    apart._finish(FitData(TRAIN), [])
    apart.rank(contexts, 5)
    apart.manage(contexts)
    assert apart.voice.tokens_read > len(apart.layout.stem(contexts[0]))


def test_what_was_kept_changes_no_answer():
    model = untrained(layout="shared")
    model._finish(FitData(TRAIN), [])
    kept = model.rank(CONTEXTS, 5), model.manage(CONTEXTS), model.rank(CONTEXTS, 5)
    model.voice.forget()
    fresh = model.manage(CONTEXTS)
    assert [m.acts for m in kept[1]] == [m.acts for m in fresh]
    assert np.allclose([m.likelihoods for m in kept[1]], [m.likelihoods for m in fresh], atol=1e-5)
    for one, other in zip(kept[0], kept[2], strict=True):
        assert one.item_nums.tolist() == other.item_nums.tolist()


def test_the_act_decides_whether_items_are_named():
    model = untrained(item_names="placeholder")
    model._finish(FitData(TRAIN), [])
    rankings = model.rank(CONTEXTS, 5)
    for threshold, recommends in ((-1e9, True), (1e9, False)):
        model.threshold = threshold
        said = model.respond(CONTEXTS, rankings, Decoding(max_tokens=8))
        assert {u.recommends for u in said} == {recommends}
        assert all(("recommend" in m.acts) == recommends for m in model.manage(CONTEXTS))
        if not recommends:
            assert not any(u.item_nums for u in said)


def test_several_acts_are_chosen_in_their_order():
    model = untrained()
    made = model.voice.manage(CONTEXTS, [True, False] * (len(CONTEXTS) // 2), dict.fromkeys(ACTS, -1.0), why=True)
    assert [m.acts for m in made][:2] == [ACTS, ACTS[1:]]
    assert all(0 <= p <= 1 for m in made for p in m.likelihoods)


def test_a_name_inside_tags_is_a_ranked_item_or_becomes_one():
    ranking = Ranking(np.array([4, 2, 7]), np.array([3.0, 2.0, 1.0], dtype=np.float32))
    names = [CATALOGUE[n].name for n in (4, 2, 7)]
    say = lambda text: prompts.spoken(CATALOGUE, text, ranking, recommends=True)  # noqa: E731
    assert say(f"Try <item>{names[1]}</item>!").item_nums == (2,)
    assert say("Try <item>The Godfather (1972)</item> or <item>Jaws</item>.").item_nums == (4, 2)
    assert say(f"Try [MOVIE_ID], then <item>{names[1]}</item>, <item>{names[1]}</item>").item_nums == (4, 2, 7)
    assert say("Try <item>" * 5).item_nums == (4, 2, 7)
    assert prompts.spoken(CATALOGUE, "no items <a> here", ranking, recommends=False).text == "no items here"
    assert say("How about this?").text == f"How about this? {names[0]}"
    assert all(names[0] in say(text).text for text in ("<item>x</item>", "[MOVIE_ID]", "<item>never closed"))


def test_an_instruction_ends_where_the_text_begins():
    for settings in ({}, {"tags": "tokens"}, {"instructions": False}):
        model = untrained(**settings)
        text = model.network.items[3]
        assert model.network.backbone.text(text.ids[text.start :]).startswith(CATALOGUE[3].name)
        before = model.network.backbone.text(text.ids[: text.start])
        assert ("Represent" in before) == (settings.get("instructions", True))
        assert before.endswith("<|embed|>\n")
        assert not before.splitlines()[1 if "Represent" in before else 0].endswith(":")


def test_a_context_is_cut_by_whole_turns_and_the_newest_are_kept():
    model = untrained(query_tokens=24)
    turns = tuple(Turn("seeker" if n % 2 else "recommender", f"turn number {n} is said") for n in range(9))
    read = model.network.backbone.text(model.layout.query("find-item", Context(turns)).ids)
    assert "turn number 8 is said" in read
    assert "turn number 0" not in read
    assert read.split("<|embed|>\n")[1].startswith(("Seeker: ", "Recommender: "))
    assert "Recommender: turn number 8" in read  # the roles are those of the data, not dealt by place


def test_leaks_are_refused():
    model = untrained()
    assert {c.dialogue_id for c in model.network.store} <= {d.dialogue_id for d in TRAIN}
    with pytest.raises(AssertionError, match="validation"):
        check_guards(FitData(TRAIN, VALID, annotated=VALID), [])
    with pytest.raises(AssertionError, match="not of train"):
        check_guards(FitData(TRAIN[:2], VALID), stored(CATALOGUE, TRAIN))


def test_annotated_turns_teach_acts_and_reasons():
    annotated = [dialogue(40, acts=("tells a preference",))]
    model = untrained(FitData(TRAIN, VALID, annotated=annotated))
    rows = answer_rows(model.layout, FitData(TRAIN, annotated=annotated), [], None, np.random.default_rng(0))
    answers = [model.network.backbone.text(r.branches[0].answer) for r in rows if r.name.startswith("acts/")]
    assert answers[0].startswith("no\n<a>Request</a>")
    assert answers[1].startswith("yes\n<a>Recommend</a>\nThe seeker tells a preference")
    plain = [b for r in rows if not r.name.startswith("acts/") for b in r.branches if b.kind == "manage"]
    assert {model.network.backbone.text(b.answer) for b in plain} == {"yes\n", "no\n"}
