"""Frozen linear layers in 4 bits: NF4 with double quantisation, the base of QLoRA.

The door to bitsandbytes, which is imported when it is asked for. Source: Dettmers et al., NeurIPS 2023.
"""

from types import ModuleType
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from crscli.backbone.messages import hushed
from crscli.errors import ConfigError, UsageError


def require_quantisable(quantise: str, tune: str) -> None:
    """Refuse what cannot be done in 4 bits, before anything is loaded.

    Raises:
        UsageError: another number format, weights that would be trained themselves, or the extra is missing.
    """
    if quantise and quantise != "nf4":
        raise UsageError(f"quantise={quantise} is not known", "give nf4, or leave it out")
    if quantise and "full" in tune:
        raise UsageError(f"weights in 4 bits cannot be trained themselves, as tune={tune} would", "give tune=lora")
    if quantise:
        _bitsandbytes()


def quantisation() -> BitsAndBytesConfig:
    """How a saved model is loaded: a weight at a time, so that it is never held whole in full precision."""
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)


@torch.no_grad()
def quantise_layers(lm: Any, name: str) -> None:
    """Put layers in 4 bits in place of a new model's linear layers, one by one; its head stays as it is.

    Raises:
        ConfigError: it has no linear layers.
    """
    bnb = _bitsandbytes()
    head, count = lm.get_output_embeddings(), 0
    # A list with the layers themselves would keep their full weights to the end.
    for module in [m for m in lm.modules() if not isinstance(m, nn.Linear)]:
        for child_name, child in list(module.named_children()):
            if type(child) is nn.Linear and child is not head:
                made = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, bias=child.bias is not None, quant_type="nf4", device="meta"
                )
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


def settle(lm: Any, device: torch.device) -> None:
    """Let layers in 4 bits compute in bf16 on a GPU and in fp32 on a CPU, and let gradients pass them.

    Read once without training, a layer on a CPU would otherwise be packed for ever into a form that has none.
    """
    for module in lm.modules():
        if hasattr(module, "compute_type_is_set"):  # bitsandbytes' layer
            module.compute_dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
            module.compute_type_is_set = True
            module.support_avx512bf16_for_cpu = False


def _bitsandbytes() -> ModuleType:
    """The one door to the package."""
    try:
        with hushed("bitsandbytes"):
            import bitsandbytes
    except ImportError:
        raise UsageError("quantise=nf4 needs the extra: pip install 'crscli[qlora]'", "or leave it out") from None
    return bitsandbytes
