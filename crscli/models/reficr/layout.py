r"""How ReFICR writes dialogues, items and prompts as tokens.

Every part of a text is tokenised by itself, so that it is known exactly where an instruction ends and a text begins,
whatever the tokenizer. Knows no tensors and no losses. Source: the wire format of GritLM,
`<s><|user|>\n{instruction}\n<|embed|>\n{text}` and `<s><|user|>\n{prompt}\n<|assistant|>\n{answer}</s>`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crscli.backbone import Backbone
from crscli.catalogue import Catalogue
from crscli.dialogue import ACTS, Context, Turn
from crscli.models.reficr import prompts
from crscli.models.reficr.config import ReficrConfig
from crscli.recommender import PLACEHOLDER
from crscli.transcript import Transcript

CAST = 3
"""Names of a cast in an item's text."""
END = "<|end|>"
"""Ends an answer, where the tokenizer has no token for it."""


def specials(config: ReficrConfig) -> tuple[str, ...]:
    """Special tokens that the backbone needs."""
    return (END, PLACEHOLDER, *(prompts.TAGS if config.tags == "tokens" else ()))


@dataclass(frozen=True)
class Embedded:
    """A text to be embedded: token ids, of which those from `start` on are the text."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Branch:
    """A question about what was read, and its answer.

    `kind` names the subtask; `before` stands before the dialogue in the paper's layout, else right after it.
    """

    kind: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...] = ()
    before: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.before) + len(self.prompt) + len(self.answer)


class Layout:
    """Tokens of embedded texts, prompts and answers."""

    def __init__(self, backbone: Backbone, catalogue: Catalogue, config: ReficrConfig) -> None:
        self.catalogue, self.config = catalogue, config
        self._backbone = backbone
        self._known: dict[str, tuple[int, ...]] = {}
        bos, eos = (getattr(backbone.tokenizer, f"{name}_token_id", None) for name in ("bos", "eos"))
        self.begin = () if bos is None or bos == eos else (int(bos),)
        self.end = backbone.special(END) if eos is None else int(eos)
        self.placeholder = backbone.special(PLACEHOLDER)
        self.newline = self.text("\n")
        self.transcript = Transcript(
            backbone, prefixes=prompts.PREFIXES, end=self.newline, placeholder=self.placeholder,
            whole_turns=config.whole_turns,
        )  # fmt: skip
        self.yes, self.no = self.text(f"{prompts.YES}\n"), self.text(f"{prompts.NO}\n")
        self.acts = {act: (*self.tag(prompts.ACT), *self.text(prompts.ACT_NAMES[act]), *self.tag(prompts.ACT_END))
                     for act in ACTS}  # fmt: skip
        """What is written for each act."""

    # ---- parts ------------------------------------------------------------------------------------------------

    def text(self, text: str) -> tuple[int, ...]:
        """Tokens of a fixed text."""
        if text not in self._known:
            self._known[text] = tuple(self._backbone.tokenize([text])[0])
        return self._known[text]

    def tag(self, tag: str) -> tuple[int, ...]:
        """Tokens of a tag: plain text, or one token of its own."""
        return (self._backbone.special(tag),) if self.config.tags == "tokens" else self.text(tag)

    # ---- embedded texts ---------------------------------------------------------------------------------------

    def _before(self, instruction: str) -> tuple[int, ...]:
        """Everything before an embedded text."""
        parts = list(self.begin)
        if self.config.instructions:
            words = prompts.INSTRUCTIONS[instruction]
            parts += [*self.tag(prompts.USER), *self.newline, *self.text(words), *self.newline]
        return (*parts, *self.tag(prompts.EMBED), *self.newline)

    def embedded(self, instruction: str, text: Sequence[int]) -> Embedded:
        """A text after its instruction; what is longer than a passage may be was cut before. Never empty."""
        before = self._before(instruction)
        return Embedded((*before, *(text or self.newline)), len(before))

    def query(self, instruction: str, context: Context) -> Embedded:
        """A dialogue so far, to find something with."""
        return self.embedded(instruction, self.transcript.context(context, self.config.query_tokens))

    def conversation(self, turns: Sequence[Turn]) -> Embedded:
        """A dialogue so far, to be found."""
        return self.embedded("conversation", self.transcript.context(turns, self.config.passage_tokens))

    def items(self, catalogue: Catalogue | None = None, fields: Sequence[str] | None = None) -> list[Embedded]:
        """Every item's text, to be found."""
        chosen = self.config.fields if fields is None else tuple(fields)
        texts = [item.text(chosen, cast=CAST) for item in catalogue or self.catalogue]
        rows = self._backbone.tokenize(texts)
        return [self.embedded("item", row[: self.config.passage_tokens]) for row in rows]

    # ---- prompts ----------------------------------------------------------------------------------------------

    def stem(self, context: Context, before: Sequence[int] = ()) -> tuple[int, ...]:
        """The dialogue as a prompt reads it; all prompts of a turn have it in common where nothing stands before."""
        head = (*self.begin, *self.tag(prompts.USER), *self.newline, *before)
        dialogue = (*self.text(prompts.DIALOGUE), *self.newline)
        return (*head, *dialogue, *self.transcript.context(context, self.config.prompt_tokens))

    def placed(self, context: Context, branch: Branch) -> tuple[tuple[int, ...], Branch]:
        """What is read before a question, and the question."""
        if self.config.layout == "shared" or not branch.before:
            return self.stem(context), replace(branch, before=(), prompt=(*branch.before, *branch.prompt))
        return self.stem(context, branch.before), replace(branch, before=())

    def question(self, *parts: str) -> tuple[int, ...]:
        """A prompt's last lines, after the dialogue, and the sign that an answer follows."""
        lines = (token for part in parts for token in (*self.text(part), *self.newline))
        return (*lines, *self.tag(prompts.ASSISTANT), *self.newline)

    def manage(self) -> Branch:
        """The question what to do next."""
        return Branch("manage", self.question(prompts.MANAGE))

    def respond(self, names: Sequence[str]) -> Branch:
        """The question what to say, with items to name or without."""
        if not names:
            return Branch("respond", self.question(prompts.RESPOND))
        told = self._backbone.tokenize(["; ".join(names)])[0]
        parts = (*self.text(prompts.RESPOND_WITH), *self.newline, *told, *self.newline)
        return Branch("respond", (*parts, *self.tag(prompts.ASSISTANT), *self.newline))

    def candidates(self, nums: Sequence[int], room: int) -> tuple[int, ...]:
        """Candidates under their labels, a line each; lines are cut alike where they are too long together."""
        fields = self.config.shown_fields
        rows = self._backbone.tokenize([self.catalogue[n].text(fields, cast=CAST) for n in nums])
        each = max(4, room // max(1, len(nums)) - 6)
        parts = [
            (*self.opening, *self.label(place), *self.text(" "), *row[:each], *self.newline)
            for place, row in enumerate(rows)
        ]
        return tuple(token for part in parts for token in part)

    def known(self, titles: Sequence[str], turns: Sequence[Turn]) -> tuple[int, ...]:
        """A conversation that was found, and what was recommended there."""
        head = self._backbone.tokenize([prompts.knowledge(titles)])[0]
        end = self.transcript.context(turns, self.config.prompt_tokens // 4)
        return (*head, *self.newline, *end)

    def rank(self, nums: Sequence[int], known: Sequence[int]) -> Branch:
        """The question how candidates are to be ordered."""
        listed = self.candidates(nums, self.config.prompt_tokens)
        return Branch("rank", (*known, *self.question(prompts.rank_prompt(len(nums)))), before=listed)

    # ---- answers ----------------------------------------------------------------------------------------------

    def label(self, place: int) -> tuple[int, ...]:
        """What stands for a candidate (from 0) in an answer, after "["; ends with "]"."""
        return self.text(f"{place + 1}]")

    @property
    def opening(self) -> tuple[int, ...]:
        """What a label begins with."""
        return self.text("[")

    def order(self, places: Sequence[int]) -> tuple[int, ...]:
        """The answer that names candidates, best first, a line each."""
        lines = (token for place in places for token in (*self.opening, *self.label(place), *self.newline))
        return (*lines, self.end)

    def decision(self, recommends: bool, acts: Sequence[str], why: str) -> tuple[int, ...]:
        """The answer what to do next; acts in their order, where the data tell them."""
        known = tuple(token for act in ACTS if act in acts for token in self.acts[act])
        told = self._backbone.tokenize([f"\n{why}"])[0] if why else []
        return (*(self.yes if recommends else self.no), *((*known, *told, self.end) if acts else ()))

    def reply(self, turn: Turn) -> tuple[int, ...]:
        """A recommender's turn as an answer: its items are placeholders, or names inside tags."""
        texts, names, at = [], [], 0
        for link in sorted((x for x in turn.links if x.kind == "item" and x.start >= 0), key=lambda x: x.start):
            if link.start >= at:
                texts.append(turn.text[at : link.start])
                names.append(turn.text[link.start : link.end])
                at = link.end
        texts.append(turn.text[at:])
        rows = self._backbone.tokenize([" ".join(text.split("\n")) for text in texts])
        tokens = list(rows[0])
        for name, row in zip(names, rows[1:], strict=True):
            tokens += [*self.item(name), *row]
        return (*tokens[: self.config.reply_tokens], self.end)

    def item(self, name: str) -> tuple[int, ...]:
        """An item in a reply."""
        if self.config.item_names == "placeholder":
            return (self.placeholder,)
        return (*self.tag(prompts.ITEM), *self._backbone.tokenize([name])[0], *self.tag(prompts.ITEM_END))
