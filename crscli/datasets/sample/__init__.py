"""The bundled sample: films (`items.jsonl`), dialogues (`dialogues.jsonl`) and what the dialogues are made from.

This module holds the writing of one line of a dialogue: a grammar of wordings (`wording*.toml`) gives pieces of
text, a typing style turns them into what a person types, and the offsets of the linked pieces are kept on the way.
`generate` decides what is said.
"""

import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# Which of two genres ends a phrase ("romantic comedy"); those not named here stand in front.
_HEADS = ["thriller", "drama", "comedy", "western", "musical", "adventure", "fantasy", "mystery", "horror", "family"]
_HEADS += ["action", "crime", "romance", "war"]
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_GAP = re.compile(r" +([,.?!']| (?=\S))")
_SLOT = re.compile(r"\{(\w+)\}")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s+|$)")
_SENTENCE_START = re.compile(r"(?<!\.)([.!?]\s+)([a-z])")
_WORD = re.compile(r"[a-z]{5,}")
_AN = re.compile(r"(?!one\b|uni|use|eu)[aeiou]|8|11\b|18")


@dataclass(frozen=True, eq=False)
class Film:
    """One row of `items.jsonl`."""

    item_id: str
    title: str
    year: int
    directors: tuple[str, ...]
    cast: tuple[str, ...]
    genres: tuple[str, ...]
    keywords: tuple[str, ...]
    plot: str
    language: str
    runtime: int

    @property
    def people(self) -> tuple[str, ...]:
        """Directors, then cast."""
        return self.directors + self.cast


@dataclass(frozen=True)
class Piece:
    """A stretch of text; with a kind it is linked to `id`."""

    text: str
    kind: str = ""
    id: str = ""
    opinion: str = ""


Filling = Sequence[Piece]
Filler = Filling | Callable[[], Filling]


def load_films(path: Path) -> list[Film]:
    """Read the films in the order of the file."""
    films = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            row: dict[str, Any] = json.loads(line)
            films.append(Film(**{k: _frozen(v) for k, v in row.items()}))
    return films


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def load_wording(folder: Path = HERE) -> dict[str, Any]:
    """Read all `wording*.toml` of a folder as one table."""
    wording: dict[str, Any] = {}
    for path in sorted(folder.glob("wording*.toml")):
        wording |= tomllib.loads(path.read_text(encoding="utf-8"))
    return wording


def listed(groups: Sequence[Filling], word: str = "and") -> list[Piece]:
    """Join pieces as a person lists them: "A, B and C"."""
    joined: list[Piece] = []
    for place, group in enumerate(groups):
        if place:
            joined.append(Piece(f" {word} " if place == len(groups) - 1 else ", "))
        joined.extend(group)
    return joined


def marked(text: str, kind: str, ident: str) -> list[Piece]:
    """Pieces of a text in which the linked part stands between stars."""
    parts = enumerate(text.split("*"))
    return [Piece(p, kind, ident) if place % 2 else Piece(p) for place, p in parts if p]


class GenreWords:
    """How genres are named: `one` film of them, `many` films, or the genres `bare`."""

    def __init__(self, table: Mapping[str, Any], rng: random.Random) -> None:
        self._table = table
        self._rng = rng

    def _word(self, genre: str, form: str) -> list[Piece]:
        return marked(self._rng.choice(self._table[genre][form]), "genre", genre)

    def say(self, genres: Sequence[str], form: str) -> list[Piece]:
        """Name one or two genres: "romantic comedy", "thriller with some drama", "comedy and romance"."""
        if len(genres) == 1 or form == "mass" or "documentary" in genres:
            return self._word("documentary" if "documentary" in genres else genres[0], form)
        if form == "bare":
            return listed([self._word(g, form) for g in genres])
        head, other = sorted(genres, key=lambda g: _HEADS.index(g) if g in _HEADS else 99)
        if "first" in self._table[other] and self._rng.random() < 0.8:
            return [*self._word(other, "first"), Piece(" "), *self._word(head, form)]
        return [*self._word(head, form), Piece(" with some "), *self._word(other, "mass")]


class Grammar:
    """Wordings per act. `[a|b]` chooses; `{name}` is filled by the caller or, failing that, by another act.

    Of a few draws the one whose sentences were used least so far is taken, which keeps any one sentence rare.
    """

    def __init__(self, acts: Mapping[str, Sequence[str]], rng: random.Random, draws: int = 4) -> None:
        self._acts = acts
        self._rng = rng
        self._draws = draws
        self._used: Counter[str] = Counter()
        self._here: Counter[str] = Counter()

    def start(self) -> None:
        """Begin a dialogue: what it says twice counts as worn."""
        self._here.clear()

    def say(self, act: str, filled: Mapping[str, Filler]) -> list[Piece]:
        """Draw one wording of an act."""
        drawn = [self._expand(act, filled) for _ in range(self._draws)]
        best = min(drawn, key=lambda pieces: max(self._used[s] + 99 * self._here[s] for s in sentences(pieces)))
        self._used.update(sentences(best))
        self._here.update(sentences(best))
        return best

    def _expand(self, act: str, filled: Mapping[str, Filler]) -> list[Piece]:
        text = self._rng.choice(self._acts[act])
        while (found := _CHOICE.search(text)) is not None:
            text = text[: found.start()] + self._rng.choice(found.group(1).split("|")) + text[found.end() :]
        text = _GAP.sub(r"\1", text)
        pieces: list[Piece] = []
        for place, part in enumerate(_SLOT.split(text)):
            if place % 2 == 0:
                pieces += [Piece(part)] if part else []
            elif (filling := filled.get(part)) is not None:
                pieces.extend(filling() if callable(filling) else filling)
            else:
                pieces.extend(self._expand(part, filled))
        return pieces


def sentences(pieces: Iterable[Piece]) -> list[str]:
    """The sentences of a wording, linked pieces as a slot, in lower case without marks."""
    return bare_sentences("".join("_" if p.kind else p.text for p in pieces))


def bare_sentences(text: str) -> list[str]:
    """Split a text into sentences, without case, commas and the like."""
    bare = (" ".join(re.findall(r"[\w']+", part.lower())) for part in _SENTENCE_END.split(text))
    return [part for part in bare if part] or [""]


@dataclass(frozen=True)
class Style:
    """How somebody types. Numbers are chances; `short` and `wrong` rewrite words, `smiles` end warm lines."""

    lower: float = 0.0
    lower_titles: float = 0.0
    title_typo: float = 0.0
    word_typo: float = 0.0
    no_apostrophe: float = 0.0
    shorthand: float = 0.0
    open_end: float = 0.0
    bang: float = 0.0
    smile: float = 0.0
    hum: float = 0.0
    year: float = 0.0
    terse: float = 0.0


class Typist:
    """Somebody who types: a style, and the habits drawn from it for one dialogue."""

    def __init__(self, style: Style, words: Mapping[str, Any], rng: random.Random) -> None:
        self.style = style
        self._rng = rng
        self._words = words
        self._lower = rng.random() < style.lower
        self._lower_titles = self._lower or rng.random() < style.lower_titles
        self._bare = rng.random() < style.no_apostrophe
        self._smile = rng.choice(words["smiles"] + (words["laughs"] if style.hum > 0.3 or style.shorthand else []))
        self._short = {k: v for k, v in words["shorthand"].items() if rng.random() < style.shorthand}

    def chance(self, of: float) -> bool:
        """True with the given chance."""
        return self._rng.random() < of

    def hum(self) -> list[Piece]:
        """A hesitating word to begin with, or nothing."""
        return [Piece(self._rng.choice(self._words["hums"]))] if self.chance(self.style.hum) else []

    def title(self, film: Film, *, plain: bool, opinion: str = "") -> list[Piece]:
        """A film's title as this person types it; with its year where it would not be `plain` otherwise."""
        text, rng = film.title, self._rng
        dated = not plain or rng.random() < self.style.year
        if plain and not dated and text.startswith("The ") and len(text) > 9 and rng.random() < self.style.title_typo:
            text = text[4:]
        if rng.random() < self.style.title_typo:
            text = misspelt(text, rng)
        if self._lower_titles and rng.random() < 0.85:
            text = text.lower()
        if dated:
            text += f" {film.year}" if self._lower and rng.random() < 0.4 else f" ({film.year})"
        return [Piece(text, "item", film.item_id, opinion)]

    def line(self, said: Sequence[Filling], *, warm: bool = False) -> dict[str, Any]:
        """Type one turn: its text and its links with offsets."""
        typed: list[Piece] = []
        for place, pieces in enumerate(said):
            last = place == len(said) - 1
            sentence = self._marked(_capital([self._typed(p) for p in _articled(pieces)]), last=last, warm=warm)
            typed += [Piece(" ")] if typed else []
            typed += [replace(p, text=p.text.lower()) if self._lower and p.kind != "item" else p for p in sentence]
        if warm and self._rng.random() < self.style.smile:
            typed.append(Piece(f" {self._smile}"))
        return _joined(typed)

    def _typed(self, piece: Piece) -> Piece:
        text = piece.text
        if piece.kind == "item":
            return piece
        if not piece.kind:
            for long, short in self._short.items():
                text = re.sub(rf"\b{re.escape(long)}\b", short, text)
            text = _WORD.sub(self._slip, text)
        elif piece.kind == "person" and self._rng.random() < self.style.title_typo / 2:
            text = misspelt(text, self._rng)
        if self._bare:
            text = text.replace("'", "")
        return replace(piece, text=text)

    def _slip(self, found: re.Match[str]) -> str:
        word = found.group()
        if self._rng.random() >= self.style.word_typo:
            return word
        return str(self._words["wrong"].get(word) or misspelt(word, self._rng))

    def _marked(self, pieces: list[Piece], *, last: bool, warm: bool) -> list[Piece]:
        end = pieces[-1]
        if not last and end.text[-1:] not in ".!?":
            return [*pieces, Piece("," if self._lower and self._rng.random() < 0.5 else ".")]
        if end.kind or not end.text.endswith(".") or end.text.endswith(".."):
            return pieces
        text = end.text[:-1]
        if warm and self._rng.random() < self.style.bang:
            text += "!"
        elif last:
            text += "" if self._rng.random() < self.style.open_end else "."
        else:
            text += self._rng.choice([",", "...", "."]) if self._lower and self._rng.random() < 0.4 else "."
        return [*pieces[:-1], replace(end, text=text)]


def misspelt(text: str, rng: random.Random) -> str:
    """Swap, drop or double a letter inside a word, or lose an apostrophe; short texts stay as they are."""
    if "'" in text and rng.random() < 0.5:
        return text.replace("'", "", 1)
    inside = [m.start() for m in re.finditer(r"(?<=[A-Za-z])[a-z](?=[a-z])", text)]
    if len(inside) < 3:
        return text
    for _ in range(9):
        at = rng.choice(inside)
        swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        made = rng.choice([swapped, swapped, text[:at] + text[at + 1 :], text[:at] + text[at] + text[at:]])
        if made != text:
            return made
    return text


def _articled(pieces: Filling) -> list[Piece]:
    """Settle each "a(n)" by what follows it."""
    done: list[Piece] = []
    for piece in reversed(pieces):
        text = piece.text
        while (at := text.rfind("a(n) ")) >= 0:
            rest = text[at + 5 :] + "".join(p.text for p in reversed(done))[:12]
            text = text[:at] + ("an " if _AN.match(rest.lower()) else "a ") + text[at + 5 :]
        done.append(replace(piece, text=text))
    return done[::-1]


def _capital(pieces: list[Piece]) -> list[Piece]:
    """Begin sentences with a capital; titles and names stay as typed."""
    done: list[Piece] = []
    start = True
    for piece in pieces:
        text = piece.text
        if piece.kind in ("item", "person"):
            done.append(piece)
            start = False
            continue
        if start and text:
            text = text[0].upper() + text[1:]
        text = _SENTENCE_START.sub(lambda m: m.group(1) + m.group(2).upper(), text)
        start = re.search(r"(?<!\.)[.!?]\s+$", text) is not None
        done.append(replace(piece, text=text))
    return done


def _joined(pieces: Sequence[Piece]) -> dict[str, Any]:
    text, links = "", []
    for piece in pieces:
        if piece.kind:
            link: dict[str, Any] = {"kind": piece.kind, "id": piece.id}
            link |= {"start": len(text), "end": len(text) + len(piece.text)}
            links.append(link | ({"opinion": piece.opinion} if piece.opinion else {}))
        elif text.endswith((".", "!", "?")) and piece.text.startswith("."):  # "Monsters, Inc." ends a sentence
            text = text[:-1]
        text += piece.text
    return {"text": text} | ({"links": links} if links else {})
