"""What PECRS counts words in, for token embeddings that begin as counts tell.

Ours, not the paper's, whose backbones are pre-trained.
"""

from collections.abc import Sequence

from torch import Tensor

from crscli.backbone.counted import counted_embeddings
from crscli.dialogue import Dialogue, merge_turns
from crscli.models.pecrs.network import PecrsNetwork


def lexical_embeddings(network: PecrsNetwork, dialogues: Sequence[Dialogue], seed: int) -> Tensor:
    """(V, D) embeddings of the backbone's tokens from item texts and train dialogues.

    Items that a dialogue names count with the words of their texts, so that words of seekers come to lie near words of
    the items that go with them.
    """
    layout = network.layout
    documents = [list(text) for text in network.texts]
    for dialogue in dialogues:
        tokens = [t for turn in merge_turns(dialogue.turns) for t in layout.turn(turn)]
        items = [t for t in tokens if t >= layout.base]
        documents.append(tokens + [t for item in items for t in network.texts[item - layout.base]])
    return counted_embeddings(documents, network.backbone.vocabulary, network.backbone.width, seed)
