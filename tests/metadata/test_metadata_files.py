import gzip
import json

import pytest

from crscli.catalogue import Item
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.errors import DataError
from crscli.metadata.files import read_films

OWN = {
    "item_id": "i1",
    "title": "300",
    "year": 2007,
    "genres": ["War"],
    "cast": ["A"],
    "ids": ["tmdb:1271"],
    "plot": "x",
}


def read(folder, name, content, bad=None):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_films(Source(path, ("*",)), bad or BadRows())


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_own_rows_as_json_lines_json_and_csv(tmp_path):
    wanted = Item("i1", "300", 2007, genres=("War",), cast=("A",), ids=("tmdb:1271",), plot="x")
    table = "item_id,title,year,genres,cast,ids,plot\ni1,300,2007,War,A,tmdb:1271,x\n"
    for name, content in [
        ("a.jsonl", lines(OWN)),
        ("b.jsonl", "\ufeff" + lines(OWN)),
        ("c.json", json.dumps([OWN], indent=1)),
        ("d.csv", table),
        ("e.tsv", table.replace(",", "\t")),
        ("f.csv.gz", gzip.compress(table.encode())),
    ]:
        listed = read(tmp_path, name, content)
        assert (name, listed.films, listed.shape.name) == (name, [wanted], "own columns")
    assert len(read(tmp_path, "g.jsonl", lines(OWN, OWN | {"item_id": "i2"})).films) == 2


@pytest.mark.parametrize("title", ["None", "NA", "nan", "null", "300", "1917", "007", "[rec]"])
def test_titles_stay_the_texts_they_are(title, tmp_path):
    assert read(tmp_path, "a.csv", f"title,year\n{title},2007\n").films == [Item("", title, 2007)]
    assert read(tmp_path, "a.jsonl", lines({"title": title, "year": "2007"})).films == [Item("", title, 2007)]


def test_what_pandas_writes_for_missing_values_is_read(tmp_path):
    films = read(tmp_path, "a.csv", "title,year\nA,1999.0\nB,\n").films
    assert [(film.title, film.year) for film in films] == [("A", 1999), ("B", None)]
    (film,) = read(tmp_path, "a.json", '[{"title": "A", "year": 1999.0, "plot": NaN}]').films
    assert (film.year, film.plot) == (1999, "")


def test_a_year_that_is_none_is_left_out(tmp_path):
    row = {"title": "A", "genres": [], "production_companies": []}
    for year in ("99999999999", "0", "²000"):
        assert read(tmp_path, "a.json", json.dumps({"1": row | {"year": year}})).films[0].year is None


def test_lists_of_a_table_are_parted_by_bars_and_years_may_stand_in_titles(tmp_path):
    table = 'title,genres,cast\n"Up (2009)",Comedy|Family,\n'
    assert read(tmp_path, "a.csv", table).films == [Item("", "Up", 2009, genres=("Comedy", "Family"))]


def test_unknown_fields_are_told(tmp_path):
    listed = read(tmp_path, "a.jsonl", lines(OWN | {"votes": 7}, OWN))
    assert listed.notes == ["a.jsonl: field 'votes' of 1 rows is unknown and was passed over"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"year": "soon"}, "year 'soon' is no year"),
        ({"year": 12}, "year '12' is no year"),
        ({"year": True}, "year is bool, not text"),
        ({"year": 2007.5}, "year '2007.5' is no year"),
        ({"genres": {"a": 1}}, "genres is no list of texts"),
        ({"cast": ["A", 3]}, "cast is no list of texts"),
        ({"plot": ["x"]}, "plot is list, not text"),
        ({"title": "", "item_id": ""}, "neither item_id nor title"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_may_be_skipped(row, message, tmp_path):
    content = lines(OWN, OWN | row, OWN)
    with pytest.raises(DataError, match=rf"a.jsonl:2: {message}"):
        read(tmp_path, "a.jsonl", content)
    bad = BadRows(1)
    assert len(read(tmp_path, "a.jsonl", content, bad).films) == 2
    assert bad.count == 1


def test_rows_that_are_broken_are_counted_once(tmp_path):
    bad = BadRows(1)
    assert len(read(tmp_path, "a.jsonl", lines(OWN) + "{cut\n" + lines(OWN), bad).films) == 2
    assert bad.count == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"1": {"name": "x"}}', "no list of films: a row has the fields name"),
        ("a.csv", "name,budget\nx,1\n", "no list of films: a row has the fields name, budget"),
        ("a.csv", "title,year\n", "no film in it"),
        ("a.csv", "\n \n", "only blanks in it"),
        ("a.json", "[]", "no film in it"),
        ("a.json", "{}", "no film in it"),
        ("a.json", '{"1": {"name": "x"', "not JSON: .*line 1"),
        ("a.json", '{"1": "\xe9"}'.encode("latin-1"), "not UTF-8: byte 8"),
        ("a.json", "[" * 99_999, "not JSON that can be read"),
        ("a.json", '{"a": {"title": "x", "genres": "no", "production_companies": []}}', "'a': a list was expected"),
        ("a.json", '[{"title": "x"}, 7]', "an object was expected, found '7'"),
    ],
)
def test_a_file_that_is_no_list_of_films(name, content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(tmp_path, name, content)


def test_a_folder_of_several_files_is_refused(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("title\nx\n")
    with pytest.raises(DataError, match=r"holds 2 files: a.csv, b.csv"):
        read_films(Source(tmp_path, ("*",)), BadRows())


# The forms of others, each with rows as they are published.

PECRS = {
    "pecrs_id": 7, "title": "mary and max", "actors": ["A", "A"], "directors": ["Adam Elliot"], "genres": ["Sci-Fi"],
    "plot": "P",
}  # fmt: skip
IEVALM = {
    "100026": {"name": "Pari (1995)", "genre": ["drama"], "plot": "P", "director": ["D"], "writer": ["W"],
               "star": ["S"], "imdb_id": "tt0114092"}
}  # fmt: skip
SI630 = {
    "75796": {"title": "Headhunter ", "year": "2009", "populatity": 2.3, "genres": [{"id": 53, "name": "Thriller"}],
              "production_companies": [{"id": 235, "name": "Nordisk Film"}], "num_language": 1, "rating": 5.8},
    "1": "failed",
    "2": {"title": "The Mummy ", "year": 0, "genres": [], "production_companies": [], "populatity": 1, "rating": 5},
}  # fmt: skip
KERL = {
    "Pet Cemetery (1989)": {"year": 1989, "casts": [], "genres": ["film based on a novel", "horror film"],
                            "directors": ["Mary Lambert"], "productionCompanies": ["Paramount"], "fullName": "x",
                            "wiki_name": "Pet Sematary", "QID": "Q908213"},
    "Butterfly Effect (2004)": {"casts": ["C"], "genres": [], "directors": [], "productionCompanies": [],
                                "fullName": "x", "wiki_name": "Birdman and the Galaxy Trio", "QID": "Q1"},
    "Longshot (1981)": {"casts": [], "genres": [], "directors": [], "productionCompanies": [], "fullName": "x",
                        "wiki_name": [], "QID": []},
}  # fmt: skip
TMDB_5000 = (
    "id,title,original_title,original_language,overview,genres,keywords,production_companies,release_date,vote_count\n"
    '194,Amélie,Le Fabuleux Destin,fr,P,"[{""id"": 35, ""name"": ""Comedy""}]","[{""id"": 1, ""name"": ""paris""}]",'
    "[],2001-04-25,99\n"
)


def test_the_forms_of_others(tmp_path):
    listed = read(tmp_path, "p", lines(PECRS))
    assert listed.shape.name == "PECRS movie_db"
    assert listed.films == [
        Item("", "mary and max", genres=("Sci-Fi",), directors=("Adam Elliot",), cast=("A",), plot="P")
    ]
    listed = read(tmp_path, "i", json.dumps(IEVALM))
    assert listed.shape.name == "iEvaLM id2info"
    assert listed.films == [
        Item("100026", "Pari", 1995, genres=("drama",), directors=("D",), writers=("W",), cast=("S",), plot="P",
             ids=("imdb:tt0114092",))
    ]  # fmt: skip
    listed = read(tmp_path, "s", json.dumps(SI630))
    assert listed.shape.name == "SI630 movies"
    assert listed.films == [
        Item("75796", "Headhunter", 2009, genres=("Thriller",), companies=("Nordisk Film",)), Item("2", "The Mummy")
    ]  # fmt: skip
    listed = read(tmp_path, "k", json.dumps(KERL))
    assert listed.shape.name == "KERL movie_kg"
    assert listed.films == [
        Item("", "Pet Cemetery", 1989, genres=("horror",), directors=("Mary Lambert",), companies=("Paramount",),
             keywords=("film based on a novel",), aliases=("Pet Sematary",), ids=("wikidata:Q908213",)),
        Item("", "Butterfly Effect", 2004, cast=("C",)),
        Item("", "Longshot", 1981),
    ]  # fmt: skip
    listed = read(tmp_path, "t", TMDB_5000)
    assert listed.shape.name == "TMDB 5000"
    assert listed.films == [
        Item("", "Amélie", 2001, genres=("Comedy",), keywords=("paris",), plot="P", language="fr",
             aliases=("Le Fabuleux Destin",), ids=("tmdb:194",))
    ]  # fmt: skip
    assert listed.shape.of_tmdb
    with pytest.raises(DataError, match=r"t:2: genres is no JSON"):
        read(tmp_path, "t", TMDB_5000.replace('[{""id"": 35', '[{""id""; 35'))


def test_rows_that_lack_fields_of_their_form(tmp_path):
    assert read(tmp_path, "p", lines(PECRS, {"title": "up"})).films[1] == Item("", "up")
    assert read(tmp_path, "i", json.dumps(IEVALM | {"7": {"name": "Up (2009)"}})).films[1] == Item("7", "Up", 2009)
    assert read(tmp_path, "s", json.dumps(SI630 | {"7": {"title": "Up"}})).films[2] == Item("7", "Up")
    assert read(tmp_path, "k", json.dumps(KERL | {"Up (2009)": {}})).films[3] == Item("", "Up", 2009)


@pytest.mark.realdata
def test_the_published_files(shared_data):
    published = [
        ("metadata/pecrs_redial_movie_db.jsonl", "PECRS movie_db", 6176, 6114, 4976, 6163),
        ("kg/redial_ievalm/id2info.json", "iEvaLM id2info", 6583, 6570, 6508, 6451),
        ("metadata/si630_redial_tmdb_movies.json.gz", "SI630 movies", 6818, 6697, 0, 0),
        ("metadata/tmdb_5000_movies.csv.gz", "TMDB 5000", 4803, 4775, 0, 4799),
        ("kg/inspired_kerl/movie_kg.json", "KERL movie_kg", 1865, 1689, 1686, 0),
    ]
    counts = []
    for name, *_ in published:
        listed = read_films(Source(shared_data / name, ("*",)), BadRows())
        having = [sum(1 for f in listed.films if getattr(f, field)) for field in ("genres", "directors", "plot")]
        counts.append((name, listed.shape.name, len(listed.films), *having))
        assert listed.notes == []
    assert counts == published
