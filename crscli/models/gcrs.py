"""G-CRS: a walk over the graph of train dialogues and what they name finds items and like dialogues; no training.

With an endpoint, a language model chooses among the items that were found, with the like dialogues as examples.
Source: G-CRS (2025), whose code is not published: a bipartite graph of conversations and entities, personalised
PageRank r = alpha p + (1 - alpha) A D^-1 r. Differs: the entities that a dialogue names are the walk's start, without
the paper's trained reasoner; items are tied to their genres and people as well (`metadata`).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp

from crscli import metrics
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Turn, merge_turns
from crscli.genres import canonical
from crscli.labels import order_of
from crscli.llm import Completer, Message, Request
from crscli.llm.questions import dialogue_text, item_text, order_request
from crscli.progress import Progress, silent
from crscli.recommender import FitData, Ranking, Reason
from crscli.signals.mentions import Popularity
from crscli.wishes import WishReader

_AT_ONCE = 32_000_000
"""Numbers that the walks of contexts together may hold."""
_SHOWN_TURNS = 4
_LEAST = {1: "iterations candidates context_characters max_tokens", 0: "demonstrations debias metadata_weight"}


@dataclass(frozen=True)
class GcrsConfig:
    """Settings of gcrs."""

    alpha: float = 0.15
    """How likely the walk begins anew at each step."""
    iterations: int = 50
    """Steps of the power iteration."""
    decay: float = 0.85
    """Weight of a mention relative to the next newer one."""
    metadata_weight: float = 0.3
    """Of an edge between an item and its genre or person, beside 1 for one of a conversation; 0 leaves them out."""
    debias: float = 0.3
    """Power of an item's rank without a start by which its own is divided: popular items are reached from anywhere."""
    candidates: int = 20
    """Items that a language model chooses among."""
    demonstrations: int = 3
    """Like dialogues that it is shown."""
    context_characters: int = 4000
    """Of the dialogue that it is shown: the newest whole turns."""
    max_tokens: int = 256
    """Of its answer."""

    def __post_init__(self) -> None:
        for least, named in _LEAST.items():
            for name in named.split():
                if getattr(self, name) < least:
                    raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 < self.alpha < 1 or not 0 < self.decay <= 1:
            raise ValueError("alpha lies between 0 and 1, decay above 0 and at most at 1")


class Gcrs:
    """Ranks by a walk; asks a language model where one was given."""

    tasks: frozenset[Literal["rank"]] = frozenset({"rank"})
    config_class = GcrsConfig
    needs_llm: ClassVar[bool] = False
    rows_at_once = 256

    def __init__(
        self, catalogue: Catalogue, graph: "_Graph", counts: np.ndarray, told: Sequence[Mapping[str, Any]],
        config: GcrsConfig,
    ) -> None:  # fmt: skip
        self.catalogue, self.graph, self.counts, self.told, self.config = catalogue, graph, counts, list(told), config
        self._reader = WishReader(p for i in catalogue for p in (*i.cast, *i.directors, *i.writers))
        start = np.zeros((1, len(graph.names)))
        start[0, : len(catalogue)] = 1 / max(1, len(catalogue))
        everywhere = graph.walks(start, config.alpha, config.iterations)[0, : len(catalogue)]
        self._usual = np.maximum(everywhere, everywhere[everywhere > 0].min(initial=1.0)) ** config.debias
        self._llm: Completer | None = None
        self._tally: Counter[str] = Counter()

    @classmethod
    def fit(
        cls, catalogue: Catalogue, data: FitData, config: GcrsConfig, *, seed: int = 0, progress: Progress = silent
    ) -> Self:
        """Tie dialogues to what they name, and items to their genres and people."""
        reader = WishReader(p for i in catalogue for p in (*i.cast, *i.directors, *i.writers))
        dialogues = list(data.learnable)
        named = []
        for num, dialogue in enumerate(dialogues):
            named.append(_named(merge_turns(dialogue.turns), reader))
            progress("reading dialogues", num + 1, len(dialogues))
        graph = _Graph.of(catalogue, named, config.metadata_weight)
        return cls(catalogue, graph, Popularity.fit(catalogue, dialogues).counts, list(map(_told, dialogues)), config)

    def save(self, directory: Path) -> None:
        """Write graph, counts and what may be shown of the dialogues."""
        self.graph.save(directory)
        np.save(directory / "counts.npy", self.counts, allow_pickle=False)
        with (directory / "told.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(told, ensure_ascii=False) + "\n" for told in self.told)

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: GcrsConfig) -> Self:
        """Read what `save` wrote."""
        with (directory / "told.jsonl").open(encoding="utf-8", newline="\n") as file:
            told = [json.loads(line) for line in file]
        counts = np.load(directory / "counts.npy", allow_pickle=False)
        return cls(catalogue, _Graph.load(directory), counts, told, config)

    # ---- walking ----------------------------------------------------------------------------------------------

    def _starts(self, contexts: Sequence[Context]) -> np.ndarray:
        """(B, V) where each walk begins: what is named, the newest weighs most; nothing where nothing is known."""
        starts = np.zeros((len(contexts), len(self.graph.names)))
        for row, context in enumerate(contexts):
            for place, name in enumerate(dict.fromkeys(reversed(_named(context.turns, self._reader)))):
                if (num := self.graph.number.get(name)) is not None:
                    starts[row, num] = self.config.decay**place
        total = starts.sum(1, keepdims=True)
        return np.divide(starts, total, out=starts, where=total > 0)

    def _walked(self, contexts: Sequence[Context]) -> np.ndarray:
        """(B, V + C) how often each entity and conversation is met."""
        return self.graph.walks(self._starts(contexts), self.config.alpha, self.config.iterations)

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """Items by how often they are met; those that are never met by popularity."""
        rankings: list[Ranking] = []
        step = max(1, _AT_ONCE // max(1, self.graph.size))
        for start in range(0, len(contexts), step):
            rankings += self._rank(contexts[start : start + step], k)
        return rankings

    def _rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        met = self._walked(contexts)
        scores = met[:, : len(self.catalogue)] / self._usual
        least = np.where(scores > 0, scores, np.inf).min(1, keepdims=True, initial=1.0)
        # Below everything that was met.
        scores = np.where(scores > 0, scores, least * 1e-3 * self.counts / max(1.0, self.counts.max(initial=1.0)))
        scores = (scores / scores.max(1, keepdims=True).clip(min=1e-300)).astype(np.float32)
        nums = metrics.top_k(scores, max(k, self.config.candidates if self._llm else 0))
        found = np.take_along_axis(scores, nums, axis=1)
        if self._llm is not None:
            nums = self._chosen(contexts, nums, met)
        return [Ranking(items[:k], row[:k]) for items, row in zip(nums, found, strict=True)]

    def similar(self, contexts: Sequence[Context], k: int) -> list[list[tuple[int, ...]]]:
        """What the k dialogues that are met most often were recommended, the first first."""
        near = metrics.top_k(self._walked(contexts)[:, len(self.graph.names) :].astype(np.float32), k)
        return [[self.stored_targets[c] for c in row] for row in near.tolist()]

    @cached_property
    def stored_targets(self) -> list[tuple[int, ...]]:
        """Item numbers that each train dialogue was recommended."""
        return [tuple(self.catalogue.vocabulary.nums(told["items"]).tolist()) for told in self.told]

    def explain(self, context: Context, item_nums: Sequence[int]) -> list[tuple[Reason, ...]]:
        """For each item how much of its walks began at each thing that was named."""
        start = self._starts([context])[0]
        begun = np.flatnonzero(start)
        if not len(begun):
            return [(Reason("popularity", "", 1.0),) for _ in item_nums]
        alone = np.zeros((len(begun), len(start)))
        alone[np.arange(len(begun)), begun] = start[begun]
        met = self.graph.walks(alone, self.config.alpha, self.config.iterations)
        reasons = []
        for item in item_nums:
            shares = met[:, item] / max(met[:, item].sum(), 1e-300)
            order = np.argsort(-shares, kind="stable")[:3]
            own = [(_reason(self.graph.names[begun[n]], item), float(shares[n])) for n in order if shares[n] > 0]
            named = [Reason(kind, evidence, min(share, 1.0)) for (kind, evidence), share in own]
            reasons.append(tuple(named) or (Reason("popularity", "", 1.0),))
        return reasons

    # ---- asking -----------------------------------------------------------------------------------------------

    def use_llm(self, llm: Completer) -> None:
        """Let a language model choose among what is found; what `facts` tells begins anew."""
        self._llm = llm
        self._tally.clear()

    def facts(self) -> dict[str, float | int]:
        """What its answers were like."""
        answers = self._tally["answers"]
        return {
            "answers": answers,
            "complete_share": self._tally["complete"] / answers if answers else 0.0,
            "unparsable_answers": self._tally["unparsable"],
            "invented_labels": self._tally["invented"],
        }

    def _chosen(self, contexts: Sequence[Context], nums: np.ndarray, met: np.ndarray) -> np.ndarray:
        """(B, K) the same items, those that the model names first."""
        assert self._llm is not None, "it was given"
        near = metrics.top_k(met[:, len(self.graph.names) :].astype(np.float32), self.config.demonstrations)
        shown = [[self.catalogue[n] for n in row[: self.config.candidates]] for row in nums]
        asked = [self._request(c, s, row) for c, s, row in zip(contexts, shown, near.tolist(), strict=True)]
        orders = []
        for row, items, answer in zip(nums, shown, self._llm.complete(asked), strict=True):
            order = order_of(answer.text, items)
            self._tally.update(
                answers=1, complete=len(order.labels) == len(items), unparsable=not order.labels,
                invented=order.invented,
            )  # fmt: skip
            first = row[[label - 1 for label in order.labels]] if order.labels else row[:0]
            orders.append(np.concatenate([first, row[~np.isin(row, first)]]))
        return np.stack(orders)

    def _request(self, context: Context, items: Sequence[Item], near: Sequence[int]) -> Request:
        """The candidates and the dialogue, and before them what was recommended in like dialogues."""
        config = self.config
        texts = [item_text(item, ("name", "genres", "directors", "cast"), 0) for item in items]
        request = order_request(dialogue_text(context, config.context_characters), texts, config.max_tokens)
        like = []
        for place in near:
            told = self.told[place]
            turns = tuple(Turn(role, text) for role, text in told["turns"])
            titles = ", ".join(self.catalogue.item(i).name for i in told["items"] if i in self.catalogue)
            said_then = dialogue_text(Context(turns), config.context_characters // 4)
            like.append(f"<dialogue>\n{said_then}\n</dialogue>\nRecommended there: {titles}")
        if not like:
            return request
        system, user = request.messages
        before = "Like dialogues, as examples of what such seekers were recommended:\n\n" + "\n\n".join(like)
        return Request((system, Message("user", f"{before}\n\nNow the dialogue itself:\n\n{user.content}")),
                       max_tokens=config.max_tokens)  # fmt: skip


def _named(turns: Sequence[Turn], reader: WishReader) -> list[str]:
    """Names of what turns speak of, in their order: "item:7", "genre:horror", "person:Ann Lee"."""
    found: list[str] = []
    for num, turn in enumerate(turns):
        found += [f"{link.kind}:{link.id}" for link in turn.links if link.opinion != "disliked"]
        if turn.role == "seeker":
            before = turns[num - 1] if num and turns[num - 1].role != "seeker" else None
            wishes = reader.of_turn(turn, before)
            found += [f"{w.kind}:{w.value}" for w in wishes if w.wanted and w.kind in ("genre", "person")]
    return found


def _told(dialogue: Dialogue) -> dict[str, Any]:
    """What may be shown of a train dialogue, and what was recommended there."""
    turns = merge_turns(dialogue.turns)
    items = list(dict.fromkeys(i for turn in turns if turn.role == "recommender" for i in turn.items))
    return {"items": items, "turns": [[turn.role, turn.text] for turn in turns[:_SHOWN_TURNS]]}


def _reason(name: str, item: int) -> tuple[Literal["mention", "name", "request"], str]:
    kind, _, value = name.partition(":")
    return ("mention" if kind == "item" else "name" if kind == "person" else "request"), value


class _Graph:
    """Entities, the catalogue's items first, then conversations, and a matrix whose columns each sum to one."""

    def __init__(self, names: Sequence[str], matrix: sp.csr_array) -> None:
        self.names, self.matrix = list(names), matrix
        self.number = {name: num for num, name in enumerate(self.names)}
        self.size = matrix.shape[0]

    @classmethod
    def of(cls, catalogue: Catalogue, named: Sequence[Iterable[str]], metadata_weight: float) -> Self:
        """Tie each conversation to what it names, once however often, and items to what their metadata name."""
        names = [f"item:{item.item_id}" for item in catalogue]
        number = {name: num for num, name in enumerate(names)}
        about = [_about(item) if metadata_weight else [] for item in catalogue]
        for name in (n for listed in (*named, *about) for n in listed):
            number.setdefault(name, len(number))
        edges = [
            (number[name], len(number) + num, 1.0) for num, listed in enumerate(named) for name in dict.fromkeys(listed)
        ]
        edges += [
            (num, number[name], metadata_weight) for num, listed in enumerate(about) for name in dict.fromkeys(listed)
        ]
        size = len(number) + len(named)
        one, other, weight = (np.array(part) for part in zip(*edges, strict=True)) if edges else np.zeros((3, 0))
        rows, columns = (np.concatenate(pair).astype(np.int64) for pair in ((one, other), (other, one)))
        whole = sp.coo_array((np.concatenate([weight, weight]), (rows, columns)), shape=(size, size)).tocsr()
        degree = np.asarray(whole.sum(axis=0)).ravel()
        scale = np.divide(1.0, degree, out=np.zeros(size), where=degree > 0)
        return cls(list(number), sp.csr_array(whole @ sp.diags(scale), dtype=np.float32))

    def walks(self, starts: np.ndarray, alpha: float, iterations: int) -> np.ndarray:
        """(B, V + C) of (B, V) starts: r = alpha p + (1 - alpha) A D^-1 r, so often repeated; a row by itself."""
        begin = np.zeros((self.size, len(starts)), dtype=np.float32)
        begin[: starts.shape[1]] = starts.T
        met = begin
        for _ in range(iterations):
            met = np.float32(alpha) * begin + np.float32(1 - alpha) * (self.matrix @ met)
        return met.T

    def save(self, directory: Path) -> None:
        """Write names and matrix."""
        (directory / "entities.json").write_text(json.dumps(self.names, ensure_ascii=False), encoding="utf-8")
        parts = {"data": self.matrix.data, "indices": self.matrix.indices, "indptr": self.matrix.indptr}
        np.savez_compressed(directory / "graph.npz", allow_pickle=False, **parts)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        names = json.loads((directory / "entities.json").read_text(encoding="utf-8"))
        with np.load(directory / "graph.npz", allow_pickle=False) as stored:
            size = len(stored["indptr"]) - 1
            matrix = sp.csr_array((stored["data"], stored["indices"], stored["indptr"]), shape=(size, size))
        return cls(names, matrix)


def _about(item: Item) -> list[str]:
    """Names of an item's genres and people, as dialogues name them."""
    genres = [canonical(name) for name in item.genres]
    return [*(f"genre:{g}" for g in genres), *(f"person:{p}" for p in (*item.directors, *item.cast[:5]))]
