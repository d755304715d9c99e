"""The realiser: what a recommender says in words, for models without language. Knows items and reasons, no model.

Wordings are data (`wordings.toml`). Which one is taken follows from the dialogue itself, so that the same dialogue
always reads the same; within a dialogue they are taken in turn, so that two replies in a row do not read alike.
"""

import hashlib
import re
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context
from crscli.genres import GENRES
from crscli.recommender import Reason

_WORDINGS: dict[str, Any] = tomllib.loads(files(__package__).joinpath("wordings.toml").read_text(encoding="utf-8"))
_SLOT = re.compile(r"\{(\w+)\}")
_PLOT_AT_MOST = 320


class Phrases:
    """The wordings of one reply: chosen by how the dialogue began, one further with each reply."""

    def __init__(self, context: Context) -> None:
        opening = next((t.text for t in context.turns if t.role == "seeker"), "")
        self._seed = hashlib.sha256(opening.encode("utf-8", "replace")).digest()
        self._before = sum(turn.role == "recommender" for turn in context.turns)
        self._used: dict[str, int] = {}

    def __call__(self, key: str, **slots: str) -> str:
        """One wording of "section.name", its slots filled; what fills them is never read as a wording."""
        section, _, name = key.partition(".")
        wordings: Sequence[str] = _WORDINGS[section][name]
        first = self._seed[sum(map(ord, key)) % len(self._seed)]
        wording = wordings[(first + self._before + self._used.get(key, 0)) % len(wordings)]
        self._used[key] = self._used.get(key, 0) + 1
        return _SLOT.sub(lambda m: slots[m.group(1)], wording)


def in_language(code: str) -> str:
    """That only English is understood, in that language."""
    return str(_WORDINGS["languages"].get(code, _WORDINGS["languages"]["other"]))


def listed(names: Sequence[str], word: str = "and") -> str:
    """Names as a sentence lists them: A; A and B; A, B and C."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else ""


def article(noun: str) -> str:
    """A genre as one film of it: a comedy, an adventure, an animated film."""
    noun = noun if noun in _NOUNS else f"{_ADJECTIVES.get(noun, noun)} film"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


_NOUNS = ("comedy", "drama", "thriller", "western", "documentary", "musical", "mystery", "adventure")
"""Genres that a film is; of all others it is a film, the last of these comes last: "a romantic comedy"."""
_ADJECTIVES = {
    "animation": "animated", "romance": "romantic", "history": "historical", "biography": "biographical",
    "adventure": "adventure", "mystery": "mystery", "musical": "musical",
}  # fmt: skip


def kind_of_film(genres: Sequence[str]) -> str:
    """At most three genres as one noun: "a romantic comedy", "an animated family film"; "" for none."""
    known = list(dict.fromkeys(genre.lower() for genre in genres if genre))[:3]
    if not known:
        return ""
    noun = next((n for n in _NOUNS if n in known), "")
    words = [*(_ADJECTIVES.get(g, g) for g in known if g != noun), noun or "film"]
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def offer(phrases: Phrases, items: Sequence[Item], because: str = "", *, like: str = "", again: bool = False) -> str:
    """Sentences that offer items, the first one with its reason.

    Args:
        phrases: of this reply.
        items: best first, one at least.
        because: the sentence that gives the reason of the first; may be empty.
        like: what the seeker wants something like, if he said so.
        again: it follows a refusal or a wish for more.
    """
    key = "offers.similar" if like else "offers.more" if again else "offers.one"
    parts = [phrases(key, item=items[0].name, like=like)]
    parts += [because] if because else []
    if len(items) > 1:
        text = phrases("offers.others", others=listed([item.name for item in items[1:]], "or"))
        parts.append(text[0].upper() + text[1:])
    return " ".join(parts)


def sentence_of(phrases: Phrases, catalogue: Catalogue, reasons: Sequence[Reason]) -> str:
    """The sentence that gives the strongest reason of an item."""
    return phrases(f"because.{_key(reasons[0])}", **_slots(catalogue, reasons[0])) if reasons else ""


def card_of(catalogue: Catalogue, reasons: Sequence[Reason]) -> str:
    """The strongest two reasons as a few words; a word of the seeker is told only where there is nothing else."""
    told = []
    for reason in [*reasons[:1], *(r for r in reasons[1:2] if r.kind != "word")]:
        slots = _slots(catalogue, reason)
        told.append(_SLOT.sub(lambda m, slots=slots: slots[m.group(1)], str(_WORDINGS["card"][_key(reason)][0])))  # type: ignore[misc]
    text = "; ".join(told)
    return text[:1].upper() + text[1:]


def _key(reason: Reason) -> str:
    if reason.kind == "metadata":
        return "shared" if not reason.like else "same_kind" if reason.evidence in GENRES else "metadata"
    return reason.kind


def _slots(catalogue: Catalogue, reason: Reason) -> dict[str, str]:
    evidence = reason.evidence
    if reason.kind in ("mention", "repeat") and evidence in catalogue:
        evidence = catalogue.item(evidence).name
    if _key(reason) == "same_kind":
        evidence = kind_of_film([evidence])
    like = catalogue.item(reason.like).name if reason.like in catalogue else ""
    return {"evidence": evidence, "like": like}


def shortened(text: str, characters: int = _PLOT_AT_MOST) -> str:
    """A text cut at the end of a sentence, else of a word."""
    if len(text) <= characters:
        return text
    cut = text[:characters]
    stop = max(cut.rfind(". "), cut.rfind("! "), cut.rfind("? "))
    return cut[: stop + 1] if stop > characters // 2 else cut.rsplit(" ", 1)[0].rstrip(",;:") + " …"
