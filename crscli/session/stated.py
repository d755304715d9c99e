"""What a message asks for and refuses; an answer to the last question counts as if it had been said in full."""

import re
from collections.abc import Sequence
from dataclasses import replace

from crscli import genres
from crscli.dialogue import Turn
from crscli.languages import FOREIGN, SAID, code_of
from crscli.names import singular
from crscli.session.company import company
from crscli.session.hearing import Heard
from crscli.session.host import Host
from crscli.session.memory import Memory
from crscli.session.moods import moods
from crscli.session.questions import stated_by
from crscli.session.references import ONE_WITH, same_person
from crscli.session.themes import alone, themes
from crscli.wishes import Wish, is_negated, masked
from crscli.wishes.measures import LONG, SHORT
from crscli.wishes.periods import periods

_OLD_KIND = re.compile(
    r"\b(old|new)(?:er)?\s+(?=(?:musical|comed|western|thriller|horror|drama|action|cartoon|romance)\w*)", re.I
)
_TOO = re.compile(r"(?<!not )(?<!nothing )(?<!n't )(?<!be )\btoo\s+(old|new|recent|modern)\b(?!\s+(?:for|to)\b)", re.I)
_POINTS = re.compile(
    r"(?<!make )\b(?:it|(?<!thing )(?<!movie )(?<!film )(?<!one )(?<!stuff )that|this|they)\b(?!\s+(?:one\s+)?but)",
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
    r"\b(?:sorry|oops|i\s+mean|i\s+meant|no\s+wait|wait\s+no|scratch\s+that|make\s+(?:that|it)|said\s+(?:that|it)\s+wrong|correction|or\s+rather|actually\s+no)\b",
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
_DESCRIBED = frozenset({"genre", "theme", "language"})
_VAGUE = frozenset({"old", "new", f"-{SHORT}", f"{LONG}-"})
_WANTS = re.compile(r"\b(?:want|looking for|something|anything)\b", re.I)


def wishes_of(host: Host, memory: Memory, turn: Turn, heard: Heard) -> list[Wish]:
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
    if not (heard.acts & {"accept", "ask", "seen", "refuse", "why"} and ONE_WITH.search(turn.text)):
        found += themes(turn, num, host.shelf, [(w.start, w.end) for w in found if w.end])
    found = _refused_too(turn.text, found)
    told = [m.span() for m in _SENTENCE.finditer(turn.text) if _TELLS_OF_ONE.match(m.group())]
    found = [w for w in found if w.kind not in _DESCRIBED or not any(a <= w.start < b for a, b in told)]
    found = [_told_plainly(w) for w in _plainer(found)]
    if heard.same_person and not any(wish.kind == "person" for wish in found):
        wanted = not _WITHOUT.search(turn.text)
        found += [Wish("person", name, wanted, True, num, 0, 0) for name in [same_person(memory, turn)] if name]
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


def _refused_too(text: str, found: Sequence[Wish]) -> list[Wish]:
    """Themes go with what is refused before them in the same list: "no superheroes or vampires"."""
    refused = [w for w in found if not w.wanted and w.end]
    return [
        replace(w, wanted=False)
        if w.kind == "theme" and any(x.end <= w.start and _LIST.fullmatch(text[x.end : w.start]) for x in refused)
        else w
        for w in found
    ]


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
