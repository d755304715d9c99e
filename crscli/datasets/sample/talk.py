"""Who wants what in the sample dialogues, and what each side can fill into its wordings."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from crscli.datasets.sample import Filler, Filling, Film, GenreWords, Grammar, Piece, Style, Typist, listed, marked

FONDNESS = 10.0  # how much likelier a film of the circle is than another one of the same taste
_ERAS = {"newer": (2000, 2100), "recent": (2010, 2100), "older": (0, 1979)}

Said = tuple[str, Mapping[str, Filler]]


@dataclass
class Taste:
    """What a seeker wants. `genres` are all wanted; `person` must take part; `pool` has the films of these."""

    circle: list[Film]
    genres: tuple[str, ...] = ()
    person: str = ""
    era: str = ""
    years: tuple[int, int] = (0, 9999)
    unwanted: str = ""
    hated: str = ""
    occasion: str = ""
    pool: list[Film] = field(default_factory=list)

    def violated(self, film: Film) -> set[str]:
        """The facets of the taste that a film does not meet; none when it is right."""
        broken = set()
        for name, genre in zip(("genre", "genre1"), self.genres, strict=False):
            if genre not in film.genres:
                broken.add(name)
        if not self.years[0] <= film.year <= self.years[1]:
            broken.add("era")
        if self.unwanted in film.genres:
            broken.add("unwanted")
        if self.person and self.person not in film.people:
            broken.add("person")
        if self.hated and self.hated in film.people:
            broken.add("hated")
        if self.occasion == "kids" and "family" not in film.genres:
            broken.add("kids")
        return broken


class World:
    """The films with their popularity, and the circles of films that are liked together."""

    def __init__(self, films: Sequence[Film], rng: random.Random) -> None:
        self.films = list(films)
        order = rng.sample(self.films, len(self.films))
        self.weight = {f.item_id: (rank + 6.0) ** -0.8 for rank, f in enumerate(order)}
        self.by_popularity = order
        titles = Counter(f.title.lower().removeprefix("the ") for f in films)
        self.plain = {f.item_id: titles[f.title.lower().removeprefix("the ")] == 1 for f in films}
        people = Counter(name for f in films for name in set(f.people))
        surnames = Counter(name.split()[-1] for name in people)
        self.known_as = {n: s for n in people if surnames[s := n.split()[-1]] == 1 and len(s) > 3 and "." not in s}
        self.common_words = {word for f in films for word in f.plot.split()[1:] if word.islower()}
        self.circles = [*self._genre_circles(), *self._person_circles(people)]
        self.circle_weights = [(rank + 8.0) ** -0.6 for rank in range(len(self.circles))]
        rng.shuffle(self.circles)

    def _genre_circles(self) -> Iterator[Taste]:
        pairs = Counter(p for f in self.films for p in combinations(sorted(f.genres), 2))
        ones = Counter((g,) for f in self.films for g in f.genres)
        combos: dict[tuple[str, ...], int] = {c: n for c, n in pairs.items() if n >= 9}
        combos |= {c: n for c, n in ones.items() if n < 40}
        for combo in sorted(combos):
            left = [f for f in self.by_popularity if set(combo) <= set(f.genres)]
            for _ in range(1 + len(left) // 16):
                if len(left) >= 6:
                    circle = sorted(left, key=lambda f, seed=left[0]: -nearness(seed, f))[:8]  # type: ignore[misc]
                    left = [f for f in left if f not in circle]
                    yield Taste(circle, genres=combo)

    def _person_circles(self, people: Counter[str]) -> Iterator[Taste]:
        for name in sorted(n for n, count in people.items() if count >= 6):
            yield Taste([f for f in self.by_popularity if name in f.people][:8], person=name)

    def pick(self, films: Iterable[Film], circle: Sequence[Film], rng: random.Random) -> Film | None:
        """Draw by popularity, films of the circle more often; None from nothing."""
        pool = list(films)
        weights = [self.weight[f.item_id] * (FONDNESS if f in circle else 1.0) for f in pool]
        return rng.choices(pool, weights)[0] if pool else None

    def taste(self, rng: random.Random, wording: dict[str, Any]) -> Taste:
        """Draw a seeker's taste: a circle, and constraints that leave enough films."""
        base = rng.choices(self.circles, self.circle_weights)[0]
        taste = Taste(base.circle, base.genres, base.person)
        taste.pool = [f for f in self.films if not taste.violated(f)]
        if not taste.person and len(taste.genres) == 2 and rng.random() < 0.5:
            taste.genres = taste.genres[::-1]
        for change, chance in ((self._era, 0.45), (self._unwanted, 0.35), (self._hated, 0.08)):
            if rng.random() < chance and not taste.person:
                change(taste, rng, wording)
        fitting = [n for n, o in wording["occasions"].items() if not o["genres"] or {*o["genres"]} & {*taste.genres}]
        if rng.random() < 0.4:
            taste.occasion = rng.choice(fitting)
            if not self._room(taste):
                taste.occasion = ""
        return taste

    def _room(self, taste: Taste) -> bool:
        right = [f for f in taste.pool if not taste.violated(f)]
        return len(right) >= 7 and sum(f in taste.circle for f in right) >= 4

    def _era(self, taste: Taste, rng: random.Random, wording: dict[str, Any]) -> None:
        start = rng.choice(taste.circle).year // 10 * 10
        choices = {"newer", "recent", "older", f"{start}"} if start >= 1950 else {"older"}
        for name in rng.sample(sorted(choices), len(choices)):
            taste.era, taste.years = name, _ERAS.get(name) or (int(name), int(name) + 9)
            if self._room(taste):
                return
        taste.era, taste.years = "", (0, 9999)

    def _unwanted(self, taste: Taste, rng: random.Random, wording: dict[str, Any]) -> None:
        near = [g for f in taste.pool if not taste.violated(f) for g in f.genres]
        choices = sorted({g for g in near if g in wording["unwanted"] and g not in taste.genres}) or ["horror"]
        taste.unwanted = rng.choice(choices)
        if taste.unwanted in taste.genres or not self._room(taste):
            taste.unwanted = ""

    def _hated(self, taste: Taste, rng: random.Random, wording: dict[str, Any]) -> None:
        names = sorted({n for f in taste.pool if not taste.violated(f) for n in f.cast})
        taste.hated = rng.choice(names)
        if not self._room(taste):
            taste.hated = ""


def nearness(one: Film, other: Film) -> float:
    """How alike two films are: genres, people, keywords, time."""
    shared = [len({*getattr(one, n)} & {*getattr(other, n)}) for n in ("genres", "people", "keywords")]
    return shared[0] + 2.0 * shared[1] + shared[2] - abs(one.year - other.year) / 25


class Dry(Exception):
    """No film is left that would suit; the dialogue is drawn anew."""


@dataclass
class Talk:
    """One dialogue while it is made: what was named, what the recommender knows, how its next turn begins."""

    world: World
    wording: dict[str, Any]
    grammar: Grammar
    genre_words: GenreWords
    rng: random.Random
    turns: list[dict[str, Any]] = field(default_factory=list)
    named: list[Film] = field(default_factory=list)
    liked: list[Film] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    lead: list[Said] = field(default_factory=list)
    taken: Film | None = None

    def __post_init__(self) -> None:
        self.taste = self.world.taste(self.rng, self.wording)
        self.faults = {f: self.taste.violated(f) for f in self.world.films}
        self.target = self.rng.choice([7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 14])
        self.daytime = self.rng.choice(self.wording["words"]["daytimes"])
        self.typists: dict[str, Typist] = {}
        for role, styles in self.wording["styles"].items():
            chosen = self.rng.choices(list(styles.values()), [s["weight"] for s in styles.values()])[0]
            style = Style(**{k: v for k, v in chosen.items() if k != "weight"})
            self.typists[role] = Typist(style, self.wording["words"], self.rng)
        self.terse = self.typists["seeker"].chance(self.typists["seeker"].style.terse)

    def film(self, role: str, film: Film, opinion: str = "") -> Callable[[], Filling]:
        """A film's title as the one who speaks types it."""
        typist, plain = self.typists[role], self.world.plain[film.item_id]
        return lambda: typist.title(film, plain=plain, opinion=opinion)

    def films(self, role: str, films: Sequence[Film], opinion: str) -> Callable[[], Filling]:
        """Several titles, listed."""
        return lambda: listed([self.film(role, f, opinion)() for f in films])

    def genre(self, genres: Sequence[str], form: str) -> Callable[[], Filling]:
        """Words for genres."""
        return lambda: self.genre_words.say(genres, form)

    def _people(self, role: str, names: Sequence[str]) -> Callable[[], Filling]:
        known_as = self.world.known_as if role == "seeker" and self.rng.random() < 0.25 else {}
        return lambda: listed([[Piece(known_as.get(n, n), "person", n)] for n in names])

    def _common(self, role: str) -> dict[str, Filler]:
        taste, rng, words = self.taste, self.rng, self.wording
        wanted = taste.genres[: 1 if "genre1" not in self.known else 2]
        filled: dict[str, Filler] = {
            "hum": self.typists[role].hum,
            "random_one": lambda: self.genre_words.say([rng.choice(sorted(words["genres"]))], "one"),
            "hello": lambda: [Piece(rng.choice([*words["words"]["hellos"], self.daytime, self.daytime]))],
            "tail": [],
        }
        for form in ("one", "many", "bare") if wanted else ():
            filled[f"genre_{form}"] = self.genre(wanted, form)
        if taste.unwanted:
            said = words["unwanted"][taste.unwanted]
            filled["unwanted"] = lambda: marked(rng.choice(said), "genre", taste.unwanted)
        if taste.era:
            filled["era"] = self._era
        if taste.person:
            filled["person"] = self._people(role, [taste.person])
        if taste.occasion:
            filled["occasion"] = lambda: [Piece(rng.choice(words["occasions"][taste.occasion]["said"]))]
        return filled

    def _era(self) -> Filling:
        eras, name = self.wording["eras"], self.taste.era
        decade = f"{name}s" if name > "1999" or self.rng.random() < 0.3 else f"{name[2:]}s"
        said = self.rng.choice(eras["decade" if name.isdigit() else name])
        return [Piece(said.replace("{decade}", decade))]

    def facts(self, film: Film) -> dict[str, Filler]:
        """What the recommender tells about a film."""
        rng, plot = self.rng, film.plot.rstrip(".") + "."
        low = plot[0].lower() + plot[1:] if plot.split()[0].lower() in self.world.common_words else plot
        shared = [g for g in self.taste.genres if g in film.genres] or list(film.genres)
        filled: dict[str, Filler] = {"plot": [Piece(plot)], "plot_low": [Piece(low)], "year": [Piece(str(film.year))]}
        for form in ("one", "many"):
            filled[f"film_{form}"] = self.genre(shared[:2], form)
        if film.cast:
            filled["cast"] = lambda: self._people("recommender", [rng.choice(film.cast[:2])])()
            filled["cast_first"] = self._people("recommender", film.cast[:1])
            filled["cast_all"] = self._people("recommender", film.cast)
        filled["director"] = self._people("recommender", film.directors)
        return filled | {"film": self.film("recommender", film)}

    def likable(self) -> Film | None:
        """A film the seeker may name as liked."""
        right = [f for f in self.world.films if f not in self.named and not self.faults[f] - {"era", "kids"}]
        return self.world.pick(right, self.taste.circle, self.rng)

    def name(self, film: Film, liked: bool = False) -> None:
        """Note that a film was named."""
        self.named.append(film)
        if liked:
            self.liked.append(film)
            self.known.add("films")

    def other(self) -> Film | None:
        """A film that shares none of the wanted genres."""
        wanted = {*self.taste.genres} or {*self.taste.circle[0].genres}
        strange = [f for f in self.world.films if f not in self.named and not wanted & {*f.genres}]
        return self.world.pick(strange, [], self.rng)

    def right(self) -> Film | None:
        """A new film without fault."""
        right = [f for f in self.world.films if f not in self.named and not self.faults[f]]
        return self.world.pick(right, self.taste.circle, self.rng)

    def of_liked(self) -> dict[str, Filler]:
        """The film liked last, as the recommender types it."""
        return {"liked": self.film("recommender", self.liked[-1])} if self.liked else {}

    def say(self, role: str, *acts: Said, warm: bool = False) -> str:
        """Add a turn made of some acts and return its text."""
        common = self._common(role)
        said: list[Filling] = []
        for act, fill in acts:
            if not (act.startswith("r_tag") and any("?" in p.text for pieces in said for p in pieces if not p.kind)):
                said.append(self.grammar.say(act, {**common, **fill}))
        line = self.typists[role].line(said, warm=warm)
        self.turns.append({"role": role, **line})
        return str(line["text"])
