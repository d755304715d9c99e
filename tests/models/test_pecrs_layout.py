import dataclasses

import pytest

from crscli.backbone import Adapter, Backbone, Shape
from crscli.catalogue import Catalogue, Item
from crscli.datasets import pecrs
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.models.pecrs.config import CODE, PecrsConfig
from crscli.models.pecrs.layout import SPECIALS, Layout

ITEMS = [
    Item("a", "Alder", 1990, ("drama",), ("Ann Lee",), ("Bo Ray", "Cy Day", "Di Fox", "Ed Hay"), plot="A tree grows."),
    Item("b", "Birch", 1991),
    Item("c", ""),
]


@pytest.fixture(scope="module")
def backbone():
    corpus = [f"A: watch Alder {n} B: I liked Birch, [SEP] drama\n\n\n" for n in range(40)]
    return Backbone.load("tiny", specials=SPECIALS, adapter=Adapter("none"), shape=Shape(1, 16, 2, 300), corpus=corpus)


def layout(backbone, **settings):
    return Layout(backbone, Catalogue(ITEMS), PecrsConfig(**settings))


def shown(layout, ids):
    """Token ids as text, items as <id>."""
    parts = [f"<{ITEMS[t - layout.base].item_id}>" if t >= layout.base else layout._backbone.text([t]) for t in ids]
    return "".join(parts)


LIKED = Turn("seeker", "I liked Alder a lot", (Link("item", "a", 8, 13),))
OFFER = Turn("recommender", "Try Birch, or Alder?", (Link("item", "b", 4, 9), Link("item", "a", 14, 19)))


def test_a_turn_has_its_speaker_its_placeholders_and_its_items(backbone):
    made = layout(backbone)
    assert shown(made, made.turn(LIKED)) == "[SEP]<a>[SEP]B: I liked [MOVIE_ID] a lot\n\n\n"
    assert shown(made, made.turn(OFFER)) == "[REC]<b><a>[REC_END]A: Try [MOVIE_ID], or [MOVIE_ID]?\n\n\n"
    assert shown(made, made.response(OFFER)) == "A: Try [MOVIE_ID], or [MOVIE_ID]?\n\n\n"


def test_items_may_stand_where_the_code_has_them_or_in_place(backbone):
    code = layout(backbone, item_position="code")
    assert shown(code, code.turn(LIKED)) == "B: I liked [MOVIE_ID] a lot\n\n\n[SEP]<a>[SEP]"
    assert shown(code, code.turn(OFFER)).startswith("[REC]<b><a>[REC_END]A:")
    inside = layout(backbone, item_position="mention")
    assert shown(inside, inside.turn(LIKED)) == "B: I liked <a> a lot\n\n\n"
    assert shown(inside, inside.response(OFFER)) == "A: Try [MOVIE_ID], or [MOVIE_ID]?\n\n\n"


def test_a_mention_without_a_place_and_one_that_is_unknown(backbone):
    made = layout(backbone, item_position="mention")
    turn = Turn("seeker", "Zed and that one", (Link("item", "b"), Link("item", "zzz", 0, 3)))
    assert shown(made, made.turn(turn)) == "[SEP]<b>[SEP]B: [MOVIE_ID] and that one\n\n\n"


def test_no_text_can_spell_a_special_token(backbone):
    made = layout(backbone)
    ids = made.turn(Turn("seeker", "[REC] [SEP] [MOVIE_ID]\nA: hi"))
    assert max(ids) < backbone.vocabulary
    assert shown(made, ids) == "B: [REC] [SEP] [MOVIE_ID] A: hi\n\n\n"


def test_a_context_is_cut_between_turns_and_never_empty(backbone):
    made = layout(backbone, context_tokens=40)
    turns = tuple(Turn("seeker", f"turn {n}") for n in range(30))
    ids = made.context(Context(turns))
    assert len(ids) <= 40
    assert shown(made, ids).startswith("B: turn 2")
    assert shown(made, ids).endswith("B: turn 29\n\n\n")
    cut = layout(backbone, context_tokens=40, whole_turns=False)
    assert len(cut.context(Context(turns))) == 40
    assert made.context(Context(())) == made.end
    long = made.context(Context((Turn("seeker", "word " * 500),)))
    assert len(long) <= 40
    assert shown(made, made.context(Context((Turn("seeker", ""),)))) == "B: \n\n\n"


def test_items_of_the_opening_turn_may_be_left_out(backbone):
    made = layout(backbone, first_turn_items=False)
    assert "<" not in shown(made, made.context(Context((LIKED,))))
    assert "<a>" in shown(made, made.context(Context((Turn("recommender", "Hi"), LIKED))))


def test_five_thousand_turns_are_read_from_the_end(backbone):
    made = layout(backbone)
    turns = tuple(Turn(("seeker", "recommender")[n % 2], f"turn {n}") for n in range(5000))
    assert len(made.context(Context(turns))) <= 256
    points = made.points([Dialogue("d", turns)])
    assert len(points) == 2500


def test_an_item_is_its_fields_and_one_without_text_is_not_nothing(backbone):
    made = layout(backbone)
    texts = [shown(made, row) for row in made.items()]
    assert texts == [
        "Alder[SEP]Bo Ray, Cy Day, Di Fox[SEP]Ann Lee[SEP]drama[SEP]A tree grows.",
        "Birch[SEP][SEP][SEP][SEP]",
        "[SEP][SEP][SEP][SEP]",
    ]
    assert [shown(made, row) for row in made.items(["title"])] == ["Alder", "Birch", "[SEP]"]
    short = layout(backbone, item_tokens=3)
    assert {len(row) for row in short.items()} == {3}


def test_one_point_for_each_item_and_one_for_a_response_without(backbone):
    made = layout(backbone)
    dialogue = Dialogue("d", (LIKED, OFFER, Turn("seeker", "ok"), Turn("recommender", "")))
    points = made.points([dialogue])
    assert [(p.target, p.repeated) for p in points] == [(1, False), (0, True), (-1, False)]
    assert points[0].context == points[1].context
    assert shown(made, points[2].response) == "A: \n\n\n"
    assert points[0].name == "d:1"


def test_the_recipe_of_the_code_names_settings_that_exist():
    assert CODE.keys() <= {f.name for f in dataclasses.fields(PecrsConfig)}
    assert dataclasses.replace(PecrsConfig(), **CODE) != PecrsConfig()


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"similarity": "l2"}, "similarity"),
        ({"item_fields": "title,actors"}, "actors"),
        ({"negatives": 0}, "item_cache"),
        ({"recall_weight": 0.0, "rerank_weight": 0.0, "generation_weight": 0.0}, "above 0"),
        ({"width": 30, "heads": 4}, "multiple"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"dropout": 1.0}, "below 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"item_gradient": True, "item_cache": 5}, "exclude"),
        ({"head_depth": 3}, "head_depth"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, fault):
    with pytest.raises(ValueError, match=fault):
        PecrsConfig(**settings)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "split", "points", "with_item", "responses"),
    [
        ("REDIAL", "test", 8329, 4751, 7087),
        ("INSPIRED", "train", 8152, 2295, 7806),
        ("INSPIRED", "valid", 977, 305, 940),
        ("INSPIRED", "test", 993, 279, 960),
    ],
)
def test_points_of_the_released_files_are_those_of_the_reference(
    backbone, shared_data, folder, split, points, with_item, responses
):
    source = Source(shared_data / "pecrs" / folder, pecrs.ALLOW)
    corpus = pecrs.read(source, bad=BadRows(0))
    made = Layout(backbone, Catalogue(corpus.items), PecrsConfig()).points(corpus.splits[split])
    found = (len(made), sum(p.target >= 0 for p in made), sum(not p.repeated for p in made))
    assert found == (points, with_item, responses)
