"""Keys and values that grow in place while rows are continued token by token."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Tokens that there is room for before keys and values are copied to a larger place."""


class RoomyLayer(DynamicLayer):
    """Keys and values (R, H, T, D / H) of a layer, and room behind them: a further token copies nothing else."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Begin with those of a prefix, which are not changed."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self._stores, self._end = [keys, values], keys.shape[2]
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (store[:, :, : self._end] for store in self._stores)
        self.keys, self.values = keys, values
        return keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (R, H, T', D / H); all keys and values."""
        begin, end = self._end, self._end + key_states.shape[2]
        if end > self._stores[0].shape[2]:
            room = (*key_states.shape[:2], max(_ROOM, end - begin), key_states.shape[3])
            self._stores = [torch.cat([store, store.new_empty(room)], dim=2) for store in self._stores]
        for store, new in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, begin:end] = new
        self._end = end
        return self._show()

    def select(self, rows: Tensor, start: int) -> None:
        """Keep, repeat or reorder rows, whose first `start` tokens are the same in either order."""
        if start:
            for store in self._stores:
                store[:, :, start : self._end] = store[:, :, start : self._end].index_select(0, rows)
        else:
            self._stores = [store.index_select(0, rows) for store in self._stores]
        self._show()
