"""Frozen linear layers in 4 bits: NF4 with double quantisation, the base of QLoRA.

The door to bitsandbytes, which is imported when it is asked for. Source: Dettmers et al., NeurIPS 2023.
"""

import warnings
from types import ModuleType
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from crscli.errors import ConfigError, UsageError


def quantisation() -> BitsAndBytesConfig:
    """How a saved model is loaded, a shard at a time, so that it is never held whole in full precision."""
    _bitsandbytes()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_compute_type(),
    )


@torch.no_grad()
def quantise_layers(lm: Any, name: str) -> None:
    """Put layers in 4 bits in place of a new model's linear layers, one by one; its head stays as it is.

    Raises:
        ConfigError: it has no linear layers.
    """
    bnb = _bitsandbytes()
    head, count = lm.get_output_embeddings(), 0
    for module in list(lm.modules()):
        for child_name, child in list(module.named_children()):
            if type(child) is nn.Linear and child is not head:
                made = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, bias=child.bias is not None, compute_dtype=_compute_type(),
                    compress_statistics=True, quant_type="nf4",
                )  # fmt: skip
                made.weight = bnb.nn.Params4bit(
                    child.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
                )
                if child.bias is not None:
                    made.bias = nn.Parameter(child.bias.data, requires_grad=False)
                setattr(module, child_name, made.to(child.weight.device))
                count += 1
    if not count:
        raise ConfigError(
            f"backbone {name} has no linear layers that could be held in 4 bits",
            "leave out quantise, or take another backbone, such as tiny:llama",
        )


def keep_learning(lm: Any) -> None:
    """Let gradients pass: read once without training, a layer on a CPU would be packed for ever into a form without."""
    for module in lm.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _compute_type() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def _bitsandbytes() -> ModuleType:
    """The one door to the package; on a CPU it warns of kernels that it does without."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import bitsandbytes
    except ImportError:
        raise UsageError("quantise=nf4 needs the extra: pip install 'crscli[qlora]'", "or leave it out") from None
    return bitsandbytes
