"""Objectives of single units and layers."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.capture.capture import Activations
from fvlightning.features.objectives.base import MovedOnce, Objective, Scorer
from fvlightning.features.units import LayerCall, Unit

Pooling = Literal["mean", "rms"]


@dataclass(frozen=True)
class UnitActivation(Objective):
    """The activation of one unit; over a map or a sequence, that of one position, or pooled over all of them.

    Of a vision transformer's tokens the pooling leaves out the class and register tokens.

    Args:
        unit: A unit with an index, or its text form.
        pooling: How the positions become one number: ``"mean"``, or ``"rms"``, the root of the mean square. A layer
            with nothing but linear layers before it needs the second: the mean of a convolution over a picture is
            (apart from the borders) the picture's mean times a constant, and shows nothing of the kernel.

    Raises:
        InputError: The unit is malformed, a whole layer, or to be minimised.
    """

    unit: Unit
    pooling: Pooling

    def __init__(self, unit: Unit | str, pooling: Pooling = "mean") -> None:
        parsed = Unit.parse(unit) if isinstance(unit, str) else unit
        if parsed.index is None:
            raise InputError(
                f"UnitActivation({str(parsed)!r}) needs a unit with an index; a whole layer is LayerEnergy"
            )
        if parsed.minimize:
            positive = str(parsed).removeprefix("-")
            raise InputError(
                f"UnitActivation({str(parsed)!r}): what minimises a unit is the negative of its activation, "
                f"-UnitActivation({positive!r})"
            )
        object.__setattr__(self, "unit", parsed)
        object.__setattr__(self, "pooling", pooling)

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The unit's layer."""
        return frozenset({self.unit.layer_call})

    @property
    @override
    def kind(self) -> Hashable:
        return UnitActivation, self.unit.layer_call, bool(self.unit.position), self.pooling

    @property
    @override
    def units(self) -> tuple[Unit, ...]:
        return (self.unit,)

    @property
    @override
    def needs_means_only(self) -> bool:
        # What is derived from this class may look at more.
        return type(self) is UnitActivation and self.pooling == "mean" and not self.unit.position

    @override
    def __call__(self, activations: Activations) -> Tensor:
        n_pictures = len(activations[self.unit.layer_call].tensor)
        return self.stack([self] * n_pictures)(activations)

    @override
    @classmethod
    def stack(cls, objectives: Sequence["UnitActivation"]) -> Scorer:
        units = [objective.unit for objective in objectives]
        layer, pooling = units[0].layer_call, objectives[0].pooling
        places = list(zip(*((row, unit.index, *unit.position) for row, unit in enumerate(units)), strict=True))
        on_device = MovedOnce(*(torch.tensor(place) for place in places))

        def score(activations: Activations) -> Tensor:
            tensor = activations[layer].tensor
            maps = pick(tensor, *on_device(tensor.device))
            if maps.ndim == 2:
                maps = maps[:, activations[layer].prefix_tokens :]
            if maps.ndim > 1:
                maps = maps.flatten(1)
                maps = _root_mean_square(maps) if pooling == "rms" else maps.mean(1)
            scores: Tensor = maps
            return scores

        return score

    def __str__(self) -> str:
        """Return the unit's text form."""
        return str(self.unit)


@dataclass(frozen=True)
class LayerEnergy(Objective):
    """The mean square of a whole layer: 'DeepDream' (https://research.google/blog/inceptionism-going-deeper-into-neural-networks/).

    Args:
        layer: The layer.
    """

    layer: LayerCall

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layer."""
        return frozenset({self.layer})

    @property
    @override
    def kind(self) -> Hashable:
        return LayerEnergy, self.layer

    @override
    def __call__(self, activations: Activations) -> Tensor:
        activation = activations[self.layer]
        tensor = activation.tensor[:, :, activation.prefix_tokens :] if activation.prefix_tokens else activation.tensor
        return tensor.square().mean(tuple(range(1, tensor.ndim)))

    def __str__(self) -> str:
        """Return the layer's text form."""
        return str(self.layer)


@dataclass(frozen=True)
class Target(Objective):
    """How near an objective is to a value: ``-(objective - value)²``, which is 0 at the best.

    Args:
        objective: What is to reach the value.
        value: The value to be reached.
    """

    objective: Objective
    value: float

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layers of the objective."""
        return self.objective.layers

    @property
    @override
    def units(self) -> tuple[Unit, ...]:
        return self.objective.units

    @override
    def __call__(self, activations: Activations) -> Tensor:
        return -(self.objective(activations) - self.value).square()

    def __str__(self) -> str:
        """Return the objective and the value."""
        return f"{self.objective} -> {self.value:g}"


def objective_of(unit: Unit, pooling: Pooling = "mean") -> Objective:
    """Return what is maximised for a unit: its activation or its layer's energy, negated if it is to be minimised."""
    if unit.index is None:
        objective: Objective = LayerEnergy(unit.layer_call)
    else:
        objective = UnitActivation(replace(unit, minimize=False), pooling)
    return -objective if unit.minimize else objective


def pick(tensor: Tensor, rows: Tensor, channels: Tensor, *position: Tensor) -> Tensor:
    """Return the map of one channel of each row, ``(B, *positions)``, or its value at one position, ``(B,)``.

    It is picked in the order that the channels have in memory, which the gradient then has, too: one in another order
    than the network's would be reordered on its way.
    """
    if tensor.is_contiguous():
        return tensor[(rows, channels, *position)]
    return tensor.movedim(1, -1)[(rows, *(position or [slice(None)] * (tensor.ndim - 2)), channels)]


def _root_mean_square(rows: Tensor) -> Tensor:
    # By the norm, whose gradient is 0 where all of a row is 0: that of a square root would be infinite.
    root: Tensor = torch.linalg.vector_norm(rows, dim=1) / math.sqrt(rows.shape[1])
    return root
