"""UniCRS: a frozen language model that recommends and speaks after prompts of words and entities.

Three stages: fusion (crs pretrain-fusion), conversation, recommendation; the last reads a template that the second has
written. Source: Wang et al., Towards Unified Conversational Recommender Systems via Knowledge-Enhanced Prompt Learning,
KDD 2022; RUCAIBox/UniCRS. The presets follow the paper, `--recipe code` the code where they differ (`config.CODE`).
Differs from both: templates of test turns are written when they are ranked, never before.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from crscli import metrics
from crscli.catalogue import Catalogue
from crscli.decoding import Decoding
from crscli.dialogue import Context, Dialogue, Example, Turn, cut, part_of
from crscli.models.unicrs.config import CFCRS, CODE, STRUCTURE, UnicrsConfig
from crscli.models.unicrs.fusion import Fusion, frozen_states, put_weights, stage_network, stage_schedule
from crscli.models.unicrs.network import UnicrsNetwork
from crscli.models.unicrs.parts import Parts
from crscli.models.unicrs.templates import TemplateFile
from crscli.progress import Progress, silent
from crscli.recommender import FitData, Likelihood, Ranking, Utterance
from crscli.speech import Heard, Speech
from crscli.training import Log, Run, Schedule, fit, memory_errors, what_it_takes
from crscli.training.checkpoints import save_tensors

__all__ = ["Fusion", "Unicrs"]

_MEMORY = {"cpu": 5e8, "cuda": 1.6e10}
"""Bytes that the keys and values of the contexts read at once may take."""
_WEIGHTS, _TEMPLATES = "weights.safetensors", "templates.jsonl"


class Unicrs:
    """A trained UniCRS."""

    tasks: frozenset[Literal["rank", "respond"]] = frozenset({"rank", "respond"})
    config_class = UnicrsConfig
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "code": CODE, "cfcrs": CFCRS}
    structure: ClassVar[tuple[str, ...]] = STRUCTURE
    """Settings that a fusion run and the training after it have in common."""

    def __init__(
        self,
        catalogue: Catalogue,
        parts: Parts,
        conversation: UnicrsNetwork,
        recommendation: UnicrsNetwork,
        config: UnicrsConfig,
    ) -> None:
        self.catalogue, self.parts, self.config = catalogue, parts, config
        self.conversation, self.recommendation = conversation.eval(), recommendation.eval()
        self.layout = parts.layout
        self.logs: dict[str, Log] = {}
        self.written: list[dict[str, Any]] = []
        self._speech: Speech | None = None

    # ---- building, training, files ----------------------------------------------------------------------------

    @classmethod
    def untrained(
        cls, catalogue: Catalogue, data: FitData, config: UnicrsConfig, *, seed: int = 0, offline: bool = False,
        run: Run | None = None,
    ) -> Self:  # fmt: skip
        """As its stages begin: with the prompts of a fusion run, or with random ones where there is none.

        Raises:
            ArtifactMissing: the fusion run was made with other items, backbones or widths.
        """
        if config.pretrained and data.fusion is not None:
            fusion = Fusion.load(data.fusion, catalogue, config, offline=offline)
        else:
            fusion = Fusion.untrained(catalogue, data, config, seed=seed, offline=offline)
        return cls.begun(fusion, run)

    @classmethod
    def begun(cls, fusion: Fusion, run: Run | None = None) -> Self:
        """With the prompts of a fusion stage in both networks."""
        config = fusion.config
        parts = fusion.parts if run is None else fusion.parts.on(run.device)
        # Each stage goes its own way; only a decoder that is never trained is one and the same.
        other = parts if config.tune == "none" else replace(parts, decoder=copy.deepcopy(parts.decoder))
        states = frozen_states(parts, config, run)
        conversation = stage_network("conversation", parts, states, config)
        recommendation = stage_network("recommendation", other, states, config)
        learnt = {n: p for n, p in fusion.network.named_parameters() if n.startswith("prompts.")}
        with torch.no_grad():
            for network in (conversation, recommendation):
                for name, parameter in network.named_parameters():
                    if name in learnt:
                        parameter.copy_(learnt[name])
        return cls(fusion.catalogue, parts, conversation, recommendation, config)

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        data: FitData,
        config: UnicrsConfig,
        *,
        seed: int = 0,
        progress: Progress = silent,
        run: Run | None = None,
    ) -> Self:
        """Conversation stage, templates for all turns that are learnt from, recommendation stage.

        Before them the fusion stage, where it is asked for and no run of it is given.
        """
        run = run or Run(progress=progress)
        if config.pretrained and data.fusion is None:
            fusion = Fusion.fit(catalogue, data, config, seed=seed, progress=progress, run=run)
            model = cls.begun(fusion, run).on(run.device)
            model.logs |= fusion.logs
        else:
            model = cls.untrained(catalogue, data, config, seed=seed, offline=run.offline, run=run).on(run.device)
        whole = config.share_of == "all"
        few = part_of(data.train, config.share, seed)
        model._learn_to_speak(few if whole else data.train, data.valid, run, seed)
        model._learn_to_recommend(few, data.valid, run, seed)
        return model

    def _learn_to_speak(self, train: Sequence[Dialogue], valid: Sequence[Dialogue], run: Run, seed: int) -> None:
        network, by_valid = self.conversation, bool(valid) and self.config.chosen_by == "valid"
        examples = self.layout.conversation_examples(train)
        schedule = stage_schedule(self.config, "conversation", seed=seed)
        run.say(f"conversation: {what_it_takes(network, examples, schedule)}")
        judged = [e for d in valid for e in cut(d, with_items=False)]
        self.logs["conversation"] = fit(
            network, examples, schedule, run, validate=(lambda: self._fluency(judged)) if judged else None,
            choose="log-likelihood" if by_valid else "", name="conversation",
        )  # fmt: skip
        network.eval()
        self._speech = None

    def _learn_to_recommend(self, train: Sequence[Dialogue], valid: Sequence[Dialogue], run: Run, seed: int) -> None:
        network, by_valid = self.recommendation, bool(valid) and self.config.chosen_by == "valid"
        templates: dict[str, list[int]] = {}
        judged = [e for d in valid for e in cut(d)]
        if self.config.template:
            every = {"train": [e for d in train for e in cut(d)], "valid": judged}
            file = TemplateFile(run, self.layout, "templates")
            for split, asked in every.items():
                templates |= file.complete(split, asked, lambda contexts: self._templates(contexts))
            self.written = file.rows
            templates = {n: t for n, t in templates.items() if self._stands_in_prompt(t)}
        examples = self.layout.recommendation_examples(train, templates)
        schedule = stage_schedule(self.config, "recommendation", seed=seed)
        run.say(f"recommendation: {what_it_takes(network, examples, schedule)}")
        log = self.logs["recommendation"] = fit(
            network, examples, schedule, run, validate=(lambda: self._recall(judged, templates)) if judged else None,
            choose="recall" if by_valid else "", name="recommendation",
        )  # fmt: skip
        network.eval()
        log.summary["examples_by_target"] = sum(len(e.targets) for e in examples)

    def stages(self, dialogues: Sequence[Dialogue], seed: int) -> list[tuple[str, UnicrsNetwork, list[Any], Schedule]]:
        """Name, network, examples and schedule of each stage; templates, which come later, are not in them."""
        layout, config = self.layout, self.config
        return [
            ("conversation", self.conversation, list(layout.conversation_examples(dialogues)),
             stage_schedule(config, "conversation", seed=seed)),
            ("recommendation", self.recommendation, list(layout.recommendation_examples(dialogues, {})),
             stage_schedule(config, "recommendation", seed=seed)),
        ]  # fmt: skip

    def save(self, directory: Path) -> None:
        """Write the prompts of both stages, the templates that were learnt from, and what they stand on."""
        self.parts.save(directory, self.config)
        stages = {"conversation": self.conversation, "recommendation": self.recommendation}
        tensors = {f"{stage}|{name}": p for stage, n in stages.items() for name, p in n.trained().items()}
        save_tensors(tensors, directory / _WEIGHTS)
        rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.written)
        (directory / _TEMPLATES).write_text(rows, encoding="utf-8")

    @classmethod
    def load(
        cls, directory: Path, catalogue: Catalogue, config: UnicrsConfig, *, seed: int = 0, offline: bool = False
    ) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactMissing: it was made with other items, backbones or widths.
        """
        parts = Parts.load(directory, catalogue, config, offline=offline)
        other = parts if config.tune == "none" else replace(parts, decoder=copy.deepcopy(parts.decoder))
        states = frozen_states(parts, config, None)
        conversation = stage_network("conversation", parts, states, config)
        recommendation = stage_network("recommendation", other, states, config)
        for network in (conversation, recommendation):
            put_weights(network, directory / _WEIGHTS, directory.name, part=f"{network.stage}|")
        return cls(catalogue, parts, conversation, recommendation, config)

    def on(self, device: str) -> Self:
        """Move to a device."""
        self.parts.on(device)
        for network in (self.conversation, self.recommendation):
            network.decoder.on(device)
            network.to(device)
        self._speech = None
        return self

    # ---- choosing on valid ------------------------------------------------------------------------------------

    def _fluency(self, examples: Sequence[Example]) -> dict[str, float]:
        self._speech = None
        found = self.speech.likelihoods([e.context for e in examples], [e.response for e in examples])
        tokens = sum(one.tokens for one in found)
        return {"log-likelihood": -sum(one.nats for one in found) / max(1, tokens)}

    def _recall(self, examples: Sequence[Example], templates: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Recall over all labels of the valid turns; `recall` is the mean of 1, 10 and 50."""
        ranks: list[np.ndarray] = []
        for start in range(0, len(examples), self.rows_at_once):
            chunk = examples[start : start + self.rows_at_once]
            told = [templates.get(f"{e.dialogue_id}:{e.turn_num}") for e in chunk]
            found = self._ranked([e.context for e in chunk], told, 50)
            ranks += [
                metrics.ranks(r.item_nums, self.catalogue.vocabulary.nums(e.targets))
                for e, r in zip(chunk, found, strict=True)
            ]
        return metrics.recall_figures(ranks)

    # ---- hearing and speaking ---------------------------------------------------------------------------------

    @property
    def rows_at_once(self) -> int:
        """How many contexts are read together."""
        layers, heads, head = self.conversation.prompts.shape
        row = 2 * (self.config.context_tokens + 64) * layers * 2 * heads * head * 4
        return int(max(1, min(256, _MEMORY.get(self.conversation.device.type, 5e8) // row)))

    def _hear(self, contexts: Sequence[Context]) -> Heard:
        """Read contexts up to "System:", after the conversation prompts."""
        self.layout.remember(turn for c in contexts for turn in c.turns[-64:])
        before = [self.layout.before_reply(c) for c in contexts]
        network = self.conversation
        texts = [(*s.context, *s.response) for s in before]
        batch = network.batch(texts, before).to(network.device)
        read = network.read(batch, keep=True)
        assert read.kept is not None, "keys and values were asked for"
        every = torch.arange(len(texts), device=network.device)
        return Heard(read.kept, network.decoder.logits(read.hidden[every, batch.lengths - 1]), texts)

    @property
    def speech(self) -> Speech:
        """What speaks for the conversation prompts."""
        if self._speech is None or self._speech.rows_at_once != self.rows_at_once:
            layout, skipped = self.layout, len(self.layout.opening)
            self._speech = Speech(
                self.conversation.decoder, self._hear, lambda turn: layout.response(turn)[skipped:], end=layout.end,
                rows_at_once=self.rows_at_once, ban_in_context=self.config.ban_in_context,
            )  # fmt: skip
        return self._speech

    @property
    def _of_templates(self) -> Decoding:
        return Decoding("greedy", max_tokens=self.config.template_tokens, no_repeat=self.config.no_repeat)

    def _templates(self, contexts: Sequence[Context]) -> list[list[int]]:
        """Replies as the recommendation prompt reads them."""
        return self.speech.replies(contexts, self._of_templates)

    def respond(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        decoding: Decoding,
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Utterance]:
        """Reply to each context: a template whose places are filled with its ranking; see `Speech.respond`.

        Greedy decoding gives the template that the ranking has seen: the ban of repeated n-grams and the length of
        templates hold for every decoding that says nothing else.
        """
        own = self._of_templates
        tokens = min(decoding.max_tokens, own.max_tokens)
        decoding = replace(decoding, no_repeat=decoding.no_repeat or own.no_repeat, max_tokens=tokens)
        return self.speech.respond(self.catalogue, contexts, rankings, decoding, recommend)

    def likelihoods(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        responses: Sequence[Turn],
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Likelihood]:
        """How likely the masked responses are to the conversation prompts: tokens after "System:", with the end."""
        return self.speech.likelihoods(contexts, responses)

    # ---- ranking ----------------------------------------------------------------------------------------------

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Rank the catalogue after each context and the template that the model would answer with."""
        rankings: list[Ranking] = []
        for start in range(0, len(contexts), self.rows_at_once):
            part = contexts[start : start + self.rows_at_once]
            told = self._templates(part) if self.config.template else [[]] * len(part)
            usable = [t if self._stands_in_prompt(t) else None for t in told]
            rankings += self._ranked(part, usable, k)
        return rankings

    def _stands_in_prompt(self, template: Sequence[int]) -> bool:
        """Whether a template is read before items are ranked."""
        return self.config.template and (self.config.bare_templates or self.layout.placeholder in template)

    @torch.no_grad()
    def _ranked(self, contexts: Sequence[Context], templates: Sequence[Sequence[int] | None], k: int) -> list[Ranking]:
        """Rank after contexts with these templates behind them."""
        asked = [
            self.layout.asked(c) if t is None else self.layout.after(c, t)
            for c, t in zip(contexts, templates, strict=True)
        ]
        network = self.recommendation
        with memory_errors():
            batch = network.batch([a.ids for a in asked], asked).to(network.device)
            scores = network.scores(network.read(batch), batch.lengths)
        rankings = []
        for row in scores.float().cpu().numpy():
            order = np.lexsort((np.arange(len(row)), -row))[:k]
            rankings.append(Ranking(order.astype(np.int64), row[order]))
        return rankings
