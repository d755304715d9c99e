"""Several processes that train one model together: who this one is, sums over all, and how they are started.

Each process takes a share of every global batch; sums of losses, counts and gradients are taken over all of them, so
that n processes make the step that one would make. One process needs none of this.
"""

import atexit
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from crscli.errors import CrsError, MachineError

_FLAT = 64 * 1024 * 1024
"""Bytes of gradients that are summed in one message."""
_PATIENCE = timedelta(hours=6)
"""How long processes wait while the first one validates; one that died is noticed at once."""


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and reports."""
        return self.rank == 0

    def sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Sums over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        with _together():
            dist.all_reduce(tensor)
        return tensor.tolist()

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Put the sum over all processes into every gradient; where a process has none it counts as zero."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.size == 1:
            return
        group: list[Tensor] = []
        for num, gradient in enumerate(gradients := [p.grad for p in parameters if p.grad is not None], 1):
            group.append(gradient)
            if num == len(gradients) or sum(g.nbytes for g in group) > _FLAT:
                flat = torch.cat([g.reshape(-1) for g in group])
                with _together():
                    dist.all_reduce(flat)
                for own, part in zip(group, flat.split([g.numel() for g in group]), strict=True):
                    own.copy_(part.view_as(own))
                group = []

    def share(self, value: Any) -> Any:
        """The first process's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        with _together():
            dist.broadcast_object_list(box)
        return box[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            with _together():
                dist.barrier()


@contextmanager
def _together() -> Iterator[None]:
    """What fails when another process is no more."""
    try:
        yield
    except RuntimeError as error:
        raise MachineError(
            f"the processes of this training have lost each other: {str(error).splitlines()[0][:200]}",
            "its message stands above; the last checkpoint is kept: run the same command again to go on",
        ) from None


def is_worker() -> bool:
    """Whether this process was started by `launch` or torchrun, as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank_of() -> int:
    """Which of several processes this is; 0 for the only one."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the only one, or the first of several."""
    return rank_of() == 0


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that the environment names (RANK, WORLD_SIZE, MASTER_ADDR, as torchrun sets them).

    They stay joined for the trainings that follow: a second start would find the addresses of the first.
    """
    if not is_worker():
        yield World()
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", size))))
    if not dist.is_initialized():
        with _together():
            dist.init_process_group("nccl" if on_gpu else "gloo", rank=rank, world_size=size, timeout=_PATIENCE)
    # Taking leave waits for the others: only those do it at their end whose last training went well.
    atexit.unregister(dist.destroy_process_group)
    yield World(rank, size)
    atexit.register(dist.destroy_process_group)


def launch(arguments: Sequence[str], processes: int) -> None:
    """Run `crs` with these arguments in several processes on this machine, as torchrun does, and wait for them.

    Raises:
        CrsError: a process failed; with its exit code where it was one of crs, else 7.
        KeyboardInterrupt: the processes were interrupted.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"crs-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):  # what it would say of a failure stands in our message
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)("-m", "crscli", *arguments)
    except SignalException as error:
        if error.sigval == 2:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + error.sigval) from None
    except ChildFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda pair: pair[1].timestamp)
        code = failure.exitcode
        if code in (130, 143):
            raise KeyboardInterrupt from None
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        failed: CrsError = MachineError(
            f"process {rank} of {processes} {how}; the others were stopped",
            "its message stands above; the last checkpoint is kept: run the same command again to go on",
        )
        if 2 <= code <= 9:
            failed.exit_code = code
        raise failed from None
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
