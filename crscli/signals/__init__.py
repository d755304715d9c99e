"""Fitted sources of scores: what training dialogues tell about items without a language model.

Each signal is fitted on dialogues, scores contexts as a (B, N) matrix, and is saved as plain arrays. Thin models
wrap single signals; `blend` combines them. Knows nothing about evaluation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from crscli.dialogue import Context


class Signal(Protocol):
    """A fitted source of scores."""

    def scores(self, contexts: Sequence[Context]) -> np.ndarray:
        """Scores of all items for each context: (B, N) float32, 0 where the signal is silent."""
        ...

    def save(self, directory: Path) -> None:
        """Write the fitted arrays into a directory."""
        ...
