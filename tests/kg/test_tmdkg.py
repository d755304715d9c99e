from dataclasses import replace

import pytest

from crscli.catalogue import Catalogue, Item
from crscli.kg.tmdkg import Credit, tmdkg

FILMS = [
    Item(
        str(num), f"Film {num}", 2000 + num, ("Drama",), (f"Rare {num}",),
        tuple(["Often"] + [f"Extra {num}-{n}" for n in range(3)] + ["Fifth" if num < 4 else f"X{num}", "Sixth"]),
        ("Heist", f"only {num}"), "", ("Wit",), ("A24",), "en" if num else "", ids=(f"tmdb:{num}",),
    )
    for num in range(12)
]  # fmt: skip


def edges(graph, item_id=None):
    ids = graph.entities.ids
    found = {(ids[h], graph.relations.ids[r], ids[t]) for h, r, t in graph.triples}
    return found if item_id is None else {edge[1:] for edge in found if edge[0] == f"item:{item_id}"}


def test_rare_people_keywords_and_companies_are_left_out_but_never_directors_and_writers():
    assert edges(tmdkg(Catalogue(FILMS)).graph, 1) == {
        ("genre", "genre:drama"), ("cast", "person:Often"), ("cast", "person:Fifth"), ("keyword", "keyword:heist"),
        ("company", "company:a24"), ("language", "language:en"), ("directing", "person:Rare 1"),
        ("writing", "person:Wit"),
    }  # fmt: skip


def test_the_paper_prunes_directors_and_writers_like_all_of_the_crew():
    made = edges(tmdkg(Catalogue(FILMS), paper=True).graph, 1)
    assert ("directing", "person:Rare 1") not in made
    assert ("writing", "person:Wit") in made, "twelve credits are enough"
    ten = edges(tmdkg(Catalogue(FILMS[:10]), paper=True).graph, 1)
    assert ("writing", "person:Wit") not in ten


def test_only_the_first_five_of_the_cast_count():
    every = {tail for _, _, tail in edges(tmdkg(Catalogue(FILMS)).graph)}
    assert "person:Fifth" in every, "in four films"
    assert "person:Sixth" not in every, "in twelve, but never among the first five"
    assert "person:Fifth" not in {tail for _, _, tail in edges(tmdkg(Catalogue(FILMS[1:])).graph)}, "in three"


def test_crew_is_grouped_by_department_and_counted_over_all_of_them():
    sound = [Credit(str(n), "Sound", "Mixer", "Busy") for n in range(6)]
    visual = [Credit(str(n), "Visual Effects", "Artist", "Busy") for n in range(5)]
    acting = [Credit(str(n), "Acting", "Actor", "Star") for n in range(12)]
    director = [Credit("0", "Directing", "Director", "One Film")]
    graph = tmdkg(Catalogue(FILMS), [*sound, *visual, *acting, *director]).graph
    assert ("sound", "person:Busy") in edges(graph, 5)
    assert ("visual effects", "person:Busy") in edges(graph, 4)
    assert ("directing", "person:One Film") in edges(graph, 0)
    assert ("directing", "person:Rare 0") not in edges(graph, 0), "credits tell the whole crew of a film"
    assert ("directing", "person:Rare 11") in edges(graph, 11), "which has no credits"
    assert "person:Star" not in graph.entities
    fewer = tmdkg(Catalogue(FILMS), [*sound, *visual[1:]]).graph
    assert "person:Busy" not in fewer.entities


def test_a_graph_has_items_on_one_side_and_what_is_known_of_them_on_the_other():
    for head, _, tail in edges(tmdkg(Catalogue(FILMS)).graph):
        assert head.startswith("item:")
        assert not tail.startswith("item:")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("Emma", 2020, ()), ("Emma", 1996, ()), False),
        (("Emma", 2020, ()), ("EMMA", 2020, ()), True),
        (("Emma", None, ()), ("Emma", None, ()), False),
        (("Emma", 2020, ("tmdb:1",)), ("Emma", 2020, ("tmdb:2",)), False),
        (("Emma", 2020, ("tmdb:1",)), ("Emma.", 2019, ("tmdb:1",)), True),
        (("Emma", 2020, ("tmdb:1",)), ("Emma", 2020, ("imdb:tt1",)), True),
        (("Emma", 2020, ("tmdb:1",)), ("Emma", None, ()), False),
    ],
)
def test_only_one_title_and_year_or_one_number_make_one_film(first, second, same):
    items = [Item(i, title, year, ids=ids) for i, (title, year, ids) in zip("12", (first, second), strict=True)]
    made = tmdkg(Catalogue([replace(i, genres=("Drama",)) for i in items]))
    entities = made.graph.item_entities.tolist()
    assert (entities[0] == entities[1]) == same
    assert made.joined == ([[items[0].name, items[1].name]] if same else [])
    assert made.remakes == int(not same and first[0] == second[0])


def test_an_item_without_a_number_fits_neither_of_two_films_of_its_title_and_year():
    items = [
        Item("1", "Emma", 2020, ids=("tmdb:1",)),
        Item("2", "Emma", 2020, ids=("tmdb:2",)),
        Item("3", "Emma", 2020),
    ]
    assert len(set(tmdkg(Catalogue(items)).graph.item_entities.tolist())) == 3


def test_credits_of_several_ids_of_one_film_count_once():
    twice = [replace(item, item_id=f"{item.item_id}{n}") for item in FILMS[:6] for n in (1, 2)]
    busy = [Credit(item.item_id, "Sound", "Mixer", "Busy") for item in twice]
    graph = tmdkg(Catalogue(twice), busy).graph
    assert len(busy) == 12
    assert "person:Busy" not in graph.entities
    assert graph.statistics()["item_entities"] == 6
