"""Signals of metadata and wishes against slow forms that say what they mean."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from crscli import genres
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.signals.facets import GENRES, STUDIO_NAMES, Facet
from crscli.signals.joint import JointSignals
from crscli.signals.requests import CONTENT, ContentSignals
from crscli.signals.talk import Lexicon, Talk, tokens
from crscli.signals.together import NAMES, Together
from crscli.wishes import STUDIOS

ITEMS = [
    Item("0", "Night", 1984, ("Horror",), ("Ann Lee",), ("Bo Ray", "Cy Dow"), ("ghost",), "A ghost haunts a house"),
    Item("1", "Night II", 1988, ("Horror", "Comedy"), ("Ann Lee",), ("Bo Ray",), ("ghost",), "The ghost returns"),
    Item("2", "Laughs", 2017, ("Comedy",), (), ("Di Fox", "Cy Dow"), (), "Two friends open a bakery"),
    Item("3", "Toys", 2018, ("Animation", "Family"), ("Ed Kim",), (), (), "Toys go home", (), ("Pixar", "Walt Disney")),
    Item("4", "Caped", 2018, ("Action",), (), ("Di Fox",), ("superhero",), "A hero saves a town"),
    Item("5", "Caped Again", 1999, ("Action", "Sci-Fi"), ("Ann Lee",), ("Gil Orr",), (), "", (), ("Marvel Studios",)),
    Item("6", "Bare", None),
    Item("7", "Old War", 1955, ("War", "Drama"), ("Ann Lee",), ("Bo Ray",), (), "Soldiers march home"),
]  # fmt: skip
SIZE = len(ITEMS)
OFTEN = np.log1p(np.arange(SIZE, dtype=np.float32))


def seeker(text, *mentions):
    return Turn("seeker", text, tuple(Link("item", str(m)) for m in mentions))


def recommender(text, *mentions):
    return Turn("recommender", text, tuple(Link("item", str(m)) for m in mentions))


CONTEXTS = [
    Context(()),
    Context((seeker("hello"),)),
    Context((seeker("horror and comedy please", 2),)),
    Context((seeker("no horror"), recommender("comedy then?"), seeker("with Bo Ray"))),
    Context((seeker("a new film from Pixar for my kids", 0, 4),)),
    Context((seeker("80s superhero films without Cy Dow"), recommender("Ann Lee made one", 5), seeker("ok"))),
    Context((recommender("hi, what kind?"), seeker("like that but a ghost in a bakery", 1, 2))),
    Context((seeker("old films"), recommender("this", 7), seeker("rather action", 0))),
]


@pytest.fixture(scope="module")
def catalogue():
    return Catalogue(ITEMS)


@pytest.fixture(scope="module")
def content(catalogue):
    graph = sp.csr_array(np.array([[i % 2, i % 3 == 0, i == 5] for i in range(SIZE)], dtype=np.float32))
    return ContentSignals(catalogue, graph)


@pytest.fixture(scope="module")
def lexicon(catalogue):
    return Lexicon(catalogue, ["a", "ghost", "please"])


WEIGHTS = np.array([0.0, 2.0, 1.0], dtype=np.float32)


@pytest.fixture(scope="module")
def scores(content, lexicon):
    return content.scores(Talk(CONTEXTS, lexicon), OFTEN, WEIGHTS)


def unit(rows):
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-9)


def of_items(*names):
    """1 for the named items."""
    return np.array([float(n in names) for n in range(SIZE)])


def test_the_signals_are_these_and_all_of_one_shape(scores):
    assert list(scores) == list(CONTENT)
    assert len(CONTENT) == 22
    for name, values in scores.items():
        assert values.shape == (len(CONTEXTS), SIZE)
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all()
        assert np.ptp(values) > 0, f"{name} tells nothing in this world"


def test_every_studio_that_is_said_is_known_by_its_companies():
    assert list(STUDIOS) == list(STUDIO_NAMES)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("Sci-Fi", "Drama"), {"science fiction", "drama"}),
        (("comedy horror film",), {"comedy", "horror"}),
        (("romantic comedy",), {"comedy", "romance"}),
        (("talk-show", ""), set()),
        ((), set()),
    ],
)
def test_genres_of_an_item_are_canonical(names, wanted):
    assert genres.known(names) == sorted(wanted)


def test_a_facet_weighs_by_rarity_and_has_rows_of_length_1():
    facet = Facet([["a", "b", "a"], ["a"], [], ["a", "c"]], at_most=0.5)
    assert facet.names == ["a", "b", "c"]
    assert facet.table.toarray().tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]]
    weights = facet.weights.toarray()
    assert weights[:, 0].max() == 0  # in more than half
    assert np.allclose(np.linalg.norm(weights, axis=1), [1, 0, 0, 1])
    assert Facet([[], []]).weights.shape == (2, 0)


def test_genres_asked_unwanted_and_said(scores):
    asked = scores["genres_asked"]
    assert asked[2].tolist() == [0.5, 1, 0.5, 0, 0, 0, 0, 0]
    assert not asked[[0, 1, 3]].any()
    assert scores["genres_unwanted"][3].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert scores["genres_of_recommender"][3].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert scores["genres_asked_cosine"][2].argmax() == 1
    assert scores["genres_asked_cosine"][2, 1] == pytest.approx(1, abs=0.1)
    assert scores["genres_asked_lately"][7].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    assert scores["genres_said"][2].tolist() == asked[2].tolist()


def test_years_asked_for(scores):
    assert scores["years_asked"][5, :2].tolist() == [1, 1]
    assert scores["years_asked"][5, 5] == pytest.approx(np.exp(-10 / 4), abs=1e-4)
    assert (scores["years_asked"][:, 6] == 0).all()  # no year known
    assert scores["years_asked"][4].argmax() in (3, 4)
    assert scores["years_asked"][4, 7] == 0
    assert scores["years_asked"][7, 7] == 1


@pytest.mark.parametrize(
    ("text", "best", "worst"),
    [
        ("something like Night but newer", 4, 7),
        ("something like Night but older", 7, 4),
        ("no old films", 3, 7),
        ("before 1960", 7, 3),
        ("from 1999", 5, 7),
        ("since 2018", 4, 7),
    ],
)
def test_years_in_other_words(text, best, worst, content, lexicon):
    at = text.find("Night")
    links = (Link("item", "0", at, at + 5),) if at >= 0 else ()
    talk = Talk([Context((Turn("seeker", text, links),))], lexicon)
    fits = content.scores(talk, OFTEN, WEIGHTS)["years_asked"][0]
    assert fits[6] == 0  # no year known
    known = np.delete(fits, 6)
    assert fits[best] == pytest.approx(known.max(), abs=1e-3)
    assert fits[worst] == pytest.approx(known.min(), abs=1e-3)
    assert known.max() > known.min() + 0.5


def test_people_asked_for_not_wanted_and_named(scores):
    assert scores["people_asked"][3].tolist() == of_items(0, 1, 7).tolist()
    assert scores["people_asked"][5].tolist() == (-of_items(0, 2)).tolist()
    assert scores["people_named"][5].tolist() == [2, 1, 1, 0, 0, 1, 0, 1]  # Cy Dow and Ann Lee
    assert not scores["people_named"][2].any()


def test_studio_audience_and_theme(scores):
    assert scores["labels_asked"][4].tolist() == (2 * of_items(3)).tolist()
    assert scores["labels_asked"][5].tolist() == of_items(4, 5).tolist()


def test_the_request_is_all_of_it_and_its_products(scores):
    s = scores
    wanted = (
        s["genres_asked"]
        + 0.5 * s["genres_asked_lately"]
        + s["years_asked"]
        + 2 * np.minimum(s["people_asked"], 1)
        + s["labels_asked"]
        - s["genres_unwanted"]
    )
    assert np.allclose(s["request"], wanted, atol=1e-6)
    assert np.allclose(s["request_named_often"], wanted * OFTEN, atol=1e-5)
    near = s["like_genres"] + s["like_people"] + s["like_plot"] + s["like_labels"]
    assert np.allclose(s["request_like_mentions"], wanted * near, atol=1e-5)


def test_likeness_is_a_cosine_of_idf_weighted_mentions(scores, content):
    sides = {
        "people": [{*i.cast, *i.directors, *i.writers} for i in ITEMS],
        "labels": [{x.lower() for x in (*i.companies, *i.keywords)} for i in ITEMS],
        "genres": [genres.known(i.genres) for i in ITEMS],
    }
    weights = {1.0: {0: 0.85, 4: 1.0}, 0.0: {}}
    for name, sets in sides.items():
        known = sorted(set().union(*sets)) if name != "genres" else list(GENRES)
        table = np.array([[float(e in own) for e in known] for own in sets])
        idf = np.log((1 + SIZE) / (1 + table.sum(axis=0))) + 0.1
        table = unit(table * idf)
        taste = sum(w * table[i] for i, w in weights[1.0].items())
        assert np.allclose(scores[f"like_{name}"][4], table @ unit(taste), atol=1e-5)
        assert not scores[f"like_{name}"][0].any()
    assert scores["like_plot"][6, 0] > 0  # a ghost
    assert scores["like_newest"][4, 4] > scores["like_newest"][4, 0]
    assert scores["like_in_graph"][7].any()
    without = ContentSignals(content.catalogue)
    talk = Talk(CONTEXTS, Lexicon(content.catalogue, []))
    assert not without.scores(talk, OFTEN, np.zeros(0, dtype=np.float32))["like_in_graph"].any()


def test_words_are_held_against_documents_by_how_telling_they_are(scores):
    both = scores["words_in_document"][6]
    assert set(np.flatnonzero(both).tolist()) == {0, 1, 2}  # ghost, bakery
    assert tokens("a ghost in a bakery")[1] == "ghost"
    assert not scores["words_in_document"][1].any()
    assert scores["words_in_document_lately"][5].any() == scores["words_in_document_lately"][5, 5].astype(bool)


def test_people_often_leaves_the_item_itself_out(scores):
    people = [{*i.cast, *i.directors, *i.writers} for i in ITEMS]
    for num, own in enumerate(people):
        parts = []
        for name in own:
            others = [OFTEN[n] for n, theirs in enumerate(people) if name in theirs and n != num]
            parts.append(sum(others) / (len(others) + 1))
        wanted = np.mean(parts) if parts else 0.0
        assert np.allclose(scores["people_often"][:, num], wanted, atol=1e-5)


def test_a_context_alone_scores_as_in_a_batch(content, lexicon, scores):
    for row, context in enumerate(CONTEXTS):
        alone = content.scores(Talk([context], lexicon), OFTEN, WEIGHTS)
        for name in CONTENT:
            assert np.allclose(alone[name][0], scores[name][row], atol=1e-6), name
    assert {v.shape for v in content.scores(Talk([], lexicon), OFTEN, WEIGHTS).values()} == {(0, SIZE)}


@pytest.mark.parametrize("count", [0, 3])
def test_without_metadata_all_is_silent(count):
    bare = Catalogue(Item(str(n), f"Title {n}", 1990 + n) for n in range(count))
    found = ContentSignals(bare).scores(
        Talk(CONTEXTS, Lexicon(bare, [])), np.zeros(count, dtype=np.float32), np.zeros(0, dtype=np.float32)
    )
    assert list(found) == list(CONTENT)
    assert not any(values.any() for values in found.values())
    assert {values.shape for values in found.values()} == {(len(CONTEXTS), count)}


# ---- why ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "item", "asked", "name", "likeness"),
    [
        (2, 1, "horror and comedy", None, "comedy"),
        (2, 4, None, None, "Di Fox"),
        (3, 7, None, "Bo Ray", None),
        (4, 3, "Pixar and something for kids", None, None),
        (5, 4, "superheroes", None, "action"),
        (5, 1, "the 1980s", "Ann Lee", "Ann Lee"),
        (5, 2, None, None, None),
        (7, 5, "action", None, "Ann Lee"),
    ],
)
def test_what_is_behind_an_item(row, item, asked, name, likeness, content, lexicon):
    talk = Talk(CONTEXTS, lexicon)
    behind = content.request_behind(talk, row, item)
    assert (behind and set(behind.split(" and "))) == (asked and set(asked.split(" and ")))
    assert content.name_behind(talk, row, item) == name
    assert content.likeness_behind(talk, row, item) == likeness


def test_a_typed_title_is_the_name_behind(content, lexicon):
    talk = Talk([Context((seeker("I saw caped again"),))], lexicon)
    assert content.name_behind(talk, 0, 5) == "Caped Again (1999)"
    assert content.name_behind(talk, 0, 7) is None


def test_together_scores_saves_and_loads_with_and_without_a_graph(catalogue, content, lexicon, tmp_path):
    joint = JointSignals.fit(lexicon, [Dialogue("d", ())])
    for num, sides in enumerate((content, ContentSignals(catalogue))):
        both = Together(joint, sides)
        talk = Talk(CONTEXTS, lexicon)
        found = both.scores(talk)
        assert tuple(found) == NAMES
        assert not found["retrieved"].any()
        folder = tmp_path / str(num)
        folder.mkdir()
        both.save(folder)
        again = Together.load(folder, catalogue).scores(talk)
        assert all(np.array_equal(again[name], found[name]) for name in NAMES)
        assert (folder / "graph.npz").exists() == (num == 0)


def test_no_number_depends_on_the_order_of_sets():
    code = """
import hashlib
from pathlib import Path
import crscli.datasets.sample as sample
from crscli.catalogue import Catalogue
from crscli.datasets.jsonl import _item
from crscli.signals.facets import Facets
import json
lines = (Path(sample.__file__).parent / "items.jsonl").read_text(encoding="utf-8").splitlines()
facets = Facets(Catalogue(_item(json.loads(line)) for line in lines))
for facet in (facets.people, facets.labels, facets.plot, facets.documents):
    print(hashlib.sha256(facet.weights.indices.tobytes() + facet.weights.data.tobytes()).hexdigest())
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(said) == 1
    assert len(said.pop().split()) == 4
