"""The command line: options, errors in one line, and a quiet start. Nothing heavy is imported here."""

from typing import TYPE_CHECKING

from fvlightning.cli.allocation import freed_memory_kept
from fvlightning.cli.entry_point import main

if TYPE_CHECKING:
    from fvlightning.cli.vision_cli import VisionCLI

__all__ = ["VisionCLI", "freed_memory_kept", "main"]


def __getattr__(name: str) -> object:
    if name != "VisionCLI":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fvlightning.cli.vision_cli import VisionCLI

    return VisionCLI
