"""An order of numbered candidates, out of whatever a language model answers. Knows no prompt and no recommender."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from crscli.catalogue import Item
from crscli.names import key
from crscli.titles import readings, said

_STEP = re.compile(r"[\n>→≻]")
_NEXT = re.compile(r"[\s,;]{1,9}(?=\d{1,3}[.):]\s)")
_BRACKETED = re.compile(r"[\[【]\s*(\d{1,9}(?:[\s,;]+\d{1,9}){0,999})\s*[\]】]")
_LEADING = re.compile(r"[\W_]{0,9}(?:(?:film|movie|item|candidate|number|no)\W{1,3})?(\d{1,9})(?![^\W_])", re.I)
_RUN = re.compile(r"(?<!\d)\d{1,9}(?:[\W_]{1,6}\d{1,9})+(?!\d)")
_INTEGER = re.compile(r"(?<!\d)\d{1,9}(?!\d)")


@dataclass(frozen=True, slots=True)
class Order:
    """Labels from 1 that an answer names, the best first, each once; how many it names that there are not."""

    labels: tuple[int, ...]
    invented: int = 0
    repeated: int = 0


def order_of(answer: str, candidates: Sequence[Item]) -> Order:
    """Read the order of the candidates, the first of which has label 1.

    In brackets, a label a line, all on one line, with or without titles, or titles alone. Where a line tells a label
    and the title of another candidate, the title counts: models number the lines of their answer anew.
    """
    labels = _labels(said(answer), _Titles(candidates))
    known = [label for label in labels if 1 <= label <= len(candidates)]
    distinct = tuple(dict.fromkeys(known))
    return Order(distinct, len(set(labels) - set(known)), len(known) - len(distinct))


class _Titles:
    """Labels of the candidates by title."""

    def __init__(self, candidates: Sequence[Item]) -> None:
        self.count = len(candidates)
        self._labels: dict[str, list[tuple[int, int | None]]] = {}
        for label, item in enumerate(candidates, start=1):
            self._labels.setdefault(key(item.title), []).append((label, item.year))

    def label(self, text: str) -> int | None:
        """The candidate that a text names, by its year where two have the title; None where it names none."""
        for title, year in readings(text):
            own = self._labels.get(key(title), []) if key(title) else []
            dated = [label for label, known in own if known == year]
            if len(own) == 1 or len(dated) == 1:
                return (dated or [own[0][0]])[0]
        return None


def _labels(answer: str, titles: _Titles) -> list[int]:
    """Labels in the order of an answer, as they stand."""
    lines = [line for line in _STEP.split(answer) if key(line)]
    if len(lines) < 3 and not _BRACKETED.search(answer):
        lines = [part for line in lines for part in _NEXT.split(line)]
    if any(_BRACKETED.search(line) for line in lines):
        return [label for line in lines for label in _in_brackets(line, titles)]
    named = [(line, found, titles.label(line)) for line in lines for found in [_LEADING.match(line)]]
    if sum(found is not None for _, found, _ in named) > 1:
        return _leading([(line, found, title) for line, found, title in named if found or title], titles)
    alone = [title for _, _, title in named if title]
    if alone:
        return alone
    runs = _RUN.findall(answer)
    return [int(number) for number in _INTEGER.findall(max(runs, key=len) if runs else answer)]


def _in_brackets(line: str, titles: _Titles) -> list[int]:
    numbers = [int(number) for group in _BRACKETED.findall(line) for number in _INTEGER.findall(group)]
    title = titles.label(_BRACKETED.sub(" ", line)) if len(numbers) == 1 else None
    return [title] if title else numbers


def _leading(lines: Sequence[tuple[str, re.Match[str] | None, int | None]], titles: _Titles) -> list[int]:
    """Labels of lines that begin with a number; "1. 7", "2. 3" are ranks with labels behind them."""
    first = [int(found.group(1)) if found else 0 for _, found, _ in lines]
    behind = [_LEADING.match(line, found.end()) if found else None for line, found, _ in lines]
    second = [int(found.group(1)) if found else 0 for found in behind]
    are_ranks = first == list(range(1, len(first) + 1)) and all(1 <= label <= titles.count for label in second)
    numbers = second if are_ranks else first
    return [title or number for number, (_, _, title) in zip(numbers, lines, strict=True)]
