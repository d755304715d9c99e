import pytest
import torch
import transformers
from backbones import DECODERS, ENCODERS, close, folder_of, load, saved, tokens
from torch import nn

from crscli.backbone import Adapter, Backbone
from crscli.backbone.adapters import FusedQueryValueLora
from crscli.errors import UsageError

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
