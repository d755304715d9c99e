"""Replies with places for items: for models whose decoder has read a context and then speaks.

Knows a backbone, contexts and rankings; not how a model reads, nor what it ranks by.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from crscli.backbone import Backbone, Continuation, Prefix
from crscli.catalogue import Catalogue
from crscli.decoding import Decoding
from crscli.dialogue import Context, Turn
from crscli.generation import decode
from crscli.recommender import PLACEHOLDER, Likelihood, Ranking, Utterance, filled
from crscli.training import memory_errors


@dataclass
class Heard:
    """Contexts that were read up to the first word of a reply.

    Args:
        prefix: keys and values of everything before the reply.
        first: (B, V) scores of its first token, `bias` included.
        before: tokens that were read, which n-gram bans may count.
        bias: (B, V) added to the scores of every token, if anything.
    """

    prefix: Prefix
    first: Tensor
    before: Sequence[tuple[int, ...]]
    bias: Tensor | None = None
    contexts: tuple[Context, ...] = ()
    replies: dict[str, list[list[int]]] = field(default_factory=dict)


class Speech:
    """Speaks for a model; what was heard last is kept, so that ranking, reply and likelihood share one reading."""

    def __init__(
        self,
        backbone: Backbone,
        hear: Callable[[Sequence[Context]], Heard],
        response: Callable[[Turn], Sequence[int]],
        *,
        end: int,
        rows_at_once: int,
        ban_in_context: bool = False,
    ) -> None:
        """Say who speaks.

        Args:
            backbone: the decoder.
            hear: reads contexts.
            response: tokens of a turn as a reply, items as placeholders, with its end.
            end: the token that ends a reply.
            rows_at_once: contexts that are read together.
            ban_in_context: whether bans of repeated n-grams count what was read before the reply.
        """
        self.backbone, self.end, self.rows_at_once = backbone, end, rows_at_once
        self._hear, self._response, self._ban_in_context = hear, response, ban_in_context
        self._heard: Heard | None = None
        own = {backbone.special(name) for name in backbone.specials if name != PLACEHOLDER}
        self._banned = {*backbone.unspoken, *own} - {end}

    def forget(self) -> None:
        """After weights have changed."""
        self._heard = None

    @torch.no_grad()
    def heard(self, contexts: Sequence[Context]) -> Heard:
        """At most `rows_at_once` contexts, read; those that were heard last are not read again."""
        if self._heard is None or self._heard.contexts != tuple(contexts):
            with memory_errors():
                self._heard = replace(self._hear(contexts), contexts=tuple(contexts))
        return self._heard

    def text(self, ids: Sequence[int]) -> str:
        """Of a reply, in one line."""
        return " ".join(self.backbone.text(ids).split())

    def replies(self, contexts: Sequence[Context], decoding: Decoding, *, items: bool = True) -> list[list[int]]:
        """Token ids of replies, with placeholders unless there are to be no items."""
        made: list[list[int]] = []
        for start in range(0, len(contexts), self.rows_at_once):
            heard = self.heard(contexts[start : start + self.rows_at_once])
            key = f"{decoding} {items}"
            if key not in heard.replies:
                banned = self._banned | (set() if items else {self.backbone.special(PLACEHOLDER)})
                state = self.backbone.continuation(heard.prefix)
                heard.replies[key] = decode(
                    state if heard.bias is None else _Biased(state, heard.bias), heard.first, decoding,
                    stop={self.end}, banned=banned, keys=[zlib.crc32(repr(b).encode()) for b in heard.before],
                    before=heard.before if self._ban_in_context else None,
                )  # fmt: skip
            made += heard.replies[key]
        return made

    def respond(
        self,
        catalogue: Catalogue,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        decoding: Decoding,
        recommend: Sequence[bool] | None = None,
    ) -> list[Utterance]:
        """Reply to each context; the k-th placeholder of a reply becomes the k-th item of its ranking.

        The model recommends where its reply has a placeholder. `recommend` is an oracle in its place: it bans
        placeholders, or puts one at the end where the reply has none.
        """
        made: list[Utterance] = []
        for start in range(0, len(contexts), self.rows_at_once):
            part = slice(start, start + self.rows_at_once)
            told = [None] * len(contexts[part]) if recommend is None else list(recommend[part])
            replies = self.replies(contexts[part], decoding)
            without = self.replies(contexts[part], decoding, items=False) if False in told else replies
            for own, bare, ranking, wanted in zip(replies, without, rankings[part], told, strict=True):
                template = self.text(bare if wanted is False else own)
                if wanted and PLACEHOLDER not in template:
                    template = f"{template} {PLACEHOLDER}".strip()
                offers = PLACEHOLDER in template and len(ranking.item_nums) > 0
                made.append(filled(catalogue, template, ranking, recommends=offers))
        return made

    @torch.no_grad()
    def likelihoods(self, contexts: Sequence[Context], responses: Sequence[Turn]) -> list[Likelihood]:
        """How likely responses are after the contexts; their end is counted."""
        made: list[Likelihood] = []
        for start in range(0, len(contexts), self.rows_at_once):
            part = slice(start, start + self.rows_at_once)
            heard = self.heard(contexts[part])
            rows = [self._response(turn) for turn in responses[part]]
            ids = torch.zeros(len(rows), max(1, *(len(r) - 1 for r in rows)), dtype=torch.long)
            real = torch.zeros_like(ids, dtype=torch.bool)
            for num, row in enumerate(rows):
                ids[num, : len(row) - 1] = torch.tensor(row[:-1], dtype=torch.long)
                real[num, : len(row) - 1] = True
            device = self.backbone.device
            with memory_errors():
                embeds = self.backbone.embed(ids.to(device))
                hidden, _ = self.backbone.encode(embeds, prefix=heard.prefix, mask=real.to(device))
                for num, row in enumerate(rows):
                    later = self.backbone.logits(hidden[num, : len(row) - 1])
                    later = later if heard.bias is None else later + heard.bias[num]
                    logits = torch.cat([heard.first[num, None], later])
                    nats = F.cross_entropy(logits, torch.tensor(row, device=device), reduction="sum")
                    made.append(Likelihood(float(nats), len(row), self.text(row[:-1])))
        return made


class _Biased:
    """Rows that are being continued, each with a bias of its own."""

    def __init__(self, state: Continuation, bias: Tensor) -> None:
        self._state, self._bias = state, bias

    def advance(self, token_ids: Tensor) -> Tensor:
        """Append a token to each row: (R,) -> (R, V)."""
        return self._state.advance(token_ids) + self._bias

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows."""
        self._state.select(rows)
        self._bias = self._bias[rows]
