"""The fusion stage of UniCRS: prompts learn to name the entities of a response that is visible to them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from crscli.backbone.states import FrozenStates
from crscli.catalogue import Catalogue
from crscli.dialogue import Dialogue, part_of
from crscli.errors import ArtifactMissing
from crscli.models.unicrs.config import CFCRS, CODE, UnicrsConfig
from crscli.models.unicrs.layout import Asked
from crscli.models.unicrs.network import Stage, UnicrsNetwork
from crscli.models.unicrs.parts import Parts, corpus_of
from crscli.progress import Progress, silent
from crscli.recommender import FitData
from crscli.training import Log, Run, Schedule, fit, what_it_takes
from crscli.training.checkpoints import load_tensors, put, save_tensors
from crscli.training.processes import rank_of

_WEIGHTS = "weights.safetensors"
_TOGETHER = 64


class Fusion:
    """Prompts after the fusion stage, and what they stand on.

    Source: Wang et al., KDD 2022, section 3.2; RUCAIBox/UniCRS, train_pre.py.
    """

    config_class = UnicrsConfig
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "code": CODE, "cfcrs": CFCRS}

    def __init__(self, catalogue: Catalogue, parts: Parts, network: UnicrsNetwork, config: UnicrsConfig) -> None:
        self.catalogue, self.parts, self.network, self.config = catalogue, parts, network, config
        self.logs: dict[str, Log] = {}

    @classmethod
    def untrained(
        cls, catalogue: Catalogue, data: FitData, config: UnicrsConfig, *, seed: int = 0, offline: bool = False,
        run: Run | None = None,
    ) -> Self:  # fmt: skip
        """As the stage begins."""
        assert data.graph is not None, "the step gives a graph"
        corpus = corpus_of(catalogue, data.train)
        parts = Parts.build(data.graph, config, corpus=corpus, offline=offline, seed=seed)
        names = parts.count(catalogue, data.train) if config.lexical else None
        if run is not None:
            parts.on(run.device)
        network = stage_network("fusion", parts, frozen_states(parts, config, run), config)
        if names is not None:
            table = network.prompts.entities.table
            with torch.no_grad():
                table.copy_(names[:, : table.shape[1]])
        return cls(catalogue, parts, network, config)

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
        """Train on all turns of the train dialogues that name something."""
        run = run or Run(progress=progress)
        model = cls.untrained(catalogue, data, config, seed=seed, offline=run.offline, run=run)
        network, layout = model.network, model.parts.layout
        network.to(run.device)
        share = config.share if config.share_of == "all" else 1.0
        examples = layout.fusion_examples(part_of(data.train, share, seed))
        valid = layout.fusion_examples(data.valid)
        schedule = stage_schedule(config, "fusion", seed=seed)
        run.say(what_it_takes(network, examples, schedule))
        model.logs["fusion"] = log = fit(
            network,
            examples,
            schedule,
            run,
            validate=(lambda: node_figures(network, valid)) if valid else None,
            choose="recall@1" if valid and config.chosen_by == "valid" else "",
            name="fusion",
        )
        network.eval()
        log.summary["examples_by_target"] = sum(len(e.targets) for e in examples)
        if valid:
            log.summary["gate"] = gate = model._gate(examples, valid)
            run.say(_verdict(gate, config))
        return model

    def stages(
        self, dialogues: Sequence[Dialogue], seed: int
    ) -> list[tuple[str, UnicrsNetwork, list[Asked], Schedule]]:
        """The one stage: its name, network, examples and schedule."""
        examples = self.parts.layout.fusion_examples(dialogues)
        return [("fusion", self.network, examples, stage_schedule(self.config, "fusion", seed=seed))]

    def _gate(self, examples: Sequence[Asked], valid: Sequence[Asked]) -> dict[str, float]:
        """R@1 on valid beside that of the commonest target of train, and what it should reach."""
        common = Counter(t for e in examples for t in e.targets).most_common(1)[0][0]
        targets = [t for e in valid for t in e.targets]
        popularity = float(np.mean([t == common for t in targets]))
        found = node_figures(self.network, valid)
        wanted = min(self.config.gate, self.config.gate_times * popularity or self.config.gate)
        return {**found, "popularity": popularity, "wanted": wanted, "passed": float(found["recall@1"] >= wanted)}

    def on(self, device: str) -> Self:
        """Move to a device."""
        self.parts.on(device)
        self.network.to(device)
        return self

    def save(self, directory: Path) -> None:
        """Write the prompts, and all that they stand on."""
        self.parts.save(directory, self.config)
        save_tensors(self.network.trained(), directory / _WEIGHTS)

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: UnicrsConfig, *, offline: bool = False) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactMissing: it was made with other items, backbones or widths.
        """
        parts = Parts.load(directory, catalogue, config, offline=offline)
        network = stage_network("fusion", parts, frozen_states(parts, config, None), config)
        put_weights(network, directory / _WEIGHTS, directory.name)
        return cls(catalogue, parts, network.eval(), config)


def frozen_states(parts: Parts, config: UnicrsConfig, run: Run | None) -> FrozenStates:
    """States of the encoder for all networks of a model; while they are trained, kept beside the checkpoints."""
    kept = None
    if run is not None and run.directory is not None and config.kept_gb:
        kept = run.directory / f"states-{rank_of()}"
    say = run.say if run is not None else silent
    return FrozenStates(parts.encoder, kept, limit_bytes=int(config.kept_gb * 1e9), say=say)


def stage_network(stage: Stage, parts: Parts, states: FrozenStates, config: UnicrsConfig) -> UnicrsNetwork:
    """The network of a stage."""
    return UnicrsNetwork(
        stage, parts.decoder, states, parts.layout, config, encoder_width=parts.encoder.width, seed=parts.seed
    )


def stage_schedule(config: UnicrsConfig, stage: Stage, *, seed: int) -> Schedule:
    """Epochs, batch and rate of a stage; warm-up is one epoch unless set."""
    epochs: int = getattr(config, f"{stage}_epochs")
    return Schedule(
        epochs=epochs,
        batch_size=config.conversation_batch if stage == "conversation" else config.batch_size,
        learning_rate=getattr(config, f"{stage}_rate"),
        micro_batch=config.micro_batch,
        warmup=config.warmup or 1 / epochs,
        weight_decay=config.weight_decay,
        clip=config.clip,
        validations=config.validations,
        patience=config.patience,
        seed=seed,
    )


def put_weights(network: UnicrsNetwork, path: Path, run: str, *, part: str = "") -> None:
    """Put saved weights into a network.

    Raises:
        ArtifactMissing: they are of another model.
    """
    try:
        saved = load_tensors(path)
        own = {name.removeprefix(part): tensor for name, tensor in saved.items() if name.startswith(part)}
        put(own, network.trained())
    except OSError as error:
        raise ArtifactMissing(f"run {run}: {error}", "make it again, or give the settings it was made with") from None


@torch.no_grad()
def node_figures(network: UnicrsNetwork, examples: Sequence[Asked]) -> dict[str, float]:
    """Recall over all nodes, a turn's every target counting once."""
    ranks: list[int] = []
    order = sorted(range(len(examples)), key=lambda num: len(examples[num]))
    for start in range(0, len(order), _TOGETHER):
        chunk = [examples[num] for num in order[start : start + _TOGETHER]]
        batch = network.batch([a.ids for a in chunk], chunk).to(network.device)
        scores = network.scores(network.read(batch), batch.lengths)
        for row, asked in zip(scores, chunk, strict=True):
            own = row[torch.tensor(asked.targets, device=row.device)]
            ranks += (1 + (row[None, :] > own[:, None]).sum(1)).tolist()
    found = np.array(ranks)
    return {f"recall@{k}": float((found <= k).mean()) if len(found) else 0.0 for k in (1, 10, 50)}


def _verdict(gate: dict[str, float], config: UnicrsConfig) -> str:
    """What a user should know of the stage's result."""
    told = f"R@1 on valid {gate['recall@1']:.3f}, the commonest target {gate['popularity']:.3f}"
    if gate["passed"]:
        return f"fusion: {told}; {gate['wanted']:.3f} was wanted: passed"
    return (
        f"warning: fusion: {told}; {gate['wanted']:.3f} was wanted. The response is visible in this stage, so what "
        f"follows will be weak: raise fusion_epochs (now {config.fusion_epochs}) or fusion_rate "
        f"({config.fusion_rate:g}; 5e-4 to 1e-3 are usual), or check the links (crs link-entities --evaluate)"
    )
