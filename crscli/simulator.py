"""Simulated seekers: each wants one of a few hidden films and speaks of them by attributes alone.

A seeker never sees a title of what he wants, so that none can leak: he speaks of genres, years, people and the like.
How often each kind of wish is said follows what ReDial's seekers say. Source: Wang et al., EMNLP 2023 (iEvaLM), whose
seekers are told the titles; `LlmSeeker(leaky=True)` is that.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from crscli import genres
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Turn
from crscli.evaluation import share_of
from crscli.languages import name_of
from crscli.llm.prompts import Completer, Message, Request
from crscli.metrics.text import distinct
from crscli.names import key
from crscli.session import Host, Reply, Session

Mode = Literal["free", "ask", "chat"]
"""free: wishes and answers; ask and chat: iEvaLM's two, answers to questions alone, and talk alone."""
Kind = Literal["genre", "person", "years", "audience", "length", "language"]

SAID: dict[Kind, float] = {"genre": 0.85, "person": 0.27, "years": 0.15, "audience": 0.06, "length": 0.02}
"""Share of the seekers who say such a wish: 600 train dialogues of ReDial, as `wishes` reads them."""

_OPENINGS = (
    "Hi! I am looking for {wish}.", "Hello, can you recommend {wish}?", "I feel like watching {wish} tonight.",
    "Do you know {wish}?", "I would love to see {wish}.",
)  # fmt: skip
_FURTHER = (
    "Not that one. I would like {wish}.", "Hmm, rather {wish}.", "No, I was thinking of {wish}.",
    "Nice, but something else. Maybe {wish}?", "Seen it. What about {wish}?",
)  # fmt: skip
_VAGUE = ("Not that one, what else do you have?", "Something else, please.", "Seen it. More!", "Any others?")
_HELLO = ("Hi! Can you recommend me a film?", "Hello, I would like to watch something.")


@dataclass(frozen=True)
class Turned:
    """One exchange: what the seeker said, and what was answered."""

    said: str
    reply: Reply


@dataclass(frozen=True)
class Talked:
    """A simulated dialogue.

    Args:
        dialogue_id: of the dialogue that it goes on from.
        targets: ids of what the seeker wants.
        before: whether a target was among the items of round 0: recommended by the context alone.
        turns: the exchanges.
        found: number of the exchange that offered a target, from 1; 0 for none.
    """

    dialogue_id: str
    targets: tuple[str, ...]
    before: bool
    turns: tuple[Turned, ...]
    found: int


class Seeker(Protocol):
    """Who speaks in place of a person."""

    def opens(self) -> str:
        """The first message."""
        ...

    def answers(self, reply: Reply) -> str:
        """The next message, after a reply that did not offer what is wanted."""
        ...


class RuleSeeker:
    """Says what he wants by attributes of the target; answers questions truthfully.

    Args:
        target: what he wants; of it, no title is read but to keep it out of what he says.
        rng: his moods.
        mode: what he does of his own accord.
    """

    def __init__(self, target: Item, rng: random.Random, mode: Mode = "free") -> None:
        self._rng, self._mode = rng, mode
        self._facts = {k: v for k, v in _facts_of(target).items() if v and not _leaks(v, target)}
        self._genres = set(genres.known(target.genres))
        self._target_year, self._runtime, self._people = target.year, target.runtime, {*target.cast, *target.directors}
        # Which of his wishes he comes up with, and in which order.
        told: list[Kind] = [k for k in SAID if k in self._facts and rng.random() < SAID[k]]
        self._wishes = sorted(told, key=lambda _: rng.random())

    def opens(self) -> str:
        """A greeting with his first wish, where he has one."""
        if self._mode == "ask" or not self._wishes:
            return self._rng.choice(_HELLO)
        return self._rng.choice(_OPENINGS).format(wish=self._facts[self._wishes.pop(0)])

    def answers(self, reply: Reply) -> str:
        """An answer to a question, else the next wish, else that it was not that."""
        answer = self._answered(reply) if self._mode != "chat" else ""
        if answer:
            return answer
        if self._wishes and self._mode != "ask":
            return self._rng.choice(_FURTHER).format(wish=self._facts[self._wishes.pop(0)])
        return self._rng.choice(_VAGUE)

    def _answered(self, reply: Reply) -> str:
        if reply.question == "genre":
            asked = [span.genre for span in genres.said(reply.text[reply.text.rfind("?", 0, -1) + 1 :])]
            fits = [genre for genre in asked if genre in self._genres]
            own = next(iter(sorted(self._genres)), "")
            return f"{fits[0].capitalize()}." if fits else f"Neither, rather {own}." if own else ""
        if reply.question == "years" and self._target_year:
            year = max(map(int, re.findall(r"\b(?:19|20)\d\d\b", reply.text.rsplit(".", 1)[-1])), default=2000)
            return "Older." if self._target_year < year else "A newer one."
        if reply.question == "length" and self._runtime:
            return "Under two hours, please." if self._runtime <= 120 else "A long one is fine."
        if reply.question == "kids":
            return "Yes, for the kids too." if "family" in self._genres else "No, just adults."
        if reply.question == "person":
            named = [p for p in sorted(self._people) if p in reply.text]
            return f"Yes, {named[0]}!" if named else "Nobody in particular."
        if reply.question == "liked" and self._wishes:
            return f"I would like {self._facts[self._wishes.pop(0)]}."
        return ""


class LlmSeeker:
    """A seeker played by a language model behind an endpoint, told attributes; or, `leaky`, the titles, as iEvaLM's is.

    Titles that the model says all the same are masked, but for a leaky one.
    """

    def __init__(self, llm: Completer, target: Item, *, leaky: bool = False) -> None:
        self._llm, self._target, self._leaky = llm, target, leaky
        self._heard: list[Message] = []

    def opens(self) -> str:
        """The first message."""
        return self._say("Begin the conversation.")

    def answers(self, reply: Reply) -> str:
        """The next one."""
        return self._say(reply.text)

    def _say(self, heard: str) -> str:
        self._heard.append(Message("user", heard))
        asked = Request((Message("system", self._told()), *self._heard), max_tokens=80)
        text = " ".join(self._llm.complete([asked])[0].text.split())
        if not self._leaky and (title := key(self._target.title)) and title in key(text):
            text = re.sub(re.escape(self._target.title), "that", text, flags=re.I)
            text = text if title not in key(text) else "Something else, please."
        self._heard.append(Message("assistant", text))
        return text or "Something else, please."

    def _told(self) -> str:
        known = self._target.name if self._leaky else "; ".join(v for v in _facts_of(self._target).values() if v)
        secret = "" if self._leaky else " You do not know its title."
        return (
            f"You are a seeker who talks to a recommender of films. You want to watch: {known}.{secret} Answer in one "
            "short sentence. Never state a title of what you want; react to what is recommended, and answer questions."
        )


def _facts_of(item: Item) -> dict[Kind, str]:
    """What a seeker may say of an item, each as something to look for; "" where it is not known."""
    kinds = genres.known(item.genres)
    kind = next((g for g in kinds if g not in ("drama", "short")), kinds[0] if kinds else "")
    person = next(iter((*item.cast[:1], *item.directors[:1])), "")
    family = "family" in kinds and not {"horror", "thriller", "crime", "war"} & set(kinds)
    return {
        "genre": f"a {kind} film" if kind else "",
        "person": f"something with {person}" if person else "",
        "years": f"something from the {item.year // 10 * 10}s" if item.year else "",
        "audience": "something for the kids" if family else "",
        "length": "something under two hours" if item.runtime and item.runtime <= 120 else "",
        "language": f"something in {name_of(item.language)}" if item.language and item.language != "en" else "",
    }


def _leaks(said: str, target: Item) -> bool:
    """Whether words hold the title of the target, as where a genre or a person is what it is called."""
    return any(name and f" {key(name)} " in f" {key(said)} " for name in (target.title, target.name, *target.aliases))


@dataclass
class Simulation:
    """Simulated dialogues with one model.

    Args:
        host: model, linker and catalogue.
        make: the seeker of a target and a seed.
        turns: exchanges of a dialogue, at most.
    """

    host: Host
    make: Callable[[Item, int], Seeker]
    turns: int = 5
    talked: list[Talked] = field(default_factory=list)

    def talk(self, dialogue_id: str, context: Sequence[Turn], targets: Sequence[str], seed: int) -> Talked:
        """Hold one dialogue.

        Args:
            dialogue_id: of the dialogue that the context is from.
            context: what was said before; its films count as spoken of.
            targets: ids of what is wanted; the first is what the seeker has in mind.
            seed: of the seeker.
        """
        wanted = set(targets)
        before = self._offered_at_once(context)
        session = Session(self.host)
        session.memory.turns = list(context)
        seeker = self.make(self.host.catalogue.item(targets[0]), seed)
        said, exchanges, found = seeker.opens(), [], 0
        for num in range(1, self.turns + 1):
            reply = session.say(said)
            exchanges.append(Turned(said, reply))
            if wanted & {item.item_id for item in reply.items}:
                found = num
                break
            said = seeker.answers(reply)
        made = Talked(dialogue_id, tuple(targets), bool(wanted & before), tuple(exchanges), found)
        self.talked.append(made)
        return made

    def _offered_at_once(self, context: Sequence[Turn]) -> set[str]:
        """Round 0: what the model recommends by the context alone, as many items as a reply has."""
        session = Session(self.host)
        session.memory.turns = list(context)
        order = self.host.order(session.memory.evidence())
        fresh = order[~session.memory.spent()[order]][: self.host.shown]
        return {self.host.catalogue[int(n)].item_id for n in fresh}


def figures(talked: Sequence[Talked], catalogue: Catalogue, turns: int, *, seed: int = 0) -> dict[str, Any]:
    """What came of simulated dialogues; all of them are in every denominator.

    `success` by exchange, 0 the static recommendation, with 95 % intervals over the dialogues that they go on from;
    `turns_needed` counts turns + 1 where nothing was found; `violations` and `repeats` are shares of offered items.
    """
    count = max(1, len(talked))
    replies = [t.reply for d in talked for t in d.turns]
    offered = [[i.item_id for t in d.turns for i in t.reply.items] for d in talked]
    items = max(1, sum(map(len, offered)))
    texts, of = [r.text for r in replies], [d.dialogue_id for d in talked]
    found = {0: [d.before for d in talked]} | {n: [0 < d.found <= n for d in talked] for n in range(1, turns + 1)}
    return {
        "dialogues": len(talked),
        "success": {str(n): asdict(share_of(held, of, seed=seed)) for n, held in found.items()},
        "turns_needed": sum(d.found or turns + 1 for d in talked) / count,
        "questions_a_dialogue": sum(r.question is not None for r in replies) / count,
        "items_a_dialogue": sum(map(len, offered)) / count,
        "violations": sum(_violations(d, catalogue) for d in talked) / items,
        "repeats": sum(len(row) - len(set(row)) for row in offered) / items,
        "different_replies": len(set(texts)) / max(1, len(texts)),
        **distinct(texts, 2),
    }


def _violations(talked: Talked, catalogue: Catalogue) -> int:
    """Offered items that break the newest genre or decade the seeker has said, and are not said to."""
    broken, kind, decade = 0, "", 0
    for turn in talked.turns:
        if found := re.search(r"\ba (.+?) film\b", turn.said):
            kind = next((s.genre for s in genres.said(found.group(1))), kind)
        if found := re.search(r"\bfrom the (\d{4})s\b", turn.said):
            decade = int(found.group(1))
        if turn.reply.relaxed:
            continue
        for item in turn.reply.items:
            wrong_kind = kind and kind not in genres.known(item.genres)
            broken += bool(wrong_kind or (decade and not (item.year and decade <= item.year < decade + 10)))
    return broken
