"""How many pictures are optimised at once by default."""

import os
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from toy_networks import Cramped

from fvlightning.features import Maximizer
from fvlightning.features.capture import Capture, Precision, frozen
from fvlightning.features.loop.batch_size import automatic_batch_size, free_memory, saved_bytes
from fvlightning.features.units import LayerCall

SHAPE = (1, 8, 8)
MIB = 2**20


def capture(network: nn.Module, layer: str, autocast: torch.dtype | None = None) -> Capture:
    return Capture(network.requires_grad_(False), [LayerCall(layer)], Precision(autocast))


def squashing(n_layers: int) -> Capture:
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


def test_a_map_that_is_overwritten_counts_once(cnn: nn.Module):
    cnn.relu.inplace = True
    cnn.add_module("tanh", nn.Tanh())
    assert saved_bytes(capture(cnn, "tanh"), SHAPE) == 4 * (64 + 4 * 36 + 5)


def test_weights_do_not_count_in_low_precision_either(cnn: nn.Module):
    assert saved_bytes(capture(cnn, "fc", torch.bfloat16), SHAPE) == 2 * (64 + 4 * 36)


def test_counting_leaves_nothing_in_memory(cnn: nn.Module):
    outputs: list[Tensor] = []
    cnn.conv.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    saved_bytes(capture(cnn, "fc"), SHAPE)
    assert outputs[-1].requires_grad
    storage = torch.multiprocessing.reductions.StorageWeakRef(outputs[-1].untyped_storage())
    outputs.clear()
    assert storage.expired()


@pytest.mark.parametrize(
    ("n_layers", "side", "transforms_per_step", "expected"),
    [(1, 8, 1, 64), (1, 512, 1, 32), (2, 512, 1, 16), (2, 512, 2, 8), (3, 1024, 1, 8)],
)
def test_on_the_cpu_batches_stay_near_the_caches(n_layers: int, side: int, transforms_per_step: int, expected: int):
    """A thread counts as 32 MiB of cache."""
    assert automatic_batch_size(squashing(n_layers), [(1, side, side)], transforms_per_step) == expected


def test_the_largest_of_several_picture_sizes_counts():
    shapes = [(1, 64, 64), (1, 512, 512), (1, 128, 128)]
    assert automatic_batch_size(squashing(1), shapes) == 32


def test_more_free_memory_gives_more_pictures_and_too_little_gives_one(monkeypatch: pytest.MonkeyPatch):
    network = squashing(1)
    one = 512 * 512 * 4 * (1 + 16 + 8)
    batch_sizes = []
    for n_processes in (10**12, free_memory(torch.device("cpu")) // (8 * one), 1):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(n_processes))
        batch_sizes.append(automatic_batch_size(network, [(1, 512, 512)]))
    assert batch_sizes[0] == 1
    assert batch_sizes[1] == pytest.approx(4, abs=1), "half of what eight take; other processes may take some meanwhile"
    assert batch_sizes[2] == 32


def test_free_memory_of_the_cpu_is_shared_by_the_processes_of_a_run(monkeypatch: pytest.MonkeyPatch):
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = free_memory(torch.device("cpu"))
    assert 16 * MIB < alone <= total
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(torch.device("cpu")) == pytest.approx(alone / 4, rel=0.2)


def test_pictures_are_the_same_as_with_a_given_batch_size(cnn: nn.Module):
    expected = Maximizer(8, batch_size=3).maximize(cnn, "fc:*", SHAPE)
    features = Maximizer(8).maximize(cnn, "fc:*", SHAPE)
    for feature, other in zip(features, expected, strict=True):
        assert feature.unit == other.unit
        torch.testing.assert_close(feature.parameters, other.parameters, atol=1e-4, rtol=0)


def test_memory_does_not_grow_with_the_number_of_units():
    def largest_batch(units: str) -> int:
        network = Cramped(nn.Sequential(nn.Flatten(), nn.Linear(64, 300)))
        Maximizer(1, transforms=[]).maximize(network, units, SHAPE)
        return max(network.sizes)

    assert largest_batch("network.1:0-127") == largest_batch("network.1:0-255") == 64


def test_where_two_pictures_do_not_fit_they_are_made_one_at_a_time(cnn: nn.Module):
    network = Cramped(cnn, room=1)
    with frozen(network):
        assert automatic_batch_size(capture(network, "network.fc"), [SHAPE]) == 1
    features = Maximizer(2).maximize(network, "network.fc:0-2", SHAPE)
    assert [feature.status for feature in features] == ["ok"] * 3
    assert network.sizes.count(2) == 2, "only to measure the layers and the memory"


def test_other_errors_of_the_network_are_its_own(cnn: nn.Module):
    def refuse(_module: nn.Module, inputs: Sequence[Tensor]) -> None:
        if len(inputs[0]) == 2:
            raise RuntimeError("not two")

    cnn.register_forward_pre_hook(refuse)
    with pytest.raises(RuntimeError, match="not two"):
        automatic_batch_size(capture(cnn, "fc"), [SHAPE])
