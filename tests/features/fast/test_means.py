"""The channel means of a convolution, without the convolution."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features import LayerEnergy, Maximizer, UnitActivation
from fvlightning.features.fast import fast_copy
from fvlightning.features.fast._means import MeanConv2d
from fvlightning.features.objectives import Objective
from fvlightning.features.units import LayerCall


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (5, 5)], ids=str)
def test_means_are_those_of_the_convolution(kernel: tuple[int, int]):
    for stride, padding, dilation, bias in product((1, 2, (3, 1)), (0, (2, 1), 4), (1, 2), (True, False)):
        convolution = nn.Conv2d(3, 6, kernel, stride, padding, dilation, bias=bias).double().requires_grad_(False)
        means = MeanConv2d(3, 6, kernel, stride, padding, dilation, bias=bias).double().requires_grad_(False)
        means.load_state_dict(convolution.state_dict())
        inputs = torch.rand(2, 3, 11, 14, dtype=torch.double, requires_grad=True)
        outputs, expected = means(inputs), convolution(inputs).mean((2, 3), keepdim=True)
        torch.testing.assert_close(outputs, expected)
        gradients = [torch.autograd.grad(values.square().sum(), inputs)[0] for values in (outputs, expected)]
        torch.testing.assert_close(*gradients)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 8, 3, 2, 1)
        self.same = nn.Conv2d(8, 8, 3, padding="same")

    def forward(self, pictures: Tensor) -> Tensor:
        return self.same(self.conv2(self.conv1(pictures).relu()).relu())


def gives_means(network: nn.Module, path: str) -> bool:
    return isinstance(network.get_submodule(path), MeanConv2d)


def test_the_copy_computes_only_the_means_of_a_single_layer():
    network = Small().requires_grad_(False)
    shape = [(1, 16, 16)]
    one, two = [LayerCall("conv2")], [LayerCall("conv1"), LayerCall("conv2")]
    assert gives_means(fast_copy(network, one, shape, only_means=True), "conv2")
    assert not gives_means(fast_copy(network, one, shape), "conv2")
    assert not any(gives_means(fast_copy(network, two, shape, only_means=True), path) for path in ("conv1", "conv2"))
    assert not gives_means(fast_copy(network, [LayerCall("same")], shape, only_means=True), "same")


def test_pictures_are_those_of_the_whole_convolution():
    torch.manual_seed(0)
    network = Small()
    maximizer = Maximizer(steps=12)
    of_means = maximizer.maximize(network, ["conv2:0-3", "-conv2:4"], (1, 16, 16))
    # With a second layer the copy computes the whole convolution.
    whole = maximizer.maximize(network, ["conv2:0-3", "-conv2:4", "conv1:0"], (1, 16, 16))
    for feature, expected in zip(of_means, whole, strict=False):
        assert feature.unit == expected.unit
        torch.testing.assert_close(feature.image, expected.image, atol=1.01 / 255, rtol=0)
        torch.testing.assert_close(feature.history, expected.history, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (UnitActivation("conv2:3"), True),
        (UnitActivation("conv2:3") - 0.5 * UnitActivation("conv2:1"), True),
        (UnitActivation("conv2:3@2,2"), False),
        (UnitActivation("conv2:3", "rms"), False),
        (UnitActivation("conv2:3") + LayerEnergy(LayerCall("conv2")), False),
    ],
    ids=str,
)
def test_which_objectives_need_means_only(objective: Objective, expected: bool):
    assert objective.needs_means_only is expected
