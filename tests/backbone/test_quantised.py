"""QLoRA: frozen layers in 4 bits, adapters on them, on a CPU as on a GPU."""

import pytest
import torch
from backbones import folder_of, load, tokens
from torch import nn
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

from crscli.backbone import Adapter, Backbone, Shape, loading
from crscli.backbone.adapters import adapt
from crscli.backbone.shapes import random_config
from crscli.errors import ConfigError, MachineError

bitsandbytes = pytest.importorskip("bitsandbytes", reason="QLoRA needs the extra qlora")
LORA = Adapter("lora", 4, 8, 0.0, "all-linear")
WIDE = Shape(layers=2, width=64, heads=2, vocabulary=400, positions=64)


def linear(backbone):
    return [m for m in backbone.lm.modules() if type(m).__name__ == "Linear4bit" and "Lora" not in type(m).__name__]


def test_its_gradients_are_those_of_the_rounded_weights():
    """A layer that was read without training once must still pass gradients on: loading reads all of them."""
    backbone = load("tiny:llama", shape=WIDE, quantise="nf4", adapter=LORA).train()
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    ids, found = tokens(4, 12), []
    for rounded in (False, True):
        for module in list(backbone.lm.modules()) if rounded else ():
            for name, child in list(module.named_children()):
                if isinstance(child, bitsandbytes.nn.Linear4bit):
                    weight = bitsandbytes.functional.dequantize_4bit(child.weight.data, child.weight.quant_state)
                    plain = nn.Linear(child.in_features, child.out_features, bias=False).requires_grad_(False)
                    plain.weight.data = weight.float().reshape(plain.weight.shape)
                    setattr(module, name, plain)
        backbone.zero_grad()
        hidden, _ = backbone.encode(backbone.embed(ids))
        (backbone.logits(hidden).logsumexp(-1).sum() + hidden.pow(2).sum()).backward()
        found.append({n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None})
    assert len(found[0]) == len(found[1]) > 20
    for name, grad in found[1].items():
        assert torch.allclose(found[0][name], grad, atol=1e-3 * float(grad.abs().max())), name


@pytest.mark.parametrize("name", ["tiny:llama", "tiny:mistral"])
def test_it_learns_by_its_adapters_alone(name):
    backbone = load(name, shape=WIDE, quantise="nf4", adapter=LORA).train()
    assert len(linear(backbone)) == 14
    trained = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    assert all("lora" in n or n == "special_rows" for n in trained)
    assert not any("lm_head" in n for n in trained)
    before = [m.weight.detach().clone() for m in linear(backbone)]
    ids, losses = tokens(4, 12), []
    optimiser = torch.optim.AdamW(trained.values(), lr=1e-2)
    for _ in range(12):
        hidden, _ = backbone.encode(backbone.embed(ids))
        loss = nn.functional.cross_entropy(backbone.logits(hidden[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for n, p in trained.items() if n != "special_rows")
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(a, m.weight) for a, m in zip(before, linear(backbone), strict=True))


def test_a_saved_model_is_quantised_as_it_is_loaded_and_stays_near(tmp_path):
    whole = load("tiny:llama", shape=WIDE, adapter=Adapter("none"))
    folder = folder_of(whole.lm, tmp_path, whole)
    small = Backbone.load(folder, specials=("[REC]", "[SEP]"), quantise="nf4", adapter=Adapter("none")).eval()
    ids = tokens(2, 10)
    with torch.no_grad():
        one, other = (b.encode(b.embed(ids))[0] for b in (whole, small))
    assert 0 < (one - other).abs().mean() < 0.25 * one.abs().mean()
    assert all(m.weight.dtype == torch.uint8 for m in linear(small))
    bits = sum(m.weight.numel() * 8 for m in linear(small))
    assert bits == 4 * sum(m.in_features * m.out_features for m in linear(small))
    small.check_both_ways()


def test_a_reload_has_the_same_fingerprint_and_states(tmp_path):
    options = {"shape": WIDE, "quantise": "nf4", "adapter": LORA, "seed": 3}
    one = load("tiny:llama", **options)
    trained = {n: p for n, p in one.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.1)
    one.save_tokenizer(tmp_path)
    other = load("tiny:llama", **options, tokenizer=tmp_path, corpus=())
    assert one.fingerprint == other.fingerprint
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name in trained:
                parameter.copy_(trained[name])
        ids = tokens(2, 9)
        assert torch.allclose(one.encode(one.embed(ids))[0], other.encode(other.embed(ids))[0], atol=1e-6)


def test_a_backbone_without_linear_layers_is_refused():
    with pytest.raises(ConfigError, match="no linear layers that could be held in 4 bits"):
        load("tiny:gpt2", quantise="nf4")


def test_the_parameters_that_are_trained_at_the_size_of_7b():
    """GritLM-7B's shape without weights: rank 64 on every linear layer but the head."""
    with torch.device("meta"):
        lm = MistralForCausalLM(MistralConfig(
            vocab_size=32_000, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
            num_key_value_heads=8,
        ))  # fmt: skip
        adapt(lm, Adapter("lora", 64, 16, 0.05, "all-linear"))
    trained = sum(p.numel() for p in lm.parameters() if p.requires_grad)
    assert trained == 167_772_160
    every = sum(p.numel() for p in lm.parameters()) - trained
    assert round(trained / every, 4) == 0.0232


def test_known_shapes_have_the_sizes_of_the_real_models():
    sizes = {}
    for name in ("GritLM/GritLM-7B", "Qwen/Qwen2.5-0.5B"):
        config = random_config(f"random:{name}", Shape(positions=2048), encoder=False)
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    assert sizes == {"GritLM/GritLM-7B": 7_241_732_096, "Qwen/Qwen2.5-0.5B": 494_032_768}


def test_what_does_not_fit_this_machine_is_not_begun(monkeypatch):
    monkeypatch.setattr(loading, "free_bytes", lambda device: 10_000_000_000)
    with pytest.raises(MachineError, match=r"take 29\.0 GB of memory, 10\.0 GB are free"):
        load("random:GritLM/GritLM-7B")
