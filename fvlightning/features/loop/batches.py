"""Batches that shrink where the memory does not suffice."""

import gc
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

import torch

Made = TypeVar("Made")
Make = Callable[[Sequence[int], Sequence[int], Callable[[int], None]], Iterator[tuple[int, Made]]]

# What allocators that have no exception of their own say: the CPU's, that of MPS, and cuDNN.
_MESSAGES = re.compile(r"DefaultCPUAllocator|not enough memory|out of memory|CUDNN_STATUS_ALLOC_FAILED", re.IGNORECASE)


def in_batches(
    groups: Iterable[Sequence[Sequence[int]]],
    batch_size: int,
    make: Make[Made],
    on_step: Callable[[int], None],
    steps: int,
    even: bool = False,
) -> Iterator[tuple[int, Made]]:
    """Make things batch by batch; where the memory does not suffice, in batches of half of the last from there on.

    What was handed out by then is not made again.

    Args:
        groups: What is to be made, by places, in sets that are not to be parted; no batch has places of two groups.
        batch_size: How many are made at once, at first; more only where one set has more.
        make: Makes those at the places that it is given first, and hands out each with its place as it is done. Those
            at the other places, the rest of the group, it may make too, as places in the batch become free. It calls
            its last argument with the steps made.
        on_step: Gets these numbers; of steps that were lost and are made again, only once.
        steps: How many steps each takes in all.
        even: Whether a group of single pictures makes batches that are as large as each other, or one less, for where
            no places become free: eight pictures and two take longer than five and five. Larger sets make no more
            batches by it than without.

    Yields:
        Pairs of a place and what was made for it, group after group.

    Raises:
        RuntimeError: The memory does not suffice for one set at a time.
    """
    lost = 0
    for group in groups:
        left = group
        while left:
            n_sets = _count_fitting(left, batch_size, even)
            batch, waiting = list(chain(*left[:n_sets])), list(chain(*left[n_sets:]))
            counter, done = _Counter(on_step, lost), set[int]()
            for place, made in _until_out_of_memory(make(batch, waiting, counter), last_resort=n_sets == 1):
                done.add(place)
                yield place, made
            lost = max(lost, counter.total) - steps * len(done)
            left = [places for places in left if not done.issuperset(places)]
            if done.issuperset(batch):
                continue
            batch_size = (len(batch) + 1) // 2
            _release()
            warnings.warn(
                f"out of memory with {len(batch)} pictures at once: going on with {batch_size}; "
                f"batch_size={batch_size} saves the attempt",
                stacklevel=2,
            )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of a device or of the CPU, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _MESSAGES.search(str(error)) is not None


class _Counter:
    """Passes numbers of steps on, but for the first `owed`, which were passed on before."""

    def __init__(self, on_step: Callable[[int], None], owed: int) -> None:
        self._on_step = on_step
        self.owed = owed
        self.total = 0

    def __call__(self, steps: int) -> None:
        self.total += steps
        repeated = min(steps, self.owed)
        self.owed -= repeated
        if steps > repeated:
            self._on_step(steps - repeated)


def _count_fitting(sets: Sequence[Sequence[int]], batch_size: int, even: bool) -> int:
    """Return how many of the sets, from the first on, make a batch; at least one."""
    counts = _counts_fitting(sets, batch_size)
    if even:
        n_pictures = sum(map(len, sets))
        as_even = _counts_fitting(sets, math.ceil(n_pictures / math.ceil(n_pictures / batch_size)))
        counts = as_even if len(as_even) <= len(counts) else counts
    return counts[0]


def _counts_fitting(sets: Sequence[Sequence[int]], batch_size: int) -> list[int]:
    """Return how many of the sets, one after the other, each batch takes where it takes all that fit."""
    counts: list[int] = []
    room = 0
    for places in sets:
        if len(places) <= room:
            counts[-1] += 1
        else:
            counts.append(1)
            room = batch_size
        room -= len(places)
    return counts


def _until_out_of_memory(making: Iterator[tuple[int, Made]], last_resort: bool) -> Iterator[tuple[int, Made]]:
    try:
        yield from making
    except (RuntimeError, MemoryError) as error:
        # Its traceback holds the tensors of the attempt: it must be gone before the next.
        if last_resort or not is_out_of_memory(error):
            raise


def _release() -> None:
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.memory.empty_cache()
