"""The key of an endpoint, and where it may be sent: it joins a request then, and is in nothing that is kept."""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from crscli.errors import ConfigError, UsageError
from crscli.keyfile import read_secret

ENVIRONMENT = ("CRS_LLM_KEY", "OPENAI_API_KEY")
NO_KEY = "none"
"""What an endpoint on this machine is told that wants a key and checks none."""
_HOW = f"set {ENVIRONMENT[0]}, or give a file of mode 0600 with --llm-key-file"


def check_address(base_url: str) -> None:
    """Refuse what is no address of an endpoint.

    Raises:
        UsageError: it is not.
    """
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        # urlsplit drops characters of control, the client of the network does not: both must mean the same host.
        good = good and re.fullmatch(r"[\x21-\x7e]+", base_url) is not None
    except ValueError:
        good = False
    if not good or parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"--llm-base-url {base_url!r} is no address of an endpoint", "write it as https://HOST/v1, without a key"
        )


def is_here(base_url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_key(base_url: str, key_file: Path | None, environment: Mapping[str, str] = os.environ) -> str:
    """The key of a file, else of the environment; an endpoint on this machine needs none.

    Raises:
        ConfigError: there is none, others may read the file, or it would travel in the open.
    """
    key = (
        read_secret(key_file, _HOW)
        if key_file
        else next((k for n in ENVIRONMENT if (k := environment.get(n, "").strip())), "")
    )
    if not key and is_here(base_url):
        return NO_KEY
    if not key:
        raise ConfigError("no key for the language model's endpoint", _HOW)
    if not re.fullmatch(r"[\x21-\x7e]{1,4096}", key):
        raise ConfigError("the key of the language model's endpoint has characters that no key has", _HOW)
    if urlsplit(base_url).scheme == "http" and not is_here(base_url):
        raise ConfigError("the key would travel to another machine in the open", "give an https address")
    return key
