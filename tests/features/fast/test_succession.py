"""Which modules take the outputs of others, and whether nothing else does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features.fast._succession import Succession


class Two(nn.Module):
    """A first and a second module with one between them, wired in some way."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor], between: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.ReLU(), nn.MaxPool2d(2)
        self.between = nn.Identity() if between is None else between
        self.behind = nn.Conv2d(3, 3, 1)
        self.way = way

    def forward(self, pictures: Tensor) -> Tensor:
        return self.behind(self.way(self, pictures * 2))


def plain(two: Two, values: Tensor) -> Tensor:
    return two.second(two.first(values))


def through(two: Two, values: Tensor) -> Tensor:
    return two.second(two.between(two.first(values)))


def first_twice(two: Two, values: Tensor) -> Tensor:
    return two.second(two.first(two.first(values)))


def second_twice(two: Two, values: Tensor) -> Tensor:
    return two.second(two.second(two.first(values)))


def written_into(two: Two, values: Tensor) -> Tensor:
    return two.second(two.first(values).mul_(2))


def changed(two: Two, values: Tensor) -> Tensor:
    return two.second(two.first(values) + 1)


def other_first(two: Two, values: Tensor) -> Tensor:
    two.first(values)
    return two.second(values)


def by_name(two: Two, values: Tensor) -> Tensor:
    return two.second(input=two.first(values))


def used_again(two: Two, values: Tensor) -> Tensor:
    rectified = two.first(values)
    return two.second(rectified) + nn.functional.avg_pool2d(rectified, 2)


def dead_second(two: Two, values: Tensor) -> Tensor:
    rectified = two.first(values)
    two.second(rectified)
    return rectified


def watched(network: Two, **settings: list[nn.Module]) -> tuple[Succession, Tensor]:
    succession = Succession([network.first], [network.second], **settings)
    with succession.watching():
        output = network(torch.randn(1, 3, 4, 4).requires_grad_())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    return succession, output


@pytest.mark.parametrize(
    ("way", "is_pair"),
    [
        (plain, True),
        (through, True),
        (used_again, True),
        (first_twice, False),
        (second_twice, False),
        (written_into, False),
        (changed, False),
        (other_first, False),
        (by_name, False),
    ],
)
def test_a_pair_has_one_call_each_and_passes_the_output_on_unchanged(
    way: Callable[[Any, Tensor], Tensor], is_pair: bool
):
    network = Two(way)
    succession, _ = watched(network)
    assert succession.pairs == ({network.first: network.second} if is_pair else {})
    assert succession.called == [network.first]


def test_modules_that_do_not_pass_a_tensor_on_are_not_a_pair():
    class Both(nn.Module):
        def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
            return values, values

    network = Two(lambda two, values: two.second(two.between(values)[0]), Both())
    succession = Succession([network.between], [network.second])
    with succession.watching():
        network(torch.randn(1, 3, 4, 4))
    assert succession.called == [network.between]
    assert succession.pairs == {}


@pytest.mark.parametrize("module", ["first", "between"])
def test_a_captured_module_that_ends_between_them_parts_the_pair(module: str):
    network = Two(through)
    assert watched(network, captured=[network.get_submodule(module)])[0].pairs == {}


def test_a_captured_module_may_end_with_the_second_or_hold_both():
    network = Two(through)
    assert watched(network, captured=[network, network.second, network.behind])[0].pairs


def test_a_hooked_module_that_begins_or_ends_between_them_parts_the_pair():
    network = Two(plain)
    network.first, network.second = nn.Sequential(network.first), nn.Sequential(network.second)
    for container in (network.first, network.second):
        succession = Succession([network.first[0]], [network.second[0]], hooked=[container])
        with succession.watching():
            network(torch.randn(1, 3, 4, 4))
        assert succession.pairs == {}


@pytest.mark.parametrize(("way", "sole"), [(plain, True), (through, True), (used_again, False), (dead_second, False)])
def test_the_output_of_a_sole_pair_goes_nowhere_else(way: Callable[[Any, Tensor], Tensor], sole: bool):
    network = Two(way)
    succession, output = watched(network)
    assert bool(succession.sole_pairs([output])) is sole


def test_the_first_output_of_a_sole_pair_is_not_a_result():
    network = Two(plain)
    outputs: list[Tensor] = []
    network.first.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    succession = Succession([network.first], [network.second])
    with succession.watching():
        output = network(torch.randn(1, 3, 4, 4).requires_grad_())
    assert succession.sole_pairs([output])
    assert not succession.sole_pairs([output, *outputs])


def test_without_gradients_no_pair_is_known_to_be_sole():
    network = Two(plain)
    succession = Succession([network.first], [network.second])
    with succession.watching(), torch.no_grad():
        output = network(torch.randn(1, 3, 4, 4))
    assert succession.pairs
    assert not succession.sole_pairs([output])
