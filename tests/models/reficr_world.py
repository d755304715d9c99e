"""A handful of dialogues and items for tests of ReFICR."""

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Dialogue, Link, Turn
from crscli.models.reficr import Reficr
from crscli.models.reficr.config import ReficrConfig
from crscli.recommender import FitData

WORDS = ["amber", "basil", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "amber"]
CATALOGUE = Catalogue(
    Item(f"m{num}", f"The {word.title()}", 1980 + num, genres=(("drama",), (), ("comedy", "crime"))[num % 3],
         plot=" ".join(WORDS[:num]))
    for num, word in enumerate(WORDS)
)  # fmt: skip
"""The last item has the title of the first."""
SMALL = {
    "backbone": "tiny", "layers": 2, "width": 32, "heads": 2, "vocabulary": 400, "tune": "full", "lora_dropout": 0.0,
    "query_tokens": 48, "passage_tokens": 40, "prompt_tokens": 64, "reply_tokens": 24, "batch_size": 8,
    "candidates": 4, "first_epochs": 1, "epochs": 1, "learning_rate": 1e-3, "negatives": 3, "neighbours": 3,
}  # fmt: skip


def turn(role, text, *items, acts=()):
    """A turn whose {} are items."""
    links = []
    for item in items:
        start, name = text.index("{}"), CATALOGUE.item(f"m{item}").name
        text = text.replace("{}", name, 1)
        links.append(Link("item", f"m{item}", start, start + len(name)))
    return Turn(role, text, tuple(links), acts)


def dialogue(num, acts=()):
    one, two = num * 5 % 12, (num * 5 + 3) % 12
    return Dialogue(
        f"d{num}",
        (
            turn("seeker", "Hi, I liked {} a lot" + " and more" * (num % 4) + ".", one),
            turn("recommender", "What did you like in it?", acts=acts and ("request",)),
            turn("seeker", "The " + " ".join(WORDS[num % 9 : num % 9 + 3]) + ", as in {}.", two, acts=acts),
            turn("recommender", "Then see {} or {}!", (one + 1) % 12, (two + 2) % 12, acts=acts and ("recommend",)),
            turn("seeker", "Seen."),
            turn("recommender", "How about {}?" + " It is fine." * (num % 3), (one + 4) % 12),
        ),
    )


TRAIN, VALID = [dialogue(num) for num in range(12)], [dialogue(num) for num in range(12, 15)]


def untrained(data=None, **settings):
    config = ReficrConfig(**{**SMALL, **settings})
    return Reficr.untrained(CATALOGUE, data or FitData(TRAIN, VALID), config, seed=1)
