from dataclasses import dataclass

import pytest

from crscli.config import describe, resolve
from crscli.errors import ConfigError, UsageError


@dataclass(frozen=True)
class Settings:
    ridge: float = 1.0
    neighbours: int = 10
    signal: str = "ease"
    fast: bool = False

    def __post_init__(self):
        if self.ridge <= 0:
            raise ValueError("ridge > 0 expected")


PRESET = {"ridge": 2.0, "neighbours": 20}


def toml(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_setting_that_nobody_gives_has_its_default():
    assert describe(resolve(Settings, {}, environment={})) == {
        "ridge": 1.0, "neighbours": 10, "signal": "ease", "fast": False
    }  # fmt: skip


def test_preset_is_below_toml_is_below_environment_is_below_set(tmp_path):
    steps = [
        ({}, 2.0),
        ({"file": toml(tmp_path, "ridge = 3.0")}, 3.0),
        ({"environment": {"CRS_SET_RIDGE": "4"}}, 4.0),
        ({"sets": ["ridge=5"]}, 5.0),
    ]
    given = {"environment": {}}
    for more, expected in steps:
        given |= more
        assert resolve(Settings, PRESET, **given).ridge == expected
        assert resolve(Settings, PRESET, **given).neighbours == 20
    assert resolve(Settings, PRESET, file=steps[1][0]["file"], sets=["ridge=5"], environment={}).ridge == 5.0


def test_the_later_of_two_sets_wins_and_blanks_do_not_count():
    assert resolve(Settings, {}, sets=["ridge=5", " ridge = 6 "], environment={}).ridge == 6.0
    assert resolve(Settings, {}, sets=["signal=a=b"], environment={}).signal == "a=b"


def test_the_process_environment_counts(monkeypatch):
    monkeypatch.setenv("CRS_SET_NEIGHBOURS", "7")
    assert resolve(Settings, PRESET).neighbours == 7


def test_texts_are_read_as_the_type_of_the_field():
    sets = ["ridge=1e2", "neighbours=3", "fast=Yes", "signal=3"]
    assert resolve(Settings, {}, sets=sets, environment={}) == Settings(100.0, 3, "3", True)
    for text, value in {"true": True, "1": True, "no": False, "0": False, "FALSE": False}.items():
        assert resolve(Settings, {}, sets=[f"fast={text}"], environment={}).fast is value


def test_a_whole_number_will_do_for_a_fraction(tmp_path):
    value = resolve(Settings, {}, file=toml(tmp_path, "ridge = 3"), environment={}).ridge
    assert (value, type(value)) == (3.0, float)


@pytest.mark.parametrize("given", ["file", "sets", "preset"])
def test_an_unknown_key_is_refused_with_the_nearest(tmp_path, given):
    options = {"file": {"file": toml(tmp_path, "ridg = 1")}, "sets": {"sets": ["ridg=1"]}, "preset": {}}[given]
    with pytest.raises(UsageError, match="unknown setting 'ridg'") as caught:
        resolve(Settings, {"ridg": 1.0} if given == "preset" else {}, environment={}, **options)
    assert caught.value.hint.startswith("did you mean ridge?")
    assert caught.value.exit_code == 2


def test_a_key_like_no_other_gets_the_list():
    with pytest.raises(UsageError) as caught:
        resolve(Settings, {}, sets=["xxxxxx=1"], environment={})
    assert caught.value.hint == "known: fast, neighbours, ridge, signal"


def test_a_set_without_a_value_is_refused():
    with pytest.raises(UsageError, match="setting ridge has no value") as caught:
        resolve(Settings, {}, sets=["ridge"], environment={})
    assert caught.value.hint == "write --set ridge=VALUE"
    with pytest.raises(UsageError, match="'rigde'"):
        resolve(Settings, {}, sets=["rigde"], environment={})


@pytest.mark.parametrize(
    "pair",
    ["ridge=abc", "ridge=", "ridge=nan", "ridge=inf", "neighbours=1.5", "neighbours=true", "fast=maybe", "fast=2"],
)
def test_texts_of_another_type_are_refused(pair):
    key, _, value = pair.partition("=")
    with pytest.raises(UsageError, match=f"setting {key}: '{value}' is no") as caught:
        resolve(Settings, {}, sets=[pair], environment={})
    assert caught.value.hint.startswith(f"write {key}=<")
    with pytest.raises(ConfigError, match=f"setting {key}: '{value}' is no"):
        resolve(Settings, {}, environment={f"CRS_SET_{key.upper()}": value})


@pytest.mark.parametrize(
    "line",
    [
        "ridge = true",
        "ridge = nan",
        "ridge = -inf",
        "ridge = [1.0]",
        "neighbours = 1.5",
        "neighbours = false",
        "signal = 3",
        "signal = {a = 1}",
        "fast = 1",
        "fast = 1979-05-27",
    ],
)
def test_toml_values_of_another_type_are_refused(tmp_path, line):
    with pytest.raises(ConfigError, match=f"setting {line.split()[0]}: "):
        resolve(Settings, {}, file=toml(tmp_path, line), environment={})


def test_a_value_outside_its_range_is_refused():
    with pytest.raises(UsageError, match="ridge > 0 expected"):
        resolve(Settings, {}, sets=["ridge=-1"], environment={})
    with pytest.raises(ConfigError, match="ridge > 0 expected"):
        resolve(Settings, {}, environment={"CRS_SET_RIDGE": "-1"})


@pytest.mark.parametrize("content", [b"ridge = ", b"= 3", b"ridge = 1\nridge = 2", b"\xff\xfe", b"[ridge"])
def test_bad_toml_names_the_file(tmp_path, content):
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings\.toml: "):
        resolve(Settings, {}, file=path, environment={})


def test_a_missing_file_or_a_folder_names_itself(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match=path.name) as caught:
            resolve(Settings, {}, file=path, environment={})
        assert "--config" in caught.value.hint
