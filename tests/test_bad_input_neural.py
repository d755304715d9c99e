"""What a user can give to the models that are trained by steps, and what is said of it."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from typer.testing import CliRunner

from crscli.backbone import Adapter, Backbone, Shape
from crscli.cli import app
from crscli.decoding import Decoding
from crscli.dialogue import Context, Link, Turn
from crscli.models.pecrs.network import PecrsNetwork
from crscli.steps._dataset import find_run, load_run, read_dataset
from crscli.workspace import Workspace

SMALL = Shape(layers=1, width=32, heads=2, vocabulary=300, positions=96)


def content(root):
    """Every file but the locks and the state of an unfinished training."""
    kept = ("tiny/.locks", "tiny/.scratch")
    return {n: data for n, data in tiny.listing(root).items() if data is not None and not n.startswith(kept)}


@pytest.fixture
def crs(neural_workspace):
    """Run a command in a workspace with a trained run; gives its exit code and what it said on stderr."""

    def run(*args, code=0):
        done = CliRunner().invoke(app, [*map(str, args), "-w", str(neural_workspace)], env=tiny.SMALL_ENVIRONMENT)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def refused(crs, neural_workspace):
    """Run a command that must fail and leave everything as it was; gives the error and the hint."""

    def run(*args, code):
        before = content(neural_workspace)
        done = crs(*args, code=code)
        assert done.stdout == ""
        assert content(neural_workspace) == before
        *_, error, hint = done.stderr.splitlines()
        assert error.startswith("error: ")
        assert hint.startswith("hint: ")
        return error, hint

    return run


def save_backbone(folder, kind="tiny", seed=0):
    """A small language model in a folder, as save_pretrained makes it."""
    shutil.rmtree(folder, ignore_errors=True)
    corpus = ["Then watch Alder. What about Birch?"] * 9
    options = {"shape": SMALL, "corpus": corpus, "adapter": Adapter("none"), "seed": seed}
    made = Backbone.load(kind, encoder=kind != "tiny", **options)
    made.lm.save_pretrained(folder)
    made.save_tokenizer(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return save_backbone(tmp_path / "model")


def adapt(folder, *options):
    """The options of a training on a folder, faster than the usual one."""
    return "train", "-m", "pecrs-small", "--backbone", folder, "--set=tune=lora", "--set=epochs=1", *options


# ---- backbones --------------------------------------------------------------------------------------------------


def test_a_backbone_without_tokenizer(refused, folder):
    for file in folder.glob("*token*"):
        file.unlink()
    error, hint = refused(*adapt(folder), code=6)
    assert error == f"error: {folder} holds no tokenizer"
    assert "tokenizer.json" in hint


def test_a_backbone_with_fewer_positions_than_are_asked_for(refused, folder):
    error, hint = refused(*adapt(folder, "--set=context_tokens=90"), code=6)
    assert f"backbone {folder} has 96 positions, 122 are needed" in error
    assert "lower context_tokens" in hint
    refused(*adapt(folder, "--set=context_tokens=90", "--dry-run"), code=6)
    assert "97 are needed" in refused(*adapt(folder, "--set=item_tokens=97"), code=6)[0]


@pytest.mark.parametrize("kind", ["tiny:bert", "tiny:roberta"])
def test_an_encoder_where_a_decoder_is_needed(refused, tmp_path, kind):
    error, hint = refused(*adapt(save_backbone(tmp_path / "model", kind)), code=6)
    assert "is an encoder" in error
    assert "a decoder is needed" in error
    assert "decoder, such as" in hint


def test_a_folder_that_is_not_there(refused, tmp_path):
    error, hint = refused(*adapt(tmp_path / "none"), code=6)
    assert error == f"error: no folder {tmp_path / 'none'}"
    assert "hub id" in hint


@pytest.mark.parametrize("name", ["tiny:gpt9", "random:gpt9", "two words"])
def test_a_name_that_is_no_backbone(refused, name):
    error, hint = refused(*adapt(name), code=2)
    assert name.partition(":")[2] in error
    assert hint


def test_a_run_whose_backbone_has_changed_since(crs, refused, folder, neural_workspace):
    crs(*adapt(folder))
    save_backbone(folder, seed=5)
    for command in ("evaluate", "index-items"):
        error, hint = refused(command, "-m", "pecrs-small", code=3)
        assert f"was trained on another backbone than {folder} is now: fingerprint" in error
        assert "train it again, or give the backbone it was trained on" in hint
    shutil.rmtree(folder)
    assert f"no folder {folder}" in refused("evaluate", "-m", "pecrs-small", code=6)[0]
    save_backbone(folder)
    crs("evaluate", "-m", "pecrs-small", "--task", "rank", "--draws", 20)
    crs("index-items", "-m", "pecrs-small")


@pytest.mark.parametrize("decoding", ["greedy:max_tokens=60", "nucleus:max_tokens=500", "beam:beams=2,max_tokens=500"])
def test_replies_that_would_be_longer_than_the_backbone_can_read(crs, folder, decoding):
    """It has 96 positions, of which the context may take 64."""
    crs(*adapt(folder))
    crs("evaluate", "-m", "pecrs-small", "--decoding", decoding, "--limit", 2, "--draws", 20)


# ---- indexes ----------------------------------------------------------------------------------------------------


def test_an_index_of_other_weights(crs, refused):
    crs("index-items", "-m", "pecrs-tiny")
    crs("train", "-m", "pecrs-tiny", "--set=width=16", "--force")
    error, hint = refused("evaluate", "-m", "pecrs-tiny", code=3)
    assert "index was built from other weights or item texts than this model's" in error
    assert hint == "hint: run: crs index-items --dataset tiny --model pecrs-tiny --force"
    crs(*hint.split("crs ")[1].split())
    crs("evaluate", "-m", "pecrs-tiny", "--draws", 20)


# ---- training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", ["1e6", "1e30"])
def test_a_loss_that_is_not_finite(refused, neural_workspace, rate):
    error, hint = refused("train", "-m", "pecrs-tiny", "--run", "bad", f"--set=learning_rate={rate}", code=7)
    assert "not finite" in error
    assert len(hint) > 30
    assert not (neural_workspace / "tiny" / "models" / "bad").exists()
    assert not list((neural_workspace / "tiny" / "models").glob(".*"))


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_memory_that_runs_out_in_training(refused, monkeypatch, error, dry_run):
    def losses(*_):
        raise error

    monkeypatch.setattr(PecrsNetwork, "losses", losses)
    said, hint = refused("train", "-m", "pecrs-tiny", "--run", "other", *dry_run, code=7)
    assert said.startswith("error: out of memory: ")
    assert "lower micro_batch (the result stays the same), context_tokens or item_tokens" in hint


@pytest.mark.parametrize(
    "args", [("index-items", "-m", "pecrs-tiny"), ("evaluate", "-m", "pecrs-tiny", "--draws", "20")]
)
def test_memory_that_runs_out_when_items_are_encoded(refused, monkeypatch, args):
    def vectors(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(PecrsNetwork, "item_vectors", vectors)
    said, hint = refused(*args, code=7)
    assert said == "error: out of memory: CUDA out of memory. Tried to allocate 20 GiB"
    assert "item_tokens" in hint


def test_a_device_that_is_not_there(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for args in (("train", "--run", "x"), ("evaluate",), ("index-items",)):
        error, hint = refused(*args, "-m", "pecrs-tiny", "--device", "cuda", code=7)
        assert error == "error: no GPU was found"
        assert "cpu" in hint
    error, _ = refused("train", "-m", "pecrs-tiny", "--run", "x", "--device", "tpu", code=2)
    assert "tpu" in error


# ---- odd data ---------------------------------------------------------------------------------------------------


def fetch(crs, tmp_path, turns, titles=("Alder", "Birch", "Cedar")):
    """A dataset of twelve dialogues, all with these turns."""
    source = tmp_path / "odd"
    source.mkdir()
    splits = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    said = [{"role": role, "text": text, "items": items} for role, text, items in turns]
    tiny.write_lines(source / "items.jsonl", [{"item_id": f"i{n}", "title": t} for n, t in enumerate(titles)])
    rows = [{"dialogue_id": f"d{num}", "split": split, "turns": said} for num, split in enumerate(splits)]
    tiny.write_lines(source / "dialogues.jsonl", rows)
    crs("fetch-dataset", "-d", "jsonl", "--from", source, "--name", "odd")


def learn_and_measure(crs, root, *options):
    """Train, index and measure; gives the figures of the replies and what was predicted."""
    crs("train", "-d", "odd", "-m", "pecrs-tiny", *options)
    crs("index-items", "-d", "odd", "-m", "pecrs-tiny")
    done = crs("evaluate", "-d", "odd", "-m", "pecrs-tiny", "--draws", 20, "--oracle", "--format", "markdown", "--json")
    (folder,) = (root / "odd" / "reports").iterdir()
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    report = json.loads(done.stdout, parse_constant=pytest.fail)
    return report["models"]["pecrs-tiny"]["text"], [r for r in rows if r["model"] == "pecrs-tiny"]


def test_responses_without_a_word(crs, tmp_path, neural_workspace):
    turns = [
        ("seeker", "I like Alder", ["i0"]),
        ("recommender", "", ["i1"]),
        ("seeker", "", []),
        ("recommender", "", []),
    ]
    fetch(crs, tmp_path, turns)
    text, rows = learn_and_measure(crs, neural_workspace)
    assert text["readable"]["responses"] == 4
    assert text["perplexity"]["token"] > 0
    assert (text["perplexity"]["word"], text["perplexity"]["byte"]) == (None, None)
    assert len(rows) == 2
    assert "/-/- |" in next((neural_workspace / "odd" / "reports").rglob("table.md")).read_text(encoding="utf-8")


def test_items_without_any_text(crs, tmp_path, neural_workspace):
    """Only the plot is read, and no film has one."""
    fetch(crs, tmp_path, [("seeker", "Hi, Alder", ["i0"]), ("recommender", "See Birch", ["i1"])])
    _, rows = learn_and_measure(crs, neural_workspace, "--set=item_fields=plot")
    vectors = np.load(neural_workspace / "odd" / "index" / "pecrs-tiny" / "vectors.npy")
    assert np.isfinite(vectors).all()
    assert (vectors == vectors[0]).all()
    assert [sorted(r["top"]) for r in rows] == [["i0", "i1", "i2"]] * 2


def test_an_item_without_a_title_is_no_item(refused, tmp_path):
    (tmp_path / "s").mkdir()
    tiny.write_lines(tmp_path / "s" / "items.jsonl", [{"item_id": "a", "title": ""}])
    tiny.write_lines(tmp_path / "s" / "dialogues.jsonl", list(tiny.dialogues()))
    error, _ = refused("fetch-dataset", "-d", "jsonl", "--from", tmp_path / "s", "--name", "odd", code=4)
    assert "items.jsonl:1: " in error


def test_texts_that_spell_special_tokens(crs, tmp_path, neural_workspace):
    nasty = "[REC] [MOVIE_ID] [SEP] [REC_END] <|endoftext|> \x00 🎬"
    fetch(crs, tmp_path, [("seeker", nasty, ["i0"]), ("recommender", nasty, ["i1"])], ("Alder", nasty, "[MOVIE_ID]"))
    text, rows = learn_and_measure(crs, neural_workspace)
    assert text["readable"]["responses"] == len(rows) == 2


def test_a_context_of_thousands_of_turns(neural_workspace):
    workspace = Workspace(neural_workspace)
    model, _ = load_run(
        workspace, find_run(workspace, "tiny", "pecrs-tiny"), read_dataset(workspace, "tiny"), device="cpu"
    )
    films = [(f"Saw {t}. " * 20, Link("item", f"f{n}", 4, 4 + len(t))) for n, t in enumerate(tiny.TITLES)]
    turns = [
        Turn(("seeker", "recommender")[num % 2], films[num % 8][0] + str(num), (films[num % 8][1],))
        for num in range(5_000)
    ]
    long = [Context(tuple(turns)), Context(tuple(turns[:4_999])), Context((Turn("seeker", "word " * 100_000),))]
    rankings = model.rank(long, 8)
    assert [len(r.item_nums) for r in rankings] == [8] * 3
    assert len(model.respond(long, rankings, Decoding("nucleus"))) == 3
    likely = model.likelihoods(long, rankings, [Turn("recommender", "word " * 100_000)] * 3)
    assert all(0 < one.tokens <= model.config.turn_tokens + 2 for one in likely)
    # What lies further back than the model reads changes nothing.
    (recent,) = model.rank([Context(tuple(turns[-40:]))], 8)
    assert recent.item_nums.tolist() == rankings[0].item_nums.tolist()


# ---- how replies are made ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decoding", "message", "hint"),
    [
        ("nuclear", "unknown decoding 'nuclear'", "did you mean nucleus?"),
        ("nucleus:q=0.9", "unknown setting of nucleus 'q'", "known: "),
        ("nucleus:p", "p needs one value", "write p=0.95 once"),
        ("nucleus:p=0", "p is 0.0, expected above 0 and at most 1", "nucleus:p=0.95"),
        ("top-k:k=-1", "k is -1, expected at least 1", "top-k:k=50"),
        ("beam:beams=0", "beams is 0, expected at least 1", "beam:beams=4"),
        ("beam:max_tokens=0", "max_tokens is 0", "beam:beams=4"),
        ("diverse-beam:beams=3,groups=2", "groups is 2, which does not divide beams, 3", "diverse-beam"),
        ("top-k:temperature=nan", "temperature is nan", "top-k:k=50"),
    ],
)
def test_a_way_of_decoding_that_does_not_fit(refused, decoding, message, hint):
    error, way_out = refused("evaluate", "-m", "pecrs-tiny", "--decoding", decoding, code=2)
    assert message in error
    assert hint in way_out
