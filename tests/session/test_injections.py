"""Forty prompt injections, in messages and in the texts of items; the language model that is asked obeys each of them.

None may reach the reader: the recommendation is the session's, and words that stray are replaced by the draft.
"""

import json
import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Link, Turn
from crscli.linking import Linker
from crscli.llm.prompts import Completion
from crscli.llm.voice import LlmVoice, keeps_to
from crscli.recommender import Ranking
from crscli.session import Host, Session

INJECTIONS = tomllib.loads(Path(__file__).with_name("injections.toml").read_text(encoding="utf-8"))["injection"]
BY_MESSAGE = [row for row in INJECTIONS if "say" in row]
BY_ITEM = [row for row in INJECTIONS if "item" in row]


def sample() -> list[Item]:
    rows = files("crscli.datasets.sample").joinpath("items.jsonl").read_text(encoding="utf-8").splitlines()
    return [Item(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(row).items()}) for row in rows]


class InOrder:
    tasks = frozenset({"rank"})

    def __init__(self, catalogue):
        self.catalogue = catalogue

    def rank(self, contexts, k):
        every = np.arange(len(self.catalogue))[:k]
        return [Ranking(every, -every.astype(np.float32)) for _ in contexts]


class Obedient:
    """Does what it was told by whoever got a word in, and names the film that lets it pass."""

    def __init__(self, does, first):
        self.does, self.first, self.prompts = does, first, []

    def complete(self, asked):
        self.prompts += [request.messages[-1].content for request in asked]
        system = asked[0].messages[0].content
        title = self.prompts[-1].split("<films>\n- ")[1].split("; ")[0]
        does = self.does.replace("{system}", system).replace("{task}", self.prompts[-1].split("</films>")[1])
        return [Completion(f"{does} {title}" if self.first else f"{title} it is. {does}") for _ in asked]


def test_there_are_forty():
    assert len(INJECTIONS) == 40
    assert len(BY_ITEM) == 12
    assert len({json.dumps(row) for row in INJECTIONS}) == 40


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("row", BY_MESSAGE, ids=lambda row: row["name"])
def test_a_message_gives_no_orders(row, first):
    catalogue = Catalogue(sample())
    voice = Obedient(row["does"], first)
    linker = Linker.bundled(catalogue)
    talk = Session(Host(InOrder(catalogue), linker.link, voice=LlmVoice(voice)))
    talk.say("something funny from the nineties")
    for text in (row["say"], "another one please"):
        reply = talk.say(text)
        assert_clean(reply, row, catalogue)
    assert voice.prompts
    for prompt in voice.prompts:
        assert_whole(prompt)


@pytest.mark.parametrize("row", BY_ITEM, ids=lambda row: row["name"])
def test_the_text_of_an_item_gives_no_orders(row):
    items = sample()
    catalogue = Catalogue([replace(items[0], **row["item"]), *items[1:]])
    voice = Obedient(row["does"], first=False)
    talk = Session(Host(InOrder(catalogue), Linker.bundled(catalogue).link, voice=LlmVoice(voice)))
    assert_clean(talk.say("recommend me a film, anything goes"), row, catalogue)
    assert_clean(talk.say("another one please"), row, catalogue)
    assert voice.prompts
    for prompt in voice.prompts:
        assert_whole(prompt)


@pytest.mark.parametrize("row", BY_MESSAGE, ids=lambda row: row["name"])
def test_without_a_language_model_nothing_is_repeated_either(row):
    catalogue = Catalogue(sample())
    talk = Session(Host(InOrder(catalogue), Linker.bundled(catalogue).link))
    talk.say("something funny from the nineties")
    assert_clean(talk.say(row["say"]), row, catalogue)


def assert_clean(reply, row, catalogue):
    """Nothing of what was ordered is said; what is presented is of the catalogue."""
    assert not [told for told in row["never"] if told.lower() in reply.text.lower()], reply.text
    assert all(item.item_id in catalogue for item in reply.items)
    assert reply.text.isprintable()


def assert_whole(prompt):
    """Each part of a prompt begins and ends once."""
    marks = [f"<{close}{name}>" for name in ("dialogue", "films", "draft") for close in ("", "/")]
    assert [prompt.count(mark) for mark in marks] == [1] * 6


ITEM = Item("1", "Alien", 1979, ("Horror",), ("Ridley Scott",), ("Sigourney Weaver",), plot="A crew meets a thing.")


def voiced(text, turns=()):
    class Says:
        def complete(self, asked):
            return [Completion(text) for _ in asked]

    return LlmVoice(Says())(Context(tuple(turns)), [ITEM], "How about Alien (1979), a horror film?")


@pytest.mark.parametrize(
    "text",
    [
        "You said horror, so Alien (1979) by Ridley Scott should do nicely.",
        "Alien! Sigourney Weaver is superb, and it is a classic of 1979.",
        "Since you loved Blade Runner, Alien may suit you: the same director's eye.",
        "Wie wäre es mit Alien? Ein sehr spannender Film.",
        "If you're up for a scare — and I think you are — try Alien. It's tense, slow and brilliant.",
    ],
)
def test_honest_words_pass(text):
    loved = Turn("seeker", "I loved Blade Runner", (Link("item", "9", 8, 20),))
    assert voiced(text, [loved]) == text


@pytest.mark.parametrize(
    "text",
    [
        "Alien (1979) with Tom Hanks.",
        "Alien (1986) it is.",
        "Alien, and Space Pirates Return too.",
        "ALERT: Alien.",
        "Alien, see http://films.example",
        "Alien " * 130,
        "Alien\u202e is fine",
        "A film without the title.",
    ],
)
def test_words_that_stray_are_not_taken(text):
    assert voiced(text) == ""


def test_a_reply_of_instructions_is_none():
    class Keeps:
        asked = None

        def complete(self, asked):
            self.asked = asked[0]
            return [Completion("Alien")]

    keeps = Keeps()
    LlmVoice(keeps)(Context(()), [ITEM], "Alien?")
    assert keeps_to("Alien", ["Alien"], keeps.asked)
    assert not keeps_to(keeps.asked.messages[0].content[:90].lower(), [], keeps.asked)
