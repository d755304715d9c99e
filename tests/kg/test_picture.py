from crscli.kg import Neighbour
from crscli.kg.picture import draw, tree


def of(relation, *names, direction="out"):
    return [Neighbour(relation, direction, name) for name in names]


FOUND = [*of("director", "Ann"), *of("starring", "Bo", "Cy"), *of("starring", "Dee", direction="in")]


def test_a_tree_of_text():
    assert tree("Heat (1995)", FOUND) == [
        "Heat (1995)",
        "├─ director (1)",
        "│  └─ Ann",
        "├─ starring (2)",
        "│  ├─ Bo",
        "│  └─ Cy",
        "└─ <- starring (1)",
        "   └─ Dee",
    ]


def test_two_neighbours_of_one_name_end_in_one_corner():
    assert tree("Heat", of("starring", "Ann", "Ann"))[2:] == ["   ├─ Ann", "   └─ Ann"]


def test_a_tree_shows_the_first_names_of_many():
    lines = tree("Heat", of("starring", *(f"Name {n}" for n in range(20))))
    assert lines[1] == "└─ starring (20)"
    assert lines[-2:] == ["   ├─ Name 7", "   └─ ... 12 more"]


def test_a_tree_of_nothing():
    assert tree("Heat", []) == ["Heat", "└─ nothing is known of it"]


def test_a_picture_is_a_png_and_the_same_each_time(tmp_path):
    names = [f"A very long name of somebody, number {n}" for n in range(9)]
    for neighbours in (FOUND, [], of("starring", "$x_{y", *names)):
        for name in ("a.png", "b.png"):
            draw("Heat $1 (1995)", neighbours, tmp_path / name)
        content = (tmp_path / "a.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert content == (tmp_path / "b.png").read_bytes()
