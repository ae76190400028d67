"""A copy of a network that gives the same in less time; each trick in a file."""

from fvlightning.features.fast.copying import fast_copy

__all__ = ["fast_copy"]
