"""Why an item is recommended, in terms that a person accepts: what he asked for, whom or what he named, what it shares.

A model's own reasons are taken where it gives any; a wish that is met comes first, since that is what was asked.
"""

from collections.abc import Sequence

from crscli import genres
from crscli.catalogue import Catalogue, Item
from crscli.languages import FOREIGN, name_of
from crscli.names import key
from crscli.phrasing import kind_of_film, listed
from crscli.recommender import Reason
from crscli.session.limits import Limit, Shelf
from crscli.wishes import Wish, in_words

_LEAST_SHARE = 0.12
_THEMES = {"superhero": "about superheroes", "light": "that is light", "dark": "that is dark"}
_DULL_WORD = 4
"""Letters: shorter words explain nothing."""


def reasons_for(
    shelf: Shelf, item_num: int, limits: Sequence[Limit], liked: Sequence[int], own: Sequence[Reason]
) -> tuple[Reason, ...]:
    """All reasons of an item, the most telling first; never empty.

    Args:
        shelf: what holds of the items.
        item_num: the item's number.
        limits: what was asked for.
        liked: numbers of the items that the seeker spoke well of, the newest first.
        own: the model's reasons.
    """
    item = shelf.catalogue[item_num]
    met = [w for x in limits if x.wanted for w in x.wishes if shelf.mask(w)[item_num]]
    found: list[Reason] = []
    if met:
        found.append(Reason("request", described(item, met), 1.0))
    kept = [r for r in own if r.share >= _LEAST_SHARE and r.kind not in ("request", "popularity")]
    named = {w.value for w in met if w.kind == "person"}
    kept = [r for r in kept if not (r.kind in ("name", "metadata") and r.evidence in named)]
    kept = [r for r in kept if r.kind != "word" or _is_about(item, r.evidence)]
    found += [_placed(shelf.catalogue, item, r, liked) for r in kept if r.kind != "word"]
    if not found:
        found += _shared(shelf, item, liked)
    found += [r for r in kept if r.kind == "word"]
    return tuple(found) or (Reason("popularity", "", 1.0),)


def _is_about(item: Item, word: str) -> bool:
    """Whether a word of the seeker says what an item is about; others may well be behind it, but explain nothing."""
    return (
        len(word) > _DULL_WORD
        and f" {key(word)}" in f" {key(f'{item.title} {item.plot}')} {key(' '.join(item.keywords))}"
    )


def _placed(catalogue: Catalogue, item: Item, reason: Reason, liked: Sequence[int]) -> Reason:
    """A reason by what items have in common, with the one that has it in common."""
    if reason.kind == "name" and reason.evidence in (*item.cast, *item.directors, *item.writers):
        return Reason("person", reason.evidence, reason.share, reason.feature)
    if reason.kind != "metadata":
        return reason
    for num in liked:
        other = catalogue[num]
        labels = {*other.cast, *other.directors, *other.writers, *map(str.lower, (*other.companies, *other.keywords))}
        if reason.evidence in labels | set(genres.known(other.genres)):
            return Reason("metadata", reason.evidence, reason.share, reason.feature, other.item_id)
    return reason


def _shared(shelf: Shelf, item: Item, liked: Sequence[int]) -> list[Reason]:
    """What an item shares with what was liked: people before themes before genres."""
    for num in liked:
        other = shelf.catalogue[num]
        people = [p for p in (*item.directors, *item.cast) if p in (*other.directors, *other.cast)]
        themes = [k for k in item.keywords if k in other.keywords]
        kinds = [g for g in genres.known(item.genres) if g in genres.known(other.genres)]
        if shared := people or themes or kinds:
            return [Reason("metadata", shared[0], 1.0, "", other.item_id)]
    return []


def described(item: Item, met: Sequence[Wish]) -> str:
    """An item by the wishes that it meets: "a comedy from 1988 with Tom Hanks"."""
    return _noun_phrase(met, item)


def asked_for(limits: Sequence[Limit]) -> str:
    """Wishes as one thing: "a comedy from the 1940s with Tom Hanks", and what it should not be."""
    wanted = _noun_phrase([w for x in limits if x.wanted for w in x.wishes], None)
    refused = [in_words(w) for x in limits if not x.wanted for w in x.wishes]
    return f"{wanted}, and nothing of {listed(refused, 'or')}" if refused else wanted


def _noun_phrase(wishes: Sequence[Wish], item: Item | None) -> str:
    kinds = list(dict.fromkeys(w.value for w in wishes if w.kind == "genre"))
    languages = [w.value for w in wishes if w.kind == "language"]
    language = "foreign" if FOREIGN in languages else name_of(languages[-1]) if languages else ""
    noun = kind_of_film(kinds) or "a film"
    if language and item is None:
        noun = f"{'an' if language[0] in 'EIA' else 'a'} {language} {noun.split(' ', 1)[1]}"
    parts = [noun]
    if language and item is not None:
        parts.append(f"in {name_of(item.language)}")
    if years := [w for w in wishes if w.kind == "years"]:
        parts.append(f"from {item.year}" if item else _of_years(years))
    more = []
    for wish in wishes:
        if wish.kind == "person":
            by = item is not None and wish.value not in item.cast
            parts.append(f"{'by' if by else 'with'} {wish.value}")
        elif wish.kind == "studio":
            parts.append(f"from {wish.value}")
        elif wish.kind == "theme":
            parts.append(_THEMES.get(wish.value, f"about {wish.value}"))
        elif wish.kind == "audience":
            more.append("fit for children")
        elif wish.kind == "length":
            more.append(f"{item.runtime} minutes long" if item else f"{in_words(wish)} long")
    if parts == ["a film"] and more:
        parts.append(more.pop(0))
    return ", ".join([" ".join(dict.fromkeys(parts)), *dict.fromkeys(more)])


def _of_years(wishes: Sequence[Wish]) -> str:
    words = [in_words(w) for w in wishes]
    if all(w.startswith("something") for w in words):
        return f"that is {wishes[-1].value}"
    return f"from {listed([w for w in words if not w.startswith('something')], 'or')}"
