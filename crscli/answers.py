"""A model's replies to the turns of a test set, and what can be said of them.

Knows nothing about files or tables; the metrics of texts are `metrics.text`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from crscli.decoding import Decoding
from crscli.dialogue import Turn
from crscli.metrics import text
from crscli.protocols import Row
from crscli.recommender import PLACEHOLDER, Likelihood, Ranking, Responder, Utterance


@dataclass(frozen=True)
class Speaking:
    """How replies are made; `oracle` makes them again with the real response's decision whether to recommend."""

    decoding: Decoding
    oracle: bool = False


@dataclass(frozen=True)
class Answer:
    """A model's reply to a turn of the test set.

    `names_item` tells whether the real response names one; `first_item` is the first of the ranking, or -1; `told` is
    the reply under the oracle's decision.
    """

    row: Row
    names_item: bool
    first_item: int
    utterance: Utterance
    likelihood: Likelihood
    told: Utterance | None = None


def answer(
    recommender: Responder, rows: Sequence[Row], rankings: Sequence[Ranking], speaking: Speaking
) -> list[Answer]:
    """Reply to some rows, and tell how likely the real responses were.

    Args:
        recommender: which has just ranked these rows' contexts, so that it need not read them again.
        rows: B turns.
        rankings: of each, as the protocol leaves them.
        speaking: how to reply.
    """
    contexts = [row.context for row in rows]
    responses = [row.response for row in rows]
    gold = [any(i in recommender.catalogue for i in turn.items) for turn in responses]
    said = recommender.respond(contexts, rankings, speaking.decoding)
    likely = recommender.likelihoods(contexts, rankings, responses)
    told: Sequence[Utterance | None] = [None] * len(rows)
    if speaking.oracle:
        told = recommender.respond(contexts, rankings, speaking.decoding, recommend=gold)
    return [
        Answer(row, g, int(r.item_nums[0]) if len(r.item_nums) else -1, *rest)
        for row, g, r, *rest in zip(rows, gold, rankings, said, likely, told, strict=True)
    ]


def masked(turn: Turn) -> str:
    """A turn's text with a placeholder in place of each item it names."""
    parts, at = [], 0
    for link in sorted((x for x in turn.links if x.kind == "item" and x.start >= 0), key=lambda x: x.start):
        if link.start >= at:
            parts += [turn.text[at : link.start], PLACEHOLDER]
            at = link.end
    return " ".join("".join([*parts, turn.text[at:]]).split())


def text_figures(answers: Sequence[Answer]) -> dict[str, Any]:
    """What can be said of a model's replies (crs schema report, "text").

    `readable` is measured on what a person reads, titles filled in; `masked` on templates, with placeholders in both
    texts and the speaker's "A: " before them, as PECRS measures. Perplexities are those of the real responses, masked.
    """
    made: dict[str, Any] = {
        "readable": text.text_figures([r.utterance.text for r in answers], [r.row.response.text for r in answers]),
        "masked": text.text_figures(
            [f"A: {r.utterance.template}" for r in answers],
            [f"A: {masked(r.row.response)}" for r in answers],
        ),
        "bleu_signature": text.bleu(["a b c d"], ["a b c d"])[1],
        "perplexity": _perplexities(answers),
        "decision": _decisions([r.utterance for r in answers], [r.names_item for r in answers]),
    }
    named = [bool(r.utterance.item_nums) for r in answers]
    made["names_item"] = float(np.mean(named)) if named else math.nan
    ranked = [r.first_item in r.utterance.item_nums for r in answers]
    made["names_ranked_item"] = float(np.mean(ranked)) if ranked else math.nan
    told = [r.told for r in answers if r.told is not None]
    if told:
        made["oracle"] = {
            "masked": text.text_figures(
                [f"A: {u.template}" for u in told], [f"A: {masked(r.row.response)}" for r in answers]
            ),
            "decision": _decisions(told, [r.names_item for r in answers]),
        }
    return made


def _perplexities(answers: Sequence[Answer]) -> dict[str, float]:
    nats = sum(r.likelihood.nats for r in answers)
    texts = [r.likelihood.text for r in answers]
    tokens = sum(r.likelihood.tokens for r in answers)
    means = [r.likelihood.nats / max(1, r.likelihood.tokens) for r in answers]
    groups = [2 * (num // 8) + r.names_item for num, r in enumerate(answers)]
    return {
        "token": text.perplexity(nats, tokens),
        "word": text.perplexity(nats, sum(len(t.split()) for t in texts)),
        "byte": text.perplexity(nats, sum(len(t.encode("utf-8", "replace")) for t in texts)),
        "pecrs": text.pecrs_perplexity(means, groups),
        "tokens": float(tokens),
    }


def _decisions(said: Sequence[Utterance], gold: Sequence[bool]) -> dict[str, dict[str, float]]:
    """When items are recommended: by the model's decision, and by PECRS's count of placeholders in the text."""
    return {
        "own": asdict(text.decisions([u.recommends for u in said], gold)),
        "placeholder": asdict(text.decisions([PLACEHOLDER in u.template for u in said], gold)),
    }
