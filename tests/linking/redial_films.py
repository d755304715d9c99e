"""ReDial as the linker's tests read it: items with people and plots, train and test dialogues."""

import json
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from crscli.catalogue import Catalogue
from crscli.datasets import redial
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source


@dataclass(frozen=True)
class Redial:
    catalogue: Catalogue
    popularity: np.ndarray
    train: list
    test: list


@cache
def load(folder):
    """ReDial with the metadata of iEvaLM; popularity is counted in train."""
    corpus = redial.read(Source(folder / "redial", redial.ALLOW), bad=BadRows(0, print))
    known = json.loads((folder / "kg" / "redial_ievalm" / "id2info.json").read_text(encoding="utf-8"))
    catalogue = Catalogue(_with_metadata(item, known.get(item.item_id)) for item in corpus.items)
    popularity = np.zeros(len(catalogue))
    for dialogue in corpus.splits["train"]:
        for turn in dialogue.turns:
            for item_id in turn.items:
                popularity[catalogue.vocabulary.num(item_id)] += 1
    return Redial(catalogue, popularity, corpus.splits["train"], corpus.splits["test"])


def _with_metadata(item, info):
    if info is None:
        return item
    people = {"directors": "director", "writers": "writer", "cast": "star"}
    return replace(item, plot=info["plot"] or "", **{name: tuple(info[key]) for name, key in people.items()})
