"""One file per command: which artifact feeds what."""
