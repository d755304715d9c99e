"""What UniCRS learns from: dialogues as tokens for the decoder and the encoder, the entities of a context, targets.

Knows no tensors and no losses. Source: Wang et al., KDD 2022; RUCAIBox/UniCRS, process.py, process_mask.py,
dataset_pre.py, dataset_conv.py, dataset_rec.py. Differs: entities are in the order in which they were named, and the
newest are kept; a title is masked wherever the data tell its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from crscli.backbone import Backbone
from crscli.dialogue import Context, Dialogue, Example, Link, Role, Turn, cut, merge_turns
from crscli.graph_encoder import Nodes
from crscli.models.unicrs.config import UnicrsConfig
from crscli.recommender import PLACEHOLDER
from crscli.transcript import Transcript

SPECIALS = ("[END]", PLACEHOLDER)
"""Of the decoder; [END] is used where it has no end of text of its own."""
ENCODER_SPECIALS = ("[CLS]", "[SEP]", PLACEHOLDER)
_PREFIXES: dict[Role, str] = {"seeker": "User: ", "recommender": "System: "}


@dataclass(frozen=True)
class Asked:
    """A text whose entities or items are asked for.

    `ids` for the decoder, `words` for the encoder, `nodes` of the context; `targets` are nodes, repeats kept.
    """

    name: str
    ids: tuple[int, ...]
    words: tuple[int, ...]
    nodes: tuple[int, ...]
    targets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Said:
    """A context and the response that is learnt after it; `response` begins with "System:"."""

    name: str
    context: tuple[int, ...]
    words: tuple[int, ...]
    nodes: tuple[int, ...]
    response: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.context) + len(self.response)


class Layout:
    """Writes dialogues down for one decoder and one encoder."""

    def __init__(self, decoder: Backbone, encoder: Backbone, nodes: Nodes, config: UnicrsConfig) -> None:
        self.config, self.nodes = config, nodes
        self._decoder = decoder
        self.placeholder = decoder.special(PLACEHOLDER)
        self.end = decoder.marks.get("eos", decoder.special("[END]"))
        self.spoken = Transcript(
            decoder, prefixes=_PREFIXES, end=[self.end], placeholder=self.placeholder, whole_turns=config.whole_turns
        )
        marks = encoder.marks
        self.read = Transcript(
            encoder,
            prefixes=_PREFIXES,
            begin=[marks.get("cls", encoder.special("[CLS]"))],
            end=[marks.get("sep", encoder.special("[SEP]"))],
            placeholder=encoder.special(PLACEHOLDER),
            whole_turns=config.whole_turns,
        )
        self.opening = self.spoken.opening("recommender")
        """The tokens that every response begins with: "System:"."""

    def remember(self, turns: Iterable[Turn]) -> None:
        """Tokenise turns at once."""
        listed = list(turns)
        self.spoken.remember(listed)
        self.read.remember(listed)

    # ---- what stands before a response ------------------------------------------------------------------------

    def asked(
        self, context: Context, last: Sequence[Turn] = (), *, targets: Sequence[int] = (), name: str = ""
    ) -> Asked:
        """A context whose items are asked for, `last` turns behind it.

        `last` are kept even where the context has to be cut for them: the whole response in the fusion stage (the
        answer is visible there), a template in the recommendation stage.
        """
        room = self.config.context_tokens
        spoken, read = ([part for part in map(t.turn, last)] for t in (self.spoken, self.read))
        return Asked(
            name,
            self.spoken.context(context, room, *spoken),
            self.read.context(context, room, *read),
            self.nodes.of_context(context, self.config.entities),
            tuple(targets),
        )

    def after(self, context: Context, template: Sequence[int]) -> Asked:
        """A context with a generated template of a response behind it: token ids after "System:", without end."""
        text = self.text(template)
        spoken = (*self.opening, *template, self.end)
        read = self.read.masked(self._with_places(text)) + self.read.end
        room = self.config.context_tokens
        return Asked(
            "",
            self.spoken.context(context, room, spoken),
            self.read.context(context, room, read),
            self.nodes.of_context(context, self.config.entities),
            (),
        )

    @staticmethod
    def _with_places(text: str) -> Turn:
        """A template as a turn of the recommender whose placeholders are places of items."""
        links, at = [], text.find(PLACEHOLDER)
        while at >= 0:
            links.append(Link("item", "", at, at + len(PLACEHOLDER)))
            at = text.find(PLACEHOLDER, at + 1)
        return Turn("recommender", text, tuple(links))

    def before_reply(self, context: Context) -> Said:
        """A context after which a response is to be spoken: it ends with "System:"."""
        room = max(1, self.config.context_tokens - len(self.opening))
        return Said(
            "",
            self.spoken.context(context, room),
            self.read.context(context, self.config.context_tokens),
            self.nodes.of_context(context, self.config.entities),
            self.opening,
        )

    def text(self, ids: Sequence[int]) -> str:
        """Of a template's token ids, with placeholders by their name."""
        return " ".join(self._decoder.text(ids).split())

    def response(self, turn: Turn) -> tuple[int, ...]:
        """A turn as a response: placeholders for its items, "System:" before and the end behind it."""
        return (*self.spoken.masked(turn)[: self.config.response_tokens - 1], self.end)

    # ---- examples ---------------------------------------------------------------------------------------------

    def fusion_examples(self, dialogues: Iterable[Dialogue]) -> list[Asked]:
        """One for each turn of either side that names something: the nodes that it names, the turn itself visible."""
        made = []
        for dialogue in dialogues:
            turns = merge_turns(dialogue.turns)
            self.remember(turns)
            for num, turn in enumerate(turns):
                targets = self.nodes.of_turn(turn)
                if targets:
                    name = f"{dialogue.dialogue_id}:{num}"
                    made.append(self.asked(Context(turns[:num]), [turn], targets=targets, name=name))
        return self._each_target(made)

    def conversation_examples(self, dialogues: Iterable[Dialogue]) -> list[Said]:
        """One for each turn of the recommender after the opening."""
        made = []
        for e in self._cut(dialogues, with_items=False):
            before = self.before_reply(e.context)
            made.append(replace(before, name=_name(e), response=self.response(e.response)))
        return made

    def recommendation_examples(
        self, dialogues: Iterable[Dialogue], templates: Mapping[str, Sequence[int]]
    ) -> list[Asked]:
        """One for each turn of the recommender that names an item, its template behind the context.

        Args:
            dialogues: to learn from.
            templates: token ids by the example's name; a turn without one has none in its prompt.
        """
        made = []
        for e in self._cut(dialogues, with_items=True):
            targets = self.nodes.of_items(e.targets)
            if targets:
                template = templates.get(_name(e))
                asked = self.asked(e.context) if template is None else self.after(e.context, template)
                made.append(replace(asked, name=_name(e), targets=tuple(targets)))
        return self._each_target(made)

    def _cut(self, dialogues: Iterable[Dialogue], *, with_items: bool) -> list[Example]:
        listed = list(dialogues)
        self.remember(turn for d in listed for turn in merge_turns(d.turns))
        return [e for d in listed for e in cut(d, with_items=with_items)]

    def _each_target(self, grouped: list[Asked]) -> list[Asked]:
        """Turns as they are, or once for each of their targets."""
        if self.config.group_targets:
            return grouped
        return [replace(a, targets=(target,)) for a in grouped for target in a.targets]


def _name(example: Example) -> str:
    return f"{example.dialogue_id}:{example.turn_num}"
