"""Which tokens see which, at which positions, and what was read before.

All of it is explicit, so that left, right and no padding agree and a row never depends on its batch mates. Knows
nothing about models.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Prefix:
    """Keys and values of tokens that were encoded before: what a continuation attends to.

    `layers` L pairs of (B, H, P, D / H); `mask` (B, P) bool, which of them are real; `lengths` (B,) the next position.
    """

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor
    lengths: Tensor

    def select(self, rows: Tensor) -> "Prefix":
        """The prefix of some rows, repeated or reordered."""
        return Prefix([(k[rows], v[rows]) for k, v in self.layers], self.mask[rows], self.lengths[rows])

    def first(self, lengths: Tensor) -> "Prefix":
        """Only the first `lengths` (B,) columns of each row; rows are padded to the right."""
        width = int(lengths.max())
        layers = [(k[:, :, :width], v[:, :, :width]) for k, v in self.layers]
        return Prefix(layers, right_padded(lengths, width), lengths)


def right_padded(lengths: Tensor, width: int) -> Tensor:
    """(B, T) bool, the real ones of T tokens: the first `lengths` (B,) of each row."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def seen_tokens(mask: Tensor, prefix: Prefix | None, visible: Tensor | None, *, causal: bool) -> Tensor:
    """(B, T or 1, P + T) bool, what each token attends to; itself always, so that no row of it is empty.

    Args:
        mask: (B, T) bool, real tokens.
        prefix: P tokens before them, which all of them see.
        visible: (T, T) or (B, T, T) bool, which of them may see which, or (1, T), which all of them may see; without it
            the earlier ones, or all.
        causal: whether later tokens are hidden where `visible` is not given.
    """
    width = mask.shape[1]
    square = torch.ones(width, width, dtype=torch.bool, device=mask.device)
    if visible is None:
        visible = square.tril() if causal else square
    own = visible & mask[:, None, :]
    if own.shape[1] == width:
        own = own | torch.eye(width, dtype=torch.bool, device=mask.device)
    if prefix is None:
        return own
    return torch.cat([prefix.mask[:, None, :].expand(-1, own.shape[1], -1), own], dim=2)


def counted_positions(mask: Tensor, prefix: Prefix | None) -> Tensor:
    """(B, T) positions, counted over the real tokens of `mask` (B, T), after the prefix."""
    places = (mask.long().cumsum(1) - 1).clamp(min=0)
    return places if prefix is None else places + prefix.lengths[:, None]
