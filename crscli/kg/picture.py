"""An item's neighbourhood in a graph, as a tree of text or as a picture."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crscli.kg import Neighbour

IN_TREE = 8  # of a relation
IN_PICTURE = 6
_LONGEST = 34


def _by_relation(neighbours: Sequence[Neighbour]) -> Iterator[tuple[str, list[str]]]:
    """Relation ("<- " in front where the item is its tail) and names, in the order given."""
    for (direction, relation), group in groupby(neighbours, key=lambda n: (n.direction, n.relation)):
        yield relation if direction == "out" else f"<- {relation}", [n.name for n in group]


def tree(title: str, neighbours: Sequence[Neighbour]) -> list[str]:
    """Lines of text: the relations of an item and, below each, its names."""
    lines = [title]
    groups = list(_by_relation(neighbours))
    for relation, names in groups:
        last = relation == groups[-1][0]
        lines.append(f"{'└─' if last else '├─'} {relation} ({len(names)})")
        shown = names[:IN_TREE] + ([f"... {len(names) - IN_TREE} more"] if len(names) > IN_TREE else [])
        for num, name in enumerate(shown, start=1):  # two entities may have one name
            end = "└─" if num == len(shown) else "├─"
            lines.append(f"{' ' if last else '│'}  {end} {name}")
    return lines if groups else [*lines, "└─ nothing is known of it"]


def draw(title: str, neighbours: Sequence[Neighbour], path: Path) -> None:
    """Write the item in the middle of its neighbours as a PNG, a colour for each relation."""
    groups = [(relation, names[:IN_PICTURE], len(names)) for relation, names in _by_relation(neighbours)]
    total = sum(len(names) for _, names, _ in groups)
    figure = Figure(figsize=(9, 8), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.24, 0.27, 0.52, 0.54))
    axes.set_xlim(-1, 1)
    axes.set_ylim(-1, 1)
    axes.axis("off")
    place = 0
    for num, (relation, names, count) in enumerate(groups):
        colour = colormaps["tab20"](num % 20)
        label = f"{relation} ({count})" if count == len(names) else f"{relation} ({len(names)} of {count})"
        axes.plot([], [], color=colour, linewidth=3, label=label)
        for name in names:
            angle = 2 * math.pi * place / total
            place += 1
            x, y = math.cos(angle), math.sin(angle)
            axes.plot([0, 0.95 * x], [0, 0.95 * y], color=colour, linewidth=1.2, zorder=1, clip_on=False)
            turned = math.degrees(angle) + (180 if x < 0 else 0)
            axes.text(
                x, y, _short(name), fontsize=8, rotation=turned, rotation_mode="anchor", va="center",
                ha="right" if x < 0 else "left", parse_math=False,
            )  # fmt: skip
    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "black"}
    axes.text(0, 0, _short(title), fontsize=10, ha="center", va="center", bbox=box, zorder=2, parse_math=False)
    if groups:
        figure.legend(loc="lower center", ncols=4, fontsize=7, frameon=False)
    figure.savefig(path, format="png", metadata={"Software": None})


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
