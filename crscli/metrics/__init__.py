"""Metrics: those of rankings stand here, those of texts are had by `from crscli.metrics import text`.

The text metrics are not loaded from here, since the packages that they use are slow to import and rankings need none.
"""

from crscli.metrics.ranking import (
    METRICS,
    MISSED,
    NONE,
    best,
    mrr_at_k,
    ndcg_at_k,
    padded,
    ranks,
    recall_at_k,
    recall_figures,
    top_k,
)

__all__ = [
    "METRICS",
    "MISSED",
    "NONE",
    "best",
    "mrr_at_k",
    "ndcg_at_k",
    "padded",
    "ranks",
    "recall_at_k",
    "recall_figures",
    "top_k",
]
