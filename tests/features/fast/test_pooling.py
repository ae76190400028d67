"""ReLUs that are computed behind the max pooling after them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fvlightning.features import Maximizer
from fvlightning.features.capture.capture import Capture
from fvlightning.features.fast.fast_copy import fast_copy
from fvlightning.features.fast.folding import FoldedBatchNorm2d
from fvlightning.features.fast.pooling import LateReLU, RectifiedMaxPool2d
from fvlightning.features.units import LayerCall

SHAPE = (3, 24, 24)


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
def test_values_and_gradients_are_those_of_the_ReLU_before_the_pooling(settings: dict[str, Any]):
    maps = torch.randn(2, 5, 9, 11, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    maps[:, 0], maps[:, 1] = -1, 0.5  # windows without anything above 0, and full of ties
    maps.requires_grad_()
    expected = F.max_pool2d(F.relu(maps), **settings)
    pooled = RectifiedMaxPool2d(**settings)(maps)
    assert torch.equal(pooled, expected)
    weights = torch.rand_like(expected)
    ours, naive = (torch.autograd.grad((weights * given).sum(), maps)[0] for given in (pooled, expected))
    assert torch.equal(ours, naive)


class Stem(nn.Module):
    """Begins as a ResNet does; what the ReLU gives may be used a second time."""

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


def kinds(network: nn.Module, wanted: str) -> set[type[nn.Module]]:
    """Return which classes of this project are in the copy, after it was made sure that it gives the same."""
    network.eval().requires_grad_(False)
    quick = fast_copy(network, [LayerCall(wanted)], [SHAPE])
    pictures = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = []
    for module in (network, quick):
        (activation,) = Capture(module, [LayerCall(wanted)])(pictures).values()
        found.append([activation.values, *torch.autograd.grad(activation.values.square().sum(), pictures)])
    for ours, expected in zip(*reversed(found), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    return {type(module) for module in quick.modules()}


@pytest.mark.parametrize("wanted", ["conv", "pool"])
@pytest.mark.parametrize("inplace", [False, True])
def test_copy_pools_first(wanted: str, inplace: bool):
    network = Stem()
    network.start[2].inplace = inplace
    assert kinds(network, wanted) >= {LateReLU, RectifiedMaxPool2d, FoldedBatchNorm2d}


@pytest.mark.parametrize("wanted", ["start.2", "start"])
def test_ReLU_that_is_wanted_or_ends_what_is_wanted_stays(wanted: str):
    network = Stem().eval().requires_grad_(False)
    quick = fast_copy(network, [LayerCall(wanted), LayerCall("conv")], [SHAPE])
    assert isinstance(quick.start[1], FoldedBatchNorm2d)
    assert type(quick.pool) is nn.MaxPool2d


def test_ReLU_whose_output_is_used_again_stays_and_all_else_is_changed():
    found = kinds(Stem(skip=True), "end")
    assert FoldedBatchNorm2d in found
    assert not found & {LateReLU, RectifiedMaxPool2d}


def test_a_second_use_is_seen_though_the_picture_of_the_trial_does_not_show_it():
    """A bias that no random picture gets below, but dark pictures do."""
    network = Stem(skip=True)
    with torch.no_grad():
        network.start[0].weight.fill_(1 / 27)
        network.start[0].bias.fill_(-0.15)
    assert RectifiedMaxPool2d not in kinds(network, "end")


def test_a_second_use_without_gradient_keeps_the_ReLU_and_all_else_is_changed():
    class Gated(Stem):
        def forward(self, pictures: Tensor) -> Tensor:
            rectified = self.start(pictures)
            return self.end(self.conv(self.pool(rectified)) * rectified.detach().mean((2, 3), keepdim=True))

    found = kinds(Gated(), "end")
    assert FoldedBatchNorm2d in found
    assert RectifiedMaxPool2d not in found


@pytest.mark.parametrize(
    "look",
    [
        lambda network: network.pool.register_forward_pre_hook(lambda *_: None),
        lambda network: network.start.register_forward_hook(lambda *_: None),
        lambda network: network.start[2].register_full_backward_hook(lambda _module, _inputs, outputs: outputs),
    ],
    ids=["before the pooling", "behind the container", "on the way back"],
)
def test_what_others_look_at_stays(look: Callable[[nn.Module], object]):
    network = Stem()
    look(network)
    assert RectifiedMaxPool2d not in kinds(network, "conv")


def test_with_open_relus_pictures_are_those_of_the_network_as_it_is():
    """Where a window has nothing above 0, a pooling before the ReLU would send the opened gradient another way."""
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
