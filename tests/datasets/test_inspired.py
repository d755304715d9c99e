import pytest

from crscli.datasets import inspired
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.errors import DataError

HEADER = ["dialog_id", "utt_id", "speaker", "turn_id", "text", "text_with_placeholder", "movies", "genres"]


def row(dialog, turn, speaker, text, movies=""):
    return [dialog, "1", speaker, str(turn), text, "", movies, ""]


def write(folder, *, header=HEADER, **splits):
    for name, rows in splits.items():
        lines = ["\t".join(r) for r in (header, *rows)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def read(folder, bad=None):
    return inspired.read(Source(folder, inspired.ALLOW), bad=bad or BadRows())


def one(tmp_path, *rows):
    return read(write(tmp_path, test=rows)).splits["test"][0]


def named(turn):
    return [(link.id, turn.text[link.start : link.end] if link.start >= 0 else None) for link in turn.links]


def test_sentence_rows_of_one_side_are_one_turn_with_moved_links(tmp_path):
    found = one(
        tmp_path,
        row("d1", 1, "RECOMMENDER", "Hello."),
        row("d1", 1, "RECOMMENDER", "Seen Akira?", "Akira (1988)"),
        row("d1", 2, "SEEKER", "No."),
        row("d1", 3, "recommender", "Then Heat it is.", "Heat (1995)"),
    )
    assert [(t.role, t.text) for t in found.turns] == [
        ("recommender", "Hello. Seen Akira?"),
        ("seeker", "No."),
        ("recommender", "Then Heat it is."),
    ]
    assert named(found.turns[0]) == [("Akira (1988)", "Akira")]
    assert named(found.turns[2]) == [("Heat (1995)", "Heat")]


@pytest.mark.parametrize("between", [";", "; ", ";  ", " ; "])
def test_titles_are_separated_by_semicolons_with_any_blanks(tmp_path, between):
    movies = between.join(["Heat (1995)", "Akira (1988)", "Heat (1995)"])
    turn = one(tmp_path, row("d1", 1, "SEEKER", "heat, AKIRA and heat again", movies)).turns[0]
    assert named(turn) == [("Heat (1995)", "heat"), ("Akira (1988)", "AKIRA"), ("Heat (1995)", "heat")]
    assert [link.start for link in turn.links] == [0, 6, 16]


def test_a_title_that_is_marked_more_often_than_it_stands_there_stays_a_mention_without_place(tmp_path):
    turn = one(tmp_path, row("d1", 1, "SEEKER", "Heat.", "Heat (1995); Heat (1995); ")).turns[0]
    assert named(turn) == [("Heat (1995)", "Heat"), ("Heat (1995)", None)]
    assert turn.items == ("Heat (1995)", "Heat (1995)")


def test_marks_are_whole_words_in_any_case_and_the_full_name_is_preferred(tmp_path):
    turn = one(tmp_path, row("d1", 1, "SEEKER", "With it I mean IT (2017), item", "It (2017)")).turns[0]
    assert named(turn) == [("It (2017)", "IT (2017)")]
    turn = one(tmp_path, row("d1", 1, "SEEKER", "item bits wit IT!", "It (2017)")).turns[0]
    assert named(turn) == [("It (2017)", "IT")]


def test_odd_titles_become_items_with_the_year_where_there_is_one(tmp_path):
    movies = "Akira ();The Witch (2015 film);Outbreak (1995;300;2012 (2009)"
    corpus = read(write(tmp_path, test=[row("d1", 1, "SEEKER", "The witch, outbreak and 300", movies)]))
    assert {i.item_id: (i.title, i.year) for i in corpus.items} == {
        "Akira ()": ("Akira", None),
        "The Witch (2015 film)": ("The Witch", 2015),
        "Outbreak (1995": ("Outbreak", 1995),
        "300": ("300", None),
        "2012 (2009)": ("2012", 2009),
    }
    found = dict(named(corpus.splits["test"][0].turns[0]))
    assert found["The Witch (2015 film)"] == "The witch"
    assert found["Outbreak (1995"] == "outbreak"
    assert found["300"] == "300"
    assert found["Akira ()"] is None


def test_quotation_marks_and_entities_become_characters(tmp_path):
    turn = one(tmp_path, row("d1", 1, "SEEKER", "QUOTATION_MARKHeatQUOTATION_MARK &amp; more", "Heat (1995)")).turns[0]
    assert turn.text == '"Heat" & more'
    assert named(turn) == [("Heat (1995)", "Heat")]


def test_real_quotation_marks_in_a_row_enclose_nothing(tmp_path):
    found = one(tmp_path, row("d1", 1, "SEEKER", '"Open'), row("d1", 2, "RECOMMENDER", 'she said "x" there'))
    assert [t.text for t in found.turns] == ['"Open', 'she said "x" there']


def test_all_three_files_are_splits_and_the_items_are_named_in_any_of_them(tmp_path):
    corpus = read(
        write(
            tmp_path,
            train=[row("d1", 1, "SEEKER", "a", "B (2000)")],
            dev=[row("d2", 1, "SEEKER", "b", "A (2000)")],
            test=[row("d3", 1, "SEEKER", "c", "C (2000)"), row("d4", 1, "SEEKER", "c")],
        )
    )
    assert {s: [d.dialogue_id for d in ds] for s, ds in corpus.splits.items()} == {
        "train": ["d1"],
        "valid": ["d2"],
        "test": ["d3", "d4"],
    }
    assert [i.item_id for i in corpus.items] == ["A (2000)", "B (2000)", "C (2000)"]
    assert corpus.notes == ["no movie_database.tsv: the items are the 3 titles marked in the dialogues of all splits"]


def test_the_film_list_is_taken_if_it_is_there(tmp_path):
    write(tmp_path, test=[row("d1", 1, "SEEKER", "a", "B (2000)")])
    (tmp_path / "movie_database.tsv").write_text(
        "Title\tYear\nHeat\t1995\nB (2000)\t2000\n\t1990\nNone\t\nAkira\tn/a\n"
    )
    corpus = read(tmp_path)
    assert [i.name for i in corpus.items] == ["Akira", "B (2000)", "Heat (1995)", "None"]
    assert corpus.notes == []


def test_a_film_list_without_titles_is_refused(tmp_path):
    write(tmp_path, test=[row("d1", 1, "SEEKER", "a", "B (2000)")])
    (tmp_path / "movie_database.tsv").write_text("name\tyear\nHeat\t1995\n")
    with pytest.raises(DataError, match=r"movie_database.tsv:2: no column 'title' among name, year"):
        read(tmp_path)


def test_an_unknown_speaker_is_refused_with_its_line_or_skipped(tmp_path):
    write(tmp_path, test=[row("d1", 1, "SEEKER", "a"), row("d1", 2, "WIZARD", "b")])
    with pytest.raises(DataError, match=r"test.tsv:3: unknown role 'WIZARD'; known: RECOMMENDER, SEEKER"):
        read(tmp_path)
    assert [t.text for t in read(tmp_path, BadRows(1)).splits["test"][0].turns] == ["a"]


def test_a_dialogue_whose_rows_stand_in_two_places_is_refused(tmp_path):
    rows = [row("d1", 1, "SEEKER", "a"), row("d2", 1, "SEEKER", "b"), row("d1", 2, "SEEKER", "c")]
    with pytest.raises(DataError, match="dialogue id 'd1' stands for two different dialogues"):
        read(write(tmp_path, test=rows))


def test_a_missing_column_and_a_short_row_are_refused(tmp_path):
    write(tmp_path, header=["dialog_id", "speaker", "text"], test=[])
    with pytest.raises(DataError, match=r"test.tsv:1: no column 'turn_id', 'movies'; found dialog_id, speaker, text"):
        read(tmp_path)
    write(tmp_path, test=[["d1", "1"]])
    with pytest.raises(DataError, match=r"test.tsv:2: 8 values expected, found 2"):
        read(tmp_path)


def test_inspired_has_no_mention_sequences(tmp_path):
    write(tmp_path, test=[row("d1", 1, "SEEKER", "a")])
    with pytest.raises(DataError, match="INSPIRED has no mention sequences"):
        inspired.read(Source(tmp_path, inspired.ALLOW), bad=BadRows(), sequences=True)
