"""How PECRS writes dialogues and items as tokens, and cuts dialogues into training points.

Token ids are the backbone's; items stand as ids from `base` on, base + item_num. Knows no tensors and no losses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crscli.backbone import Backbone
from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Dialogue, Turn, cut, merge_turns
from crscli.models.pecrs.config import PecrsConfig
from crscli.recommender import PLACEHOLDER

SPECIALS = ("[REC]", "[REC_END]", "[SEP]", PLACEHOLDER)
_PREFIX = {"recommender": "A: ", "seeker": "B: "}
_REMEMBERED = 200_000
_TURN_END = "\n\n\n"
"""Two tokens in GPT-2's vocabulary, 628 and 198, as in the reference."""


@dataclass(frozen=True)
class Point:
    """What is trained on: a context, one target item (or -1), and the response.

    `context` and `response` token ids; `repeated` marks the further points of one response.
    """

    name: str
    context: tuple[int, ...]
    response: tuple[int, ...]
    target: int = -1
    repeated: bool = False

    def __len__(self) -> int:
        return len(self.context) + len(self.response) + 3 * (self.target >= 0)


class Layout:
    """Tokens of turns, contexts, responses and items."""

    def __init__(self, backbone: Backbone, catalogue: Catalogue, config: PecrsConfig) -> None:
        self.catalogue = catalogue
        self.config = config
        self._backbone = backbone
        self.base = backbone.vocabulary + len(SPECIALS)
        self.rec, self.rec_end, self.sep, self.item = (backbone.special(name) for name in SPECIALS)
        self.end = tuple(backbone.tokenize([_TURN_END])[0])
        self.opening = tuple(backbone.tokenize([_PREFIX["recommender"].rstrip()])[0])
        """The tokens that every response begins with: "A:"."""
        self._turns: dict[Turn, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def remember(self, turns: Iterable[Turn]) -> None:
        """Tokenise turns at once, which is much faster than one by one."""
        new = [turn for turn in dict.fromkeys(turns) if turn not in self._turns]
        if len(self._turns) + len(new) > _REMEMBERED:
            self._turns.clear()
        pieces = [self._pieces(turn) for turn in new]
        flat = self._backbone.tokenize([text for texts, _ in pieces for text in texts])
        at = 0
        for turn, (texts, marks) in zip(new, pieces, strict=True):
            parts = flat[at : at + len(texts)]
            at += len(texts)
            self._turns[turn] = (self._joined(parts, [self.item] * len(marks)), self._joined(parts, marks))

    def _pieces(self, turn: Turn) -> tuple[list[str], list[int]]:
        """A turn's text between its mentions, and what stands for each mention: its item, or the placeholder."""
        texts, marks, at = [], [], 0
        vocabulary = self.catalogue.vocabulary
        for link in sorted((x for x in turn.links if x.kind == "item" and x.start >= 0), key=lambda x: x.start):
            if link.start >= at:
                texts.append(turn.text[at : link.start])
                known = self.config.item_position == "mention" and link.id in vocabulary
                marks.append(self.base + vocabulary.num(link.id) if known else self.item)
                at = link.end
        texts.append(turn.text[at:])
        texts[0] = _PREFIX[turn.role] + texts[0]
        return [" ".join(text.split("\n")) for text in texts], marks

    def _joined(self, parts: Sequence[Sequence[int]], marks: Sequence[int]) -> tuple[int, ...]:
        joined = list(parts[0])
        for mark, part in zip(marks, parts[1:], strict=True):
            joined += [mark, *part]
        return tuple(joined[: self.config.turn_tokens])

    def _tokens(self, turn: Turn) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(with placeholders, as read in a context)."""
        if turn not in self._turns:
            self.remember([turn])
        return self._turns[turn]

    def response(self, turn: Turn) -> tuple[int, ...]:
        """A turn as a response: its items are placeholders."""
        return self._tokens(turn)[0] + self.end

    def turn(self, turn: Turn, *, with_items: bool = True) -> tuple[int, ...]:
        """A turn as a context shows it, with its items beside the text."""
        text = self._tokens(turn)[1]
        placed = {token for token in text if token >= self.base}
        items = [self.base + int(n) for n in self.catalogue.vocabulary.nums(turn.items)] if with_items else []
        items = [item for item in items if item not in placed]
        if not items:
            return text + self.end
        if turn.role == "recommender":
            return (self.rec, *items, self.rec_end, *text, *self.end)
        marked = (self.sep, *items, self.sep)
        return text + self.end + marked if self.config.item_position == "code" else marked + text + self.end

    def context(self, context: Context) -> tuple[int, ...]:
        """The newest turns that fit, oldest first; never empty."""
        room = self.config.context_tokens
        parts: list[tuple[int, ...]] = []
        for num in range(len(context.turns) - 1, -1, -1):
            tokens = self.turn(context.turns[num], with_items=num > 0 or self.config.first_turn_items)
            if len(tokens) > room:
                if not parts or not self.config.whole_turns:
                    parts.append(tokens[len(tokens) - room :])
                break
            parts.append(tokens)
            room -= len(tokens)
            if not room:
                break
        return tuple(t for part in reversed(parts) for t in part) or self.end

    def items(self, fields: Sequence[str] | None = None) -> list[tuple[int, ...]]:
        """Token ids of every item's text: fields with [SEP] between them, the empty ones too."""
        chosen = self.config.fields if fields is None else tuple(fields)
        texts = [item.field(name, cast=3) for item in self.catalogue for name in chosen]
        flat = self._backbone.tokenize(texts)
        rows = []
        for num in range(len(self.catalogue)):
            row: list[int] = []
            for part in flat[num * len(chosen) : (num + 1) * len(chosen)]:
                row += [self.sep, *part]
            rows.append(tuple(row[1 : self.config.item_tokens + 1]) or (self.sep,))
        return rows

    def points(self, dialogues: Iterable[Dialogue]) -> list[Point]:
        """One point for each item of a recommender's turn, or one without item; the opening turn is none.

        Source: PECRS, dataset.py: one point a mention, with the same context and response.
        """
        dialogues = list(dialogues)
        examples = [e for d in dialogues for e in cut(d, with_items=False)]
        self.remember(turn for d in dialogues for turn in merge_turns(d.turns))
        made = []
        for e in examples:
            context, response, name = (
                self.context(e.context),
                self.response(e.response),
                f"{e.dialogue_id}:{e.turn_num}",
            )
            targets = [int(n) for n in self.catalogue.vocabulary.nums(e.targets)] or [-1]
            made += [Point(name, context, response, target, num > 0) for num, target in enumerate(targets)]
        return made
