"""What a seeker asks for in words: genres, years, people, studios, an audience, and what he does not want.

Reads plain text with patterns; titles that are marked in the text are passed over, so that "Scary Movie" asks for
nothing. Knows no catalogue beyond the names it is given, and not what a model makes of a wish.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from crscli import genres, names
from crscli.dialogue import Turn
from crscli.languages import FOREIGN, name_of
from crscli.wishes.measures import LONG, SHORT, lengths, said_languages

WishKind = Literal["genre", "years", "person", "studio", "audience", "theme", "length", "language"]


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that is wanted or not.

    Args:
        kind: what it is.
        value: a genre of `genres.GENRES`, a person's name, a studio of STUDIOS, "kids", "superhero"; of years
            "1980-1989", "2000-" or "-1979", "old" and "new", or "older" and "newer" than `than`; of length the same in
            minutes; of language its code, or "foreign".
        wanted: False for "no horror".
        asked: it is stated as a wish; False where it is only said ("that one was really funny").
        turn: number of the turn.
        start: place in its text.
        end: place after it.
        than: the item that "like X but newer" compares with; empty where nothing is compared.
    """

    kind: WishKind
    value: str
    wanted: bool
    asked: bool
    turn: int
    start: int
    end: int
    than: str = ""


@dataclass(frozen=True)
class Wishes:
    """What holds at the end of a dialogue, oldest first: a newer word on the same thing replaces the older one."""

    every: tuple[Wish, ...] = ()

    def wanted(self, kind: WishKind | None = None) -> list[Wish]:
        """What is asked for."""
        return [w for w in self.every if w.wanted and w.asked and kind in (None, w.kind)]

    def unwanted(self, kind: WishKind | None = None) -> list[Wish]:
        """What is asked to be left out."""
        return [w for w in self.every if not w.wanted and w.asked and kind in (None, w.kind)]


STUDIOS: dict[str, re.Pattern[str]] = {
    "Disney": re.compile(r"\b(?:walt )?disney\b(?!\s*(?:world|land|channel|\+|plus))", re.I),
    "Pixar": re.compile(r"\bpixar\b", re.I),
    "Marvel": re.compile(r"\bmarvel\b", re.I),
    "DC": re.compile(r"\bdc(?=\s+(?:comics?|movies?|films?|universe|ones?)\b)", re.I),
    "DreamWorks": re.compile(r"\bdream ?works\b", re.I),
    "Ghibli": re.compile(r"\bghibli\b|\bmiyazaki\b", re.I),
}
"""Studios that people ask for by name."""

_NEAR = 300
_FILMS = r"(?:movies?|films?|flicks?|ones?|stuff|pictures?|releases?|things?)"
_CLAUSE = re.compile(r"[.!?;,\n]+|\b(?:but|although|though|however|instead)\b", re.I)
_ASKS = re.compile(
    r"\b(?:like[sd]?|lov(?:e[sd]?|ing)|enjoy(?:ed|s)?|wants?|wanting|need|looking|look for|mood|"
    r"recommend\w*|suggest\w*|something|anything|any|some|suggestions?|fan of|into|watch|interested|favou?rites?|"
    r"how about|what about|maybe|please|more|give me|find|prefer|kinds?|types?)\b",
    re.I,
)
_DESCRIBES = re.compile(
    r"(?:@|\b(?:it|that|this|that one|this one|he|she|which|they)(?:'s|s)?)\s+"
    r"(?:(?:is|was|were|are|would be|will be|is going to be|looks?|looked|sounds?|seems?|seemed|has|had)\s+)?"
    r"(?:(?:a|an|the|such|so|very|really|pretty|also|just|more|too|quite|kind|sort|of|one|good|great|best|my|"
    r"favou?rite|hilariously|super|really)\s+)*$",
    re.I,
)
_RELATIVE = re.compile(
    rf"\b(?:{_FILMS}|something|anything|nothing|one)\s+(?:that|which)(?:['’]?s|['’]?re)?\s+(?:(?:is|are|will\s+be)\s+)?(?:[\w'’-]+\s+){{0,3}}$",
    re.I,
)
"""What a film is to be like: "movies that are comedies"."""
_FEW = r"(?:(?!i\b|you\b|we\b|it\b|but\b|just\b|only\b|sure\b|seen\b|sounds?\b|problem\b)[\w'’-]+\s+)"
_NEGATED = re.compile(
    r"(?:"
    rf"\b(?:no|none|nothing|without|except(?:\s+for)?|avoid|never|neither|nor|any(?:thing|one|body)\s+but|other\s+than|besides|less|"
    rf"instead\s+of|(?:tired|sick|bored)\s+of|done\s+with|fed\s+up\s+with|enough(?:\s+of)?|over\s+the|avoiding|minus|skip|skipping|"
    rf"spare\s+(?:me|us)|leave\s+(?:out|off|aside)|leaving\s+out|(?:away|clear)\s+(?:from|of)|ditch|"
    rf"drop|lose|nix|hold|allergic\s+to|put\s+off\s+by|loathes?|despises?|detests?|rather\s+not|anti|(?:don['’]?t|do\s+not|never|if\s+(?:you|u))\s+show\s+(?:me|us)|out\s+if|"
    r"freaks?\s+(?:\w+\s+)?out\s+(?:at|by|over)|"
    rf"(?:queasy|squeamish|faint|sick|ill)\s+(?:with|at|about|of|from|around))\s+(?:any\s+)?{_FEW}{{0,3}}"
    rf"|\b(?:not?|isn'?t|aren'?t)\s+{_FEW}{{0,4}}"
    rf"|\b(?:hates?|hated|dislikes?|disliked|(?:can|could)(?:['’]?t|not|n['’]t)\s+(?:stand|stomach|bear|abide|handle|take|deal\s+with|do|face|"
    rf"cope\s+with|sit\s+through)|afraid\s+of|scared\s+of|don['’]?t\s+do)\s+{_FEW}{{0,3}}"
    rf"|\b(?:do|does|did|am|was|would)(?:n['’]?t|\s+not)\s+(?:\w+\s+)?(?:like|love|want|enjoy|care|need|watch|fancy|feel\s+like|do|"
    rf"into|prefer|handle|(?:have|got)\s+(?:the\s+)?(?:time|patience|energy|stomach|nerves?)\s+for)\s+(?:for\s+)?{_FEW}{{0,4}}"
    r"|\btoo\s+"
    r"|\bseen\s+(?:everything|all|every)\b[^.!?;]{0,25}"
    r"|\b(?:kill|hates?|murder|divorce|mad|angry|upset|annoyed)\b[^.!?;]{0,30}\bif\b[^.!?;]*"
    r")$",
    re.I,
)
_NOT_NEGATED = re.compile(
    r"\b(?:why not|not only|not just|not as|no matter|no preference|not sure|no one|not bad|not many|"
    r"(?:not|n['’]t) (?:have|need) to be)\b|"
    r"^\W*(?:is|are|was|were|does|did|do|wasn|weren)n?['’]?t\b(?!\s+(?:really\s+)?(?:like|want|need|care|into))",
    re.I,
)
_DESCRIBES_NOT = re.compile(
    r"(?:(?:@|\b(?:it|this|these|those|they|he|she)|^\s*that)(?:['’]?s|['’]?re)?\s+"
    r"(?:(?:is|are|does|did)(?:n['’]?t|\s+not)|isnt|not)|\bw(?:as|ere)(?:n['’]?t|\s+not))\s+(?:[\w'’-]+\s+){0,4}$",
    re.I,
)
_NEGATED_AFTER = re.compile(
    rf"^\s*(?:{_FILMS}\s+)?(?:(?:is|are|was)(?:n['’]?t|\s+not)\b(?!\s+(?:there|it)\b)|(?:do|does)(?:n['’]?t|\s+not)\b|scares?\s+me\b|"
    r"bores?\s+me\b|free\b|sucks?\b|(?:is|are)\s+(?:for\s+(?:babies|losers|kids|children)|boring|dull|stupid|lame|overrated|"
    r"off\s+the\s+table|too\s+much)\b|(?:does|do)\s+my\s+head\s+in|(?:gets?|drives?)\s+(?:on\s+my\s+nerves|me\s+(?:mad|crazy|nuts))|"
    r"(?:annoys?|irritates?|creeps?)\s+me\b|too\s+much\s+for\b|(?:has|have|['’]s)\s+been\s+done\s+to\s+death)",
    re.I,
)
_JOINED = re.compile(
    rf"^\s*(?:{_FILMS}\s*)?(?:[,/&+]|\band\b|\bor\b|\bnor\b|\s)*\s*(?:(?:super|too|very|really|any)\s+)?$", re.I
)

_WORDS_OF_DECADES = ("twent", "thirt", "fort", "fift", "sixt", "sevent", "eight", "ninet")
_DECADE = re.compile(r"(?<![\w$'’])(?:(?P<century>19|20)|['’])?(?P<ten>\d)0['’]?s(?!\w)", re.I)
_DECADE_WORD = re.compile(rf"\b(?P<word>{'|'.join(_WORDS_OF_DECADES)})ies\b", re.I)
_AGE = re.compile(r"\b(?:my|his|her|their|your|our|in)\s+(?:early|late|mid)?[\s-]*$", re.I)
_OWN_AGE = re.compile(r"\b(?:my|his|her|their|your|our)\s+(?:early|late|mid)?[\s-]*$", re.I)
_BORN = re.compile(r"\b(?:born|married|graduated|retired|met|bought|moved)\s+(?:\w+\s+)?$", re.I)
_YEAR = re.compile(
    r"\b(?P<how>from|in|of|since|after|before|around|year|until|past)\s+(?:the\s+)?(?:year\s+)?"
    r"(?P<year>19[2-9]\d|20[0-4]\d)(?![\w'’])",
    re.I,
)
_NEW = re.compile(
    rf"\b(?:newer|newest|latest|recent|recently\s+(?:released|made|came\s+out)|new(?=\s+(?:\w+\s+)?{_FILMS}\b)|"
    r"(?:something|anything|any)\s+new|just\s+c[ao]me\s+out|(?:now|currently|still)\s+in\s+(?:the\s+)?theat(?:er|re)s?|"
    r"in\s+(?:the\s+)?theat(?:er|re)s?|newish|brand[ -]new|"
    r"later\s+than\s+(?:that|those|this)|this\s+year|this\s+summer|up\s*-?coming|coming\s+out|more\s+modern|modern)\b",
    re.I,
)
_OLD = re.compile(
    rf"\b(?:older(?!\s+(?:brother|sister|son|daughter|kids?|child\w*))|old(?=\s+(?:\w+\s+)?{_FILMS}\b)|"
    r"old[ -]?school|oldies?|old[ -]?time|(?:something|anything)\s+old(?![ -]?(?:school|time|fashion))|"
    r"earlier(?:\s+than\s+(?:that|those|this)|(?=\s*(?:$|[.,!?])))|"
    r"old[ -]fashioned|vintage|retro|classics?|black\s+and\s+white)\b",
    re.I,
)
_ONE_FILM = re.compile(r"\b(?:the|that|this|its|his|her)\s+(?:most\s+|more\s+|very\s+)?$", re.I)
_ONE = re.compile(r"^\s*(?:one\b|movie\b|film\b|version\b|sequel\b|remake\b|@|$)", re.I)
_KIDS = re.compile(
    r"\b(?:for|with|to)\s+(?:(?:my|the|our|a|his|her|some|all|two|three|\d+|young|little|small|younger|whole)\s+)*"
    r"(?:kids?|child(?:ren)?|sons?|daughters?|grand(?:kids?|children|son|daughter)s?|nieces?|nephews?|toddlers?|"
    r"little ones?|\d+[ -]+year[ -]+olds?|famil(?:y|ies))\b|\bkid[ -]?friendly\b|\bfamily[ -]?(?:friendly|night)\b|"
    r"\b(?:kids?|children)['’]?s?\s+(?:movies?|films?|flicks?|ones?|stuff)\b|\bg[ -]rated\b",
    re.I,
)
_LIKE_BUT = re.compile(
    r"\b(?:like|similar\s+to)\s+[^.!?@]{0,20}(?P<item>@+)[^.!?@]{0,20}?\b(?:but|only|except)\b(?P<rest>[^.!?]*)", re.I
)
_YES = re.compile(r"^\W*(?:yes|yeah|yea|yep|yup|sure|definitely|absolutely|of course|i do|i love|i like|love)\b", re.I)
_NO = re.compile(r"^\W*(?:no|nope|nah|not really|not a fan|not much|i don'?t)\b", re.I)
_OFFERS = re.compile(
    r"\b(?:like|into|prefer|looking for|want|mood|enjoy|fan of|interested|feel like|for you|about)\b[^?]*$", re.I
)


def masked(turn: Turn) -> str:
    """The text with every placed item link as a run of @, other offsets unchanged."""
    text = turn.text.replace("@", " ")
    for link in turn.links:
        if link.kind == "item" and link.start >= 0:
            text = text[: link.start] + "@" * (link.end - link.start) + text[link.end :]
    return text


def in_words(wish: Wish) -> str:
    """A wish as it reads in a sentence: "horror", "the 1980s", "something new", "Adam Sandler"."""
    if wish.kind == "years":
        first, dash, last = wish.value.partition("-")
        if not dash:
            return f"something {wish.value}"
        if first and last:
            return first if first == last else f"the {first}s" if int(last) - int(first) == 9 else f"{first} to {last}"
        return f"{first} or later" if first else f"{last} or earlier"
    if wish.kind == "length":
        first, _, last = wish.value.partition("-")
        if first and last:
            return f"{first} to {last} minutes"
        return f"at most {last} minutes" if last else f"at least {first} minutes"
    if wish.kind == "language":
        return "a foreign language" if wish.value == FOREIGN else name_of(wish.value)
    return {"kids": "something for kids", "superhero": "superheroes"}.get(wish.value, wish.value)


class WishReader:
    """Reads turns; the names of people are given once."""

    def __init__(self, people: Iterable[str] = ()) -> None:
        """Args: full names as catalogues have them; those of a single word are passed over."""
        self.people = [name for name in dict.fromkeys(people) if " " in name.strip()]
        self._index = names.NameIndex(names.key(name) for name in self.people)

    def read(self, turns: Sequence[Turn]) -> Wishes:
        """The wishes of a dialogue so far."""
        return fold(
            [
                replace(wish, turn=num)
                for num, turn in enumerate(turns)
                if turn.role == "seeker"
                for wish in self.of_turn(turn, turns[num - 1] if num and turns[num - 1].role != "seeker" else None)
            ]
        )

    def of_turn(self, turn: Turn, asked_before: Turn | None = None) -> list[Wish]:
        """The wishes of one turn, by place.

        Args:
            turn: the seeker's.
            asked_before: the recommender's turn that it answers: "yes" to "do you like horror?" is a wish.
        """
        text = masked(turn)
        found: list[Wish] = []
        if asked_before is not None:
            found += _answered(text, masked(asked_before))
        compared = _compared(text, turn)
        found += _genres(text, compared)
        found += _years(text, compared)
        found += self._named(text, turn)
        for value, start, end in lengths(text):
            if value == f"{LONG}-" and is_negated(text, start, end):
                value = f"-{SHORT}"  # "no long ones"
            found.append(Wish("length", value, True, True, 0, start, end))
        for code, start, end in said_languages(text):
            found.append(Wish("language", code, not is_negated(text, start, end), True, 0, start, end))
        for studio, pattern in STUDIOS.items():
            found += _each("studio", studio, pattern, text)
        found += _each("theme", "superhero", genres.SUPERHERO, text)
        found += [replace(wish, asked=True) for wish in _each("audience", "kids", _KIDS, text)]
        return sorted(found, key=lambda wish: (wish.start, wish.end))

    def people_in(self, turn: Turn) -> list[str]:
        """The people whom a turn of either side names, wanted or not."""
        return [wish.value for wish in self._named(masked(turn), turn)]

    def _named(self, text: str, turn: Turn) -> Iterator[Wish]:
        """People by full name, the longest where names overlap, and those that are linked."""
        places: dict[int, tuple[int, str]] = {}
        linked = [link for link in turn.links if link.kind == "person" and link.start >= 0]
        for link in linked:
            places[link.start] = (link.end, link.id)
        if len(self._index):
            words = names.tokens(text)
            after = 0
            found = self._index.find([_without_possessive(text, token) for token in words])
            for first, stop, num in sorted(found, key=lambda f: (f[0], -f[1])):
                start, end = words[first].start, words[stop - 1].end
                inside = any(link.start < end and start < link.end for link in linked)
                if first >= after and not inside and "@" not in text[start:end]:
                    places[start] = (end, self.people[num])
                    after = stop
        for start, (end, name) in sorted(places.items()):
            wanted = not is_negated(text, start, end)
            yield Wish("person", name, wanted, True, 0, start, end)


def read(turns: Sequence[Turn], people: Iterable[str] = ()) -> Wishes:
    """The wishes of a dialogue so far; `WishReader` is for many."""
    return WishReader(people).read(turns)


def fold(stated: Iterable[Wish]) -> Wishes:
    """What holds after all that was stated, oldest first: the newest word on a thing; of years the newest turn."""
    held: dict[tuple[WishKind, str], Wish] = {}
    for wish in stated:
        before = held.pop((wish.kind, wish.value), None)
        if before is not None and before.asked and not wish.asked:
            held[wish.kind, wish.value] = before
            continue
        if wish.kind in ("years", "length", "language") and wish.asked and wish.wanted:
            older = [key for key, w in held.items() if w.kind == wish.kind and w.turn < wish.turn and w.wanted]
            for key in older:
                del held[key]
        held[wish.kind, wish.value] = wish
    return Wishes(tuple(held.values()))


def _compared(text: str, turn: Turn) -> dict[int, str]:
    """The places behind "like X but", each with the item X."""
    return {
        num: next(x.id for x in turn.links if x.kind == "item" and x.start <= found.start("item") < x.end)
        for found in _LIKE_BUT.finditer(text)
        for num in range(found.start("rest"), found.end("rest"))
    }


def _genres(text: str, compared: Mapping[int, str]) -> Iterator[Wish]:
    """Genres with their polarity; in a list each has that of the one before."""
    before: Wish | None = None
    named: set[str] = set()
    for span in genres.said(text):
        if any(studio.fullmatch(text[span.start : span.end]) for studio in STUDIOS.values()):
            continue
        noun = span.strength == "noun" or span.start in compared
        wanted, asked = _stated(text, span.start, span.end, noun=noun)
        if before is not None and before.start < span.start:
            gap = text[before.end : span.start]
            if _JOINED.match(gap) and gap.strip():
                wanted, asked = before.wanted and wanted, asked or before.asked
        if not wanted and span.strength == "adjective" and span.genre in named:
            continue  # "horror, but not too gory" is still horror
        if wanted and asked and span.strength == "noun":
            named.add(span.genre)
        before = Wish("genre", span.genre, wanted, asked, 0, span.start, span.end)
        yield before


def _years(text: str, compared: Mapping[int, str]) -> Iterator[Wish]:
    for value, pattern in (("new", _NEW), ("old", _OLD)):
        for found in pattern.finditer(text):
            than = compared.get(found.start(), "")
            wanted, asked = _stated(text, *found.span(), noun=not found.group().lower().startswith("classic"))
            # "The new one" is one film, not a wish for new ones.
            asked = asked and not (
                _ONE_FILM.search(_before(text, found.start())) and _ONE.match(text[found.end() : found.end() + _NEAR])
            )
            yield Wish("years", f"{value}er" if than else value, wanted, asked or bool(than), 0, *found.span(), than)
    for found in _DECADE.finditer(text):
        if not found["century"] and found["ten"] in "123456" and _OWN_AGE.search(_before(text, found.start())):
            continue
        century = found["century"] or ("20" if found["ten"] in "01" else "19")
        yield _of_years(text, f"{century}{found['ten']}0-{century}{found['ten']}9", found)
    for found in _DECADE_WORD.finditer(text):
        if not _OWN_AGE.search(_before(text, found.start())):
            ten = _WORDS_OF_DECADES.index(found["word"].lower()) + 2
            yield _of_years(text, f"19{ten}0-19{ten}9", found)
    for found in _YEAR.finditer(text):
        if _BORN.search(_before(text, found.start())):
            continue
        how, year = found["how"].lower(), int(found["year"])
        ranges = {"since": f"{year}-", "after": f"{year + 1}-", "past": f"{year + 1}-"}
        ranges |= {"before": f"-{year - 1}", "until": f"-{year}", "around": f"{year - 2}-{year + 2}"}
        yield _of_years(text, ranges.get(how, f"{year}-{year}"), found)


def _of_years(text: str, value: str, found: re.Match[str]) -> Wish:
    return Wish("years", value, *_stated(text, *found.span(), noun=True), 0, *found.span())


def _each(kind: WishKind, value: str, pattern: re.Pattern[str], text: str) -> Iterator[Wish]:
    for found in pattern.finditer(text):
        yield Wish(kind, value, *_stated(text, *found.span(), noun=True), 0, *found.span())


def _answered(text: str, question: str) -> Iterator[Wish]:
    """Genres of the other side's last question that are answered with a plain yes or no."""
    start = question.rstrip().rfind("?")
    if start < 0 or "@" in question[max(0, start - 80) :]:
        return
    asked = re.split(r"[.!?]", question[:start])[-1]
    found = list(genres.said(asked))
    yes, no = _YES.match(text), _NO.match(text)
    if found and _OFFERS.search(asked) and (yes or no):
        stated = {span.genre for span in genres.said(text)}
        # Of several on offer a plain yes takes all of them, and a choice names its own.
        if not stated:
            end = (yes or no).end()  # type: ignore[union-attr]
            yield from (Wish("genre", span.genre, bool(yes), True, 0, 0, end) for span in found)


def _without_possessive(text: str, token: names.Token) -> str:
    return token.word[:-1] if text[token.start : token.end].lower().endswith(("'s", "’s")) else token.word


def _before(text: str, start: int) -> str:
    """The letters before a place that a rule may look at: without an end, a long text would take quadratic time."""
    return text[max(0, start - _NEAR) : start]


def _clause(text: str, start: int, end: int) -> tuple[str, str]:
    """What stands before and after a span in its clause, as far as it is near."""
    before = max((m.end() for m in _CLAUSE.finditer(text, max(0, start - _NEAR), start)), default=max(0, start - _NEAR))
    after = _CLAUSE.search(text, end, end + _NEAR)
    return text[before:start], text[end : after.start() if after else end + _NEAR]


def is_negated(text: str, start: int, end: int) -> bool:
    """Whether what a span of a text names is refused there: "nothing scary", "not a fan of horror"."""
    before, after = _clause(text, start, end)
    # "anything but horror": the word that cuts clauses belongs to the negation here.
    if re.search(
        r"\b(?:any(?:thing|one|body)|every(?:thing|one|body))\s+but\s+(?:\w+\s+){0,2}$", _before(text, start), re.I
    ):
        return True
    if _NOT_NEGATED.search(before):
        return False
    return bool(_NEGATED.search(before) or _NEGATED_AFTER.match(after))


def _stated(text: str, start: int, end: int, *, noun: bool) -> tuple[bool, bool]:
    """Whether what a span names is wanted, and whether that is a wish rather than a word on some film.

    A noun is a wish unless it describes a film; an adjective where its clause asks.
    """
    before, after = _clause(text, start, end)
    if is_negated(text, start, end):
        return False, not _DESCRIBES_NOT.search(before)
    if _DESCRIBES.search(before) and not _RELATIVE.search(before):
        return True, False
    return True, noun or bool(
        _ASKS.search(before) or _RELATIVE.search(before) or re.match(rf"\s+{_FILMS}\b", after, re.I)
    )
