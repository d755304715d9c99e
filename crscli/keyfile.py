"""Files of secrets: keys and tokens are read only where nobody else can read them. Knows nothing of their form."""

import os
import stat
from pathlib import Path

from crscli.errors import ConfigError


def read_secret(key_file: Path, hint: str) -> str:
    """The text of a file of mode 0600, without blanks around it.

    Args:
        key_file: the file.
        hint: what to do where it is not as it must be.

    Raises:
        ConfigError: it cannot be read, others may read it, or it is empty.
    """
    try:
        found = key_file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{key_file} is no file", hint)
        if os.name == "posix" and found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise ConfigError(f"{key_file} can be read by others (mode {mode:04o})", f"run: chmod 600 {key_file}")
        secret = key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no plain text"
        raise ConfigError(f"{key_file} cannot be read: {what}", hint) from None
    if not secret:
        raise ConfigError(f"{key_file} is empty", hint)
    return secret
