"""The gradient of a strided convolution to its input, by phases."""

from itertools import product

import pytest
import torch
from torch import nn

from fvlightning.features.fast._strided import StridedConv2d, strided_gradient


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3), (4, 5), (7, 7), (6, 1)], ids=str)
def test_the_gradient_is_that_of_torch(kernel: tuple[int, int]):
    for padding, size in product([(0, 0), (1, 0), (3, 2), (5, 6)], [(13, 16), (16, 13), (8, 8)]):
        convolution = nn.Conv2d(3, 5, kernel, 2, padding).double().requires_grad_(False)
        pictures = torch.rand(2, 3, *size, dtype=torch.double, requires_grad=True)
        outputs = convolution(pictures)
        gradient = torch.rand_like(outputs)
        (expected,) = torch.autograd.grad(outputs, pictures, gradient)
        by_phases = strided_gradient(gradient, convolution.weight, padding, size)
        torch.testing.assert_close(by_phases, expected, msg=lambda text, at=(padding, size): f"{at}: {text}")


def test_the_module_gives_the_same_as_the_convolution():
    convolution = nn.Conv2d(3, 8, 5, 2, 1).requires_grad_(False)
    strided = StridedConv2d(3, 8, 5, 2, 1).requires_grad_(False)
    strided.load_state_dict(convolution.state_dict())
    pictures = torch.rand(2, 3, 17, 20, requires_grad=True)
    assert torch.equal(strided(pictures), convolution(pictures))
    gradients = [torch.autograd.grad(module(pictures).square().sum(), pictures)[0] for module in (strided, convolution)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("module", "suits"),
    [
        (nn.Conv2d(3, 8, 7, 2, 3), True),
        (nn.Conv2d(1, 8, (6, 8), (2, 2), (0, 1), bias=False), True),
        (nn.Conv2d(3, 8, 3, 2, 1), False),
        (nn.Conv2d(3, 8, 7, 1, 3), False),
        (nn.Conv2d(3, 8, 7, (2, 1), 3), False),
        (nn.Conv2d(64, 8, 7, 2), False),
        (nn.Conv2d(3, 3, 7, 2, groups=3), False),
        (nn.Conv2d(3, 8, 7, 2, dilation=2), False),
        (nn.Conv2d(3, 8, 7, 2, 1, padding_mode="reflect"), False),
        (nn.Conv2d(3, 8, 3, padding="same"), False),
        (nn.ConvTranspose2d(3, 8, 7, 2), False),
        (nn.Linear(3, 8), False),
        (nn.LazyConv2d(8, 7, 2), False),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Lazy modules")  # they say that they are new
def test_which_convolutions_suit(module: nn.Module, suits: bool):
    assert StridedConv2d.suits(module) is suits
