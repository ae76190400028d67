"""Batch norms that become part of the convolutions before them."""

from collections.abc import Callable

import pytest
import timm
import torch
from fast_copies import SHAPE, batch_norm, checked_copy, folded_paths, residual_network
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from fvlightning.features.fast import fast_copy
from fvlightning.features.fast._folding import folded, is_foldable_norm
from fvlightning.features.units import LayerCall


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_folded_weights_do_the_work_of_both(bias: bool, affine: bool):
    convolution = nn.Conv2d(3, 4, 3, bias=bias).requires_grad_(False)
    norm = batch_norm(4)
    if not affine:
        norm.weight = norm.bias = None
    values = torch.rand(2, 3, 9, 9)
    with torch.no_grad():
        expected = norm.eval()(convolution(values))
    torch.testing.assert_close(nn.functional.conv2d(values, *folded(convolution, norm)), expected)


def with_hook(norm: nn.Module) -> nn.Module:
    norm.register_forward_hook(lambda *_: None)
    return norm


@pytest.mark.parametrize(
    ("norm", "foldable"),
    [
        (nn.BatchNorm2d(4), True),
        (nn.BatchNorm2d(4, affine=False), True),
        (nn.SyncBatchNorm(4), True),
        (BatchNormAct2d(4), True),
        (nn.BatchNorm2d(4, track_running_stats=False), False),
        (nn.BatchNorm3d(4), False),
        (nn.GroupNorm(2, 4), False),
        (type("Other", (nn.BatchNorm2d,), {})(4), False),
        (with_hook(nn.BatchNorm2d(4)), False),
    ],
    ids=str,
)
def test_which_norms_can_be_folded(norm: nn.Module, foldable: bool):
    assert is_foldable_norm(norm) is foldable


@pytest.mark.parametrize(
    ("layers", "folded"),
    [
        (["conv", "fc"], ["block.bn1", "block.bn2", "block.down.1"]),
        (["bn"], ["bn"]),
        (["block.conv1"], ["bn"]),
        (["block.bn1", "block.down.0"], ["bn", "block.bn1"]),  # the second batch norm has no part in either
        (["relu", "block"], ["bn", "block.bn1", "block.bn2", "block.down.1"]),
    ],
    ids=str,
)
def test_captured_convolutions_are_not_folded(layers: list[str], folded: list[str]):
    assert folded_paths(checked_copy(residual_network(), *layers)) == folded


def test_the_activation_within_a_batch_norm_stays():
    network = residual_network(last=batch_norm(16, BatchNormAct2d))
    fast = checked_copy(network, "block.bn2.act", "fc")
    assert "block.bn2" in folded_paths(fast)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "tf_efficientnet_lite0"])
def test_norms_of_networks_of_timm_are_folded(name: str):
    network = timm.create_model(name).eval().requires_grad_(False)
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 2)
    layer = "layer2" if name == "resnet18" else "blocks.2"
    fast = checked_copy(network, layer, shape=(3, 48, 64))
    assert len(folded_paths(fast)) > 5


def test_norms_are_folded_for_pictures_of_several_sizes():
    fast = fast_copy(residual_network(), [LayerCall("fc")], [(3, 16, 16), SHAPE])
    assert "bn" in folded_paths(fast)


class Odd(nn.Module):
    """A convolution and a batch norm that are wired in some way."""

    def __init__(self, way: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = batch_norm(3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(3, 4)
        self.way = way

    def forward(self, pictures: Tensor) -> Tensor:
        return self.fc(self.way(self, pictures).mean((2, 3)))


def used_twice(odd: nn.Module, pictures: Tensor) -> Tensor:
    values = odd.conv(pictures)
    return odd.bn(values) + values


def rectified_before(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.bn(odd.relu(odd.conv(pictures)))


def rectified_by_function(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.bn(torch.relu_(odd.conv(pictures)))


def convolution_called_twice(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.bn(odd.conv(odd.conv(pictures)))


def norm_called_twice(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.bn(odd.bn(odd.conv(pictures)))


def norm_first(odd: nn.Module, pictures: Tensor) -> Tensor:
    return odd.conv(odd.bn(pictures))


@pytest.mark.parametrize(
    "way",
    [used_twice, rectified_before, rectified_by_function, convolution_called_twice, norm_called_twice, norm_first],
)
def test_norms_that_do_not_simply_follow_a_convolution_stay(way: Callable[[nn.Module, Tensor], Tensor]):
    network = Odd(way).eval().requires_grad_(False)
    assert folded_paths(checked_copy(network, "fc")) == []


def test_a_second_use_that_the_picture_of_the_trial_does_not_show_prevents_folding():
    """Only bright pictures get above the bias."""

    def way(odd: nn.Module, pictures: Tensor) -> Tensor:
        values = odd.conv(pictures)
        return odd.bn(values) + (values - 2.5).relu()

    network = Odd(way).eval().requires_grad_(False)
    network.conv.weight.fill_(3 / 27)
    network.conv.bias.zero_()
    assert folded_paths(checked_copy(network, "fc")) == []


def test_convolutions_that_hooks_of_containers_see_are_not_folded():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 16, 3)), batch_norm(16), nn.ReLU(), nn.Conv2d(16, 4, 1))
    network.eval().requires_grad_(False)
    assert folded_paths(checked_copy(network, "3")) == ["1"]
    network[0].register_forward_hook(lambda *_: None)
    assert folded_paths(checked_copy(network, "3")) == []


def test_a_network_with_a_part_in_inference_mode_is_copied():
    def way(odd: nn.Module, pictures: Tensor) -> Tensor:
        with torch.inference_mode():
            factor = float(odd.conv(pictures).mean())
        return pictures * factor

    checked_copy(Odd(way).eval().requires_grad_(False), "fc")


def test_a_batch_norm_without_statistics_stays():
    network = residual_network()
    network.bn.running_mean = network.bn.running_var = None
    fast = fast_copy(network, [LayerCall("fc")], [SHAPE])
    assert folded_paths(fast) == ["block.bn1", "block.bn2", "block.down.1"]
