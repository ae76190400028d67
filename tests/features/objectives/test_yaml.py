"""Objectives of every kind, written in YAML."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features import (
    Direction,
    LayerCall,
    LayerEnergy,
    Objective,
    Target,
    Unit,
    UnitActivation,
    WeightedSum,
    objective_of,
)
from fvlightning.features.capture import Activations


@dataclass(frozen=True)
class Contrast(Objective):
    """An objective of a user's own, which holds another one."""

    index: int
    reference: Objective

    @property
    def layers(self) -> frozenset[LayerCall]:
        return self.reference.layers | {LayerCall("fc")}

    def __call__(self, activations: Activations) -> Tensor:
        return activations[LayerCall("fc")].values[:, self.index] - self.reference(activations)


A, B = UnitActivation("fc:3"), UnitActivation("conv:2@1,5")

CASES: dict[str, tuple[str, str | Objective]] = {
    "text": ("fc:3", "fc:3"),
    "range": ("conv:0-3", "conv:0-3"),
    "minimised": ("-fc:3", "-fc:3"),
    "sum as text": ("fc:3 - 0.5*conv:2@1,5", "fc:3 - 0.5*conv:2@1,5"),
    "layer named like a class": ("Target", "Target"),
    "unit": ("{class_path: UnitActivation, init_args: {unit: 'fc:3', pooling: rms}}", UnitActivation("fc:3", "rms")),
    "unit by fields": (
        "{class_path: UnitActivation, init_args: {unit: {layer: conv, index: 2, position: [1, 5]}}}",
        B,
    ),
    "layer": ("{class_path: LayerEnergy, init_args: {layer: 'conv#1'}}", LayerEnergy(LayerCall("conv", 1))),
    "layer by fields": (
        "{class_path: LayerEnergy, init_args: {layer: {layer: conv, call: 1}}}",
        LayerEnergy(LayerCall("conv", 1)),
    ),
    "target of a text": ("{class_path: Target, init_args: {objective: 'fc:3', value: 0.25}}", Target(A, 0.25)),
    "target of a sum": (
        "{class_path: Target, init_args: {objective: 'fc:3 - 2*conv:2@1,5', value: 1}}",
        Target(A - 2 * B, 1),
    ),
    "target of an objective": (
        "{class_path: Target, init_args: {objective: {class_path: LayerEnergy, init_args: {layer: conv}}, value: 2}}",
        Target(LayerEnergy(LayerCall("conv")), 2),
    ),
    "direction": (
        "{class_path: Direction, init_args: {layer: conv, vector: [1, -0.5, 2e-3], power: 2, position: [1, 5]}}",
        Direction("conv", [1, -0.5, 2e-3], 2, (1, 5)),
    ),
    "sum": (
        """
        class_path: WeightedSum
        init_args:
          terms:
          - [1, {class_path: UnitActivation, init_args: {unit: "fc:3"}}]
          - - -0.5
            - class_path: WeightedSum
              init_args: {terms: [[-1, {class_path: UnitActivation, init_args: {unit: "conv:2@1,5"}}]]}
          - [2, {class_path: Target, init_args: {objective: "fc:3", value: 0.25}}]
        """,
        WeightedSum(((1, A), (-0.5, -B), (2, Target(A, 0.25)))),
    ),
    "user's own": (
        f"""
        class_path: {__name__}.Contrast
        init_args:
          index: 4
          reference: {{class_path: Direction, init_args: {{layer: conv, vector: [1, 2]}}}}
        """,
        Contrast(4, Direction("conv", [1, 2])),
    ),
}


def parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--units", type=Sequence[str | Objective])
    return parser


def read(text: str) -> Any:
    """Return the one unit of a YAML file, and check that the file that is saved of it gives the same."""
    units = yaml.safe_dump({"units": [yaml.safe_load(text)]})
    config = parser().parse_string(units)
    (unit,) = parser().instantiate(config).units
    (again,) = parser().instantiate(parser().parse_string(parser().dump(config))).units
    assert again == unit
    return unit


@pytest.mark.parametrize("name", CASES)
def test_an_objective_from_yaml_is_the_one_made_in_python(name: str):
    text, expected = CASES[name]
    unit = read(text)
    assert unit == expected
    assert str(unit) == str(expected)


def test_a_list_of_texts_and_objectives_keeps_its_order():
    texts = [yaml.safe_load(text) for text, _ in CASES.values()]
    config = parser().parse_string(yaml.safe_dump({"units": texts}))
    assert parser().instantiate(config).units == [expected for _, expected in CASES.values()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{class_path: UnitActivation, init_args: {unit: conv}}", "needs a unit with an index"),
        ("{class_path: LayerEnergy, init_args: {layer: 'conv:3'}}", "give the layer alone, 'conv'"),
        ("{class_path: Target, init_args: {objective: 'fc:', value: 1}}", "malformed unit 'fc:'"),
        ("{class_path: WeightedSum, init_args: {terms: []}}", r"WeightedSum\(terms=\[\]\): needs at least one term"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_the_parser(text: str, message: str):
    """jsonargparse puts the message of the InputError into a ValueError of its own."""
    with pytest.raises(ValueError, match=message):
        read(text)


def test_inner_objectives_may_be_texts_in_python_as_well():
    assert Target("fc:3", 0.25) == Target(A, 0.25)
    with pytest.raises(InputError, match=r"WeightedSum\(terms=...\): 'fc:3' is not an objective"):
        WeightedSum([(1, "fc:3")])
    assert LayerEnergy("conv#1") == LayerEnergy(LayerCall("conv", 1))
    assert objective_of("fc:3") == objective_of(Unit("fc", 3)) == objective_of(A) == A
