"""`python -m crscli` is the same as `crs`."""

from crscli.cli import main

main()
