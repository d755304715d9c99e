"""States of a training on disk: trained parameters, the best of them, the optimiser, and where in the order it stands.

A checkpoint is a folder that is written beside, synced and renamed; its `sha256.json` holds digests of its files.
The last two are kept, and the newest that verifies is used. Random numbers need no state: they are a function of seed
and step.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crscli.errors import MachineError

_KEPT = 2
_PARAMETERS, _OPTIMISER, _BEST = (f"{name}.safetensors" for name in ("parameters", "optimiser", "best"))
_STATE, _DIGESTS = "state.json", "sha256.json"


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, readable like any other file of the user."""
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, path)
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)  # safetensors makes files that nobody else may read


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors.

    Raises:
        OSError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise OSError(f"{path} is damaged: {error}") from None


def save(
    directory: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    state: Any,
    best: Mapping[str, Tensor],
) -> None:
    """Write the checkpoint of a step and drop all but the last two.

    Args:
        directory: where checkpoints stand.
        step: how many were made.
        parameters: those that are trained.
        optimiser: theirs.
        state: what else the training goes on from, as JSON.
        best: values of the parameters that were best so far, if any.

    Raises:
        MachineError: it cannot be written; the ones before it are untouched.
    """
    final = directory / f"step-{step:09}"
    partial = directory / f".{final.name}.partial"
    for stale in directory.glob(".step-*.partial"):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        save_tensors(parameters, partial / _PARAMETERS)
        save_tensors(_optimiser_tensors(parameters, optimiser), partial / _OPTIMISER)
        if best:
            save_tensors(best, partial / _BEST)
        (partial / _STATE).write_text(json.dumps({"step": step, **state}), encoding="utf-8")
        digests = {file.name: _digest(file) for file in sorted(partial.iterdir())}
        (partial / _DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
        for file in (*partial.iterdir(), partial):
            _sync(file)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
        _sync(directory)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise MachineError(
            f"the checkpoint of step {step} cannot be written to {directory}: {error}",
            "free disk space there and run the same command again: it goes on from the checkpoint before",
        ) from None
    for old in found(directory)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def found(directory: Path) -> list[Path]:
    """The checkpoints of a directory, the newest first."""
    return sorted((p for p in directory.glob("step-*") if p.is_dir()), reverse=True) if directory.is_dir() else []


def newest(directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint whose files are whole, and its state."""
    for folder in found(directory):
        try:
            digests = json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
            if all(_digest(folder / name) == digest for name, digest in digests.items()):
                return folder, json.loads((folder / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError, AttributeError):
            continue
    return None


def restore(
    folder: Path, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Put parameters and optimiser back to where a checkpoint left them; the best values, if there were any."""
    put(load_tensors(folder / _PARAMETERS), parameters)
    saved = load_tensors(folder / _OPTIMISER)
    state: dict[int, dict[str, Tensor]] = {}
    for num, name in enumerate(_in_order(parameters, optimiser)):
        keys = {key.rpartition("|")[2]: tensor for key, tensor in saved.items() if key.rpartition("|")[0] == name}
        if keys:
            state[num] = keys
    plain = optimiser.state_dict()
    optimiser.load_state_dict({"state": state, "param_groups": plain["param_groups"]})
    return load_tensors(folder / _BEST) if (folder / _BEST).exists() else {}


@torch.no_grad()
def put(tensors: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    """Copy saved values into parameters.

    Raises:
        OSError: names or shapes differ.
    """
    if tensors.keys() != parameters.keys() or any(tensors[n].shape != p.shape for n, p in parameters.items()):
        odd = sorted(tensors.keys() ^ parameters.keys()) or [
            n for n, p in parameters.items() if tensors[n].shape != p.shape
        ]
        raise OSError(f"saved parameters are those of another model: {', '.join(odd[:3])} differ")
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _in_order(parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters as the optimiser numbers them."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    return [names[id(p)] for group in optimiser.param_groups for p in group["params"]]


def _optimiser_tensors(parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {
        f"{name}|{key}": torch.as_tensor(value)
        for num, name in enumerate(_in_order(parameters, optimiser))
        for key, value in state.get(num, {}).items()
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
