"""What of a language model is trained: LoRA adapters on its linear layers, all of it, or nothing.

The door to peft. Knows nothing about tokens and texts.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from crscli.backbone.messages import hushed
from crscli.errors import UsageError

with hushed("bitsandbytes"):  # peft imports it where it is there; on a CPU it tells of kernels that it does without
    from peft import LoraConfig, inject_adapter_in_model

Tune = Literal["lora", "full", "lora+full", "none"]

_ATTENTION = (("c_attn",), ("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("query_key_value",))
"""The attention's input projections, as families of models call them: one fused, or query, key and value."""


@dataclass(frozen=True)
class Adapter:
    """What of a backbone is trained.

    `tune`: "lora" adapters on frozen weights, "full" all weights, "lora+full" both, "none" neither. `targets`: "qkv" or
    "qv" (the attention's input projections), "all-linear", or module names separated by commas.
    """

    tune: Tune = "lora"
    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.1
    targets: str = "qkv"


class FusedQueryValueLora(nn.Module):
    """LoRA on the query and value parts of a fused query-key-value projection, each with its own pair.

    Source: peft 0.1.0's merged layer with enable_lora [True, False, True], which PECRS's pinned version uses.
    """

    def __init__(self, base: Conv1D, adapter: Adapter) -> None:
        super().__init__()
        self.base = base
        width = base.weight.shape[0]
        # As peft draws its A: uniform within 1 / sqrt(inputs).
        self.down = nn.Parameter(torch.empty(2, width, adapter.rank).uniform_(-(width**-0.5), width**-0.5))
        self.up = nn.Parameter(torch.zeros(2, adapter.rank, width))
        self.dropout = nn.Dropout(adapter.dropout)
        self.scale = adapter.alpha / adapter.rank

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 3 D)."""
        # Both pairs as one, with zeros where the key is: one product each way, the second added to the base's at once.
        none = torch.zeros_like(self.up[0])
        up = torch.cat([torch.cat([self.up[0], none, none], dim=1), torch.cat([none, none, self.up[1]], dim=1)])
        low = self.dropout(hidden) @ torch.cat([self.down[0], self.down[1]], dim=1)
        base = self.base(hidden)
        return torch.addmm(base.flatten(0, -2), low.flatten(0, -2), up, alpha=self.scale).view(base.shape)


def adapt(lm: nn.Module, adapter: Adapter) -> None:
    """Freeze what is not trained and add LoRA weights, drawn from torch's random numbers.

    Raises:
        UsageError: the targets are no linear layers of the model.
    """
    lm.requires_grad_("full" in adapter.tune)
    if "lora" not in adapter.tune:
        return
    fused = [module for module in lm.modules() if isinstance(getattr(module, "c_attn", None), Conv1D)]
    if adapter.targets == "qv" and fused:
        for attention in fused:
            attention.c_attn = FusedQueryValueLora(attention.c_attn, adapter)  # type: ignore[arg-type]
        return
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # a float scales just as well
        lora_dropout=adapter.dropout,
        target_modules=_targets(lm, adapter.targets),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft tells of Conv1D and of tied heads: both are well
        inject_adapter_in_model(config, lm)
    if "full" in adapter.tune:
        lm.requires_grad_(True)  # peft has frozen it


def _targets(lm: nn.Module, targets: str) -> str | list[str]:
    """Names of the layers that LoRA adapts, as peft takes them."""
    if targets == "all-linear":
        return targets
    if targets in ("qkv", "qv"):
        found = next((names for names in _ATTENTION if _modules(lm, names[0])), ())
        if not found or (targets == "qv" and len(found) == 1):
            raise UsageError(
                f"lora_targets={targets} does not fit the attention of {type(lm).__name__}: its projections "
                + ("are one" if found else "have other names"),
                f"give lora_targets={'qkv, ' if found else ''}all-linear, or names of linear layers",
            )
        names = list(found if targets == "qkv" else found[::2])
    else:
        names = [name.strip() for name in targets.split(",")]
    for name in names:
        # peft leaves out names that are not there, and an adapted look-up table would be read past its adapter.
        matched = _modules(lm, name)
        if not matched or not all(isinstance(m, nn.Linear | Conv1D) for m in matched):
            raise UsageError(
                f"LoRA target {name!r} is no linear layer of {type(lm).__name__}",
                "give lora_targets=qkv, qv or all-linear, or names of linear layers",
            )
    return names


def _modules(lm: nn.Module, name: str) -> list[nn.Module]:
    """The modules of a name or of an ending of it, as peft matches them."""
    return [module for path, module in lm.named_modules() if path == name or path.endswith(f".{name}")]
