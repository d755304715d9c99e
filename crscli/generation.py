"""Batched decoding of token sequences: greedy, beam search, diverse beam search, and three ways to sample.

Knows token ids, logits and a state that can be advanced; no tokenizers, models or dialogues.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from crscli.decoding import Decoding
from crscli.repeats import Repeats

_BLOCK = 64
"""Neighbouring logits of which only the maximum is looked at first."""
_CACHED = 2**18
"""How many logits a core's cache holds with what they become on the way."""


class State(Protocol):
    """R token sequences and what a model keeps of them, as a cache of keys and values."""

    def advance(self, token_ids: Tensor) -> Tensor:
        """Append one token to each row: (R,) int64 to logits (R, V) of the next token.

        The caller may change them; the next call may overwrite them.
        """
        ...

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows: (R',) int64."""
        ...


@torch.inference_mode()
def decode(
    state: State,
    logits: Tensor,
    decoding: Decoding,
    *,
    stop: Collection[int],
    banned: Collection[int] = (),
    keys: Sequence[int] | None = None,
    before: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """The token ids of each row's reply, without the stop token, at most `decoding.max_tokens` of them.

    Nothing here mixes rows: a reply depends on the row's own logits, its key and the seed, never on its batch mates
    or its place. Rows that are finished leave the state before it is advanced.

    greedy takes the likeliest token (of equal ones the lowest id); top-k draws among the k likeliest; nucleus draws
    from the smallest set of likeliest tokens that has probability `p` at the least. The beam methods return the best
    hypothesis of the row; that of a diverse beam search is the best over its groups, by the scores the search went by.

    Args:
        state: holds the B rows as they are before the reply.
        logits: (B, V) of the first token; not changed.
        stop: tokens that end a reply.
        banned: tokens that are never produced; the others share their probability.
        keys: (B,) integers, needed where the method samples. Equal rows with equal keys get equal replies.
        before: (B,) token ids that were read: their n-grams count where `decoding.no_repeat` bans repeated ones. The
            ban is lifted where it leaves a row no token.

    Raises:
        ValueError: all tokens are banned; no keys for a method that samples; another number of keys or of texts that
            were read than rows.

    Source: beam and beam-sampling follow `GenerationMixin._beam_search` of transformers 5 with early_stopping=False;
        log-probabilities differ where tokens are banned (suppress_tokens leaves the others as they are) or would repeat
        something (no_repeat_ngram_size does so unless renormalize_logits=True).
        Diverse beam search: Vijayakumar et al., AAAI 2018, Algorithm 1 with Hamming diversity; as in transformers 4,
        the penalty stays in a hypothesis's score, and tokens that ended a hypothesis are not counted.
        Top-k: Fan et al., ACL 2018. Nucleus: Holtzman et al., ICLR 2020.
    """
    if len(set(banned)) >= logits.shape[1]:
        raise ValueError(f"all {logits.shape[1]} tokens are banned")
    if decoding.samples and (keys is None or len(keys) != len(logits)):
        given = "no" if keys is None else len(keys)
        raise ValueError(f"{decoding.method} draws from each row's own key: {given} keys for {len(logits)} rows")
    if before is not None and len(before) != len(logits):
        raise ValueError(f"{len(before)} texts that were read for {len(logits)} rows")
    repeats = None
    if decoding.no_repeat:
        repeats = Repeats(decoding.no_repeat, [()] * len(logits) if before is None else before, logits.device)
    feed = _Feed(state, logits, banned, repeats)
    # A counter-based generator takes seed and key as they are: no two pairs share their numbers.
    own = [int(key) % 2**64 for key in keys] if decoding.samples and keys is not None else []
    seeds = [np.array([decoding.seed, key], dtype=np.uint64) for key in own]
    draws = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
    if not len(logits):
        return []
    ends = np.array(sorted(set(stop)), dtype=np.int64)
    return _Search(feed, decoding, ends, draws).run() if decoding.searches else _walk(feed, decoding, ends, draws)


class _Feed:
    """A state with its logits as the methods read them: float32, and banned tokens and repeats impossible."""

    def __init__(self, state: State, logits: Tensor, banned: Collection[int], repeats: Repeats | None) -> None:
        self._state, self._repeats = state, repeats
        self._banned = torch.tensor(sorted(set(banned)), dtype=torch.int64, device=logits.device)
        self.logits = self._allowed(logits.detach().clone() if banned or repeats else logits.detach())

    def step(self, rows: np.ndarray, tokens: np.ndarray) -> None:
        """Go on with these rows of the state, (R',), each with its token appended."""
        device = self.logits.device
        chosen, appended = torch.from_numpy(rows), torch.from_numpy(tokens).to(device)
        if not np.array_equal(rows, np.arange(len(self.logits))):
            self._state.select(chosen.to(device))
        if self._repeats:
            self._repeats.go_on(chosen.to(device), appended)
        self.logits = self._allowed(self._state.advance(appended))

    def _allowed(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if len(self._banned):
            logits = logits.index_fill_(1, self._banned, -torch.inf)
        return self._repeats.ban(logits) if self._repeats else logits


def _walk(feed: _Feed, decoding: Decoding, stop: np.ndarray, draws: Sequence[np.random.Generator]) -> list[list[int]]:
    """One hypothesis a row, one token at a time."""
    replies: list[list[int]] = [[] for _ in range(len(feed.logits))]
    numbers = np.stack([draw.random(decoding.max_tokens) for draw in draws]) if draws else np.empty((len(replies), 0))
    rows = np.arange(len(replies))
    for step in range(decoding.max_tokens):
        tokens = _next(feed.logits, decoding, numbers[rows, step : step + 1]).cpu().numpy()
        going = np.flatnonzero(~np.isin(tokens, stop))
        for row, token in zip(rows[going].tolist(), tokens[going].tolist(), strict=True):
            replies[row].append(token)
        if not len(going) or step + 1 == decoding.max_tokens:
            break
        rows = rows[going]
        feed.step(going, tokens[going])
    return replies


def _next(logits: Tensor, decoding: Decoding, numbers: np.ndarray) -> Tensor:
    """(R,) tokens by each row's number in [0, 1), (R, 1)."""
    if decoding.method == "greedy":
        return logits.argmax(-1)
    uniform = torch.from_numpy(numbers).to(logits.device)
    if decoding.method == "top-k":
        values, ids = (best.flip(-1) for best in _top(logits, decoding.k))
        return ids.gather(1, _drawn(values / decoding.temperature, 1.0, uniform))[:, 0]
    rows = _rows_at_once(logits)
    parts = zip(logits.split(rows), uniform.split(rows), strict=True)
    return torch.cat([_from_nucleus(some, decoding, number) for some, number in parts])


def _from_nucleus(logits: Tensor, decoding: Decoding, uniform: Tensor) -> Tensor:
    """(R,) tokens drawn by each row's number."""
    # Sorting values alone is many times faster than sorting with ids, and on a CPU NumPy has the vectorised sort.
    if logits.device.type == "cpu":
        values = torch.from_numpy(np.sort(logits.numpy(), axis=-1))
    else:
        values = logits.sort(-1).values
    place = _drawn(values / decoding.temperature, decoding.p, uniform)
    value = values.gather(1, place)
    first, past = (torch.searchsorted(values, value, right=right) for right in (False, True))
    same = (logits == value).nonzero()[:, 1]  # all rows' ids of that value, one row after the other
    before = (past - first).cumsum(0) - (past - first)
    return same[before + past - 1 - place][:, 0]  # of equal values the lower id stands higher


def _drawn(scores: Tensor, p: float, uniform: Tensor) -> Tensor:
    """(R, 1) places drawn from the top of softmax(scores) that has mass p; scores (R, K) rise along a row."""
    below = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
    total = below[:, -1:]
    # The first place with mass above p at the top is kept too: what lies over it has not yet reached p.
    cut = torch.searchsorted(below, (total - p).clamp(min=0), right=True)
    out = torch.where(cut > 0, below.gather(1, (cut - 1).clamp(min=0)), 0.0)
    place = torch.searchsorted(below, out + uniform * (total - out), right=True)
    return place.clamp(max=scores.shape[1] - 1)  # the sum may round up to the total


def _top(logits: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n highest values of each row and their ids, (R, n) each, best first; all of a shorter row.

    They lie in the n blocks with the highest maxima, and maxima are several times cheaper than a selection.
    """
    size = logits.shape[1]
    blocks = size // _BLOCK
    if n > blocks // 4:
        return _largest(logits, min(n, size))
    whole = blocks * _BLOCK
    highest = _largest(logits[:, :whole].unflatten(1, (blocks, _BLOCK)).amax(2), n)[1]
    ids = (highest[:, :, None] * _BLOCK + torch.arange(_BLOCK, device=logits.device)).flatten(1)
    rest = torch.arange(whole, size, device=logits.device).expand(len(logits), -1)
    ids = torch.cat([ids, rest], 1)
    values, places = _largest(logits.gather(1, ids), n)
    return values, ids.gather(1, places)


def _largest(values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n highest of each row and their places, best first."""
    if values.device.type != "cpu":
        return values.topk(n)
    # NumPy's selection is vectorised, and several times as fast as topk.
    places = torch.from_numpy(np.argpartition(values.numpy(), values.shape[1] - n, axis=1)[:, -n:])
    best, order = values.gather(1, places).sort(descending=True)
    return best, places.gather(1, order)


def _rows_at_once(logits: Tensor) -> int:
    """How many rows a CPU's cache holds: what several passes need goes nearly twice as fast in such parts."""
    return max(1, _CACHED // logits.shape[1]) if logits.device.type == "cpu" else len(logits)


class _Search:
    """Beam search in units: a unit is a group of W beams of one row, with a pool of its own, and leaves by itself.

    What is known of the beams lies on the host, few numbers each; a step brings their best extensions there.
    """

    def __init__(self, feed: _Feed, decoding: Decoding, stop: np.ndarray, draws: Sequence[np.random.Generator]) -> None:
        self.feed, self.decoding, self.stop, self.draws = feed, decoding, stop, draws
        self.groups = decoding.groups if decoding.method == "diverse-beam" else 1
        self.width = decoding.beams // self.groups
        self.count = self.width * (1 + max(1, len(stop)))  # each beam may end in each stop token, and W are to go on
        self.replies: list[list[int]] = [[] for _ in range(len(feed.logits))]
        self.best = np.full(len(self.replies), -np.inf)
        # Of each unit (U,): its row and group; the scores of what it finished, worst first (U, W).
        self.rows = np.repeat(np.arange(len(self.replies)), self.groups)
        self.group = np.tile(np.arange(self.groups), len(self.replies))
        self.pool = np.full((len(self.rows), self.width), -np.inf)
        # Of each beam (U, W), one before the first token: its row in the state, its score, its tokens (U, W, T).
        self.places = self.rows[:, None]
        self.scores = np.zeros(self.places.shape)
        self.texts = np.empty((*self.places.shape, 0), dtype=np.int64)

    def run(self) -> list[list[int]]:
        """The best hypothesis of each row."""
        for length in range(1, self.decoding.max_tokens + 1):
            scores, parents, tokens = self._candidates()
            ends = np.isin(tokens, self.stop)
            last = length == self.decoding.max_tokens
            self._finish(np.where(ends | last, scores, -np.inf), parents, np.where(ends, -1, tokens), length)
            if last or not self._go_on(np.where(ends, -np.inf, scores), parents, tokens, length):
                break
        return self.replies

    def _candidates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, parent beams and tokens of each unit's extensions, (U, count) each, best first."""
        taken = np.full((len(self.replies), self.groups, self.width), -1)  # what groups go on with at this step
        kept, ids = self._extensions()
        size = kept.shape[1]
        scores = (kept[self.places] + self.scores[:, :, None]).reshape(len(self.rows), -1)
        tokens = ids[self.places].reshape(scores.shape)
        ranks = np.empty((len(self.rows), self.count), dtype=np.int64)
        for group in range(self.groups):
            units = np.flatnonzero(self.group == group)
            earlier = taken[self.rows[units], :group].reshape(len(units), 1, group * self.width)
            scores[units] -= self.decoding.diversity * (tokens[units, :, None] == earlier).sum(-1)
            ranks[units] = self._ranked(scores[units], self.rows[units])
            chosen = np.take_along_axis(tokens[units], ranks[units], 1)
            taken[self.rows[units], group] = np.take_along_axis(chosen, self._going(chosen), 1)
        return np.take_along_axis(scores, ranks, 1), ranks // size, np.take_along_axis(tokens, ranks, 1)

    def _extensions(self) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities and ids of the tokens that may extend each row of the state, (R, n) each, best first."""
        logits = self.feed.logits
        # Each choice of an earlier group can push down one token: so many more hold all that may come to stand first.
        n = self.decoding.k if self.draws else self.count + self.width * (self.groups - 1)
        values, ids = _top(logits, n)
        # As logsumexp, which is half as fast. By the likeliest token: any other may be impossible.
        parts = zip(*(every.split(_rows_at_once(logits)) for every in (logits, ids[:, :1])), strict=True)
        likeliest = torch.cat([some.log_softmax(-1).gather(1, best) for some, best in parts])
        values = values - (values[:, :1] - likeliest)
        if self.draws:
            values = values / self.decoding.temperature
        padding = ((0, 0), (0, max(0, self.count - values.shape[1])))  # impossible ones, where there are too few
        return (
            np.pad(values.cpu().numpy().astype(np.float64), padding, constant_values=-np.inf),
            np.pad(ids.cpu().numpy(), padding),
        )

    def _ranked(self, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Places of the `count` candidates to look at, (U, count), best first; scores (U, M)."""
        if not self.draws:
            return np.argsort(-scores, axis=1, kind="stable")[:, : self.count]
        # The highest scores after Gumbel noise are a draw without replacement from their softmax.
        noise = np.stack([self.draws[row].gumbel(size=scores.shape[1]) for row in rows])
        drawn = np.argsort(-(scores + noise), axis=1, kind="stable")[:, : self.count]
        order = np.argsort(-np.take_along_axis(scores, drawn, 1), axis=1, kind="stable")
        return np.take_along_axis(drawn, order, 1)

    def _going(self, tokens: np.ndarray) -> np.ndarray:
        """Places of the first W candidates that do not end, (U, W)."""
        return np.argsort(np.isin(tokens, self.stop), axis=1, kind="stable")[:, : self.width]

    def _finish(self, scores: np.ndarray, parents: np.ndarray, tokens: np.ndarray, length: int) -> None:
        """Take the finished among the first W candidates into the pools; the others have score -inf."""
        finished = scores[:, : self.width] / length**self.decoding.length_penalty
        for unit in np.flatnonzero(finished.max(1) > self.best[self.rows]):
            row, beam = self.rows[unit], finished[unit].argmax()
            if finished[unit, beam] > self.best[row]:  # another group of the row may have passed it just now
                self.best[row] = finished[unit, beam]
                text = [*self.texts[unit, parents[unit, beam]], tokens[unit, beam]]
                self.replies[row] = [int(token) for token in text if token >= 0]
        self.pool = np.sort(np.concatenate([self.pool, finished], 1), axis=1)[:, -self.width :]

    def _go_on(self, scores: np.ndarray, parents: np.ndarray, tokens: np.ndarray, length: int) -> bool:
        """Advance the best W candidates of each unit that can still better its pool; whether there is one."""
        going = self._going(tokens)
        scores, parents, tokens = (np.take_along_axis(found, going, 1) for found in (scores, parents, tokens))
        units = np.flatnonzero(scores[:, 0] / length**self.decoding.length_penalty > self.pool[:, 0])
        if not len(units):
            return False
        parents, tokens, self.scores = parents[units], tokens[units], scores[units]
        self.rows, self.group, self.pool = self.rows[units], self.group[units], self.pool[units]
        self.texts = np.concatenate([self.texts[units[:, None], parents], tokens[:, :, None]], 2)
        self.feed.step(self.places[units[:, None], parents].ravel(), tokens.ravel())
        self.places = np.arange(tokens.size).reshape(tokens.shape)
        return True
