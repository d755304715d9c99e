import gzip
import json

import pytest
import tiny_graph

from crscli.backbone import Adapter, Backbone, Shape
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.graph_encoder import Nodes
from crscli.kg import KnowledgeGraph, published
from crscli.models.unicrs.config import CODE, UnicrsConfig
from crscli.models.unicrs.fusion import stage_schedule
from crscli.models.unicrs.layout import ENCODER_SPECIALS, SPECIALS, Layout

HI = Turn("seeker", "Hi! I liked Alder by Ann Lee", (Link("item", "a", 12, 17), Link("person", "Ann Lee", 21, 28)))
OFFER = Turn("recommender", "Try Birch,\nor a drama", (Link("item", "b", 4, 9), Link("genre", "drama", 16, 21)))
MORE = Turn("seeker", "Seen it")
AGAIN = Turn("recommender", "Then Cedar or Birch", (Link("item", "c", 5, 10), Link("item", "b", 14, 19)))
DIALOGUE = Dialogue("d", (HI, OFFER, MORE, AGAIN))


@pytest.fixture(scope="module")
def backbones():
    corpus = [f"System: Then watch Alder {n} User: Hi! I liked Birch" for n in range(40)]
    none, shape = Adapter("none"), Shape(1, 16, 2, 300)
    decoder = Backbone.load("tiny", specials=SPECIALS, adapter=none, shape=shape, corpus=corpus)
    encoder = Backbone.load("tiny", specials=ENCODER_SPECIALS, adapter=none, shape=shape, corpus=corpus, encoder=True)
    return decoder, encoder


@pytest.fixture
def layout(backbones):
    def made(**settings):
        return Layout(*backbones, Nodes(tiny_graph.graph()), UnicrsConfig(**settings))

    return made


def spoken(layout, backbones, ids):
    return backbones[0].text(ids)


def test_each_side_has_its_prefix_and_each_turn_its_end(layout, backbones):
    made = layout()
    (first, second) = made.conversation_examples([DIALOGUE])
    assert backbones[0].text(first.context) == "User: Hi! I liked Alder by Ann Lee[END]"
    assert backbones[0].text(first.response) == "System: Try [MOVIE_ID], or a drama[END]"
    assert backbones[1].text(first.words) == "[CLS]User: Hi! I liked Alder by Ann Lee[SEP]"
    assert backbones[0].text(second.context).endswith("System: Try Birch, or a drama[END]User: Seen it[END]")
    assert backbones[0].text(second.response) == "System: Then [MOVIE_ID] or [MOVIE_ID][END]"


def test_the_fusion_stage_sees_the_response_and_asks_for_all_that_it_names(layout, backbones):
    made = layout()
    examples = made.fusion_examples([DIALOGUE])
    names = made.nodes.names(tiny_graph.CATALOGUE)
    assert [[names[t] for t in e.targets] for e in examples] == [
        ["Alder", "Ann Lee"], ["Birch", "drama"], ["Cedar", "Birch"]
    ]  # fmt: skip
    assert backbones[0].text(examples[1].ids).endswith("System: Try Birch, or a drama[END]")
    assert [names[n] for n in examples[1].nodes] == ["Alder", "Ann Lee"]
    assert examples[0].nodes == (made.nodes.none,)


def test_the_recommendation_stage_sees_a_template_and_not_the_response(layout, backbones):
    made = layout()
    template = backbones[0].tokenize([" How about"])[0] + [made.placeholder]
    examples = made.recommendation_examples([DIALOGUE], {"d:1": template})
    assert backbones[0].text(examples[0].ids).endswith("[END]System: How about[MOVIE_ID][END]")
    assert backbones[1].text(examples[0].words).endswith("[SEP]System: How about[MOVIE_ID][SEP]")
    assert backbones[0].text(examples[1].ids).endswith("User: Seen it[END]")
    assert examples[1].targets == tuple(made.nodes.of_items(["c", "b"]))


def test_each_target_may_be_an_example_of_its_own(layout):
    grouped = layout().recommendation_examples([DIALOGUE], {})
    alone = layout(group_targets=False).recommendation_examples([DIALOGUE], {})
    assert (len(grouped), len(alone)) == (2, 3)
    assert [t for e in grouped for t in e.targets] == [t for e in alone for t in e.targets]


def test_a_long_context_keeps_the_newest_turns_and_what_stands_behind_it(layout, backbones):
    turns = tuple(Turn("seeker", f"turn number {n}") for n in range(60))
    made = layout(context_tokens=40)
    asked = made.asked(Context(turns), [OFFER])
    assert len(asked.ids) <= 40
    assert len(asked.words) <= 40
    assert backbones[0].text(asked.ids).startswith("User: turn number")
    assert backbones[0].text(asked.ids).endswith("System: Try Birch, or a drama[END]")
    cut = layout(context_tokens=40, whole_turns=False)
    assert len(cut.asked(Context(turns)).ids) == 40
    assert cut.asked(Context(turns)).words[0] == made.read.begin[0]


def test_an_empty_context_is_an_end(layout):
    made = layout()
    assert made.asked(Context(())).ids == (made.end,)
    assert made.before_reply(Context(())).nodes == (made.nodes.none,)


def test_no_more_entities_than_asked_for_and_the_newest_of_them(layout):
    asked = layout(entities=2).asked(Context((HI, OFFER, MORE, AGAIN)))
    names = layout().nodes.names(tiny_graph.CATALOGUE)
    assert [names[n] for n in asked.nodes] == ["Cedar", "Birch"]


# ---- counts of the released data --------------------------------------------------------------------------------


def released(folder, split, known):
    """INSPIRED as UniCRS reads it: films and all entities of its graph, linked by its own files."""
    path = folder / "inspired" / f"unicrs_{split}_data_dbpedia.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for num, line in enumerate(file):
            turns = []
            for turn in json.loads(line):
                films = [Link("item", uri) for uri in turn["movie_link"] if uri in known]
                others = [Link("person", uri) for uri in turn["entity_link"] if uri in known]
                role = {"SEEKER": "seeker", "RECOMMENDER": "recommender"}[turn["role"]]
                turns.append(Turn(role, turn["text"], tuple(films + others)))
            yield Dialogue(f"{split}-{num}", tuple(turns))


@pytest.mark.realdata
def test_the_examples_and_steps_of_inspired_are_the_reference_s(shared_data, backbones):
    form, files = published.find(shared_data / "kg" / "inspired_unicrs")
    found = published.read(form, files)
    known = set(found.entities)
    films = sorted({i for s in ("train", "valid", "test") for d in released(shared_data, s, known) for t in d.turns
                    for i in t.items})  # fmt: skip
    assert len(films) == 1472
    nodes = Nodes(KnowledgeGraph.build(found.triples, films, {f: f for f in films}, others=found.entities))
    config = UnicrsConfig(**CODE)
    layout = Layout(*backbones, nodes, config)
    counts = {}
    for split in ("train", "valid", "test"):
        dialogues = list(released(shared_data, split, known))
        counts[split] = (
            len(layout.fusion_examples(dialogues)),
            len(layout.conversation_examples(dialogues)),
            len(layout.recommendation_examples(dialogues, {})),
        )
    assert counts == {"train": (10_746, 7_806, 2_094), "valid": (1_373, 940, 273), "test": (1_250, 960, 256)}
    for stage, number, warm in (("fusion", 10_746, 168), ("conversation", 7_806, 976), ("recommendation", 2_094, 33)):
        schedule = stage_schedule(config, stage, seed=0)
        steps = schedule.steps_per_epoch(number) * schedule.epochs
        rates = [schedule.rate(step, steps) for step in range(steps)]
        assert rates.index(max(rates)) + 1 == warm
