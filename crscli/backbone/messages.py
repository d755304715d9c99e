"""What other libraries say: kept quiet, and their errors told in one line.

Knows nothing about models.
"""

import contextlib
import logging as standard
from collections.abc import Iterator

from transformers.utils import logging

from crscli.errors import ConfigError, CrsError


def first_line(error: BaseException) -> str:
    """What another library says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextlib.contextmanager
def retold(message: str, hint: str, kind: type[CrsError] = ConfigError) -> Iterator[None]:
    """Tell any error of another library inside as one of ours: damaged files and strange models may raise anything."""
    try:
        yield
    except CrsError:
        raise
    except Exception as error:
        raise kind(f"{message}: {first_line(error)}", hint) from error


@contextlib.contextmanager
def hushed(logger: str) -> Iterator[None]:
    """Nothing below an error from a logger of another library inside."""
    speaker = standard.getLogger(logger)
    level = speaker.level
    speaker.setLevel(standard.ERROR)
    try:
        yield
    finally:
        speaker.setLevel(level)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Neither bars nor reports of transformers inside: what matters of them is checked, and raised as an error."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
