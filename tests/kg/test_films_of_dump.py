import csv
import json

import pytest

from crscli.catalogue import Item, split_title
from crscli.kg.cut import Dump
from crscli.kg.films import film_names, films_of_dump, further_names, match, renamed

RESOURCE = "<http://dbpedia.org/resource/{}>"


def matched(items, resources, further=(), **more):
    """Item id -> the short name of its film; items are "title (year)" by id."""
    catalogue = [Item(item_id, *split_title(name)) for item_id, name in items.items()]
    names = [n for r in resources for n in film_names(RESOURCE.format(r))]
    others = [n for called, r in further for n in film_names(RESOURCE.format(r), RESOURCE.format(called))]
    found = match(catalogue, names, others, **more)
    return {i: e[len("<http://dbpedia.org/resource/") : -1] for i, e in found.linked.items()}, found.ambiguous


@pytest.mark.parametrize(
    ("name", "resources", "film"),
    [
        ("Heat (1995)", ["Heat_(1995_film)", "Heat_(1986_film)", "Heat"], "Heat_(1995_film)"),
        ("Heat (1995)", ["Heat", "Heat_(film)"], "Heat_(film)"),
        ("Heat (1995)", ["Heat", "Heat_(1986_film)"], "Heat"),
        ("Heat (1995)", ["Heat_(1996_film)", "Heat_(TV_series)"], "Heat_(1996_film)"),
        ("Heat (1995)", ["Heat_(1986_film)"], None),
        ("Heat (1995)", ["Heat_(2004_TV_series)"], None),
        ("Heat (1995)", ["Heat_(TV_series)", "Heat_(novel)"], "Heat_(TV_series)"),
        ("Heat (1995)", ["Heat_(novel)"], "Heat_(novel)"),
        ("Heat", ["Heat_(1995_film)"], "Heat_(1995_film)"),
        ("Heat", ["Heat_(1995_film)", "Heat_(1986_film)"], None),
        ("Frozen (2010)", ["Frozen_(2010_American_film)", "Frozen_(2013_film)"], "Frozen_(2010_American_film)"),
        ("Matrix, The (1999)", ["The_Matrix"], "The_Matrix"),
        ("Law & Order (1990)", ["Law_and_Order_(1990_TV_series)"], "Law_and_Order_(1990_TV_series)"),
        ("The Human Centipede 3 (2015)", ["The_Human_Centipede_3_(Final_Sequence)"],
         "The_Human_Centipede_3_(Final_Sequence)"),
        ("2001: A Space Odyssey (1968)", ["2001:_A_Space_Odyssey_(film)", "2001:_A_Space_Odyssey_(novel)"],
         "2001:_A_Space_Odyssey_(film)"),
    ],
)  # fmt: skip
def test_an_item_is_the_best_film_of_its_title_and_year(name, resources, film):
    assert matched({"1": name}, resources)[0] == ({} if film is None else {"1": film})


def test_remakes_never_become_one_film():
    both = {"old": "Psycho (1960)", "new": "Psycho (1998)"}
    assert matched(both, ["Psycho_(1960_film)", "Psycho_(1998_film)"])[0] == {
        "old": "Psycho_(1960_film)", "new": "Psycho_(1998_film)",
    }  # fmt: skip
    assert matched(both, ["Psycho_(film)", "Psycho_(1998_film)"])[0] == {
        "old": "Psycho_(film)", "new": "Psycho_(1998_film)",
    }  # fmt: skip
    linked, ambiguous = matched(both, ["Psycho_(film)"])
    assert linked == {}
    assert sorted(ambiguous) == ["Psycho (1960)", "Psycho (1998)"]


def test_a_film_that_is_linked_already_is_not_given_to_its_remake():
    both = {"old": "Psycho (1960)", "new": "Psycho (1998)", "same": "Psycho (1961)"}
    linked, ambiguous = matched(both, ["Psycho_(film)"], settled={"old": RESOURCE.format("Psycho_(film)")})
    assert linked == {"old": "Psycho_(film)", "same": "Psycho_(film)"}
    assert ambiguous == ["Psycho (1998)"]


def test_several_ids_of_one_film_share_it():
    ids = {"1": "Heat (1995)", "2": "Heat (1995)", "3": "Heat", "4": "heat (1996)"}
    assert set(matched(ids, ["Heat_(film)"])[0]) == {"1", "2", "3", "4"}


def test_other_names_count_where_no_film_is_called_so():
    further = [("T2", "Terminator_2"), ("Alien_(1979_film)", "Alien_(film)"), ("Heat", "Other")]
    items = {"1": "T2 (1991)", "2": "Alien (1979)", "3": "Alien (2019)", "4": "Heat (1995)"}
    linked, _ = matched(items, ["Terminator_2", "Alien_(film)", "Heat_(film)", "Other"], further)
    assert linked == {"1": "Terminator_2", "2": "Alien_(film)", "4": "Heat_(film)"}


def test_aliases_of_an_item_are_titles_too():
    found = match([Item("1", "Seven", 1995, aliases=("Se7en",))], film_names(RESOURCE.format("Se7en")))
    assert found.linked == {"1": RESOURCE.format("Se7en")}


def test_films_and_their_other_names_are_found_in_dumps(tmp_path):
    resource = "<http://dbpedia.org/resource/{}> <http://dbpedia.org/ontology/{}> <http://dbpedia.org/resource/{}> .\n"
    dump, renames = tmp_path / "dump.nt", tmp_path / "redirects.nt"
    dump.write_text(
        resource.format("T_2", "starring", "Ann") + resource.format("Ann", "spouse", "Bo"), encoding="utf-8"
    )
    rows = [("T2", "wikiPageRedirects", "T_2"), ("T", "wikiPageDisambiguates", "T_2"), ("X", "seeAlso", "T_2"),
            ("Y", "wikiPageRedirects", "Ann")]  # fmt: skip
    renames.write_text("".join(resource.format(*row) for row in rows), encoding="utf-8")
    films = films_of_dump(Dump([dump]))
    assert films == {RESOURCE.format("T_2")}
    assert [n.title for n in further_names(Dump([renames]), films)] == ["T2", "T"]
    links = {"1": RESOURCE.format("T2"), "2": RESOURCE.format("T"), "3": RESOURCE.format("Z")}
    assert renamed(Dump([renames]), links) == links | {"1": RESOURCE.format("T_2")}


@pytest.mark.realdata
def test_titles_and_years_lead_where_kgsf_linked_redial(shared_data):
    """Of the films that KGSF links and the dump has, at least 99 % are found and at most 0.2 % are others."""
    with (shared_data / "redial" / "movies_with_mentions.csv").open(newline="", encoding="utf-8") as file:
        items = [Item(row["movieId"], *split_title(row["movieName"])) for row in csv.DictReader(file)]
    films = films_of_dump(Dump([shared_data / "dbpedia_raw" / "redial_subkg.reconstructed.nt.gz"]))
    found = match(items, (n for film in films for n in film_names(film))).linked
    gold = json.loads((shared_data / "kg" / "redial_kgsf" / "id2entity.json").read_text(encoding="utf-8"))
    there = {i: film for i, film in gold.items() if film in films}
    assert len(there) == 4975
    assert sum(found.get(i) == film for i, film in there.items()) >= 0.99 * len(there)
    assert sum(i in found and found[i] != film for i, film in there.items()) <= 0.002 * len(there)
    years = {}
    for item in items:
        if item.item_id in found and item.year is not None:
            years.setdefault(found[item.item_id], set()).add(item.year)
    assert max(max(y) - min(y) for y in years.values()) <= 1
