"""The gradient of a convolution of few channels to its input, by columns."""

from itertools import product

import pytest
import torch
from torch import nn

from fvlightning.features.fast._columns import ColumnsConv2d


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (7, 7), (4, 4)], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_gradient_is_that_of_torch(kernel: tuple[int, int], memory_format: torch.memory_format):
    for channels, stride, padding in product((1, 3), (1, (2, 1), 4), (0, (1, 0), 3)):
        convolution = nn.Conv2d(channels, 5, kernel, stride, padding).requires_grad_(False)
        convolution.to(memory_format=memory_format)
        columns = ColumnsConv2d(channels, 5, kernel, stride, padding).requires_grad_(False)
        columns.load_state_dict(convolution.state_dict())
        columns.to(memory_format=memory_format)
        pictures = torch.rand(2, channels, 13, 16, requires_grad=True)
        outputs, expected = columns(pictures), convolution(pictures)
        assert torch.equal(outputs, expected)
        gradients = [torch.autograd.grad(values.square().sum(), pictures)[0] for values in (outputs, expected)]
        torch.testing.assert_close(*gradients, msg=lambda text, at=(channels, stride, padding): f"{at}: {text}")


@pytest.mark.parametrize(
    ("module", "suits"),
    [
        (nn.Conv2d(1, 10, 7), True),
        (nn.Conv2d(3, 8, (3, 4), (1, 2), (0, 1), bias=False), True),
        (nn.Conv2d(3, 96, 16, 16), True),
        (nn.Conv2d(10, 10, 5), False),
        (nn.Conv2d(3, 3, 3, groups=3), False),
        (nn.Conv2d(3, 8, 3, dilation=2), False),
        (nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(3, 8, 3, padding="same"), False),
        (nn.ConvTranspose2d(3, 8, 3), False),
        (nn.Linear(3, 8), False),
        (nn.LazyConv2d(8, 3), False),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Lazy modules")  # they say that they are new
def test_which_convolutions_suit(module: nn.Module, suits: bool):
    assert ColumnsConv2d.suits(module) is suits
