"""A small network that finds items by mentions, words and what is known of items: one softmax over all of them.

A context and an item each are a sum of vectors; the score is the product of the two sums. An item's vectors are its
own and those of its genres, people, companies, keywords, years, title words and plot words, so that an item that
hardly any dialogue names is found by what it shares with others. A mention is read as the item, and a word as what it
names ("tom hanks", "horror", "80s"), besides having vectors of their own.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import ROLES, Context, Dialogue, Example, cut, merge_turns
from crscli.errors import MachineError
from crscli.genres import canonical, said
from crscli.progress import Progress, silent
from crscli.signals.talk import Lexicon, Talk, rows_of_length_1, scaled, sparse, tokens

_STATES = (5, 16, 7)
"""Columns for the items recommended before, the turns, and the items mentioned; the last of each is "or more"."""
_LEAST = {"title": 2, "person": 2, "company": 2, "keyword": 2, "plot": 3}
"""A feature of fewer items tells nothing that the item's own vector does not."""
_COMMON_IN_ITEMS = 0.1
_COMMON_IN_DIALOGUES = 0.5
_SPREAD = 0.02
_DECAY = 0.8
"""Weight of a mention against the next newer one."""
_MASKED = -1e9
_BLOCK = 512  # rows that stay in the cache


@dataclass(frozen=True)
class RetrieverSettings:
    """Chosen on ReDial's validation split.

    `members` networks of `width` are averaged; `asked` is how much a word weighs as what it names, `plot` a word of an
    item's plot, `seeker_turns` a row whose response is a seeker's, `sequences` one without text; the biases start at
    `popularity` of the log counts.
    """

    width: int = 128
    members: int = 3
    epochs: int = 3
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    dropout: float = 0.4
    word_dropout: float = 0.2
    mention_dropout: float = 0.1
    asked: float = 2.0
    plot: float = 0.5
    seeker_turns: float = 0.5
    sequences: float = 0.5
    popularity: float = 0.8


@dataclass
class Network:
    """Vectors: `reader` (P, d) of the inputs, `items` (N + F, d) of the items and their features, `bias` (N,)."""

    reader: np.ndarray
    items: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Design:
    """`composed` (N, N + F): the vectors an item is the sum of; `read_as` (P, N + F): those an input stands for."""

    composed: sp.csr_array
    read_as: sp.csr_array


@dataclass
class Batch:
    """`inputs` (B, P) after dropout; `wanted` (B, N) each target's share of the row's weight; `masked` rows and items
    that are no answer; `kept` (B, d) 0 for what is dropped of a context, else the scale of what is not.
    """

    inputs: sp.csr_array
    wanted: sp.csr_array
    masked: tuple[np.ndarray, np.ndarray]
    kept: np.ndarray


def loss_and_gradients(network: Network, design: Design, batch: Batch) -> tuple[float, Network, np.ndarray]:
    """The cross-entropy of a batch, its gradients, and the rows that the gradient of `reader` holds (others are 0)."""
    read_as = sp.csr_array(batch.inputs @ design.read_as)
    items = design.composed @ network.items
    context = (batch.inputs @ network.reader + read_as @ network.items) * batch.kept
    scores = context @ items.T + network.bias
    scores[batch.masked] = _MASKED
    scores -= scores.max(axis=1, keepdims=True)
    wanted = batch.wanted.tocoo()
    at_wanted = scores[wanted.row, wanted.col]
    np.exp(scores, out=scores)
    total = scores.sum(axis=1)
    loss = float((wanted.data * (np.log(total[wanted.row]) - at_wanted)).sum())
    scores *= (np.asarray(batch.wanted.sum(axis=1)).ravel() / total)[:, None]
    scores[wanted.row, wanted.col] -= wanted.data
    to_context = (scores @ items) * batch.kept
    to_items = design.composed.T @ (scores.T @ context) + read_as.T @ to_context
    used, places = np.unique(batch.inputs.indices, return_inverse=True)
    small = sp.csr_array((batch.inputs.data, places, batch.inputs.indptr), shape=(len(context), len(used)))
    return loss, Network(small.T @ to_context, to_items, scores.sum(axis=0)), used


class Retriever:
    """Fitted on dialogues; `scores` gives log-probabilities of all items.

    Shapes: V terms of the lexicon, N items, F features that items share, P inputs (2 N mentions by who named them
    first, 4 V words by where they stand, states of the dialogue), d width.

    Source: two towers under one softmax (Covington et al., RecSys 2016), items as sums of features (Kula, 2015).
    """

    def __init__(self, lexicon: Lexicon, idf: np.ndarray, network: Network, losses: list[float]) -> None:
        """Args: network with `items` (N, members d) and `reader` (P, members d) added up; losses of its epochs."""
        self.lexicon = lexicon
        self.idf = idf
        self.network = network
        self.losses = losses

    @classmethod
    def fit(
        cls,
        lexicon: Lexicon,
        dialogues: Sequence[Dialogue],
        *,
        seed: int = 0,
        settings: RetrieverSettings | None = None,
        progress: Progress = silent,
    ) -> "Retriever":
        """Learn which items a turn names anew from what stands before it; dialogues without text count as well.

        Raises:
            MachineError: the vectors did not stay finite.
        """
        s = settings or RetrieverSettings()
        whole = [replace(d, turns=merge_turns(d.turns) if _has_text(d) else d.turns) for d in dialogues]
        rows = [pair for d in whole for pair in _rows(d, lexicon.catalogue, s)]
        # The whole dialogues hold the same turns, so that the words of each are counted once.
        talk = Talk([*(Context(d.turns) for d in whole), *(example.context for example, _ in rows)], lexicon)
        idf = _idf(talk, len(whole))
        inputs = sp.csr_array(_inputs(talk, idf)[len(whole) :])
        learning = _Learning(inputs, _wanted(rows, lexicon.catalogue), _design(lexicon, s), s)
        labels = [f"learning to retrieve, {num + 1} of {s.members}" for num in range(s.members)]
        runs = [learning.run(seed * s.members + num, label, progress) for num, label in enumerate(labels)]
        members, losses = [member for member, _ in runs], [loss for _, lost in runs for loss in lost]
        vectors = np.hstack([m.reader for m in members]), np.hstack([m.items for m in members]) / s.members
        # Half precision is what is saved: a loaded retriever then scores like the fitted one.
        reader, items = (array.astype(np.float16).astype(np.float32) for array in vectors)
        return cls(lexicon, idf, Network(reader, items, np.mean([m.bias for m in members], axis=0)), losses)

    def scores(self, talk: Talk) -> np.ndarray:
        """Log-probabilities (B, N) float32 of all items, those mentioned before among them."""
        context = _inputs(talk, self.idf) @ self.network.reader
        scores = context @ self.network.items.T + self.network.bias
        scores -= scores.max(axis=1, keepdims=True, initial=_MASKED)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return scores

    def save(self, directory: Path) -> None:
        """Write the vectors in half precision."""
        arrays: dict[str, Any] = {"idf": self.idf, "bias": self.network.bias, "losses": np.array(self.losses)}
        arrays |= {name: getattr(self.network, name).astype(np.float16) for name in ("reader", "items")}
        np.savez(directory / "retriever.npz", **arrays)

    @classmethod
    def load(cls, directory: Path, lexicon: Lexicon) -> "Retriever":
        """Read what `save` wrote."""
        with np.load(directory / "retriever.npz", allow_pickle=False) as stored:
            network = Network(*(stored[name].astype(np.float32) for name in ("reader", "items", "bias")))
            return cls(lexicon, stored["idf"], network, stored["losses"].tolist())


# ---- contexts -------------------------------------------------------------------------------------------------


def _inputs(talk: Talk, idf: np.ndarray) -> sp.csr_array:
    """Contexts as rows (B, P): mentions sum to 1, each bag of words has length 1, states are ones."""
    size, count = len(talk.contexts), len(talk.lexicon.catalogue)
    newest = talk.weighted(_DECAY)
    totals = np.asarray(newest.sum(axis=1)).ravel()
    mentions = scaled(newest, 1.0 / np.where(totals > 0, totals, 1.0)).tocoo()
    pairs = zip(mentions.row.tolist(), mentions.col.tolist(), strict=True)
    by = np.array([talk.mentions[row][item][0][1] for row, item in pairs], dtype=np.int64)
    named = sparse(mentions.row, mentions.col + count * by, (size, 2 * count), mentions.data)
    last = _newest([span[-1:] for span in talk.spans], talk)
    answer = _newest([[t for t in span if talk.role[t]][-1:] for span in talk.spans], talk)
    bags = [_bag(sp.csr_array(turns @ talk.words), idf) for turns in (talk.seeker, talk.recommender, last, answer)]
    facts = (talk.recommended, [len(span) for span in talk.spans], [len(seen) for seen in talk.mentions])
    states = [
        sparse(range(size), np.minimum(np.array(fact, dtype=np.int64), width - 1), (size, width))
        for fact, width in zip(facts, _STATES, strict=True)
    ]
    return sp.csr_array(sp.hstack([named, *bags, *states], format="csr"))


def _bag(counts: sp.csr_array, idf: np.ndarray) -> sp.csr_array:
    """Tf-idf of length 1 with the logarithm of the counts."""
    counts.data = 1 + np.log(counts.data)
    bag = sp.csr_array(counts @ sp.diags_array(idf))
    bag.eliminate_zeros()
    return rows_of_length_1(bag)


def _newest(chosen: Sequence[Sequence[int]], talk: Talk) -> sp.csr_array:
    """The chosen turns of each context: (B, T)."""
    places = [(row, turn) for row, turns in enumerate(chosen) for turn in turns]
    return sparse([r for r, _ in places], [t for _, t in places], (len(talk.contexts), len(talk.turns)))


def _idf(talk: Talk, whole: int) -> np.ndarray:
    """Log of dialogues with text by those that use a term, in the first contexts; 0 for too common ones: (V,)."""
    words = sp.csr_array((sp.csr_array(talk.seeker + talk.recommender) @ talk.words)[:whole])
    texts, used = int((np.diff(words.indptr) > 0).sum()), np.bincount(words.indices, minlength=words.shape[1])
    return np.where(
        (used > 0) & (used <= _COMMON_IN_DIALOGUES * texts), np.log(max(texts, 1) / np.maximum(used, 1)), 0.0
    ).astype(np.float32)


# ---- what there is to learn from ------------------------------------------------------------------------------


def _has_text(dialogue: Dialogue) -> bool:
    return any(turn.text for turn in dialogue.turns)


def _rows(dialogue: Dialogue, catalogue: Catalogue, s: RetrieverSettings) -> Iterator[tuple[Example, float]]:
    """Turns that name something new, and their weights; every single mention is a turn where there is no text."""
    text = _has_text(dialogue)
    for example in cut(dialogue, merge=text, speakers=ROLES):
        known = set(example.context.mentions)
        fresh = tuple(dict.fromkeys(i for i in example.targets if i in catalogue and i not in known))
        if fresh:
            weight = 1.0 if example.response.role == "recommender" else s.seeker_turns
            yield replace(example, targets=fresh), weight * (1.0 if text else s.sequences)


def _wanted(rows: Sequence[tuple[Example, float]], catalogue: Catalogue) -> sp.csr_array:
    """The targets (R, N), each with its share of the row's weight; the mean weight is 1."""
    mean = sum(weight for _, weight in rows) / max(len(rows), 1)
    places = [
        (row, num, weight / mean / len(example.targets))
        for row, (example, weight) in enumerate(rows)
        for num in catalogue.vocabulary.nums(example.targets).tolist()
    ]
    return _sparse(places, (len(rows), len(catalogue)))


def _sparse(places: Sequence[tuple[int, int, float]], shape: tuple[int, int]) -> sp.csr_array:
    rows, columns, values = zip(*places, strict=True) if places else ((), (), ())
    return sparse(rows, columns, shape, values)


def _features_of(item: Item, title: Sequence[str]) -> set[tuple[str, str]]:
    """Kinds and values, such as ("genre", "horror")."""
    found = {("title", word) for word in title} | {("plot", word) for word in tokens(item.plot)}
    found |= {("genre", canonical(genre)) for genre in item.genres}
    found |= {("person", name.lower()) for name in (*item.directors, *item.cast, *item.writers)}
    found |= {("company", name.lower()) for name in item.companies}
    found |= {("keyword", word.lower()) for word in item.keywords}
    return found | ({("year", str(item.year)), ("decade", str(item.year // 10))} if item.year else set())


def _terms_for(kind: str, value: str) -> set[str]:
    """The terms that name a feature; those of genres are known to `genres.said`."""
    if kind == "genre":
        return set()
    if kind == "decade":
        return {f"{value}0s", f"{value}0's", f"{value[-1]}0s", f"{value[-1]}0's"}
    words = tokens(value)
    return {" ".join(words), *(words[:1] if kind == "company" else ())}


def _design(lexicon: Lexicon, s: RetrieverSettings) -> Design:
    """What items are composed of, and what mentions and terms are read as."""
    count, known = len(lexicon.catalogue), lexicon.vocabulary
    found = [_features_of(item, words) for item, words in zip(lexicon.catalogue, lexicon.title_words, strict=True)]
    used = Counter(feature for features in found for feature in features)
    most = dict.fromkeys(("title", "plot"), _COMMON_IN_ITEMS * count)
    kept = sorted(f for f, n in used.items() if _LEAST.get(f[0], 1) <= n <= most.get(f[0], count))
    # The items themselves stand in front of the features.
    column = {feature: count + num for num, feature in enumerate(kept)}
    width = count + len(kept)
    shared = [
        (item, column[f], s.plot if f[0] == "plot" else 1.0)
        for item, features in enumerate(found)
        for f in sorted(features & column.keys())
    ]
    composed = _sparse([*((item, item, 1.0) for item in range(count)), *shared], (count, width))
    named = {(known[term], num) for f, num in column.items() for term in _terms_for(*f) if term in known}
    genres = {(num, ("genre", span.genre)) for term, num in known.items() for span in said(term)}
    named |= {(num, column[genre]) for num, genre in genres if genre in column}
    asked = _sparse([(term, num, s.asked) for term, num in sorted(named)], (len(known), width))
    nothing = sp.csr_array(asked.shape, dtype=np.float32)
    states = sp.csr_array((sum(_STATES), width), dtype=np.float32)
    # In the order of _inputs: what the seeker says and what was said last may ask for something.
    read_as = sp.vstack([composed, composed, asked, nothing, asked, nothing, states], format="csr")
    return Design(composed, sp.csr_array(read_as))


# ---- learning -------------------------------------------------------------------------------------------------


@dataclass
class _Learning:
    """All rows: `inputs` (R, P), `wanted` (R, N)."""

    inputs: sp.csr_array
    wanted: sp.csr_array
    design: Design
    settings: RetrieverSettings

    # Threads that wait for each other on busy cores would double the time.
    @threadpool_limits.wrap(limits=1, user_api="blas")
    def run(self, seed: int, label: str, progress: Progress) -> tuple[Network, list[float]]:
        """A network with `reader` and `items` (N, d) added up, and the mean loss of each epoch.

        Adam with one cycle of the learning rate, on the inputs that a batch has and on all items.
        """
        s, rng = self.settings, np.random.default_rng(seed)
        network = self._start(rng)
        reader, items, bias = (_Adam(array) for array in (network.reader, network.items, network.bias))
        size = self.inputs.shape[0]
        total, step, losses = s.epochs * -(-size // s.batch), 0, []
        for _ in range(s.epochs if size else 0):
            order, lost = rng.permutation(size), 0.0
            for start in range(0, size, s.batch):
                rows = order[start : start + s.batch]
                loss, gradients, used = loss_and_gradients(network, self.design, self._batch(rows, rng))
                lost += loss * len(rows) / size
                step += 1
                rate = s.learning_rate * _one_cycle(step / total)
                reader.step(gradients.reader, rate, s.weight_decay, used)
                items.step(gradients.items, rate, s.weight_decay)
                bias.step(gradients.bias, rate, 0.0)
                progress(label, step, total)
            losses.append(lost)
        if not np.isfinite(losses).all():
            raise MachineError("learning to retrieve diverged: the loss is not finite", "lower learning_rate")
        added = network.reader + self.design.read_as @ network.items
        return Network(added, self.design.composed @ network.items, network.bias), losses

    def _start(self, rng: np.random.Generator) -> Network:
        """Small random vectors, so that nothing but the popularity speaks at first."""
        s, counts = self.settings, np.asarray(self.wanted.sum(axis=0)).ravel()
        sizes = [(count, s.width) for count in self.design.read_as.shape]
        reader, items = (rng.standard_normal(size, dtype=np.float32) * np.float32(_SPREAD) for size in sizes)
        return Network(reader, items, (s.popularity * np.log(counts + 0.5)).astype(np.float32))

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        s, inputs = self.settings, sp.csr_array(self.inputs[rows])
        count, states = self.wanted.shape[1], self.inputs.shape[1] - sum(_STATES)
        columns, of_row = inputs.indices, np.repeat(np.arange(len(rows)), np.diff(inputs.indptr))
        mention = columns < 2 * count
        masked = of_row[mention], columns[mention] % count
        rates = np.where(mention, s.mention_dropout, np.where(columns < states, s.word_dropout, 0.0))
        inputs.data = inputs.data * ((rng.random(len(rates)) >= rates) / (1 - rates)).astype(np.float32)
        inputs.eliminate_zeros()
        kept = rng.random((len(rows), s.width), dtype=np.float32) >= s.dropout
        wanted = sp.csr_array(self.wanted[rows]) * np.float32(1 / len(rows))
        return Batch(inputs, wanted, masked, kept / np.float32(1 - s.dropout))


def _one_cycle(done: float) -> float:
    """Up over the first 30 % of the steps, then down along a cosine (Smith & Topin 2017)."""
    return done / 0.3 if done < 0.3 else 0.5 * (1 + float(np.cos(np.pi * (done - 0.3) / 0.7)))


class _Adam:
    """Kingma & Ba, ICLR 2015, with decoupled decay (Loshchilov & Hutter 2019); changes `weights` in place."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights
        self.first, self.second = np.zeros_like(weights), np.zeros_like(weights)
        self.count = 0

    def step(self, gradient: np.ndarray, rate: float, decay: float, rows: np.ndarray | None = None) -> None:
        """Args: gradient of all rows, or of the given ones; the others stay as they are."""
        self.count += 1
        rate_now = rate / (1 - 0.9**self.count)
        for block in (slice(start, start + _BLOCK) for start in range(0, len(gradient), _BLOCK)):
            chosen, slope = block if rows is None else rows[block], gradient[block]
            first, second, weights = self.first[chosen], self.second[chosen], self.weights[chosen]
            first += 0.1 * (slope - first)
            second += 0.001 * (slope * slope - second)
            self.first[chosen], self.second[chosen] = first, second
            weights *= 1 - rate * decay
            weights -= rate_now * first / (np.sqrt(second / (1 - 0.999**self.count)) + 1e-8)
            self.weights[chosen] = weights
