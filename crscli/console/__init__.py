"""What the terminal shows: results on stdout, everything else on stderr. With `cli` the one door to rich.

Titles and user text are data: they are never read as markup, and control characters are replaced.
"""

import json
import math
import os
import sys
import time
import unicodedata
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

_PLAIN_EVERY_S = 10.0


def plain(value: object) -> Text:
    """Data as text that is shown as it is: no markup, no emoji codes, no control characters."""
    shown = "".join("�" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in str(value))
    return Text(shown)


class Console(AbstractContextManager["Console"]):
    """One command's output.

    Args:
        as_json: results are one JSON document on stdout.
        quiet: only errors and results.
        verbose: 1 and more show details.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: int = 0) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        # A pipe or file gets whole lines: nothing is folded to the width of a terminal that is not there.
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 10_000
        self.out = RichConsole(markup=False, emoji=False, highlight=False, width=width)
        self._err = RichConsole(stderr=True, markup=False, emoji=False, highlight=False)
        self._bars: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_plain = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bars()

    @property
    def is_interactive(self) -> bool:
        """Whether a person sits at a terminal and reads words."""
        return sys.stdin.isatty() and sys.stdout.isatty() and not self.as_json

    # ---- results --------------------------------------------------------------------------------------------

    def document(self, value: Any) -> None:
        """Write one JSON document; not-a-number becomes null."""
        self._end_bars()
        sys.stdout.write(json.dumps(_jsonable(value), ensure_ascii=False, indent=1) + "\n")
        sys.stdout.flush()

    def record(self, value: Any) -> None:
        """Write one JSON document on a line of its own: one of several."""
        self._end_bars()
        sys.stdout.write(json.dumps(_jsonable(value), ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: bool = True) -> None:
        """Write a table; cells that look like numbers stand to the right."""
        self._end_bars()
        table = Table(box=None, pad_edge=False, collapse_padding=True)
        for num, column in enumerate(columns):
            cells = [str(row[num]) for row in rows]
            right = numbers and num > 0 and bool(cells) and all(_is_number(c) for c in cells if c)
            table.add_column(plain(column), justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in row))
        self.out.print(table)

    def line(self, text: str = "") -> None:
        """Write one line of the result; a terminal that is too narrow gets it broken between words."""
        self._end_bars()
        self.out.print(plain(text), soft_wrap=not self.out.is_terminal)

    # ---- what happens on the way ----------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A sentence that a user should read."""
        if not self.quiet:
            self._end_bars()
            self._err.print(plain(text), soft_wrap=not self._err.is_terminal)

    def detail(self, text: str) -> None:
        """A sentence for those who asked for details."""
        if self.verbose and not self.quiet:
            self.say(text)

    def error(self, message: str, hint: str | None) -> None:
        """What was found and expected, and what mends it."""
        self._end_bars()
        self._err.print(Text("error: ", style="bold red") + plain(message), soft_wrap=True)
        if hint:
            self._err.print(Text("hint: ", style="bold") + plain(hint), soft_wrap=True)

    def progress(self, label: str, done: int, total: int | None, note: str = "", /) -> None:
        """Show how far a long piece of work is: a bar on a terminal, else a line now and then."""
        if self.quiet:
            return
        if not self._err.is_terminal:
            now = time.monotonic()
            if now - self._last_plain >= _PLAIN_EVERY_S:
                self._last_plain = now
                shown = f"{label}: {done}" + (f" of {total}" if total else "") + (f", {note}" if note else "")
                self._err.print(plain(shown), soft_wrap=True)
            return
        if self._bars is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[note]}", markup=False),
            )
            self._bars = RichProgress(*columns, TimeRemainingColumn(), console=self._err, transient=True)
            self._bars.start()
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(str(plain(label)), total=total, note="")
        self._bars.update(self._tasks[label], completed=done, total=total, note=str(plain(note)))

    def _end_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}


def _is_number(text: str) -> bool:
    return text[:1] in "-.0123456789" and not text[:1].isalpha()


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    return value if isinstance(value, str | int | float | bool | None) else str(value)
