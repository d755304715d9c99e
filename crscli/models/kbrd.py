"""KBRD: what a dialogue names, pooled on a knowledge graph, ranks items and colours the words of a small Transformer.

Source: Chen et al., Towards Knowledge-Based Recommender Dialog System, EMNLP 2019; THUDM/KBRD; CRSLab's and CFCRS's
versions. Differs: links come from crs's own linker, so that it can be talked to; the Transformer is a decoder that
learns all turns of a dialogue in one pass, and reads placeholders where titles are; an item that no entity stands for
has a node of its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crscli import metrics
from crscli.backbone import Adapter, Backbone, Shape
from crscli.catalogue import Catalogue
from crscli.decoding import Decoding
from crscli.dialogue import Context, Dialogue, Example, Role, Turn, cut, merge_turns, part_of
from crscli.errors import ArtifactMissing
from crscli.graph_encoder import AttentivePooling, Nodes, RelationalConv, relational_graph
from crscli.kg import KnowledgeGraph
from crscli.progress import Progress, silent
from crscli.recommender import PLACEHOLDER, FitData, Likelihood, Ranking, Utterance
from crscli.speech import Heard, Speech
from crscli.training import Log, Run, Schedule, fit, memory_errors, moved, what_it_takes
from crscli.training.checkpoints import load_tensors, put, save_tensors
from crscli.transcript import Transcript

SPECIALS = ("[END]", PLACEHOLDER)
_PREFIXES: dict[Role, str] = {"seeker": "User: ", "recommender": "System: "}
_WEIGHTS, _RECORD = "weights.safetensors", "backbone.json"
_MEMORY = {"cpu": 5e8, "cuda": 1.6e10}
_LEAST = {
    1: "node_width bases entities batch_size epochs layers heads width context_tokens response_tokens "
    "generation_batch generation_epochs bias_width",
    300: "vocabulary",
    0: "micro_batch clip weight_decay warmup patience dropout l2",
}


@dataclass(frozen=True)
class KbrdConfig:
    """Settings of KBRD.

    Source: THUDM/KBRD, and CRSLab's and CFCRS's versions of it.
    """

    node_width: int = 128
    """Of a node's vector."""
    bases: int = 8
    """Of the relational convolution, which has no input features: each basis is a table of the nodes."""
    self_loops: bool = True
    """Whether heads of triples have a relation with themselves."""
    entities: int = 64
    """Entities of the context that were named last."""
    scored: str = "nodes"
    """What the loss compares a target with: all nodes (the paper), or the items."""
    epochs: int = 10
    """Of the recommendation stage."""
    batch_size: int = 64
    """Of the recommendation stage."""
    learning_rate: float = 3e-3
    """Of the recommendation stage."""
    weight_decay: float = 0.0
    """Of matrices."""
    replies: bool = True
    """Whether a generator is trained: without one it ranks only."""
    layers: int = 2
    """Of the generator."""
    heads: int = 2
    """Of the generator."""
    width: int = 128
    """Of the generator."""
    vocabulary: int = 4096
    """Tokens of the generator, learnt from the dialogues, at most."""
    bias_width: int = 256
    """Between the pooled entities and what they add to the scores of words."""
    dropout: float = 0.1
    """In the generator."""
    context_tokens: int = 192
    """Newest tokens of the dialogue that the generator reads; also of what it learns at once."""
    response_tokens: int = 64
    """Tokens of a turn that are read and learnt; also of a reply."""
    generation_epochs: int = 3
    """Of the generator."""
    generation_batch: int = 8
    """Dialogues of the generator's batch."""
    generation_rate: float = 2e-3
    """Of the generator."""
    micro_batch: int = 0
    """Examples that are computed at once; 0 for all. Changes memory, not the result."""
    warmup: float = 0.05
    """Share of a stage's steps."""
    clip: float = 0.0
    """Longest gradient; 0 for no limit."""
    validations: int = 1
    """A epoch."""
    patience: int = 3
    """Validations without gain after which a stage stops; 0 for never."""
    share: float = 1.0
    """Share of the train dialogues that are learnt from."""

    def __post_init__(self) -> None:
        for least, names in _LEAST.items():
            for name in names.split():
                if getattr(self, name, least) < least:
                    raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.scored not in ("nodes", "items"):
            raise ValueError(f"scored must be one of nodes, items, not {self.scored!r}")
        for name in ("learning_rate", "generation_rate", "share"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if max(self.share - 1, self.dropout - 0.999, self.warmup - 0.999) > 0:
            raise ValueError("share is at most 1, dropout and warmup lie below 1")
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")


# ---- the recommendation stage -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """What a context names, and what the response recommends: nodes, repeats kept."""

    name: str
    nodes: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass
class NamedBatch:
    """`nodes` (B, E) and which of them are `real`; the target `expected` (G,) of row `rows` (G,)."""

    nodes: Tensor
    real: Tensor
    rows: Tensor
    expected: Tensor
    counts: Mapping[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> "NamedBatch":
        """The batch on a device."""
        return moved(self, device)


class KbrdNetwork(nn.Module):
    """Nodes, pooling and scores: the Trainable of the recommendation stage."""

    items: Tensor

    def __init__(self, nodes: Nodes, config: KbrdConfig, *, seed: int) -> None:
        super().__init__()
        self.nodes, self.config = nodes, config
        relations = nodes.relations(loops=config.self_loops)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.graph = relational_graph(nodes, loops=config.self_loops)
            self.convolution = RelationalConv(
                None, config.node_width, relations=relations, bases=config.bases, nodes=nodes.count
            )
            self.pooling = AttentivePooling(config.node_width)
        self.bias = nn.Parameter(torch.zeros(nodes.count))
        self.register_buffer("items", torch.from_numpy(nodes.items), persistent=False)
        self.weights, self.slower = {"recommendation": 1.0}, dict[str, float]()
        self._vectors: Tensor | None = None

    def trained(self) -> dict[str, nn.Parameter]:
        """All of it."""
        return dict(self.named_parameters())

    def train(self, mode: bool = True) -> "KbrdNetwork":
        """Vectors that were kept for reading are forgotten."""
        self._vectors = None
        return super().train(mode)

    def vectors(self) -> Tensor:
        """(N, D) of all nodes, kept while nothing is trained."""
        if self.training or torch.is_grad_enabled():
            return self.convolution(None, self.graph)
        if self._vectors is None:
            self._vectors = self.convolution(None, self.graph)
        return self._vectors

    def users(self, vectors: Tensor, nodes: Tensor, real: Tensor) -> Tensor:
        """(B, D): the pooled vectors of what was named, zero where that is nothing."""
        return self.pooling(vectors[nodes], real)

    def padded(self, named: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """(B, E) nodes, and which of them are real and stand for something."""
        nodes = torch.full((len(named), max([1, *map(len, named)])), self.nodes.none, dtype=torch.long)
        for num, row in enumerate(named):
            nodes[num, : len(row)] = torch.tensor(row)
        return nodes, nodes != self.nodes.none

    def length(self, example: Named) -> int:
        """Entities of an example."""
        return len(example.nodes)

    def draw(self, examples: Sequence[Named], rng: np.random.Generator) -> None:
        """Nothing is drawn."""

    def collate(self, examples: Sequence[Named], drawn: None, rows: Sequence[int]) -> NamedBatch:
        """Examples as tensors."""
        nodes, real = self.padded([e.nodes for e in examples])
        of_row = [num for num, e in enumerate(examples) for _ in e.targets]
        expected = torch.tensor([t for e in examples for t in e.targets])
        return NamedBatch(nodes, real, torch.tensor(of_row), expected, {"recommendation": len(of_row)})

    def losses(self, batch: NamedBatch) -> dict[str, Tensor]:
        """Cross-entropy over nodes, or items, summed over targets."""
        vectors = self.vectors()
        scores = self.users(vectors, batch.nodes, batch.real) @ vectors.T + self.bias
        if self.config.scored == "items":
            # Nodes that are no item's take no part.
            is_item = torch.zeros(len(vectors), dtype=torch.bool, device=scores.device).index_fill_(0, self.items, True)
            scores = scores.masked_fill(~is_item, -torch.inf)
        logs = scores.log_softmax(1)
        return {"recommendation": -logs[batch.rows, batch.expected].sum()}

    def memory_bytes(self, rows: int) -> int:
        """About what training takes: weights, gradients and two moments, aggregated bases, scores."""
        trained = sum(p.numel() for p in self.parameters())
        return int(trained * 16 + (rows * 3 + self.config.node_width * 6) * self.nodes.count * 4 + 5e8)


# ---- the generation stage -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spoken:
    """Turns one after the other, as token ids, and the nodes that were named before each of them."""

    name: str
    turns: tuple[tuple[int, ...], ...]
    nodes: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return sum(map(len, self.turns))


@dataclass
class SpokenBatch:
    """`ids` (B, T), padded to the right; `users` (U, D) of all turns.

    Flat `places` (G,) of (B, T) whose next token is `expected`, which is in turn `turns` (G,).
    """

    ids: Tensor
    users: Tensor
    places: Tensor
    turns: Tensor
    expected: Tensor
    counts: Mapping[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> "SpokenBatch":
        """The batch on a device."""
        return moved(self, device)


class Speaker(nn.Module):
    """A small decoder with a bias of words by what was named: the Trainable of the generation stage."""

    def __init__(self, backbone: Backbone, network: KbrdNetwork, config: KbrdConfig, *, seed: int) -> None:
        super().__init__()
        self.backbone, self.config = backbone, config
        self._network = [network]  # it is not trained here, and is no part of this one
        size = backbone.vocabulary + len(SPECIALS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.colour = nn.Sequential(
                nn.Linear(config.node_width, config.bias_width), nn.ReLU(), nn.Linear(config.bias_width, size)
            )
        self.weights, self.slower = {"generation": 1.0}, dict[str, float]()

    def trained(self) -> dict[str, nn.Parameter]:
        """All of it."""
        return dict(self.named_parameters())

    def length(self, example: Spoken) -> int:
        """Tokens of an example."""
        return len(example)

    def draw(self, examples: Sequence[Spoken], rng: np.random.Generator) -> None:
        """Nothing is drawn."""

    @torch.no_grad()
    def users(self, named: Sequence[tuple[int, ...]]) -> Tensor:
        """(B, D) pooled vectors of what was named; the recommendation stage has learnt them."""
        network = self._network[0]
        nodes, real = network.padded(named)
        device = network.bias.device
        return network.users(network.vectors(), nodes.to(device), real.to(device))

    def collate(self, examples: Sequence[Spoken], drawn: None, rows: Sequence[int]) -> SpokenBatch:
        """Examples as tensors; turns of both sides are learnt."""
        width = max(len(e) for e in examples)
        ids = torch.zeros(len(examples), width, dtype=torch.long)
        places: list[int] = []
        lengths: list[int] = []
        for num, e in enumerate(examples):
            ids[num, : len(e)] = torch.tensor([token for turn in e.turns for token in turn])
            places += range(num * width, num * width + len(e) - 1)
            lengths += [len(turn) - (at == 0) for at, turn in enumerate(e.turns)]  # nothing stands before the first
        at = torch.tensor(places, dtype=torch.long)
        turns = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        users = self.users([nodes for e in examples for nodes in e.nodes]).cpu()
        return SpokenBatch(ids, users, at, turns, ids.flatten()[at + 1], {"generation": len(places)})

    def losses(self, batch: SpokenBatch) -> dict[str, Tensor]:
        """Cross-entropy of the next token, summed."""
        hidden, _ = self.backbone.encode(self.backbone.embed(batch.ids))
        logits = self.backbone.logits(hidden.flatten(0, 1)[batch.places]) + self.colour(batch.users)[batch.turns]
        return {"generation": F.cross_entropy(logits, batch.expected, reduction="sum")}

    def memory_bytes(self, rows: int) -> int:
        """About what training takes: weights, gradients and two moments, activations, scores of words three times."""
        trained = sum(p.numel() for p in self.parameters())
        tokens = rows * self.config.context_tokens
        work = tokens * (self.config.layers * self.config.width * 40 + 3 * self.backbone.vocabulary) * 4
        return int(trained * 16 + work + 5e8)


# ---- the model ----------------------------------------------------------------------------------------------------


class Kbrd:
    """A trained KBRD."""

    tasks: frozenset[Literal["rank", "respond"]] = frozenset({"rank", "respond"})
    config_class = KbrdConfig
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}}

    def __init__(self, catalogue: Catalogue, network: KbrdNetwork, backbone: Backbone, config: KbrdConfig) -> None:
        self.catalogue, self.network, self.config = catalogue, network.eval(), config
        if not config.replies:
            self.tasks = frozenset({"rank"})
        self.end, self.placeholder = (backbone.special(name) for name in SPECIALS)
        self.transcript = Transcript(
            backbone, prefixes=_PREFIXES, end=[self.end], placeholder=self.placeholder, titles=False
        )
        self.opening = self.transcript.opening("recommender")
        self.speaker = Speaker(backbone, network, config, seed=0).eval()
        self.logs: dict[str, Log] = {}
        self._speech: Speech | None = None

    # ---- building, training, files ----------------------------------------------------------------------------

    @classmethod
    def build(
        cls, catalogue: Catalogue, graph: KnowledgeGraph, config: KbrdConfig, *, corpus: Sequence[str] = (),
        tokenizer: Path | None = None, seed: int = 0,
    ) -> Self:  # fmt: skip
        """An untrained model."""
        backbone = Backbone.load(
            "tiny",
            specials=SPECIALS,
            adapter=Adapter("full"),
            shape=Shape(config.layers, config.width, config.heads, config.vocabulary),
            corpus=corpus,
            tokenizer=tokenizer,
            positions=config.context_tokens + config.response_tokens + 8,
            dropout=config.dropout,
            seed=seed,
        )
        backbone.draw_specials(seed)
        return cls(catalogue, KbrdNetwork(Nodes(graph), config, seed=seed), backbone, config)

    @classmethod
    def untrained(
        cls, catalogue: Catalogue, data: FitData, config: KbrdConfig, *, seed: int = 0, offline: bool = False
    ) -> Self:
        """As training begins with it; the tokenizer is learnt from train."""
        assert data.graph is not None, "the step gives a graph"
        corpus = [_PREFIXES[t.role] + t.text for d in data.train for t in d.turns]
        return cls.build(catalogue, data.graph, config, corpus=corpus, seed=seed)

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        data: FitData,
        config: KbrdConfig,
        *,
        seed: int = 0,
        progress: Progress = silent,
        run: Run | None = None,
    ) -> Self:
        """Learn to recommend, then to speak of what was named."""
        run = run or Run(progress=progress)
        model = cls.untrained(catalogue, data, config, seed=seed).on(run.device)
        judged = [e for d in data.valid for e in cut(d)]
        spoken = [e for d in data.valid for e in cut(d, with_items=False)]
        judges = {
            "recommendation": ("recall", partial(model._recall, judged)),
            "generation": ("log-likelihood", partial(model._fluency, spoken)),
        }
        for name, network, examples, schedule in model.stages(part_of(data.train, config.share, seed), seed):
            choose, validate = judges[name] if judged else ("", None)
            run.say(f"{name}: {what_it_takes(network, examples, schedule)}")
            model.logs[name] = fit(network, examples, schedule, run, validate=validate, choose=choose, name=name)
            network.eval()
            model._speech = None
        return model

    def stages(self, dialogues: Sequence[Dialogue], seed: int) -> list[tuple[str, Any, list[Any], Schedule]]:
        """Name, network, examples and schedule of each stage."""
        config = self.config
        schedule = Schedule.of(config, seed=seed)
        found: list[tuple[str, Any, list[Any], Schedule]] = [
            ("recommendation", self.network, self._named(dialogues), schedule)
        ]
        if config.replies:
            later = replace(
                schedule, epochs=config.generation_epochs, batch_size=config.generation_batch,
                learning_rate=config.generation_rate,
            )  # fmt: skip
            found.append(("generation", self.speaker, self._spoken(dialogues), later))
        return found

    def _named(self, dialogues: Sequence[Dialogue]) -> list[Named]:
        """One example for each turn of the recommender that names an item."""
        nodes = self.network.nodes
        return [
            Named(f"{e.dialogue_id}:{e.turn_num}", nodes.of_context(e.context, self.config.entities), tuple(targets))
            for d in dialogues
            for e in cut(d)
            if (targets := nodes.of_items(e.targets))
        ]

    def _spoken(self, dialogues: Sequence[Dialogue]) -> list[Spoken]:
        """Dialogues, the long ones in pieces."""
        room, nodes = self.config.context_tokens, self.network.nodes
        made = []
        for dialogue in dialogues:
            turns = merge_turns(dialogue.turns)
            tokens: list[tuple[int, ...]] = []
            named: list[tuple[int, ...]] = []
            for num, turn in enumerate(turns):
                own = self._response(turn)
                if tokens and sum(map(len, tokens)) + len(own) > room:
                    made.append(Spoken(f"{dialogue.dialogue_id}:{num}", tuple(tokens), tuple(named)))
                    tokens, named = [], []
                tokens.append(own)
                named.append(nodes.of_context(Context(turns[:num]), self.config.entities))
            made.append(Spoken(f"{dialogue.dialogue_id}:{len(turns)}", tuple(tokens), tuple(named)))
        return [spoken for spoken in made if len(spoken) > 1]

    def _response(self, turn: Turn) -> tuple[int, ...]:
        return (*self.transcript.masked(turn)[: self.config.response_tokens - 1], self.end)

    def save(self, directory: Path) -> None:
        """Write weights, tokenizer and graph."""
        trained = {"network": self.network.trained(), "speaker": self.speaker.trained() if self.config.replies else {}}
        tensors = {f"{part}|{name}": p for part, own in trained.items() for name, p in own.items()}
        save_tensors(tensors, directory / _WEIGHTS)
        self.speaker.backbone.save_tokenizer(directory / "tokenizer")
        (directory / _RECORD).write_text(json.dumps(self.speaker.backbone.describe(), indent=1), encoding="utf-8")
        (directory / "graph").mkdir()
        self.network.nodes.graph.save(directory / "graph")

    @classmethod
    def load(
        cls, directory: Path, catalogue: Catalogue, config: KbrdConfig, *, seed: int = 0, offline: bool = False
    ) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactMissing: the weights are of another model.
        """
        graph = KnowledgeGraph.load(directory / "graph")
        model = cls.build(catalogue, graph, config, tokenizer=directory / "tokenizer", seed=seed)
        parts: dict[str, KbrdNetwork | Speaker] = {"network": model.network, "speaker": model.speaker}
        try:
            saved = load_tensors(directory / _WEIGHTS)
            for part, network in parts.items():
                own = {n.partition("|")[2]: t for n, t in saved.items() if n.startswith(f"{part}|")}
                if own or part == "network":
                    put(own, network.trained())
        except OSError as error:
            raise ArtifactMissing(f"run {directory.name}: {error}", "train it again") from None
        return model

    def on(self, device: str) -> Self:
        """Move to a device."""
        self.network.to(device)
        self.speaker.to(device)
        self._speech = None
        return self

    def _recall(self, examples: Sequence[Example]) -> dict[str, float]:
        """Recall over all labels of the valid turns; `recall` is the mean of 1, 10 and 50."""
        found = self.rank([e.context for e in examples], 50)
        nums = self.catalogue.vocabulary.nums
        ranks = [metrics.ranks(r.item_nums, nums(e.targets)) for e, r in zip(examples, found, strict=True)]
        return metrics.recall_figures(ranks)

    def _fluency(self, examples: Sequence[Example]) -> dict[str, float]:
        self._speech = None
        found = self.speech.likelihoods([e.context for e in examples], [e.response for e in examples])
        return {"log-likelihood": -sum(one.nats for one in found) / max(1, sum(one.tokens for one in found))}

    # ---- ranking ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Rank the catalogue by what each context names; where it names nothing, by how often items are recommended."""
        network, rankings = self.network, []
        for start in range(0, len(contexts), 256):
            part = contexts[start : start + 256]
            named = [network.nodes.of_context(c, self.config.entities) for c in part]
            nodes, real = network.padded(named)
            device = network.bias.device
            with memory_errors():
                vectors = network.vectors()
                users = network.users(vectors, nodes.to(device), real.to(device))
                scores = users @ vectors[network.items].T + network.bias[network.items]
            for row in scores.float().cpu().numpy():
                order = np.lexsort((np.arange(len(row)), -row))[:k]
                rankings.append(Ranking(order.astype(np.int64), row[order]))
        return rankings

    # ---- speaking ---------------------------------------------------------------------------------------------

    @property
    def rows_at_once(self) -> int:
        """How many contexts are read together."""
        row = (self.config.context_tokens + 64) * self.config.layers * 2 * self.config.width * 4
        return int(max(1, min(256, _MEMORY.get(self.network.bias.device.type, 5e8) // row)))

    def _hear(self, contexts: Sequence[Context]) -> Heard:
        """Read contexts up to "System:"."""
        backbone = self.speaker.backbone
        texts = [self.transcript.context(c, self.config.context_tokens) + self.opening for c in contexts]
        named = [self.network.nodes.of_context(c, self.config.entities) for c in contexts]
        lengths = torch.tensor([len(t) for t in texts], device=backbone.device)
        ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
        for num, text in enumerate(texts):
            ids[num, : len(text)] = torch.tensor(text)
        hidden, kept = backbone.encode(backbone.embed(ids.to(backbone.device)), lengths=lengths)
        assert kept is not None, "keys and values were asked for"
        bias = self.speaker.colour(self.speaker.users(named))
        every = torch.arange(len(texts), device=backbone.device)
        return Heard(kept, backbone.logits(hidden[every, lengths - 1]) + bias, texts, bias)

    @property
    def speech(self) -> Speech:
        """What speaks for the generator."""
        if self._speech is None:
            skipped = len(self.opening)
            self._speech = Speech(
                self.speaker.backbone, self._hear, lambda turn: self._response(turn)[skipped:], end=self.end,
                rows_at_once=self.rows_at_once,
            )  # fmt: skip
        return self._speech

    def respond(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        decoding: Decoding,
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Utterance]:
        """Reply to each context; see `Speech.respond`."""
        decoding = replace(decoding, max_tokens=min(decoding.max_tokens, self.config.response_tokens))
        return self.speech.respond(self.catalogue, contexts, rankings, decoding, recommend)

    def likelihoods(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        responses: Sequence[Turn],
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Likelihood]:
        """How likely responses are, items as placeholders: the tokens after "System:", with the end."""
        return self.speech.likelihoods(contexts, responses)
