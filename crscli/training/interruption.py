"""How a training ends before its time: by the user's signals, or for want of memory. Knows nothing about steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import torch

from crscli.errors import MachineError


class Stop:
    """What the user's signal asks for."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Take a signal."""
        if self.signal:  # the second time: at once
            self.raise_()
        self.signal = number

    def raise_(self) -> None:
        """End as the signal would have ended the program."""
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Let SIGINT and SIGTERM end the training after the step under way; a second one ends it at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn memory that ran out, of the GPU or the machine, into a MachineError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).strip() or type(error).__name__
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in text:
            raise
        raise MachineError(
            f"out of memory: {text.splitlines()[0][:200]}",
            "lower micro_batch (the result stays the same), context_tokens or item_tokens, or take a smaller backbone",
        ) from None
