"""Batches that shrink where the memory does not suffice."""

import gc
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

import torch

from fvlightning.features.capture import is_out_of_memory

Made = TypeVar("Made")
Make = Callable[[Sequence[int], Callable[[int], None]], Iterator[tuple[int, Made]]]


def in_batches(
    groups: Iterable[Sequence[Sequence[int]]],
    batch_size: int,
    make: Make[Made],
    on_step: Callable[[int], None],
    steps: int,
) -> Iterator[tuple[int, Made]]:
    """Make things batch by batch; after an out-of-memory, in batches of half the size of the last one.

    Single pictures make batches of even sizes: eight pictures and two take longer than five and five. Things that were
    yielded before an out-of-memory are not made again.

    Args:
        groups: Places of the things, in sets that stay together. No batch has places of two groups.
        batch_size: How many are made at once at most; only a larger set makes a larger batch.
        make: Makes the things at some places, and yields each with its place as it is done. It calls its last argument
            with the number of steps made.
        on_step: Called with these numbers; steps that are made again count once.
        steps: How many steps each thing takes in all.

    Yields:
        Pairs of a place and the thing, group after group.

    Raises:
        RuntimeError: The memory does not suffice for one set at a time.
    """
    lost = 0
    for group in groups:
        left = group
        while left:
            n_sets = _count_fitting(left, batch_size)
            batch = list(chain(*left[:n_sets]))
            counter, done = _Counter(on_step, lost), set[int]()
            for place, made in _until_out_of_memory(make(batch, counter), last_resort=n_sets == 1):
                done.add(place)
                yield place, made
            lost = max(lost, counter.total) - steps * len(done)
            left = [places for places in left if not done.issuperset(places)]
            if done.issuperset(batch):
                continue
            n_open = len(batch) - len(done)
            batch_size = (n_open + 1) // 2
            _release()
            warnings.warn(
                f"out of memory with {n_open} pictures at once: going on with {batch_size}; "
                f"batch_size={batch_size} saves the attempt",
                stacklevel=2,
            )


class _Counter:
    """Passes on numbers of steps, except the first `owed` steps, which were passed on before."""

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


def _count_fitting(sets: Sequence[Sequence[int]], batch_size: int) -> int:
    """Return how many of the sets, from the first on, make the next batch; at least one."""
    counts = _counts_fitting(sets, batch_size)
    n_pictures = sum(map(len, sets))
    even = _counts_fitting(sets, math.ceil(n_pictures / math.ceil(n_pictures / batch_size)))
    return even[0] if len(even) <= len(counts) else counts[0]  # larger sets may need more batches when even


def _counts_fitting(sets: Sequence[Sequence[int]], batch_size: int) -> list[int]:
    """Return how many of the sets, one after the other, each batch takes if it takes all that fit."""
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
