import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from backbones import (
    CORPUS,
    ENCODERS,
    TEXTS,
    all_kinds,
    close,
    folder_of,
    load,
    refused,
    saved,
    tokens,
)

from crscli.backbone import Adapter, Shape, loading, shapes
from crscli.errors import ArtifactMissing, ConfigError, SourceError, UsageError

# ---- folders --------------------------------------------------------------------------------------------------------


@all_kinds
@torch.no_grad()
def test_a_saved_model_is_loaded_as_it_was(any_kind, tmp_path):
    name = saved(any_kind, tmp_path / "model")
    again = load(name, shape=None, corpus=(), encoder=not any_kind.is_decoder)
    assert again.fingerprint == any_kind.fingerprint
    assert again.tokenize([*TEXTS, *CORPUS]) == any_kind.tokenize([*TEXTS, *CORPUS])
    ids = tokens(2, 7)
    assert torch.equal(again.encode(again.embed(ids))[0], any_kind.encode(any_kind.embed(ids))[0])
    again.require(any_kind.describe(), "run", "")


def test_the_end_of_a_text_is_known_from_the_tokenizers_file_alone(copied):
    made = load(str(copied))
    made.tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    made.save_tokenizer(copied)
    (copied / "tokenizer_config.json").write_text("{}")  # as that of GPT-2, which names no token
    again = load(str(copied))
    end = len(again.tokenizer) - 1
    assert again.tokenizer.convert_ids_to_tokens(end) == "<|endoftext|>"
    assert end in again.unspoken
    assert end not in again.tokenize(["so<|endoftext|>"])[0]
    assert again.text([end]) == ""


def test_a_tokenizer_may_lie_in_two_files_as_that_of_dialogpt(copied):
    whole = load(str(copied))
    bpe = json.loads((copied / "tokenizer.json").read_text())["model"]
    (copied / "tokenizer.json").unlink()
    (copied / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    (copied / "vocab.json").write_text(json.dumps(bpe["vocab"]))
    (copied / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in bpe["merges"]))
    again = load(str(copied))
    assert again.tokenize(CORPUS) == whole.tokenize(CORPUS)
    assert again.text(again.tokenize(CORPUS)[0]) == CORPUS[0]


def test_roberta_counts_positions_from_its_padding_on(tmp_path, built):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.RobertaConfig(vocab_size=400, max_position_embeddings=34, pad_token_id=1, **sizes)
    name = folder_of(transformers.RobertaModel(config), tmp_path / "roberta", built["tiny"])
    roberta = load(name, encoder=True)
    assert roberta.positions == 32
    ids = tokens(1, 32) + 2  # its own padding is among no ids
    with torch.no_grad():
        expected = roberta.lm(input_ids=ids).last_hidden_state
        assert close(roberta.encode(roberta.embed(ids))[0], expected)


@torch.no_grad()
def test_a_decoder_that_counts_from_its_padding_on_is_continued_in_its_places(tmp_path, built):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    places = {"max_position_embeddings": 34, "pad_token_id": 1, "initializer_range": 0.5}
    config = transformers.RobertaConfig(vocab_size=400, is_decoder=True, **places, **sizes)
    roberta = load(folder_of(transformers.RobertaForCausalLM(config), tmp_path / "roberta", built["tiny"]))
    embeds = roberta.embed(tokens(1, 6))
    _, prefix = roberta.encode(embeds[:, :5], lengths=torch.tensor([5]))
    whole = roberta.logits(roberta.encode(embeds)[0])
    assert close(roberta.continuation(prefix).advance(tokens(1, 6)[:, 5]), whole[:, 5])


def test_the_pooler_of_an_encoder_is_neither_needed_nor_kept(tmp_path, built):
    config = load("tiny:bert", adapter=Adapter("none")).lm.config
    for with_pooler in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            bert = transformers.BertModel(config, add_pooling_layer=with_pooler)
        name = folder_of(bert, tmp_path / f"bert-{with_pooler}", built["tiny"])
        assert "pooler" not in " ".join(n for n, _ in load(name, encoder=True).named_parameters())
    one, other = load(name, encoder=True), load(name, encoder=True, seed=7)
    assert one.fingerprint == other.fingerprint


@torch.no_grad()
def test_a_file_in_half_precision_is_computed_with_in_full(copied):
    half = transformers.AutoModelForCausalLM.from_pretrained(copied, dtype=torch.float16)
    half.save_pretrained(copied)
    backbone = load(str(copied))
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    again = half.float().transformer(tokens(1, 5)).last_hidden_state
    assert close(backbone.encode(backbone.embed(tokens(1, 5)))[0], again)


def test_a_folder_without_a_tokenizer_is_refused(copied):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (copied / file).unlink()
    assert "tokenizer.json" in refused(copied, ConfigError, "holds no tokenizer").hint


def test_a_folder_without_weights_is_refused_and_one_with_pickled_weights_converted(copied):
    lm = transformers.AutoModelForCausalLM.from_pretrained(copied)
    weights = {n: p for n, p in lm.state_dict().items() if n != "lm_head.weight"}
    (copied / "model.safetensors").unlink()
    refused(copied, ConfigError, "holds no weights")
    torch.save(weights, copied / "pytorch_model.bin")
    hint = refused(copied, ConfigError, "holds no weights").hint
    code = hint.partition('python -c "')[2].rstrip('"')
    target = copied.parent / "converted"
    exec(code.replace("'IN'", repr(str(copied))).replace("'OUT'", repr(str(target))))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(copied / file, target)
    assert load(str(target)).fingerprint == load("tiny").fingerprint


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("config.json", Path.unlink),
        ("config.json", lambda path: path.write_text("{")),
        ("config.json", lambda path: path.write_text('{"model_type": "no-such-type"}')),
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-100])),
        ("model.safetensors", lambda path: path.write_bytes(b"")),
        ("tokenizer.json", lambda path: path.write_text("{}")),
        ("tokenizer.json", lambda path: path.write_bytes(b"\xff")),
    ],
)
def test_a_damaged_folder_is_refused(copied, file, damage):
    damage(copied / file)
    assert refused(copied, ConfigError, "cannot be loaded as a causal language model").exit_code == 6


def test_a_model_that_lacks_a_weight_is_refused(copied):
    from_file = transformers.AutoModelForCausalLM.from_pretrained(copied)
    weights = {n: p for n, p in from_file.state_dict().items() if "h.1.mlp" not in n}
    from_file.save_pretrained(copied, state_dict=weights)
    refused(copied, ConfigError, r"lacks 4 of its model's weights, such as transformer\.h\.1\.mlp")


def test_a_saved_tokenizer_whose_tokens_have_no_rows_is_refused(copied):
    made = load(str(copied))
    made.tokenizer.add_tokens([f"<new {n}>" for n in range(200)])
    made.save_tokenizer(copied)
    refused(copied, ConfigError, "tokens beyond the model's 400 rows")


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_no_decoder(tmp_path, built, name):
    directory = saved(built[name], tmp_path / "model")
    for asked in (name, directory, f"random:{directory}"):
        refused(asked, ConfigError, "is an encoder .*, a decoder is needed", encoder=False)


@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_with_a_decoder_is_neither(tmp_path, built, kind, encoder):
    config = transformers.AutoConfig.for_model(kind, vocab_size=400)
    config.save_pretrained(tmp_path)
    built["tiny"].save_tokenizer(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(tmp_path, ConfigError, f"is an encoder-decoder .{kind}.", encoder=encoder)


def test_too_few_positions_are_said_before_any_training(built):
    assert load("tiny", positions=64).positions == 64
    assert "context_tokens" in refused("tiny", ConfigError, "has 64 positions, 65 are needed", positions=65).hint


def test_no_position_lies_beyond_a_sliding_window(copied):
    lm = load("tiny:mistral", adapter=Adapter("none")).lm
    lm.config.sliding_window = 16
    lm.save_pretrained(copied)
    assert load(str(copied)).positions == 16


# ---- names ----------------------------------------------------------------------------------------------------------


def test_unknown_names_are_refused():
    assert "tiny:llama" in refused("tiny:gpt9", UsageError, "tiny:gpt9 is not known").hint
    assert "DialoGPT" in refused("random:gpt9", UsageError, "'gpt9' is not known").hint
    assert "hub id" in refused("/no/such/folder", ConfigError, "no folder").hint
    refused("no/such/folder", ConfigError, "no folder")
    refused("no such name", UsageError, "neither a folder nor a hub id")


def test_a_known_shape_is_built_without_a_download(monkeypatch):
    monkeypatch.setitem(shapes.KNOWN, "gpt2", Shape(layers=1, width=24, heads=12, vocabulary=300))
    backbone = load("random:gpt2")
    assert (backbone.vocabulary, backbone.width, backbone.positions) == (300, 24, 64)
    assert len(backbone.lm.transformer.h) == 1


def test_the_shape_of_a_folder_is_built_with_random_weights(copied):
    (copied / "model.safetensors").unlink()
    backbone = load(f"random:{copied}", shape=None)
    assert (backbone.vocabulary, backbone.width) == (400, 32)
    assert backbone.fingerprint != load("tiny", seed=2).fingerprint
    (copied / "config.json").unlink()
    refused(f"random:{copied}", ConfigError, "holds no shape")


def test_known_shapes_are_those_of_the_published_models():
    for small in ("gpt2", "microsoft/DialoGPT-small"):
        assert shapes.KNOWN[small] == Shape(layers=12, width=768, heads=12, vocabulary=50257, positions=1024)
    for medium in ("gpt2-medium", "microsoft/DialoGPT-medium"):
        assert shapes.KNOWN[medium] == Shape(layers=24, width=1024, heads=16, vocabulary=50257, positions=1024)


# ---- the hub --------------------------------------------------------------------------------------------------------


def test_a_hub_that_cannot_be_reached_leaves_a_way_out(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = refused("some/model@v2", SourceError, "some/model was not found in the model hub: .*refused")
    assert found.exit_code == 5
    assert "hf download some/model" in found.hint
    assert "--backbone DIR" in found.hint
    assert capfd.readouterr() == ("", "")


def test_a_model_of_the_hub_is_read_from_its_folder(monkeypatch, folder):
    asked = []

    def snapshot_download(hub_id, **options):
        asked.append((hub_id, options["revision"], options["local_files_only"]))
        return str(folder)

    monkeypatch.setattr(loading, "snapshot_download", snapshot_download)
    backbone = load("some/model@v2")
    load("model", offline=True)
    assert asked == [("some/model", "v2", False), ("model", None, True)]
    assert backbone.describe()["revision"] == folder.name
    assert backbone.describe()["name"] == "some/model@v2"


def test_without_a_network_the_cache_is_asked_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = refused("some/model", SourceError, "not found in the local cache", offline=True)
    assert found.exit_code == 5
    assert "hf download some/model" in found.hint


# ---- identity -------------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_weights_before_training(built):
    first = built["tiny"]
    assert load("tiny", adapter=Adapter("full")).fingerprint == first.fingerprint
    assert load("tiny", seed=2).fingerprint != first.fingerprint
    assert load("tiny", shape=Shape(2, 32, 4, 400, 32)).fingerprint != first.fingerprint


def test_weights_of_another_backbone_are_refused(built):
    first = built["tiny"]
    record = json.loads(json.dumps(first.describe()))
    first.require(record, "run a", "train it again")
    other = load("tiny", seed=2)
    with pytest.raises(ArtifactMissing, match=r"run a was trained on another backbone.*fingerprint") as caught:
        other.require(record, "run a", "train it again")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "train it again"
    with pytest.raises(ArtifactMissing, match="specials"):
        load("tiny", specials=("[REC]",)).require(record, "run a", "train it again")
    with pytest.raises(ArtifactMissing, match="type 'gpt2' -> 'llama'"):
        built["tiny:llama"].require(record, "run a", "train it again")
