"""Batches of even sizes, which shrink where the memory does not suffice."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from toy_networks import BrightnessUnits, Cramped

from fvlightning.errors import InputError
from fvlightning.features import Maximizer, PixelImage
from fvlightning.features.capture import is_out_of_memory
from fvlightning.features.loop.batches import in_batches

SHAPE = (1, 8, 8)
OnStep = Callable[[int], None]


@pytest.mark.parametrize("after", [0, 5])
def test_pictures_are_the_same_after_an_out_of_memory_and_every_step_is_counted_once(cnn: nn.Module, after: int):
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
    roomy = maximizer.maximize(Cramped(cnn), "network.fc:*", SHAPE)
    for feature, other in zip(features, roomy, strict=True):
        torch.testing.assert_close(feature.parameters, other.parameters, atol=1e-4, rtol=0)


def test_the_smaller_batch_is_kept_for_the_next(cnn: nn.Module):
    cramped = Cramped(cnn, room=2)
    with pytest.warns(UserWarning, match="going on with 2"):
        Maximizer(2, batch_size=3, transforms=[]).maximize(cramped, ["network.fc:*", "network.conv:*"], SHAPE)
    assert max(cramped.sizes[cramped.sizes.index(3) + 1 :]) <= 2, "after the batch of 3"


def test_pictures_that_were_handed_out_before_an_out_of_memory_are_not_made_again():
    """Three of six pictures leave after 16 of 60 steps. Later there is no room for the other three at once."""
    caps = [0.52, 0.9, 0.54, 1.0, 0.56, 0.95]
    units = BrightnessUnits(*(partial(torch.clamp, max=cap) for cap in caps))
    maximizer = Maximizer(60, image=PixelImage(), transforms=[], patience=3)
    cramped, made = Cramped(units, room=2, after=40), list[int]()
    with pytest.warns(UserWarning, match="out of memory with") as warned:
        placed = list(maximizer.stream(cramped, "network:*", SHAPE, on_step=made.append))
    assert [str(w.message).split(";")[0] for w in warned] == [
        "out of memory with 3 pictures at once: going on with 2",
    ]
    assert [place for place, _ in placed[:3]] == [0, 2, 4]
    assert sorted(place for place, _ in placed) == list(range(6)), "each once"
    assert sum(made) == 60 * 6
    assert min(made) > 0
    alone = maximizer.replace(batch_size=1).maximize(Cramped(units), "network:*", SHAPE)
    for place, feature in placed:
        assert feature.steps == alone[place].steps
        torch.testing.assert_close(feature.parameters, alone[place].parameters, atol=1e-4, rtol=0)


def never(places: Sequence[int], on_step: OnStep) -> Iterator[tuple[int, Tensor]]:
    yield places[0], torch.empty(2**50)


def test_one_picture_that_does_not_fit_is_an_error():
    with (
        pytest.warns(UserWarning, match="going on with 1"),
        pytest.raises(RuntimeError, match=r"allocate|memory") as caught,
    ):
        list(in_batches([[[0], [1]]], 2, never, lambda steps: None, 1))
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("after", [0, 10], ids=["at the first", "while pictures are made"])
def test_one_picture_that_does_not_fit_the_network_is_named_with_its_size(cnn: nn.Module, after: int):
    with pytest.raises(InputError, match=r"^out of memory with one picture of shape \(1, 8, 8\) \(.* bytes\); give a"):
        Maximizer(20).maximize(Cramped(cnn, room=0, after=after), "network.fc:0", SHAPE)


def test_other_errors_are_not_taken_for_an_out_of_memory():
    calls = []

    def make(places: Sequence[int], on_step: OnStep) -> Iterator[tuple[int, int]]:
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
def test_an_out_of_memory_is_known_by_what_allocators_say(error: Exception):
    assert is_out_of_memory(error)


def test_steps_that_are_lost_twice_are_counted_once():
    """The first of two attempts that fail gets further than the second."""
    made: list[int] = []
    steps_until_failure = {4: 3, 2: 1}

    def make(places: Sequence[int], on_step: OnStep) -> Iterator[tuple[int, int]]:
        for _ in range(steps_until_failure.get(len(places), 5)):
            on_step(len(places))
        if len(places) in steps_until_failure:
            raise torch.OutOfMemoryError
        yield from zip(places, places, strict=True)

    with pytest.warns(UserWarning, match="out of memory"):
        things = list(in_batches([[[0], [1], [2], [3]]], 4, make, made.append, 5))
    assert things == [(place, place) for place in range(4)]
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
def test_batches_are_of_even_sizes(sizes: list[int], batch_size: int, expected: list[int]):
    places = iter(range(sum(sizes)))
    group = [[next(places) for _ in range(size)] for size in sizes]
    batches: list[list[int]] = []

    def make(places: Sequence[int], on_step: OnStep) -> Iterator[tuple[int, int]]:
        batches.append(list(places))
        yield from zip(places, places, strict=True)

    things = list(in_batches([group], batch_size, make, lambda _: None, 1))
    assert [place for place, _ in things] == list(range(sum(sizes)))
    assert [len(batch) for batch in batches] == expected
