"""The command line: options, errors in one line, and a quiet start. Nothing heavy is imported here."""

from fvlightning.cli.entry_point import main

__all__ = ["main"]
