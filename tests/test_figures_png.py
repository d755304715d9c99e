import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from crscli import figures

ODD = [
    "$x_1$",
    "[rec]",
    "\N{GRINNING FACE} emoji",
    "_private",
    "\\frac{",
    "a\tb\nc",
    "%d {x}",
    "片\x00\ud800",
    "long " * 40,
    "",
]
NAN = float("nan")


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, of what is a PNG and not empty."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 5000
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def logged(steps=120):
    rows = []
    for step in range(1, steps + 1):
        loss = 3 / step
        rows.append({"step": step, "loss": 3 * loss, "loss/rank": loss, "loss/respond": 2 * loss, "rate": 1e-3})
        if step % 20 == 0:
            rows.append({"step": step, "valid/loss": loss, "valid/recall@10": step % 80 / 100, "valid/perplexity": 9})
    return rows


def drawn(monkeypatch, draw, *args, **options):
    """The figure that a picture is written from, before it is written."""
    held = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda figure, *_, **__: held.append(figure))
    draw(*args, **options)
    return held[0]


def words(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_a_training_is_drawn(tmp_path):
    figures.curves(logged(), tmp_path / "a.png", title="pecrs-tiny", choose="recall@10")
    assert size(tmp_path / "a.png") == (1800, 1680)
    figures.curves(logged(19), tmp_path / "b.png", title="not validated yet")
    assert size(tmp_path / "b.png") == (1800, 720)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"step": 1, "loss": 2.0}],
        [{"step": 1, "loss": NAN}],
        [{"step": 3, "valid/recall@10": NAN}],
        [{"step": 0, "valid/loss": 2.0}],
        [{"step": 1, "loss": float("inf"), "loss/a": 1}, {"step": 2, "loss": 1.0, "loss/b": NAN}],
        [{"step": s, "loss": 1.0 if s % 3 else NAN, "valid/_$x$": NAN if s % 2 else 0.1} for s in range(50)],
    ],
)
def test_short_logs_and_logs_with_holes_are_drawn(tmp_path, rows):
    figures.curves(rows, tmp_path / "a.png", title="odd", choose="recall@10")
    figures.curves(rows, tmp_path / "a.png", title="odd")
    assert size(tmp_path / "a.png")[0] == 1800


@pytest.mark.parametrize(
    ("choose", "says"),
    [
        ("recall@10", "best: step 60, recall@10 0.6"),
        ("", "best: step 60, recall@10 0.6"),
        ("perplexity", "best: step 20, perplexity 9"),
        ("unknown", None),
    ],
)
def test_the_first_best_step_is_marked(monkeypatch, tmp_path, choose, says):
    shown = words(drawn(monkeypatch, figures.curves, logged(), tmp_path / "a.png", title="t", choose=choose))
    assert [word for word in shown if "best" in word] == ([says] if says else [])


def test_the_lowest_validation_loss_is_best_where_there_is_nothing_else(monkeypatch, tmp_path):
    rows = [{"step": s, "valid/loss": v} for s, v in ((10, 3.0), (20, NAN), (30, 1.5), (40, 2.0))]
    assert "best: step 30, loss 1.5" in words(drawn(monkeypatch, figures.curves, rows, tmp_path / "a.png", title="t"))


def test_the_smoothed_loss_is_the_mean_around_a_step():
    values = np.arange(400.0)
    values[200] = NAN
    smooth = figures._smoothed(values)
    expected = [np.nanmean(values[max(0, n - 10) : n + 11]) for n in range(400)]
    np.testing.assert_allclose(smooth, expected)
    assert np.isnan(figures._smoothed(np.array([NAN]))).all()


def test_odd_names_are_drawn_as_they_are(tmp_path, monkeypatch):
    numbers = [n / 7 for n in range(len(ODD))]
    for title in ODD:
        figures.lines([1, 2], {title: [0, 1]}, tmp_path / "t.png", title=title, x_label=title, y_label=title)
        assert size(tmp_path / "t.png") == (1800, 920)
    figures.bars(ODD, numbers, tmp_path / "b.png", title=ODD[0], axis=ODD[2])
    figures.grid(ODD, ODD, np.outer(numbers, numbers), tmp_path / "g.png", title="", x_label=ODD[0], y_label="_")
    assert size(tmp_path / "b.png")[0] == size(tmp_path / "g.png")[0] == 1800
    series = {name: numbers for name in ODD}
    shown = words(
        drawn(monkeypatch, figures.lines, numbers, series, tmp_path, title="$t_1$", x_label="[x]", y_label="\\y")
    )
    assert {"$t_1$", "[x]", "\\y", "$x_1$", "[rec]", "_private", "\\frac{", "a b c", "□□□"} <= {*shown}


def test_bars_of_every_kind_are_drawn(tmp_path):
    names = [f"A film with a rather long name, number {n} ({1950 + n})" for n in range(30)]
    values = np.linspace(0.3, 0.01, 30)
    figures.bars(
        names, values, tmp_path / "a.png", title="t", axis="recall@10", intervals=[(v - 0.02, v + 0.02) for v in values]
    )
    assert size(tmp_path / "a.png") == (1800, 2060)
    figures.bars(
        ["a", "b", "c"],
        [-0.2, NAN, 3],
        tmp_path / "b.png",
        title="t",
        axis="",
        intervals=[(-0.3, NAN), (NAN, NAN), (2, 4)],
    )
    figures.bars(["a", "b"], [12, 45_000], tmp_path / "c.png", title="t", axis="items")
    figures.bars(["a"], [0], tmp_path / "d.png", title="t", axis="")
    figures.bars(["a"], [NAN], tmp_path / "e.png", title="t", axis="")


def test_values_are_written_with_the_same_decimals(monkeypatch, tmp_path):
    def written(values):
        figure = drawn(monkeypatch, figures.bars, ["l"] * len(values), values, tmp_path, title="t", axis="a")
        return [text.get_text() for text in figure.axes[0].texts]

    assert written([0.1, 0.12345, NAN]) == ["0.100", "0.123", "-"]
    assert written([12, 45_000]) == ["12", "45,000"]
    assert written([0.5, 12.34]) == ["0.5", "12.3"]
    assert written([-0.00012, 0]) == ["-0.000120", "0.000000"]


def test_lines_with_bands_and_grids_with_holes_are_drawn(tmp_path):
    figures.lines(
        [1, 10, 50], {"a": [0.1, NAN, 0.3], "b": [0, 0, 0]}, tmp_path / "l.png", title="t", x_label="k",
        y_label="recall@k", intervals={"a": [(0, 0.2), (NAN, NAN), (0.2, 0.4)]},
    )  # fmt: skip
    many = {f"s{n}": np.arange(100) * n for n in range(12)}
    figures.lines(range(100), many, tmp_path / "m.png", title="t", x_label="x", y_label="y")
    for values in ([[0.5]], [[NAN]], [[1, NAN, 3]], [[2, 2], [2, 2]], np.random.default_rng(0).random((12, 14))):
        rows, columns = np.shape(values)
        names = [f"a long column name {n}" for n in range(columns)]
        figures.grid(["r"] * rows, names, np.array(values), tmp_path / "g.png", title="t", x_label="", y_label="")
        assert size(tmp_path / "g.png")[0] == 1800


def test_lengths_that_differ_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 labels, 1 values"):
        figures.bars(["a", "b"], [1], tmp_path, title="", axis="")
    with pytest.raises(ValueError, match="3 intervals"):
        figures.bars(["a"], [1], tmp_path, title="", axis="", intervals=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="0 labels"):
        figures.bars([], [], tmp_path, title="", axis="")
    with pytest.raises(ValueError, match="2 places on the axis"):
        figures.lines([1, 2], {"a": [1]}, tmp_path, title="", x_label="", y_label="")
    with pytest.raises(ValueError, match="1 rows and 2 columns"):
        figures.grid(["a"], ["b", "c"], np.zeros((2, 2)), tmp_path, title="", x_label="", y_label="")


def test_the_look_is_the_same_whatever_the_settings_and_they_are_left_alone(tmp_path):
    figures.bars(["a"], [1], tmp_path / "a.png", title="t", axis="x")
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 50, "axes.facecolor": "black"}):
        figures.bars(["a"], [1], tmp_path / "b.png", title="t", axis="x")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
