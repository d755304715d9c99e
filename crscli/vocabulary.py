"""External ids and their dense numbers. Knows nothing about what the ids stand for."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np


class Vocabulary:
    """An immutable two-way map: external id (str) <-> number 0..N-1 in the given order."""

    def __init__(self, ids: Iterable[str]) -> None:
        """Number the ids in the order given.

        Raises:
            ValueError: an id occurs twice.
        """
        self.ids: tuple[str, ...] = tuple(ids)
        self._num = {external: num for num, external in enumerate(self.ids)}
        if len(self._num) != len(self.ids):
            seen: set[str] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise ValueError(f"id {twice!r} occurs twice")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, external: object) -> bool:
        return external in self._num

    def num(self, external: str) -> int:
        """The number of an id; KeyError if unknown."""
        return self._num[external]

    def nums(self, externals: Sequence[str]) -> np.ndarray:
        """Numbers of the known ids among `externals`, in order: (K,), int64; unknown ids are left out."""
        return np.array([self._num[e] for e in externals if e in self._num], dtype=np.int64)

    @cached_property
    def digest(self) -> str:
        """Sha256 over the ids in order: equal digests mean equal numbering."""
        joined = "\n".join(self.ids).encode("utf-8", "surrogatepass")
        return hashlib.sha256(joined).hexdigest()


def natural_order(ids: Iterable[str]) -> list[str]:
    """Ids sorted as numbers when all of them are numbers, else as text: the same on every machine."""
    listed = list(ids)
    if all(i.isascii() and i.isdigit() for i in listed):
        # Without leading zeros a longer number is the greater one: no conversion, whatever the length.
        return sorted(listed, key=lambda i: (len(i.lstrip("0")), i.lstrip("0"), i))
    return sorted(listed)
