"""A message as the linker looks at it: words, capitals, ends of sentences, years in brackets. Knows no names."""

import re
from collections.abc import Sequence

from crscli.names import Token, tokens

_YEAR = re.compile(r"(?:1[89]|2[01])\d\d")
_BRACKETED = re.compile(r"\( *\d{4}(?!\d)[^()]{0,8}\)")
_STOPS = re.compile(r"[.!?:;\"“”\n]")


class Message:
    """A text cut into words; a year in brackets is no word of its own but belongs to the word before it.

    Attributes:
        text: as given.
        tokens: its words, bracketed years left out.
        words: their normalised forms.
        years: word -> (year in brackets after it, where the bracket ends).
        capital: whether a word starts with a capital or a digit.
        starts: whether a word begins a sentence.
        inner_capitals: how many of the first n words have a capital inside a sentence, "I" left out.
        has_capitals: whether any letter is a capital.
        shouts: whether every letter is, in more than one word.
    """

    __slots__ = ("capital", "has_capitals", "inner_capitals", "shouts", "starts", "text", "tokens", "words", "years")

    def __init__(self, text: str, found: Sequence[Token] | None = None) -> None:
        """Args: text; found, its tokens where they are known."""
        self.text = text
        self.years: dict[int, tuple[int, int]] = {}
        self.tokens = tokens(text) if found is None else list(found)
        if "(" in text:
            self._take_years_out()
        self.words = [token.word for token in self.tokens]
        self.has_capitals = not text.islower() and any(map(str.isupper, text))
        self.shouts = self.has_capitals and text.isupper() and len(self.tokens) > 1
        self.capital: list[bool] = []
        self.starts: list[bool] = []
        end = 0
        for token in self.tokens:
            letter = text[token.start]
            self.capital.append(letter.isupper() or letter.isdigit())
            gap = text[end : token.start]
            self.starts.append(end == 0 or (gap != " " and _STOPS.search(gap) is not None))
            end = token.end
        self.inner_capitals = [0]
        for word, capital, start in zip(self.words, self.capital, self.starts, strict=True):
            self.inner_capitals.append(self.inner_capitals[-1] + (capital and not start and word != "i"))

    def _take_years_out(self) -> None:
        kept: list[Token] = []
        for token in self.tokens:
            found = _BRACKETED.match(self.text, self._opening(token)) if kept and _YEAR.fullmatch(token.word) else None
            if found:
                self.years.setdefault(len(kept) - 1, (int(token.word), found.end()))
            else:
                kept.append(token)
        self.tokens = kept

    def _opening(self, token: Token) -> int:
        """Where a bracket that opens right before a word stands; where the word stands if there is none."""
        at = token.start - 1
        while at >= 0 and self.text[at] == " ":
            at -= 1
        return at if at >= 0 and self.text[at] == "(" else token.start

    def gap(self, at: int) -> str:
        """What stands between the word before `at` and the word `at`; at both ends of the text what is left there."""
        start = self.tokens[at - 1].end if at else 0
        stop = self.tokens[at].start if at < len(self.tokens) else len(self.text)
        return self.text[start:stop]

    def year_of(self, word: int) -> int | None:
        """The year that a word is, if it is one."""
        return int(self.words[word]) if _YEAR.fullmatch(self.words[word]) else None
