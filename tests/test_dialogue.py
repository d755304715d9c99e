import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crscli.dialogue import (
    KINDS,
    OPINIONS,
    ROLES,
    Context,
    Dialogue,
    Link,
    Turn,
    cut,
    from_json,
    load_dialogues,
    merge_turns,
    part_of,
    save_dialogues,
    to_json,
)

quick = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def said(role, text, *items):
    """A turn that names items at the places where their ids stand in the text."""
    at, links = 0, []
    for item in items:
        at = text.index(item, at)
        links.append(Link("item", item, at, at + len(item)))
    return Turn(role, text, tuple(links))


def named(turn):
    return [(link.id, turn.text[link.start : link.end] if link.start >= 0 else None) for link in turn.links]


# ---- merging --------------------------------------------------------------------------------------------------


def test_consecutive_turns_of_one_side_are_joined_with_a_blank_and_their_links_move():
    merged = merge_turns(
        [said("seeker", "a and b", "a", "b"), said("seeker", "then c", "c"), said("recommender", "d", "d"),
         said("seeker", "e", "e")]
    )  # fmt: skip
    assert [(t.role, t.text) for t in merged] == [("seeker", "a and b then c"), ("recommender", "d"), ("seeker", "e")]
    assert [named(t) for t in merged] == [[("a", "a"), ("b", "b"), ("c", "c")], [("d", "d")], [("e", "e")]]


def test_a_link_without_a_place_stays_without():
    merged = merge_turns([said("seeker", "one"), Turn("seeker", "two", (Link("item", "x"),))])
    assert merged[0].links == (Link("item", "x"),)


@pytest.mark.parametrize(
    ("texts", "joint"),
    [(["", "a"], "a"), (["a", ""], "a"), (["a", "", "b"], "a b"), (["", ""], ""), (["a ", " b"], "a   b")],
)
def test_empty_messages_leave_no_blank_behind(texts, joint):
    merged = merge_turns([said("seeker", text, text.strip()) if text else Turn("seeker", "") for text in texts])
    assert [t.text for t in merged] == [joint]
    assert all(name == id_ for id_, name in named(merged[0]))


turns = st.lists(
    st.tuples(st.sampled_from(ROLES), st.text(max_size=8), st.text(min_size=1, max_size=4), st.text(max_size=8)).map(
        lambda t: Turn(t[0], t[1] + t[2] + t[3], (Link("item", t[2], len(t[1]), len(t[1]) + len(t[2])),))
    ),
    max_size=6,
)


@quick
@given(turns)
def test_merging_keeps_every_mention_at_its_words_and_sides_alternate(given_turns):
    merged = merge_turns(given_turns)
    assert all(a.role != b.role for a, b in pairwise(merged))
    assert [i for t in merged for i in t.items] == [i for t in given_turns for i in t.items]
    assert all(id_ == name for t in merged for id_, name in named(t))
    assert merge_turns(merged) == merged


# ---- contexts and examples ------------------------------------------------------------------------------------


def test_mentions_are_distinct_and_the_newest_comes_first_inside_a_turn_the_later():
    context = Context((said("seeker", "a b", "a", "b"), said("recommender", "c a", "c", "a"), said("seeker", "no")))
    assert context.mentions == ("a", "c", "b")
    assert Context(()).mentions == ()


def test_only_items_are_mentions():
    turn = Turn("seeker", "x", (Link("person", "p"), Link("item", "i"), Link("genre", "g"), Link("item", "i")))
    assert turn.items == ("i", "i")
    assert Context((turn,)).mentions == ("i",)


def test_the_last_turns_of_a_context_are_the_newest():
    context = Context(tuple(said("seeker", t) for t in "abc"))
    assert [t.text for t in context.last(2).turns] == ["b", "c"]
    assert context.last(9) == context


TALK = Dialogue(
    "d",
    (
        said("recommender", "a", "a"),
        said("seeker", "b", "b"),
        said("recommender", "c"),
        said("recommender", "d d", "d", "d"),
        said("seeker", "e", "e"),
        said("recommender", "f"),
    ),
)


def cuts(**options):
    return [(e.turn_num, e.targets, len(e.context.turns)) for e in cut(TALK, **options)]


def test_responses_are_recommender_turns_with_an_item_and_a_context():
    assert cuts() == [(2, ("d", "d"), 2)]
    example = next(cut(TALK))
    assert example.dialogue_id == "d"
    assert example.response.text == "c d d"
    assert [t.text for t in example.context.turns] == ["a", "b"]


def test_single_messages_have_the_message_before_them_as_context():
    assert cuts(merge=False) == [(3, ("d", "d"), 3)]


def test_turns_without_items_count_when_asked_for():
    assert cuts(with_items=False) == [(2, ("d", "d"), 2), (4, (), 4)]
    assert cuts(with_items=False, merge=False) == [(2, (), 2), (3, ("d", "d"), 3), (5, (), 5)]


def test_both_sides_may_answer_but_the_opening_is_never_a_response():
    assert [num for num, *_ in cuts(speakers=ROLES)] == [1, 2, 3]
    assert [num for num, *_ in cuts(speakers=("seeker",))] == [1, 3]


def test_a_dialogue_without_turns_or_with_one_side_gives_no_example():
    assert list(cut(Dialogue("d", ()))) == []
    assert list(cut(Dialogue("d", (said("recommender", "a", "a"), said("recommender", "b", "b"))))) == []


# ---- shares ---------------------------------------------------------------------------------------------------

MANY = [Dialogue(f"d{n}", ()) for n in range(40)]


@quick
@given(st.integers(0, 40), st.floats(1e-6, 1), st.floats(1e-6, 1), st.integers(0, 9))
def test_a_larger_share_holds_a_smaller_one_in_the_order_of_the_whole(count, one, other, seed):
    whole = MANY[:count]
    small, large = (part_of(whole, share, seed) for share in sorted([one, other]))
    for part in (small, large):
        assert [d for d in whole if d in part] == part
    assert len(small) == (max(1, round(min(one, other) * count)) if count else 0)
    assert all(d in large for d in small)


def test_a_share_is_drawn_by_its_seed():
    halves = [part_of(MANY, 0.5, seed) for seed in (0, 1)]
    assert halves[0] == part_of(MANY, 0.5, 0) != halves[1]
    assert [len(half) for half in halves] == [20, 20]
    assert MANY[:20] not in halves
    assert part_of(MANY, 1.0, 0) == MANY
    assert len(part_of(MANY, 1e-9, 0)) == 1


# ---- JSON -----------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
links = st.builds(
    lambda kind, id_, span, score, candidates, opinion, reason: Link(
        kind, id_, *(span or (-1, -1)), score, tuple(candidates), opinion, reason
    ),
    st.sampled_from(KINDS),
    texts,
    st.none() | st.tuples(st.integers(0, 5), st.integers(6, 9)),
    st.floats(0, 1),
    st.lists(texts, max_size=2),
    st.none() | st.sampled_from(OPINIONS),
    texts,
)
forms = st.dictionaries(
    st.sampled_from(ROLES),
    st.dictionaries(texts, st.dictionaries(st.sampled_from(["suggested", "seen", "liked"]), st.integers(0, 2))),
)
whole = st.builds(
    Dialogue,
    texts,
    st.lists(st.builds(Turn, st.sampled_from(ROLES), texts, st.lists(links, max_size=3).map(tuple)), max_size=3).map(
        tuple
    ),
    st.none() | st.integers(),
    st.none() | texts,
    st.none() | texts,
    forms,
)


@quick
@given(whole)
def test_a_dialogue_comes_back_from_json_as_it_was(dialogue):
    assert from_json(json.loads(json.dumps(to_json(dialogue)))) == dialogue


@quick
@given(dialogues=st.lists(whole, max_size=3))
def test_dialogues_come_back_from_a_file_as_they_were(tmp_path_factory, dialogues):
    path = tmp_path_factory.mktemp("save") / "train.jsonl"
    save_dialogues(dialogues, path)
    assert load_dialogues(path) == dialogues
    assert path.read_bytes().count(b"\n") == len(dialogues)


def test_line_ends_of_every_alphabet_control_characters_and_emoji_survive_a_file(tmp_path):
    text = "a\nb\rc\r\nd\x85e\u2028f\u2029g\x00h\x1b[31m\x7f\ufeff\U0001f600\u200d\U0001f525"
    save_dialogues([Dialogue(text, (Turn("seeker", text),))], tmp_path / "d")
    assert load_dialogues(tmp_path / "d") == [Dialogue(text, (Turn("seeker", text),))]


def test_empty_fields_are_left_out_of_json():
    assert to_json(Dialogue("d", (Turn("seeker", "x", (Link("item", "i"),)), Turn("recommender", "")))) == {
        "dialogue_id": "d",
        "turns": [
            {"role": "seeker", "text": "x", "links": [{"kind": "item", "id": "i"}]},
            {"role": "recommender", "text": ""},
        ],
    }
    assert to_json(Dialogue("d", (), order=0))["order"] == 0
