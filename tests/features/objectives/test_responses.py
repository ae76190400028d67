"""Units that no picture can excite are refused, each for its own reason."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Maximizer, score

SHAPE = (1, 8, 8)


class Calls(nn.Module):
    """A function as a layer, behind a convolution of four channels."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, maps: Tensor) -> Tensor:
        return self.function(maps)


def behind_convolution(layer: nn.Module | Callable[[Tensor], Tensor]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), layer if isinstance(layer, nn.Module) else Calls(layer))


@torch.inference_mode()
def doubled(maps: Tensor) -> Tensor:
    return maps * 2


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (torch.no_grad()(torch.relu), "under torch.no_grad"),
        (doubled, "under torch.no_grad"),
        (Tensor.detach, "under torch.no_grad"),
        (torch.ones_like, "4 random pictures give the same output"),
        (lambda maps: maps.flatten(1).argmax(1), r"it gives whole numbers \(torch.int64\)"),
    ],
    ids=["no_grad", "inference_mode", "detach", "constant", "argmax"],
)
def test_a_layer_without_a_gradient_to_the_picture_is_refused_by_its_reason(function: Any, reason: str):
    with pytest.raises(InputError, match=f"^no gradient leads from layer '1' of Sequential to the picture: .*{reason}"):
        Maximizer(1).maximize(behind_convolution(function), ["0:0", "1:0"], SHAPE)
    assert score(behind_convolution(function), ["1:0"], torch.rand(2, *SHAPE)).shape == (2, 1)


def test_quantised_layers_are_named():
    with warnings.catch_warnings():
        # torch.ao.quantization moves to torchao: https://github.com/pytorch/pytorch/issues/18498
        warnings.simplefilter("ignore")
        linear = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(144, 3)), {nn.Linear})
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), linear)
    with pytest.raises(
        InputError, match=r"quantised layers, such as '2\.0', have none; use the network as it was before"
    ):
        Maximizer(1).maximize(network, ["2:0"], SHAPE)
    assert Maximizer(2).maximize(network, ["0:0"], SHAPE)[0].status == "ok"


class RoundsStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        return maps.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def test_a_gradient_of_the_users_own_counts():
    (feature,) = Maximizer(1).maximize(behind_convolution(RoundsStraightThrough.apply), ["1:0"], SHAPE)
    assert feature.unit.layer == "1"


NORMS = {
    "instance": nn.InstanceNorm2d(4, affine=True),
    "group": nn.GroupNorm(4, 4),
    "layer": nn.LayerNorm([6, 6], elementwise_affine=False),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("unit", ["1:2", "-1:2", "1:2 - 1:3"])
def test_a_mean_that_normalisation_makes_constant_is_warned_of(norm: str, unit: str):
    with pytest.warns(
        UserWarning, match=r"^the mean .* of 1 unit is the same for every picture, .*'1:2@3,3', the pool"
    ):
        Maximizer(1).maximize(behind_convolution(NORMS[norm]), ["0:0", unit], SHAPE)


@pytest.mark.parametrize("norm", NORMS)
def test_what_says_something_behind_a_normalisation_is_made(norm: str):
    network = behind_convolution(NORMS[norm])
    network.append(nn.ReLU())
    assert {f.status for f in Maximizer(4).maximize(network, ["1:2@3,3", "2:*", "1:0 - 0:1"], SHAPE)} == {"ok"}
    assert {f.status for f in Maximizer(4, pooling="rms").maximize(network, ["1:*"], SHAPE)} == {"ok"}
