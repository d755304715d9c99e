"""A dialogue written down as tokens for a language model: who speaks, the text, an end after each turn.

Titles stand as they are read, or as one placeholder each. Knows no models and no losses.
"""

from collections.abc import Iterable, Mapping, Sequence

from crscli.backbone import Backbone
from crscli.dialogue import Context, Role, Turn

_REMEMBERED = 200_000


class Transcript:
    """Tokens of turns and contexts for one backbone."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        prefixes: Mapping[Role, str],
        end: Sequence[int],
        begin: Sequence[int] = (),
        placeholder: int | None = None,
        whole_turns: bool = True,
        titles: bool = True,
    ) -> None:
        """Say how it is written.

        Args:
            backbone: whose tokens.
            prefixes: what stands before a turn, with a blank at its end.
            end: tokens after each turn.
            begin: tokens before the whole.
            placeholder: the token that stands for an item in a masked turn.
            whole_turns: whether a context is cut between turns, not inside one.
            titles: whether titles are read; placeholders stand for them otherwise.
        """
        self.prefixes = dict(prefixes)
        self.end, self.begin, self.placeholder, self.whole_turns = tuple(end), tuple(begin), placeholder, whole_turns
        self.titles = titles
        self._backbone = backbone
        self._shown: dict[tuple[Role, str], tuple[int, ...]] = {}
        self._masked: dict[Turn, tuple[int, ...]] = {}

    def opening(self, role: Role) -> tuple[int, ...]:
        """Tokens that a turn of this side begins with: "System:", the blank belongs to the first word."""
        return tuple(self._backbone.tokenize([self.prefixes[role].rstrip()])[0])

    def remember(self, turns: Iterable[Turn]) -> None:
        """Tokenise turns at once, which is much faster than one by one."""
        new = [key for key in dict.fromkeys((t.role, t.text) for t in turns) if key not in self._shown]
        if len(self._shown) + len(new) > _REMEMBERED:
            self._shown.clear()
        texts = self._backbone.tokenize([self.prefixes[role] + _line(text) for role, text in new])
        self._shown.update({key: tuple(tokens) for key, tokens in zip(new, texts, strict=True)})

    def turn(self, turn: Turn) -> tuple[int, ...]:
        """A turn as it is read, with its end."""
        if not self.titles:
            return self.masked(turn) + self.end
        if (turn.role, turn.text) not in self._shown:
            self.remember([turn])
        return self._shown[turn.role, turn.text] + self.end

    def masked(self, turn: Turn) -> tuple[int, ...]:
        """A turn with a placeholder for each item that is named at a known place, without its end."""
        if turn not in self._masked:
            texts, at = [], 0
            for link in sorted((x for x in turn.links if x.kind == "item" and x.start >= 0), key=lambda x: x.start):
                if link.start >= at:
                    texts.append(turn.text[at : link.start])
                    at = link.end
            texts.append(turn.text[at:])
            texts[0] = self.prefixes[turn.role] + texts[0]
            parts = self._backbone.tokenize([" ".join(text.split("\n")) for text in texts])
            if len(self._masked) >= _REMEMBERED:
                self._masked.clear()
            assert self.placeholder is not None, "it has none"
            tokens = list(parts[0])
            for part in parts[1:]:
                tokens += [self.placeholder, *part]
            self._masked[turn] = tuple(tokens)
        return self._masked[turn]

    def context(self, turns: Context | Sequence[Turn], room: int, *last: Sequence[int]) -> tuple[int, ...]:
        """The newest turns that fit, oldest first; never empty.

        Args:
            turns: of the dialogue so far.
            room: tokens of the whole.
            last: tokens that stand behind the turns and are kept in any case.
        """
        listed = turns.turns if isinstance(turns, Context) else tuple(turns)
        closing = tuple(token for part in last for token in part)[: max(0, room - len(self.begin))]
        room -= len(self.begin) + len(closing)
        parts: list[tuple[int, ...]] = []
        for turn in reversed(listed):
            tokens = self.turn(turn) if turn.text else ()
            if not tokens:
                continue
            if len(tokens) > room:
                if room > 0 and (not parts or not self.whole_turns):
                    parts.append(tokens[len(tokens) - room :])
                break
            parts.append(tokens)
            room -= len(tokens)
        inner = tuple(token for part in reversed(parts) for token in part) + closing
        return (*self.begin, *(inner or self.end))


def _line(text: str) -> str:
    return " ".join(text.split("\n"))
