"""From a message's words to what is meant by it in this dialogue: which items, which wishes."""

import re
from collections.abc import Sequence
from dataclasses import replace

from crscli.dialogue import Link, Turn
from crscli.languages import FOREIGN, SAID, code_of
from crscli.names import key, singular
from crscli.session.hearing import Heard, hear
from crscli.session.host import Host
from crscli.session.memory import Memory
from crscli.session.message import Message
from crscli.session.moods import moods, themes
from crscli.session.questions import stated_by
from crscli.session.spelling import respelt
from crscli.wishes import Wish, WishKind, is_negated
from crscli.wishes.measures import LONG, SHORT

_NO_TITLE = frozenset({"it", "her", "them", "this", "that", "up", "us"})
"""Titles that a message says without meaning a film."""
_FORGOTTEN = re.compile(
    r"\b(?:forget|never\s*mind|drop|skip)\s+(?:about\s+)?(?:the\s+|that\s+)?$|"
    r"(?:n['’]?t|not)\s+(?:have|need)\s+to\s+be\s+(?:an?\s+|from\s+(?:the\s+)?|in\s+|with\s+)?(?:the\s+)?$",
    re.I,
)
_REFUSED_TITLE = re.compile(r"\b(?:no|not|except|besides|without)\s+([^.!?;,]{3,60})", re.I)
_FORGET = re.compile(r"\b(?:forget|never\s*mind|drop|scrap|skip)\s+(?:about\s+)?([^.!?;,]{2,60})", re.I)
_ANY = re.compile(
    r"\bany\s+(decades?|years?|genres?|languages?|lengths?|actors?|kinds?|age)\b(?=.*\b(?:fine|ok|okay|do|works?|good)\b|\W*$)",
    re.I,
)
_NO_MATTER = re.compile(
    r"\b(decades?|years?|genres?|languages?|lengths?|actors?|age)\b[^.?!]{0,12}(?:n['’]?t|not)\s+(?:matter|(?:that\s+|so\s+)?important)",
    re.I,
)
_KINDS: dict[str, WishKind] = {
    "decade": "years", "year": "years", "age": "years", "genre": "genre", "kind": "genre", "language": "language",
    "length": "length", "actor": "person",
}  # fmt: skip
_ONE_WITH = re.compile(r"\bthe\s+(?:one|film|movie)\s+(?:with|by|starring|from|directed|featuring|has)\b", re.I)
_THAN_YEAR = re.compile(r"\b(older|newer|earlier|later|before|after)\s+than\s+((?:19|20)\d\d)\b", re.I)
_OLD_KIND = re.compile(
    r"\b(old|new)(?:er)?\s+(?=(?:musical|comed|western|thriller|horror|drama|action|cartoon|romance)\w*)", re.I
)
_POINTS = re.compile(r"(?<!make )\b(?:it|that|this|they)\b(?!\s+(?:one\s+)?but)", re.I)
_VAGUE = frozenset({"old", "new", f"-{SHORT}", f"{LONG}-"})
_WANTS = re.compile(r"\b(?:want|looking for|something|anything)\b", re.I)


def understand(host: Host, memory: Memory, text: str) -> Message:
    """Read a message, with what was said before it.

    Args:
        host: finds links and wishes.
        memory: of the dialogue so far.
        text: the message.
    """
    links = host.link(text, memory.turns) if text else ()
    # Without a place: an opinion on a film named before, which is no new mention of it.
    turn = _with_refused(memory, Turn("seeker", text, tuple(link for link in links if link.start >= 0)))
    links = (*turn.links, *(link for link in links if link.start < 0))
    spelt = respelt(turn)
    said = spelt.turn
    heard = hear(said)
    meant = _meant(memory, said, heard)
    wishes = _wishes(host, memory, said, heard)
    back = {(w.kind, w.value) for w in wishes if w.end and _FORGOTTEN.search(said.text[: w.start][-60:])}
    back |= _forgotten(memory, said.text)
    wishes = [w for w in wishes if (w.kind, w.value) not in back]
    back |= {(_KINDS[found.lower().rstrip("s")], "") for found in _NO_MATTER.findall(said.text)}
    back |= {(_KINDS[found.lower().rstrip("s")], "") for found in _ANY.findall(said.text)}
    if "alike" in heard and not turn.items:
        turn = replace(turn, links=(*turn.links, *(Link("item", i) for i in meant)))
    wishes = [replace(w, start=spelt.placed(w.start), end=spelt.placed(w.end)) for w in wishes]
    return Message(turn, links, heard, meant, wishes, memory.question, frozenset(back))


def _with_refused(memory: Memory, turn: Turn) -> Turn:
    """The turn with links to films that are refused by title where the linker saw none: "but no star wars"."""
    known, links = memory.catalogue, []
    for found in _REFUSED_TITLE.finditer(turn.text):
        title = found[1].strip().lower()
        free = not any(x.start < found.end(1) and found.start(1) < x.end for x in turn.links)
        if free and " " in title:
            start = found.start(1)
            links += [
                Link("item", known[n].item_id, start, start + len(title)) for n in known.by_title.get(title, ())[:1]
            ]
    ordered = sorted((*turn.links, *links), key=lambda link: link.start)
    return replace(turn, links=tuple(ordered)) if links else turn


def _meant(memory: Memory, turn: Turn, heard: Heard) -> list[str]:
    """Ids of the items that a message is about: named, pointed at, or what "it" stands for."""
    known = memory.catalogue
    if named := [i for i in dict.fromkeys(turn.items) if i in known] or _offered_in(memory, turn.text):
        return named
    last = memory.offered[-1] if memory.offered else []
    if with_them := _ONE_WITH.search(turn.text) and _having(memory, last, turn):
        return with_them
    if heard.places and last:
        return [last[p] for p in heard.places if -len(last) <= p < len(last)]
    if heard.every and last and not heard.it:
        return list(last)
    if not heard.acts & {"ask", "why", "refuse", "seen", "accept", "alike"}:
        return []
    if heard.acts & {"refuse", "seen", "why"} and not heard.it:
        return list(last)
    return [memory.focus] if memory.focus in known else []


def _offered_in(memory: Memory, text: str) -> list[str]:
    """What was offered and is named by its bare title, which a linker may pass over: "I'll take big"."""
    words = f" {key(text)} "
    titles = {i: key(memory.catalogue.item(i).title) for row in reversed(memory.offered) for i in row}
    return [i for i, title in titles.items() if title and f" {title} " in words and title not in _NO_TITLE]


def _wishes(host: Host, memory: Memory, turn: Turn, heard: Heard) -> list[Wish]:
    """What a message asks for; an answer to the last question counts as if it had been said in full."""
    if "ask" in heard and not _WANTS.search(turn.text):
        return []
    num, question = len(memory.turns), memory.question
    before = memory.turns[-1] if memory.turns and memory.turns[-1].role != "seeker" else None
    if question is not None and question.topic == "genre":
        before = None  # "yes" to "a comedy or a thriller?" says nothing
    found = [replace(wish, turn=num) for wish in host.reader.of_turn(turn, before)]
    # "No romcoms" is against the romance in them, not against all comedies.
    romances = {wish.start for wish in found if wish.value == "romance" and not wish.wanted}
    found = [w for w in found if w.wanted or w.value != "comedy" or w.start not in romances]
    found = [_english(wish) for wish in found] + _of_years(turn.text, num)
    found += moods(turn, num)
    taken = [(w.start, w.end) for w in found if w.end]
    found += [w for w in themes(turn, num, host.shelf) if not any(a < w.end and w.start < b for a, b in taken)]
    if not turn.items and (not _POINTS.search(turn.text) or "alike" in heard):
        found = [replace(wish, asked=True) for wish in found]  # a bare "funny" is a wish where it describes no film
    found = _plainer(found)
    if heard.same_person and not any(wish.kind == "person" for wish in found):
        found += [Wish("person", name, True, True, num, 0, 0) for name in [_same(memory, turn)] if name]
    if question is not None:
        if question.topic == "years":  # "older" is older than what was asked about
            found = [w for w in found if w.value not in ("old", "new", "older", "newer")]
        stated = {wish.kind for wish in found if wish.asked}
        found += [wish for wish in stated_by(turn.text, question, num) if wish.kind not in stated]
    return found


def _of_years(text: str, num: int) -> list[Wish]:
    """Years that are compared with, "nothing older than 2000", and "old musicals"."""
    made = []
    for found in _THAN_YEAR.finditer(text):
        year, older = int(found[2]), found[1].lower() in ("older", "earlier", "before")
        if is_negated(text, *found.span()):
            value = f"{year}-" if older else f"-{year}"
        else:
            value = f"-{year - 1}" if older else f"{year + 1}-"
        made.append(Wish("years", value, True, True, num, *found.span()))
    for found in _OLD_KIND.finditer(text):
        made.append(Wish("years", found[1].lower(), not is_negated(text, *found.span()), True, num, *found.span()))
    words = re.findall(r"\w+", text)
    if len(words) <= 3:
        made += [Wish("language", code_of(w), True, True, num, 0, 0) for w in words if SAID.fullmatch(w)]
    return made


def _english(wish: Wish) -> Wish:
    """Who refuses foreign films wants English ones."""
    refuses = wish.kind == "language" and wish.value == FOREIGN and not wish.wanted
    return replace(wish, value="en", wanted=True) if refuses else wish


def _plainer(found: Sequence[Wish]) -> list[Wish]:
    """Without the vague ones of a kind, where years or minutes are told too: "older, before 1980"."""
    told = {w.kind for w in found if w.kind in ("years", "length") and w.value not in _VAGUE}
    return [w for w in found if w.kind not in told or w.value not in _VAGUE]


def _having(memory: Memory, offered: Sequence[str], turn: Turn) -> list[str]:
    """Those of the offered items that have a person whom a turn names: "the one with Tom Hanks"."""
    named = {link.id for link in turn.links if link.kind == "person"}
    items = [memory.catalogue.item(i) for i in offered]
    return [item.item_id for item in items if named & {*item.cast, *item.directors, *item.writers}]


def _same(memory: Memory, turn: Turn) -> str:
    """Whom "him" or "that director" stands for; "" for nobody.

    Whom the last answer named alone ("Ridley Scott directed it"), or else the seeker, rather than one of a cast.
    """
    focus = memory.catalogue.item(memory.focus) if memory.focus in memory.catalogue else None
    if focus is not None and focus.directors and re.search(r"\bdirector\b", turn.text, re.I):
        return focus.directors[0]
    named = [[x.id for x in turn.links if x.kind == "person"] for turn in memory.turns[-1:]]
    if named and len(named[0]) == 1:
        return named[0][0]
    own = [x.id for turn in memory.turns if turn.role == "seeker" for x in turn.links if x.kind == "person"]
    return own[-1] if own else memory.last_person()


def _forgotten(memory: Memory, text: str) -> set[tuple[WishKind, str]]:
    """Held wishes whose words follow a "forget" or "never mind", or whose kind is said not to matter."""
    found: set[tuple[WishKind, str]] = set()
    for phrase in _FORGET.findall(text):
        words = {singular(word) for word in key(phrase).split()}
        found |= {(w.kind, w.value) for w in memory.stated if words.issuperset(map(singular, key(w.value).split()))}
    return found
