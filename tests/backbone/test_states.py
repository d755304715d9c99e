import hashlib

import numpy as np
import pytest
import torch
from backbones import load

from crscli.backbone.states import _RECORD, FrozenStates

ROWS = [(5, 6, 7), (8,), (5, 6, 7), (9, 10, 11, 12, 13), (6, 5)]
WIDTH = 32


@pytest.fixture(scope="module")
def other():
    return load("tiny:bert", seed=2)


@pytest.fixture
def encoder(built, monkeypatch):
    """An encoder that writes down how many rows it is given at each call."""
    backbone = built["tiny:bert"]
    encode, calls = backbone.encode, []

    def counted(embeds, **options):
        calls.append(len(embeds))
        return encode(embeds, **options)

    monkeypatch.setattr(backbone, "encode", counted)
    monkeypatch.setattr(backbone, "calls", calls, raising=False)
    return backbone


def alone(encoder, row):
    """States of a sequence by itself, which are not counted."""
    with torch.no_grad():
        states = encoder.encode(encoder.embed(torch.tensor([row])))[0][0]
    encoder.calls.pop()
    return states


def files(folder):
    """The data and the index of the only encoder that wrote there."""
    (data,), (index,) = folder.glob("*.states"), folder.glob("*.index")
    return data, index


def kept(folder):
    return np.frombuffer(files(folder)[1].read_bytes(), dtype=_RECORD)


def right(states, encoder, rows=ROWS):
    """Whether these are the states of the sequences, as far as bf16 holds them."""
    found, lengths = states(rows)
    assert lengths.tolist() == [len(row) for row in rows]
    assert found.shape == (len(rows), max(map(len, rows)), WIDTH)
    assert found.dtype == torch.bfloat16
    return all(
        torch.allclose(found[num, : len(row)].float(), alone(encoder, row), rtol=2**-7, atol=1e-4)
        and not found[num, len(row) :].any()
        for num, row in enumerate(rows)
    )


# ---- what is computed -------------------------------------------------------------------------------------------


def test_without_a_folder_states_are_exact_and_nothing_is_kept(encoder):
    states = FrozenStates(encoder)
    found, lengths = states(ROWS)
    assert found.dtype == torch.float32
    assert lengths.tolist() == [3, 1, 3, 5, 2]
    for num, row in enumerate(ROWS):
        assert torch.allclose(found[num, : len(row)], alone(encoder, row), atol=1e-5)
        assert not found[num, len(row) :].any()
    assert len(states) == 0
    states(ROWS)
    assert encoder.calls == [4, 4]


def test_each_distinct_sequence_is_computed_once(encoder, tmp_path):
    states = FrozenStates(encoder, tmp_path / "new" / "folder")
    assert right(states, encoder)
    assert encoder.calls == [4]
    assert right(states, encoder, ROWS[::-1])
    assert right(states, encoder, [(8,), (6, 5, 4), (8,), (5, 6, 7)])
    assert encoder.calls == [4, 1]
    assert len(states) == 5


def test_what_is_kept_is_what_was_computed_bit_for_bit(encoder, tmp_path):
    states = FrozenStates(encoder, tmp_path)
    fresh, again, reopened = states(ROWS)[0], states(ROWS)[0], FrozenStates(encoder, tmp_path)(ROWS)[0]
    assert torch.equal(fresh, again)
    assert torch.equal(fresh, reopened)
    assert torch.equal(fresh[0], fresh[2])
    assert encoder.calls == [4]


def test_like_lengths_are_computed_together_and_only_so_many_at_once(encoder, monkeypatch):
    rows = [(7,) * length for length in (9, 1, 3, 2, 8, 4, 30)]
    monkeypatch.setattr("crscli.backbone.states._TOKENS_AT_ONCE", {"cpu": 18})
    found, _ = FrozenStates(encoder)(rows)
    assert encoder.calls == [4, 2, 1]  # 4 x 4, 2 x 9, and one that is longer than all slots
    for num, row in enumerate(rows):
        assert torch.allclose(found[num, : len(row)], alone(encoder, row), atol=1e-5)


def test_no_sequences_have_no_states(encoder, tmp_path):
    for states in (FrozenStates(encoder), FrozenStates(encoder, tmp_path)):
        found, lengths = states([])
        assert found.shape == (0, 0, WIDTH)
        assert lengths.tolist() == []
    assert encoder.calls == []


# ---- folders that are opened again ------------------------------------------------------------------------------


def test_a_folder_that_is_opened_again_has_them(encoder, tmp_path):
    FrozenStates(encoder, tmp_path)(ROWS)
    states = FrozenStates(encoder, tmp_path)
    assert len(states) == 4
    assert right(states, encoder)
    assert encoder.calls == [4]
    assert right(states, encoder, [(1, 2), *ROWS])
    assert right(FrozenStates(encoder, tmp_path), encoder, [*ROWS, (1, 2)])
    assert encoder.calls == [4, 1]


def test_another_encoder_has_files_of_its_own(encoder, other, tmp_path):
    FrozenStates(encoder, tmp_path)(ROWS)
    before = files(tmp_path)[0].read_bytes()
    theirs = FrozenStates(other, tmp_path)
    assert len(theirs) == 0
    assert not torch.equal(theirs(ROWS)[0], FrozenStates(encoder, tmp_path)(ROWS)[0])
    assert len(list(tmp_path.iterdir())) == 4
    assert (tmp_path / f"{encoder.fingerprint[:16]}.states").read_bytes() == before
    assert encoder.calls == [4]


@pytest.mark.parametrize("left", [0, 1, 63, 64, 65, 3 * 64, 3 * 64 + 1, 10 * 64, 11 * 64 - 1])
def test_data_that_were_cut_short_are_found_out(encoder, tmp_path, left):
    FrozenStates(encoder, tmp_path)(ROWS)
    data, _ = files(tmp_path)
    assert data.stat().st_size == 11 * 2 * WIDTH
    whole = kept(tmp_path)
    data.write_bytes(data.read_bytes()[:left])
    states = FrozenStates(encoder, tmp_path)
    assert len(states) == sum(int(r["begin"] + r["length"]) * 2 * WIDTH <= left for r in whole) < 4
    assert right(states, encoder)
    assert right(FrozenStates(encoder, tmp_path), encoder)
    assert sum(encoder.calls) == 4 + (4 - sum(int(r["begin"] + r["length"]) * 2 * WIDTH <= left for r in whole))
    assert data.stat().st_size == 11 * 2 * WIDTH


@pytest.mark.parametrize("left", [0, 1, 27, 28, 29, 28 * 3, 28 * 4 - 1])
def test_an_index_that_was_cut_short_is_found_out(encoder, tmp_path, left):
    assert _RECORD.itemsize == 28
    FrozenStates(encoder, tmp_path)(ROWS)
    data, index = files(tmp_path)
    index.write_bytes(index.read_bytes()[:left])
    states = FrozenStates(encoder, tmp_path)
    assert len(states) == left // 28
    assert right(states, encoder)
    assert right(FrozenStates(encoder, tmp_path), encoder)
    assert sum(encoder.calls) == 4 + 4 - left // 28
    assert data.stat().st_size == 11 * 2 * WIDTH  # what no record tells of gave way


@pytest.mark.parametrize("name", ["states", "index"])
def test_a_file_that_is_gone_is_made_again(encoder, tmp_path, name):
    FrozenStates(encoder, tmp_path)(ROWS)
    next(tmp_path.glob(f"*.{name}")).unlink()
    states = FrozenStates(encoder, tmp_path)
    assert len(states) == 0
    assert right(states, encoder)
    assert right(FrozenStates(encoder, tmp_path), encoder)
    assert encoder.calls == [4, 4]


def test_bytes_behind_the_last_record_do_no_harm(encoder, tmp_path):
    """Those of states that were written when the run ended, before their record was."""
    FrozenStates(encoder, tmp_path)(ROWS)
    data, index = files(tmp_path)
    for file in (data, index):
        file.write_bytes(file.read_bytes() + b"\7" * 13)
    assert right(FrozenStates(encoder, tmp_path), encoder, [(1, 2, 3), *ROWS])
    assert right(FrozenStates(encoder, tmp_path), encoder, [*ROWS, (1, 2, 3)])
    assert encoder.calls == [4, 1]


def ends_in_zero(zeros=1):
    """A sequence whose digest ends so."""
    for number in range(1 << 20):
        row = (number % 300, number // 300 % 300, number // 90_000)
        if not any(hashlib.blake2b(np.array(row, dtype=np.int64).tobytes(), digest_size=16).digest()[-zeros:]):
            return row
    raise AssertionError("there is none")


@pytest.mark.parametrize("zeros", [1, 2])
def test_a_digest_that_ends_in_zero_bytes_is_found_again(encoder, tmp_path, zeros):
    rows = [ends_in_zero(zeros), *ROWS]
    states = FrozenStates(encoder, tmp_path)
    assert right(states, encoder, rows)
    assert right(states, encoder, rows)
    assert right(FrozenStates(encoder, tmp_path), encoder, rows)
    assert encoder.calls == [5]


# ---- the limit --------------------------------------------------------------------------------------------------


def test_beyond_the_limit_states_are_computed_at_each_use_and_that_is_said_once(encoder, tmp_path):
    said = []
    limit = 6 * 2 * WIDTH + 1
    states = FrozenStates(encoder, tmp_path, limit_bytes=limit, say=said.append)
    assert right(states, encoder, ROWS[:3])
    assert said == []
    for _ in range(3):
        assert right(states, encoder)
    assert encoder.calls == [2, 2, 1, 1]  # the shorter one still had room
    assert len(states) == 3
    assert len(said) == 1
    assert said[0].endswith("others are computed anew")
    assert files(tmp_path)[0].stat().st_size == 6 * 2 * WIDTH
    again = FrozenStates(encoder, tmp_path, limit_bytes=limit)
    assert len(again) == 3
    assert right(again, encoder)


def test_a_limit_of_less_than_one_state_keeps_nothing(encoder, tmp_path):
    said = []
    states = FrozenStates(encoder, tmp_path, limit_bytes=1, say=said.append)
    for _ in range(2):
        assert right(states, encoder)
    assert encoder.calls == [4, 4]
    assert (len(states), len(said)) == (0, 1)


def test_how_many_texts_fill_the_limit_is_told(encoder, tmp_path):
    said = []
    FrozenStates(encoder, tmp_path, limit_bytes=6 * 2 * WIDTH, say=said.append)(ROWS)
    assert said == ["states of 3 texts fill 0.0 GB; others are computed anew"]
