"""PECRS: one language model that finds items, orders them and speaks; items are text, adapters are all that is trained.

Source: Ravaut et al., Parameter-Efficient Conversational Recommender System as a Language Processing Task, EACL 2024;
code Ravoxsg/efficient_unified_crs. The presets follow the paper, `--recipe code` the code where they differ
(`config.CODE`). Differs from both: whether to recommend is always the model's decision, retrieval is exact, the rest
of the catalogue follows the reranked items by similarity, and a reply's k-th placeholder becomes the k-th item.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crscli import metrics
from crscli.backbone import Adapter, Backbone, Prefix, Shape
from crscli.catalogue import Catalogue
from crscli.decoding import Decoding
from crscli.dialogue import Context, Dialogue, Turn, cut
from crscli.errors import ArtifactMissing
from crscli.generation import decode
from crscli.index import ItemIndex
from crscli.metrics.text import best_threshold
from crscli.models.pecrs.config import CODE, PecrsConfig
from crscli.models.pecrs.layout import SPECIALS, Layout
from crscli.models.pecrs.lexical import lexical_embeddings
from crscli.models.pecrs.network import PecrsNetwork
from crscli.progress import Progress, silent
from crscli.recommender import PLACEHOLDER, FitData, Likelihood, Ranking, Utterance, filled
from crscli.training import Log, Run, Schedule, fit, memory_errors, what_it_takes
from crscli.training.checkpoints import load_tensors, put, save_tensors

_MEMORY = {"cpu": 5e8, "cuda": 1.6e10}
"""Bytes that the keys and values of the contexts read at once may take."""


@dataclass
class _Read:
    """Contexts that were read: keys and values up to [REC], lengths without it, queries, how much likelier [REC] is."""

    prefix: Prefix
    lengths: Tensor
    queries: Tensor
    margins: Tensor
    keys: list[int]


class Pecrs:
    """A trained PECRS."""

    tasks: frozenset[Literal["rank", "respond"]] = frozenset({"rank", "respond"})
    config_class = PecrsConfig
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "code": CODE}
    candidate_counts: ClassVar[tuple[int, ...]] = (50, 100, 200, 350, 500, 700)
    """The paper's Figure 3."""

    def __init__(self, catalogue: Catalogue, network: PecrsNetwork, config: PecrsConfig) -> None:
        self.catalogue = catalogue
        self.network = network
        self.config = config
        self.candidates = config.candidates
        self.threshold = 0.0
        """How much likelier [REC] must be than a response without, in nats, for the model to recommend."""
        self.logs: dict[str, Log] = {}
        self._index: ItemIndex | None = None
        self._last: tuple[tuple[int, ...], Any, _Read] | None = None

    # ---- building, training, files ----------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        catalogue: Catalogue,
        config: PecrsConfig,
        *,
        corpus: Iterable[str] = (),
        tokenizer: Path | None = None,
        offline: bool = False,
        seed: int = 0,
    ) -> Self:
        """An untrained model; `corpus` or a saved tokenizer is needed for a backbone with random weights."""
        backbone = Backbone.load(
            config.backbone,
            specials=SPECIALS,
            adapter=Adapter(
                config.tune,  # type: ignore[arg-type]
                config.lora_rank,
                config.lora_alpha,
                config.lora_dropout,
                config.lora_targets,
            ),
            # Counted embeddings make common words short: a head that shared them could hardly say one.
            shape=Shape(config.layers, config.width, config.heads, config.vocabulary, tied=not config.lexical),
            corpus=corpus,
            tokenizer=tokenizer,
            positions=max(config.context_tokens + config.turn_tokens + 8, config.item_tokens),
            dropout=config.dropout,
            offline=offline,
            seed=seed,
        )
        layout = Layout(backbone, catalogue, config)
        network = PecrsNetwork(backbone, layout, config, seed=seed, texts=layout.items())
        network.eval()
        return cls(catalogue, network, config)

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        data: FitData,
        config: PecrsConfig,
        *,
        seed: int = 0,
        progress: Progress = silent,
        run: Run | None = None,
    ) -> Self:
        """Train on the points of the train dialogues; the parameters are chosen by mean recall on valid."""
        run = run or Run(progress=progress)
        model = cls.untrained(catalogue, data, config, seed=seed, offline=run.offline)
        network = model.network
        network.backbone.on(run.device)
        network.to(run.device)
        points = network.layout.points(data.train)
        examples = [e for d in data.valid for e in cut(d)]
        schedule = Schedule.of(config, seed=seed)
        run.say(what_it_takes(network, points, schedule))
        judged = bool(examples) and network.has_item_loss
        model.logs["pecrs"] = fit(
            network,
            points,
            schedule,
            run,
            validate=(lambda: model._validate(examples)) if judged else None,
            choose="recall" if judged else "",
            name="pecrs",
        )
        model._index = model._last = None
        model.threshold = model._calibrated([e for d in data.valid for e in cut(d, with_items=False)])
        return model

    @classmethod
    def untrained(
        cls, catalogue: Catalogue, data: FitData, config: PecrsConfig, *, seed: int = 0, offline: bool = False
    ) -> Self:
        """The model as training begins with it; a tokenizer that has to be learnt is learnt from train."""
        model = cls.build(catalogue, config, corpus=_corpus(catalogue, data.train, config), offline=offline, seed=seed)
        if config.lexical and model.network.backbone.is_random:
            model.network.backbone.put_embeddings(lexical_embeddings(model.network, data.train, seed))
        return model

    def stages(self, dialogues: Sequence[Dialogue], seed: int) -> list[tuple[str, PecrsNetwork, list[Any], Schedule]]:
        """The one training: its name, network, points and schedule."""
        return [("pecrs", self.network, self.network.layout.points(dialogues), Schedule.of(self.config, seed=seed))]

    def save(self, directory: Path) -> None:
        """Write the trained parameters, the tokenizer, and what backbone they belong to."""
        backbone = self.network.backbone
        save_tensors(self.network.trained(), directory / "weights.safetensors")
        backbone.save_tokenizer(directory / "tokenizer")
        record = backbone.describe() | {"threshold": self.threshold}
        (directory / "backbone.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def load(
        cls, directory: Path, catalogue: Catalogue, config: PecrsConfig, *, seed: int = 0, offline: bool = False
    ) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactMissing: the weights were trained on another backbone than the named one is now.
        """
        model = cls.build(catalogue, config, tokenizer=directory / "tokenizer", offline=offline, seed=seed)
        again = "train it again, or give the backbone it was trained on"
        record = json.loads((directory / "backbone.json").read_text(encoding="utf-8"))
        model.network.backbone.require(record, f"run {directory.name}", again)
        try:
            put(load_tensors(directory / "weights.safetensors"), model.network.trained())
        except OSError as error:
            raise ArtifactMissing(f"run {directory.name}: {error}", again) from None
        model.threshold = float(record["threshold"])
        return model

    def on(self, device: str) -> Self:
        """Move to a device."""
        self.network.backbone.on(device)
        self.network.to(device)
        return self

    def _validate(self, examples: Sequence[Any]) -> dict[str, float]:
        """Recall over all labels of the valid turns; `recall` is the mean of 1, 10 and 50, as the reference chooses."""
        self._index = self._last = None
        ranks: list[np.ndarray] = []
        for start in range(0, len(examples), self.rows_at_once):
            chunk = examples[start : start + self.rows_at_once]
            found = self.rank([e.context for e in chunk], 50)
            ranks += [
                metrics.ranks(r.item_nums, self.catalogue.vocabulary.nums(e.targets))
                for e, r in zip(chunk, found, strict=True)
            ]
        return metrics.recall_figures(ranks)

    # ---- items ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_items(
        self, catalogue: Catalogue, *, fields: Sequence[str] | None = None, numbers: Sequence[int] | None = None
    ) -> np.ndarray:
        """(N, D) float32 vectors of items, from all of their fields or the named ones; of some items if asked."""
        network = self.network
        same = catalogue is self.catalogue and fields is None
        layout = network.layout if catalogue is self.catalogue else Layout(network.backbone, catalogue, self.config)
        texts = network.texts if same else layout.items(fields)
        with memory_errors():
            vectors = network.item_vectors(range(len(texts)) if numbers is None else numbers, texts)
        return vectors.float().cpu().numpy()

    def encode_queries(self, contexts: Sequence[Context]) -> np.ndarray:
        """(B, D) float32: what is searched for in the index."""
        parts = [
            self._read(contexts[at : at + self.rows_at_once]).queries.cpu().numpy()
            for at in range(0, len(contexts), self.rows_at_once)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.network.backbone.width), dtype=np.float32)

    @property
    def item_digest(self) -> str:
        """Of all that an item's vector depends on: weights, texts, and where they are cut."""
        digest = hashlib.sha256(self.network.backbone.fingerprint.encode())
        for name, parameter in self.network.trained().items():
            if not name.startswith(("query", "score")):
                digest.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
        digest.update(json.dumps([self.network.texts, self.config.pooling, self.config.item_head]).encode())
        return digest.hexdigest()

    @property
    def similarity(self) -> Literal["dot", "cosine"]:
        """What the index searches by."""
        return "dot" if self.config.similarity == "dot" else "cosine"

    @property
    def index(self) -> ItemIndex:
        """Of the catalogue's items; made when it is first needed, unless one was given."""
        if self._index is None:
            ids = self.catalogue.vocabulary.ids
            self._index = ItemIndex(
                self.encode_items(self.catalogue), ids, self.item_digest, similarity=self.similarity
            )
        return self._index

    def use_index(self, index: ItemIndex) -> None:
        """Search an index that was made before.

        Raises:
            ArtifactMissing: it was made from other weights or items.
        """
        index.check(self.item_digest)
        self._index, self._last = index, None

    def without_field(self, name: str) -> None:
        """Read items without one of their fields from now on (the paper's Table 6)."""
        fields = [f for f in self.config.fields if f != name]
        vectors = self.encode_items(self.catalogue, fields=fields)
        self._index = ItemIndex(vectors, self.catalogue.vocabulary.ids, f"without {name}", similarity=self.similarity)
        self._last = None

    # ---- reading contexts -------------------------------------------------------------------------------------

    @property
    def rows_at_once(self) -> int:
        """How many contexts are read together."""
        lm = self.network.backbone.lm.config
        row = (self.config.context_tokens + 1) * self.network.backbone.width * lm.num_hidden_layers * 2 * 4
        return int(max(1, min(256, _MEMORY.get(self.network.device.type, 5e8) // row)))

    @torch.no_grad()
    def _read(self, contexts: Sequence[Context]) -> _Read:
        """Read contexts; those that were read last, for a ranking, are not read again for the replies."""
        key = tuple(id(c) for c in contexts)
        if self._last is not None and self._last[0] == key and self._last[1] == list(contexts):
            return self._last[2]
        network, layout = self.network, self.network.layout
        layout.remember(turn for c in contexts for turn in c.turns[-64:])
        rows = [layout.context(c) for c in contexts]
        lengths = torch.tensor([len(r) for r in rows], device=network.device)
        ids = torch.zeros(len(rows), int(lengths.max()) + 1, dtype=torch.long)
        for num, row in enumerate(rows):
            ids[num, : len(row) + 1] = torch.tensor([*row, layout.rec])
        with memory_errors():
            embeds = network.backbone.embed(ids.to(network.device), self._vectors())
            hidden, prefix = network.backbone.encode(embeds, lengths=lengths + 1)
        every = torch.arange(len(rows), device=network.device)
        assert prefix is not None, "keys and values were asked for"
        last = network.backbone.logits(hidden[every, lengths - 1])
        margins = last[:, layout.rec] - last[:, layout.opening[0]]
        queries = network.queries(hidden, embeds, lengths)
        keys = [zlib.crc32(repr(row).encode()) for row in rows]
        read = _Read(prefix, lengths, queries, margins, keys)
        self._last = (key, list(contexts), read)
        return read

    def _vectors(self) -> Tensor:
        """(N, D) of the index, on the device."""
        vectors = self.index.vectors
        if getattr(self, "_on_device", (None,))[0] is not vectors:
            self._on_device = (vectors, torch.from_numpy(np.array(vectors)).to(self.network.device))
        return self._on_device[1]

    # ---- ranking ----------------------------------------------------------------------------------------------

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Rank the catalogue: the nearest items by rerank score, then the others by similarity."""
        rankings: list[Ranking] = []
        for start in range(0, len(contexts), self.rows_at_once):
            with memory_errors():
                rankings += self._rank(contexts[start : start + self.rows_at_once], k)
        return rankings

    @torch.no_grad()
    def _rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        read = self._read(contexts)
        near = min(self.candidates, len(self.catalogue))
        found, similar = self.index.search(read.queries.float().cpu().numpy(), max(near, k))
        scores = similar.astype(np.float32).copy()
        if self.config.rerank_weight > 0:
            vectors = self._vectors()
            nearest = torch.from_numpy(found[:, :near]).to(self.network.device)
            step = max(1, 2_000_000 // max(1, near * vectors.shape[1]))
            every = torch.arange(len(contexts), device=self.network.device)
            parts = [
                self.network.scores(read.prefix.select(every[at : at + step]), vectors[nearest[at : at + step]])
                for at in range(0, len(contexts), step)
            ]
            reranked = torch.cat(parts).float().cpu().numpy()
            added = similar[:, :near] / self.config.temperature if self.config.rerank_residual else 0.0
            scores[:, :near] = reranked + added
            # What was not reranked follows in the order of similarity, below everything that was.
            floor = scores[:, :near].min(axis=1, keepdims=True)
            scores[:, near:] = floor - 1.0 + (similar[:, near:] - similar[:, :1]) / (1.0 + np.abs(similar[:, :1]))
            np.minimum.accumulate(scores[:, near:], axis=1, out=scores[:, near:])
        rankings = []
        for items, row in zip(found, scores, strict=True):
            order = np.lexsort((items[:near], -row[:near]))
            order = np.concatenate([order, np.arange(near, len(items))])[:k]
            rankings.append(Ranking(items[order], row[order]))
        return rankings

    # ---- speaking ---------------------------------------------------------------------------------------------

    def respond(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        decoding: Decoding,
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Utterance]:
        """Reply to each context, with the first item of its ranking in the prompt where the model recommends.

        Args:
            contexts: B contexts.
            rankings: of each; the k-th placeholder of a reply becomes the k-th item's name.
            decoding: how tokens are chosen.
            recommend: decides in the model's place; an oracle, for measurements alone.
        """
        room = self.network.backbone.positions - self.config.context_tokens - 8
        decoding = replace(decoding, max_tokens=min(decoding.max_tokens, room))
        made: list[Utterance] = []
        for start in range(0, len(contexts), self.rows_at_once):
            part = slice(start, start + self.rows_at_once)
            told = None if recommend is None else recommend[part]
            with memory_errors():
                made += self._respond(contexts[part], rankings[part], decoding, told)
        return made

    @torch.no_grad()
    def _respond(
        self, contexts: Sequence[Context], rankings: Sequence[Ranking], decoding: Decoding, told: Sequence[bool] | None
    ) -> list[Utterance]:
        read = self._read(contexts)
        offers = self._offers(read, rankings, told)
        templates = self._decoded(read, rankings, offers, decoding)
        if told is None and self.config.decision == "placeholder":
            # The first reply is made without an item; where it speaks of one, it is made again with one.
            again = [num for num, text in enumerate(templates) if PLACEHOLDER in text and len(rankings[num].item_nums)]
            offers = [num in set(again) for num in range(len(templates))]
            if again:
                templates = self._decoded(read, rankings, offers, decoding)
        return [filled(self.catalogue, t, r, recommends=o) for t, r, o in zip(templates, rankings, offers, strict=True)]

    def _offers(self, read: _Read, rankings: Sequence[Ranking], told: Sequence[bool] | None) -> list[bool]:
        """Whether each reply recommends."""
        own = [False] * len(rankings) if self.config.decision == "placeholder" else self._wishes(read)
        wanted = own if told is None else told
        return [bool(w) and len(r.item_nums) > 0 for w, r in zip(wanted, rankings, strict=True)]

    def _wishes(self, read: _Read) -> list[bool]:
        return (read.margins > self.threshold).tolist()

    def _calibrated(self, examples: Sequence[Any]) -> float:
        """The threshold with the best F-1 on valid turns; 0 where there are none of one kind."""
        margins: list[float] = []
        for start in range(0, len(examples), self.rows_at_once):
            chunk = examples[start : start + self.rows_at_once]
            margins += self._read([e.context for e in chunk]).margins.tolist()
        named = np.array([bool(e.targets) for e in examples], dtype=bool)
        return best_threshold(np.array(margins), named)

    def _begun(
        self, read: _Read, rankings: Sequence[Ranking], offers: Sequence[bool], tokens: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Prefix, Tensor]:
        """Read what stands between context and reply, and `tokens` of the reply itself.

        Returns:
            hidden states (B, T, D), keys and values of everything, and (B,) the number of tokens read.
        """
        layout, network = self.network.layout, self.network
        rows = [
            [*([layout.base + int(r.item_nums[0]), layout.rec_end] if offer else []), *own]
            for r, offer, own in zip(rankings, offers, tokens, strict=True)
        ]
        lengths = torch.tensor([len(r) for r in rows], device=network.device)
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for num, row in enumerate(rows):
            ids[num, : len(row)] = torch.tensor(row)
        before = read.prefix.first(read.lengths + torch.tensor(offers, device=network.device).long())
        embeds = network.backbone.embed(ids.to(network.device), self._vectors())
        hidden, prefix = network.backbone.encode(embeds, prefix=before, lengths=lengths)
        assert prefix is not None, "keys and values were asked for"
        return hidden, prefix, lengths

    def _decoded(
        self, read: _Read, rankings: Sequence[Ranking], offers: Sequence[bool], decoding: Decoding
    ) -> list[str]:
        """Replies with placeholders, without the speaker's prefix."""
        layout, backbone = self.network.layout, self.network.backbone
        hidden, prefix, lengths = self._begun(read, rankings, offers, [layout.opening] * len(rankings))
        first = backbone.logits(hidden[torch.arange(len(lengths), device=lengths.device), lengths - 1])
        banned = [*backbone.unspoken, layout.rec, layout.rec_end, layout.sep]
        replies = decode(
            backbone.continuation(prefix), first, decoding, stop={layout.end[0]}, banned=banned, keys=read.keys
        )
        return [" ".join(backbone.text(ids).split()) for ids in replies]

    @torch.no_grad()
    def likelihoods(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        responses: Sequence[Turn],
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Likelihood]:
        """How likely the responses are to the model, given its own decision and its own first item.

        Counted are the tokens after "A:" up to the first of the turn's end; items are placeholders.
        """
        made: list[Likelihood] = []
        layout, backbone = self.network.layout, self.network.backbone
        for start in range(0, len(contexts), self.rows_at_once):
            part = slice(start, start + self.rows_at_once)
            read = self._read(contexts[part])
            own, told = rankings[part], None if recommend is None else recommend[part]
            offers = self._offers(read, own, told)
            tokens = [layout.response(turn) for turn in responses[part]]
            with memory_errors():
                hidden, _, _ = self._begun(read, own, offers, tokens)
                for num, (row, offer) in enumerate(zip(tokens, offers, strict=True)):
                    skipped = (2 if offer else 0) + len(layout.opening)
                    expected = torch.tensor(row[len(layout.opening) : len(row) - len(layout.end) + 1])
                    at = torch.arange(skipped - 1, skipped - 1 + len(expected))
                    logits = backbone.logits(hidden[num, at.to(hidden.device)])
                    nats = F.cross_entropy(logits, expected.to(hidden.device), reduction="sum")
                    text = backbone.text(row[len(layout.opening) : len(row) - len(layout.end)]).strip()
                    made.append(Likelihood(float(nats), len(expected), text))
        return made


def _corpus(catalogue: Catalogue, dialogues: Sequence[Dialogue], config: PecrsConfig) -> Iterable[str]:
    """All texts of train and of the items, for a tokenizer."""
    for dialogue in dialogues:
        for turn in dialogue.turns:
            yield f"{'A' if turn.role == 'recommender' else 'B'}: {turn.text}"
    for item in catalogue:
        yield from (text for name in config.fields if (text := item.field(name, cast=3)))
