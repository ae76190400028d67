"""Keeps freed memory of the CPU in the process, from step to step."""

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3), and the largest values that glibc chooses by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_LARGEST_TRIM_THRESHOLD = 2 * _LARGEST_MMAP_THRESHOLD


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory of the CPU in the process until the context ends.

    Each step frees what the next one allocates again: tens of megabytes of activations. glibc returns such blocks to
    the system, which hands them out page by page, filled with zeros. That takes a tenth to a quarter of a step, and
    more if several processes ask at once. Other allocators are left alone, and no result changes.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, 2**30)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD)
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library, or None if it is not glibc."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
