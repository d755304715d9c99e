"""What ReFICR's decoder answers: in which order, with which act, in which words.

The dialogue is read once for all questions of a turn, where nothing stands before it in the prompt. Knows contexts and
item numbers; not how items are found.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crscli.backbone import Prefix
from crscli.decoding import Decoding
from crscli.dialogue import ACTS, Context
from crscli.generation import decode
from crscli.labels import order_of
from crscli.models.reficr import prompts
from crscli.models.reficr.layout import Branch, Layout
from crscli.models.reficr.network import ReficrNetwork
from crscli.training import memory_errors

_KEPT = 2
"""Readings that are kept: that of the dialogue, and that of a ranking with its candidates before it."""
_WHY_TOKENS = 48

Way = Literal["likelihood", "constrained", "free"]


@dataclass
class Question:
    """A question that was read: keys and values up to its end, and the scores (B, V) of an answer's first token."""

    prefix: Prefix
    first: Tensor
    stems: list[tuple[int, ...]]


@dataclass(frozen=True)
class Managed:
    """What a turn should do: the likelihood of each act in ACTS, those above its threshold, and why, if asked."""

    likelihoods: tuple[float, ...]
    acts: tuple[str, ...]
    why: str = ""


class Voice:
    """Asks a network's decoder."""

    def __init__(self, network: ReficrNetwork, layout: Layout) -> None:
        self.network, self.layout = network, layout
        self.backbone = network.backbone
        self.tokens_read = 0
        """Tokens of dialogues that were read so far; what was kept is not read again."""
        self._kept: dict[tuple[tuple[int, ...], ...], Prefix] = {}
        own = {self.backbone.special(name) for name in self.backbone.specials} - {layout.end, layout.placeholder}
        tags = {token for tag in (prompts.ITEM, prompts.ITEM_END) for token in layout.tag(tag)}
        self._banned = {*self.backbone.unspoken, *own} - {layout.end} - tags

    def forget(self) -> None:
        """After weights have changed."""
        self._kept.clear()

    # ---- reading ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def ask(self, contexts: Sequence[Context], branches: Sequence[Branch]) -> Question:
        """Read dialogues and a question after each."""
        placed = [self.layout.placed(c, b) for c, b in zip(contexts, branches, strict=True)]
        stems = [stem for stem, _ in placed]
        with memory_errors():
            hidden, prefix, lengths = self._after(self._read(stems), [branch.prompt for _, branch in placed])
            return Question(prefix, self.backbone.logits(_last(hidden, lengths)), stems)

    def _read(self, stems: Sequence[tuple[int, ...]]) -> Prefix:
        """Dialogues, each set of them once."""
        key = tuple(stems)
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            _, self._kept[key], _ = self._after(None, stems)
            self.tokens_read += sum(len(stem) for stem in stems)
        return self._kept[key]

    def _after(self, before: Prefix | None, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Prefix, Tensor]:
        """Read further tokens of each row: hidden states (B, T, D), keys and values of everything, lengths (B,)."""
        device = self.backbone.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for num, row in enumerate(rows):
            ids[num, : len(row)] = torch.tensor(row)
        hidden, kept = self.backbone.encode(self.backbone.embed(ids.to(device)), prefix=before, lengths=lengths)
        assert kept is not None, "keys and values were asked for"
        return hidden, kept, lengths

    @torch.no_grad()
    def options(self, prefix: Prefix, first: Tensor, options: Sequence[Sequence[int]]) -> Tensor:
        """(B, O) log-likelihoods of the same answers for every row, in one pass in which no answer sees another.

        Args:
            prefix: what was read.
            first: (B, V) scores of the first token.
            options: token ids, one or more each.
        """
        begins = torch.tensor([option[0] for option in options], device=first.device)
        scores = first.log_softmax(-1)[:, begins]
        inner = [list(option[:-1]) for option in options if len(option) > 1]
        if not inner:
            return scores
        tokens = torch.tensor([t for row in inner for t in row], device=first.device)
        of = torch.tensor([num for num, row in enumerate(inner) for _ in row], device=first.device)
        at = torch.tensor([place for row in inner for place in range(len(row))], device=first.device)
        visible = (of[:, None] == of) & (at[:, None] >= at)
        rows = len(first)
        embeds = self.backbone.embed(tokens).expand(rows, -1, -1)
        positions = prefix.lengths[:, None] + at
        hidden, _ = self.backbone.encode(embeds, prefix=prefix, visible=visible, positions=positions)
        later = self.backbone.logits(hidden).log_softmax(-1)
        following = torch.tensor([t for option in options for t in option[1:]], device=first.device)
        each = later[:, torch.arange(len(tokens), device=first.device), following]
        whose = torch.tensor([n for n, option in enumerate(options) for _ in option[1:]], device=first.device)
        return scores.index_add(1, whose, each)

    # ---- ordering ---------------------------------------------------------------------------------------------

    def order(
        self, contexts: Sequence[Context], nums: Sequence[Sequence[int]], known: Sequence[Sequence[int]], way: Way
    ) -> list[np.ndarray]:
        """(K,) scores of each row's candidates, best highest: whatever the model says, every candidate has one.

        Args:
            contexts: B dialogues.
            nums: K item numbers for each, the same number.
            known: tokens of a similar conversation for each, or none.
            way: by the likelihood of labels in one pass; by an answer that may only name labels not yet named; or by a
                free answer, after whose labels the others follow in their order.
        """
        branches = [self.layout.rank(n, k) for n, k in zip(nums, known, strict=True)]
        asked = self.ask(contexts, branches)
        number = len(nums[0]) if nums else 0
        if way == "free":
            limit = Decoding(max_tokens=number * (len(self.layout.order([number - 1])) + 1))
            answers = self._decoded(asked, limit, items=False)
            shown = [[self.layout.catalogue[n] for n in row] for row in nums]
            named = [order_of(text, items).labels for text, items in zip(answers, shown, strict=True)]
            return [_scores_of(prompts.completed([label - 1 for label in labels], number)) for labels in named]
        labels = [(*self.layout.opening, *self.layout.label(place)) for place in range(number)]
        if way == "likelihood":
            return list(self.options(asked.prefix, asked.first, labels).float().cpu().numpy())
        return self._constrained(asked, labels)

    def _constrained(self, asked: Question, labels: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """Name the likeliest of the labels that are left, line by line."""
        prefix, first = asked.prefix, asked.first
        orders = np.zeros((len(first), len(labels)), dtype=np.int64)
        left = torch.ones(len(first), len(labels), dtype=torch.bool, device=first.device)
        for line in range(len(labels)):
            scores = self.options(prefix, first, labels).masked_fill(~left, -torch.inf)
            best = scores.argmax(1)
            left[torch.arange(len(best), device=best.device), best] = False
            orders[:, line] = best.cpu().numpy()
            if line + 1 < len(labels):
                said = [(*labels[place], *self.layout.newline) for place in best.tolist()]
                hidden, prefix, lengths = self._after(prefix, said)
                first = self.backbone.logits(_last(hidden, lengths))
        return [_scores_of(order) for order in orders]

    # ---- managing ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def margins(self, contexts: Sequence[Context]) -> np.ndarray:
        """(B,) how much likelier the next turn recommends than not, in nats."""
        asked = self.ask(contexts, [self.layout.manage()] * len(contexts))
        both = self.options(asked.prefix, asked.first, [self.layout.yes, self.layout.no])
        return (both[:, 0] - both[:, 1]).float().cpu().numpy()

    @torch.no_grad()
    def manage(
        self, contexts: Sequence[Context], recommend: Sequence[bool], thresholds: Mapping[str, float], *,
        why: bool = False,
    ) -> list[Managed]:  # fmt: skip
        """Which acts the next turns do: one after the other in the order of ACTS, each after those before it.

        Args:
            contexts: B dialogues.
            recommend: whether each recommends, as the margin and its threshold say.
            thresholds: how likely an act must be; a half where none is given.
            why: whether the reason is written too.
        """
        layout = self.layout
        asked = self.ask(contexts, [layout.manage()] * len(contexts))
        both = self.options(asked.prefix, asked.first, [layout.yes, layout.no]).softmax(1)
        said = [list(layout.yes if r else layout.no) for r in recommend]
        chosen: list[list[str]] = [[] for _ in contexts]
        likelihoods = np.zeros((len(contexts), len(ACTS)))
        stops = [(layout.end,), tuple(layout.newline[:1])]
        for num, act in enumerate(ACTS):
            hidden, prefix, lengths = self._after(asked.prefix, said)
            first = self.backbone.logits(_last(hidden, lengths))
            found = self.options(prefix, first, [*(layout.acts[a] for a in ACTS[num:]), *stops]).softmax(1)
            own = both[:, 0] if act == "recommend" else found[:, 0]
            likelihoods[:, num] = own.float().cpu().numpy()
            for row, share in enumerate(likelihoods[:, num]):
                if recommend[row] if act == "recommend" else share > thresholds.get(act, 0.5):
                    chosen[row].append(act)
                    said[row] += layout.acts[act]
        reasons = self._reasons(asked, said) if why else [""] * len(contexts)
        rows = zip(likelihoods, chosen, reasons, strict=True)
        return [Managed(tuple(map(float, p)), tuple(acts), reason) for p, acts, reason in rows]

    def _reasons(self, asked: Question, said: Sequence[Sequence[int]]) -> list[str]:
        """What follows the acts."""
        rows = [[*tokens, *self.layout.newline] for tokens in said]
        hidden, prefix, lengths = self._after(asked.prefix, rows)
        first = self.backbone.logits(_last(hidden, lengths))
        return self._decoded(Question(prefix, first, asked.stems), Decoding(max_tokens=_WHY_TOKENS), items=False)

    # ---- speaking ---------------------------------------------------------------------------------------------

    def _decoded(self, asked: Question, decoding: Decoding, *, items: bool = True) -> list[str]:
        """Answers as text, with placeholders or tags of items."""
        banned = self._banned | (set() if items else {self.layout.placeholder})
        answers = decode(
            self.backbone.continuation(asked.prefix), asked.first, decoding, stop={self.layout.end}, banned=banned,
            keys=[zlib.crc32(repr(stem).encode()) for stem in asked.stems],
        )  # fmt: skip
        return [self.backbone.text(ids) for ids in answers]

    def reply(self, contexts: Sequence[Context], names: Sequence[Sequence[str]], decoding: Decoding) -> list[str]:
        """Replies in which `names` are to be named, one or more for each context or none; items as they are written."""
        asked = self.ask(contexts, [self.layout.respond(n) for n in names])
        room = self.backbone.positions - int(asked.prefix.lengths.max()) - 1
        limit = max(1, min(decoding.max_tokens, self.network.config.reply_tokens, room))
        made: list[str] = [""] * len(contexts)
        for items in (True, False):
            rows = [num for num, n in enumerate(names) if bool(n) == items]
            if rows:
                at = torch.tensor(rows, device=self.backbone.device)
                some = Question(asked.prefix.select(at), asked.first[at], [asked.stems[r] for r in rows])
                for row, text in zip(rows, self._decoded(some, replace(decoding, max_tokens=limit), items=items),
                                     strict=True):  # fmt: skip
                    made[row] = text
        return made

    @torch.no_grad()
    def likelihoods(
        self, contexts: Sequence[Context], names: Sequence[Sequence[str]], replies: Sequence[Sequence[int]]
    ) -> list[float]:
        """Nats of given replies, their end included."""
        asked = self.ask(contexts, [self.layout.respond(n) for n in names])
        hidden, _, _ = self._after(asked.prefix, [row[:-1] or (self.layout.end,) for row in replies])
        made = []
        for num, row in enumerate(replies):
            logits = torch.cat([asked.first[num, None], self.backbone.logits(hidden[num, : len(row) - 1])])
            expected = torch.tensor(row, device=logits.device)
            made.append(float(F.cross_entropy(logits, expected, reduction="sum")))
        return made


def _last(hidden: Tensor, lengths: Tensor) -> Tensor:
    """(B, D) states of each row's last token."""
    return hidden[torch.arange(len(lengths), device=lengths.device), lengths - 1]


def _scores_of(order: Sequence[int] | np.ndarray) -> np.ndarray:
    """(K,) scores by which candidates stand in an order."""
    scores = np.zeros(len(order), dtype=np.float32)
    scores[np.asarray(order, dtype=np.int64)] = -np.arange(len(order), dtype=np.float32)
    return scores
