"""What library code may tell while it works: a progress callback and a message callback. It prints nothing."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with a label, the amount done, and the total where it is known."""

Say = Callable[[str], None]
"""Called with one plain sentence that a user should read."""


def silent(*_: object) -> None:
    """Take a report and drop it."""
