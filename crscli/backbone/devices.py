"""Where is computed, and how precisely. Knows nothing about models."""

from pathlib import Path

import torch

from crscli.errors import MachineError, UsageError


def pick_device(name: str = "auto") -> str:
    """The device to compute on: the GPU where there is one.

    Raises:
        MachineError: a GPU is asked for and there is none.
        UsageError: no device is called so.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MachineError("no GPU was found", "leave --device out, or give --device cpu")
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise UsageError(f"device {name!r} is not known", "give auto, cpu, cuda or cuda:N") from None


def precision(device: torch.device) -> torch.autocast:
    """bf16 arithmetic inside on a GPU, fp32 on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def free_bytes(device: str) -> int:
    """Memory that is free on a device; 0 if unknown."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), 0)
