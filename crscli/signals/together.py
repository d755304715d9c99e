"""All signals of `blend` behind one call: those learnt from dialogues, those of the catalogue, and a retriever's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from crscli.catalogue import Catalogue
from crscli.dialogue import Dialogue
from crscli.progress import Progress, silent
from crscli.signals.joint import SIGNALS, JointSignals
from crscli.signals.requests import CONTENT, ContentSignals
from crscli.signals.retriever import Retriever
from crscli.signals.talk import Lexicon, Talk

RETRIEVED = "retrieved"
"""Log of how much likelier the retriever holds an item than chance would; silent without a retriever."""
NAMES: tuple[str, ...] = (*SIGNALS, *CONTENT, RETRIEVED)
"""Every signal, in the order of the features."""


class Together:
    """Scores contexts by every signal; what the catalogue tells is shared between fits."""

    def __init__(self, joint: JointSignals, content: ContentSignals, retriever: Retriever | None = None) -> None:
        self.joint = joint
        self.content = content
        self.retriever = retriever
        self.lexicon: Lexicon = joint.lexicon
        self._often = np.zeros(len(joint.lexicon.catalogue), dtype=np.float32)
        self._often[joint.arrays["items"]] = np.log1p(joint.arrays["count"])

    @classmethod
    def fit(
        cls,
        lexicon: Lexicon,
        content: ContentSignals,
        dialogues: Sequence[Dialogue],
        *,
        retrieve: bool = False,
        seed: int = 0,
        progress: Progress = silent,
    ) -> "Together":
        """Learn from dialogues, oldest first; with a retriever if asked."""
        retriever = Retriever.fit(lexicon, dialogues, seed=seed, progress=progress) if retrieve else None
        return cls(JointSignals.fit(lexicon, dialogues, seed=seed), content, retriever)

    def scores(self, talk: Talk) -> dict[str, np.ndarray]:
        """Every signal for every item: name -> (B, N) float32, in the order of NAMES."""
        found = {**self.joint.scores(talk), **self.content.scores(talk, self._often, self.joint.arrays["idf"])}
        size = (len(talk.contexts), len(self.lexicon.catalogue))
        if self.retriever is None:
            found[RETRIEVED] = np.zeros(size, dtype=np.float32)
        else:
            found[RETRIEVED] = self.retriever.scores(talk) + np.float32(np.log(max(size[1], 1)))
        return found

    def save(self, directory: Path) -> None:
        """Write what was learnt, and the graph; what the catalogue tells follows from it."""
        self.joint.save(directory)
        if self.retriever is not None:
            self.retriever.save(directory)
        if self.content.graph is not None:
            sp.save_npz(directory / "graph.npz", self.content.graph)

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, *, retrieve: bool = False) -> "Together":
        """Read what `save` wrote."""
        graph = directory / "graph.npz"
        content = ContentSignals(catalogue, sp.csr_array(sp.load_npz(graph)) if graph.exists() else None)
        joint = JointSignals.load(directory, catalogue)
        return cls(joint, content, Retriever.load(directory, joint.lexicon) if retrieve else None)
