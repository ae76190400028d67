"""Errors of networks, explained in one line."""

import pytest
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Maximizer

SHAPE = (1, 8, 8)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        return self.conv(pictures) + others


class WithoutForward(LightningModule):
    """The network, a loss, and no forward."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(nn.Conv2d(1, 2, 3)))
        self.loss = nn.CrossEntropyLoss()


@pytest.mark.parametrize(
    ("network", "unit", "message"),
    [
        (
            TwoInputs(),
            "conv:0",
            r"^TwoInputs takes 2 inputs \(pictures, others\), but gets one, the picture; wrap it in",
        ),
        (
            WithoutForward("backbone"),
            "backbone.0:0",
            r"^WithoutForward has no forward that takes pictures; name its network 'net' instead of 'backbone', define "
            r"forward, or give the network itself, module\.backbone$",
        ),
        (nn.Sequential(nn.LazyLinear(3)), "0:0", r"^Sequential does not know the size of '0\.weight' yet; run a batch"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3)).to("meta"),
            "0:0",
            r"^Sequential has no values for '0\.weight', .* device 'meta'; load its weights$",
        ),
    ],
    ids=["two inputs", "no forward", "lazy", "meta"],
)
def test_networks_that_take_no_picture_say_what_to_do(network: nn.Module, unit: str, message: str):
    with pytest.raises(InputError, match=message):
        Maximizer(1).maximize(network, [unit], SHAPE)


def test_a_net_needs_no_forward_around_it():
    (feature,) = Maximizer(2).maximize(WithoutForward("net"), ["0:1"], SHAPE)
    assert feature.status == "ok"


def test_a_picture_that_no_memory_holds_is_refused_with_its_size(cnn: nn.Module):
    shape = (1, 10**6, 10**6)
    message = (
        r"^out of memory with one picture of shape \(1, 1000000, 1000000\) \(the last allocation was 4000000000000"
    )
    with pytest.raises(InputError, match=message):
        Maximizer(1).maximize(cnn, ["conv:0"], shape)
