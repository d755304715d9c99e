"""Text -> links: films, people and genres that a message names, and what it says of them.

The same Linker reads datasets offline and messages in a chat. It needs names only: no graph, no model of a language.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from crscli import genres
from crscli.catalogue import Catalogue
from crscli.dialogue import Dialogue, Link, Role, Turn
from crscli.linking.choice import Choice
from crscli.linking.films import Films
from crscli.linking.finder import FilmFinder, Find
from crscli.linking.learning import learn
from crscli.linking.message import Message
from crscli.linking.opinions import with_opinions
from crscli.linking.people import People
from crscli.linking.statistics import Statistics, count, words_of_plots
from crscli.linking.weights import Classifier
from crscli.names import tokens
from crscli.progress import Progress, silent

FILE = "linker.json"
LINKER = "linker"
"""Folder of the linker inside `links/`."""


class Linker:
    """Finds what messages name."""

    def __init__(self, catalogue: Catalogue, classifier: Classifier, statistics: Statistics, films: Films) -> None:
        """Put the parts together; see `fit`, `bundled` and `load`."""
        self.catalogue = catalogue
        self.classifier, self.statistics = classifier, statistics
        popularity = np.array([statistics.popularity[item.item_id] for item in catalogue], dtype=np.int64)
        self._choice = Choice(films, popularity)
        self._finder = FilmFinder(films, classifier, statistics, self._choice)
        self._people = People(catalogue, popularity)

    @classmethod
    def fit(
        cls, catalogue: Catalogue, dialogues: Sequence[Dialogue], *, seed: int = 0, progress: Progress = silent
    ) -> "Linker":
        """Learn the weights from dialogues whose item links carry places.

        Args:
            catalogue: what can be named.
            dialogues: to learn from, with the dataset's own marks.
            seed: of the cases that titles are written in.
            progress: told of the dialogues read.
        """
        films = Films(catalogue)
        classifier, statistics = learn(films, dialogues, seed=seed, progress=progress)
        statistics.words.update(words_of_plots(catalogue))
        return cls(catalogue, classifier, statistics, films)

    @classmethod
    def bundled(cls, catalogue: Catalogue, dialogues: Sequence[Dialogue] = ()) -> "Linker":
        """The weights that come with the package.

        Args:
            catalogue: what can be named.
            dialogues: where their item links carry places, how often titles are meant is counted in them.
        """
        plain = json.loads(files(__name__).joinpath("weights.json").read_text(encoding="utf-8"))
        films = Films(catalogue)
        statistics = count(dialogues, films.index)
        statistics.words.update(plain["words"])
        statistics.pairs.update(plain["pairs"])
        statistics.words.update(words_of_plots(catalogue))
        return cls(catalogue, Classifier(plain["bias"], plain["weights"]), statistics, films)

    def link(self, text: str, before: Sequence[Turn] = (), *, role: Role = "seeker") -> tuple[Link, ...]:
        """All links of one message, by place.

        Args:
            text: as typed.
            before: earlier turns, oldest first, with their links: what the message may answer.
            role: whose message it is.
        """
        words = tokens(text)
        people = self._people.find(words, text) if words else []
        message = Message(text, words)
        taken = [place for person in people if (place := _words_of(person, message))]
        films = [
            self._link(find, message, [x.id for x in people]) for find in self._finder.find(message, taken, before)
        ]
        links = films + [person for person in people if not _overlaps(person, films)]
        links += [
            Link("genre", said.genre, said.start, said.end, reason=said.strength)
            for said in genres.said(text)
            if not _overlaps(said, links)
        ]
        links.sort(key=lambda link: (link.start, link.end))
        return with_opinions(text, links, before, role)

    def link_all(self, dialogue: Dialogue) -> list[tuple[Link, ...]]:
        """The links of each turn of a dialogue; its own links are not looked at."""
        read: list[Turn] = []
        for turn in dialogue.turns:
            read.append(Turn(turn.role, turn.text, self.link(turn.text, read, role=turn.role)))
        return [turn.links for turn in read]

    def _link(self, find: Find, message: Message, people: Sequence[str]) -> Link:
        if find.year is not None:
            films = self._choice.with_year(find.titles, find.year)
        else:
            films = self._choice.choose(find.titles, message, find.first, find.stop, people)
        ids = tuple(self.catalogue[item].item_id for film in films for item in film)
        start, end = message.tokens[find.first].start, message.tokens[find.stop - 1].end
        if find.stop - 1 in message.years and find.year is not None:
            end = message.years[find.stop - 1][1]
        return Link("item", ids[0], start, end, round(find.score, 4), ids, reason=find.reason)

    def save(self, directory: Path) -> None:
        """Write weights and counts; the catalogue is not repeated."""
        plain = {
            "bias": self.classifier.bias,
            "weights": dict(self.classifier.weights),
            "statistics": self.statistics.to_json(),
        }
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
        (directory / FILE).write_text(text, encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue) -> "Linker":
        """Read what `save` wrote, for a catalogue that may have grown since."""
        plain = json.loads((directory / FILE).read_text(encoding="utf-8"))
        classifier = Classifier(plain["bias"], plain["weights"])
        return cls(catalogue, classifier, Statistics.from_json(plain["statistics"]), Films(catalogue))


def _words_of(person: Link, message: Message) -> tuple[int, int] | None:
    """(first word, word after the last) of a person's name, if it is one that no single word of it outweighs."""
    inside = [at for at, token in enumerate(message.tokens) if person.start <= token.start < person.end]
    if len(inside) < 2:
        return None
    return inside[0], inside[-1] + 1


def _overlaps(part: Link | genres.GenreSpan, links: Sequence[Link]) -> bool:
    return any(part.start < link.end and link.start < part.end for link in links)
