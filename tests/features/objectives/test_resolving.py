"""Units and objectives from texts, checked against a network."""

from typing import Any

import pytest
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import (
    Direction,
    Maximizer,
    Unit,
    UnitActivation,
    WeightedSum,
    resolve_objectives,
)
from fvlightning.features.objectives import layers_of

SHAPE = (1, 8, 8)


def test_units_come_each_once_in_the_order_given(cnn: nn.Module):
    units = resolve_objectives(cnn, ["fc:3", Unit("conv", 1), "fc:2-4", "-fc:3", "conv:1", "conv", "conv:1@5,0"], SHAPE)
    assert [str(unit) for unit in units] == ["fc:3", "conv:1", "fc:2", "fc:4", "-fc:3", "conv", "conv:1@5,0"]
    assert resolve_objectives(cnn, "fc:*", SHAPE) == [Unit("fc", index) for index in range(5)]


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
def test_units_that_the_network_does_not_have_are_refused(cnn: nn.Module, text: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        resolve_objectives(cnn, ["conv:0", text], SHAPE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [("fc", -1), ("fc", -9), ("conv", 0, (-1, 0)), ("conv", None, (0, 0)), ("fc", 0, (), -1)],
)
def test_units_made_by_hand_are_checked_like_texts(cnn: nn.Module, fields: tuple[Any, ...]):
    with pytest.raises(InputError, match=r"counted from 0|a position needs an index"):
        resolve_objectives(cnn, [Unit(*fields)], SHAPE)


@pytest.mark.parametrize("units", [[], ()])
def test_no_units_are_refused(cnn: nn.Module, units):
    with pytest.raises(InputError, match="no units are given"):
        resolve_objectives(cnn, units, SHAPE)


class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.used(pictures)


def test_a_layer_that_is_never_reached_is_refused():
    with pytest.raises(InputError, match="Skips never reaches layer 'unused'"):
        resolve_objectives(Skips(), ["used:0", "unused:0"], SHAPE)


def test_sums_units_and_objectives_come_in_the_order_given(cnn: nn.Module):
    direction = Direction("conv", [1.0, 0, 0, 0])
    units = ["fc:3", "fc:1  -  .50*conv:2", Unit("conv", 1), direction, "conv:0-1", "fc:1 - 0.5*conv:2", "-2*conv"]
    resolved = resolve_objectives(cnn, units, SHAPE, "rms")
    assert [str(unit) for unit in resolved] == [
        *("fc:3", "fc:1 - 0.5*conv:2", "conv:1", str(direction), "conv:0", "-2*conv")
    ]
    sum_of_texts = WeightedSum(((1.0, UnitActivation("fc:1", "rms")), (-0.5, UnitActivation("conv:2", "rms"))))
    assert resolved[1] == sum_of_texts
    assert resolve_objectives(cnn, "fc:3-4", SHAPE) == [Unit("fc", 3), Unit("fc", 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc:1 - cnv:0", "no layer 'cnv'.*Did you mean 'conv'"),
        ("fc:1 + fc:5", "no unit 5 in layer 'fc', which has 5 units: 0 to 4"),
        ("fc:1 - 0.5*conv:0@6,0", "no position @6,0 in layer 'conv'"),
        ("2*cnv", "no layer 'cnv'"),
        ("fc:0-3 - conv:0", "'fc:0-3' names several units where one is expected"),
    ],
)
def test_sums_of_units_that_the_network_does_not_have_are_refused(cnn: nn.Module, text: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        resolve_objectives(cnn, ["conv:0", text], SHAPE)
    assert "\n" not in str(caught.value)


def test_the_layers_of_units_are_known_without_a_network():
    units = ["fc:0-3", "fc:1 - conv#1:2", Unit("act", 0, output="1"), Direction("deep", [1.0])]
    assert {str(layer) for layer in layers_of(units)} == {"fc", "conv#1", "act[1]", "deep"}
    with pytest.raises(InputError, match="malformed unit 'fc:'"):
        layers_of("fc:")


def test_the_maximizer_takes_sums(cnn: nn.Module):
    maximizer = Maximizer(20, transforms=[])
    texts = ["fc:0 - fc:1", "conv:*", "-fc:0 + fc:1"]
    first, *_, last = maximizer.maximize(cnn, texts, SHAPE)
    logits = cnn(first.image[None])[0].detach()
    assert first.name == "fc:0 - fc:1"
    assert first.score == pytest.approx(float(logits[0] - logits[1]), abs=1e-5)
    (by_hand,) = maximizer.maximize(cnn, UnitActivation("fc:0") - UnitActivation("fc:1"), SHAPE)
    assert by_hand.score == pytest.approx(first.score, abs=1e-5)
    assert last.name == "-fc:0 + fc:1"
    assert last.score > 0 < first.score
