import pytest

from crscli.backbone import Adapter, Backbone, Shape
from crscli.dialogue import Context, Link, Turn
from crscli.transcript import Transcript

PREFIXES = {"seeker": "User: ", "recommender": "System: "}
HI = Turn("seeker", "Hi! I liked Alder by Ann", (Link("item", "a", 12, 17), Link("person", "Ann", 21, 24)))
OFFER = Turn("recommender", "Try Birch,\nor Cedar.", (Link("item", "b", 4, 9), Link("item", "c", 14, 19)))
MORE = Turn("seeker", "Seen it")
SILENT = Turn("seeker", "")


@pytest.fixture(scope="module")
def backbone():
    corpus = [f"System: Then watch Alder {n} User: Hi! I liked Birch" for n in range(40)]
    shape = Shape(1, 16, 2, 300)
    return Backbone.load("tiny", specials=("[END]", "[MOVIE_ID]", "[CLS]"), adapter=Adapter("none"), shape=shape,
                         corpus=corpus)  # fmt: skip


@pytest.fixture
def written(backbone):
    def made(**options):
        end, placeholder = backbone.special("[END]"), backbone.special("[MOVIE_ID]")
        return Transcript(backbone, **{"prefixes": PREFIXES, "end": [end], "placeholder": placeholder, **options})

    return made


@pytest.fixture
def read(backbone):
    return backbone.text


def masked(text, *links):
    return Turn("seeker", text, tuple(Link("item", "x", *place) for place in links))


# ---- a turn -----------------------------------------------------------------------------------------------------


def test_a_turn_has_the_prefix_of_its_side_and_an_end(written, read):
    made = written()
    assert read(made.turn(HI)) == "User: Hi! I liked Alder by Ann[END]"
    assert read(made.turn(OFFER)) == "System: Try Birch, or Cedar.[END]"
    assert read(written(prefixes={**PREFIXES, "seeker": "A: "}).turn(MORE)) == "A: Seen it[END]"


def test_an_end_may_be_several_tokens_or_none(written, read, backbone):
    assert read(written(end=backbone.tokenize([" Over"])[0] + [backbone.special("[END]")]).turn(MORE)) == (
        "User: Seen it Over[END]"
    )
    assert read(written(end=[]).turn(MORE)) == "User: Seen it"


@pytest.mark.parametrize("role", ["seeker", "recommender"])
def test_every_turn_of_a_side_begins_with_its_opening(written, read, role):
    made = written()
    opening = made.opening(role)
    assert read(opening) == PREFIXES[role].rstrip()
    for text in ("Hello", "", " two blanks", "\nnext line", ": )", "?!", "7", "'s", "🎬", "\t", "Alder"):
        turn = Turn(role, text, (Link("item", "a", 0, 5),) if text == "Alder" else ())
        for tokens in (made.turn(turn), made.masked(turn), written(titles=False).turn(turn)):
            assert tokens[: len(opening)] == opening


def test_turns_that_are_remembered_are_written_as_those_that_are_not(written, monkeypatch):
    monkeypatch.setattr("crscli.transcript._REMEMBERED", 2)
    turns = [HI, OFFER, MORE, HI, SILENT]
    for order in (turns, turns[::-1]):
        made = written()
        made.remember(order)
        made.remember([])
        made.remember(order[:2])
        assert [made.turn(t) for t in turns] == [written().turn(t) for t in turns]
        assert [made.masked(t) for t in turns] == [written().masked(t) for t in turns]


# ---- masked turns -----------------------------------------------------------------------------------------------


def test_titles_become_one_placeholder_each_and_nothing_else_does(written, read):
    made = written()
    assert read(made.masked(HI)) == "User: Hi! I liked [MOVIE_ID] by Ann"
    assert read(made.masked(OFFER)) == "System: Try [MOVIE_ID], or [MOVIE_ID]."
    assert read(made.masked(MORE)) == "User: Seen it"
    assert made.turn(MORE) == made.masked(MORE) + made.end


@pytest.mark.parametrize(
    ("text", "links", "left"),
    [
        ("Alder", [(0, 5)], "User: [MOVIE_ID]"),
        ("AlderBirch", [(0, 5), (5, 10)], "User: [MOVIE_ID][MOVIE_ID]"),
        ("see Cedar or Alder", [(13, 18), (4, 9)], "User: see [MOVIE_ID] or [MOVIE_ID]"),  # in any order
        ("The Alder Tree is fine", [(0, 14), (4, 9)], "User: [MOVIE_ID] is fine"),  # one in the other
        ("The Alder Tree is fine", [(4, 9), (0, 14)], "User: [MOVIE_ID] is fine"),
        ("The Alder Tree is fine", [(0, 9), (4, 14)], "User: [MOVIE_ID] Tree is fine"),  # overlapping
        ("The Alder Tree is fine", [(0, 14), (0, 14)], "User: [MOVIE_ID] is fine"),  # two films of a name
        ("I mean that one", [(-1, -1)], "User: I mean that one"),  # without a place
        ("that one or Alder", [(-1, -1), (12, 17)], "User: that one or [MOVIE_ID]"),
        ("on\ntwo lines\nAlder", [(13, 18)], "User: on two lines [MOVIE_ID]"),
    ],
)
def test_links_of_every_kind_are_masked(written, read, text, links, left):
    made = written()
    assert read(made.masked(masked(text, *links))) == left
    assert read(made.turn(masked(text, *links))) == "User: " + text.replace("\n", " ") + "[END]"


def test_a_text_that_spells_a_placeholder_is_none(written, backbone):
    assert backbone.special("[MOVIE_ID]") not in written().masked(Turn("seeker", "I say [MOVIE_ID] [END]"))


def test_without_titles_placeholders_are_read(written, read):
    made = written(titles=False)
    assert read(made.turn(HI)) == "User: Hi! I liked [MOVIE_ID] by Ann[END]"
    assert read(made.context([HI, OFFER], 100)) == (
        "User: Hi! I liked [MOVIE_ID] by Ann[END]System: Try [MOVIE_ID], or [MOVIE_ID].[END]"
    )
    same_words = Turn(HI.role, HI.text)
    assert read(made.turn(same_words)) == "User: Hi! I liked Alder by Ann[END]"  # links tell turns apart
    made.remember([HI])
    assert read(made.turn(HI)) == "User: Hi! I liked [MOVIE_ID] by Ann[END]"


# ---- contexts ---------------------------------------------------------------------------------------------------

LONG = [Turn(("seeker", "recommender")[n % 2], f"number {n}" + " on" * n) for n in range(12)]


def test_a_context_is_its_turns_oldest_first(written, read):
    made = written()
    wanted = made.turn(HI) + made.turn(OFFER) + made.turn(MORE)
    for turns in ([HI, OFFER, MORE], Context((HI, OFFER, MORE)), Context((HI, SILENT, OFFER, SILENT, MORE, SILENT))):
        assert made.context(turns, 1000) == wanted
        assert made.context(turns, len(wanted)) == wanted


@pytest.mark.parametrize("begin", [(), ("[CLS]",)])
@pytest.mark.parametrize("closing", [0, 1, 2])
def test_a_context_of_whole_turns_is_the_most_that_fits(written, backbone, begin, closing):
    first, last = [backbone.special(name) for name in begin], [[5, 6, 7], (8,)][:closing]
    made = written(begin=first)
    kept = [token for part in last for token in part]
    turns = [list(made.turn(t)) for t in LONG]
    for room in range(len(turns[-1]) + len(first) + len(kept), sum(map(len, turns)) + 10):
        count = max(
            n for n in range(len(LONG) + 1) if sum(map(len, turns[len(LONG) - n :])) + len(first) + len(kept) <= room
        )
        wanted = [*first, *(token for turn in turns[len(LONG) - count :] for token in turn), *kept]
        assert list(made.context(Context(tuple(LONG)), room, *last)) == wanted


@pytest.mark.parametrize("begin", [(), ("[CLS]",)])
@pytest.mark.parametrize("closing", [(), (5, 6, 7)])
def test_a_context_that_is_cut_inside_a_turn_fills_the_room(written, backbone, begin, closing):
    first = [backbone.special(name) for name in begin]
    made = written(begin=first, whole_turns=False)
    whole = [token for t in LONG for token in made.turn(t)]
    for room in range(len(first) + len(closing) + 1, len(whole) + 10):
        left = room - len(first) - len(closing)
        assert list(made.context(LONG, room, closing)) == [*first, *whole[-left:], *closing]


@pytest.mark.parametrize("room", [1, 2, 5, 9])
def test_a_newest_turn_that_is_too_long_keeps_its_end(written, backbone, room):
    made = written()
    assert len(made.turn(LONG[-1])) > 9
    assert made.context(LONG, room) == made.turn(LONG[-1])[-room:]
    assert made.context(LONG, room + 2, (5, 6)) == (*made.turn(LONG[-1])[-room:], 5, 6)


def test_an_empty_turn_behind_a_long_one_changes_nothing(written):
    made = written()
    assert made.context([*LONG, SILENT], 9) == made.context(LONG, 9)


@pytest.mark.parametrize("whole_turns", [True, False])
def test_what_stands_last_is_kept_where_nothing_else_fits(written, backbone, whole_turns):
    cls = backbone.special("[CLS]")
    assert written(whole_turns=whole_turns).context(LONG, 3, (5,), (6, 7)) == (5, 6, 7)
    assert written(whole_turns=whole_turns, begin=[cls]).context(LONG, 4, (5,), (6, 7)) == (cls, 5, 6, 7)
    for room in (1, 2, 3):
        assert len(written(whole_turns=whole_turns).context(LONG, room, (5, 6, 7, 8))) == room


@pytest.mark.parametrize("titles", [True, False])
@pytest.mark.parametrize("turns", [[], Context(()), [SILENT], [SILENT, SILENT]])
def test_no_context_is_never_no_tokens(written, backbone, turns, titles):
    end, cls = backbone.special("[END]"), backbone.special("[CLS]")
    assert written(titles=titles).context(turns, 20) == (end,)
    assert written(titles=titles, begin=[cls]).context(turns, 20) == (cls, end)
    assert written(titles=titles, begin=[cls]).context(turns, 20, (5,)) == (cls, 5)


def test_a_placeholder_is_needed_for_masked_turns_only(written):
    made = written(placeholder=None)
    assert made.context([HI], 50) == written().context([HI], 50)
    with pytest.raises(AssertionError):
        made.masked(HI)
