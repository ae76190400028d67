"""ReLU6 in place, without a copy of its input."""

from collections.abc import Callable

import pytest
import torch
from fast_copies import checked_copy
from torch import Tensor, nn

from fvlightning.features.fast._relu6 import LeanReLU6

VALUES = torch.tensor([-torch.inf, -1, -0.0, 0, 1e-30, 3, 6, 6.001, torch.inf, torch.nan])


def gradient_through(
    activation: Callable[[Tensor], Tensor], part: Callable[[Tensor], Tensor] = torch.clone
) -> tuple[Tensor, Tensor]:
    """Return outputs and gradient of an activation of a part of twice the values."""
    values = VALUES.clone().requires_grad_()
    doubled = 2 * values
    outputs = activation(part(doubled))
    (gradient,) = torch.autograd.grad((outputs * torch.arange(1, len(outputs) + 1)).sum() + doubled.sum(), values)
    return outputs, gradient


@pytest.mark.parametrize("part", [torch.clone, lambda values: values, lambda values: values[2:]])
def test_outputs_and_gradient_are_those_of_torch(part: Callable[[Tensor], Tensor]):
    pairs = zip(
        gradient_through(LeanReLU6(inplace=True), part), gradient_through(nn.ReLU6(inplace=True), part), strict=True
    )
    for values, expected in pairs:
        assert torch.equal(values.nan_to_num(-9), expected.nan_to_num(-9))


def test_it_works_in_place_and_keeps_nothing_but_its_output():
    values = 2 * torch.rand(2, 3, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        outputs = LeanReLU6(inplace=True)(values)
    assert outputs is values
    assert [tensor.data_ptr() for tensor in kept] == [values.data_ptr()]


@pytest.mark.parametrize(
    ("module", "suits"),
    [
        (nn.ReLU6(inplace=True), True),
        (nn.ReLU6(), False),
        (nn.Hardtanh(0, 6, inplace=True), False),
        (type("Other", (nn.ReLU6,), {})(inplace=True), False),
    ],
    ids=str,
)
def test_which_activations_suit(module: nn.Module, suits: bool):
    assert LeanReLU6.suits(module) is suits


def test_the_copy_has_it_and_the_layer_before_it_shows_what_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU6(inplace=True))
    with torch.no_grad():
        network[0].weight.mul_(20)
    fast = checked_copy(network.requires_grad_(False), "0", "1", "2", "3")
    assert type(fast[1]) is type(fast[3]) is LeanReLU6
