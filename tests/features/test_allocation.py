import subprocess
import sys

import pytest

from fvlightning.features.allocation import _glibc, freed_memory_kept

# In a process of its own: how an allocator behaves depends on what was freed before.
_COUNT_FAULTS = """
import resource, torch
from contextlib import nullcontext
from fvlightning.features.allocation import freed_memory_kept

def faults(context):
    with context:
        for _ in range(6):
            torch.ones(10 * 2**20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(10 * 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(nullcontext()), faults(freed_memory_kept()), faults(nullcontext()))
"""


@pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc")
def test_memory_that_is_freed_and_asked_for_again_is_not_taken_from_the_system_anew():
    done = subprocess.run([sys.executable, "-c", _COUNT_FAULTS], capture_output=True, text=True, check=True)
    before, within, after = map(int, done.stdout.split())

    # 40 MB a time are 10,000 pages, or 20 large ones.
    assert within < before / 5
    assert after > 5 * within


def test_exceptions_pass():
    with pytest.raises(KeyError), freed_memory_kept():
        raise KeyError
