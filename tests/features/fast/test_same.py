"""Depthwise convolutions with TensorFlow's 'same' padding."""

from itertools import product

import pytest
import torch
from fast_copies import batch_norm, checked_copy, folded_paths
from timm.layers import Conv2dSame
from torch import nn

from fvlightning.features.fast._same import SameConv2d, is_same_convolution


class Other(Conv2dSame):
    """It may pad in any way."""


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, (3, 4)], ids=str)
def test_outputs_and_gradient_are_those_of_timm(kernel: int | tuple[int, int]):
    for stride, size in product((1, 2, 3, (2, 1)), [(12, 12), (13, 16), (16, 13), (7, 7), (1, 2)]):
        convolution = Conv2dSame(4, 8, kernel, stride, groups=4).double().requires_grad_(False)
        same = SameConv2d(4, 8, kernel, stride, groups=4).double().requires_grad_(False)
        same.load_state_dict(convolution.state_dict())
        inputs = torch.rand(2, 4, *size, dtype=torch.double, requires_grad=True)
        outputs, expected = same(inputs), convolution(inputs)
        gradients = [torch.autograd.grad(values.square().sum(), inputs)[0] for values in (outputs, expected)]
        for values, of_timm in ((outputs, expected), gradients):
            torch.testing.assert_close(
                values, of_timm, rtol=1e-10, atol=1e-10, msg=lambda text, at=(stride, size): f"{at}: {text}"
            )


@pytest.mark.parametrize(
    ("module", "suits"),
    [
        (Conv2dSame(4, 4, 3, 2, groups=4), True),
        (Conv2dSame(4, 8, (3, 5), (2, 1), groups=4, bias=False), True),
        (Conv2dSame(4, 4, 3, 2, groups=2), False),
        (Conv2dSame(3, 8, 3, 2), False),
        (Conv2dSame(1, 8, 3, 2), False),
        (Conv2dSame(4, 4, 3, 2, groups=4, dilation=2), False),
        (Other(4, 4, 3, 2, groups=4), False),
        (nn.Conv2d(4, 4, 3, 2, groups=4), False),
        (nn.Linear(4, 4), False),
    ],
    ids=str,
)
def test_which_convolutions_suit(module: nn.Module, suits: bool):
    assert SameConv2d.suits(module) is suits


def test_a_subclass_is_another_convolution():
    assert is_same_convolution(Conv2dSame(4, 4, 3))
    assert not is_same_convolution(Other(4, 4, 3))


@pytest.mark.parametrize(
    ("kind", "groups", "changed", "folded"),
    [(Conv2dSame, 16, SameConv2d, ["2"]), (Conv2dSame, 1, Conv2dSame, ["2"]), (Other, 16, Other, [])],
)
def test_the_copy_changes_the_convolution_and_folds_the_norm_behind_it(
    kind: type[nn.Conv2d], groups: int, changed: type[nn.Conv2d], folded: list[str]
):
    network = nn.Sequential(
        nn.Conv2d(3, 16, 1), kind(16, 16, 3, 2, groups=groups, bias=False), batch_norm(16), nn.ReLU()
    )
    fast = checked_copy(network.eval().requires_grad_(False).double(), "3", rtol=1e-10, atol=1e-10)
    assert type(fast[1]) is changed
    assert folded_paths(fast) == folded
