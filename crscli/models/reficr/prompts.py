"""What ReFICR says to its language model, in words: instructions, prompts and answers. Knows no tokens.

The sentences are ours; slots, order and the form of answers follow the paper's section 3 and the released prompts.
"""

import re
from collections.abc import Sequence

import numpy as np

from crscli.catalogue import Catalogue, plain_title
from crscli.dialogue import ACTS, Role, Turn
from crscli.recommender import PLACEHOLDER, Ranking, Utterance, filled

USER, EMBED, ASSISTANT = "<|user|>", "<|embed|>", "<|assistant|>"
ACT, ACT_END, ITEM, ITEM_END = "<a>", "</a>", "<item>", "</item>"
TAGS = (USER, EMBED, ASSISTANT, ACT, ACT_END, ITEM, ITEM_END)

INSTRUCTIONS = {
    "find-item": "Find an item that suits the wishes spoken of in this dialogue",
    "item": "Represent the item so that a dialogue about such wishes finds it",
    "find-conversation": "Find dialogues of other people who look for the same kind of item",
    "conversation": "Represent the dialogue so that dialogues with the same wishes find it",
}
"""What stands before an embedded text; without colons or blanks at its end, in training as in use."""

PREFIXES: dict[Role, str] = {"seeker": "Seeker: ", "recommender": "Recommender: "}
DIALOGUE = "This is a dialogue between a seeker and a recommender."
MANAGE = "What should the recommender do next? Say whether to recommend, then each act in its tags, then why."
RESPOND = "Answer as the recommender."
RESPOND_WITH = "Answer as the recommender and weave these items in:"

YES, NO = "yes", "no"
ACT_NAMES = {act: act.capitalize() for act in ACTS}

_NAMED = re.compile(rf"{re.escape(ITEM)}([^<\n]*)(?:{re.escape(ITEM_END)})?|{re.escape(PLACEHOLDER)}")
_LEFT_OVER = re.compile("|".join(map(re.escape, TAGS)))


def rank_prompt(number: int) -> str:
    """What asks for the order of candidates."""
    return f"Order the {number} candidates by how well they suit the dialogue: the number of each in brackets."


def knowledge(titles: Sequence[str]) -> str:
    """What stands before a retrieved conversation."""
    return f"Somebody with like wishes was recommended {', '.join(titles)}. That dialogue ended:"


def explanation(before: Turn, acts: Sequence[str]) -> str:
    """Why an act follows, in a sentence made of annotations; empty where the seeker's turn has none.

    Source: the paper's act explanations, which are stitched from descriptions of intents too; the sentences are ours.
    """
    if before.role != "seeker" or not before.acts:
        return ""
    doing = {
        "recommend": "recommend something", "explain": "explain", "respond": "respond", "request": "ask back",
        "chat": "keep talking",
    }  # fmt: skip
    return f"The seeker {' and '.join(before.acts)}: {' and '.join(doing[a] for a in ACTS if a in acts)}."


def completed(order: Sequence[int], number: int) -> list[int]:
    """A permutation of 0..number-1 that begins with an order."""
    named = set(order)
    return [*order, *(n for n in range(number) if n not in named)]


def spoken(catalogue: Catalogue, text: str, ranking: Ranking, *, recommends: bool) -> Utterance:
    """A reply as it was generated -> what a person reads.

    A name inside item tags stands for the ranked item of that name, else, like a placeholder, for the next ranked one.
    Where the reply was to recommend and names nothing, the first item stands at its end.

    Args:
        catalogue: of names.
        text: with item tags, placeholders, or neither.
        ranking: what may be named.
        recommends: whether the model decided to recommend.
    """
    named = [found[1] for found in _NAMED.finditer(text)]
    template = " ".join(_LEFT_OVER.sub(" ", _NAMED.sub(PLACEHOLDER, text)).split())
    order = [int(n) for n in ranking.item_nums]
    if recommends and not named and order:
        named, template = [None], f"{template} {PLACEHOLDER}".strip()
    by_name = {plain_title(catalogue[n].name): n for n in reversed(order)} if any(named) else {}
    meant = [by_name.get(plain_title(name)) if name else None for name in named]
    free = [n for n in order if n not in set(meant)]
    chosen: list[int] = []
    for item in meant:
        if item is None or item in chosen:
            if not free:
                break
            item = free.pop(0)
        chosen.append(item)
    told = Ranking(np.array([*chosen, *free], dtype=np.int64), np.zeros(len(chosen) + len(free), dtype=np.float32))
    return filled(catalogue, template, told, recommends=recommends)


def fixed() -> list[str]:
    """Everything that is always said in the same words, for a tokenizer that is learnt."""
    sentences = [*TAGS, *INSTRUCTIONS.values(), DIALOGUE, MANAGE, RESPOND, RESPOND_WITH, YES, NO, *ACT_NAMES.values()]
    return [*sentences, rank_prompt(10), knowledge(["it"]), *(f"[{num}] " for num in range(1, 101))]
