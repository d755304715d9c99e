"""Failures that a model or a library version commits in silence: found when it is loaded, in a few short readings.

Knows nothing about how a backbone reads, nor where it came from.
"""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import torch
import transformers
from torch import Tensor, nn

from crscli.backbone.attention import Prefix
from crscli.backbone.messages import retold
from crscli.errors import ConfigError

_BF16_TOLERANCE, _FP32_TOLERANCE = 0.1, 1e-3


class Reader(Protocol):
    """What is checked of a backbone."""

    name: str
    vocabulary: int
    is_decoder: bool

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        ...

    def embed(self, ids: Tensor) -> Tensor:
        """Input vectors of tokens."""
        ...

    def encode(
        self,
        embeds: Tensor,
        *,
        mask: Tensor | None = None,
        prefix: Prefix | None = None,
        visible: Tensor | None = None,
        positions: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Prefix | None]:
        """Hidden states, and keys and values where `lengths` ask for them."""
        ...


@contextlib.contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Nothing is dropped out inside."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@torch.no_grad()
def check_reading(reader: Reader) -> None:
    """Raise a ConfigError where a reader, which drops nothing out now, reads in another way than it must.

    Hidden states must be finite, and the same with left, right and no padding; a decoder must not see what comes
    later, must continue from kept keys and values as if it had read everything, and must heed a mask.
    """
    fault = f"backbone {reader.name} fails its self-check"
    hint = f"take another backbone, or another version of transformers than {transformers.__version__}"
    tokens = (torch.arange(8, device=reader.device) * 7 + 1) % reader.vocabulary
    with retold(fault, hint):  # another family's forward may raise anything
        plain = reader.encode(reader.embed(tokens[None]))[0][0]
        if not torch.isfinite(plain).all():
            raise ConfigError(f"backbone {reader.name} gives values that are not finite", "its weights are damaged")
        if reader.is_decoder and _sees_later(reader, tokens, plain):
            raise ConfigError(
                f"backbone {reader.name} sees later tokens: it is an encoder, a decoder is needed",
                "name a causal language model, such as gpt2",
            )
        for what, one, other in _readings(reader, tokens, plain):
            if _differ(one, other):
                raise ConfigError(f"{fault}: {what}", hint)


@torch.no_grad()
def check_both_ways(reader: Reader) -> None:
    """Raise a ConfigError where a reader, asked to let every token see all others, does not.

    The first token must heed the last; padding on either side and other rows of a batch must change nothing; and the
    same weights must still not see what comes later when they are not asked to.
    """
    fault = f"backbone {reader.name} cannot read both ways"
    hint = "take a decoder of the Llama, Mistral, Qwen, Gemma, GPT-2 or GPT-NeoX families"
    tokens = (torch.arange(8, device=reader.device) * 5 + 2) % reader.vocabulary
    other = torch.cat([tokens[:7], tokens[3:4]])

    def read(rows: Tensor, mask: Tensor) -> Tensor:
        return reader.encode(reader.embed(rows), mask=mask, visible=torch.ones_like(mask[:1]))[0]

    def real(*sides: int) -> Tensor:
        return torch.arange(11, device=reader.device).ge(sides[0]) & torch.arange(11, device=reader.device).lt(sides[1])

    with retold(fault, hint):  # another family's forward may raise anything
        whole = torch.ones(2, 8, dtype=torch.bool, device=reader.device)
        one, changed = read(torch.stack([tokens, other]), whole)
        # Rows of one batch are rounded alike: in bf16, too, any change is the last token's doing.
        if not _change(one[:1], changed[:1]) > _FP32_TOLERANCE:
            raise ConfigError(f"{fault}: its first token does not heed the last", hint)
        pad = tokens[:3]
        left = read(torch.cat([pad, tokens])[None], real(3, 11)[None])[0, 3:]
        right = read(torch.cat([tokens, pad])[None], real(0, 8)[None])[0, :8]
        alone = read(tokens[None], whole[:1])[0]
        for what, found in (("padding", left), ("padding", right), ("the batch", alone)):
            if _differ(one, found):
                raise ConfigError(f"{fault}: {what} changes its result", hint)
        forwards, _ = reader.encode(reader.embed(torch.stack([tokens, other])), mask=whole)
        if _differ(forwards[0, :7], forwards[1, :7]):
            raise ConfigError(f"{fault} and forwards: asked to read forwards, it sees later tokens", hint)


def _sees_later(reader: Reader, tokens: Tensor, plain: Tensor) -> bool:
    ends_otherwise = torch.cat([tokens[:5], tokens[:3]])
    return _differ(plain[:5], reader.encode(reader.embed(ends_otherwise[None]))[0][0, :5])


def _readings(reader: Reader, tokens: Tensor, plain: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(fault, one reading, another): they agree where the reader does not have the fault."""
    read, pad = reader.embed(tokens[None]), reader.embed(tokens[None, :3])
    real = torch.ones(1, 8, dtype=torch.bool, device=reader.device)
    none = torch.zeros(1, 3, dtype=torch.bool, device=reader.device)
    left, _ = reader.encode(torch.cat([pad, read], 1), mask=torch.cat([none, real], 1))
    yield "padding changes its result", plain, left[0, 3:]
    right, _ = reader.encode(torch.cat([read, pad], 1), mask=torch.cat([real, none], 1))
    yield "padding changes its result", plain, right[0, :8]
    if not reader.is_decoder:
        return
    _, kept = reader.encode(read[:, :5], lengths=torch.tensor([5], device=reader.device))
    continued, _ = reader.encode(read[:, 5:], prefix=kept)
    yield "it does not continue from kept keys and values", plain[5:], continued[0]
    hole = real.clone()
    hole[0, 2] = False
    order = torch.tensor([[0, 1, 7, 2, 3, 4, 5, 6]], device=reader.device)
    masked, _ = reader.encode(read, mask=hole, positions=order)
    without, _ = reader.encode(torch.cat([read[:, :2], read[:, 3:]], 1))
    yield "it does not heed a mask", masked[0, 3:], without[0, 2:]


def _differ(one: Tensor, other: Tensor) -> bool:
    """Whether two readings differ by more than rounding; one that is not finite differs from any."""
    tolerance = _FP32_TOLERANCE if one.device.type == "cpu" and one.dtype == torch.float32 else _BF16_TOLERANCE
    return not _change(one, other) <= tolerance


def _change(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max()) / max(1.0, float(one.abs().max()))
