"""Batches that shrink where the memory does not suffice."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features import Maximizer
from fvlightning.features.loop.batches import in_batches, is_out_of_memory

SHAPE = (1, 8, 8)
OnStep = Callable[[int], None]


class Cramped(nn.Module):
    """Has room for so many pictures and no more, as an allocator of the CPU says it."""

    def __init__(self, network: nn.Module, room: int, after: int = 0) -> None:
        super().__init__()
        self.network, self.room, self.after = network, room, after
        self.calls: list[int] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.calls.append(len(pictures))
        if len(pictures) > self.room and len(self.calls) > self.after:
            torch.empty(2**50)
        return self.network(pictures)


@pytest.mark.parametrize("after", [0, 5])
def test_pictures_are_the_same_and_every_step_is_counted_once(cnn: nn.Module, after: int):
    maximizer = Maximizer(4)
    expected = maximizer.maximize(cnn, "fc:*", SHAPE)
    cramped, made = Cramped(cnn, room=2, after=after), list[int]()
    with pytest.warns(UserWarning, match="out of memory with") as warned:
        features = maximizer.maximize(cramped, "network.fc:*", SHAPE, on_step=made.append)
    assert [str(w.message).split(":")[0] for w in warned] == [
        "out of memory with 5 pictures at once",
        "out of memory with 3 pictures at once",
    ]
    assert sum(made) == 5 * 4
    assert min(made) > 0
    for feature, before in zip(features, expected, strict=True):
        assert feature.unit.index == before.unit.index
    again = maximizer.maximize(Cramped(cnn, room=5), "network.fc:*", SHAPE)
    for feature, before in zip(features, again, strict=True):
        torch.testing.assert_close(feature.parameters, before.parameters, atol=1e-4, rtol=0)


def test_the_smaller_batch_is_kept_for_the_next(cnn: nn.Module):
    cramped = Cramped(cnn, room=2)
    with pytest.warns(UserWarning, match="going on with 2"):
        Maximizer(2, batch_size=3, transforms=[]).maximize(cramped, ["network.fc:*", "network.conv:*"], SHAPE)
    assert max(cramped.calls[cramped.calls.index(3) + 1 :]) <= 2, "after the batch of 3"


def never(places: Sequence[int], waiting: Sequence[int], on_step: OnStep) -> Iterator[tuple[int, Tensor]]:
    yield places[0], torch.empty(2**50)


def test_one_picture_that_does_not_fit_is_an_error(cnn: nn.Module):
    with (
        pytest.warns(UserWarning, match="going on with 1"),
        pytest.raises(RuntimeError, match=r"allocate|memory") as caught,
    ):
        list(in_batches([[[0], [1]]], 2, never, lambda steps: None, 1))
    assert is_out_of_memory(caught.value)


def test_other_errors_are_not_taken_for_it():
    calls = []

    def make(places: Sequence[int], waiting: Sequence[int], on_step: OnStep) -> Iterator[tuple[int, int]]:
        calls.append(list(places))
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(in_batches([[[0], [1]]], 2, make, lambda steps: None, 1))
    assert calls == [[0, 1]]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_what_allocators_say(error: Exception):
    assert is_out_of_memory(error)


def test_steps_that_are_lost_twice_are_counted_once():
    """The first attempt gets further than the second."""
    made: list[int] = []
    progress = {4: 3, 2: 1}

    def make(places: Sequence[int], waiting: Sequence[int], on_step: OnStep) -> Iterator[tuple[int, int]]:
        for _ in range(progress.get(len(places), 5)):
            on_step(len(places))
        if len(places) in progress:
            raise torch.OutOfMemoryError
        yield from zip(places, places, strict=True)

    with pytest.warns(UserWarning, match="out of memory"):
        found = list(in_batches([[[0], [1], [2], [3]]], 4, make, made.append, 5))
    assert found == [(place, place) for place in range(4)]
    assert sum(made) == 4 * 5


@pytest.mark.parametrize(
    ("sizes", "batch_size", "expected"),
    [
        ([1] * 10, 8, [5, 5]),
        ([1] * 8, 8, [8]),
        ([1] * 65, 64, [33, 32]),
        ([1] * 17, 8, [6, 6, 5]),
        ([3] * 4, 8, [6, 6]),
        ([5, 5], 4, [5, 5]),
        ([1, 4, 3], 6, [5, 3]),
    ],
    ids=str,
)
def test_batches_are_even(sizes: list[int], batch_size: int, expected: list[int]):
    places = iter(range(sum(sizes)))
    group = [[next(places) for _ in range(size)] for size in sizes]
    batches: list[list[int]] = []

    def make(places: Sequence[int], waiting: Sequence[int], on_step: OnStep) -> Iterator[tuple[int, int]]:
        batches.append(list(places))
        yield from zip(places, places, strict=True)

    found = list(in_batches([group], batch_size, make, lambda _: None, 1, even=True))
    assert [place for place, _ in found] == list(range(sum(sizes)))
    assert [len(batch) for batch in batches] == expected
