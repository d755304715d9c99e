"""What the seeker thinks of what is named: liked, disliked or seen, where it is said plainly.

Rules over clauses; only the seeker's messages count. An answer without a film of its own ("yes, loved it") is about
the films that the other side named last. Knows nothing about catalogues.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from crscli.dialogue import Link, Opinion, Role, Turn
from crscli.linking import sayings

NOT_SEEN = "not seen"
"""In a link's reason: the seeker has not seen the film, or means to see it."""

ANSWERS = "answers the recommender"
"""The reason of a link that is not in the text: a film of the other side that the message answers."""

CONTINUES = "goes on about an own film"
"""The same, for a film of the seeker's own message before."""

_BACK = 6
_NEAR = 160
"""Messages back, and letters around a person or genre, that are read: long ones cost no more than their length."""

_SURE = "surely liked"
_STRONGEST = (_SURE, NOT_SEEN, "disliked", "liked", "seen")


@dataclass(frozen=True, slots=True)
class _Clause:
    """A part of a message; one that `shares` follows a comma or "and" and may share the verb of the part before."""

    text: str
    start: int
    end: int
    shares: bool
    asks: bool


def with_opinions(text: str, links: Sequence[Link], before: Sequence[Turn], role: Role) -> tuple[Link, ...]:
    """Add what the seeker says about what is named.

    Args:
        text: of the message.
        links: found in it.
        before: the turns before it, oldest first, with their links.
        role: whose message it is; a recommender's links come back as they are.

    Returns:
        The links with their opinions; then, without a place, the films of the other side that the message answers.
    """
    if role != "seeker":
        return tuple(links)
    plain = _masked(text, links)
    clauses = list(_clauses(plain))
    heard, answers = _heard(clauses, links)
    loose = [x for x, link in enumerate(links) if link.kind == "item" and link.start < 0]
    if loose and not heard:
        heard, answers = dict.fromkeys(loose, answers), set()
    if any(link.kind == "item" for link in links) and not any(heard.values()) and _only_films(plain):
        heard = dict.fromkeys(heard, _carried(before))
    told = [
        _about_a_kind(link, plain) if link.kind != "item" and link.start >= 0 else _told(link, heard.get(x, set()))
        for x, link in enumerate(links)
    ]
    own, asked = _own_films(before), _asked_films(before, sayings.PLURAL.search(plain) is not None)
    answers |= _short_answer(plain, before, answers)
    if own and not heard and not answers & {NOT_SEEN}:
        asked, reason = own, CONTINUES
    else:
        reason = ANSWERS
    if answers:
        named = {link.id for link in links}
        told += [_told(Link("item", i, reason=reason), answers) for i in asked if i not in named]
    return tuple(told)


def untold(link: Link) -> Link:
    """The link as it was before `with_opinions`."""
    reason = link.reason.removesuffix(NOT_SEEN).removesuffix(", ")
    return replace(link, opinion=None, reason=reason)


def _heard(clauses: Sequence[_Clause], links: Sequence[Link]) -> tuple[dict[int, set[str]], set[str]]:
    """What is said of each film, and of those that were named before the message."""
    films = sorted((x for x in range(len(links)) if _is_placed(links[x], "item")), key=lambda x: links[x].start)
    heard: dict[int, set[str]] = {x: set() for x in films}
    answers: set[str] = set()
    targets: list[int] = []
    shared: set[str] = set()
    for clause in clauses:
        inside = [x for x in films if clause.start <= links[x].start < clause.end]
        said = _said(clause, bool(inside))
        if inside:
            targets = inside
            if not said and (clause.shares or _only_films(clause.text)):
                said = shared
        shared = said
        for x in targets:
            heard[x] |= said
        if not targets or (not inside and sayings.PLURAL.search(clause.text)):
            answers |= said
    return heard, answers


def _is_placed(link: Link, kind: str) -> bool:
    return link.kind == kind and link.start >= 0


def _masked(text: str, links: Sequence[Link]) -> str:
    """The text in lower case, films as masks of the same length, polite phrases blank."""
    plain = text.translate(sayings.QUOTES)
    if len(plain.lower()) == len(plain):
        plain = plain.lower()
    for link in links:
        if _is_placed(link, "item"):
            plain = plain[: link.start] + sayings.MASK * (link.end - link.start) + plain[link.end :]
    return sayings.POLITE.sub(lambda m: " " * len(m.group()), plain)


def _clauses(plain: str) -> Iterator[_Clause]:
    at = 0
    for end in [*sayings.CLAUSE_END.finditer(plain), None]:
        stop = end.start() if end else len(plain)
        sentence = plain[at:stop]
        is_question = end is not None and "?" in end.group()
        asks_all = is_question and sayings.QUESTION.match(sentence) is not None
        start, shares = at, False
        for cut in [*sayings.PART_END.finditer(sentence), None]:
            finish = at + cut.start() if cut else stop
            if plain[start:finish].strip():
                asks = asks_all or (is_question and cut is None)
                yield _Clause(plain[start:finish], start, finish, shares, asks)
                shares = True
            start = at + cut.end() if cut else stop
        at = end.end() if end else stop


def _said(clause: _Clause, has_films: bool) -> set[str]:
    """What a clause says of a film: any of liked, disliked, seen, not seen."""
    text = clause.text
    said: set[str] = set()
    if sayings.SEEN_BEFORE.search(text):
        said.add("seen")
    elif sayings.UNSEEN.search(text):
        said.add(NOT_SEEN)
    is_like = sayings.SIMILAR.search(text) and not sayings.NOT_LIKED_BY_OTHERS.search(text)
    if has_films and NOT_SEEN not in said and is_like:
        said.add("liked")
    if clause.asks:
        return said
    disliked = (sayings.DISLIKED if has_films else sayings.DISLIKED_A_FILM).search(text) or sayings.BAD.search(text)
    if disliked:
        if not sayings.OTHERS.search(text[: disliked.start()]):
            said -= {"liked", _SURE}
            said.add("disliked")
    elif NOT_SEEN not in said and _is_praise(text, has_films):
        said.add("liked")
        if sayings.SURELY_LIKED.search(text):
            said.add(_SURE)
    if NOT_SEEN not in said and sayings.SEEN.search(text):
        said.add("seen")
    return said


def _is_praise(text: str, has_films: bool) -> bool:
    if (sayings.LIKED if has_films else sayings.LIKED_A_FILM).search(text):
        return True
    return not sayings.WISH.search(text) and not sayings.LIKED.search(text) and sayings.PRAISE.search(text) is not None


def _only_films(plain: str) -> bool:
    """Whether a message names films and says nothing else."""
    return not sayings.FILLER.sub("", plain.replace(sayings.MASK, "")).strip()


def _about_a_kind(link: Link, plain: str) -> Link:
    """A person or genre with what is said of it in its own sentence: "not a huge musical fan", "love Adam Sandler"."""
    first, last = max(link.start - _NEAR, 0), link.end + _NEAR
    start = max((m.end() for m in sayings.CLAUSE_END.finditer(plain, first, link.start)), default=first)
    after = sayings.CLAUSE_END.search(plain, link.end, last)
    left, right = plain[start : link.start], plain[link.end : after.start() if after else last]
    asks = after is not None and "?" in after.group()
    if sayings.KIND_FAN.match(right):
        return replace(link, opinion="disliked" if re.search(rf"\b(?:{sayings.NOT}|no)\b", left) else "liked")
    disliked = sayings.KIND_NOT.search(left) or sayings.KIND_DISLIKED.search(left)
    if disliked:
        return link if sayings.OTHERS.search(left[: disliked.start()]) else replace(link, opinion="disliked")
    if not asks and sayings.KIND_LIKED.search(left):
        return replace(link, opinion="liked")
    if link.kind == "person" and not asks:
        if sayings.KIND_BAD.match(right):
            return replace(link, opinion="disliked")
        if sayings.KIND_GOOD.match(right):
            return replace(link, opinion="liked")
    return link


def _carried(before: Sequence[Turn]) -> set[str]:
    """What a message that only names films says: more of what the seeker's last one said, or what was asked for."""
    for back, turn in enumerate(reversed(before[-3:]), start=1):
        if turn.role != "seeker":
            if sayings.ASKS_FOR_LIKED.search(turn.text.lower()):
                return {"liked"}
        elif _named(turn):
            told = with_opinions(turn.text, [untold(link) for link in turn.links], before[:-back][-_BACK:], "seeker")
            return {link.opinion for link in told if _is_placed(link, "item") and link.opinion}
        elif sayings.ANNOUNCES.search(turn.text.lower()):
            return {"liked"}
    return set()


def _named(turn: Turn) -> list[str]:
    """The films that a turn names itself."""
    return [x.id for x in turn.links if x.kind == "item" and not x.reason.startswith((ANSWERS, CONTINUES))]


def _own_films(before: Sequence[Turn]) -> list[str]:
    """The films of the seeker's own last messages."""
    for turn in reversed(before):
        if turn.role != "seeker":
            break
        if films := _named(turn):
            return list(dict.fromkeys(films))
    return []


def _asked_films(before: Sequence[Turn], every: bool) -> list[str]:
    """The films of the other side's last messages: of the last that names some, or of every one of them."""
    found: list[str] = []
    there = False
    for turn in reversed(before[-_BACK:]):
        if turn.role == "recommender":
            there = True
            found += _named(turn)
            if found and not every:
                break
        elif there and (found or _named(turn)):
            break
    return list(dict.fromkeys(found))


def _short_answer(plain: str, before: Sequence[Turn], said: set[str]) -> set[str]:
    """A yes or no to the other side's films; what else is said of them is surer than a no."""
    theirs = next((turn.text.lower() for turn in reversed(before) if turn.role != "seeker"), "")
    if sayings.AGREES.match(plain) and sayings.PRAISE.search(theirs) and "?" not in theirs:
        return {"liked"}
    if sayings.YES.match(plain):
        return {"liked", "seen"} if sayings.ASKS_WHETHER_LIKED.search(theirs) else {"seen"}
    return {NOT_SEEN} if not said and sayings.NO.match(plain) else set()


def _strongest(said: set[str]) -> str | None:
    return next((value for value in _STRONGEST if value in said), None)


def _told(link: Link, said: set[str]) -> Link:
    value = _strongest(said)
    if value == NOT_SEEN:
        return replace(link, reason=f"{link.reason}, {NOT_SEEN}" if link.reason else NOT_SEEN)
    return replace(link, opinion=_OPINIONS[value]) if value else link


_OPINIONS: dict[str, Opinion] = {_SURE: "liked", "liked": "liked", "disliked": "disliked", "seen": "seen"}
