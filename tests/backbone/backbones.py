"""Small backbones of every kind, and how tests of them load, compare and save."""

import pytest
import torch

from crscli.backbone import Adapter, Backbone, Shape

DECODERS = ("tiny", "tiny:llama", "tiny:mistral", "tiny:qwen2")
ENCODERS = ("tiny:bert", "tiny:roberta")
SHAPE = Shape(layers=2, width=32, heads=2, vocabulary=400, positions=64)
CORPUS = ["Hello there, I love films like Alien (1979)!", "emoji 🎬 works", "Have you seen The Matrix? No, no, no."] * 4
TEXTS = ["Hello there!", "", " ", "  two  spaces\n\n\nlines\t", "never seen: ŷßÄ中文", "🎬👩‍👩‍👧", "a" * 3000]
SPECIALS = ("[REC]", "[SEP]")
TOLERANCE = 1e-5


def load(name, **options):
    given = {"specials": SPECIALS, "shape": SHAPE, "corpus": CORPUS, "encoder": name in ENCODERS, "seed": 1}
    return Backbone.load(name, **{**given, **options}).eval()


decoders = pytest.mark.parametrize("decoder", DECODERS, indirect=True)
all_kinds = pytest.mark.parametrize("any_kind", [*DECODERS, *ENCODERS], indirect=True)


def tokens(*shape, seed=0):
    return torch.randint(0, 300, shape, generator=torch.Generator().manual_seed(seed))


def close(one, other):
    return torch.allclose(one, other, atol=TOLERANCE)


def masked(rows, width, side):
    """Rows padded on a side with a token that would be noticed: ids and mask."""
    ids, mask = torch.full((len(rows), width), 77), torch.zeros(len(rows), width, dtype=torch.bool)
    for num, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[num, place], mask[num, place] = row, True
    return ids, mask


def folder_of(lm, directory, tokenizer):
    lm.save_pretrained(directory)
    tokenizer.save_tokenizer(directory)
    return str(directory)


def saved(backbone, directory):
    """A folder as save_pretrained makes it, of the same weights as a tiny backbone."""
    name = f"tiny:{backbone.lm.config.model_type}"
    plain = load(name, adapter=Adapter("none"))
    return folder_of(plain.lm, directory, plain)


def refused(name, error, match, **options):
    with pytest.raises(error, match=match) as caught:
        load(str(name), **options)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value
