"""Reading both ways: whoever is asked to, does; whoever cannot, is refused."""

import pytest
import torch
from backbones import DECODERS, close, load, masked, tokens
from transformers import AutoConfig, AutoModelForCausalLM

from crscli.backbone import Adapter, Backbone
from crscli.errors import ConfigError

OTHERS = {
    "gpt_neox": {"rotary_pct": 1.0},
    "gemma": {"head_dim": 16, "num_key_value_heads": 1},
    "qwen3": {"head_dim": 16, "num_key_value_heads": 1},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
}
SIZES = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 64, "max_position_embeddings": 64}  # fmt: skip


def of_family(family, folder):
    """A saved model of another family, with the tokenizer of the tiny one."""
    config = AutoConfig.for_model(family, **{**SIZES, **OTHERS[family]})
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    load("tiny").save_tokenizer(folder)
    return str(folder)


@pytest.mark.parametrize("name", DECODERS)
def test_the_families_that_are_named_pass(name):
    load(name).check_both_ways()


@pytest.mark.parametrize("family", OTHERS)
def test_further_families_pass(family, tmp_path):
    Backbone.load(of_family(family, tmp_path), specials=("[X]",)).check_both_ways()


def test_a_family_without_attention_is_refused(tmp_path):
    config = AutoConfig.for_model("mamba", vocab_size=400, hidden_size=32, num_hidden_layers=1, state_size=4)
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    load("tiny").save_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="cannot be loaded as a causal language model") as caught:
        Backbone.load(str(tmp_path), specials=("[X]",), adapter=Adapter("none")).check_both_ways()
    assert caught.value.hint


def test_one_that_ignores_its_mask_is_refused(monkeypatch):
    backbone = load("tiny:llama")
    whole = Backbone.encode

    def forwards_alone(self, embeds, **options):
        return whole(self, embeds, **{**options, "visible": None})

    monkeypatch.setattr(Backbone, "encode", forwards_alone)
    with pytest.raises(ConfigError, match="cannot read both ways: its first token does not heed the last"):
        backbone.check_both_ways()


def test_one_whose_batch_mates_matter_is_refused(monkeypatch):
    backbone = load("tiny:llama")
    whole = Backbone.encode

    def mixed(self, embeds, **options):
        hidden, kept = whole(self, embeds, **options)
        return hidden + hidden.mean(), kept

    monkeypatch.setattr(Backbone, "encode", mixed)
    with pytest.raises(ConfigError, match="cannot read both ways"):
        backbone.check_both_ways()


@pytest.mark.parametrize("name", DECODERS)
def test_padding_and_batch_change_nothing(name):
    backbone = load(name)
    rows = [tokens(n, seed=n) for n in (5, 9, 2)]
    for side in ("left", "right"):
        ids, mask = masked(rows, 11, side)
        with torch.no_grad():
            together = backbone.read_both_ways(backbone.embed(ids), mask)
            for num, row in enumerate(rows):
                alone = backbone.read_both_ways(backbone.embed(row[None]), torch.ones(1, len(row), dtype=torch.bool))
                assert close(together[num, mask[num]], alone[0])


@pytest.mark.parametrize("name", DECODERS)
def test_both_modes_learn_by_the_same_weights_and_checkpointing_changes_no_gradient(name):
    gradients = []
    for checkpointing in (False, True):
        adapter = Adapter("lora", 4, 8, 0.0, "all-linear")
        backbone = load(name, adapter=adapter, checkpointing=checkpointing, dropout=0.0).train()
        ids = tokens(3, 12)
        real = torch.arange(12) < torch.tensor([[12], [7], [9]])
        both = backbone.read_both_ways(backbone.embed(ids), real)
        forwards, _ = backbone.encode(backbone.embed(ids))
        (both[:, 0].pow(2).sum() + backbone.logits(forwards)[:, -1].logsumexp(-1).sum()).backward()
        gradients.append({n: p.grad for n, p in backbone.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert sum("lora" in n for n in gradients[0]) >= 16
    assert all(torch.allclose(gradients[0][n], gradients[1][n], atol=1e-6) for n in gradients[0])


def test_a_sliding_window_limits_what_is_read(tmp_path):
    config = AutoConfig.for_model("mistral", **{**SIZES, "num_key_value_heads": 1, "sliding_window": 16})
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    load("tiny").save_tokenizer(tmp_path)
    backbone = Backbone.load(str(tmp_path))
    assert backbone.positions == 16
    backbone.check_both_ways()
    with pytest.raises(ConfigError, match="has 16 positions, 20 are needed"):
        Backbone.load(str(tmp_path), positions=20)


def test_an_encoder_reads_both_ways_anyway():
    backbone = load("tiny:bert")
    ids = tokens(1, 8)
    one = backbone.read_both_ways(backbone.embed(ids), torch.ones(1, 8, dtype=torch.bool))
    plain, _ = backbone.encode(backbone.embed(ids))
    assert close(one, plain)
