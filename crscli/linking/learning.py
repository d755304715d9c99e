"""The linker's weights, learnt from marked dialogues written in three cases. Chooses no links."""

import random
import zlib
from collections.abc import Callable, Sequence

from crscli.dialogue import Dialogue, Turn
from crscli.linking.features import (
    Counts,
    Features,
    Frequency,
    Title,
    longer_ones,
    place_features,
    title_features,
)
from crscli.linking.films import Films
from crscli.linking.message import Message
from crscli.linking.statistics import Statistics, count, marks_of
from crscli.linking.variants import Rewrite, in_another_case, rewritten, without_year
from crscli.linking.weights import Classifier, fit
from crscli.names import key
from crscli.progress import Progress, silent

FOLDS = 5
UNKNOWN_SHARE = 0.4
"""Share of the titles whose counts are hidden, so that titles without counts are judged well."""


def fold_of(dialogue_id: str) -> int:
    """The fold of a dialogue, equal on every machine."""
    return zlib.crc32(dialogue_id.encode()) % FOLDS


def learn(
    films: Films, dialogues: Sequence[Dialogue], *, seed: int = 0, progress: Progress = silent
) -> tuple[Classifier, Statistics]:
    """Count, and fit the weights with counts of other folds.

    Args:
        films: names of the catalogue.
        dialogues: their item links carry places.
        seed: of the random cases.
        progress: told of the dialogues read.
    """
    folds: list[list[Dialogue]] = [[] for _ in range(FOLDS)]
    for dialogue in dialogues:
        folds[fold_of(dialogue.dialogue_id)].append(dialogue)
    counted = [count(fold, films.index) for fold in folds]
    everything = sum(counted, Statistics())
    rows: list[Features] = []
    labels: list[bool] = []
    done = 0
    for fold, part in enumerate(counted):
        rest = everything - part
        frequency = Frequency(rest.words, rest.pairs)
        titles = _titles(rest, frequency, fold)
        draw = random.Random(seed * FOLDS + fold)
        for dialogue in folds[fold]:
            progress("read", done, len(dialogues))
            done += 1
            for turn in dialogue.turns:
                for copy in _copies(turn, draw):
                    _add_rows(films, copy, titles, frequency, rows, labels)
    return fit(rows, labels), everything


def _copies(turn: Turn, draw: random.Random) -> list[Turn]:
    """A turn without years: as written, all small, and with half of its titles in another case."""

    def mixed(title: str) -> str:
        plain = without_year(title)
        return in_another_case(plain, draw) if draw.random() < 0.5 else plain

    rewrites: tuple[tuple[Rewrite, bool], ...] = ((without_year, False), (without_year, True), (mixed, False))
    return [rewritten(turn, rewrite, lower) for rewrite, lower in rewrites]


def _titles(counts: Statistics, frequency: Frequency, fold: int) -> Callable[[str], Title]:
    """Features of titles by key; in each fold others are without counts."""
    known: dict[str, Title] = {}

    def title(name: str) -> Title:
        if name not in known:
            is_hidden = zlib.crc32(f"{fold} {name}".encode()) % 1000 < UNKNOWN_SHARE * 1000
            seen = Counts(None, None) if is_hidden else Counts(counts.marks[name], counts.others[name])
            known[name] = title_features(name, seen, frequency)
        return known[name]

    return title


def _add_rows(
    films: Films,
    turn: Turn,
    titles: Callable[[str], Title],
    frequency: Frequency,
    rows: list[Features],
    labels: list[bool],
) -> None:
    """One row for each title that could be read in a turn; one inside a mark, but not all of it, gives none."""
    message = Message(turn.text)
    found = [x for x in films.index.find(message.words) if x[2] < len(films)]
    if not found:
        return
    marks = [(start, end, key(turn.text[start:end])) for start, end, _ in marks_of(turn)]
    inside = longer_ones([(first, stop) for first, stop, _ in found])
    for (first, stop, number), is_inside in zip(found, inside, strict=True):
        start, end = message.tokens[first].start, message.tokens[stop - 1].end
        name = films.keys[number]
        over = [mark for mark in marks if mark[0] < end and start < mark[1]]
        is_meant = any(mark[2] == name for mark in over) and len(over) == 1
        if not is_meant and any(mark[0] <= start and end <= mark[1] for mark in over):
            continue
        title = titles(name)
        rows.append(title.features + place_features(message, first, stop, title, is_inside, frequency))
        labels.append(is_meant)
