"""From a message's words to what is meant by it in this dialogue: which items, which wishes."""

import re
from collections.abc import Sequence
from dataclasses import replace

from crscli import genres
from crscli.dialogue import Link, Turn
from crscli.languages import FOREIGN, SAID, code_of
from crscli.names import key, singular
from crscli.session.changes import chosen, joined, replaced, taken_back
from crscli.session.company import company
from crscli.session.hearing import Heard, hear
from crscli.session.host import Host
from crscli.session.memory import Memory
from crscli.session.message import Message
from crscli.session.moods import moods
from crscli.session.questions import stated_by
from crscli.session.spelling import respelt
from crscli.session.themes import alone, themes
from crscli.wishes import Wish, is_negated, masked
from crscli.wishes.measures import LONG, SHORT
from crscli.wishes.periods import periods

_ASKS_ON = re.compile(r"^\W*(?:and|or|what\s+about|how\s+about)\s+[^?]{2,60}\?\s*$", re.I)
_NO_TITLE = frozenset({"it", "her", "them", "this", "that", "up", "us"})
"""Titles that a message says without meaning a film."""
_BEFORE = 80
_LIKENESS = re.compile(r"\b(?:(?:films?|movies?|anything|nothing|things?|stuff|ones?)\s+like|similar\s+to)\s+$", re.I)
_REFUSED_TITLE = re.compile(r"\b(?:no|not|except|besides|without)\s+([^.!?;,]{3,60})", re.I)
_ONE_WITH = re.compile(
    r"\b(?:the|that)\s+(?:one|film|movie)\s+(?:with|by|starring|from|directed|featuring|has|about|where|in\s+which|set)\b(?P<rest>[^.!?;,]*)",
    re.I,
)
_OLD_KIND = re.compile(
    r"\b(old|new)(?:er)?\s+(?=(?:musical|comed|western|thriller|horror|drama|action|cartoon|romance)\w*)", re.I
)
_TOO = re.compile(r"(?<!not )(?<!nothing )(?<!n't )(?<!be )\btoo\s+(old|new|recent|modern)\b(?!\s+(?:for|to)\b)", re.I)
_POINTS = re.compile(
    r"(?<!make )\b(?:it|(?<!thing )(?<!movie )(?<!film )(?<!one )(?<!stuff )that|this|they)\b(?!\s+(?:one\s+)?but)",
    re.I,
)
_SEEN_ELSE = re.compile(
    r"\b(?:seen|watched|saw)\s+(?!(?:already|before|too|either|most|some|one|ones|and|but|twice|once|recently|lots?|plenty|a|the|your|"
    r"any|every\w*|of|as|last|in|at|on|with|many|loads|tons|i|we|when|lately|yesterday|years?|ages?|ten|several|a)\b)[a-z]\w+",
    re.I,
)
_TELLS_OF_ONE = re.compile(
    r"^\W*(?:(?:yes|yeah|oh|well|i\s+think|but|and|so|no)\W+)*(?:it|this|that|he|she)(?:['’]?s|\s+is|\s+was|\s+has)\s+"
    r"(?:an?|the|one|such|about|my\s+favou?rite)\s+(?!bit\b|little\b|no\b)",
    re.I,
)
"""A sentence that describes a film asks for nothing."""
_SENTENCE = re.compile(r"[^.!?;\n]+")
_CORRECTS = re.compile(
    r"\b(?:sorry|oops|i\s+mean|i\s+meant|no\s+wait|wait\s+no|scratch\s+that|make\s+that|correction|or\s+rather|actually\s+no)\b",
    re.I,
)
_LIST = re.compile(r"\s*(?:[/,&-]|and|or|nor)?\s*(?:the\s+)?", re.I)
_PRACTISES = re.compile(r"\b(?:learn|practi[sc]|brush|improv|study|studying)\w*\s+(?:\w+\s+){0,3}$", re.I)
_ALLOWED = re.compile(
    r"^\s+(?:would|will|'d)\s+(?:also\s+)?do\b|"
    r"^\s+(?:is|are)\s+(?:the\s+only|fine|ok(?:ay)?|good|also)\b|^\s+works\b",
    re.I,
)
_THE_ONE = re.compile(r"\bthe\s+$", re.I)
_WITHOUT = re.compile(r"\b(?:without|not|no|except|besides)\s+(?:\w+\s+)?(?:him|her|them|the\s+same)\b", re.I)
_GENRE = "|".join(name for name in genres.GENRES if name not in ("music", "short"))
_WORLD_WAR = re.compile(
    r"\b(?:(?:first|second)\s+world\s+war|world\s+war\s+(?:two|one|2|1|ii|i)|ww\s?(?:2|ii|1|i))\b", re.I
)
_BARE_GENRE = re.compile(
    rf"\b(?:{_GENRE})\b(?P<fine>(?=\s+(?:is|are|would\s+be|sounds?|works?)\s+(?:\w+\s+)?(?:ok|okay|fine|good|great|nice|alright)\b))?",
    re.I,
)
_SORT = re.compile(
    r"slashers?|zombies?|gangsters?|mafia|heists?|noir|spoofs?|parod(?:y|ies)|anime|cartoons?|whodunn?its?|biopics?",
    re.I,
)
_REFUSES = re.compile(r"\b(?:skip|drop|ditch|lose)\b", re.I)
"""What was not asked for before is refused with these, rather than given up."""
_NO = re.compile(r"\b(?:no|not|without)\s+$", re.I)
_DESCRIBED = frozenset({"genre", "theme", "language"})
_VAGUE = frozenset({"old", "new", f"-{SHORT}", f"{LONG}-"})
_WANTS = re.compile(r"\b(?:want|looking for|something|anything)\b", re.I)


def understand(host: Host, memory: Memory, text: str) -> Message:
    """Read a message, with what was said before it.

    Args:
        host: finds links and wishes.
        memory: of the dialogue so far.
        text: the message.
    """
    links = host.surnames.with_called(text, host.link(text, memory.turns), memory.turns) if text else ()
    links = host.series.with_all(text, links, memory.turns)
    # Without a place: an opinion on a film named before, which is no new mention of it.
    turn = _with_refused(memory, Turn("seeker", text, tuple(link for link in links if link.start >= 0)))
    links = (*turn.links, *(link for link in links if link.start < 0))
    spelt = respelt(turn)
    said = spelt.turn
    heard = hear(said)
    meant = _meant(memory, said, heard)
    heard = _asking_on(memory, said, heard)
    meant = _meant(memory, said, heard) if "ask" in heard else meant
    if heard.bare and meant and not (memory.question and memory.question.topic == "genre"):
        heard = replace(heard, acts=heard.acts | {"ask"}, asked="plot")  # "the second one" alone: what of it?
    links = tuple(_not_alike(x, text) for x in links)
    if heard.acts & {"refuse", "ask"}:  # "ok, not that then" is no praise, nor is a question
        links = tuple(x for x in links if x.start >= 0 or x.opinion != "liked")
    held = memory.wishes.wanted() + memory.wishes.unwanted()
    back, places = taken_back(said.text, held, host.reader)
    wishes = [
        w
        for w in _wishes(host, memory, said, heard)
        if not any(a <= w.start < b for a, b in places)
        or (_REFUSES.search(said.text) and (w.kind, w.value) not in back)
    ]
    back |= replaced(said.text, held, wishes) | chosen(memory.limits(), wishes)
    wishes = [*joined(said.text, len(memory.turns), held, wishes), *wishes]
    if "alike" in heard and not turn.items:
        turn = replace(turn, links=(*turn.links, *(Link("item", i) for i in meant)))
    wishes = [replace(w, start=spelt.placed(w.start), end=spelt.placed(w.end)) for w in wishes]
    return Message(turn, links, heard, meant, wishes, memory.question, frozenset(back))


def _not_alike(link: Link, text: str) -> Link:
    """A film is not liked that is named by "nothing like it"."""
    before = text[max(0, link.start - _BEFORE) : max(0, link.start)]
    if link.kind != "item" or link.opinion != "liked" or not (found := _LIKENESS.search(before)):
        return link
    start = link.start - len(before) + found.start()
    return replace(link, opinion="disliked") if is_negated(text, start, link.end) else link


def _asking_on(memory: Memory, turn: Turn, heard: Heard) -> Heard:
    """What is heard of "and De Niro?" after "was Al Pacino in Heat?"."""
    if not _ASKS_ON.match(turn.text) or not any(link.kind == "person" for link in turn.links):
        return heard
    before = [t for t in memory.turns if t.role == "seeker"][-1:]
    if not before or hear(before[0]).asked != "person":
        return heard
    return replace(heard, acts=(heard.acts - {"aside", "recommend"}) | {"ask"}, asked="person")


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
    if (one := _ONE_WITH.search(turn.text)) and (with_them := _having(memory, last, turn, one["rest"])):
        return with_them
    if "seen" in heard and not (heard.it or heard.every or heard.places) and _SEEN_ELSE.search(masked(turn)):
        return []  # a film that the catalogue does not have
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
    found = [_english(wish) for wish in _of_a_sort(host, memory, found, turn.text)] + _of_years(turn.text, num)
    found += _periods(turn.text, num, host.shelf.last_year)
    found = _corrected(turn.text, found)
    people = {link.start for link in turn.links if link.kind == "person"}
    found = [w for w in found if w.kind != "studio" or w.start not in people]  # of Miyazaki himself
    found += _bare_genres(turn, num, found)
    found += moods(turn, num)
    violent = {w.start for w in found if w.value == "violence" and not w.wanted}  # "less gory" refuses no genre
    found = [w for w in found if w.kind != "genre" or w.wanted or w.start not in violent]
    if not any(wish.kind == "audience" for wish in found):
        found += company(turn, num)
    if not turn.items and (not _POINTS.search(turn.text) or "alike" in heard):
        # A bare "funny" is a wish where it describes no film.
        found = [replace(w, asked=w.asked or not _THE_ONE.search(turn.text[: w.start][-8:])) for w in found]
    if not (heard.acts & {"accept", "ask", "seen", "refuse", "why"} and _ONE_WITH.search(turn.text)):
        found += themes(turn, num, host.shelf, [(w.start, w.end) for w in found if w.end])
    told = [m.span() for m in _SENTENCE.finditer(turn.text) if _TELLS_OF_ONE.match(m.group())]
    found = [w for w in found if w.kind not in _DESCRIBED or not any(a <= w.start < b for a, b in told)]
    found = [_told_plainly(w) for w in _plainer(found)]
    if heard.same_person and not any(wish.kind == "person" for wish in found):
        wanted = not _WITHOUT.search(turn.text)
        found += [Wish("person", name, wanted, True, num, 0, 0) for name in [_same(memory, turn)] if name]
    if question is not None and not turn.items and not heard.acts & {"seen", "ask", "why"}:
        answers = stated_by(turn.text, question, num)
        if any(wish.kind == "years" for wish in answers):  # "older" is older than what was asked about
            found = [w for w in found if w.value not in ("old", "new", "older", "newer")]
        stated = {wish.kind for wish in found if wish.asked}
        found += [wish for wish in answers if wish.kind not in stated]
    return found


def _bare_genres(turn: Turn, num: int, found: Sequence[Wish]) -> list[Wish]:
    """Genres whose names mean other things too, where nothing else is said: "war", "crime is fine"."""
    text, named = masked(turn), [(w.start, w.end) for w in found]
    wars = [m for m in _WORLD_WAR.finditer(text) if not any(a < m.end() and m.start() < b for a, b in named)]
    named += [m.span() for m in wars]
    return [Wish("genre", "war", not is_negated(text, *m.span()), True, num, *m.span()) for m in wars] + [
        Wish("genre", m.group().lower(), not is_negated(text, *m.span()), True, num, *m.span())
        for m in _BARE_GENRE.finditer(text)
        if not any(a < m.end() and m.start() < b for a, b in named)
        and (m["fine"] is not None or is_negated(text, *m.span()) or alone(text, *m.span(), named))
    ]


def _periods(text: str, num: int, now: int) -> list[Wish]:
    """Spans of years that are said otherwise than as decades."""
    made = []
    for value, start, end in periods(text, now):
        made.append(Wish("years", value, not is_negated(text, start, end), True, num, start, end))
    return made


def _of_years(text: str, num: int) -> list[Wish]:
    """Years of "old musicals", and a language that is all that is said."""
    made = []
    for found in _OLD_KIND.finditer(text):
        made.append(Wish("years", found[1].lower(), not is_negated(text, *found.span()), True, num, *found.span()))
    for found in _TOO.finditer(text):
        value = "new" if found[1].lower() == "old" else "old"
        made.append(Wish("years", value, True, True, num, *found.span()))
    few = len(re.findall(r"\w+", text)) <= 3
    if SAID.search(text):
        for m in SAID.finditer(text):
            told = _PRACTISES.search(text[max(0, m.start() - 40) : m.start()]) or _ALLOWED.match(
                text[m.end() : m.end() + 30]
            )
            if not (few or told):
                continue
            made.append(Wish("language", code_of(m.group()), not is_negated(text, *m.span()), True, num, *m.span()))
    return made


def _of_a_sort(host: Host, memory: Memory, found: Sequence[Wish], text: str) -> list[Wish]:
    """Sorts of a genre as themes, where films are about them or they are refused: "horror, but no slashers"."""
    wanted = {w.value for w in found if w.kind == "genre" and w.wanted}
    wanted |= {w.value for w in memory.wishes.wanted("genre")}
    made = []
    for wish in found:
        said = text[wish.start : wish.end].lower()
        if wish.kind == "genre" and wish.wanted and _SORT.fullmatch(said) and singular(said) in host.shelf.themes:
            wish = replace(wish, kind="theme", value=said)
        elif wish.kind == "genre" and not wish.wanted and wish.value in wanted and genres.canonical(said) != wish.value:
            wish = replace(wish, kind="theme", value=said) if _SORT.fullmatch(said) else wish
        made.append(wish)
    return made


def _english(wish: Wish) -> Wish:
    """Who refuses foreign films wants English ones, and the other way round."""
    if wish.kind != "language" or wish.wanted or wish.value not in (FOREIGN, "en"):
        return wish
    return replace(wish, value="en" if wish.value == FOREIGN else FOREIGN, wanted=True)


def _corrected(text: str, found: Sequence[Wish]) -> list[Wish]:
    """Without what is corrected at once ("the 60s, sorry, 50s"); years in a list are refused together."""
    kept: list[Wish] = []
    for wish in sorted(found, key=lambda w: (w.start, -w.end)):
        before = kept[-1] if kept and kept[-1].kind == wish.kind and kept[-1].end <= wish.start else None
        gap = text[before.end : wish.start] if before is not None else ""
        if before is not None and _CORRECTS.search(gap):
            kept.pop()
        elif before is not None and wish.kind == "years" and not before.wanted and _LIST.fullmatch(gap):
            wish = replace(wish, wanted=False)
        kept.append(wish)
    return kept


def _told_plainly(wish: Wish) -> Wish:
    """A wish for the later years where "nothing before 2000" refuses the earlier ones."""
    if wish.kind != "years" or wish.wanted or wish.than or "-" not in wish.value:
        return wish
    first, _, last = wish.value.partition("-")
    if first and last:
        return wish
    return replace(wish, value=f"-{int(first) - 1}" if first else f"{int(last) + 1}-", wanted=True)


def _plainer(found: Sequence[Wish]) -> list[Wish]:
    """Without the vague ones of a kind where years or minutes are told too, and without a year inside a span."""
    spans = [w for w in found if w.kind == "years" and w.value not in _VAGUE and not w.than]
    inner = {id(w) for w in spans for x in spans if (x.start <= w.start < x.end) and x.end - x.start > w.end - w.start}
    told = {w.kind for w in found if w.kind in ("years", "length") and w.value not in _VAGUE and not w.than}
    kept = [w for w in found if id(w) not in inner and (w.kind not in told or w.value not in _VAGUE)]
    return [w for n, w in enumerate(kept) if w.kind != "years" or w not in kept[:n]]


def _having(memory: Memory, offered: Sequence[str], turn: Turn, rest: str) -> list[str]:
    """Those of the offered items that have a person whom a turn names, or that which speaks most of what it says.

    The one with the robot is told by its plot.
    """
    named = {link.id for link in turn.links if link.kind == "person"}
    items = [memory.catalogue.item(i) for i in offered]
    if found := [item.item_id for item in items if named & {*item.cast, *item.directors, *item.writers}]:
        return found
    words = {singular(word) for word in key(rest).split() if len(word) > 3}
    told = {
        i.item_id: {singular(w) for w in key(f"{i.plot} {' '.join((*i.keywords, *i.genres))}").split()} for i in items
    }
    most = max((len(words & own) for own in told.values()), default=0)
    return [i for i, own in told.items() if len(words & own) == most > 0][:1]


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
