"""Token embeddings from counts: where a backbone that begins with random weights begins instead.

Knows token ids of documents; nothing of dialogues and items.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

_DIRECTIONS = 256
"""The most that are looked for; wider embeddings are filled up with small random numbers."""


def counted_embeddings(documents: Sequence[Sequence[int]], vocabulary: int, width: int, seed: int) -> Tensor:
    """(V, D) embeddings of tokens: latent semantic analysis of documents.

    A token's length is its inverse document frequency: common words say little.

    Args:
        documents: token ids; those from `vocabulary` on are left out.
        vocabulary: V.
        width: D.
        seed: of what is added to the counts, and of the search for directions.

    Source: Deerwester et al., JASIS 1990; all directions are given the same weight.
    """
    rows = np.repeat(np.arange(len(documents)), [len(d) for d in documents])
    columns = np.concatenate([np.array(d, dtype=np.int64) for d in documents])
    own = columns < vocabulary
    counts = sp.coo_matrix((np.ones(own.sum()), (rows[own], columns[own])), (len(documents), vocabulary)).tocsr()
    seen_in = np.bincount(counts.indices, minlength=vocabulary)
    rarity = np.where(seen_in > 0, np.log(len(documents) / (1.0 + seen_in)).clip(min=0.0), 0.0)
    counts.data = np.log1p(counts.data)
    weighted = counts @ sp.diags(rarity)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel()).clip(min=1e-9)
    rng = np.random.default_rng(seed)
    directions = _right_singular(sp.csr_array(sp.diags(1 / lengths) @ weighted), min(width, _DIRECTIONS), rng)
    found = directions * rarity[:, None]
    table = rng.normal(scale=0.02, size=(vocabulary, width))
    table[:, : found.shape[1]] += found / max(1e-9, np.sqrt((found**2).sum(axis=1)[seen_in > 0].mean()))
    return torch.from_numpy(table).float()


def _right_singular(matrix: sp.csr_array, rank: int, rng: np.random.Generator) -> np.ndarray:
    """(V, rank) the first right singular vectors, nearly.

    Source: Halko, Martinsson & Tropp, SIAM Review 2011, algorithm 4.4; many times faster here than an exact solver.
    """
    rank = min(rank, *matrix.shape)
    basis = rng.normal(size=(matrix.shape[1], min(rank + 16, *matrix.shape)))
    for _ in range(5):
        basis, _ = np.linalg.qr(matrix.T @ (matrix @ basis))
    _, _, turned = np.linalg.svd(matrix @ basis, full_matrices=False)
    return basis @ turned[:rank].T
