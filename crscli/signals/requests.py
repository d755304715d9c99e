"""Signals from metadata and from what the seeker asks for in words: the tail that no dialogue names is found by them.

Nothing here is learnt from dialogues but how common their words are; without metadata all of it is silent.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy.sparse as sp

from crscli.catalogue import Catalogue
from crscli.signals.facets import GENRES, STUDIO_NAMES, Facets, similarity, weighted
from crscli.signals.talk import TURNS_KEPT, Talk, rows_of_length_1, sparse
from crscli.wishes import Wish, Wishes, WishReader, fold, in_words

CONTENT: dict[str, str] = {
    "genres_asked": "share of the genres asked for that it has",
    "genres_asked_cosine": "how nearly its genres are those asked for",
    "genres_asked_lately": "the same of the seeker's last turn with a genre",
    "genres_said": "share of all genres said by the seeker, also of films, that it has",
    "genres_of_recommender": "share of the genres said by the recommender lately that it has",
    "genres_unwanted": "genres it has that are not wanted",
    "years_asked": "its year is as asked for",
    "people_asked": "people in it whom the seeker names, less those he does not want",
    "people_named": "people in it whom either side named lately",
    "labels_asked": "studio, audience or theme as asked for",
    "request": "all that is asked for together",
    "request_named_often": "the same for films that dialogues name often",
    "request_like_mentions": "the same for films whose metadata are like the mentions'",
    "words_in_document": "the seeker's words in its title, plot, genres and names",
    "words_in_document_lately": "words of the last two turns there",
    "like_genres": "its genres are like the mentions'",
    "like_people": "its people are like the mentions'",
    "like_plot": "the words of its plot are like the mentions'",
    "like_labels": "its companies and keywords are like the mentions'",
    "like_newest": "its metadata are like the newest mention's",
    "like_in_graph": "its neighbours in a graph are like the mentions'",
    "people_often": "how often dialogues name other films of its people",
}
"""Name -> what it tells of an item in a context, in the order of the features."""

_LATELY = 8
_NEWEST_DECAY, _DECAY = 0.3, 0.85
_NEW_FOR, _OLD_BEFORE, _OLD_SINCE = 6.0, 1995.0, 1975.0
_OUTSIDE = 4.0
_FITS = 0.3


class ContentSignals:
    """What the catalogue tells; `scores` gives every signal of CONTENT for every item."""

    def __init__(self, catalogue: Catalogue, graph: sp.csr_array | None = None) -> None:
        """Args: a matrix of items by entities, (N, E), of any graph."""
        self.catalogue = catalogue
        self.facets = Facets(catalogue)
        self.graph = graph
        self._neighbours = None if graph is None else weighted(sp.csr_array(graph))
        self.reader = WishReader(name for item in catalogue for name in (*item.cast, *item.directors, *item.writers))
        self._wishes_in = lru_cache(maxsize=TURNS_KEPT)(self.reader.of_turn)
        self._people_in = lru_cache(maxsize=TURNS_KEPT)(self.reader.people_in)
        self._person = {name: num for num, name in enumerate(self.facets.people.names)}
        known = self.facets.years[self.facets.years > 0]
        # The newest years hold announced films; the catalogue ends where films become few.
        self.newest_year = float(np.quantile(known, 0.995)) if len(known) else 0.0

    def wishes(self, talk: Talk) -> list[Wishes]:
        """What holds at the end of each context."""
        return [fold(own) for own in self._stated(talk)]

    def _stated(self, talk: Talk) -> Iterator[list[Wish]]:
        """The wishes of each context, oldest first; a turn is read once however many contexts share it."""
        read: dict[tuple[int, int], list[Wish]] = {}
        for span in talk.spans:
            stated: list[Wish] = []
            for at, num in enumerate(span):
                if talk.role[num]:
                    continue
                before = span[at - 1] if at and talk.role[span[at - 1]] else -1
                if (num, before) not in read:
                    asked_before = talk.turns[before] if before >= 0 else None
                    read[num, before] = self._wishes_in(talk.turns[num], asked_before)
                stated += [_at(wish, at) for wish in read[num, before]]
            yield stated

    # ---- scoring ----------------------------------------------------------------------------------------------

    def scores(self, talk: Talk, often: np.ndarray, word_weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every signal for every item: name -> (B, N) float32, in the order of CONTENT.

        Args:
            talk: B contexts.
            often: (N,) log of how many dialogues name each item.
            word_weights: (V,) idf of the lexicon's terms in dialogues.
        """
        size = (len(talk.contexts), len(self.catalogue))
        if not self.facets.described:
            nothing = np.zeros(size, dtype=np.float32)
            return dict.fromkeys(CONTENT, nothing)
        found = {**self._asked(talk), **self._words(talk, word_weights), **self._likeness(talk)}
        found["request_named_often"] = found["request"] * often
        near = found["like_genres"] + found["like_people"] + found["like_plot"] + found["like_labels"]
        found["request_like_mentions"] = found["request"] * near
        found["people_often"] = np.broadcast_to(self._people_often(often), size)
        return {name: found[name].astype(np.float32, copy=False) for name in CONTENT}

    def _asked(self, talk: Talk) -> dict[str, np.ndarray]:
        stated = list(self._stated(talk))
        held = [fold(own) for own in stated]
        genres = self.facets.genres.T
        asked = _genre_rows([[w.value for w in own.wanted("genre")] for own in held])
        lately = _genre_rows([_of_last_turn(own.wanted("genre")) for own in held])
        said = _genre_rows([[w.value for w in own if w.kind == "genre" and w.wanted] for own in stated])
        unwanted = _genre_rows([[w.value for w in own.unwanted("genre")] for own in held])
        theirs = self._genres_of_recommender(talk)
        found = {
            "genres_asked": _shares(asked) @ genres,
            "genres_asked_cosine": _lengths(asked) @ self.facets.genre_weights.T,
            "genres_asked_lately": _shares(lately) @ genres,
            "genres_said": _shares(said) @ genres,
            "genres_of_recommender": _shares(theirs) @ genres,
            "genres_unwanted": unwanted @ genres,
            "years_asked": np.stack([self._years(talk, own) for own in held])
            if held
            else np.zeros((0, genres.shape[1]), dtype=np.float32),
            "people_asked": self._people([_signed(own) for own in held]),
            "people_named": self._people(self._people_lately(talk)),
            "labels_asked": self._labels(held),
        }
        found["request"] = (
            found["genres_asked"]
            + 0.5 * found["genres_asked_lately"]
            + found["years_asked"]
            + 2 * np.minimum(found["people_asked"], 1)
            + found["labels_asked"]
            - found["genres_unwanted"]
        )
        return found

    def _genres_of_recommender(self, talk: Talk) -> np.ndarray:
        """Genres in the last two turns of the recommender, as questions or on films."""
        read: dict[int, list[str]] = {}
        rows = []
        for span in talk.spans:
            own = [num for num in span if talk.role[num]][-2:]
            for num in own:
                if num not in read:
                    read[num] = [w.value for w in self._wishes_in(talk.turns[num]) if w.kind == "genre" and w.wanted]
            rows.append([genre for num in own for genre in read[num]])
        return _genre_rows(rows)

    def _people_lately(self, talk: Talk) -> list[dict[str, float]]:
        read: dict[int, list[str]] = {}
        rows = []
        for span in talk.spans:
            own = span[-_LATELY:]
            for num in own:
                if num not in read:
                    read[num] = self._people_in(talk.turns[num])
            rows.append({name: 1.0 for num in own for name in read[num]})
        return rows

    def _people(self, named: list[dict[str, float]]) -> np.ndarray:
        places = [
            (row, self._person[name], value)
            for row, own in enumerate(named)
            for name, value in own.items()
            if name in self._person
        ]
        rows, columns, values = zip(*places, strict=True) if places else ((), (), ())
        chosen = sparse(rows, columns, (len(named), len(self._person)), values)
        return (chosen @ sp.csr_array(self.facets.people.table.T)).toarray()

    def _labels(self, held: list[Wishes]) -> np.ndarray:
        found = np.zeros((len(held), len(self.catalogue)), dtype=np.float32)
        studios = list(STUDIO_NAMES)
        for row, own in enumerate(held):
            for wish, sign in [*((w, 1) for w in own.wanted()), *((w, -1) for w in own.unwanted())]:
                if wish.kind == "studio":
                    found[row] += sign * self.facets.studios[:, studios.index(wish.value)]
                elif wish.kind == "theme":
                    found[row] += sign * self.facets.superheroes
                elif wish.kind == "audience":
                    found[row] += sign * self.facets.kids
        return found

    def _years(self, talk: Talk, wishes: Wishes) -> np.ndarray:
        """How well each item's year fits, 0 to 1, the best of the wishes; below 0 where it is not wanted."""
        years = self.facets.years
        fits = [self._year_fit(wish) for wish in wishes.wanted("years")]
        total = np.max(fits, axis=0) if fits else np.zeros(len(years), dtype=np.float32)
        for wish in wishes.unwanted("years"):
            total = total - self._year_fit(wish)
        return np.where(years > 0, total, 0).astype(np.float32)

    def _year_fit(self, wish: Wish) -> np.ndarray:
        years = self.facets.years
        if wish.than:
            than = self.catalogue.item(wish.than).year if wish.than in self.catalogue else None
            apart = (years - (than or self.newest_year)) * (1 if wish.value == "newer" else -1)
            return np.clip(apart / 5, 0, 1)
        if wish.value in ("new", "newer"):
            return np.clip(1 - (self.newest_year - years) / _NEW_FOR, 0, 1)
        if wish.value in ("old", "older"):
            return np.clip((_OLD_BEFORE - years) / (_OLD_BEFORE - _OLD_SINCE), 0, 1)
        first, _, last = wish.value.partition("-")
        outside = np.maximum(float(first or 0) - years, 0) + np.maximum(years - float(last or 9999), 0)
        return np.exp(-outside / _OUTSIDE)

    def _words(self, talk: Talk, word_weights: np.ndarray) -> dict[str, np.ndarray]:
        """Words against documents, weighed by how rare they are in both; those of every dialogue count little."""
        documents = self.facets.documents
        known = talk.lexicon.vocabulary
        rarest = float(word_weights.max(initial=1.0))
        rows, columns, values = [], [], []
        for num, words in enumerate(talk.tokens):
            for word in dict.fromkeys(words):
                column = documents.numbers.get(word)
                if column is not None:
                    place = known.get(word)
                    rows.append(num)
                    columns.append(column)
                    values.append(rarest if place is None else float(word_weights[place]))
        said = sparse(rows, columns, (len(talk.turns), len(documents.names)), values)
        found = {}
        for name, chosen in (("words_in_document", talk.seeker), ("words_in_document_lately", talk.last)):
            query = rows_of_length_1(sp.csr_array(chosen @ said))
            found[name] = (query @ documents.by_entity).toarray()
        return found

    def _likeness(self, talk: Talk) -> dict[str, np.ndarray]:
        facets = self.facets
        mentions, newest = talk.weighted(_DECAY), talk.weighted(_NEWEST_DECAY)
        genres = _lengths(mentions @ facets.genre_weights) @ facets.genre_weights.T
        found = {"like_genres": genres}
        recent = _lengths(newest @ facets.genre_weights) @ facets.genre_weights.T
        for name, facet in (("people", facets.people), ("plot", facets.plot), ("labels", facets.labels)):
            found[f"like_{name}"] = similarity(mentions, facet.weights, facet.by_entity)
            recent = recent + similarity(newest, facet.weights, facet.by_entity)
        found["like_newest"] = recent
        if self._neighbours is None:
            found["like_in_graph"] = np.zeros_like(genres)
        else:
            found["like_in_graph"] = similarity(mentions, self._neighbours, sp.csr_array(self._neighbours.T))
        return found

    def _people_often(self, often: np.ndarray) -> np.ndarray:
        """Mean over an item's people of how often their other films are named, in logs."""
        table = self.facets.people.table
        films = np.maximum(np.asarray(table.sum(axis=0)).ravel() - 1, 0)
        total = table.T @ often
        rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        others = (total[table.indices] - often[rows]) / (films[table.indices] + 1)
        sums = np.bincount(rows, weights=others, minlength=table.shape[0])
        return (sums / np.maximum(np.diff(table.indptr), 1)).astype(np.float32)

    # ---- why --------------------------------------------------------------------------------------------------

    def request_behind(self, talk: Talk, row: int, item: int) -> str | None:
        """What was asked for that an item is, in words, the newest two; None if nothing was."""
        met = []
        for wish in self.wishes(talk)[row].wanted():
            if wish.kind == "genre":
                fits = self.facets.genres[item, GENRES.index(wish.value)] > 0
            elif wish.kind == "years":
                fits = self.facets.years[item] > 0 and self._year_fit(wish)[item] > _FITS
            else:
                fits = wish.kind != "person" and self._labels([Wishes((wish,))])[0, item] > 0
            met += [in_words(wish)] if fits else []
        return " and ".join(met[-2:]) or None

    def name_behind(self, talk: Talk, row: int, item: int) -> str | None:
        """The person of an item whom either side named, or its title if it was typed; None if neither was."""
        table, own = self.facets.people.table, self.facets.people.names
        people = {own[num] for num in table.indices[table.indptr[item] : table.indptr[item + 1]]}
        unwanted = {wish.value for wish in self.wishes(talk)[row].unwanted("person")}
        named = [name for name in self._people_lately(talk)[row] if name in people - unwanted]
        if named:
            return named[-1]
        typed = any(talk.typed[num, item] for num in talk.spans[row])
        return self.catalogue[item].name if typed else None

    def likeness_behind(self, talk: Talk, row: int, item: int) -> str | None:
        """The person, company, keyword or genre that links an item to the mentions most; None if nothing does."""
        mentions = sp.csr_array(talk.weighted(_DECAY)[[row], :])
        found = []
        for facet in (self.facets.people, self.facets.labels):
            shared = (mentions @ facet.weights).multiply(facet.weights[[item], :]).tocoo()
            found += [(value, facet.names[num]) for value, num in zip(shared.data, shared.col, strict=True)]
        genres = (mentions @ self.facets.genre_weights)[0] * self.facets.genre_weights[item]
        best = max(found, default=(0.0, ""))
        if best[0] > 0:
            return best[1]
        return GENRES[int(genres.argmax())] if genres.max() > 0 else None


def _at(wish: Wish, turn: int) -> Wish:
    return Wish(wish.kind, wish.value, wish.wanted, wish.asked, turn, wish.start, wish.end, wish.than)


def _of_last_turn(wishes: list[Wish]) -> list[str]:
    last = max((wish.turn for wish in wishes), default=0)
    return [wish.value for wish in wishes if wish.turn == last]


def _signed(wishes: Wishes) -> dict[str, float]:
    wanted = {w.value: 1.0 for w in wishes.wanted("person")}
    return wanted | {w.value: -1.0 for w in wishes.unwanted("person")}


def _genre_rows(named: list[list[str]]) -> np.ndarray:
    rows = np.zeros((len(named), len(GENRES)), dtype=np.float32)
    for row, own in enumerate(named):
        for genre in own:
            rows[row, GENRES.index(genre)] = 1
    return rows


def _shares(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)


def _lengths(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
