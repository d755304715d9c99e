"""Sizes and configurations of models with random weights. Knows nothing about weights and texts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from crscli.backbone.messages import retold
from crscli.errors import UsageError


@dataclass(frozen=True)
class Shape:
    """Size of a backbone that is built with random weights; `tied`: its vocabulary head may be its token embeddings.

    `family` of transformers; `key_heads` and `inner` (the width inside a layer) where they are not the family's usual.
    """

    layers: int = 2
    width: int = 64
    heads: int = 2
    vocabulary: int = 8192
    positions: int = 1024
    tied: bool = True
    family: str = "gpt2"
    key_heads: int = 0
    inner: int = 0


_SMALL, _MEDIUM = Shape(12, 768, 12, 50_257), Shape(24, 1024, 16, 50_257)
_MISTRAL = Shape(32, 4096, 32, 32_000, tied=False, family="mistral", key_heads=8, inner=14_336)
KNOWN = {
    "gpt2": _SMALL,
    "gpt2-medium": _MEDIUM,
    "microsoft/DialoGPT-small": _SMALL,
    "microsoft/DialoGPT-medium": _MEDIUM,
    "roberta-base": Shape(12, 768, 12, 50_265, family="roberta"),
    "Qwen/Qwen2.5-0.5B": Shape(24, 896, 14, 151_936, family="qwen2", key_heads=2, inner=4864),
    "mistralai/Mistral-7B-v0.1": _MISTRAL,
    "GritLM/GritLM-7B": _MISTRAL,
}
"""Models that `random:NAME` can build without a download."""
_TINY = ("gpt2", "llama", "mistral", "qwen2", "bert", "roberta")


def is_random(name: str) -> bool:
    """Whether a backbone of this name begins with random weights."""
    return name.split(":")[0] in ("tiny", "random")


def random_config(name: str, shape: Shape, *, encoder: bool) -> Any:
    """The configuration of "tiny", "tiny:TYPE" or "random:NAME".

    Args:
        name: of the backbone.
        shape: of "tiny"; of a known model only its positions and whether it is tied are taken, of a folder's nothing.
        encoder: whether "tiny" alone means an encoder.

    Raises:
        UsageError: an unknown name.
        ConfigError: the folder has no configuration.
    """
    kind, _, which = name.partition(":")
    if kind == "tiny":
        which = which or ("roberta" if encoder else "gpt2")
        if which not in _TINY:
            raise UsageError(f"backbone tiny:{which} is not known", f"known: {', '.join(f'tiny:{t}' for t in _TINY)}")
        config = _config(which, shape)
    elif which in KNOWN:
        known = KNOWN[which]
        config = _config(known.family, replace(known, positions=shape.positions))
        config.tie_word_embeddings = known.tied and shape.tied
    elif Path(which).expanduser().is_dir():
        with retold(f"{which} holds no shape", "it needs a config.json"):
            config = AutoConfig.from_pretrained(str(Path(which).expanduser()), trust_remote_code=False)
    else:
        raise UsageError(f"the shape of {which!r} is not known", f"known: {', '.join(KNOWN)}, or a local folder")
    # The tokenizer that is trained for random weights has no such tokens.
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    return config


def _config(model_type: str, shape: Shape) -> Any:
    sizes = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.positions,
        # GPT-2's .02 at width 768, kept in proportion: at small widths .02 leaves attention without a voice.
        "initializer_range": 0.02 * (768 / shape.width) ** 0.5,
    }
    if not shape.tied:
        sizes |= {"tie_word_embeddings": False}
    if model_type != "gpt2":
        sizes |= {"intermediate_size": shape.inner or 4 * shape.width}
    if model_type in ("llama", "mistral", "qwen2"):
        sizes |= {"num_key_value_heads": shape.key_heads or max(1, shape.heads // 2)}
    if model_type == "roberta":
        sizes |= {"type_vocab_size": 1}
    return AutoConfig.for_model(model_type, **sizes)
