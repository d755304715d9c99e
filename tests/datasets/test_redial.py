import gzip
import json

import pytest

from crscli.datasets import redial
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import cut
from crscli.errors import DataError

MOVIES = (
    "movieId,movieName,nbMentions\r\n"
    "11,Alpha House  (1984),3\r\n"
    "12,Beta Street (2001) ,2\r\n"
    "13,Gamma,1\r\n"
    "14,Delta Got Married%3F (2007),1\r\n"
    '15,"Eps, the Elder (1999)",1\r\n'
    "16,Alpha House (1984),1\r\n"
    "17,Tom &amp; Kim (1990),1\r\n"
    "18,,0\r\n"
)


def message(sender, text, **more):
    return {"messageId": 1, "text": text, "timeOffset": 0, "senderWorkerId": sender} | more


def record(num, *messages, **more):
    return {
        "conversationId": str(num),
        "initiatorWorkerId": 1,
        "respondentWorkerId": 2,
        "messages": [message(*m) for m in messages],
        "movieMentions": {},
        "initiatorQuestions": {},
        "respondentQuestions": {},
    } | more


def write(folder, test=(), train=(), movies=MOVIES):
    folder.mkdir(exist_ok=True)
    if movies is not None:
        (folder / "movies_with_mentions.csv").write_bytes(movies.encode())
    for name, rows in (("test_data.jsonl", test), ("train_data.jsonl", train)):
        if rows:
            (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return folder


def read(folder, bad=None, **more):
    return redial.read(Source(folder, redial.ALLOW), bad=bad or BadRows(), **more)


def one(tmp_path, *messages, movies=MOVIES, **more):
    return read(write(tmp_path, test=[record(7, *messages, **more)], movies=movies)).splits["test"][0]


def named(turn):
    return [(link.id, turn.text[link.start : link.end]) for link in turn.links]


def test_blanks_missing_years_escapes_and_entities_of_titles_are_mended(tmp_path):
    corpus = read(write(tmp_path, test=[record(7, (1, "hi"))]))
    assert (corpus.name, corpus.form) == ("redial", "published")
    assert [(i.item_id, i.title, i.year) for i in corpus.items] == [
        ("11", "Alpha House", 1984),
        ("12", "Beta Street", 2001),
        ("13", "Gamma", None),
        ("14", "Delta Got Married?", 2007),
        ("15", "Eps, the Elder", 1999),
        ("16", "Alpha House", 1984),
        ("17", "Tom & Kim", 1990),
        ("18", "film 18", None),
    ]


@pytest.mark.parametrize(
    ("text", "shown", "links"),
    [
        ("I saw @11", "I saw Alpha House (1984)", [("11", "Alpha House (1984)")]),
        ("@13!", "Gamma!", [("13", "Gamma")]),
        ("@12, @13.", "Beta Street (2001), Gamma.", [("12", "Beta Street (2001)"), ("13", "Gamma")]),
        ("(@14)", "(Delta Got Married? (2007))", [("14", "Delta Got Married? (2007)")]),
        ("@17's", "Tom & Kim (1990)'s", [("17", "Tom & Kim (1990)")]),
        ("@13@13", "GammaGamma", [("13", "Gamma"), ("13", "Gamma")]),
        ("@18?", "film 18?", [("18", "film 18")]),
        ("a &amp; b &quot;@13&quot; &lt;3", 'a & b "Gamma" <3', [("13", "Gamma")]),
        ("&#128512; @13", "\U0001f600 Gamma", [("13", "Gamma")]),
        ("mail me@home @ 5, @, @99999 and @1113", "mail me@home @ 5, @, @99999 and @1113", []),
        ("[rec] [/] :bomb: @13", "[rec] [/] :bomb: Gamma", [("13", "Gamma")]),
        ("", "", []),
    ],
)
def test_an_id_becomes_what_a_person_reads_with_a_link_exactly_there(tmp_path, text, shown, links):
    turn = one(tmp_path, (1, text)).turns[0]
    assert turn.text == shown
    assert named(turn) == links


def test_a_null_text_is_an_empty_one_and_the_turn_is_kept(tmp_path):
    assert [t.text for t in one(tmp_path, (1, None), (2, "yes")).turns] == ["", "yes"]


def test_roles_come_from_worker_ids_whoever_opens(tmp_path):
    found = one(tmp_path, (2, "Hello"), (1, "Hi"), (1, "I like @11"), (2, "Then @12"))
    assert [t.role for t in found.turns] == ["recommender", "seeker", "seeker", "recommender"]
    assert (found.seeker_id, found.recommender_id) == ("1", "2")
    assert [(e.turn_num, e.targets) for e in cut(found)] == [(2, ("12",))]


def test_forms_are_kept_and_unanswered_ones_are_lists(tmp_path):
    answers = {"11": {"suggested": 1, "seen": 2, "liked": 0}}
    found = one(tmp_path, (1, "@11"), initiatorQuestions=[], respondentQuestions=answers)
    assert found.forms == {"recommender": answers}
    assert one(tmp_path, (1, "@11"), initiatorQuestions=answers, respondentQuestions=[]).forms == {"seeker": answers}
    assert one(tmp_path, (1, "@11"), initiatorQuestions=[], respondentQuestions=[]).forms == {}


def test_mentions_may_be_a_list_a_null_or_hold_a_null_title(tmp_path):
    for mentions in ([], None, {"11": None}):
        assert named(one(tmp_path, (1, "@11"), movieMentions=mentions).turns[0]) == [("11", "Alpha House (1984)")]
    assert one(tmp_path, (1, "@77"), movieMentions={"77": None}).turns[0].text == "@77"


def test_without_a_film_list_the_titles_of_the_dialogues_are_taken(tmp_path):
    rows = [
        record(8, (1, "@21"), movieMentions={"21": "Zeta  (1950) ", "22": "Eta"}),
        record(9, (1, "@22"), movieMentions={"22": "Eta"}),
    ]
    corpus = read(write(tmp_path, test=rows, movies=None))
    assert [i.name for i in corpus.items] == ["Zeta (1950)", "Eta"]
    assert named(corpus.splits["test"][0].turns[0]) == [("21", "Zeta (1950)")]


def test_a_film_the_list_lacks_is_added_from_the_dialogue(tmp_path):
    rows = [record(8, (1, "@21"), movieMentions={"21": "Zeta (1950)", "18": "Theta"})]
    corpus = read(write(tmp_path, test=rows))
    assert {i.item_id: i.name for i in corpus.items if i.item_id in ("18", "21")} == {
        "18": "Theta",
        "21": "Zeta (1950)",
    }


def test_several_ids_of_one_film_stay_apart(tmp_path):
    turn = one(tmp_path, (1, "@11 or @16")).turns[0]
    assert turn.items == ("11", "16")
    assert turn.text == "Alpha House (1984) or Alpha House (1984)"


def test_merged_turns_without_times_and_ids_are_read_too(tmp_path):
    plain = record(9)
    plain["messages"] = [{"text": "Hi there. @11", "senderWorkerId": 1}]
    (tmp_path / "train_data.extra_merged_turns.jsonl.gz").write_bytes(gzip.compress(json.dumps(plain).encode()))
    corpus = read(write(tmp_path, train=[record(5, (1, "x"))]))
    assert [d.dialogue_id for d in corpus.splits["train"]] == ["5", "9"]
    assert corpus.splits["train"][1].turns[0].items == ("11",)
    assert "test" not in corpus.splits


def test_dialogues_stand_in_the_order_of_time(tmp_path):
    corpus = read(write(tmp_path, train=[record(n, (1, "x")) for n in (100, 9, 20)]))
    assert [(d.dialogue_id, d.order) for d in corpus.splits["train"]] == [("9", 9), ("20", 20), ("100", 100)]


def test_a_dialogue_in_two_files_is_read_once_and_said(tmp_path):
    row = record(5, (1, "x"))
    (tmp_path / "train_data_more.jsonl").write_text(json.dumps(row) + "\n")
    corpus = read(write(tmp_path, train=[row, record(6, (1, "y"))]))
    assert [d.dialogue_id for d in corpus.splits["train"]] == ["5", "6"]
    assert corpus.notes == ["train: 1 dialogues stood there twice and were read once"]


def test_one_id_for_two_different_dialogues_is_refused(tmp_path):
    with pytest.raises(DataError, match="dialogue id '5' stands for two different dialogues"):
        read(write(tmp_path, train=[record(5, (1, "x")), record(5, (1, "y"))]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": [message(3, "x")]}, "unknown role: worker 3 is neither initiator nor respondent"),
        ({"messages": [message(1, 5)]}, "text is int, not text"),
        ({"messages": "none"}, "messages is str, not a list"),
        ({"messages": [{"text": "x"}]}, "no field 'senderWorkerId'"),
        ({"movieMentions": ["11"]}, "not a ReDial dialogue"),
        ({"movieMentions": {"11": 300}}, "movieMentions holds a title that is no text"),
        ({"movieMentions": {"77": ["a"]}}, "movieMentions holds a title that is no text"),
        ({"initiatorQuestions": ["11"]}, "not a ReDial dialogue"),
        ({"respondentQuestions": {"11": {"liked": "much"}}}, "not a ReDial dialogue"),
        ({"conversationId": None}, "conversationId None is no id"),
        ({"conversationId": ["5"]}, "is no id"),
    ],
)
def test_a_record_of_another_shape_is_refused_with_its_line(tmp_path, change, words):
    with pytest.raises(DataError, match=r"test_data.jsonl:2: ") as caught:
        read(write(tmp_path, test=[record(5, (1, "x")), record(6, (1, "y")) | change]))
    assert words in str(caught.value)


def test_bad_records_may_be_skipped_and_are_told(tmp_path):
    told = []
    rows = [record(5, (9, "x")), record(6, (1, "y"))]
    corpus = read(write(tmp_path, test=rows), BadRows(1, told.append))
    assert [d.dialogue_id for d in corpus.splits["test"]] == ["6"]
    assert len(told) == 1


def test_a_film_twice_in_the_list_is_refused_with_its_place(tmp_path):
    with pytest.raises(DataError, match=r"movies_with_mentions.csv:10: movieId '11' occurs twice"):
        read(write(tmp_path, test=[record(5, (1, "x"))], movies=MOVIES + "11,Other,1\r\n"))


def test_a_film_list_alone_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match=r"neither train_data\*.jsonl nor test_data.jsonl is there"):
        read(write(tmp_path))


# ---- mention sequences ----------------------------------------------------------------------------------------


def sequence(num, *mentions, split="train"):
    rows = [[role, "POS", "<http://x/y>", ids] for role, ids in mentions]
    return {"conversationId": str(num), "kgsf_split": split, "mentions": rows}


def write_sequences(folder, *rows):
    (folder / "mention_sequences.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def test_sequences_are_read_when_asked_for_and_hold_no_known_no_test_and_no_ambiguous_mention(tmp_path):
    write(tmp_path, train=[record(5, (1, "x"))], test=[record(6, (1, "y"))])
    write_sequences(
        tmp_path,
        sequence(5, ("seeker", [11])),
        sequence(20, ("seeker", [11]), ("recommender", [12, 13]), ("recommender", [14]), ("seeker", [999])),
        sequence(10, ("recommender", [12]), split="valid"),
        sequence(6, ("recommender", [12])),
        sequence(30, ("recommender", [12]), split="test"),
        sequence(40, ("recommender", [12, 13])),
    )
    assert read(tmp_path).sequences == []
    found = read(tmp_path, sequences=True).sequences
    assert [(d.dialogue_id, d.order) for d in found] == [("10", 10), ("20", 20)]
    assert [(t.role, t.text, t.items) for t in found[1].turns] == [
        ("seeker", "", ("11",)),
        ("recommender", "", ("14",)),
    ]


def test_sequences_that_are_not_there_are_missed(tmp_path):
    with pytest.raises(DataError, match=r"mention_sequences.jsonl is not there"):
        read(write(tmp_path, train=[record(5, (1, "x"))]), sequences=True)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"conversationId": "9", "mentions": []}, "no field 'kgsf_split'"),
        (sequence(9, ("wizard", [11])), "unknown role"),
        ({"conversationId": "9", "kgsf_split": "train", "mentions": [["seeker", [11]]]}, "no mention sequence"),
        (sequence("x9", ("seeker", [11])), "no mention sequence"),
    ],
)
def test_a_bad_sequence_is_refused_with_its_line_or_skipped(tmp_path, row, words):
    write_sequences(write(tmp_path, train=[record(5, (1, "x"))]), sequence(8, ("seeker", [11])), row)
    with pytest.raises(DataError, match=r"mention_sequences.jsonl:2: ") as caught:
        read(tmp_path, sequences=True)
    assert words in str(caught.value)
    assert len(read(tmp_path, BadRows(1), sequences=True).sequences) == 1
