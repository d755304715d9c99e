"""Rows that are being continued token by token by a model that has read them."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from crscli.backbone.attention import Prefix
from crscli.backbone.cache import RoomyLayer


class Continuation:
    """Rows that are being continued token by token: the state that `generation.decode` advances."""

    def __init__(self, backbone: Any, prefix: Prefix) -> None:
        self._backbone = backbone
        self._layers = [RoomyLayer(keys, values) for keys, values in prefix.layers]
        self._cache = Cache(list(self._layers))
        self._mask = prefix.mask
        self._lengths = prefix.lengths
        # Rows that continue the same one, as beams do, hold the same prefix: what is reordered is what follows it.
        self._origins = torch.arange(len(prefix.mask), device=prefix.mask.device)
        self._shared = prefix.mask.shape[1]
        self._logits = torch.empty(0)

    def advance(self, token_ids: Tensor) -> Tensor:
        """Append a token to each row: (R,) -> logits of the next (R, V + S), which the next call may overwrite."""
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        embeds = self._backbone.embed(token_ids[:, None])
        hidden = self._backbone._read(embeds, self._mask[:, None], self._lengths[:, None], self._cache)
        self._lengths = self._lengths + 1
        if hidden.device.type != "cpu" or torch.is_grad_enabled():
            return self._backbone.logits(hidden[:, -1])
        if len(self._logits) < len(hidden):
            self._logits = torch.empty(len(hidden), self._backbone.vocabulary + len(self._backbone.specials))
        return self._backbone.logits(hidden[:, -1], self._logits[: len(hidden)])

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows."""
        origins = self._origins[rows]
        start = self._shared if torch.equal(origins, self._origins) else 0
        for layer in self._layers:
            layer.select(rows, start)
        self._mask, self._lengths, self._origins = self._mask[rows], self._lengths[rows], origins
