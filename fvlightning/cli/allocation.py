"""Memory of the CPU that is kept from step to step."""

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3), and the values that they have at most where the allocator adapts them by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OWN_MMAP_THRESHOLD = 32 * 2**20
_OWN_TRIM_THRESHOLD = 2 * _OWN_MMAP_THRESHOLD


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Have freed memory of the CPU stay with the process for as long as this lasts.

    Each step frees what the next one allocates again: tens of megabytes of activations. glibc's allocator gives blocks
    of such sizes back to the system, which hands them out again page by page, each filled with zeros: a tenth to a
    quarter of the time of a step, and more where several processes ask at once. The system gets them when this ends.
    Other allocators are left alone, and so is the result: only where the numbers lie is decided here.
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
        library.mallopt(_MMAP_THRESHOLD, _OWN_MMAP_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, _OWN_TRIM_THRESHOLD)
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library, or None where it is another one."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
