"""Settings of a model: one frozen dataclass, filled from preset, TOML file, environment and key=value.

The later wins: preset < TOML < environment `CRS_SET_<KEY>` < `--set key=value`. Unknown keys are refused with the
nearest known one. Knows nothing about what the settings mean.
"""

import contextlib
import dataclasses
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from crscli.errors import ConfigError, UsageError, unknown_name

ConfigT = TypeVar("ConfigT")


def resolve(
    config_class: type[ConfigT],
    preset: Mapping[str, Any],
    *,
    file: Path | None = None,
    sets: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> ConfigT:
    """The settings that will be used.

    Args:
        config_class: a frozen dataclass whose fields are bool, int, float or str.
        preset: the named preset's values.
        file: a TOML file of `key = value` lines.
        sets: "key=value" texts, as given with `--set`.
        environment: where CRS_SET_<KEY> is looked up; the process's own by default.

    Raises:
        UsageError: an unknown key; a value in `sets` of another type or outside its range.
        ConfigError: such a value in the file or the environment; the file is missing or is not TOML.
    """
    types = get_type_hints(config_class)
    values: dict[str, Any] = dict(preset)
    if file is not None:
        values |= _read(file)
    environment = os.environ if environment is None else environment
    texts = {key: environment.get(f"CRS_SET_{key.upper()}") for key in types}
    values |= {key: text for key, text in texts.items() if text is not None}
    typed = _pairs(sets, types)
    values |= typed
    fixed = {f.name for f in dataclasses.fields(config_class) if f.metadata.get("fixed")}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in types:
            raise unknown_name("setting", key, types)
        if key in fixed and value != preset.get(key, value):
            raise UsageError(f"setting {key} makes the model what it is: not {value!r}", "choose another --model")
    try:
        return config_class(**{key: _convert(key, value, types[key], key in typed) for key, value in values.items()})
    except ValueError as error:  # a check of the dataclass itself
        kind = UsageError if typed else ConfigError
        raise kind(str(error), "crs train --model NAME --dry-run lists the settings") from None


def _read(file: Path) -> dict[str, Any]:
    """The settings of a TOML file."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", "check the path given with --config") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}", "give --config a TOML file of key = value lines") from None


def _pairs(sets: Sequence[str], types: Mapping[str, type]) -> dict[str, str]:
    """The settings of key=value texts, the later of two counts."""
    values = {}
    for pair in sets:
        key, equals, text = pair.partition("=")
        if not equals and pair in types:
            raise UsageError(f"setting {pair} has no value", f"write --set {pair}=VALUE")
        if not equals:
            raise unknown_name("setting", pair, types, "write --set key=value")
        values[key.strip()] = text.strip()
    return values


def _convert(key: str, value: Any, wanted: type, typed: bool) -> Any:
    """A value of the field's type; texts are read, other types must fit."""
    if isinstance(value, str) and wanted is not str:
        text = value.lower()
        if wanted is bool and text in ("true", "false", "yes", "no", "1", "0"):
            return text in ("true", "yes", "1")
        if wanted in (int, float):
            with contextlib.suppress(ValueError):
                return _finite(wanted(value))
    elif isinstance(value, wanted) and not (wanted is not bool and isinstance(value, bool)):
        with contextlib.suppress(ValueError):
            return _finite(value)
    elif wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = UsageError if typed else ConfigError
    raise kind(f"setting {key}: {value!r} is no {wanted.__name__}", f"write {key}=<{wanted.__name__}>")


def _finite(value: Any) -> Any:
    """Not-a-number passes every check of a range, and infinity most."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value


def describe(config: Any) -> dict[str, Any]:
    """The settings as plain values, in the order of their definition."""
    return dataclasses.asdict(config)
