import json
import random
from importlib.resources import files

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Link, Turn
from crscli.errors import UsageError
from crscli.llm.prompts import Completion
from crscli.names import key
from crscli.recommender import Ranking
from crscli.session import Host, Reply
from crscli.simulator import LlmSeeker, RuleSeeker, Simulation, figures
from crscli.steps._simulating import Simulating, simulate
from crscli.workspace import Workspace


class ByNumber:
    """Ranks all items by number."""

    tasks = frozenset({"rank"})

    def __init__(self, catalogue):
        self.catalogue = catalogue

    def rank(self, contexts, k):
        every = np.arange(len(self.catalogue))[:k]
        return [Ranking(every, -every.astype(np.float32)) for _ in contexts]


def sample():
    rows = files("crscli.datasets.sample").joinpath("items.jsonl").read_text(encoding="utf-8").splitlines()
    plain = [{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(row).items()} for row in rows]
    return Catalogue(Item(**row) for row in plain)


SAMPLE = sample()
TROUBLE = [
    Item("t1", "Horror", 1999, ("Horror",), cast=("A B",)),
    Item("t2", "Malcolm X", 1992, ("Drama",), cast=("Malcolm X",)),
    Item("t3", "1980s", 1985, ("Comedy",)),
    Item("t4", "Kids", 1995, ("Family", "Drama")),
]
"""Films that are called what a seeker might say."""


@pytest.mark.parametrize("mode", ["free", "ask", "chat"])
def test_no_seeker_ever_says_the_title_of_what_he_wants(mode):
    replies = [
        Reply("How about this? Would you rather have a comedy or a thriller?", question="genre"),
        Reply("Should it be a newer one, or from before 1990?", question="years"),
        Reply("Is a long film fine?", question="length"),
        Reply("Will children be watching?", question="kids"),
        Reply("Anyone you like, such as Tom Hanks or Jodie Foster?", question="person"),
        Reply("Which film did you enjoy lately?", question="liked"),
        Reply("Then maybe this one."),
    ]
    said = 0
    for item in (*SAMPLE, *TROUBLE):
        for seed in range(4):
            seeker = RuleSeeker(item, random.Random(seed), mode)
            lines = [seeker.opens(), *(seeker.answers(reply) for reply in replies * 2)]
            own = [line for line in lines if f" {key(item.title)} " in f" {key(line)} "]
            # Answers take words of the question; what is offered there is no secret.
            assert all(key(item.title) in ("big", "up", "it", "her", "us", "1980s", "kids", "horror") for _ in own), own
            said += len(lines)
    assert said > 10_000


def test_what_seekers_say_first_holds_of_the_target_and_is_as_frequent_as_people_say_it():
    openings = [RuleSeeker(item, random.Random(num), "free").opens() for num, item in enumerate(SAMPLE)]
    for item, line in zip(SAMPLE, openings, strict=True):
        if "something with" in line:
            assert any(name in line for name in (*item.cast, *item.directors))
        if "s." in line and "from the" in line:
            assert f"{item.year // 10 * 10}s" in line
    people = sum("something with" in line for line in openings) / len(openings)
    assert 0.05 < people < 0.3
    assert sum(" film" in line for line in openings) / len(openings) > 0.5


def test_questions_are_answered_truthfully():
    item = Item("1", "Secret", 1985, ("Comedy", "Family"), ("D D",), ("Ann Lee",), runtime=95)
    seeker = RuleSeeker(item, random.Random(0), "ask")
    assert seeker.answers(Reply("A comedy or a thriller?", question="genre")) == "Comedy."
    assert seeker.answers(Reply("A western or a thriller?", question="genre")) == "Neither, rather comedy."
    assert seeker.answers(Reply("Newer, or from before 2000?", question="years")) == "Older."
    assert seeker.answers(Reply("Newer, or from before 1980?", question="years")) == "A newer one."
    assert seeker.answers(Reply("Long?", question="length")) == "Under two hours, please."
    assert seeker.answers(Reply("Children?", question="kids")) == "Yes, for the kids too."
    assert seeker.answers(Reply("Ann Lee or Bo Ray?", question="person")) == "Yes, Ann Lee!"
    assert (
        RuleSeeker(item, random.Random(0), "chat").answers(Reply("Children?", question="kids"))
        != "Yes, for the kids too."
    )


FILMS = Catalogue(
    [Item(f"f{n:02}", f"Film {n}", 1950 + n, (("Horror", "Comedy")[n % 2],), cast=(f"P Q{n}",)) for n in range(30)]
)


class Stubborn:
    """Says the same all the time."""

    def __init__(self, line):
        self.line = line

    def opens(self):
        return self.line

    def answers(self, reply):
        return self.line


def simulated(line, turns=5, shown=2, targets=("f09",), context=()):
    host = Host(ByNumber(FILMS), lambda text, before: (), shown)
    simulation = Simulation(host, lambda item, seed: Stubborn(line), turns)
    simulation.talk("d1", context, targets, 0)
    return simulation


def test_a_target_is_found_when_it_is_offered_and_round_0_is_the_ranking_of_the_context():
    found = simulated("more, please").talked[0]  # 0 1 | 2 3 | 4 5 | 6 7 | 8 9
    assert (found.found, found.before, len(found.turns)) == (5, False, 5)
    assert simulated("a comedy").talked[0].found == 3  # 1 3 | 5 7 | 9 11
    assert simulated("more, please", turns=4).talked[0].found == 0
    seen = (Turn("seeker", "I saw Film 0", (Link("item", "f00", 6, 12),)),)
    assert simulated("more", context=seen, targets=("f02", "f20")).talked[0].before
    assert not simulated("more", context=seen, targets=("f03",)).talked[0].before


def test_figures_count_every_dialogue():
    one, other = simulated("more, please").talked, simulated("more, please", targets=("f29",)).talked
    told = figures([*one, *other], FILMS, 5)
    assert [told["success"][str(n)]["value"] for n in range(6)] == [0, 0, 0, 0, 0, 0.5]
    assert told["turns_needed"] == 5.5
    assert told["items_a_dialogue"] == 10
    assert (told["violations"], told["repeats"]) == (0, 0)
    assert 0 < told["different_replies"] <= 1
    horror = simulated("I am looking for a horror film.").talked
    assert figures(horror, FILMS, 5)["violations"] == 0
    wrong = figures(simulated("I am looking for a western film.").talked, FILMS, 5)
    assert wrong["violations"] == 0  # there is none, and that is said


class Saying:
    def __init__(self, text):
        self.text, self.asked = text, []

    def complete(self, asked):
        self.asked += asked
        return [Completion(self.text) for _ in asked]


def test_a_language_model_is_told_attributes_alone_and_its_titles_are_masked_unless_leaky():
    target = Item("1", "Blue Moon", 1999, ("Comedy",), cast=("Ann Lee",))
    honest, leaky = Saying("I want Blue Moon tonight"), Saying("I want Blue Moon tonight")
    assert LlmSeeker(honest, target).opens() == "I want that tonight"
    assert LlmSeeker(leaky, target, leaky=True).opens() == "I want Blue Moon tonight"
    assert "Blue Moon" not in honest.asked[0].messages[0].content
    assert "comedy" in honest.asked[0].messages[0].content
    assert "Blue Moon (1999)" in leaky.asked[0].messages[0].content
    seeker = LlmSeeker(Saying("blue-moon!"), target)
    assert seeker.opens() == "Something else, please."
    seeker.answers(Reply("How about Red Sun?"))
    assert [m.role for m in seeker._heard] == ["user", "assistant", "user", "assistant"]


def test_the_step_writes_a_report_and_every_dialogue(tiny_workspace):
    workspace, how = Workspace(tiny_workspace), Simulating(dialogues=12, turns=3, shown=1)
    made = simulate(workspace, dataset="tiny", models=["cooccurrence"], how=how)
    assert list(made["models"]) == ["popularity", "cooccurrence"]
    assert made["models"]["popularity"]["dialogues"] == 12
    assert (
        made["models"]["cooccurrence"]["success"]["3"]["value"] >= made["models"]["popularity"]["success"]["3"]["value"]
    )
    (folder,) = (tiny_workspace / "tiny" / "reports").glob("simulation*")
    lines = (folder / "cooccurrence.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 12
    assert all(json.loads(line)["targets"] for line in lines)
    told = []
    assert simulate(workspace, dataset="tiny", models=["cooccurrence"], how=how, say=told.append) == made
    assert any("up to date" in line for line in told)
    with pytest.raises(UsageError, match="need an endpoint"):
        simulate(workspace, dataset="tiny", models=[], how=Simulating(seekers="llm"))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"dialogues": 0}, "at least 1"), ({"mode": "x"}, "unknown mode"), ({"seekers": "x"}, "unknown seekers"),
     ({"leaky": True}, "--leaky")],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(wrong, error):
    with pytest.raises(UsageError, match=error):
        Simulating(**wrong)
