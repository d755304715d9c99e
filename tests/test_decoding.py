import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crscli.decoding import REFERENCE, TABLE_8, Decoding
from crscli.errors import UsageError


def test_texts_say_what_makes_the_method_and_what_is_not_the_default():
    assert [str(decoding) for decoding in TABLE_8] == [
        "greedy",
        "beam:beams=4",
        "diverse-beam:beams=4,groups=2,diversity=0.5",
        "diverse-beam:beams=4,groups=2,diversity=1.0",
        "diverse-beam:beams=4,groups=2,diversity=1.5",
        "top-k:k=25",
        "top-k:k=50",
        "top-k:k=75",
        "nucleus:p=0.9",
        "nucleus:p=0.95",
        "nucleus:p=0.99",
    ]
    assert str(REFERENCE) == "beam-sampling:beams=2,k=50,temperature=1.15"
    assert str(Decoding("top-k", p=0.5, max_tokens=9, seed=3)) == "top-k:k=50,max_tokens=9,seed=3"
    assert str(Decoding("beam", beams=2, no_repeat=3)) == "beam:beams=2,no_repeat=3"


@pytest.mark.parametrize(
    ("text", "decoding"),
    [
        ("greedy", Decoding()),
        ("nucleus", Decoding("nucleus", p=0.95)),
        ("top-k:k=25", Decoding("top-k", k=25)),
        (" beam : beams = 3 , length_penalty=-1 ", Decoding("beam", beams=3, length_penalty=-1.0)),
        ("diverse-beam:diversity=0.5,beams=4,groups=2", Decoding("diverse-beam", diversity=0.5)),
        ("beam-sampling:seed=7,temperature=2", Decoding("beam-sampling", seed=7, temperature=2.0)),
        ("greedy:", Decoding()),
        ("greedy:no_repeat=3", Decoding(no_repeat=3)),
        ("nucleus:p=0.9,no_repeat=2", Decoding("nucleus", p=0.9, no_repeat=2)),
    ],
)
def test_texts_are_read(text, decoding):
    assert Decoding.parse(text) == decoding


@given(
    st.builds(
        Decoding,
        st.sampled_from(["greedy", "beam", "diverse-beam", "top-k", "nucleus", "beam-sampling"]),
        beams=st.sampled_from([2, 4, 6]),
        groups=st.sampled_from([1, 2]),
        diversity=st.floats(0, 9),
        k=st.integers(1, 99),
        p=st.floats(0, 1, exclude_min=True),
        temperature=st.floats(1e-3, 9),
        length_penalty=st.floats(-3, 3),
        max_tokens=st.integers(1, 99),
        no_repeat=st.integers(0, 9),
        seed=st.integers(0, 2**64 - 1),
    )
)
def test_a_text_brings_back_all_settings_that_the_method_uses(decoding):
    back = Decoding.parse(str(decoding))
    assert (back.method, back.used, str(back)) == (decoding.method, decoding.used, str(decoding))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("nuclear", "unknown decoding 'nuclear'", "did you mean nucleus?"),
        ("", "unknown decoding ''", "known: beam, beam-sampling, diverse-beam, greedy, nucleus, top-k"),
        ("beam:beam=3", "unknown setting of beam 'beam'", "did you mean beams?"),
        ("greedy:k=3", "unknown setting of greedy 'k'", "known: max_tokens"),
        ("top-k:k", "k needs one value", "write k=50 once"),
        ("top-k:k=3,k=4", "k needs one value", "write k=50 once"),
        ("beam:no_repeat=-1", "no_repeat is -1, expected at least 0", "the default is beam:beams=4"),
        ("top-k:k=2.5", "setting k: '2.5' is no int", "write k=<int>"),
        ("nucleus:p=high", "setting p: 'high' is no float", "write p=<float>"),
        ("nucleus:p=nan", "p is nan, expected above 0 and at most 1", "the default is nucleus:p=0.95"),
        ("diverse-beam:groups=3", "groups is 3, which does not divide beams, 4", "the default is diverse-beam"),
        ("top-k:k=2,", "unknown setting of top-k ''", "known: k, "),
    ],
)
def test_a_text_that_does_not_fit_is_told(text, message, hint):
    with pytest.raises(UsageError) as told:
        Decoding.parse(text)
    assert message in told.value.message
    assert told.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "sampling"),
        ("beams", 0),
        ("groups", 0),
        ("diversity", -0.1),
        ("k", 0),
        ("p", 0.0),
        ("p", 1.1),
        ("p", math.nan),
        ("temperature", 0.0),
        ("temperature", math.inf),
        ("length_penalty", math.nan),
        ("max_tokens", 0),
        ("no_repeat", -1),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_a_setting_out_of_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        Decoding(**{name: value})


def test_groups_need_divide_the_beams_only_where_there_are_groups():
    assert Decoding("beam", beams=3).beams == 3
    with pytest.raises(ValueError, match="groups"):
        Decoding("diverse-beam", beams=3)


def test_settings_load_no_tensors():
    code = "import sys, crscli.decoding; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
