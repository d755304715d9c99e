from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

from crscli import evaluation
from crscli.catalogue import Catalogue, Item
from crscli.datasets import inspired, pecrs, redial, unicrs
from crscli.datasets.candidates import read_candidates
from crscli.datasets.corpus import Corpus, cut_valid
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import Dialogue, Link, Turn
from crscli.errors import DataError, UsageError
from crscli.kg.published import find, import_graph, read_item_uris
from crscli.kg.published import read as read_published
from crscli.models.trivial import Copy, CopyPopularity, Popularity
from crscli.protocols import PROTOCOLS, Protocol, protocol_for, select
from crscli.recommender import FitData

CATALOGUE = Catalogue(Item(i, i) for i in "abcdef")
PLAIN = Protocol("plain", "for tests", "here")


def talk(*turns, num=1, **more):
    """A dialogue of turns such as "s:ab" (the seeker names a and b) or "r:" (the recommender names nothing)."""
    shaped = []
    for turn in turns:
        role, _, items = turn.partition(":")
        name = {"s": "seeker", "r": "recommender"}[role]
        shaped.append(Turn(name, turn, tuple(Link("item", i) for i in items)))
    return Dialogue(f"d{num}", tuple(shaped), **more)


def rows(protocol, *dialogues, splits=None, **more):
    return select(protocol, splits or {"test": dialogues}, "test", CATALOGUE, corpus="mine", form="jsonl", **more)


def labels(protocol, *dialogues, **more):
    return [(r.turn_num, "".join(r.labels)) for r in rows(protocol, *dialogues, **more).rows]


# ---- the rules, one by one ------------------------------------------------------------------------------------


def test_a_row_is_a_merged_recommender_turn_with_an_item_and_a_context():
    found = talk("r:a", "s:b", "s:c", "r:d", "r:e", "s:f", "r:", "s:", "r:a")
    assert labels(PLAIN, found) == [(2, "de"), (6, "a")]
    row = rows(PLAIN, found).rows[1]
    assert row.dialogue_id == "d1"
    assert [t.text for t in row.context.turns] == ["r:a", "s:b s:c", "r:d r:e", "s:f", "r:", "s:"]
    assert row.repeated == (True,)


def test_without_merging_each_message_is_a_row():
    single = replace(PLAIN, merge=False)
    assert labels(single, talk("s:", "r:d", "r:de")) == [(1, "d"), (2, "de")]
    assert rows(single, talk("s:", "r:d", "r:de")).rows[1].repeated == (True, False)


def test_new_only_leaves_out_what_the_context_names_and_empty_rows():
    new = replace(PLAIN, new_only=True)
    found = talk("s:a", "r:ab", "s:", "r:ab", "s:", "r:c")
    assert labels(new, found) == [(1, "b"), (5, "c")]
    assert rows(PLAIN, found).rows[0].repeated == (True, False)


def test_new_only_judges_the_whole_context_even_where_a_model_sees_less():
    short = replace(PLAIN, new_only=True, context_turns=1)
    assert labels(short, talk("s:a", "r:b", "s:", "r:ac")) == [(1, "b"), (3, "c")]


def test_distinct_labels_count_once_and_others_each_time():
    assert labels(PLAIN, talk("s:", "r:abab")) == [(1, "ab")]
    assert labels(replace(PLAIN, distinct=False), talk("s:", "r:abab")) == [(1, "abab")]
    assert rows(replace(PLAIN, distinct=False), talk("s:", "r:aba")).counts["labels"] == 3


def test_filled_in_needs_the_item_in_the_recommenders_form():
    form = replace(PLAIN, filled_in=True)
    with_form = talk("s:", "r:abc", forms={"recommender": {"a": {"liked": 1}}, "seeker": {"b": {"liked": 1}}})
    assert labels(form, with_form) == [(1, "a")]
    assert labels(form, talk("s:", "r:abc", forms={"seeker": {"b": {}}})) == []
    assert labels(form, talk("s:", "r:abc", recommender_id="9")) == []
    assert labels(form, talk("s:", "r:abc")) == [(1, "abc")], "data without any forms are taken as they are"


def test_a_model_sees_as_many_turns_as_the_protocol_says():
    found = talk("s:a", "r:b", "s:c", "r:d")
    contexts = [[t.text for t in r.context.turns] for r in rows(replace(PLAIN, context_turns=2), found).rows]
    assert contexts == [["s:a"], ["r:b", "s:c"]]


def test_speakers_may_be_both():
    both = replace(PLAIN, speakers=("seeker", "recommender"))
    assert labels(both, talk("s:a", "r:b", "s:c")) == [(1, "b"), (2, "c")]


def test_the_candidates_are_all_items_or_what_recommenders_name_in_any_split():
    splits = {"train": [talk("r:c", "s:d", num=2)], "test": [talk("s:a", "r:b")]}
    assert rows(PLAIN, splits=splits).candidates.tolist() == [0, 1, 2, 3, 4, 5]
    named = rows(replace(PLAIN, candidates="recommended"), splits=splits)
    assert named.candidates.tolist() == [1, 2]
    assert named.counts["candidates"] == 2
    assert named.counts["labels_outside_candidates"] == 0


def test_a_list_makes_only_its_items_labels_where_the_protocol_is_of_a_list():
    listed = np.array([1, 2])
    of_list = rows(replace(PLAIN, candidates="listed"), talk("s:a", "r:ab", "s:", "r:d"), listed=listed)
    assert [r.labels for r in of_list.rows] == [("b",)]
    assert of_list.candidates.tolist() == [1, 2]
    plain = rows(PLAIN, talk("s:a", "r:ab", "s:", "r:d"), listed=listed)
    assert [r.labels for r in plain.rows] == [("a", "b"), ("d",)]
    assert plain.counts["labels_outside_candidates"] == 2


AB = np.array([True, True, False, False, False, False])


def test_a_protocol_of_a_graph_takes_its_films_alone_as_labels_and_as_candidates():
    found = [talk("s:c", "r:ac", "s:", "r:d")]
    of_graph = rows(replace(PLAIN, graph="unicrs", candidates="linked"), *found, linked=AB)
    assert [r.labels for r in of_graph.rows] == [("a",)]
    assert of_graph.candidates.tolist() == [0, 1]
    assert of_graph.candidates.dtype == np.int64
    everything = rows(replace(PLAIN, graph="unicrs"), *found, linked=AB)
    assert len(everything.candidates) == 6
    both = rows(replace(PLAIN, graph="unicrs", candidates="listed"), *found, linked=AB, listed=np.array([0, 3]))
    assert [r.labels for r in both.rows] == [("a",)]
    assert both.candidates.tolist() == [0, 3]
    assert [r.labels for r in rows(PLAIN, *found, linked=AB).rows] == [("a", "c"), ("d",)], "no graph in the protocol"


def test_rows_after_an_entity_need_a_film_of_the_graph_a_person_or_a_genre_before():
    after = replace(PLAIN, graph="unicrs", candidates="linked", entity_before=True)
    assert [r.turn_num for r in rows(after, talk("s:c", "r:a", "s:", "r:b"), linked=AB).rows] == [3]
    spoken = Dialogue("d", (Turn("seeker", "any comedies?"), Turn("recommender", "b", (Link("item", "b"),))))
    assert len(rows(after, spoken, linked=AB).rows) == 1
    person = Turn("seeker", "with him", (Link("person", "Adam Sandler", 5, 8),))
    assert len(rows(after, Dialogue("d", (person, spoken.turns[1])), linked=AB).rows) == 1


@pytest.mark.parametrize("name", ["unicrs", "ievalm", "crslab", "reficr"])
def test_a_protocol_of_a_graph_wants_the_graph_and_tells_how_to_import_it(name):
    with pytest.raises(UsageError, match=f"protocol {name} counts the films of a graph") as caught:
        select(PROTOCOLS[name], {"test": []}, "test", CATALOGUE, corpus="redial", form="published")
    assert caught.value.hint.startswith("import it: crs build-kg --from FOLDER (with ")
    assert ".json" in caught.value.hint


def test_counts_tell_points_named_labels_and_rows():
    found = rows(PLAIN, talk("r:f", "s:", "r:aab", "s:", "r:", num=1), talk("s:", "r:c", num=2), talk("s:", num=3))
    assert found.counts == {
        "dialogues": 3,
        "rows": 2,
        "labels": 3,
        "named": 4,
        "points": 5,
        "responses": 3,
        "candidates": 6,
        "items": 6,
        "labels_outside_candidates": 0,
    }
    assert found.dialogue_nums.tolist() == [0, 1]
    assert found.dialogue_nums.dtype == np.int64
    assert not found.checked


@pytest.mark.parametrize(("aggregate", "value"), [("micro", 2 / 3), ("row", 3 / 4)])
def test_the_aggregate_tells_what_figures_are_means_over(aggregate, value):
    test_set = rows(replace(PLAIN, aggregate=aggregate), talk("s:a", "r:ab", "s:", "r:b"))
    found = evaluation.figures(evaluation.predict("copy", Copy.fit(CATALOGUE, FitData([])), test_set,
                                                  exclude_mentioned=False), draws=10)  # fmt: skip
    assert found.estimates[test_set.protocol.aggregate]["all"]["recall@10"].value == pytest.approx(value)


# ---- names, forms and refusals --------------------------------------------------------------------------------


def test_a_corpus_and_form_have_a_protocol_of_their_own():
    assert protocol_for(None, "redial", "published").name == "redial-merged-all"
    assert protocol_for(None, "redial", "pecrs").name == "mese-pecrs"
    assert protocol_for(None, "inspired", "pecrs").name == "inspired-pecrs"
    assert protocol_for(None, "inspired", "unicrs").name == "inspired-unicrs"
    assert protocol_for(None, "inspired", "published").name == "turns"
    assert protocol_for(None, "mine", "jsonl").name == "turns"
    assert protocol_for("turns-new", "mine", "jsonl").name == "turns-new"


def test_an_unknown_protocol_suggests_the_nearest():
    with pytest.raises(UsageError, match="unknown protocol 'redial-merged'") as caught:
        protocol_for("redial-merged", "redial", "published")
    assert "did you mean" in caught.value.hint
    assert "redial-merged-all" in caught.value.hint


def test_a_form_the_protocol_is_not_made_for_is_refused_and_what_fits_is_named():
    with pytest.raises(UsageError) as caught:
        protocol_for("redial-merged-all", "redial", "pecrs")
    assert caught.value.message == "protocol redial-merged-all is not defined on redial in the form pecrs"
    assert caught.value.hint == (
        "fetch redial --form published, or use a protocol for this data: mese-pecrs, reficr, turns, turns-new"
    )
    with pytest.raises(UsageError, match="protocol inspired-pecrs is not defined on mine in the form jsonl"):
        protocol_for("inspired-pecrs", "mine", "jsonl")


def test_a_missing_split_is_told_with_those_there_are():
    with pytest.raises(UsageError, match="no test split in this dataset") as caught:
        rows(PLAIN, splits={"train": [], "valid": []})
    assert caught.value.hint.startswith("there is: train, valid;")


def test_a_protocol_of_a_list_wants_the_list_for_published_data_only():
    with pytest.raises(UsageError, match="protocol mese-pecrs ranks the films of a list") as caught:
        select(PROTOCOLS["mese-pecrs"], {"test": []}, "test", CATALOGUE, corpus="redial", form="published")
    assert "--candidates FILE" in caught.value.hint
    splits = {"test": [talk("s:", "r:a")]}
    found = select(PROTOCOLS["mese-pecrs"], splits, "test", CATALOGUE, corpus="redial", form="pecrs")
    assert found.counts["labels"] == 1


EXPECTS = replace(
    PLAIN, expected={("mine", "jsonl", "test"): {"dialogues": 1, "rows": 1, "labels": 2, "candidates": 6}}
)


def test_other_counts_on_complete_data_are_an_error_that_tells_them():
    with pytest.raises(DataError) as caught:
        rows(EXPECTS, talk("s:", "r:a", "s:", "r:bcd"))
    assert caught.value.message == ("protocol plain on mine (jsonl, test): rows 2 instead of 1; labels 4 instead of 2")
    assert "fetch the dataset again" in caught.value.hint


def test_right_counts_are_checked_and_partial_data_are_not():
    assert rows(EXPECTS, talk("s:", "r:ab")).checked
    assert not rows(EXPECTS, talk("s:", "r:a"), talk("s:", "r:a", num=2)).checked
    assert not rows(PLAIN, talk("s:", "r:ab")).checked


def test_a_users_own_list_of_candidates_is_another_measurement_and_no_difference_of_the_data():
    assert not rows(EXPECTS, talk("s:", "r:ab"), listed=np.array([0, 1])).checked
    with pytest.raises(DataError, match="labels 1 instead of 2") as caught:
        rows(replace(EXPECTS, candidates="listed"), talk("s:", "r:ab"), listed=np.array([0]))
    assert "--candidates" in caught.value.hint


# ---- the published data ---------------------------------------------------------------------------------------


@dataclass
class Real:
    corpus: Corpus
    catalogue: Catalogue

    def select(self, protocol, split="test", **more):
        where = {"corpus": self.corpus.name, "form": self.corpus.form}
        return select(PROTOCOLS[protocol], self.corpus.splits, split, self.catalogue, **where, **more)

    def recalls(self, model, test_set, aggregation):
        """Recall at 1, 10 and 50 of a trivial model that has learnt from train only, as a table prints them."""
        data = FitData(self.corpus.splits.get("train", []), self.corpus.splits.get("valid", []), refit=False)
        predicted = evaluation.predict("m", model.fit(self.catalogue, data), test_set, exclude_mentioned=False)
        estimates = evaluation.figures(predicted, draws=10).estimates[aggregation]["all"]
        return [f"{estimates[f'recall@{k}'].value:.4f}" for k in (1, 10, 50)]


def real(reader, folder):
    corpus = reader.read(Source(folder, reader.ALLOW), bad=BadRows())
    assert corpus.notes == [n for n in corpus.notes if n.startswith("no ")]
    return Real(corpus, Catalogue(corpus.items))


@pytest.fixture(scope="session")
def redial_published(shared_data):
    return real(redial, shared_data / "redial")


@pytest.fixture(scope="session")
def redial_pecrs(shared_data):
    return real(pecrs, shared_data / "pecrs" / "REDIAL")


@pytest.fixture(scope="session")
def inspired_published(shared_data):
    return real(inspired, shared_data / "inspired")


@pytest.fixture(scope="session")
def inspired_pecrs(shared_data):
    return real(pecrs, shared_data / "pecrs" / "INSPIRED")


@pytest.fixture(scope="session")
def inspired_unicrs(shared_data):
    return real(unicrs, shared_data / "inspired")


def counted(test_set, *names):
    assert test_set.checked
    return tuple(test_set.counts[name] for name in names)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("protocol", "counts"),
    [
        ("redial-merged-all", (1342, 3617, 4897)),
        ("redial-merged-new", (1342, 3372, 4426)),
        ("redial-message-all", (1342, 4198, 4975)),
        ("redial-message-new", (1342, 3838, 4472)),
    ],
)
def test_redial_counts(redial_published, protocol, counts):
    test_set = redial_published.select(protocol)
    assert counted(test_set, "dialogues", "rows", "labels") == counts
    assert test_set.counts["candidates"] == 6924
    assert test_set.counts["labels_outside_candidates"] == 0
    if protocol == "redial-merged-all":
        assert test_set.counts["named"] == 4933


@pytest.mark.realdata
def test_redial_train_and_its_latest_dialogues(redial_published):
    splits = redial_published.corpus.splits
    assert {s: len(ds) for s, ds in splits.items()} == {"train": 4755, "test": 1342}
    train, valid = cut_valid(splits["train"])
    assert (len(train), len(valid)) == (4755 - 571, 571)
    assert min(d.order for d in valid) >= 17043 > max(d.order for d in train)


@pytest.mark.realdata
def test_mese_pecrs_counts_are_equal_from_the_raw_file_and_from_the_released_form(
    redial_published, redial_pecrs, shared_data
):
    listed = read_candidates(shared_data / "metadata" / "pecrs_redial_movie_db.jsonl", redial_published.catalogue)
    movie_db = read_candidates(shared_data / "pecrs" / "REDIAL" / "movie_db", redial_published.catalogue)
    assert listed.tolist() == movie_db.tolist()
    raw = redial_published.select("mese-pecrs", listed=listed)
    released = redial_pecrs.select("mese-pecrs")
    assert counted(raw, "dialogues", "points", "labels", "rows") == (1342, 8329, 4751, 3509)
    assert counted(released, "dialogues", "points", "labels", "rows") == (1342, 8329, 4751, 3509)
    assert [len(r.labels) for r in raw.rows] == [len(r.labels) for r in released.rows]


@pytest.fixture(scope="session")
def redial_linked(redial_published, shared_data):
    """For each published graph of ReDial, which items are in it."""
    given = read_item_uris(shared_data / "kg" / "redial_kgsf" / "id2entity.json")
    found = {}
    for name in ("unicrs", "ievalm", "kgsf"):
        graph = read_published(*find(shared_data / "kg" / f"redial_{name}"))
        uris = given if name == "unicrs" else {}
        found[name] = import_graph(graph, redial_published.catalogue, uris)[0].linked
    return found


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("protocol", "found", "published"),
    [
        ("unicrs", (3489, 4728), (3500, 4740)),
        ("ievalm", (3317, 4453), (3341, 4499)),
        ("crslab", (3461, 4032), (3477, 4048)),
        ("reficr", (3449, 4605), (3457, 4615)),
    ],
)
def test_protocols_of_graphs_come_within_a_hundredth_of_the_published_counts(
    redial_published, redial_linked, shared_data, protocol, found, published
):
    linked = redial_linked[PROTOCOLS[protocol].graph]
    movie_db = shared_data / "metadata" / "pecrs_redial_movie_db.jsonl"
    listed = read_candidates(movie_db, redial_published.catalogue) if protocol == "reficr" else None
    counts = redial_published.select(protocol, linked=linked, listed=listed).counts
    assert (counts["rows"], counts["labels"]) == pytest.approx(found, rel=0.002)
    assert (counts["rows"], counts["labels"]) == pytest.approx(published, rel=0.011)


@pytest.mark.realdata
def test_crslab_has_one_row_less_than_kgsfs_links_give_with_opening_messages(redial_published, redial_linked):
    linked = set(np.array(redial_published.catalogue.vocabulary.ids)[redial_linked["kgsf"]])
    messages = [t for d in redial_published.corpus.splits["test"] for t in d.turns if t.role == "recommender"]
    named = [n for n in (sum(i in linked for i in t.items) for t in messages) if n]
    assert (len(named), sum(named)) == (3478, 4049)


@pytest.mark.realdata
def test_inspired_pecrs_counts(inspired_pecrs):
    assert {s: len(ds) for s, ds in inspired_pecrs.corpus.splits.items()} == {"train": 801, "valid": 99, "test": 99}
    assert counted(inspired_pecrs.select("inspired-pecrs"), "points", "named", "rows", "labels") == (993, 279, 246, 276)
    assert counted(inspired_pecrs.select("inspired-pecrs", "valid"), "points", "named") == (977, 305)


@pytest.mark.realdata
def test_inspired_unicrs_counts(inspired_unicrs):
    assert {s: len(ds) for s, ds in inspired_unicrs.corpus.splits.items()} == {"train": 801, "valid": 99, "test": 99}
    assert counted(inspired_unicrs.select("inspired-unicrs"), "rows", "labels", "candidates") == (227, 256, 1123)
    assert counted(inspired_unicrs.select("inspired-unicrs", "valid"), "rows", "labels") == (245, 273)
    assert len(inspired_unicrs.catalogue) == 1472


@pytest.mark.realdata
def test_inspired_published_counts(inspired_published):
    assert {s: len(ds) for s, ds in inspired_published.corpus.splits.items()} == {"train": 801, "valid": 99, "test": 99}
    assert counted(inspired_published.select("turns"), "rows", "labels") == (264, 304)
    assert counted(inspired_published.select("turns", "valid"), "rows", "labels") == (282, 320)


@pytest.mark.realdata
def test_every_link_with_a_place_stands_at_the_name_of_its_item(redial_published, redial_pecrs, inspired_pecrs):
    for data, places in ((redial_published, 30_000), (redial_pecrs, 7_000), (inspired_pecrs, 3_000)):
        names = {i.item_id: i.name for i in data.corpus.items}
        turns = [t for ds in data.corpus.splits.values() for d in ds for t in d.turns]
        placed = [(x.id, t.text[x.start : x.end]) for t in turns for x in t.links if x.start >= 0]
        assert len(placed) > places
        assert all(names[item_id] == text for item_id, text in placed)


@pytest.mark.realdata
def test_every_mention_is_an_item(redial_published, redial_pecrs, inspired_published, inspired_pecrs, inspired_unicrs):
    for data in (redial_published, redial_pecrs, inspired_published, inspired_pecrs, inspired_unicrs):
        named = {i for ds in data.corpus.splits.values() for d in ds for t in d.turns for i in t.items}
        assert named <= set(data.catalogue.vocabulary.ids)
        assert all(i.title.strip() for i in data.catalogue)


# ---- the trivial rows -----------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_copy_on_redial(redial_published):
    test_set = redial_published.select("redial-merged-all")
    data = FitData([], [], refit=False)
    predicted = evaluation.predict("copy", Copy.fit(redial_published.catalogue, data), test_set,
                                   exclude_mentioned=False)  # fmt: skip
    estimates = evaluation.figures(predicted, draws=10).estimates
    found = {a: [f"{estimates[a]['all'][f'recall@{k}'].value:.4f}" for k in (1, 10, 50)] for a in estimates}
    assert found == {
        "micro": ["0.0476", "0.0962", "0.0962"],
        "row": ["0.0435", "0.0909", "0.0909"],
        "any": ["0.0644", "0.1172", "0.1172"],
    }


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("model", "recalls"),
    [
        (Copy, ["0.1196", "0.1775", "0.1775"]),
        (Popularity, ["0.0362", "0.1522", "0.3406"]),
        (CopyPopularity, ["0.1232", "0.2717", "0.4239"]),
    ],
)
def test_trivial_rows_on_inspired_pecrs(inspired_pecrs, model, recalls):
    assert inspired_pecrs.recalls(model, inspired_pecrs.select("inspired-pecrs"), "micro") == recalls


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("model", "recalls"),
    [
        (Copy, ["0.1133", "0.1641", "0.1641"]),
        (Popularity, ["0.0430", "0.1484", "0.3555"]),
        (CopyPopularity, ["0.1172", "0.2578", "0.4258"]),
    ],
)
def test_trivial_rows_on_inspired_unicrs_where_mentions_outside_the_candidates_have_no_rank(
    inspired_unicrs, model, recalls
):
    assert inspired_unicrs.recalls(model, inspired_unicrs.select("inspired-unicrs"), "micro") == recalls


@pytest.mark.realdata
def test_the_published_rows_on_inspired_unicrs_let_mentions_outside_the_candidates_keep_their_rank(inspired_unicrs):
    test_set = inspired_unicrs.select("inspired-unicrs")
    everything = replace(test_set, candidates=np.arange(len(inspired_unicrs.catalogue)))
    assert inspired_unicrs.recalls(Copy, everything, "micro") == ["0.1094", "0.1641", "0.1641"]
    # Ties of popularity by first occurrence in train, as a Counter lists them.
    train = inspired_unicrs.corpus.splits["train"]
    named = Counter(i for d in train for t in d.turns if t.role == "recommender" for i in t.items)
    popular = [i for i, _ in named.most_common()]
    hits = {1: 0, 10: 0, 50: 0}
    for row in test_set.rows:
        ranking = list(dict.fromkeys([*row.context.mentions, *popular]))
        for k in hits:
            hits[k] += sum(label in ranking[:k] for label in row.labels)
    assert [f"{hits[k] / 256:.4f}" for k in hits] == ["0.1133", "0.2578", "0.4297"]
