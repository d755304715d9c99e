from dataclasses import replace

import pyarrow.parquet as pq

from crscli.dialogue import Dialogue, Link, Turn
from crscli.linking.opinions import ANSWERS, NOT_SEEN
from crscli.linking.stored import FILE, MARKED, read_links, with_links, write_links

FOUND = Link("item", "b", 5, 9, 0.75, ("b", "c"), "liked", "title")
PERSON = Link("person", "Adam Sandler", 12, 24, 1.0, reason="full name")
GENRE = Link("genre", "horror", 0, 4, 1.0, opinion="disliked", reason="noun")
ANSWER = Link("item", "z", opinion="seen", reason=ANSWERS)
MARK = Link("item", "a", 5, 9, 0.5, ("a", "b"), "liked", MARKED)
LOST = Link("item", "q", reason=f"{MARKED}, {NOT_SEEN}")


def written(tmp_path, *turns):
    write_links(tmp_path / FILE, [(("test", "d1", number), links) for number, links in enumerate(turns)])
    return read_links(tmp_path)


def test_links_come_back_as_they_were(tmp_path):
    assert written(tmp_path, [GENRE, FOUND, PERSON], [], [PERSON]) == {
        ("test", "d1", 0): (GENRE, FOUND, PERSON),
        ("test", "d1", 2): (PERSON,),
    }


def test_films_that_are_only_answered_and_films_beside_marks_stay_in_the_file(tmp_path):
    other = replace(FOUND, start=30, end=34)
    assert written(tmp_path, [MARK, other, GENRE, ANSWER])["test", "d1", 0] == (MARK, GENRE)
    rows = pq.read_table(tmp_path / FILE).to_pylist()
    assert [(row["id"], row["marked"]) for row in rows] == [
        ("a", True), ("b", False), ("horror", False), ("z", False)
    ]  # fmt: skip


def test_a_mark_that_the_linker_did_not_find_has_no_score(tmp_path):
    found = written(tmp_path, [LOST])
    assert pq.read_table(tmp_path / FILE).column("score").to_pylist() == [None]
    assert found["test", "d1", 0] == (LOST,)


def test_no_links_make_an_empty_file(tmp_path):
    assert written(tmp_path) == {}


def turns_of(split, dialogue, found):
    (linked,) = with_links(split, [dialogue], found)
    return linked.turns


def test_marks_get_opinions_and_people_and_genres_come_in_by_place():
    dialogue = Dialogue("d1", (Turn("seeker", "text", (Link("item", "a", 5, 9),)), Turn("recommender", "x")))
    found = {("test", "d1", 0): (MARK, GENRE, PERSON)}
    told = Link("item", "a", 5, 9, opinion="liked", reason=MARKED)
    assert turns_of("test", dialogue, found) == (
        replace(dialogue.turns[0], links=(GENRE, told, PERSON)),
        dialogue.turns[1],
    )
    assert turns_of("train", dialogue, found) == dialogue.turns


def test_marks_without_a_place_get_the_opinion_of_their_turn():
    dialogue = Dialogue("d1", (Turn("seeker", "x", (Link("item", "p"), Link("item", "q"))),))
    marks = (Link("item", "p", 3, 4, opinion="liked", reason=MARKED), LOST)
    (turn,) = turns_of("test", dialogue, {("test", "d1", 0): marks})
    assert turn.items == ("p", "q")
    assert [(x.start, x.opinion, x.reason) for x in turn.links] == [
        (-1, "liked", MARKED), (-1, None, LOST.reason)
    ]  # fmt: skip


def test_found_films_become_mentions_where_there_are_no_marks():
    dialogue = Dialogue("d1", (Turn("seeker", "text"),))
    (turn,) = turns_of("test", dialogue, {("test", "d1", 0): (FOUND,)})
    assert turn.items == ("b",)
