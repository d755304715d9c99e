"""The conversations of train that similar ones are found among: vectors, what was recommended, and their last turns."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from crscli.catalogue import Catalogue
from crscli.dialogue import Turn
from crscli.models.reficr.rows import Conversation

_SHOWN_TURNS = 6
"""Turns of a conversation that can be shown in a prompt."""
VECTORS, TEXTS = "conversations.npy", "conversations.jsonl"


@dataclass
class Store:
    """C conversations: `vectors` (C, D) float32, and the conversations, without the turns that are never shown."""

    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), dtype=np.float32))
    conversations: list[Conversation] = field(default_factory=list)

    @classmethod
    def of(cls, conversations: Sequence[Conversation], vectors: np.ndarray) -> Self:
        """Conversations with their vectors."""
        short = [Conversation(c.dialogue_id, c.turn_num, c.turns[-_SHOWN_TURNS:], c.targets) for c in conversations]
        return cls(vectors.astype(np.float32), short)

    def __len__(self) -> int:
        return len(self.conversations)

    @cached_property
    def targets(self) -> list[tuple[int, ...]]:
        """Item numbers that each was recommended."""
        return [c.targets for c in self.conversations]

    def save(self, directory: Path, catalogue: Catalogue) -> None:
        """Write vectors and texts."""
        np.save(directory / VECTORS, self.vectors, allow_pickle=False)
        with (directory / TEXTS).open("w", encoding="utf-8", newline="\n") as file:
            for c in self.conversations:
                row = {
                    "dialogue_id": c.dialogue_id,
                    "turn_num": c.turn_num,
                    "items": [catalogue[n].item_id for n in c.targets],
                    "turns": [[t.role, t.text] for t in c.turns],
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue) -> Self:
        """Read what `save` wrote."""
        made = []
        with (directory / TEXTS).open(encoding="utf-8", newline="\n") as file:
            for row in map(json.loads, file):
                turns = tuple(Turn(role, text) for role, text in row["turns"])
                targets = tuple(int(n) for n in catalogue.vocabulary.nums(row["items"]))
                made.append(Conversation(row["dialogue_id"], row["turn_num"], turns, targets))
        return cls(np.load(directory / VECTORS, allow_pickle=False), made)
