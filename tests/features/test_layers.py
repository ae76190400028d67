"""Which units a text names in a network."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import LayerCall, LayerSize, Unit, measure_layers, resolve_units
from fvlightning.features.capture import find_layer

SHAPE = (1, 8, 8)


def test_sizes_of_layers(cnn: nn.Module):
    sizes = measure_layers(cnn, [LayerCall("conv"), LayerCall("fc")], SHAPE)
    assert sizes == {LayerCall("conv"): LayerSize(4, (6, 6)), LayerCall("fc"): LayerSize(5, ())}


def test_measuring_leaves_the_network_and_the_random_numbers_alone(wide_cnn: nn.Module):
    wide_cnn.drop.eval()
    before = {name: value.clone() for name, value in wide_cnn.state_dict().items()}
    state = torch.get_rng_state()
    measure_layers(wide_cnn, [LayerCall("fc")], (1, 12, 12))
    assert all(torch.equal(value, before[name]) for name, value in wide_cnn.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert wide_cnn.training
    assert not wide_cnn.drop.training


def test_units_come_each_once_in_the_order_given(cnn: nn.Module):
    units = resolve_units(cnn, ["fc:3", Unit("conv", 1), "fc:2-4", "-fc:3", "conv:1", "conv", "conv:1@5,0"], SHAPE)
    assert [str(unit) for unit in units] == ["fc:3", "conv:1", "fc:2", "fc:4", "-fc:3", "conv", "conv:1@5,0"]
    assert resolve_units(cnn, "fc:*", SHAPE) == [Unit("fc", index) for index in range(5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cnv:0", "no layer 'cnv'.*Did you mean 'conv'"),
        ("fc:5", "no unit 5 in layer 'fc', which has 5 units: 0 to 4"),
        ("fc:3-9", "0 to 4"),
        ("conv:0@6,0", "no position @6,0 in layer 'conv'; its positions are 0-5,0-5"),
        ("conv:0@3", "no position @3 in layer 'conv'; its positions are 0-5,0-5"),
        ("fc:0@1", "no position @1 in layer 'fc'; it has no positions"),
        ("fc#1:0", "no call 1 of layer 'fc': Sequential calls it 1 time"),
        ("fc:", "malformed unit"),
        ("", "malformed unit"),
    ],
)
def test_units_that_the_network_does_not_have(cnn: nn.Module, text: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        resolve_units(cnn, ["conv:0", text], SHAPE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [("fc", -1), ("fc", -9), ("conv", 0, (-1, 0)), ("conv", None, (0, 0)), ("fc", 0, (), -1)],
)
def test_units_made_by_hand_are_checked_like_texts(cnn: nn.Module, fields: tuple[Any, ...]):
    """No text names them, and nothing else may be done instead in silence."""
    with pytest.raises(InputError):
        resolve_units(cnn, [Unit(*fields)], SHAPE)


@pytest.mark.parametrize("units", [[], ()])
def test_no_units_are_refused(cnn: nn.Module, units):
    with pytest.raises(InputError, match="no units are given"):
        resolve_units(cnn, units, SHAPE)


class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.used(pictures)


def test_a_layer_that_is_never_reached_is_named():
    with pytest.raises(InputError, match="Skips never reaches layer 'unused'"):
        resolve_units(Skips(), ["used:0", "unused:0"], SHAPE)


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 8, 8), (1, 2, 2), (1, 8), (1, -8, 8), (1, 0, 0)])
def test_a_picture_that_the_network_cannot_take_is_refused(cnn: nn.Module, shape: tuple[int, ...]):
    with pytest.raises(InputError, match="Sequential cannot take a picture of shape") as caught:
        measure_layers(cnn, [LayerCall("fc")], shape)
    assert "\n" not in str(caught.value)
    assert str(shape) in str(caught.value)


def test_a_network_in_double_precision_is_measured_in_it(cnn: nn.Module):
    assert measure_layers(cnn.double(), [LayerCall("fc")], SHAPE)[LayerCall("fc")].n_units == 5


def test_of_a_module_with_a_net_only_the_layers_of_the_net_are_named(cnn: nn.Module):
    module = nn.Module()
    module.net, module.accuracy = cnn, nn.Identity()
    with pytest.raises(InputError, match=r"no layer 'accuracy1' in Sequential; layers: conv, relu, flatten, fc\.$"):
        find_layer(module, "accuracy1")
