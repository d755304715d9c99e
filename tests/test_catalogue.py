import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crscli.catalogue import Catalogue, Item, minutes, plain_title, split_title

FULL = Item(
    "7", "Heat", 1995, ("Crime", "Drama"), ("M. Mann",), ("A. Pacino", "R. De Niro"), ("heist",), "Cops and robbers"
)

quick = settings(max_examples=50, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("text", "title", "year"),
    [
        ("Police Academy (1984)", "Police Academy", 1984),
        ("Police Academy  (1984)", "Police Academy", 1984),
        (" Police  Academy (1984) ", "Police Academy", 1984),
        ("Police Academy(1984)", "Police Academy", 1984),
        ("Police Academy", "Police Academy", None),
        ("Why Did I Get Married%3F  (2007) ", "Why Did I Get Married?", 2007),
        ("Tom &amp; Kim (1990)", "Tom & Kim", 1990),
        ("100% Wolf (2020)", "100% Wolf", 2020),
        ("Akira ()", "Akira", None),
        ("Akira ( )", "Akira", None),
        ("The Witch (2015 film)", "The Witch", 2015),
        ("Outbreak (1995", "Outbreak", 1995),
        ("Heat (film)", "Heat (film)", None),
        ("(500) Days of Summer (2009)", "(500) Days of Summer", 2009),
        ("(500) Days of Summer", "(500) Days of Summer", None),
        ("(1984)", "(1984)", None),
        ("1984 (1984)", "1984", 1984),
        ("2012", "2012", None),
        ("Blade Runner 2049", "Blade Runner 2049", None),
        ("Blade Runner (1982) (2007)", "Blade Runner (1982)", 2007),
        ("Case (12345)", "Case (12345)", None),
        ("Case (19955)", "Case (19955)", None),
        ("Room (1408)", "Room (1408)", None),
        ("A Trip to the Moon (1899)", "A Trip to the Moon", 1899),
        ("Heat (1995) again", "Heat (1995) again", None),
        ("", "", None),
        ("None", "None", None),
        ("[rec] (2007)", "[rec]", 2007),
    ],
)
def test_a_published_title_is_split_from_its_year(text, title, year):
    assert split_title(text) == (title, year)


@quick
@given(st.text())
def test_any_title_can_be_split_and_has_no_blanks_at_its_ends(text):
    title, year = split_title(text)
    assert title == " ".join(title.split())
    assert year is None or 1800 <= year < 2200


@pytest.mark.parametrize("title", ["Heat", "heat (1995)", "  HEAT ", "Heat  (1995 film)"])
def test_titles_are_matched_plain(title):
    assert plain_title(title) == "heat"


def test_the_name_of_an_item_has_its_year_if_there_is_one():
    assert FULL.name == "Heat (1995)"
    assert Item("1", "Heat").name == "Heat"


def test_the_text_of_an_item_has_the_fields_in_the_order_asked_for():
    assert FULL.text() == "Heat (1995). Crime, Drama. M. Mann. A. Pacino, R. De Niro. heist. Cops and robbers"
    assert FULL.text(("plot", "name")) == "Cops and robbers. Heat (1995)"
    assert FULL.text(("title", "year")) == "Heat. 1995"
    assert FULL.text(()) == ""
    assert Item("1", "Heat").text() == "Heat"
    assert Item("1", "Heat").text(("plot", "year", "genres")) == ""


@pytest.mark.parametrize("gone", ["name", "genres", "directors", "cast", "keywords", "plot"])
def test_each_part_of_the_text_can_be_left_out(gone):
    parts = ("name", "genres", "directors", "cast", "keywords", "plot")
    value = getattr(FULL, gone)
    shown = ", ".join(value) if isinstance(value, tuple) else value
    text = FULL.text([p for p in parts if p != gone])
    assert shown not in text
    assert len(text) == len(FULL.text()) - len(shown) - 2


def test_items_are_numbered_in_the_natural_order_of_their_ids():
    catalogue = Catalogue(Item(i, f"t{i}") for i in ("10", "9", "100"))
    assert [i.item_id for i in catalogue] == ["9", "10", "100"]
    assert len(catalogue) == 3
    assert catalogue[1].item_id == "10"
    assert catalogue.item("100") is catalogue[2]
    assert "9" in catalogue
    assert "8" not in catalogue
    assert catalogue.digest == Catalogue(reversed(catalogue.items)).digest
    assert catalogue.digest != Catalogue(catalogue.items[:2]).digest
    with pytest.raises(KeyError):
        catalogue.item("8")


def test_an_id_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="item id '1' occurs twice"):
        Catalogue([Item("1", "a"), Item("1", "b")])


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
lists = st.lists(texts, max_size=3).map(tuple)
items = st.builds(Item, texts, texts, st.none() | st.integers(1800, 2199), lists, lists, lists, lists, texts)


@quick
@given(given_items=st.lists(items, max_size=4, unique_by=lambda i: i.item_id))
def test_a_catalogue_comes_back_from_its_file_as_it_was(tmp_path_factory, given_items):
    path = tmp_path_factory.mktemp("save") / "items.parquet"
    catalogue = Catalogue(given_items)
    catalogue.save(path)
    loaded = Catalogue.load(path)
    assert loaded.items == catalogue.items
    assert loaded.digest == catalogue.digest


def test_titles_that_look_like_nothing_or_like_markup_come_back(tmp_path):
    titles = ["None", "NA", "null", "nan", "", "300", "[rec]", "[/]", ":bomb:", "\x00", "True"]
    catalogue = Catalogue(Item(f"i{n:02}", title) for n, title in enumerate(titles))
    catalogue.save(tmp_path / "items.parquet")
    assert [i.title for i in Catalogue.load(tmp_path / "items.parquet")] == titles


@pytest.mark.parametrize(
    ("told", "wanted"),
    [(141, 141), ("141", 141), (141.0, 141), ("141.0", 141), (0, None), ("", None), (None, None), ("long", None),
     (True, None), (5000, None), (float("nan"), None), ([90], None)],
)  # fmt: skip
def test_running_times_are_minutes_or_unknown(told, wanted):
    assert minutes(told) == wanted
