import subprocess
import sys

import pytest

from fvlightning.cli.allocation import _glibc, freed_memory_kept

# In a process of its own: the allocator depends on what was freed before.
_COUNT = """
import resource, torch
from contextlib import nullcontext
from fvlightning.cli.allocation import freed_memory_kept

def faults(context):
    with context:
        for _ in range(10):
            torch.ones(10 * 2**20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(10 * 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

print(faults(nullcontext()), faults(freed_memory_kept()))
with freed_memory_kept():
    torch.ones(10 * 2**20)
    kept = resident()
print(kept, resident())
"""


@pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc")
def test_freed_memory_stays_in_the_process_until_the_context_ends():
    done = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=True)
    faults, faults_within, kept, left = map(int, done.stdout.split())

    # Each 40 MB are 10,000 pages, or 20 large ones. A fragmented heap takes new ones a few times.
    assert faults_within < faults / 2
    assert left < kept - 30e6


def test_exceptions_pass():
    with pytest.raises(KeyError, match="lost"), freed_memory_kept():
        raise KeyError("lost")
