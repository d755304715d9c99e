import json

import pytest

from crscli.datasets import unicrs
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.kg import KnowledgeGraph
from crscli.kg.cut import FILM_RELATIONS, Dump, cut
from crscli.kg.triples import BadLines

LINES = """
<http://dbpedia.org/resource/Film> <http://dbpedia.org/ontology/starring> <http://dbpedia.org/resource/Ann> .
<http://dbpedia.org/resource/Film> <http://dbpedia.org/ontology/based> <http://dbpedia.org/resource/Novel> .
<http://dbpedia.org/resource/Film> <http://xmlns.com/foaf/0.1/page> <http://dbpedia.org/resource/Page> .
<http://dbpedia.org/resource/Film> <http://dbpedia.org/ontology/country> <http://www.wikidata.org/entity/Q30> .
<http://dbpedia.org/resource/Film> <http://dbpedia.org/ontology/country> "dbpedia" .
<http://dbpedia.org/resource/Novel> <http://dbpedia.org/ontology/author> <http://dbpedia.org/resource/Bo> .
<http://dbpedia.org/resource/Ann> <http://dbpedia.org/ontology/spouse> <http://dbpedia.org/resource/Bo> .
<http://dbpedia.org/resource/Bo> <http://dbpedia.org/ontology/genre> <http://dbpedia.org/resource/Prose> .
<http://dbpedia.org/resource/Page> <http://dbpedia.org/ontology/genre> <http://dbpedia.org/resource/Prose> .
<http://dbpedia.org/resource/Other> <http://dbpedia.org/ontology/starring> <http://dbpedia.org/resource/Film> .
""".lstrip()
SEEDS = {f"<http://dbpedia.org/resource/{name}>" for name in ("Film", "Lonely")}


@pytest.fixture
def around(tmp_path):
    path = tmp_path / "dump.nt"
    path.write_text(LINES, encoding="utf-8")

    def made(**more):
        found = cut(Dump([path]), SEEDS, **more)
        short = [tuple(name.rsplit("/", 1)[1].rstrip(">") for name in triple) for triple in found.triples]
        return short, found.isolated_seeds

    return made


def test_relations_are_dropped_only_after_they_were_followed(around):
    first = ("Film", "starring", "Ann")
    by_a_dropped_one = ("Novel", "author", "Bo")
    assert around() == ([first, by_a_dropped_one], 1)


def test_hops_and_relations_can_be_chosen(around):
    assert around(hops=1)[0] == [("Film", "starring", "Ann")]
    assert around(hops=3)[0] == [("Bo", "genre", "Prose"), ("Film", "starring", "Ann"), ("Novel", "author", "Bo")]
    based = "<http://dbpedia.org/ontology/based>"
    assert around(relations=[based])[0] == [("Film", "based", "Novel")]


def test_bad_lines_are_counted_once_however_often_a_dump_is_read(tmp_path):
    path = tmp_path / "dump.nt"
    path.write_text(LINES + "broken\n", encoding="utf-8")
    told = []
    bad = BadLines(1, told.append)
    assert len(cut(Dump([path], bad), SEEDS, hops=3).triples) == 3
    assert (bad.count, len(told)) == (1, 1)


def test_the_relations_of_unicrs_are_kept():
    assert len(FILM_RELATIONS) == 24


@pytest.mark.realdata
def test_cutting_redial_films_gives_the_counts_of_the_reference(shared_data):
    folder = shared_data / "kg" / "redial_unicrs"
    assert set(json.loads((folder / "relation_set.json").read_text())) == set(FILM_RELATIONS)
    names = {num: name for name, num in json.loads((folder / "entity2id.json").read_text()).items()}
    seeds = {names[num] for num in json.loads((folder / "item_ids.json").read_text())}
    found = cut(Dump([shared_data / "dbpedia_raw" / "redial_subkg.reconstructed.nt.gz"]), seeds)
    graph = KnowledgeGraph.build(found.triples, sorted(seeds), {seed: seed for seed in seeds})
    assert (len(seeds), found.isolated_seeds) == (6281, 329)
    assert (len(graph.entities), len(graph.triples), len(graph.relations)) == (31015, 80990, 24)


@pytest.mark.realdata
def test_cutting_inspired_films_gives_the_counts_of_the_reference(shared_data):
    corpus = unicrs.read(Source(shared_data / "inspired", unicrs.ALLOW), bad=BadRows())
    seeds = {f"<{item.item_id}>" for item in corpus.items}
    relations = json.loads((shared_data / "kg" / "inspired_unicrs" / "relation_set.json").read_text())
    dump = Dump([shared_data / "dbpedia_raw" / "inspired_subkg.reconstructed.nt.gz"])
    found = cut(dump, seeds, relations=relations)
    graph = KnowledgeGraph.build(found.triples, sorted(seeds), {seed: seed for seed in seeds})
    assert (len(seeds), len(graph.entities), len(graph.triples), len(graph.relations)) == (1472, 16734, 29577, 12)
