"""evaluate --simulate: dialogues + items + models/<run> -> reports/<run> of simulated dialogues."""

import json
import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from crscli import report, workspace
from crscli.catalogue import Item
from crscli.dialogue import Dialogue, Example, Turn, cut, to_json
from crscli.errors import UsageError
from crscli.progress import Progress, Say, silent
from crscli.simulator import LlmSeeker, Mode, RuleSeeker, Seeker, Simulation, Talked, figures
from crscli.steps._dataset import find_run, read_dataset, refuse_learnt, write_json
from crscli.steps._llm import LlmChoice, OpenedLlm
from crscli.steps._talking import Opener
from crscli.workspace import Recipe, Workspace

STEP_FORMAT = 1
MODES: tuple[Mode, ...] = ("free", "ask", "chat")


@dataclass(frozen=True)
class Simulating:
    """What is simulated.

    Args:
        dialogues: how many.
        turns: exchanges of each, at most.
        shown: items of a recommendation; also of round 0.
        mode: what seekers do of their own accord.
        seekers: "rules", or "llm" behind the endpoint.
        leaky: a language model is told the titles, as iEvaLM's is.
        split: whose dialogues are gone on with.
        seed: of seekers and of the choice of dialogues.
    """

    dialogues: int = 500
    turns: int = 5
    shown: int = 3
    mode: Mode = "free"
    seekers: str = "rules"
    leaky: bool = False
    split: str = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.dialogues, self.turns, self.shown) < 1:
            raise UsageError("--simulate, --turns and --shown must be at least 1", "give at least 1")
        if self.mode not in MODES:
            raise UsageError(f"unknown mode {self.mode!r}", f"known: {', '.join(MODES)}")
        if self.seekers not in ("rules", "llm"):
            raise UsageError(f"unknown seekers {self.seekers!r}", "known: rules, llm")
        if self.leaky and self.seekers != "llm":
            raise UsageError("--leaky is for seekers that a language model plays", "give --seekers llm")

    def describe(self) -> dict[str, Any]:
        """What decides what is simulated."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def simulate(
    workspace_: Workspace,
    *,
    dataset: str,
    models: Sequence[str],
    how: Simulating,
    llm: LlmChoice | None = None,
    run: str | None = None,
    device: str = "auto",
    offline: bool = False,
    force: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> dict[str, Any]:
    """Let simulated seekers talk to models; popularity is always among them.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        models: models or runs.
        how: what is simulated.
        llm: the endpoint of seekers and models that ask a language model.
        run: the report's name.
        device: of neural models.
        offline: no model is downloaded, no endpoint is asked.
        force: do it even if nothing has changed.
        progress: told of dialogues.
        say: told what a user should know.

    Returns:
        The report: what was simulated, and figures by model.

    Raises:
        UsageError: seekers of a language model are asked for and no endpoint is named.
    """
    if how.seekers == "llm" and llm is None:
        raise UsageError("seekers that a language model plays need an endpoint", "give --llm-base-url and --llm-model")
    names = list(dict.fromkeys(["popularity", *models]))
    data = read_dataset(workspace_, dataset)
    chosen = _chosen(data.splits.get(how.split, []), frozenset(data.catalogue.vocabulary.ids), how)
    if not chosen:
        raise UsageError(f"dataset {dataset} has no {how.split} dialogue with a new item", "take another split")
    runs = {name: find_run(workspace_, dataset, name) for name in names}
    for artifact in runs.values():
        if artifact is not None:
            refuse_learnt(artifact, json.loads((artifact.open() / "config.json").read_text("utf-8")), how.split)
    params = {"models": names, **how.describe(), **({"llm": llm.describe()} if llm else {})}
    inputs = data.inputs | {a.name: a.digest for a in runs.values() if a}
    recipe = Recipe("evaluate", STEP_FORMAT, params, inputs, {"seed": how.seed})
    own = f"simulation.{how.mode}.{how.split}.{how.dialogues}.{'+'.join(models) or 'trivial'}"
    artifact = workspace_.artifact(dataset, "reports", run or own[:90])
    if not force and artifact.is_current(recipe):
        say(f"up to date: {artifact.path}")
        kept: dict[str, Any] = json.loads((artifact.path / "simulation.json").read_text(encoding="utf-8"))
        return kept
    refit = False if how.split == "valid" else None
    made: dict[str, Any] = {"dataset": dataset, **params, "models": {}}
    with (
        OpenedLlm(llm, workspace_, dataset, offline, progress, say) if llm else nullcontext() as asked,
        workspace.write(artifact, recipe) as directory,
    ):
        answering = asked.llm if asked is not None else None
        opener = Opener(workspace_, "plain", answering, how.shown, device, offline, refit, progress, say)

        def seeker(target: Item, seed: int) -> Seeker:
            if how.seekers == "llm" and answering is not None:
                return LlmSeeker(answering, target, leaky=how.leaky)
            return RuleSeeker(target, random.Random(seed), how.mode)

        for name in names:
            simulation = Simulation(opener.open(dataset, name), seeker, how.turns)
            for num, example in enumerate(chosen):
                progress(f"talking with {name}", num, len(chosen))
                simulation.talk(example.dialogue_id, example.context.turns, example.targets, how.seed * 1_000_003 + num)
            made["models"][name] = report.finite(figures(simulation.talked, data.catalogue, how.turns, seed=how.seed))
            _save(directory / f"{name}.jsonl", simulation.talked)
        write_json(directory / "simulation.json", made)
    say(f"written: {artifact.path}")
    return made


def _chosen(dialogues: Sequence[Dialogue], known: frozenset[str], how: Simulating) -> list[Example]:
    """Turns that recommend something new, one of each dialogue before a second of any; again where they are few."""
    rng = random.Random(how.seed)
    found: list[list[Example]] = []
    for dialogue in dialogues:
        own = []
        for example in cut(dialogue):
            fresh = tuple(i for i in dict.fromkeys(example.targets) if i in known - set(example.context.mentions))
            own += (
                [Example(example.dialogue_id, example.turn_num, example.context, example.response, fresh)]
                if fresh
                else []
            )
        rng.shuffle(own)
        found += [own] if own else []
    rng.shuffle(found)
    longest = max(map(len, found), default=0)
    in_turn = [own[num] for num in range(longest) for own in found if num < len(own)]
    return [in_turn[num % len(in_turn)] for num in range(how.dialogues)] if in_turn else []


def _save(path: Any, talked: Sequence[Talked]) -> None:
    """One dialogue a line, as datasets have them, with what was wanted and when it was found."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for num, one in enumerate(talked):
            turns = [t for x in one.turns for t in (Turn("seeker", x.said), Turn("recommender", x.reply.text))]
            plain = to_json(Dialogue(f"{one.dialogue_id}-{num}", tuple(turns)))
            offered = [[item.item_id for item in x.reply.items] for x in one.turns]
            plain |= {"targets": list(one.targets), "found": one.found, "before": one.before, "offered": offered}
            file.write(json.dumps(plain, ensure_ascii=False) + "\n")
