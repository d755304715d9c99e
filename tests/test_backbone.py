import json
import logging
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from crscli import backbone as module
from crscli.backbone import Adapter, Backbone, FusedQueryValueLora, Shape, pick_device
from crscli.errors import ArtifactMissing, ConfigError, MachineError, SourceError, UsageError

DECODERS = ("tiny", "tiny:llama", "tiny:mistral", "tiny:qwen2")
ENCODERS = ("tiny:bert", "tiny:roberta")
SHAPE = Shape(layers=2, width=32, heads=2, vocabulary=400, positions=64)
CORPUS = ["Hello there, I love films like Alien (1979)!", "emoji 🎬 works", "Have you seen The Matrix? No, no, no."] * 4
SPECIALS = ("[REC]", "[SEP]")
TOLERANCE = 1e-5


def load(name, **options):
    given = {"specials": SPECIALS, "shape": SHAPE, "corpus": CORPUS, "encoder": name in ENCODERS, "seed": 1}
    return Backbone.load(name, **{**given, **options}).eval()


@pytest.fixture(scope="module")
def built():
    """One of each kind, untrained; not to be changed."""
    return {name: load(name) for name in (*DECODERS, *ENCODERS)}


@pytest.fixture
def decoder(built, request):
    return built[request.param]


@pytest.fixture
def any_kind(built, request):
    return built[request.param]


decoders = pytest.mark.parametrize("decoder", DECODERS, indirect=True)
all_kinds = pytest.mark.parametrize("any_kind", [*DECODERS, *ENCODERS], indirect=True)


def tokens(*shape, seed=0):
    return torch.randint(0, 300, shape, generator=torch.Generator().manual_seed(seed))


def close(one, other):
    return torch.allclose(one, other, atol=TOLERANCE)


def masked(rows, width, side):
    """Rows padded on a side with a token that would be noticed: ids and mask."""
    ids, mask = torch.full((len(rows), width), 77), torch.zeros(len(rows), width, dtype=torch.bool)
    for num, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[num, place], mask[num, place] = row, True
    return ids, mask


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


# ---- text -----------------------------------------------------------------------------------------------------------

TEXTS = ["Hello there!", "", " ", "  two  spaces\n\n\nlines\t", "never seen: ŷßÄ中文", "🎬👩‍👩‍👧", "a" * 3000]


@all_kinds
def test_texts_come_back_as_they_were(any_kind):
    assert [any_kind.text(ids) for ids in any_kind.tokenize(TEXTS)] == TEXTS
    assert [any_kind.tokenize([text])[0] for text in TEXTS] == any_kind.tokenize(TEXTS)
    assert any_kind.tokenize([]) == []
    assert any_kind.text([]) == ""


def test_half_of_a_character_becomes_a_question_mark(built):
    backbone = built["tiny"]
    assert backbone.text(backbone.tokenize(["a\ud83cb", "\udfac"])[0]) == "a?b"


def test_no_text_spells_a_special_token(built):
    backbone = built["tiny"]
    typed = backbone.tokenize(["[SEP] and [REC]"])[0]
    assert max(typed) < backbone.vocabulary
    assert backbone.text(typed) == "[SEP] and [REC]"


def test_no_text_spells_the_end_of_a_text(tmp_path):
    made = load("tiny")
    made.tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    end = made.tokenizer.eos_token_id
    typed = made.tokenize(["so<|endoftext|>B: yes"])[0]
    assert end not in typed
    assert made.text(typed) == "so<|endoftext|>B: yes"
    assert made.text([*typed, end]) == "so<|endoftext|>B: yes"
    assert end in made.unspoken


def test_special_tokens_are_written_by_name_and_vectors_not_at_all(built):
    backbone = built["tiny"]
    hello, there = backbone.tokenize(["Hello", " there"])
    base = backbone.vocabulary
    assert backbone.text([base, *hello, base + 1, base + 9, *there, base]) == "[REC]Hello[SEP] there[REC]"


def test_ids_that_no_text_uses_are_known(built):
    backbone = built["tiny"]
    assert backbone.unspoken == list(range(len(backbone.tokenizer), SHAPE.vocabulary))
    assert backbone.unspoken


def test_a_saved_tokenizer_gives_the_same_ids(tmp_path):
    first = load("tiny")
    first.save_tokenizer(tmp_path / "tokenizer")
    again = load("tiny", corpus=(), tokenizer=tmp_path / "tokenizer")
    assert again.tokenize([*TEXTS, *CORPUS]) == first.tokenize([*TEXTS, *CORPUS])
    assert again.describe() == first.describe()
    other = load("tiny", corpus=["quite another corpus, quite another corpus"])
    assert other.tokenize(CORPUS) != first.tokenize(CORPUS)


def test_a_tokenizer_that_cannot_be_read_is_missing(tmp_path):
    for content in (None, "{}", "no json"):
        if content is not None:
            (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ArtifactMissing, match="no tokenizer") as caught:
            load("tiny", tokenizer=tmp_path)
        assert caught.value.exit_code == 3


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(tmp_path):
    load("tiny").save_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"tokens beyond the model's 280 rows"):
        load("tiny", shape=Shape(2, 32, 2, 280, 64), tokenizer=tmp_path)


# ---- what is trained ------------------------------------------------------------------------------------------------

LAYERS = {
    "tiny": "transformer.h.{}.attn.",
    "tiny:llama": "model.layers.{}.self_attn.",
    "tiny:mistral": "model.layers.{}.self_attn.",
    "tiny:qwen2": "model.layers.{}.self_attn.",
    "tiny:bert": "encoder.layer.{}.attention.self.",
    "tiny:roberta": "encoder.layer.{}.attention.self.",
}
PROJECTIONS = {
    "qkv": {
        "tiny": ("c_attn",),
        **dict.fromkeys(DECODERS[1:], ("q_proj", "k_proj", "v_proj")),
        **dict.fromkeys(ENCODERS, ("query", "key", "value")),
    },
    "qv": {**dict.fromkeys(DECODERS[1:], ("q_proj", "v_proj")), **dict.fromkeys(ENCODERS, ("query", "value"))},
}


def trained(backbone):
    return {name for name, p in backbone.named_parameters() if p.requires_grad}


def lora_of(name, projections):
    return {
        f"lm.{LAYERS[name].format(layer)}{projection}.lora_{part}.default.weight"
        for layer in range(2)
        for projection in projections
        for part in "AB"
    }


@pytest.mark.parametrize(("targets", "name"), [(t, n) for t in ("qkv", "qv") for n in PROJECTIONS[t]])
def test_lora_adapts_the_projections_of_the_attention(targets, name):
    backbone = load(name, adapter=Adapter(targets=targets))
    assert trained(backbone) == {"special_rows"} | lora_of(name, PROJECTIONS[targets][name])


def test_lora_adapts_query_and_value_of_a_fused_projection():
    backbone = load("tiny", adapter=Adapter(targets="qv", rank=4, alpha=8.0, dropout=0.0))
    names = {f"lm.transformer.h.{layer}.attn.c_attn.{part}" for layer in range(2) for part in ("down", "up")}
    assert trained(backbone) == {"special_rows"} | names
    layer = backbone.lm.transformer.h[0].attn.c_attn
    assert isinstance(layer, FusedQueryValueLora)
    nn.init.normal_(layer.up)
    hidden = torch.randn(2, 3, 32)
    added = layer(hidden) - layer.base(hidden)
    query, value = (hidden @ layer.down[n] @ layer.up[n] * 2.0 for n in (0, 1))
    assert close(added, torch.cat([query, torch.zeros_like(query), value], -1))


def test_lora_adapts_all_linear_layers_but_the_head():
    backbone = load("tiny", adapter=Adapter(targets="all-linear"))
    adapted = {name.split(".lora_")[0] for name in trained(backbone) - {"special_rows"}}
    parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert adapted == {f"lm.transformer.h.{layer}.{part}" for layer in range(2) for part in parts}


def test_lora_adapts_layers_by_name():
    backbone = load("tiny:llama", adapter=Adapter(targets="o_proj, layers.1.mlp.up_proj,lm_head"))
    adapted = {name.split(".lora_")[0] for name in trained(backbone) - {"special_rows"}}
    attention = {f"lm.model.layers.{layer}.self_attn.o_proj" for layer in range(2)}
    assert adapted == attention | {"lm.model.layers.1.mlp.up_proj", "lm.lm_head"}


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("tiny", "nothing"),
        ("tiny", "c_attn,nothing"),
        ("tiny", "attn"),
        ("tiny", "wte"),  # an adapted look-up table would be read past its adapter
        ("tiny", "_attn"),
        ("tiny:llama", "embed_tokens"),
        ("tiny:llama", "c_attn"),
        ("tiny:llama", "q_proj,"),
        ("tiny:llama", ""),
        ("tiny:bert", "LayerNorm"),
    ],
)
def test_targets_that_are_no_linear_layers_are_refused(name, targets):
    with pytest.raises(UsageError, match="is no linear layer") as caught:
        load(name, adapter=Adapter(targets=targets))
    assert "all-linear" in caught.value.hint


def folder_of(lm, directory, tokenizer):
    lm.save_pretrained(directory)
    tokenizer.save_tokenizer(directory)
    return str(directory)


def test_query_and_value_of_a_projection_that_cannot_be_divided_are_refused(tmp_path, built):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.GPTNeoXConfig(vocab_size=400, max_position_embeddings=32, **sizes)
    name = folder_of(transformers.GPTNeoXForCausalLM(config), tmp_path / "neox", built["tiny"])
    assert any("query_key_value" in n for n in trained(Backbone.load(name)))
    with pytest.raises(UsageError, match="its projections are one") as caught:
        Backbone.load(name, adapter=Adapter(targets="qv"))
    assert "lora_targets=qkv" in caught.value.hint


@pytest.mark.parametrize("name", ["tiny", "tiny:qwen2", "tiny:roberta"])
def test_what_is_trained_is_what_was_asked_for(name):
    own = {n for n, _ in load(name, adapter=Adapter("none")).named_parameters()} - {"special_rows"}
    assert trained(load(name, adapter=Adapter("none"))) == {"special_rows"}
    assert trained(load(name, adapter=Adapter("full"))) == {"special_rows"} | own
    both = trained(load(name, adapter=Adapter("lora+full")))
    lora = {n for n in both if ".lora_" in n}
    assert lora == lora_of(name, PROJECTIONS["qkv"][name])
    assert {n.replace(".base_layer", "") for n in both - lora} == {"special_rows"} | own


def test_query_and_value_of_a_fused_projection_can_be_adapted_and_trained_too():
    both = trained(load("tiny", adapter=Adapter("lora+full", targets="qv")))
    assert "lm.transformer.h.0.attn.c_attn.base.weight" in both
    assert "lm.transformer.h.0.attn.c_attn.up" in both


def test_names_of_parameters_are_the_same_at_every_loading():
    for adapter in (Adapter(), Adapter(targets="qv"), Adapter(targets="all-linear"), Adapter("full")):
        one, other = (load("tiny", adapter=adapter, seed=seed) for seed in (1, 2))
        assert [n for n, _ in one.named_parameters()] == [n for n, _ in other.named_parameters()]


ADAPTERS = [Adapter(), Adapter(targets="qv"), Adapter(targets="all-linear"), Adapter("lora+full", targets="qv")]


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", ["tiny", "tiny:llama", "tiny:bert"])
@torch.no_grad()
def test_adapters_begin_as_if_they_were_not_there(name, adapter):
    plain, adapted = load(name, adapter=Adapter("none")), load(name, adapter=adapter)
    ids = tokens(2, 6)
    assert torch.equal(plain.encode(plain.embed(ids))[0], adapted.encode(adapted.embed(ids))[0])


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", ["tiny", "tiny:mistral", "tiny:roberta"])
def test_a_step_moves_what_is_trained_and_nothing_else_by_one_bit(name, adapter):
    backbone = load(name, adapter=adapter, dropout=0.0).train()
    before = {n: p.detach().clone() for n, p in backbone.named_parameters()}
    named = trained(backbone)
    optimiser = torch.optim.AdamW([p for p in backbone.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    ids = torch.cat([tokens(2, 6), torch.full((2, 1), backbone.special("[REC]"))], 1)
    for _ in range(2):
        hidden, _ = backbone.encode(backbone.embed(ids))
        hidden.square().mean().backward()
        optimiser.step()
    moved = {n for n, p in backbone.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= named
    assert {n for n in named if "lora" in n or n.endswith((".up", ".down")) or n == "special_rows"} <= moved


# ---- dropout, random numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_dropout_is_set_everywhere_in_the_attention_too(name, monkeypatch):
    heard = []
    attention = nn.functional.scaled_dot_product_attention

    def listening(*tensors, dropout_p=0.0, **options):
        heard.append(dropout_p)
        return attention(*tensors, dropout_p=dropout_p, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", listening)
    backbone = load(name, dropout=0.37, adapter=Adapter(dropout=0.21))
    heard.clear()
    embeds = backbone.embed(tokens(1, 5))
    quiet = [backbone.encode(embeds)[0] for _ in range(2)]
    assert torch.equal(*quiet)
    assert set(heard) == {0.0}
    heard.clear()
    backbone.train()
    assert not torch.equal(backbone.encode(embeds)[0], backbone.encode(embeds)[0])
    assert set(heard) == {0.37}
    of_lora = {m.p for n, m in backbone.named_modules() if isinstance(m, nn.Dropout) and "lora" in n}
    others = {m.p for n, m in backbone.named_modules() if isinstance(m, nn.Dropout) and "lora" not in n}
    assert of_lora == {0.21}
    assert others <= {0.37}


def test_dropout_is_the_models_own_unless_set():
    ps = {m.p for m in load("tiny", adapter=Adapter("full")).modules() if isinstance(m, nn.Dropout)}
    assert ps == {0.1}


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_same_seed_same_weights_other_seed_others(name):
    one, again, other = load(name), load(name), load(name, seed=2)
    assert [p.tolist() for p in one.parameters()] == [p.tolist() for p in again.parameters()]
    drawn = [n for n, p in one.named_parameters() if p.unique().numel() > 1]
    assert len(drawn) > 10
    different = dict(other.named_parameters())
    assert all(not torch.equal(p, different[n]) for n, p in one.named_parameters() if n in drawn)


def test_loading_leaves_the_random_state_as_it_was(tmp_path, built):
    folder = saved(built["tiny:bert"], tmp_path / "bert")
    state = torch.random.get_rng_state()
    for name in ("tiny", "tiny:bert", folder):
        for adapter in (Adapter(), Adapter(targets="all-linear")):
            load(name, adapter=adapter, encoder=name != "tiny")
    assert torch.equal(torch.random.get_rng_state(), state)


# ---- identity -------------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_weights_before_training(built):
    first = built["tiny"]
    assert load("tiny", adapter=Adapter("full")).fingerprint == first.fingerprint
    assert load("tiny", seed=2).fingerprint != first.fingerprint
    assert load("tiny", shape=Shape(2, 32, 4, 400, 32)).fingerprint != first.fingerprint


def test_weights_of_another_backbone_are_refused(built):
    first = built["tiny"]
    record = json.loads(json.dumps(first.describe()))
    first.require(record, "run a", "train it again")
    other = load("tiny", seed=2)
    with pytest.raises(ArtifactMissing, match=r"run a was trained on another backbone.*fingerprint") as caught:
        other.require(record, "run a", "train it again")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "train it again"
    with pytest.raises(ArtifactMissing, match="specials"):
        load("tiny", specials=("[REC]",)).require(record, "run a", "train it again")
    with pytest.raises(ArtifactMissing, match="type 'gpt2' -> 'llama'"):
        built["tiny:llama"].require(record, "run a", "train it again")


# ---- folders --------------------------------------------------------------------------------------------------------


def saved(backbone, directory):
    """A folder as save_pretrained makes it, of the same weights as a tiny backbone."""
    name = f"tiny:{backbone.lm.config.model_type}"
    plain = load(name, adapter=Adapter("none"))
    return folder_of(plain.lm, directory, plain)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    plain = load("tiny", adapter=Adapter("none"))
    return Path(folder_of(plain.lm, tmp_path_factory.mktemp("saved") / "gpt2", plain))


@pytest.fixture
def copied(tmp_path, folder):
    return shutil.copytree(folder, tmp_path / "model")


@all_kinds
@torch.no_grad()
def test_a_saved_model_is_loaded_as_it_was(any_kind, tmp_path):
    name = saved(any_kind, tmp_path / "model")
    again = load(name, shape=None, corpus=(), encoder=not any_kind.is_decoder)
    assert again.fingerprint == any_kind.fingerprint
    assert again.tokenize([*TEXTS, *CORPUS]) == any_kind.tokenize([*TEXTS, *CORPUS])
    ids = tokens(2, 7)
    assert torch.equal(again.encode(again.embed(ids))[0], any_kind.encode(any_kind.embed(ids))[0])
    again.require(any_kind.describe(), "run", "")


def test_the_end_of_a_text_is_known_from_the_tokenizers_file_alone(copied):
    made = load(str(copied))
    made.tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    made.save_tokenizer(copied)
    (copied / "tokenizer_config.json").write_text("{}")  # as that of GPT-2, which names no token
    again = load(str(copied))
    end = len(again.tokenizer) - 1
    assert again.tokenizer.convert_ids_to_tokens(end) == "<|endoftext|>"
    assert end in again.unspoken
    assert end not in again.tokenize(["so<|endoftext|>"])[0]
    assert again.text([end]) == ""


def test_a_tokenizer_may_lie_in_two_files_as_that_of_dialogpt(copied):
    whole = load(str(copied))
    bpe = json.loads((copied / "tokenizer.json").read_text())["model"]
    (copied / "tokenizer.json").unlink()
    (copied / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    (copied / "vocab.json").write_text(json.dumps(bpe["vocab"]))
    (copied / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in bpe["merges"]))
    again = load(str(copied))
    assert again.tokenize(CORPUS) == whole.tokenize(CORPUS)
    assert again.text(again.tokenize(CORPUS)[0]) == CORPUS[0]


def test_roberta_counts_positions_from_its_padding_on(tmp_path, built):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.RobertaConfig(vocab_size=400, max_position_embeddings=34, pad_token_id=1, **sizes)
    name = folder_of(transformers.RobertaModel(config), tmp_path / "roberta", built["tiny"])
    roberta = load(name, encoder=True)
    assert roberta.positions == 32
    ids = tokens(1, 32) + 2  # its own padding is among no ids
    with torch.no_grad():
        expected = roberta.lm(input_ids=ids).last_hidden_state
        assert close(roberta.encode(roberta.embed(ids))[0], expected)


def test_the_pooler_of_an_encoder_is_neither_needed_nor_kept(tmp_path, built):
    config = load("tiny:bert", adapter=Adapter("none")).lm.config
    for with_pooler in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            bert = transformers.BertModel(config, add_pooling_layer=with_pooler)
        name = folder_of(bert, tmp_path / f"bert-{with_pooler}", built["tiny"])
        assert "pooler" not in " ".join(n for n, _ in load(name, encoder=True).named_parameters())
    one, other = load(name, encoder=True), load(name, encoder=True, seed=7)
    assert one.fingerprint == other.fingerprint


@torch.no_grad()
def test_a_file_in_half_precision_is_computed_with_in_full(copied):
    half = transformers.AutoModelForCausalLM.from_pretrained(copied, dtype=torch.float16)
    half.save_pretrained(copied)
    backbone = load(str(copied))
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    again = half.float().transformer(tokens(1, 5)).last_hidden_state
    assert close(backbone.encode(backbone.embed(tokens(1, 5)))[0], again)


def refused(name, error, match, **options):
    with pytest.raises(error, match=match) as caught:
        load(str(name), **options)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_a_folder_without_a_tokenizer_is_refused(copied):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (copied / file).unlink()
    assert "tokenizer.json" in refused(copied, ConfigError, "holds no tokenizer").hint


def test_a_folder_without_weights_is_refused_and_one_with_pickled_weights_converted(copied):
    lm = transformers.AutoModelForCausalLM.from_pretrained(copied)
    weights = {n: p for n, p in lm.state_dict().items() if n != "lm_head.weight"}
    (copied / "model.safetensors").unlink()
    refused(copied, ConfigError, "holds no weights")
    torch.save(weights, copied / "pytorch_model.bin")
    hint = refused(copied, ConfigError, "holds no weights").hint
    code = hint.partition('python -c "')[2].rstrip('"')
    target = copied.parent / "converted"
    exec(code.replace("'IN'", repr(str(copied))).replace("'OUT'", repr(str(target))))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(copied / file, target)
    assert load(str(target)).fingerprint == load("tiny").fingerprint


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("config.json", Path.unlink),
        ("config.json", lambda path: path.write_text("{")),
        ("config.json", lambda path: path.write_text('{"model_type": "no-such-type"}')),
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-100])),
        ("model.safetensors", lambda path: path.write_bytes(b"")),
        ("tokenizer.json", lambda path: path.write_text("{}")),
        ("tokenizer.json", lambda path: path.write_bytes(b"\xff")),
    ],
)
def test_a_damaged_folder_is_refused(copied, file, damage):
    damage(copied / file)
    assert refused(copied, ConfigError, "cannot be loaded as a causal language model").exit_code == 6


def test_a_model_that_lacks_a_weight_is_refused(copied):
    from_file = module.AutoModelForCausalLM.from_pretrained(copied)
    weights = {n: p for n, p in from_file.state_dict().items() if "h.1.mlp" not in n}
    from_file.save_pretrained(copied, state_dict=weights)
    refused(copied, ConfigError, r"lacks 4 of its model's weights, such as transformer\.h\.1\.mlp")


def test_a_saved_tokenizer_whose_tokens_have_no_rows_is_refused(copied):
    made = load(str(copied))
    made.tokenizer.add_tokens([f"<new {n}>" for n in range(200)])
    made.save_tokenizer(copied)
    refused(copied, ConfigError, "tokens beyond the model's 400 rows")


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_no_decoder(tmp_path, built, name):
    directory = saved(built[name], tmp_path / "model")
    for asked in (name, directory, f"random:{directory}"):
        refused(asked, ConfigError, "is an encoder .*, a decoder is needed", encoder=False)


@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_with_a_decoder_is_neither(tmp_path, built, kind, encoder):
    config = transformers.AutoConfig.for_model(kind, vocab_size=400)
    config.save_pretrained(tmp_path)
    built["tiny"].save_tokenizer(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(tmp_path, ConfigError, f"is an encoder-decoder .{kind}.", encoder=encoder)


def test_too_few_positions_are_said_before_any_training(built):
    assert load("tiny", positions=64).positions == 64
    assert "context_tokens" in refused("tiny", ConfigError, "has 64 positions, 65 are needed", positions=65).hint


def test_no_position_lies_beyond_a_sliding_window(copied):
    lm = load("tiny:mistral", adapter=Adapter("none")).lm
    lm.config.sliding_window = 16
    lm.save_pretrained(copied)
    assert load(str(copied)).positions == 16


# ---- names ----------------------------------------------------------------------------------------------------------


def test_unknown_names_are_refused():
    assert "tiny:llama" in refused("tiny:gpt9", UsageError, "tiny:gpt9 is not known").hint
    assert "DialoGPT" in refused("random:gpt9", UsageError, "'gpt9' is not known").hint
    assert "hub id" in refused("/no/such/folder", ConfigError, "no folder").hint
    refused("no/such/folder", ConfigError, "no folder")
    refused("no such name", UsageError, "neither a folder nor a hub id")


def test_a_known_shape_is_built_without_a_download(monkeypatch):
    monkeypatch.setitem(module._SHAPES, "gpt2", {**module._SHAPES["gpt2"], "layers": 1, "width": 24, "vocabulary": 300})
    backbone = load("random:gpt2")
    assert (backbone.vocabulary, backbone.width, backbone.positions) == (300, 24, 64)
    assert len(backbone.lm.transformer.h) == 1


def test_the_shape_of_a_folder_is_built_with_random_weights(copied):
    (copied / "model.safetensors").unlink()
    backbone = load(f"random:{copied}", shape=None)
    assert (backbone.vocabulary, backbone.width) == (400, 32)
    assert backbone.fingerprint != load("tiny", seed=2).fingerprint
    (copied / "config.json").unlink()
    refused(f"random:{copied}", ConfigError, "holds no shape")


def test_known_shapes_are_those_of_the_published_models():
    small, medium = module._SHAPES["gpt2"], module._SHAPES["gpt2-medium"]
    assert (small["layers"], small["width"], small["heads"], small["vocabulary"]) == (12, 768, 12, 50257)
    assert (medium["layers"], medium["width"], medium["heads"]) == (24, 1024, 16)


# ---- the hub --------------------------------------------------------------------------------------------------------


def test_a_hub_that_cannot_be_reached_leaves_a_way_out(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = refused("some/model@v2", SourceError, "some/model was not found in the model hub: .*refused")
    assert found.exit_code == 5
    assert "hf download some/model" in found.hint
    assert "--backbone DIR" in found.hint
    assert capfd.readouterr() == ("", "")


def test_a_model_of_the_hub_is_read_from_its_folder(monkeypatch, folder):
    asked = []

    def snapshot_download(hub_id, **options):
        asked.append((hub_id, options["revision"], options["local_files_only"]))
        return str(folder)

    monkeypatch.setattr(module, "snapshot_download", snapshot_download)
    backbone = load("some/model@v2")
    load("model", offline=True)
    assert asked == [("some/model", "v2", False), ("model", None, True)]
    assert backbone.describe()["revision"] == folder.name
    assert backbone.describe()["name"] == "some/model@v2"


def test_without_a_network_the_cache_is_asked_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = refused("some/model", SourceError, "not found in the local cache", offline=True)
    assert found.exit_code == 5
    assert "hf download some/model" in found.hint


# ---- self-check -----------------------------------------------------------------------------------------------------


def fails(backbone, match):
    backbone.train()
    with pytest.raises(ConfigError, match=match) as caught:
        backbone.check()
    assert caught.value.exit_code == 6
    assert backbone.training


def change_forward(backbone, change, monkeypatch):
    """Let a function change the arguments of the model's forward."""
    forward = backbone.lm.base_model.forward

    def changed(**arguments):
        return forward(**change(arguments))

    monkeypatch.setattr(backbone.lm.base_model, "forward", changed)


def without(*names):
    return lambda arguments: {k: v for k, v in arguments.items() if k not in names}


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_a_model_that_ignores_its_mask_is_found_out(name, monkeypatch):
    backbone = load(name)
    change_forward(backbone, without("attention_mask"), monkeypatch)
    fails(backbone, "fails its self-check: (padding changes its result|it does not)")


def test_a_model_that_ignores_positions_is_found_out(monkeypatch):
    backbone = load("tiny")
    change_forward(backbone, without("position_ids"), monkeypatch)
    fails(backbone, "padding changes its result")
    backbone = load("tiny:llama")
    change_forward(backbone, without("position_ids"), monkeypatch)
    fails(backbone, "self-check")


@pytest.mark.parametrize("name", DECODERS)
def test_a_model_that_ignores_what_it_has_read_is_found_out(name, monkeypatch):
    backbone = load(name)
    change_forward(backbone, without(backbone._cache_argument), monkeypatch)
    fails(backbone, "self-check")
    misnamed = load(name)
    misnamed._cache_argument = "past_key_value"  # the model takes any name and says nothing
    fails(misnamed, "self-check")


def test_a_model_that_sees_later_tokens_is_found_out(monkeypatch):
    backbone = load("tiny")

    def everything(arguments):
        width = arguments["inputs_embeds"].shape[1]
        return {**arguments, "attention_mask": torch.ones(1, 1, width, width, dtype=torch.bool)}

    change_forward(backbone, everything, monkeypatch)
    fails(backbone, "sees later tokens")


def test_a_model_with_its_own_idea_of_arguments_is_found_out(monkeypatch):
    backbone = load("tiny")

    def refusing(arguments):
        raise TypeError("no such argument\nsecond line")

    change_forward(backbone, refusing, monkeypatch)
    fails(backbone, "self-check: no such argument$")


def test_weights_that_are_not_finite_are_found_out(copied):
    lm = transformers.AutoModelForCausalLM.from_pretrained(copied)
    nn.init.constant_(lm.transformer.h[1].mlp.c_fc.bias, torch.nan)
    lm.save_pretrained(copied)
    refused(copied, ConfigError, "values that are not finite")


@all_kinds
def test_a_sound_model_passes_and_keeps_its_mode(any_kind):
    any_kind.check()
    assert not any_kind.training


@decoders
@torch.no_grad()
def test_keys_and_values_are_kept_under_the_name_that_the_model_heeds(decoder):
    ids = tokens(1, 6)
    _, prefix = decoder.encode(decoder.embed(ids), lengths=torch.tensor([6]))
    assert len(prefix.layers) == 2
    assert all(keys.shape[2] == 6 for keys, _ in prefix.layers)
    other = decoder.embed(tokens(1, 2, seed=4))
    assert not close(decoder.encode(other, prefix=prefix)[0], decoder.encode(other)[0])


# ---- silence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_loading_and_running_says_nothing(name, built, tmp_path, capfd, caplog):
    directory = saved(built[name], tmp_path / "model")
    capfd.readouterr()
    logging.getLogger("transformers").propagate = True
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for place in (name, directory):
            for targets in ("qkv", "all-linear"):
                backbone = load(place, adapter=Adapter(targets=targets), encoder=name in ENCODERS).train()
            embeds = backbone.embed(torch.tensor(backbone.tokenize(["Hello " * 400])[0][:9])[None])
            if name in DECODERS:
                hidden, prefix = backbone.encode(embeds, lengths=torch.tensor([9]))
                backbone.continuation(prefix).advance(torch.tensor([3]))
                backbone.logits(hidden).sum().backward()
            backbone.encode(embeds, mask=torch.ones(1, 9).bool())
    logging.getLogger("transformers").propagate = False
    assert [str(w.message) for w in heard] == []
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_a_long_text_is_no_occasion_for_a_warning(copied, capfd):
    backbone = load(str(copied))
    backbone.tokenizer.model_max_length = 4
    assert len(backbone.tokenize(["Hello there, Hello there"])[0]) > 4
    assert capfd.readouterr().err == ""


def test_transformers_speaks_again_after_loading():
    before = transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    load("tiny")
    assert (transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()) == before


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
