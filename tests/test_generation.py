import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from crscli.decoding import REFERENCE, TABLE_8, Decoding
from crscli.generation import _top, decode

pytestmark = pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")

METHODS = [*dict.fromkeys(TABLE_8), REFERENCE, Decoding("beam", beams=1), Decoding("diverse-beam", groups=4)]


class Chain:
    """The next token's logits are a row of a table that all tokens of the history choose together."""

    def __init__(self, table, starts):
        self.table = table
        self.place = torch.as_tensor(starts)
        self.advanced = []
        self.selected = 0

    @property
    def logits(self):
        return self.table[self.place]

    def advance(self, token_ids):
        assert token_ids.shape == self.place.shape
        self.advanced.append(len(token_ids))
        self.place = (self.place * 31 + token_ids + 1) % len(self.table)
        return self.logits

    def select(self, rows):
        self.place = self.place[rows]
        self.selected += 1


def a_table(places=997, size=40, spread=2.0, seed=0, liked=None):
    table = torch.randn(places, size, generator=torch.Generator().manual_seed(seed)) * spread
    if liked is not None:
        table[:, liked] += 1.0 * spread
    return table


def from_chain(table, starts, decoding, stop=(0,), **options):
    if decoding.samples:
        options.setdefault("keys", range(len(starts)))
    state = Chain(table, starts)
    return decode(state, state.logits, decoding, stop=stop, **options)


class Cached:
    """A language model with its keys and values."""

    def __init__(self, model, prompts):
        self.model = model
        self.cache = DynamicCache(config=model.config)
        self.logits = self.run(prompts)

    def run(self, ids):
        return self.model(ids, past_key_values=self.cache, use_cache=True).logits[:, -1]

    def advance(self, token_ids):
        return self.run(token_ids[:, None])

    def select(self, rows):
        self.cache.reorder_cache(rows)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=60, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def prompts():
    return torch.randint(1, 60, (10, 5), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def common(model, prompts):
    """Tokens of unstopped replies, the most frequent first."""
    texts = by_model(model, prompts, Decoding("beam", max_tokens=12), stop=())
    return [token for token, _ in Counter(itertools.chain(*texts)).most_common()]


def by_transformers(model, prompts, decoding, stop, **options):
    out = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=decoding.max_tokens,
        eos_token_id=list(stop),
        pad_token_id=min(stop),
        early_stopping=False,
        **options,
    )
    texts = out[:, prompts.shape[1] :].tolist()
    return [list(itertools.takewhile(lambda token: token not in stop, text)) for text in texts]


def by_model(model, prompts, decoding, **options):
    with torch.no_grad():
        state = Cached(model, prompts)
    return decode(state, state.logits, decoding, **options)


# ---- the same tokens as others find -----------------------------------------------------------------------------


STOPS = pytest.mark.parametrize("stops", [slice(1), slice(1, 3), slice(3, 6)])


@STOPS
def test_greedy_takes_the_tokens_of_transformers(model, prompts, common, stops):
    decoding, stop = Decoding(max_tokens=12), set(common[stops])
    wanted = by_transformers(model, prompts, decoding, stop, num_beams=1, do_sample=False)
    assert {len(text) < 12 for text in wanted} == {True, False}
    assert by_model(model, prompts, decoding, stop=stop) == wanted


@STOPS
@pytest.mark.parametrize(
    ("beams", "length_penalty"), [(2, 1.0), (2, 2.0), (4, 1.0), (4, 0.0), (4, -1.0), (5, 1.0), (5, 2.0)]
)
def test_beam_search_finds_the_tokens_of_transformers(model, prompts, common, beams, length_penalty, stops):
    decoding, stop = Decoding("beam", beams=beams, length_penalty=length_penalty, max_tokens=12), set(common[stops])
    options = {"num_beams": beams, "length_penalty": length_penalty, "do_sample": False}
    wanted = by_transformers(model, prompts, decoding, stop, **options)
    assert any(len(text) < 12 for text in wanted)
    assert by_model(model, prompts, decoding, stop=stop) == wanted


@STOPS
@pytest.mark.parametrize("method", ["greedy", "beam"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_repeated_ngrams_are_banned_as_by_transformers(model, prompts, common, method, n, stops):
    decoding, stop = Decoding(method, max_tokens=12, no_repeat=n), set(common[stops])
    options = {"num_beams": decoding.beams if decoding.searches else 1, "do_sample": False}
    wanted = by_transformers(model, prompts, decoding, stop, no_repeat_ngram_size=n, renormalize_logits=True, **options)
    found = by_model(model, prompts, decoding, stop=stop, before=prompts.tolist())
    assert found == wanted
    assert n == 3 or found != by_model(model, prompts, replace(decoding, no_repeat=0), stop=stop)


def slow_search(table, start, decoding, stop, allowed=lambda text, logits: logits):
    """Diverse beam search of one row, group after group and hypothesis after hypothesis."""
    groups = decoding.groups if decoding.method == "diverse-beam" else 1
    width = decoding.beams // groups
    running = [[(0.0, [], start)] for _ in range(groups)]
    pools = [[] for _ in range(groups)]
    for length in range(1, decoding.max_tokens + 1):
        chosen = Counter()
        for group in range(groups):
            found = []
            for score, text, place in running[group]:
                log_probs = allowed(text, table[place]).double().log_softmax(-1).tolist()
                for token, log_prob in enumerate(log_probs):
                    after = (place * 31 + token + 1) % len(table)
                    total = score + log_prob - decoding.diversity * chosen[token]
                    found.append((total, [*text, token], after))
            found.sort(key=lambda one: -one[0])
            for score, text, _ in found[:width]:
                if text[-1] in stop or length == decoding.max_tokens:
                    ended = text[:-1] if text[-1] in stop else text
                    pools[group].append((score / length**decoding.length_penalty, ended))
            pools[group] = sorted(pools[group], key=lambda one: -one[0])[:width]
            running[group] = [one for one in found if one[1][-1] not in stop][:width]
            chosen.update(text[-1] for _, text, _ in running[group])
            best = max((score / length**decoding.length_penalty for score, _, _ in running[group]), default=0.0)
            if len(pools[group]) == width and best <= pools[group][-1][0]:
                running[group] = []
    return max(itertools.chain(*pools), key=lambda one: one[0])[1]


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding("beam", beams=4, max_tokens=8),
        Decoding("beam", beams=3, max_tokens=8, length_penalty=0.3),
        Decoding("diverse-beam", beams=4, groups=2, diversity=0.0, max_tokens=8),
        Decoding("diverse-beam", beams=4, groups=2, diversity=0.5, max_tokens=8),
        Decoding("diverse-beam", beams=4, groups=4, diversity=1.5, max_tokens=8),
        Decoding("diverse-beam", beams=6, groups=3, diversity=0.7, max_tokens=8, length_penalty=2.0),
        Decoding("diverse-beam", beams=6, groups=2, diversity=30.0, max_tokens=8, length_penalty=-1.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("stop", [{5}, {5, 9}])
def test_searches_equal_a_slow_loop(decoding, stop):
    table = a_table(spread=1.0, liked=5)
    wanted = [slow_search(table, start, decoding, stop) for start in range(25)]
    assert len({len(text) for text in wanted}) > 1
    assert from_chain(table, range(25), decoding, stop) == wanted


def test_groups_change_what_is_found():
    table = a_table(spread=1.0, liked=5)
    diversities = [Decoding("diverse-beam", diversity=d, max_tokens=8, length_penalty=2.0) for d in (0.0, 0.5, 1.5)]
    texts = [from_chain(table, range(40), decoding, {5}) for decoding in diversities]
    assert texts[0] == from_chain(table, range(40), Decoding("beam", beams=2, max_tokens=8, length_penalty=2.0), {5})
    assert texts[0] != texts[1] != texts[2] != texts[0]


@pytest.mark.parametrize("beams", [1, 3])
def test_searches_and_draws_over_a_large_vocabulary(beams):
    table = a_table(places=7, size=5003, spread=1.0, liked=5000)
    decoding = Decoding("beam", beams=beams, max_tokens=4)
    assert from_chain(table, range(5), decoding, {1}) == [slow_search(table, s, decoding, {1}) for s in range(5)]
    logits = torch.randn(50, 5003, generator=torch.Generator().manual_seed(3))
    logits[:20, 640:660] += 9.0  # all of the best in one block
    logits[20:30, -11:] += 9.0  # in what is left beside the blocks
    for n in (1, 15, 19, 20, 300):
        values, ids = _top(logits, n)
        wanted = logits.topk(n)
        assert torch.equal(values, wanted.values)
        assert torch.equal(ids, wanted.indices)


def test_of_equally_likely_tokens_the_lowest_id_is_taken():
    logits = torch.zeros(2, 6)
    logits[0, [4, 2]] = 1.0
    logits[1, [5, 1, 3]] = 1.0
    assert decode(Chain(logits, [0, 1]), logits, Decoding(max_tokens=1), stop=[0]) == [[2], [1]]


# ---- the probabilities that are asked for -----------------------------------------------------------------------


def fits(counts, probabilities):
    """Pearson's statistic lies within five of its standard deviations, and nothing impossible happened."""
    total = sum(counts.values())
    assert counts.keys() <= {outcome for outcome, p in probabilities.items() if p > 0}
    assert math.isclose(sum(probabilities.values()), 1, abs_tol=1e-5)
    statistic = sum((counts[o] - total * p) ** 2 / (total * p) for o, p in probabilities.items() if p > 0)
    freedom = sum(p > 0 for p in probabilities.values()) - 1
    return statistic < freedom + 5 * math.sqrt(2 * max(freedom, 1))


def filtered(logits, decoding):
    """What a token is drawn from, by id."""
    p = (logits.double() / decoding.temperature).softmax(-1).tolist()
    order = sorted(range(len(p)), key=lambda token: -p[token])
    if decoding.method == "top-k":
        kept = order[: decoding.k]
    else:
        sums = list(itertools.accumulate(p[token] for token in order))
        kept = order[: 1 + sum(s < decoding.p for s in sums[:-1])]
    mass = sum(p[token] for token in kept)
    return {token: p[token] / mass for token in kept}


DRAWS = 20_000


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding("top-k", k=1),
        Decoding("top-k", k=10, temperature=1.3),
        Decoding("top-k", k=99),
        Decoding("nucleus", p=0.9),
        Decoding("nucleus", p=0.5, temperature=0.7),
        Decoding("nucleus", p=1.0),
        Decoding("nucleus", p=0.01),
    ],
    ids=str,
)
def test_drawn_tokens_have_the_filtered_probabilities(decoding):
    logits = torch.randn(30, generator=torch.Generator().manual_seed(5)) * 1.5
    table = logits.expand(1, -1)
    texts = from_chain(table, [0] * DRAWS, replace(decoding, max_tokens=1), stop=())
    probabilities = filtered(logits, decoding)
    counts = Counter(text[0] for text in texts)
    assert fits(counts, probabilities)
    if len(probabilities) > 1:  # the bound can tell: a temperature that is a tenth off does not pass
        other = filtered(logits, replace(decoding, temperature=decoding.temperature * 1.1))
        assert counts.keys() != other.keys() or not fits(counts, other)


def test_equal_logits_are_drawn_equally_often():
    logits = torch.tensor([1.0, 3.0, 1.0, 3.0, 1.0, 3.0, -9.0])
    texts = from_chain(logits.expand(1, -1), [0] * DRAWS, Decoding("nucleus", p=0.97, max_tokens=1), stop=())
    assert fits(Counter(text[0] for text in texts), filtered(logits, Decoding("nucleus", p=0.97)))
    texts = from_chain(logits.expand(1, -1), [0] * DRAWS, Decoding("nucleus", p=0.5, max_tokens=1), stop=())
    assert fits(Counter(text[0] for text in texts), {1: 0.5, 3: 0.5})  # 0.29 each: two reach a half
    texts = from_chain(torch.zeros(1, 4), [0] * DRAWS, Decoding("nucleus", p=0.5, max_tokens=1), stop=())
    assert fits(Counter(text[0] for text in texts), {0: 0.5, 1: 0.5})  # two are a half: no third is needed


def test_later_tokens_are_drawn_independently():
    logits = torch.randn(5, generator=torch.Generator().manual_seed(6))
    texts = from_chain(logits.expand(1, -1), [0] * DRAWS, Decoding("nucleus", p=1.0, max_tokens=2), stop=())
    p = logits.double().softmax(-1).tolist()
    assert fits(Counter(map(tuple, texts)), {(a, b): p[a] * p[b] for a in range(5) for b in range(5)})


def test_the_first_draw_of_beam_sampling_is_one_without_replacement():
    logits = torch.randn(9, generator=torch.Generator().manual_seed(8))
    decoding = Decoding("beam-sampling", beams=2, k=6, temperature=1.4, max_tokens=1)
    p = filtered(logits, Decoding("top-k", k=6, temperature=1.4))
    wanted = Counter()
    for drawn in itertools.permutations(p, 4):
        left, chance = 1.0, 1.0
        for token in drawn:
            chance *= p[token] / left
            left -= p[token]
        wanted[max(drawn, key=p.get)] += chance
    texts = from_chain(logits.expand(1, -1), [0] * DRAWS, decoding, stop=())
    assert fits(Counter(text[0] for text in texts), wanted)


def test_beam_sampling_draws_the_texts_of_transformers_as_often(model, prompts):
    decoding = Decoding("beam-sampling", beams=2, k=6, temperature=1.5, max_tokens=3)
    many = prompts[:1].expand(6000, -1)
    torch.manual_seed(0)
    theirs = by_transformers(
        model, many, decoding, {7}, do_sample=True, num_beams=2, top_k=6, top_p=1.0, temperature=1.5
    )
    ours = by_model(model, many, decoding, stop={7}, keys=range(6000))
    theirs, ours = Counter(map(tuple, theirs)), Counter(map(tuple, ours))
    often = [text for text, count in (theirs + ours).items() if count >= 20]
    assert len(often) > 15
    statistic = sum((theirs[t] - ours[t]) ** 2 / (theirs[t] + ours[t]) for t in often)
    assert statistic < len(often) + 5 * math.sqrt(2 * len(often))


# ---- what holds for every method --------------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", METHODS, ids=str)
def test_a_reply_depends_on_its_row_alone(decoding):
    table, starts, keys = a_table(spread=1.0, liked=0), np.arange(9) * 7, np.arange(9) + 100
    together = from_chain(table, starts, decoding, keys=keys)
    assert len({len(text) for text in together}) > 2
    assert len(set(map(tuple, together))) > 5
    order = np.random.default_rng(0).permutation(9)
    shuffled = from_chain(table, starts[order], decoding, keys=keys[order])
    assert [together[row] for row in order] == shuffled
    for row in range(9):
        assert from_chain(table, starts[[row]], decoding, keys=keys[[row]]) == [together[row]]


@pytest.mark.parametrize("decoding", METHODS, ids=str)
def test_a_reply_of_a_language_model_depends_on_its_row_alone(model, prompts, decoding):
    decoding = replace(decoding, max_tokens=10)
    together = by_model(model, prompts, decoding, stop={7}, keys=range(10))
    halves = [by_model(model, prompts[s], decoding, stop={7}, keys=range(10)[s]) for s in (slice(4), slice(4, 10))]
    assert together == halves[0] + halves[1]


@pytest.mark.parametrize("decoding", [d for d in METHODS if d.samples], ids=str)
def test_seed_and_key_make_the_draw(decoding):
    table, starts = a_table(), range(6)
    texts = from_chain(table, starts, decoding)
    assert from_chain(table, starts, decoding) == texts
    assert from_chain(table, starts, replace(decoding, seed=1)) != texts
    assert from_chain(table, starts, decoding, keys=range(6, 12)) != texts
    equal = from_chain(table, [3] * 20, decoding, keys=[-1] * 10 + list(range(10)))
    assert equal[:10] == equal[:1] * 10
    assert len(set(map(tuple, equal))) > 5
    for keys in (None, range(5)):
        with pytest.raises(ValueError, match="keys for 6 rows"):
            decode(Chain(table, starts), table[:6], decoding, stop=(), keys=keys)


@pytest.mark.parametrize("decoding", METHODS, ids=str)
def test_banned_tokens_never_occur_and_the_others_share_their_probability(decoding):
    table = a_table(size=12)
    kept, starts = table.clone(), range(30)
    banned = {1, 3, 4, 10}
    texts = from_chain(table, starts, decoding, banned=banned)
    tokens = set(itertools.chain(*texts))
    assert tokens
    assert not tokens & (banned | {0})
    assert torch.equal(table, kept)
    low = table.clone()
    low[:, list(banned)] = -1e9
    assert from_chain(low, starts, decoding) == texts
    state = Chain(table, starts)
    logits = state.logits
    decode(state, logits, decoding, stop=[0], banned=banned, keys=range(30))
    assert torch.equal(logits, kept[:30])
    with pytest.raises(ValueError, match="all 12 tokens are banned"):
        from_chain(table, starts, decoding, banned=range(12))


@pytest.mark.parametrize("decoding", METHODS, ids=str)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_vocabulary_smaller_than_the_beams_suffices(decoding, size):
    table = a_table(size=size)
    texts = from_chain(table, range(10), decoding, stop=[0], banned=[1])
    assert set(itertools.chain(*texts)) <= set(range(2, size))
    assert len(texts) == 10


@pytest.mark.parametrize("decoding", METHODS, ids=str)
def test_a_certain_stop_gives_an_empty_reply_and_advances_nothing(decoding):
    table = a_table()
    table[:, 4] = 1e4
    state = Chain(table, range(5))
    assert decode(state, state.logits, decoding, stop=[4], keys=range(5)) == [[]] * 5
    assert sum(state.advanced) == 0 or decoding.searches  # other beams run until the pool is full or cannot be bettered
    assert decode(Chain(table, []), table[:0], decoding, stop=[4], keys=[]) == []


@pytest.mark.parametrize("decoding", METHODS, ids=str)
@pytest.mark.parametrize("tokens", [1, 7])
def test_no_reply_is_longer_than_it_may_be(decoding, tokens):
    decoding = replace(decoding, max_tokens=tokens)
    state = Chain(a_table(), range(5))
    texts = decode(state, state.logits, decoding, stop=(), keys=range(5))
    assert [len(text) for text in texts] == [tokens] * 5
    beams = decoding.beams if decoding.searches else 1
    assert state.advanced == [5 * beams] * (tokens - 1)
    assert state.selected == 0 or beams > 1  # no copies where all rows go on as they are


@pytest.mark.parametrize("method", ["greedy", "top-k", "nucleus"])
def test_finished_rows_leave(method):
    state = Chain(a_table(liked=0, spread=1.0), range(30))
    texts = decode(state, state.logits, Decoding(method, max_tokens=15), stop=[0], keys=range(30))
    lengths = np.array([len(text) for text in texts])
    assert {0, 15} & set(lengths)
    assert state.advanced == [n for n in (int((lengths >= t).sum()) for t in range(1, 15)) if n]


@pytest.mark.parametrize("method", ["beam", "diverse-beam", "beam-sampling"])
def test_rows_that_cannot_be_bettered_leave(method):
    decoding = Decoding(method, max_tokens=15)
    state = Chain(a_table(liked=0, spread=1.0), range(30))
    texts = decode(state, state.logits, decoding, stop=[0], keys=range(30))
    together = state.advanced
    alone = np.zeros(len(together), dtype=int)
    for row in range(30):
        state = Chain(a_table(liked=0, spread=1.0), [row])
        assert decode(state, state.logits, decoding, stop=[0], keys=[row]) == [texts[row]]
        alone[: len(state.advanced)] += state.advanced
    assert together == alone.tolist()
    assert together[0] == 120
    assert together[-1] < 120


@pytest.mark.parametrize("decoding", METHODS, ids=str)
def test_half_precision_and_trained_logits_are_read(decoding):
    table = a_table(spread=1.0).to(torch.bfloat16)
    texts = from_chain(table, range(8), decoding)
    assert texts == from_chain(table.float().requires_grad_(), range(8), decoding)
