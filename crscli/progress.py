"""What library code may tell while it works: a progress callback and a message callback. It prints nothing."""

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Called with a label, the amount done, the total where it is known, and a note that changes on the way."""

    def __call__(self, label: str, done: int, total: int | None, note: str = "", /) -> None:
        """Take a report."""
        ...


Say = Callable[[str], None]
"""Called with one plain sentence that a user should read."""


def silent(*_: object) -> None:
    """Take a report and drop it."""
