import logging
import warnings

import pytest
import torch
import transformers
from backbones import DECODERS, ENCODERS, all_kinds, close, decoders, load, refused, saved, tokens
from torch import nn

from crscli.backbone import Adapter
from crscli.errors import ConfigError

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


def test_a_model_that_gives_no_numbers_beside_padding_is_found_out(monkeypatch):
    backbone = load("tiny")

    def damaging(arguments):
        padded = arguments["inputs_embeds"].shape[1] > 8
        return {**arguments, "inputs_embeds": arguments["inputs_embeds"] * (torch.nan if padded else 1)}

    change_forward(backbone, damaging, monkeypatch)
    fails(backbone, "padding changes its result")


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
def test_loading_and_running_says_nothing(name, built, tmp_path, capfd, caplog, monkeypatch):
    directory = saved(built[name], tmp_path / "model")
    capfd.readouterr()
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
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
    assert [str(w.message) for w in heard] == []
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_a_long_text_is_no_occasion_for_a_warning(copied, caplog, monkeypatch):
    backbone = load(str(copied))
    backbone.tokenizer.model_max_length = 4
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert len(backbone.tokenize(["Hello there, Hello there"])[0]) > 4
    assert caplog.text == ""


def test_transformers_speaks_again_after_loading():
    before = transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    load("tiny")
    assert (transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()) == before
