"""A ban of repeated n-grams for token sequences that grow side by side. Knows token ids and logits."""

from collections.abc import Sequence

import torch
from torch import Tensor

_NONE = -1


class Repeats:
    """What stands in R rows so far, and which tokens would repeat an n-gram of it.

    Source: no_repeat_ngram_size of transformers, which counts the prompt as well. Differs: it is lifted where it leaves
    a row no token; all rows are looked at together.
    """

    def __init__(self, n: int, before: Sequence[Sequence[int]], device: torch.device) -> None:
        """Begin with what was read; rows may differ in length.

        Args:
            n: of the n-grams.
            before: (R,) token ids.
            device: of the logits.
        """
        self._n = n
        longest = max(map(len, before), default=0)
        rows = [[_NONE] * (longest - len(row)) + list(row) for row in before]
        self._ids = torch.tensor(rows, dtype=torch.int64, device=device).view(len(rows), longest)

    def go_on(self, rows: Tensor, tokens: Tensor) -> None:
        """Keep these rows (R',), repeated or reordered, each with its token appended."""
        self._ids = torch.cat([self._ids[rows], tokens[:, None]], dim=1)

    def ban(self, logits: Tensor) -> Tensor:
        """Logits (R, V), in their place, with the tokens at -inf that end an n-gram which is there already."""
        rows, tokens = self._repeating(logits.shape[1])
        if len(rows):
            before = logits[rows, tokens]
            logits[rows, tokens] = -torch.inf
            left = logits.amax(1) > -torch.inf  # a model may hold tokens impossible too: no count of bans tells
            logits[rows, tokens] = torch.where(left[rows], -torch.inf, before)
        return logits

    def _repeating(self, size: int) -> tuple[Tensor, Tensor]:
        """Rows and tokens below `size` that would repeat something; some pairs may stand twice."""
        ids, n = self._ids, self._n
        count = ids.shape[1] - n + 1
        if count < 1:
            nothing = ids.new_empty(0)
            return nothing, nothing
        last, ends = ids[:, count:], ids[:, n - 1 :]
        # What is read may hold tokens that are never said and have no logit.
        same = (ends >= 0) & (ends < size) & (last != _NONE).all(1, keepdim=True)
        for at in range(n - 1):
            same &= ids[:, at : at + count] == last[:, at : at + 1]
        rows, places = same.nonzero(as_tuple=True)
        return rows, ends[rows, places]
