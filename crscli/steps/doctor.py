"""doctor: versions, devices, threads and disk, for a look at a machine and for bug reports."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crscli.workspace import Workspace, versions

_OPTIONAL = ("torch", "transformers", "peft", "torch-geometric", "faiss-cpu", "bitsandbytes", "openai", "fastapi")
_SECRET = ("KEY", "TOKEN", "SECRET", "PASS")


def doctor(workspace_: Workspace) -> dict[str, Any]:
    """Facts about the machine, and what is wrong with it for this workspace."""
    root = workspace_.root
    existing = next(p for p in (root, *root.resolve().parents) if p.exists())
    disk = shutil.disk_usage(existing)
    problems = []
    if not existing.is_dir():
        problems.append(f"{existing} is no folder")
    elif not os.access(existing, os.W_OK):
        problems.append(f"{existing} cannot be written")
    if disk.free < 1_000_000_000:
        problems.append(f"only {disk.free / 1e6:.0f} MB free at {existing}")
    memory = _memory_bytes()
    return {
        "versions": versions() | _optional_versions(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {k: v for k, v in sorted(os.environ.items()) if k.endswith("_NUM_THREADS")},
        "memory_bytes": memory,
        "devices": _devices(),
        "workspace": str(root),
        "disk_free_bytes": disk.free,
        "temporary_folder": tempfile.gettempdir(),
        "settings": _settings(os.environ),
        "problems": problems,
    }


def _optional_versions() -> dict[str, str]:
    """Libraries that are used where they are there."""
    found = {}
    for name in _OPTIONAL:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _devices() -> list[str]:
    """GPUs the driver shows; asked without torch, which takes seconds to import."""
    nvidia = Path("/proc/driver/nvidia/gpus")
    return ["cpu", *sorted(p.name for p in nvidia.iterdir())] if nvidia.is_dir() else ["cpu"]


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    """CRS_* and the variables that change output; names that look like secrets are not shown."""
    shown = {k: v for k, v in environment.items() if k.startswith("CRS_") or k in ("NO_COLOR", "TERM", "COLUMNS")}
    return {k: "(hidden)" if any(word in k for word in _SECRET) else v for k, v in sorted(shown.items())}
