"""Pictures of training curves and analyses, as PNG files that can be read when 900 pixels wide.

Knows nothing about models or reports: numbers and names come in, a file comes out. Names are drawn letter by letter:
"$x_1$" is no formula here.
"""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

Intervals = Sequence[tuple[float, float]]
"""(low, high) of each value, in the units of the value."""
Curve = tuple[np.ndarray, np.ndarray]
"""Steps and values, both (S,), NaN where a value is not finite."""

WIDTH, DPI = 9.0, 200  # inches; 1,800 pixels, sharp when shown at half of that
_FONT = "DejaVu Sans"  # comes with matplotlib
_LONGEST = 46
_FEW = 40
"""So many points or fewer are drawn as dots too."""
_INK, _GREY = "#333333", "#888888"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind readers. Source: Okabe & Ito, Color Universal Design, 2008, without its yellow."""
_STROKES = ("-", "--", ":", "-.")
_LOOK: dict[Any, Any] = {
    "text.parse_math": False,
    "font.family": _FONT,
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ebebeb",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
}


def curves(rows: Sequence[Mapping[str, float]], path: Path, *, title: str, choose: str = "") -> None:
    """Draw a training: its losses above, its validation figures below, the best step marked in both.

    Args:
        rows: lines of a log. Of a training step: "step", "loss" and "loss/NAME" of its parts. Of a validation: "step"
            and "valid/NAME"; names with "loss" stand beside the losses, figures beyond 1 in a panel of their own.
        path: the PNG file.
        title: above it.
        choose: the validation figure, without "valid/", whose first highest value is the best step; empty: the first
            figure that is no loss, or the lowest loss if there is no other.
    """
    found = {name: _curve(rows, name) for name in dict.fromkeys(key for row in rows for key in row)}
    valid = {name.removeprefix("valid/"): curve for name, curve in found.items() if name.startswith("valid/")}
    figures: tuple[dict[str, Curve], dict[str, Curve]] = ({}, {})
    for name, curve in valid.items():
        if not _is_loss(name):
            figures[int(np.nanmax(curve[1], initial=0) > 1)][name] = curve
    panels = [held for held in figures if held]
    with _picture(path, 3.6 + 2.4 * len(panels), title) as figure:
        heights = [1.3, *[1.0] * len(panels)]
        axes = figure.subplots(1 + len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
        _losses(axes[0], found, {name: curve for name, curve in valid.items() if _is_loss(name)})
        for panel, held in zip(axes[1:], panels, strict=True):
            _legend(panel, {name: _line(panel, *curve, num) for num, (name, curve) in enumerate(held.items())})
            panel.set_ylabel("validation")
        steps = [row["step"] for row in rows] or [0]
        margin = 0.03 * (max(steps) - min(steps)) or 1
        axes[-1].set_xlim(min(steps) - margin, max(steps) + margin)
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        _mark_best(axes, valid, choose)


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    path: Path,
    *,
    title: str,
    axis: str,
    intervals: Intervals | None = None,
) -> None:
    """Draw horizontal bars, the first on top, each with its value; `axis` says what the values are."""
    spans = len(values) if intervals is None else len(intervals)
    if not len(labels) or len(labels) != len(values) or spans != len(values):
        raise ValueError(f"{len(labels)} labels, {len(values)} values, {spans} intervals")
    form, heights, places = _form(values), np.nan_to_num(_finite(values)), np.arange(len(labels))
    ends = np.column_stack([heights, heights]) if intervals is None else _finite(intervals)
    low, high = np.nanmin(ends, axis=1, initial=0), np.nanmax(ends, axis=1, initial=0)
    with _picture(path, 1.3 + 0.3 * len(labels), title) as figure:
        axes = figure.add_subplot()
        axes.barh(places, heights, height=0.66, color="#7FB2D8")
        if intervals is not None:
            axes.plot(ends.T, [places, places], color=_INK, linewidth=1.2, marker="|", solid_capstyle="butt")
        for place, value in enumerate(values):
            left = heights[place] < 0
            axes.annotate(
                form(value), (min(low[place], value) if left else max(high[place], heights[place]), place),
                xytext=(-5 if left else 5, 0), textcoords="offset points", ha="right" if left else "left",
                va="center", fontsize=9,
            )  # fmt: skip
        axes.axvline(0, color=_GREY, linewidth=0.8)
        least, most = min(low.min(), heights.min()), max(high.max(), heights.max())
        room = 0.09 * ((most - least) or 1)  # for the values beside the bars
        axes.set_xlim(least - 1.6 * room * (least < 0), most + room)  # a minus sign more on the left
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_yticks(places, labels=[_short(label) for label in labels], fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(_plain(axis))
        if most - least > 1000:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:,.0f}"))


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    path: Path,
    *,
    title: str,
    x_label: str,
    y_label: str,
    intervals: Mapping[str, Intervals] | None = None,
) -> None:
    """Draw a line for each series over the same x; intervals, of the series that have them, are bands."""
    bands = intervals or {}
    lengths = {name: len(values) for name, values in [*series.items(), *bands.items()]}
    if not series or set(lengths.values()) != {len(x)} or not bands.keys() <= series.keys():
        raise ValueError(f"{len(x)} places on the axis, values and intervals: {lengths}")
    with _picture(path, 4.6, title) as figure:
        axes = figure.add_subplot()
        drawn = {
            name: _line(axes, np.asarray(x, dtype=float), _finite(values), num)
            for num, (name, values) in enumerate(series.items())
        }
        for name, band in bands.items():
            axes.fill_between(x, *_finite(band).T, color=drawn[name].get_color(), alpha=0.15, linewidth=0)
        _legend(axes, drawn)
        axes.set_xlabel(_plain(x_label))
        axes.set_ylabel(_plain(y_label))


def grid(
    rows: Sequence[str],
    columns: Sequence[str],
    values: np.ndarray,
    path: Path,
    *,
    title: str,
    x_label: str,
    y_label: str,
) -> None:
    """Draw a heat map of (R, C) values, each written in its cell; the first row on top, NaN left white."""
    shown = _finite(values)
    if shown.shape != (len(rows), len(columns)) or not shown.size:
        raise ValueError(f"{len(rows)} rows and {len(columns)} columns for values of shape {shown.shape}")
    form = _form(shown.ravel())
    known = shown[np.isfinite(shown)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    size = max(5.0, min(9.0, 80 / len(columns)))
    with _picture(path, 1.8 + 0.36 * len(rows), title) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.imshow(shown, cmap="Blues", aspect="auto", vmin=low, vmax=high if high > low else low + 1)
        for (row, column), value in np.ndenumerate(shown):
            dark = value - low > 0.6 * (high - low)
            colour = "white" if dark else "black"
            axes.text(column, row, form(value), ha="center", va="center", fontsize=size, color=colour)
        names = [_short(name) for name in columns]
        turned = sum(map(len, names)) > 90 or max(map(len, names)) > 110 / len(names)
        axes.set_xticks(range(len(columns)), labels=names, fontsize=9)
        if turned:
            for label in axes.get_xticklabels():
                label.set(rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), labels=[_short(name) for name in rows], fontsize=9)
        axes.tick_params(length=0)
        axes.set_xlabel(_plain(x_label))
        axes.set_ylabel(_plain(y_label))


# ---- the parts of a picture ---------------------------------------------------------------------------------------


@contextmanager
def _picture(path: Path, height: float, title: str) -> Iterator[Figure]:
    """A figure in the house's look, whatever a user's matplotlibrc says; written at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_LOOK)
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        heading = "\n".join(textwrap.wrap(_plain(title), 88, max_lines=3, placeholder=" ..."))
        figure.suptitle(heading, x=0.01, ha="left", fontsize=12, fontweight="bold")
        yield figure
        figure.savefig(path, format="png", metadata={"Software": None})


def _losses(axes: Axes, found: Mapping[str, Curve], valid: Mapping[str, Curve]) -> None:
    """The training loss as it was (pale) and smoothed, its parts as thin lines, validation losses as dots."""
    drawn = {}
    if "loss" in found:
        steps, values = found["loss"]
        axes.plot(steps, values, color=_COLOURS[0], alpha=0.3, linewidth=0.8)
        drawn["loss"] = _line(axes, steps, _smoothed(values), 0)
    parts = {name.removeprefix("loss/"): curve for name, curve in found.items() if name.startswith("loss/")}
    if len(parts) > 1:  # the only part is the loss
        for name, (steps, values) in parts.items():
            drawn[f"{name} (part)"] = _line(axes, steps, _smoothed(values), len(drawn), thin=True)
    for name, curve in valid.items():
        drawn[f"{name} (validation)"] = _line(axes, *curve, len(drawn))
    _legend(axes, drawn)
    axes.set_ylabel("loss")


def _mark_best(axes: Sequence[Axes], valid: Mapping[str, Curve], choose: str) -> None:
    """A line through all panels at the best step, named in the last; nothing if no validation figure is finite."""
    known = {name: found for name, found in valid.items() if np.isfinite(found[1]).any()}
    candidates = [choose] if choose else sorted(known, key=_is_loss)
    if not candidates or candidates[0] not in known:
        return
    name = candidates[0]
    steps, values = known[name]
    place = np.nanargmin(values) if not choose and _is_loss(name) else np.nanargmax(values)
    step, value = float(steps[place]), float(values[place])
    for panel in axes:
        panel.axvline(step, color=_INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    left = step < sum(axes[-1].get_xlim()) / 2
    axes[0].annotate(
        f"best: step {step:,.0f}, {_plain(name)} {value:.4g}", (step, 1), xycoords=("data", "axes fraction"),
        xytext=(5 if left else -5, 2), textcoords="offset points", ha="left" if left else "right", va="bottom",
        fontsize=9,
    )  # fmt: skip


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, num: int, *, thin: bool = False) -> Line2D:
    """The num-th line of a panel: a colour, and a stroke that changes when the colours are used up."""
    return axes.plot(
        x, y, color=_COLOURS[num % len(_COLOURS)], linestyle=_STROKES[num // len(_COLOURS) % len(_STROKES)],
        linewidth=1 if thin else 1.8, marker="o" if len(x) <= _FEW else "", markersize=3 if thin else 4,
    )[0]  # fmt: skip


def _legend(axes: Axes, drawn: Mapping[str, Line2D]) -> None:
    """Names beside a panel; a word in it if there is nothing to see."""
    if not any(np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any() for line in drawn.values()):
        axes.set(yticks=[], ylim=(0, 1))
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center", va="center", color=_GREY)
    elif drawn:
        # matplotlib leaves out names that begin with "_", so they are put in afterwards.
        legend = axes.legend(drawn.values(), ["."] * len(drawn), loc="upper left", bbox_to_anchor=(1.005, 1.02))
        for text, name in zip(legend.get_texts(), drawn, strict=True):
            text.set_text("\n".join(textwrap.wrap(_short(name), 24)))


# ---- numbers and names --------------------------------------------------------------------------------------------


def _is_loss(name: str) -> bool:
    return "loss" in name


def _finite(values: Sequence[float] | np.ndarray | Intervals) -> np.ndarray:
    """As floats, NaN for what is not finite: a line has a gap there."""
    array = np.asarray(values, dtype=float)
    return np.where(np.isfinite(array), array, np.nan)


def _curve(rows: Sequence[Mapping[str, float]], name: str) -> Curve:
    """Of the rows that have a value of this name."""
    steps, values = np.array([(row["step"], row[name]) for row in rows if name in row], dtype=float).T
    return steps, _finite(values)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """The running mean of the finite values of a window of a twentieth, (S,)."""
    window = np.ones(2 * (len(values) // 40) + 1)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), window)
    count = np.convolve(known.astype(float), window)
    edge = len(window) // 2
    with np.errstate(invalid="ignore"):
        return (total / np.where(count > 0.5, count, np.nan))[edge : edge + len(values)]


def _form(values: Sequence[float] | np.ndarray) -> Callable[[float], str]:
    """How to write these numbers: all with the same decimals, three figures of the largest; "-" for none."""
    known = [abs(value) for value in _finite(values).tolist() if math.isfinite(value)]
    whole = all(value == round(value) for value in known)
    places = 0 if whole else min(6, max(0, 2 - math.floor(math.log10(max(known)))))
    return lambda value: f"{value:,.{places}f}" if math.isfinite(value) else "-"


@cache
def _letters() -> frozenset[int]:
    """The letters that the font has, plain and bold."""
    faces = [font_manager.FontProperties(family=_FONT, weight=weight) for weight in ("normal", "bold")]
    first, second = (set(font_manager.get_font(font_manager.findfont(face)).get_charmap()) for face in faces)
    return frozenset(first & second)


def _plain(text: str) -> str:
    """In one line; letters that the font lacks, which matplotlib would warn of, as an empty square."""
    return "".join(letter if ord(letter) in _letters() else "□" for letter in " ".join(str(text).split()))


def _short(name: str) -> str:
    plain = _plain(name)
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 3] + "..."
