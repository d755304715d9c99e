import pytest
import torch
from backbones import SHAPE, all_kinds, close, decoders, load, masked, tokens

from crscli.backbone import Adapter, pick_device
from crscli.errors import MachineError, UsageError

# ---- reading --------------------------------------------------------------------------------------------------------


@all_kinds
@torch.no_grad()
def test_a_row_is_read_the_same_alone_and_padded_on_either_side_in_a_batch(any_kind):
    rows = [tokens(9, seed=1), tokens(4, seed=2), tokens(1, seed=3)]
    alone = [any_kind.encode(any_kind.embed(row[None]))[0][0] for row in rows]
    for side in ("left", "right"):
        ids, mask = masked(rows, 11, side)
        hidden, kept = any_kind.encode(any_kind.embed(ids), mask=mask)
        assert kept is None
        for num, expected in enumerate(alone):
            assert close(hidden[num][mask[num]], expected), side


@decoders
@torch.no_grad()
def test_padding_to_the_right_of_a_causal_model_needs_no_mask(decoder):
    ids, mask = masked([tokens(9), tokens(4)], 9, "right")
    assert close(decoder.encode(decoder.embed(ids))[0][mask], decoder.encode(decoder.embed(ids), mask=mask)[0][mask])


@all_kinds
@torch.no_grad()
def test_hidden_states_are_those_of_the_model_itself(any_kind):
    ids = tokens(2, 7)
    places = torch.arange(7).expand(2, 7)  # RoBERTa cannot count without a padding token
    expected = any_kind.lm.base_model(input_ids=ids, position_ids=places).last_hidden_state
    assert close(any_kind.encode(any_kind.embed(ids))[0], expected)
    if any_kind.is_decoder:
        logits = any_kind.logits(any_kind.encode(any_kind.embed(ids))[0])
        assert close(logits[..., : any_kind.vocabulary], any_kind.lm(input_ids=ids).logits)


@all_kinds
@torch.no_grad()
def test_encoders_see_what_comes_later_and_decoders_do_not(any_kind):
    ids = tokens(1, 8)
    other = ids.clone()
    other[0, 6:] = 5
    one, two = (any_kind.encode(any_kind.embed(x))[0][:, :6] for x in (ids, other))
    assert close(one, two) == any_kind.is_decoder


@decoders
@torch.no_grad()
def test_what_was_read_is_gone_on_from_as_if_read_at_once(decoder):
    ids = tokens(3, 12)
    whole = decoder.encode(decoder.embed(ids))[0]
    _, prefix = decoder.encode(decoder.embed(ids[:, :5]), lengths=torch.full((3,), 5))
    for _ in range(2):  # a prefix can be gone on from many times
        assert close(decoder.encode(decoder.embed(ids[:, 5:]), prefix=prefix)[0], whole[:, 5:])
    _, longer = decoder.encode(decoder.embed(ids[:, 5:9]), prefix=prefix, lengths=torch.full((3,), 4))
    assert longer.lengths.tolist() == [9, 9, 9]
    assert close(decoder.encode(decoder.embed(ids[:, 9:]), prefix=longer)[0], whole[:, 9:])


@decoders
@torch.no_grad()
def test_rows_of_different_lengths_go_on_each_from_its_own_end(decoder):
    begins, middles, ends = (
        [tokens(n, seed=s + n) for n in lengths] for s, lengths in ((10, (2, 7, 4)), (20, (3, 1, 5)), (30, (2, 2, 2)))
    )
    ids, _ = masked(begins, 8, "right")
    _, prefix = decoder.encode(decoder.embed(ids), lengths=torch.tensor([2, 7, 4]))
    ids, _ = masked(middles, 6, "right")
    hidden, prefix = decoder.encode(decoder.embed(ids), prefix=prefix, lengths=torch.tensor([3, 1, 5]))
    last, _ = decoder.encode(decoder.embed(torch.stack(ends)), prefix=prefix)
    for num, row in enumerate(zip(begins, middles, ends, strict=True)):
        whole = decoder.encode(decoder.embed(torch.cat(row)[None]))[0][0]
        begin, middle = len(row[0]), len(row[1])
        assert close(hidden[num, :middle], whole[begin : begin + middle])
        assert close(last[num], whole[begin + middle :])


@decoders
@torch.no_grad()
def test_a_prefix_can_be_shortened_and_its_rows_repeated(decoder):
    ids = tokens(2, 9)
    _, prefix = decoder.encode(decoder.embed(ids), lengths=torch.tensor([9, 9]))
    rows, lengths = torch.tensor([1, 0, 1]), torch.tensor([6, 3, 8])
    more = tokens(3, 2, seed=5)
    hidden, _ = decoder.encode(decoder.embed(more), prefix=prefix.select(rows).first(lengths))
    for num in range(3):
        whole = torch.cat([ids[rows[num], : lengths[num]], more[num]])
        assert close(hidden[num], decoder.encode(decoder.embed(whole[None]))[0][0, -2:])
    assert prefix.lengths.tolist() == [9, 9]
    assert prefix.mask.shape == (2, 9)


@decoders
@torch.no_grad()
def test_tokens_appended_one_by_one_give_the_logits_of_the_whole(decoder):
    ids = tokens(3, 10)
    whole = decoder.logits(decoder.encode(decoder.embed(ids))[0])
    lengths = torch.tensor([4, 2, 4])
    _, prefix = decoder.encode(decoder.embed(ids[:, :4]), lengths=lengths)
    state = decoder.continuation(prefix)
    for step in range(2):
        logits = state.advance(ids[torch.arange(3), lengths + step])
        assert close(logits, whole[torch.arange(3), lengths + step])
    state.select(torch.tensor([2, 1, 2, 0]))
    order = torch.tensor([2, 1, 2, 0])
    at = lengths[order] + 2
    assert close(state.advance(ids[order, at]), whole[order, at])
    again = decoder.continuation(prefix)  # the first one's tokens are not in it
    assert close(again.advance(ids[torch.arange(3), lengths]), whole[torch.arange(3), lengths])


@decoders
@torch.no_grad()
def test_candidates_that_do_not_see_each_other_are_read_as_if_alone(decoder):
    ids, candidates = tokens(2, 5), tokens(2, 4, seed=9)
    _, prefix = decoder.encode(decoder.embed(ids), lengths=torch.tensor([5, 3]))
    positions = prefix.lengths[:, None].expand(2, 4)
    embeds = decoder.embed(candidates)
    hidden, _ = decoder.encode(embeds, prefix=prefix, visible=torch.eye(4).bool(), positions=positions)
    for num in range(4):
        alone, _ = decoder.encode(embeds[:, num : num + 1], prefix=prefix)
        assert close(hidden[:, num], alone[:, 0])


@all_kinds
@torch.no_grad()
def test_who_sees_whom_can_be_said_for_all_rows_or_for_each(any_kind):
    ids = tokens(2, 6)
    embeds = any_kind.embed(ids)
    blocks = torch.block_diag(torch.ones(4, 4), torch.ones(2, 2)).bool() & torch.ones(6, 6).tril().bool()
    positions = torch.tensor([[0, 1, 2, 3, 0, 1]]).expand(2, 6)
    apart, _ = any_kind.encode(embeds, visible=blocks, positions=positions)
    causal = torch.ones(6, 6).tril().bool()
    first, _ = any_kind.encode(embeds[:, :4], visible=causal[:4, :4])
    second, _ = any_kind.encode(embeds[:, 4:], visible=causal[:2, :2])
    assert close(apart, torch.cat([first, second], 1))
    each, _ = any_kind.encode(embeds, visible=torch.stack([blocks, causal]), positions=positions)
    assert close(each[0], apart[0])
    assert not close(each[1], apart[1])


@decoders
@torch.no_grad()
def test_positions_that_begin_again_are_not_taken_for_several_sequences(decoder):
    embeds, positions = decoder.embed(tokens(2, 6)), torch.tensor([[0, 1, 2, 0, 1, 0]]).expand(2, 6)
    real = torch.ones(2, 6, dtype=torch.bool)
    one, two = decoder.encode(embeds, positions=positions)[0], decoder.encode(embeds, positions=positions, mask=real)[0]
    assert close(one, two)
    assert not close(one, decoder.encode(embeds)[0])


@all_kinds
@torch.no_grad()
def test_the_longest_sequence_can_be_read(any_kind):
    assert any_kind.positions == SHAPE.positions
    ids = tokens(1, SHAPE.positions)
    hidden, _ = any_kind.encode(any_kind.embed(ids), mask=torch.ones_like(ids).bool())
    assert hidden.shape == (1, SHAPE.positions, SHAPE.width)


# ---- input and output vectors ---------------------------------------------------------------------------------------


@all_kinds
def test_ids_stand_for_tokens_then_special_tokens_then_given_vectors(any_kind):
    table, base = any_kind.lm.get_input_embeddings().weight, any_kind.vocabulary
    extra = torch.randn(3, SHAPE.width, requires_grad=True)
    ids = torch.tensor([[5, base, base + 4], [base + 1, base + 2, base - 1]])
    vectors = any_kind.embed(ids, extra)
    expected = [[table[5], any_kind.special_rows[0], extra[2]], [any_kind.special_rows[1], extra[0], table[-1]]]
    assert torch.equal(vectors, torch.stack([torch.stack(row) for row in expected]))
    vectors.sum().backward()
    assert extra.grad.sum(1).tolist() == [SHAPE.width, 0, SHAPE.width]
    assert any_kind.special_rows.grad.sum(1).tolist() == [SHAPE.width, SHAPE.width]
    any_kind.zero_grad()
    assert torch.equal(any_kind.embed(ids[:, :1]), vectors[:, :1])
    assert any_kind.special("[SEP]") == base + 1


def test_without_special_tokens_only_texts_are_read():
    plain = load("tiny", specials=())
    assert plain.embed(tokens(2, 3)).shape == (2, 3, SHAPE.width)
    assert plain.logits(torch.randn(2, SHAPE.width)).shape == (2, SHAPE.vocabulary)
    assert torch.equal(plain.embed(torch.tensor([SHAPE.vocabulary]), torch.ones(1, SHAPE.width))[0], torch.ones(32))


@decoders
@torch.no_grad()
def test_a_special_token_is_scored_by_the_row_that_it_is_read_by(decoder):
    hidden = torch.randn(2, 3, SHAPE.width)
    logits = decoder.logits(hidden)
    assert logits.shape == (2, 3, SHAPE.vocabulary + 2)
    assert logits.dtype == torch.float32
    assert close(logits[..., -2:], hidden @ decoder.special_rows.T)
    assert close(logits[..., :-2], decoder.lm.get_output_embeddings()(hidden))


def test_the_head_of_gpt2_stays_the_table_it_reads_with():
    trained = load("tiny", adapter=Adapter("full"))
    assert trained.lm.get_output_embeddings().weight is trained.lm.get_input_embeddings().weight


def test_special_rows_begin_as_the_mean_of_all_others(built):
    for backbone in built.values():
        mean = backbone.lm.get_input_embeddings().weight.mean(0)
        assert torch.allclose(backbone.special_rows, mean.expand(2, -1))


def test_learned_positions_are_known_where_the_model_adds_them(built):
    assert built["tiny"].position_table.shape == (SHAPE.positions, SHAPE.width)
    assert built["tiny:llama"].position_table is None


# ---- devices --------------------------------------------------------------------------------------------------------


def test_a_device_is_picked_or_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == "cpu"
    assert pick_device("cpu") == "cpu"
    with pytest.raises(MachineError, match="no GPU") as caught:
        pick_device("cuda")
    assert caught.value.exit_code == 7
    with pytest.raises(UsageError, match="'gpu' is not known"):
        pick_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device() == "cuda"
    assert pick_device("cuda:1") == "cuda:1"
