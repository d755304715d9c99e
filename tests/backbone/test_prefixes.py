"""Prompts of keys and values before a text, for the kinds of decoders that there are."""

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig

from crscli.backbone import Adapter, Backbone, Prefix, Shape
from crscli.errors import ConfigError

SHAPE = Shape(layers=2, width=16, heads=2, vocabulary=300, positions=64)
CORPUS = ["Then watch Alder. What about Birch?"] * 9


def built(kind):
    return Backbone.load(f"tiny:{kind}", shape=SHAPE, corpus=CORPUS, adapter=Adapter("none")).eval()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mistral", "qwen2"])
@torch.no_grad()
def test_a_prompt_has_no_positions_and_what_is_hidden_in_it_counts_for_nothing(kind):
    backbone = built(kind)
    layers, heads, width = backbone.prefix_shape()
    assert (layers, backbone.width) == (2, 16)
    draw = torch.Generator().manual_seed(0)
    kept = [tuple(torch.randn(1, heads, 5, width, generator=draw) for _ in "kv") for _ in range(layers)]
    ids = torch.tensor([[7, 8, 9]])

    def read(order, real):
        layers = [tuple(t[:, :, order] for t in layer) for layer in kept]
        prompt = Prefix(layers, real[None], torch.zeros(1, dtype=torch.long))
        return backbone.encode(backbone.embed(ids), prefix=prompt)[0]

    whole = read([0, 1, 2, 3, 4], torch.tensor([True, True, True, False, False]))
    turned = read([4, 3, 1, 2, 0], torch.tensor([False, False, True, True, True]))
    cut = read([0, 1, 2], torch.ones(3, dtype=torch.bool))
    assert torch.allclose(whole, turned, atol=1e-5)
    assert torch.allclose(whole, cut, atol=1e-5)
    plain, _ = backbone.encode(backbone.embed(ids))
    assert (whole - plain).abs().max() > 1e-3


def test_a_model_without_keys_and_values_is_refused(tmp_path):
    made = built("gpt2")
    config = MambaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, state_size=4, bos_token_id=0, eos_token_id=0
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mamba")
    made.save_tokenizer(tmp_path / "mamba")
    with pytest.raises(ConfigError) as caught:
        Backbone.load(str(tmp_path / "mamba"), adapter=Adapter("none")).prefix_shape()
    assert "mamba" in caught.value.message
    assert caught.value.exit_code == 6
