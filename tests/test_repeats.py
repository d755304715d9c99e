import numpy as np
import pytest
import torch
from test_generation import METHODS, Chain, a_table, from_chain, slow_search
from transformers import NoRepeatNGramLogitsProcessor

from crscli.decoding import Decoding
from crscli.generation import decode
from crscli.repeats import Repeats

DEVICE = torch.device("cpu")


def grams(tokens, n):
    return [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]


def drawn(rows, length, size=6, seed=0):
    return torch.randint(0, size, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 30])
def test_bans_are_those_of_transformers(n, length):
    ids = drawn(7, length, size=3 if n > 2 else 8)
    logits = torch.randn(7, 9)
    if n == 1 or length >= n - 1:
        processor = NoRepeatNGramLogitsProcessor(n)
        wanted = processor(ids, logits.clone()) if length else logits
    else:
        wanted = logits
    assert torch.equal(Repeats(n, ids.tolist(), DEVICE).ban(logits.clone()), wanted)


def test_rows_of_other_lengths_are_as_if_alone():
    rows = [drawn(1, length, size=3, seed=length)[0].tolist() for length in (0, 1, 2, 7, 20)]
    logits = torch.randn(5, 4)
    together = Repeats(3, rows, DEVICE).ban(logits.clone())
    for num, row in enumerate(rows):
        assert torch.equal(together[num], Repeats(3, [row], DEVICE).ban(logits[num, None].clone())[0])


def test_rows_are_kept_repeated_and_reordered():
    history = Repeats(2, [[1, 2], [3, 4], [5, 6]], DEVICE)
    history.go_on(torch.tensor([2, 0, 0]), torch.tensor([5, 1, 9]))
    banned = history.ban(torch.zeros(3, 10)) == -torch.inf
    assert banned.nonzero().tolist() == [[0, 6], [1, 2]]


def test_a_ban_of_everything_is_lifted_for_that_row_alone():
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [1.0, 2.0, 3.0]])
    found = Repeats(1, [[0, 1, 1], [2, 2, 2]], DEVICE).ban(logits.clone())
    assert torch.equal(found, torch.tensor([[1.0, 2.0, -torch.inf], [1.0, 2.0, -torch.inf]]))


def test_what_has_no_logit_may_be_read():
    found = Repeats(1, [[7, 1, 3], [-1, 2, 0]], DEVICE).ban(torch.zeros(2, 3))
    assert (found == -torch.inf).nonzero().tolist() == [[0, 1], [1, 0], [1, 2]]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_lifted_ban_keeps_banned_and_impossible_tokens_out(method):
    table = torch.randn(5, 6)
    table[:, 3:] = -torch.inf
    decoding = Decoding(**{**vars(method), "max_tokens": 9, "no_repeat": 1})
    for reply in from_chain(table, range(5), decoding, stop=(), banned=[0]):
        assert len(reply) == 9
        assert {*reply[:2]} == {1, 2}
        assert {*reply} == {1, 2}
    one = torch.zeros(3, 1)
    assert from_chain(one, range(3), decoding, stop=(), before=[[0], [], [0, 0]]) == [[0] * 9] * 3
    assert from_chain(one, range(3), decoding, stop=[0], before=[[0], [], [0, 0]]) == [[]] * 3


def test_texts_that_were_read_belong_to_rows():
    for before in ([], [[1]], [[1]] * 3):
        with pytest.raises(ValueError, match=f"{len(before)} texts that were read for 2 rows"):
            from_chain(torch.randn(2, 9), [0, 1], Decoding(), before=before)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_method_repeats_an_ngram(method, n):
    table = a_table(places=7, size=30, liked=[3, 4])
    settings = {**vars(method), "max_tokens": 20, "no_repeat": n}
    replies = from_chain(table, range(7), Decoding(**settings))
    before = [[3, 4, 5, 3]] * 7
    told = from_chain(table, range(7), Decoding(**settings), before=before)
    assert any(len(grams(r, n)) > 0 for r in replies)
    for reply in replies:
        assert len(set(grams(reply, n))) == len(grams(reply, n))
    for read, reply in zip(before, told, strict=True):
        new = grams(read + reply, n)[max(0, len(read) - n + 1) :]
        assert len(set(new)) == len(new)
        assert not set(new) & set(grams(read, n))
    if method.method == "greedy":
        repeating = from_chain(table, range(7), Decoding(max_tokens=20))
        assert any(len(set(grams(r, n))) < len(grams(r, n)) for r in repeating)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_reply_does_not_depend_on_its_batch_mates(method):
    table = a_table(places=11, size=20, liked=[3, 4])
    decoding = Decoding(**{**vars(method), "max_tokens": 12, "no_repeat": 2})
    before = [drawn(1, length, size=20, seed=length)[0].tolist() for length in range(11)]
    together = from_chain(table, range(11), decoding, before=before)
    for num in range(11):
        state = Chain(table, [num])
        alone = decode(state, state.logits, decoding, stop=(0,), keys=[num], before=[before[num]])
        assert alone == [together[num]]


def test_greedy_is_what_transformers_would_choose():
    table, n = a_table(places=5, size=12, liked=[2]), 2
    before = drawn(5, 4, size=12).tolist()
    found = from_chain(table, range(5), Decoding(max_tokens=15, no_repeat=n), before=before)
    for num, read in enumerate(before):
        state, ids, reply = Chain(table, [num]), list(read), []
        logits = state.logits
        for _ in range(15):
            allowed = NoRepeatNGramLogitsProcessor(n)(torch.tensor([ids]), logits.clone())
            token = int(allowed.argmax())
            if token == 0:
                break
            reply.append(token)
            ids.append(token)
            logits = state.advance(torch.tensor([token]))
        assert found[num] == reply


@pytest.mark.parametrize("method", ["beam", "diverse-beam"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_searches_equal_a_slow_loop_with_the_bans_of_transformers(method, n):
    table, processor = a_table(places=13, size=14, spread=1.0, liked=2), NoRepeatNGramLogitsProcessor(n)
    decoding = Decoding(method, diversity=0.5, max_tokens=8, no_repeat=n)
    texts = drawn(13, 13, size=4).tolist()
    plain = from_chain(table, range(13), Decoding(method, diversity=0.5, max_tokens=8), {5})
    before = [text[:num] + reply for num, (text, reply) in enumerate(zip(texts, plain, strict=True))]
    wanted = [
        slow_search(
            table, start, decoding, {5},
            lambda text, logits, read=read: processor(torch.tensor([read + text]).long(), logits[None])[0],
        )
        for start, read in enumerate(before)
    ]  # fmt: skip
    assert from_chain(table, range(13), decoding, {5}, before=before) == wanted
    assert from_chain(table, range(13), decoding, {5}) != wanted


def test_the_given_logits_are_not_changed():
    logits = torch.randn(2, 9)
    before = logits.clone()
    decode(Chain(logits, [0, 1]), logits, Decoding(max_tokens=1, no_repeat=1), stop=(0,), before=[[1], [2]])
    assert np.array_equal(logits, before)
