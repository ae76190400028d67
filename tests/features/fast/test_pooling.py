"""ReLUs that are computed behind the max pooling that follows them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fast_copies import SHAPE, checked_copy
from torch import Tensor, nn

from fvlightning.features import Maximizer
from fvlightning.features.fast import fast_copy
from fvlightning.features.fast._folding import FoldedBatchNorm2d
from fvlightning.features.fast._pooling import LateReLU, RectifiedMaxPool2d
from fvlightning.features.units import LayerCall


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 2), "stride": 2, "ceil_mode": True},
        {"kernel_size": 2, "dilation": 2, "stride": 1},
    ],
    ids=str,
)
def test_values_and_gradients_are_those_of_a_relu_before_the_pooling(settings: dict[str, Any]):
    maps = torch.randn(2, 5, 9, 11, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    maps[:, 0], maps[:, 1] = -1, 0.5  # windows without anything above 0, and full of ties
    maps.requires_grad_()
    expected = F.max_pool2d(F.relu(maps), **settings)
    pooled = RectifiedMaxPool2d(**settings)(maps)
    assert torch.equal(pooled, expected)
    weights = torch.rand_like(expected)
    gradients = [torch.autograd.grad((weights * values).sum(), maps)[0] for values in (pooled, expected)]
    assert torch.equal(*gradients)


class Stem(nn.Module):
    """Begins like a ResNet; with `skip`, the output of the ReLU is used a second time."""

    def __init__(self, skip: bool = False) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.skip = skip
        self.end = nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        rectified = self.start(pictures)
        values = self.conv(self.pool(rectified))
        return self.end(values + F.avg_pool2d(rectified, 2) if self.skip else values)


def kinds(network: nn.Module, layer: str) -> set[type[nn.Module]]:
    """Return the classes of the modules of a checked copy."""
    copy = checked_copy(network.eval().requires_grad_(False), layer)
    return {type(module) for module in copy.modules()}


@pytest.mark.parametrize("layer", ["conv", "pool"])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_copy_pools_first(layer: str, inplace: bool):
    network = Stem()
    network.start[2].inplace = inplace
    assert kinds(network, layer) >= {LateReLU, RectifiedMaxPool2d, FoldedBatchNorm2d}


@pytest.mark.parametrize("layer", ["start.2", "start"])
def test_a_relu_that_is_captured_or_ends_a_captured_module_stays(layer: str):
    network = Stem().eval().requires_grad_(False)
    fast = fast_copy(network, [LayerCall(layer), LayerCall("conv")], [SHAPE])
    assert isinstance(fast.start[1], FoldedBatchNorm2d)
    assert type(fast.pool) is nn.MaxPool2d


def test_a_relu_whose_output_is_used_again_stays_and_the_rest_is_changed():
    classes = kinds(Stem(skip=True), "end")
    assert FoldedBatchNorm2d in classes
    assert not classes & {LateReLU, RectifiedMaxPool2d}


def test_a_second_use_that_the_picture_of_the_trial_does_not_show_keeps_the_relu():
    """Only dark pictures get below the bias."""
    network = Stem(skip=True)
    with torch.no_grad():
        network.start[0].weight.fill_(1 / 27)
        network.start[0].bias.fill_(-0.15)
    assert RectifiedMaxPool2d not in kinds(network, "end")


def test_a_second_use_without_a_gradient_keeps_the_relu_and_the_rest_is_changed():
    class Gated(Stem):
        def forward(self, pictures: Tensor) -> Tensor:
            rectified = self.start(pictures)
            return self.end(self.conv(self.pool(rectified)) * rectified.detach().mean((2, 3), keepdim=True))

    classes = kinds(Gated(), "end")
    assert FoldedBatchNorm2d in classes
    assert RectifiedMaxPool2d not in classes


@pytest.mark.parametrize(
    "add_hook",
    [
        lambda network: network.pool.register_forward_pre_hook(lambda *_: None),
        lambda network: network.start.register_forward_hook(lambda *_: None),
        lambda network: network.start[2].register_full_backward_hook(lambda _module, _inputs, outputs: outputs),
    ],
    ids=["before the pooling", "behind the container", "on the way back"],
)
def test_a_relu_or_pooling_that_hooks_see_stays(add_hook: Callable[[nn.Module], object]):
    network = Stem()
    add_hook(network)
    assert RectifiedMaxPool2d not in kinds(network, "conv")


def test_with_open_relus_pictures_are_those_of_the_network_as_it_is():
    """In a window with nothing above 0, a pooling before the ReLU would send the opened gradient another way."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 2, 1)).double()
    with torch.no_grad():
        # Below 0 for the grey that pictures start as.
        network[0].weight.abs_()
        network[0].bias.copy_(-0.6 * network[0].weight.sum((1, 2, 3)))
        network[3].weight.abs_()
    assert isinstance(fast_copy(network, [LayerCall("3")], [SHAPE])[2], RectifiedMaxPool2d)
    maximizer = Maximizer(steps=24, open_relu_steps=16, transforms=[])
    (feature,) = maximizer.maximize(network, ["3:0"], SHAPE)
    network[2].register_forward_hook(lambda *_: None)
    (expected,) = maximizer.maximize(network, ["3:0"], SHAPE)
    assert feature.score > network[3].bias[0].item() + 0.01
    torch.testing.assert_close(feature.history, expected.history, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(feature.image, expected.image, rtol=0, atol=1 / 254)
