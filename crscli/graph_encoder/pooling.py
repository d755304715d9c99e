"""Self-attentive pooling of the entities that a dialogue names. Knows tensors only."""

import torch
from torch import Tensor, nn


class AttentivePooling(nn.Module):
    """One vector from several: their mean, weighed by softmax(b tanh(A h)).

    Source: Chen et al., KBRD, EMNLP 2019, eq. 5, after Lin et al., ICLR 2017. Differs: padded places have no share.
    """

    def __init__(self, width: int, inner: int | None = None) -> None:
        """Draw the weights from torch's random numbers.

        Args:
            width: D.
            inner: of the attention; D by default.
        """
        super().__init__()
        inner = inner or width
        self.inner = nn.Parameter(torch.empty(width, inner))
        self.shares = nn.Parameter(torch.empty(inner, 1))
        nn.init.xavier_uniform_(self.inner)
        nn.init.xavier_uniform_(self.shares)

    def forward(self, vectors: Tensor, real: Tensor) -> Tensor:
        """(B, D), zero for rows that have none.

        Args:
            vectors: (B, E, D).
            real: (B, E) bool, which of them count.
        """
        scores = (torch.tanh(vectors @ self.inner) @ self.shares)[..., 0]
        scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        # A row without any has equal shares of nothing.
        shares = scores.softmax(1).masked_fill(~real, 0.0)
        return (shares[:, None, :] @ vectors)[:, 0]
