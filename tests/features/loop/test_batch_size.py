"""How many pictures are optimised at once where nobody says it."""

import os
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features import Maximizer
from fvlightning.features.capture.isolation import frozen
from fvlightning.features.capture.precision import CastingCapture, Precision
from fvlightning.features.loop.batch_size import automatic_batch_size, free_memory, saved_bytes
from fvlightning.features.units import LayerCall

SHAPE = (1, 8, 8)
MIB = 2**20


def capture(network: nn.Module, layer: str, autocast: torch.dtype | None = None) -> CastingCapture:
    return CastingCapture(network.requires_grad_(False), [LayerCall(layer)], Precision(autocast))


def squashing(n_layers: int) -> CastingCapture:
    """Return a network that keeps a map of 4 bytes a pixel for each layer."""
    return capture(nn.Sequential(*[nn.Sigmoid() for _ in range(n_layers)]), str(n_layers - 1))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("conv", 4 * 64),  # the pictures
        ("relu", 4 * (64 + 4 * 36)),  # and the map
        ("flatten", 4 * (64 + 4 * 36)),
        ("fc", 4 * (64 + 4 * 36)),
    ],
)
def test_bytes_of_one_more_picture_are_those_counted_by_hand(cnn: nn.Module, layer: str, expected: int):
    assert saved_bytes(capture(cnn, layer), SHAPE) == expected


def test_what_is_overwritten_counts_once(cnn: nn.Module):
    cnn.relu.inplace = True
    cnn.add_module("tanh", nn.Tanh())
    assert saved_bytes(capture(cnn, "tanh"), SHAPE) == 4 * (64 + 4 * 36 + 5)


def test_weights_do_not_count_in_low_precision_either(cnn: nn.Module):
    assert saved_bytes(capture(cnn, "fc", torch.bfloat16), SHAPE) == 2 * (64 + 4 * 36)


def test_counting_leaves_nothing_in_memory(cnn: nn.Module):
    kept: list[Tensor] = []
    cnn.conv.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    saved_bytes(capture(cnn, "fc"), SHAPE)
    assert kept[-1].requires_grad
    storage = torch.multiprocessing.reductions.StorageWeakRef(kept[-1].untyped_storage())
    kept.clear()
    assert storage.expired()


@pytest.mark.parametrize(
    ("n_layers", "side", "views", "expected"),
    [(1, 8, 1, 64), (1, 512, 1, 32), (2, 512, 1, 16), (2, 512, 2, 8), (3, 1024, 1, 8)],
)
def test_on_the_cpu_batches_stay_near_the_caches(n_layers: int, side: int, views: int, expected: int):
    """A thread's part of the caches is taken for 32 MiB."""
    assert automatic_batch_size(squashing(n_layers), [(1, side, side)], views) == expected


def test_the_largest_size_counts():
    shapes = [(1, 64, 64), (1, 512, 512), (1, 128, 128)]
    assert automatic_batch_size(squashing(1), shapes) == 32


def test_more_free_memory_gives_more_pictures_and_too_little_gives_one(monkeypatch: pytest.MonkeyPatch):
    network = squashing(1)
    one = 512 * 512 * 4 * (1 + 16 + 8)
    found = []
    for n_processes in (10**12, free_memory(torch.device("cpu")) // (8 * one), 1):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(n_processes))
        found.append(automatic_batch_size(network, [(1, 512, 512)]))
    assert found[0] == 1
    assert found[1] == pytest.approx(4, abs=1), "half of what eight take; other processes have some of it meanwhile"
    assert found[2] == 32


def test_memory_of_the_cpu_is_what_is_left_of_it_and_shared(monkeypatch: pytest.MonkeyPatch):
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = free_memory(torch.device("cpu"))
    assert 16 * MIB < alone <= total
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(torch.device("cpu")) == pytest.approx(alone / 4, rel=0.2)


class Spy(nn.Module):
    """Notes how many pictures it gets at once, and has room for so many and no more."""

    def __init__(self, network: nn.Module, room: int = 10**9) -> None:
        super().__init__()
        self.network, self.room = network, room
        self.sizes: list[int] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.sizes.append(len(pictures))
        if len(pictures) > self.room:
            torch.empty(2**50)
        return self.network(pictures)


def test_pictures_are_those_of_any_batch_size(cnn: nn.Module):
    expected = Maximizer(8, batch_size=3).maximize(cnn, "fc:*", SHAPE)
    features = Maximizer(8).maximize(cnn, "fc:*", SHAPE)
    for feature, other in zip(features, expected, strict=True):
        assert feature.unit == other.unit
        torch.testing.assert_close(feature.parameters, other.parameters, atol=1e-4, rtol=0)


def test_memory_does_not_grow_with_the_number_of_units():
    def largest_batch(units: str) -> int:
        spy = Spy(nn.Sequential(nn.Flatten(), nn.Linear(64, 300)))
        Maximizer(1, transforms=[]).maximize(spy, units, SHAPE)
        return max(spy.sizes)

    assert largest_batch("network.1:0-127") == largest_batch("network.1:0-255") == 64


def test_a_network_of_which_two_pictures_do_not_fit_makes_one_at_a_time(cnn: nn.Module):
    spy = Spy(cnn, room=1)
    with frozen(spy):
        assert automatic_batch_size(capture(spy, "network.fc"), [SHAPE]) == 1
    features = Maximizer(2).maximize(spy, "network.fc:0-2", SHAPE)
    assert [feature.status for feature in features] == ["ok"] * 3
    assert spy.sizes.count(2) == 2, "only those that measure"


def test_other_errors_of_the_network_are_its_own(cnn: nn.Module):
    def refuse(_module: nn.Module, inputs: Sequence[Tensor]) -> None:
        if len(inputs[0]) == 2:
            raise RuntimeError("not two")

    cnn.register_forward_pre_hook(refuse)
    with pytest.raises(RuntimeError, match="not two"):
        automatic_batch_size(capture(cnn, "fc"), [SHAPE])
