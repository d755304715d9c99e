"""Titles in the answers of language models, and the items that they are."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crscli.catalogue import Catalogue, Item
from crscli.linking.fuzzy import LengthIndex
from crscli.titles import TitleReader, said

FILMS = [
    ("Alien", 1979), ("Aliens", 1986), ("Brazil", 1985), ("Up", 2009), ("Rocky II", 1979), ("Rocky III", 1982),
    ("Monsters, Inc.", 2001), ("The Good, the Bad and the Ugly", 1966), ("12 Angry Men", 1957), ("300", 2006),
    ("Blade Runner 2049", 2017), ("3:10 to Yuma", 2007), ("The Lion King", 1994), ("The Lion King", 2019),
    ("Amélie", 2001), ("Star Wars: Episode V - The Empire Strikes Back", 1980), ("21", 2008), ("Airplane!", 1980),
    ("Spider-Man", 2002), ("Notebook", 2006), ("The Notebook", 2004), ("The Silence of the Lambs", None),
    ("John Wick: Chapter 2", 2017), ("(500) Days of Summer", 2009), ("Frozen", 2010), ("Frozen", 2013), ("1984", 1984),
]  # fmt: skip
CATALOGUE = Catalogue(Item(f"i{num:02}", title, year) for num, (title, year) in enumerate(FILMS))
POPULARITY = np.arange(len(FILMS), dtype=np.float32)


@pytest.fixture(scope="module")
def reader():
    return TitleReader(CATALOGUE, POPULARITY)


def names(reader, answer):
    """What was named: the item's name, or the text in brackets where the catalogue has none."""
    return [CATALOGUE[n.item_num].name if n.item_num >= 0 else f"<{n.text}>" for n in reader.read(answer)]


THREE = ["Alien (1979)", "Monsters, Inc. (2001)", "12 Angry Men (1957)"]


@pytest.mark.parametrize(
    "answer",
    [
        "Alien (1979)\nMonsters, Inc. (2001)\n12 Angry Men (1957)",
        "Alien\nMonsters, Inc.\n12 Angry Men",
        "1. Alien\n2. Monsters, Inc.\n3. 12 Angry Men",
        "1) Alien\n2) Monsters Inc\n3) 12 Angry Men",
        "1 Alien\n2 Monsters, Inc.\n3 12 Angry Men",
        "(1) Alien\n(2) Monsters, Inc.\n(3) 12 Angry Men",
        "1 - Alien\n2 - Monsters, Inc.\n3 - 12 Angry Men",
        "- Alien\n- Monsters, Inc.\n- 12 Angry Men",
        "• “Alien”\n• «Monsters, Inc.»\n• '12 Angry Men'",
        "**Alien** (1979)\n*Monsters, Inc.* (2001)\n`12 Angry Men` (1957)",
        "1. **Alien (1979)** - A crew meets a creature.\n2. **Monsters, Inc.** (2001): for all\n3. 12 Angry Men [1957]",
        "1. Alien: A crew meets a hungry creature.\n2. Monsters, Inc. - a toy\n3. 12 Angry Men, directed by X",
        "1. [Alien](https://example.org/alien_(1979))\n2. [Monsters, Inc.](x)\n3. 12 Angry Men, 1957",
        "Alien, Monsters, Inc., 12 Angry Men",
        "Alien (1979), Monsters, Inc. (2001), and 12 Angry Men (1957)",
        "Alien (1979) Monsters, Inc. (2001) 12 Angry Men (1957)",
        "Alien; Monsters, Inc.; 12 Angry Men",
        "1. Alien 2. Monsters, Inc. 3. 12 Angry Men",
        "1. Alien (1979), 2. Monsters, Inc. (2001), 3. 12 Angry Men (1957)",
        json.dumps(["Alien", "Monsters, Inc.", "12 Angry Men"]),
        json.dumps(["Alien (1979)", "Monsters, Inc. (2001)", "12 Angry Men"], indent=2),
        "```json\n" + json.dumps({"titles": ["Alien", "Monsters, Inc.", "12 Angry Men"]}) + "\n```\nEnjoy [them]!",
        json.dumps([{"title": t, "year": y} for t, y in (("Alien", 1979), ("Monsters, Inc.", "2001"), FILMS[8])]),
        '["Alien", "Monsters, Inc.", "12 Angry Men", "The Go',
        "['Alien', 'Monsters, Inc.', '12 Angry Men']",
        "Sure! Here are 20 films:\n\n1. Alien\n2. Monsters, Inc.\n3. 12 Angry Men\n\nI hope that you like them!",
        "Here you go:\nAlien\nMonsters, Inc.\n12 Angry Men\nEnjoy!",
        "<think>1. Brazil\n2. Up</think>\nAlien\nMonsters, Inc.\n12 Angry Men</s>",
        "<li>Alien</li>\n<li>Monsters, Inc.</li>\n<li>12 Angry Men</li>",
        "1. Alien\n   - it is scary\n2. Monsters, Inc.\n   - it is not\n3. 12 Angry Men",
        "Alien\r\n\r\nMonsters, Inc.\r\n12 Angry Men\r\n",
    ],
)
def test_a_list_may_be_written_in_many_ways(reader, answer):
    assert names(reader, answer) == THREE


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alien", "Alien (1979)"),
        ("ALIENS", "Aliens (1986)"),
        ("Amelie", "Amélie (2001)"),
        ("Up", "Up (2009)"),
        ("It", None),
        ("Op", None),
        ("Brasil", "Brazil (1985)"),
        ("Alein", None),  # too short for an edit
        ("Spiderman", "Spider-Man (2002)"),
        ("Rocky 2", "Rocky II (1979)"),
        ("Rocky IV", None),
        ("Rocky III (1982)", "Rocky III (1982)"),
        ("The Silense of the Lamb", "The Silence of the Lambs"),
        ("Silence of the Lambs (1991)", "The Silence of the Lambs"),
        ("The Lion King (1994)", "The Lion King (1994)"),
        ("The Lion King (2018)", "The Lion King (2019)"),
        ("The Lion King", "The Lion King (2019)"),
        ("Frozen (2012)", "Frozen (2013)"),
        ("Alien (1992)", "Alien (1979)"),  # the very title, whatever the year
        ("The Alien (1992)", None),
        ("The Notebook (2004)", "The Notebook (2004)"),
        ("Notebook (2004)", "The Notebook (2004)"),
        ("Notebook", "Notebook (2006)"),
        ("The Empire Strikes Back (1980)", "Star Wars: Episode V - The Empire Strikes Back (1980)"),
        ("The Empire Strikes Back (1999)", None),
        ("John Wick", None),
        ("John Wick: Chapter 2", "John Wick: Chapter 2 (2017)"),
        ("Monsters, Ink (2001)", "Monsters, Inc. (2001)"),
        ("Monsters, Ink (2013)", None),  # not the same year
        ("Blade Runner 2049", "Blade Runner 2049 (2017)"),
        ("Blade Runner 2050", None),
        ("3:10 to Yuma", "3:10 to Yuma (2007)"),
        ("300", "300 (2006)"),
        ("1984", "1984 (1984)"),
        ("21", None),  # the number of a line
        ("21 (2008)", "21 (2008)"),
        ("7. (500) Days of Summer (2009)", "(500) Days of Summer (2009)"),
        ("Alien: Covenant", None),
        ("Alien (dir. Ridley Scott)", "Alien (1979)"),
        ("Brazil (Terry Gilliam, 1985)", "Brazil (1985)"),
    ],
)
def test_which_item_a_title_is(reader, text, name):
    found = reader.find(text).item_num
    assert (CATALOGUE[found].name if found >= 0 else None) == name


def test_edits_are_told_and_unknown_titles_keep_their_text(reader):
    assert [reader.find(t).edits for t in ("Brazil", "Brasil", "The Silense of the Lamb")] == [0, 1, 2]
    unknown = reader.find("3. **Never Heard Of** (2011) - a drama")
    assert (unknown.text, unknown.year, unknown.item_num) == ("Never Heard Of", 2011, -1)
    assert names(reader, "1. Nothing Here\n2. Alien\n3. Alien") == ["<Nothing Here>", "Alien (1979)", "Alien (1979)"]


@pytest.mark.parametrize("answer", ["", " \n\n", "```\n```", "...", "12", "1.\n2.\n3.", "<think>Alien", "</s>"])
def test_nothing_is_named(reader, answer):
    assert [n for n in reader.read(answer) if n.item_num >= 0] == []


def test_prose_names_nothing_but_what_it_names(reader):
    assert reader.read("I am sorry, but I cannot recommend films.") == []
    assert names(reader, "Airplane!\nWhat a film!") == ["Airplane! (1980)"]
    assert names(reader, "I would take Brazil, Aliens, and Up.")[1:] == ["Aliens (1986)", "Up (2009)"]


def test_thoughts_and_tags_go():
    assert said("<think>a\nb</think>one<|im_end|>").split() == ["one"]
    assert said("a\n</think>b</thinking>one").split() == ["one"]
    assert said("one <Thinking>never ends").split() == ["one"]
    assert said("I <3 it < that").split() == ["I", "<3", "it", "<", "that"]


@given(st.one_of(st.text(max_size=300), st.text('1.)-*["\\]{}:,\nAlien (1979)', max_size=200)))
def test_any_text_is_read(answer):
    for named in TitleReader(CATALOGUE, POPULARITY).read(answer):
        assert -1 <= named.item_num < len(CATALOGUE)


@pytest.mark.parametrize(
    "piece",
    ["(", "[", "(1999 ", '["', "1. ", "- ", "Alien, ", '{"title": "', "a", "\\", "\n", "<a", "Alien (1979) ", "\ud800"],
)
def test_an_answer_that_runs_wild_takes_no_time(reader, piece):
    begun = time.process_time()
    reader.read(piece * 100_000)
    assert time.process_time() - begun < 2


def test_titles_may_be_missing_altogether():
    assert TitleReader(Catalogue([]), np.zeros(0)).read("Alien\n2. Brazil")[0].item_num == -1


@given(st.lists(st.text("ab ", min_size=1, max_size=8), max_size=12), st.text("ab", max_size=8), st.integers(0, 3))
def test_near_names_are_those_of_a_slow_search(listed, window, edits):
    from rapidfuzz.distance import OSA

    plain = [name.replace(" ", "") for name in listed]
    slow = sorted((OSA.distance(window, name), num) for num, name in enumerate(plain))
    assert LengthIndex(listed).near(window, edits) == [(num, d) for d, num in slow if d <= edits]
