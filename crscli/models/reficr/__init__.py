"""ReFICR: one decoder finds items and like-minded dialogues, orders what it found, decides what to do, and speaks.

Source: Yang & Chen, Unleashing the Retrieval Potential of Large Language Models in Conversational Recommender Systems,
RecSys 2024; yt556677/ReFICR, GritLM's code. The presets follow the paper, `--recipe code` the code where they differ
(`config.CODE`). Differs from both: one object carries a turn through all subtasks, the act it predicts decides whether
items are recommended, a ranking is always a permutation of its candidates and goes on with what else was found, and a
reply is told the items that were predicted, never the right ones.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from crscli import metrics
from crscli.backbone import Adapter, Backbone, Shape
from crscli.backbone.counted import counted_embeddings
from crscli.catalogue import Catalogue
from crscli.decoding import Decoding
from crscli.dialogue import ACTS, Context, Dialogue, Example, Turn, cut, merge_turns
from crscli.errors import ArtifactMissing
from crscli.index import ItemIndex
from crscli.metrics.text import best_threshold
from crscli.models.reficr import blending, mining, prompts
from crscli.models.reficr.config import CODE, ReficrConfig
from crscli.models.reficr.layout import CAST, Layout, specials
from crscli.models.reficr.network import ReficrNetwork
from crscli.models.reficr.rows import (
    Asked,
    Mined,
    Sought,
    answer_rows,
    check_guards,
    conversation_rows,
    item_rows,
    known_of,
    same_titles,
    stored,
)
from crscli.models.reficr.store import Store
from crscli.models.reficr.voice import Managed, Voice
from crscli.progress import Progress, silent
from crscli.recommender import FitData, Likelihood, Ranking, Utterance
from crscli.signals.mentions import Popularity
from crscli.training import Log, Run, Schedule, fit, memory_errors, what_it_takes
from crscli.training.checkpoints import load_tensors, put, save_tensors
from crscli.training.processes import is_first

_MEMORY = {"cpu": 5e8, "cuda": 1.6e10}
"""Bytes that the keys and values of the contexts read at once may take."""
Neighbours = tuple[np.ndarray, np.ndarray] | None
"""Places in the store of the conversations most like each context, (B, M), and their cosines."""
_JUDGED = 1000
"""Valid turns on which evidence is weighed, at most."""


class Reficr:
    """A trained ReFICR."""

    tasks: frozenset[Literal["rank", "respond", "manage"]] = frozenset({"rank", "respond", "manage"})
    config_class = ReficrConfig
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "code": CODE}
    similarity: ClassVar[Literal["cosine"]] = "cosine"
    learns_acts: ClassVar[bool] = True
    """Whether dialogues whose turns say what they do are of use."""
    candidate_counts: ClassVar[tuple[int, ...]] = (2, 5, 10, 20, 50)
    """The paper's Figure 4."""
    variants: ClassVar[dict[str, dict[str, str]]] = {
        "found alone": {"ranking": "none"},
        "random order": {"ranking": "random"},
        "by likelihood": {"ranking": "likelihood"},
        "by constrained answer": {"ranking": "constrained"},
        "by free answer": {"ranking": "free"},
        "no conversations": {"conversations": "none"},
        "found alone, no conversations": {"ranking": "none", "conversations": "none"},
    }
    """Switches of a trained model that the paper's Table 4 turns: name -> attributes."""

    def __init__(self, catalogue: Catalogue, network: ReficrNetwork, layout: Layout, config: ReficrConfig) -> None:
        self.catalogue, self.network, self.layout, self.config = catalogue, network.eval(), layout, config
        self.candidates = config.candidates
        self.ranking, self.conversations = config.ranking, config.conversations
        self.threshold = 0.0
        """How much likelier recommending must be than not, in nats, for the model to recommend."""
        self.thresholds: dict[str, float] = {}
        """How likely other acts must be."""
        self.blend = np.array([1.0, 0.0, 0.0, 0.0])
        """Weights of blending.FEATURES."""
        self.order_weights = np.array([0.0, 1.0])
        """Weights of what was found before and of the ranking, among the candidates."""
        self.logs: dict[str, Log] = {}
        self.popularity = np.zeros(len(catalogue))
        self.store = Store()
        self.voice = Voice(network, layout)
        self._index: ItemIndex | None = None

    # ---- building, training, files ----------------------------------------------------------------------------

    @classmethod
    def build(
        cls, catalogue: Catalogue, config: ReficrConfig, *, corpus: Iterable[str] = (), tokenizer: Path | None = None,
        train: Sequence[Dialogue] = (), offline: bool = False, seed: int = 0,
    ) -> Self:  # fmt: skip
        """An untrained model; `corpus` or a saved tokenizer is needed for a backbone with random weights.

        Raises:
            ConfigError: the backbone cannot read both ways.
        """
        longest = max(config.query_tokens, config.passage_tokens) + 64
        longest = max(longest, 9 * config.prompt_tokens // 4 + config.reply_tokens + 8 * config.candidates + 96)
        backbone = Backbone.load(
            config.backbone,
            specials=specials(config),
            adapter=Adapter(
                config.tune, config.lora_rank, config.lora_alpha, config.lora_dropout,  # type: ignore[arg-type]
                config.lora_targets,
            ),
            # Counted embeddings make common words short: a head that shared them could hardly say one.
            shape=Shape(
                config.layers, config.width, config.heads, config.vocabulary, positions=max(1024, longest),
                tied=not config.lexical,
            ),
            corpus=corpus,
            tokenizer=tokenizer,
            positions=longest,
            dropout=config.dropout,
            quantise=config.quantise,
            checkpointing=config.checkpointing,
            offline=offline,
            seed=seed,
        )  # fmt: skip
        backbone.check_both_ways()
        layout = Layout(backbone, catalogue, config)
        store = stored(catalogue, train) if config.conversations != "none" else []
        layout.transcript.remember(turn for c in store for turn in c.turns)
        network = ReficrNetwork(
            backbone, config, items=layout.items(), conversations=[layout.conversation(c.turns) for c in store],
            store=store, titles=same_titles(catalogue),
        )  # fmt: skip
        return cls(catalogue, network, layout, config)

    @classmethod
    def untrained(
        cls, catalogue: Catalogue, data: FitData, config: ReficrConfig, *, seed: int = 0, offline: bool = False
    ) -> Self:
        """The model as training begins with it; a tokenizer that has to be learnt is learnt from train."""
        corpus = _corpus(catalogue, data.train, config)
        model = cls.build(catalogue, config, corpus=corpus, train=data.train, offline=offline, seed=seed)
        check_guards(data, model.network.store)
        if config.lexical and model.network.backbone.is_random:
            model.network.backbone.put_embeddings(model._counted(data.train, seed))
        return model

    def _counted(self, dialogues: Sequence[Dialogue], seed: int) -> torch.Tensor:
        """(V, D) token embeddings from counts; items that a dialogue names count with the words of their texts."""
        backbone, vocabulary = self.network.backbone, self.catalogue.vocabulary
        texts = [text.ids[text.start :] for text in self.network.items]
        documents = [list(text) for text in texts]
        for dialogue in dialogues:
            turns = merge_turns(dialogue.turns)
            tokens = [t for turn in turns for t in self.layout.transcript.turn(turn)]
            named = [int(n) for turn in turns for n in vocabulary.nums(turn.items)]
            documents.append(tokens + [t for n in named for t in texts[n]])
        return counted_embeddings(documents, backbone.vocabulary, backbone.width, seed)

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        data: FitData,
        config: ReficrConfig,
        *,
        seed: int = 0,
        progress: Progress = silent,
        run: Run | None = None,
    ) -> Self:
        """First stage, mining with it, second stage; then thresholds and weights of evidence on valid."""
        run = run or Run(progress=progress)
        model = cls.untrained(catalogue, data, config, seed=seed, offline=run.offline)
        network = model.network
        network.backbone.on(run.device)
        network.to(run.device)
        beginning = {n: p.detach().cpu().clone() for n, p in network.trained().items()}
        judged = [e for d in data.valid for e in cut(d)]
        sought = model._sought(data.train)
        if config.first_epochs:
            model._stage("first", sought, judged, run, seed)
        keep = run.directory / "mined" if run.directory and is_first() else None
        with memory_errors():
            mined = mining.mine(network, sought, config, directory=keep, progress=run.progress)
        if config.second_stage == "restart":
            put(beginning, network.trained())
        asked = answer_rows(model.layout, data, network.store, mined, np.random.default_rng([seed, 7]))
        model._stage("second", [*with_mined(sought, mined), *asked], judged, run, seed)
        model._finish(data, judged)
        return model

    def _sought(self, dialogues: Sequence[Dialogue]) -> list[Sought]:
        """Rows of what is to be found."""
        rows = item_rows(self.layout, dialogues)
        if self.config.conversations != "none":
            rows += conversation_rows(self.layout, self.network.store, dialogues)
        return rows

    def _schedule(self, name: str, seed: int) -> Schedule:
        epochs = self.config.first_epochs if name == "first" else self.config.epochs
        return replace(Schedule.of(self.config, seed=seed), epochs=epochs)

    def _stage(self, name: str, rows: Sequence[Sought | Asked], judged: Sequence[Example], run: Run, seed: int) -> None:
        """Train on the rows that the stage learns from; parameters are chosen by recall on valid."""
        network = self.network
        network.begin_stage(first=name == "first")
        rows, schedule = network.learnt(rows), self._schedule(name, seed)
        run.say(f"{name} stage: {what_it_takes(network, rows, schedule)}")
        by_valid = name == "first" or self.config.chosen_by == "valid"
        finds = bool(judged) and by_valid and "items" in network.weights
        self.logs[name] = fit(
            network, rows, schedule, run, validate=(lambda: self._validate(judged)) if judged else None,
            choose="recall" if finds else "", name=name,
        )  # fmt: skip
        self._index = None
        self.voice.forget()

    def stages(
        self, dialogues: Sequence[Dialogue], seed: int
    ) -> list[tuple[str, ReficrNetwork, list[Sought | Asked], Schedule]]:
        """Both stages: name, network, rows and schedule; the second without what is mined."""
        sought = self._sought(dialogues)
        asked = answer_rows(self.layout, FitData(dialogues), self.network.store, None, np.random.default_rng(seed))
        rows: dict[str, list[Sought | Asked]] = {"first": [*sought], "second": [*sought, *asked]}
        made = []
        for name in rows:
            if self._schedule(name, seed).epochs:
                self.network.begin_stage(first=name == "first")
                made.append((name, self.network, self.network.learnt(rows[name]), self._schedule(name, seed)))
        return made

    def _validate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Recall of what is found, without ranking, over all labels of the valid turns."""
        self._index = None
        ranks: list[np.ndarray] = []
        for start in range(0, len(examples), 256):
            chunk = examples[start : start + 256]
            found, _ = self.index.search(self.encode_queries([e.context for e in chunk]), 50)
            ranks += [
                metrics.ranks(row, self.catalogue.vocabulary.nums(e.targets))
                for e, row in zip(chunk, found, strict=True)
            ]
        return metrics.recall_figures(ranks)

    def _finish(self, data: FitData, judged: Sequence[Example]) -> None:
        """Everything that is known once the weights are: vectors, popularity, threshold, weights of evidence."""
        self.popularity = Popularity.fit(self.catalogue, data.train).counts.astype(np.float64)
        self.store = Store.of(self.network.store, self.network.vectors(self.network.conversations).numpy())
        turns = [e for d in data.valid for e in cut(d, with_items=False)]
        if "answers" in self.network.weights and turns:
            margins = np.concatenate([self._margins([e.context for e in part]) for part in self._parts(turns)])
            self.threshold = best_threshold(margins, [bool(e.targets) for e in turns])
            annotated = [e for d in data.annotated_valid for e in cut(d, with_items=False) if e.response.acts]
            if annotated:
                shares = np.array([m.likelihoods for m in self.manage([e.context for e in annotated])])
                for num, act in enumerate(ACTS[1:], start=1):
                    gold = [act in e.response.acts for e in annotated]
                    self.thresholds[act] = best_threshold(shares[:, num], gold)
        if self.config.blended and judged:
            self._weigh(judged)

    def _weigh(self, judged: Sequence[Example]) -> None:
        """Fit the weights of evidence on valid turns, spread over the split."""
        chosen = judged[:: max(1, len(judged) // _JUDGED)]
        targets = [list(dict.fromkeys(self.catalogue.vocabulary.nums(e.targets).tolist())) for e in chosen]
        chosen, targets = zip(*[(e, t) for e, t in zip(chosen, targets, strict=True) if t], strict=True)
        given = np.concatenate([self._evidence([e.context for e in part]) for part in self._parts(chosen)])
        self.blend = blending.fitted(given, targets, self.blend)
        if self.ranking not in ("none", "random") and "answers" in self.network.weights:
            pairs = []
            for part in self._parts(chosen):
                contexts = [e.context for e in part]
                near = self._neighbours(contexts)
                nums, base, own = self._ordered(contexts, self._found(contexts, near)[0], near)
                pairs += [(n, np.stack([b, o], axis=1)) for n, b, o in zip(nums, base, own, strict=True)]
            inside = [[int(np.flatnonzero(n == x)[0]) for x in t if x in n] for (n, _), t in zip(pairs, targets,
                                                                                             strict=True)]  # fmt: skip
            kept = [(p[1], i) for p, i in zip(pairs, inside, strict=True) if i]
            if kept:
                self.order_weights = blending.fitted(np.stack([p for p, _ in kept]), [i for _, i in kept], [1.0, 0.0])
            else:
                self.order_weights = np.array([1.0, 0.0])

    def _parts(self, examples: Sequence[Example]) -> Iterable[Sequence[Example]]:
        for start in range(0, len(examples), self.rows_at_once):
            yield examples[start : start + self.rows_at_once]

    def save(self, directory: Path) -> None:
        """Write the trained parameters, the tokenizer, the store, and what backbone they belong to."""
        backbone = self.network.backbone
        save_tensors(self.network.trained(), directory / "weights.safetensors")
        backbone.save_tokenizer(directory / "tokenizer")
        self.store.save(directory, self.catalogue)
        np.save(directory / "popularity.npy", self.popularity, allow_pickle=False)
        record = backbone.describe() | {
            "threshold": self.threshold, "thresholds": self.thresholds, "blend": list(self.blend),
            "order_weights": list(self.order_weights),
        }  # fmt: skip
        (directory / "backbone.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def load(
        cls, directory: Path, catalogue: Catalogue, config: ReficrConfig, *, seed: int = 0, offline: bool = False
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
        model.threshold, model.thresholds = float(record["threshold"]), record["thresholds"]
        model.blend, model.order_weights = np.array(record["blend"]), np.array(record["order_weights"])
        model.popularity = np.load(directory / "popularity.npy", allow_pickle=False)
        model.store = Store.load(directory, catalogue)
        return model

    def on(self, device: str) -> Self:
        """Move to a device."""
        self.network.backbone.on(device)
        self.network.to(device)
        return self

    # ---- items ------------------------------------------------------------------------------------------------

    def encode_items(
        self, catalogue: Catalogue, *, fields: Sequence[str] | None = None, numbers: Sequence[int] | None = None
    ) -> np.ndarray:
        """(N, D) float32 vectors of items, from all of their fields or the named ones; of some items if asked."""
        same = catalogue is self.catalogue and fields is None
        texts = self.network.items if same else self.layout.items(catalogue, fields)
        with memory_errors():
            return self.network.vectors(texts if numbers is None else [texts[n] for n in numbers]).numpy()

    def encode_queries(self, contexts: Sequence[Context]) -> np.ndarray:
        """(B, D) float32: what is searched for in the index."""
        return self._queries("find-item", contexts)

    def _queries(self, instruction: str, contexts: Sequence[Context]) -> np.ndarray:
        self.layout.transcript.remember(turn for c in contexts for turn in c.turns[-64:])
        with memory_errors():
            return self.network.vectors([self.layout.query(instruction, c) for c in contexts]).numpy()

    @property
    def item_digest(self) -> str:
        """Of all that an item's vector depends on: weights, texts, and where they are cut."""
        digest = hashlib.sha256(self.network.backbone.fingerprint.encode())
        for name, parameter in self.network.trained().items():
            digest.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
        digest.update(json.dumps([(t.ids, t.start) for t in self.network.items]).encode())
        return digest.hexdigest()

    @property
    def index(self) -> ItemIndex:
        """Of the catalogue's items; made when it is first needed, unless one was given."""
        if self._index is None:
            ids = self.catalogue.vocabulary.ids
            self._index = ItemIndex(self.encode_items(self.catalogue), ids, self.item_digest, similarity="cosine")
        return self._index

    def use_index(self, index: ItemIndex) -> None:
        """Search an index that was made before.

        Raises:
            ArtifactMissing: it was made from other weights or items.
        """
        index.check(self.item_digest)
        self._index = index

    def without_field(self, name: str) -> None:
        """Read items without one of their fields from now on."""
        fields = [f for f in self.config.fields if f != name]
        vectors = self.encode_items(self.catalogue, fields=fields)
        self._index = ItemIndex(vectors, self.catalogue.vocabulary.ids, f"without {name}", similarity="cosine")

    # ---- a turn: find, order ------------------------------------------------------------------------------------

    @property
    def rows_at_once(self) -> int:
        """How many contexts are read together."""
        lm, config = self.network.backbone.lm.config, self.config
        tokens = 9 * config.prompt_tokens // 4 + config.reply_tokens
        row = tokens * self.network.backbone.width * lm.num_hidden_layers * 2 * 4
        return int(max(1, min(128, _MEMORY.get(self.network.device.type, 5e8) // row)))

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Rank the catalogue: what is found, its first candidates in the order that the ranking gives them."""
        rankings: list[Ranking] = []
        for start in range(0, len(contexts), self.rows_at_once):
            with memory_errors():
                rankings += self._rank(contexts[start : start + self.rows_at_once], k)
        return rankings

    def _rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        similar = self._neighbours(contexts)
        found, scores = self._found(contexts, similar, k)
        near = min(self.candidates, found.shape[1])
        if self.ranking != "none" and near > 1:
            _, base, own = self._ordered(contexts, found, similar)
            mixed = base * self.order_weights[0] + own * self.order_weights[1]
            places = np.argsort(-mixed, axis=1, kind="stable")
            found[:, :near] = np.take_along_axis(found[:, :near], places, axis=1)
            # The candidates keep the scores that their places had: the rest follows below them as it was found.
        return [Ranking(items[:k], row[:k]) for items, row in zip(found, scores, strict=True)]

    def _found(self, contexts: Sequence[Context], near: Neighbours, k: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(B, K) items and scores, the best first, before they are ordered."""
        wanted = min(len(self.catalogue), max(k, self.candidates))
        if not self.config.blended:
            return self.index.search(self.encode_queries(contexts), wanted)
        scores = self._features(contexts, near) @ self.blend.astype(np.float32)
        nums = metrics.top_k(scores, wanted)
        return nums, np.take_along_axis(scores, nums, axis=1)

    def _evidence(self, contexts: Sequence[Context]) -> np.ndarray:
        return self._features(contexts, self._neighbours(contexts))

    def _features(self, contexts: Sequence[Context], neighbours: Neighbours) -> np.ndarray:
        """(B, N, F) evidence for every item."""
        similar = self.index.scores(self.encode_queries(contexts)) / self.config.temperature
        votes = np.zeros_like(similar)
        if neighbours is not None:
            near, alike = neighbours
            weights = np.exp((alike - alike[:, :1]) / self.config.temperature)
            weights /= weights.sum(1, keepdims=True)
            for row, (places, shares) in enumerate(zip(near, weights, strict=True)):
                for place, share in zip(places, shares, strict=True):
                    targets = list(self.store.targets[place])
                    votes[row, targets] += share / len(targets)
        mentioned = [self.catalogue.vocabulary.nums(c.mentions) for c in contexts]
        return blending.features(similar, votes, self.popularity, mentioned)

    def _neighbours(self, contexts: Sequence[Context]) -> Neighbours:
        """(B, M) places in the store, and cosines; None where conversations are left out."""
        if self.conversations == "none" or not len(self.store):
            return None
        return mining.best(self._queries("find-conversation", contexts), self.store.vectors, self.config.neighbours)

    @property
    def stored_targets(self) -> list[tuple[int, ...]]:
        """Item numbers that each stored conversation was recommended."""
        return self.store.targets

    def similar(self, contexts: Sequence[Context], k: int) -> list[list[tuple[int, ...]]]:
        """What the k most similar stored conversations of each context were recommended, the most similar first."""
        found: list[list[tuple[int, ...]]] = []
        for start in range(0, len(contexts), self.rows_at_once):
            queries = self._queries("find-conversation", contexts[start : start + self.rows_at_once])
            near, _ = mining.best(queries, self.store.vectors, k)
            found += [[self.store.targets[place] for place in row] for row in near.tolist()]
        return found

    def _ordered(
        self, contexts: Sequence[Context], found: np.ndarray, neighbours: Neighbours
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(B, K) candidates, what was found of them (their places from 0 down), and what the ranking says of them."""
        near = min(self.candidates, found.shape[1])
        nums = found[:, :near]
        base = np.broadcast_to(-np.log1p(np.arange(near, dtype=np.float64)), nums.shape)
        if self.ranking in ("none", "random"):
            keys = [hashlib.sha256(repr(self.layout.stem(c)).encode()).digest() for c in contexts]
            draws = [np.random.default_rng(list(key)) for key in keys]
            return nums, np.zeros_like(base), np.stack([draw.permutation(near) for draw in draws]).astype(np.float64)
        known: list[tuple[int, ...]] = [()] * len(contexts)
        if neighbours is not None:
            known = [known_of(self.layout, self.store.conversations[int(row[0])]) for row in neighbours[0]]
        scores = self.voice.order(contexts, nums.tolist(), known, self.ranking)  # type: ignore[arg-type]
        return nums, base, np.stack(scores).astype(np.float64)

    # ---- a turn: decide, speak ----------------------------------------------------------------------------------

    def _margins(self, contexts: Sequence[Context]) -> np.ndarray:
        with memory_errors():
            return self.voice.margins(contexts)

    def manage(self, contexts: Sequence[Context], *, why: bool = False) -> list[Managed]:
        """What the next turns should do, and why, if asked."""
        made: list[Managed] = []
        for start in range(0, len(contexts), self.rows_at_once):
            part = contexts[start : start + self.rows_at_once]
            with memory_errors():
                recommend = (self.voice.margins(part) > self.threshold).tolist()
                made += self.voice.manage(part, recommend, self.thresholds, why=why)
        return made

    def _offered(
        self, contexts: Sequence[Context], rankings: Sequence[Ranking], told: Sequence[bool] | None
    ) -> list[list[int]]:
        """The items that each reply is told to name."""
        wanted = (self._margins(contexts) > self.threshold).tolist() if told is None else told
        return [[int(r.item_nums[0])] if w and len(r.item_nums) else [] for w, r in zip(wanted, rankings, strict=True)]

    def respond(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        decoding: Decoding,
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Utterance]:
        """Reply to each context; where the act is to recommend, with the first item of its ranking in the prompt.

        A name inside tags becomes that of the ranked item that it names, else of the next one: no reply recommends
        what was not ranked. `recommend` decides in the model's place; an oracle, for measurements alone.
        """
        made: list[Utterance] = []
        for start in range(0, len(contexts), self.rows_at_once):
            part = slice(start, start + self.rows_at_once)
            told = None if recommend is None else recommend[part]
            offers = self._offered(contexts[part], rankings[part], told)
            with memory_errors():
                replies = self.voice.reply(contexts[part], self._names(offers), decoding)
            made += [
                prompts.spoken(self.catalogue, text, ranking, recommends=bool(offer))
                for text, ranking, offer in zip(replies, rankings[part], offers, strict=True)
            ]
        return made

    def _names(self, offers: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[self.catalogue[n].name for n in offer] for offer in offers]

    def likelihoods(
        self,
        contexts: Sequence[Context],
        rankings: Sequence[Ranking],
        responses: Sequence[Turn],
        *,
        recommend: Sequence[bool] | None = None,
    ) -> list[Likelihood]:
        """How likely the responses are to the model, given its own act and its own first item; the end is counted."""
        made: list[Likelihood] = []
        for start in range(0, len(contexts), self.rows_at_once):
            part = slice(start, start + self.rows_at_once)
            told = None if recommend is None else recommend[part]
            offers = self._offered(contexts[part], rankings[part], told)
            rows = [self.layout.reply(turn) for turn in responses[part]]
            with memory_errors():
                nats = self.voice.likelihoods(contexts[part], self._names(offers), rows)
            texts = [" ".join(self.network.backbone.text(row[:-1]).split()) for row in rows]
            made += [Likelihood(n, len(row), text) for n, row, text in zip(nats, rows, texts, strict=True)]
        return made


def with_mined(rows: Sequence[Sought], mined: Mined) -> list[Sought]:
    """Rows with the negatives that were mined for them."""
    of = {"item": mined.items, "conversation": mined.conversations}
    return [replace(row, mined=tuple(of[row.kind].get(row.name, ()))) for row in rows]


def _corpus(catalogue: Catalogue, dialogues: Sequence[Dialogue], config: ReficrConfig) -> Iterable[str]:
    """All texts of train and of the items, for a tokenizer."""
    for dialogue in dialogues:
        for turn in dialogue.turns:
            yield prompts.PREFIXES[turn.role] + turn.text
    yield from prompts.fixed()
    for item in catalogue:
        yield item.text(config.fields, cast=CAST)
