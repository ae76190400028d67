"""Objectives of a unit, a layer, and a direction in the space of a layer's activations."""

import math
import reprlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.capture import Activation, Activations
from fvlightning.features.objectives.base import Objective, Pooling, Scorer, moved_once, short
from fvlightning.features.units import LayerCall, Unit

# Below this cosine its power is constant, so that a picture that starts far from the direction has a gradient.
_SMALLEST_COSINE = 0.1


@dataclass(frozen=True)
class UnitActivation(Objective):
    """The activation of one unit, at one position of a map or a sequence, or pooled over all positions.

    In a vision transformer the class and register tokens are left out of the pooling.

    Args:
        unit: A unit with an index, or its text form.
        pooling: How the positions become one number: ``"mean"``, or ``"rms"``, the root of the mean square. A unit with
            nothing but linear layers before it needs ``"rms"``: apart from the borders, the mean of a convolution is
            the picture's mean times a constant, and shows nothing of the kernel.

    Raises:
        InputError: The unit is malformed, a whole layer, or to be minimised.
    """

    unit: Unit
    pooling: Pooling

    def __init__(self, unit: str | Unit, pooling: Pooling = "mean") -> None:
        unit = Unit.parse(unit) if isinstance(unit, str) else unit
        name = f"UnitActivation({str(unit)!r})"
        if unit.index is None:
            raise InputError(f"{name}: needs a unit with an index; a whole layer is LayerEnergy({str(unit)!r})")
        if unit.minimize:
            maximized = str(replace(unit, minimize=False))
            raise InputError(f"{name}: to minimise a unit, negate its activation, -UnitActivation({maximized!r})")
        object.__setattr__(self, "unit", unit)
        object.__setattr__(self, "pooling", pooling)

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The unit's layer."""
        return frozenset({self.unit.layer_call})

    @property
    @override
    def kind(self) -> Hashable:
        return type(self), self.unit.layer_call, bool(self.unit.position), self.pooling

    @property
    @override
    def units(self) -> tuple[Unit, ...]:
        return (self.unit,)

    @property
    @override
    def needs_means_only(self) -> bool:
        # A subclass may look at more.
        return type(self) is UnitActivation and self.pooling == "mean" and not self.unit.position

    @override
    def __call__(self, activations: Activations) -> Tensor:
        return self.stack([self] * len(activations[self.unit.layer_call].tensor))(activations)

    @override
    @classmethod
    def stack(cls, objectives: Sequence["UnitActivation"]) -> Scorer:
        units = [objective.unit for objective in objectives]
        layer, pooling = units[0].layer_call, objectives[0].pooling
        places = torch.tensor([(row, unit.index, *unit.position) for row, unit in enumerate(units)])
        on_device = moved_once(*places.unbind(1))

        def score(activations: Activations) -> Tensor:
            tensor = activations[layer].tensor
            maps = _pick(tensor, *on_device(tensor.device))
            if maps.ndim == 2:
                maps = maps[:, activations[layer].prefix_tokens :]
            if maps.ndim > 1:
                maps = maps.flatten(1)
                # The gradient of the norm is 0 if a whole row is 0; that of a square root would be infinite.
                rms = pooling == "rms"
                maps = torch.linalg.vector_norm(maps, dim=1) / math.sqrt(maps.shape[1]) if rms else maps.mean(1)
            return maps

        return score

    def __str__(self) -> str:
        return str(self.unit)


@dataclass(frozen=True)
class LayerEnergy(Objective):
    """The mean square of a whole layer: 'DeepDream' (https://research.google/blog/inceptionism-going-deeper-into-neural-networks/).

    Args:
        layer: The layer, or its text form, ``"conv2"``.
    """

    layer: LayerCall

    def __init__(self, layer: str | LayerCall) -> None:
        object.__setattr__(self, "layer", LayerCall.parse(layer) if isinstance(layer, str) else layer)

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layer."""
        return frozenset({self.layer})

    @property
    @override
    def kind(self) -> Hashable:
        return type(self), self.layer

    @override
    def __call__(self, activations: Activations) -> Tensor:
        activation = activations[self.layer]
        tensor = activation.tensor[:, :, activation.prefix_tokens :] if activation.prefix_tokens else activation.tensor
        return tensor.square().mean(tuple(range(1, tensor.ndim)))

    def __str__(self) -> str:
        return str(self.layer)


@dataclass(frozen=True)
class Direction(Objective):
    """How far a layer's activations go in a direction: their dot product with it, times a power of the cosine.

    ``mean over positions of (a · v) · max(cos(a, v), 0.1)^power``. With a power of 0 it is a weighted sum of units; a
    larger one asks for little besides the direction (Carter et al. 2019, https://distill.pub/2019/activation-atlas/).

    Args:
        layer: The layer, or its text form, ``"conv2"``.
        vector: ``(C,)``, a number for each unit of the layer.
        power: The power of the cosine, at least 0.
        position: See `Unit`.

    Raises:
        InputError: The layer is malformed, the vector is 0 or not a list of finite numbers, or the power is negative.
    """

    layer: LayerCall
    vector: tuple[float, ...]
    power: float
    position: tuple[int, ...]

    def __init__(
        self, layer: str | LayerCall, vector: Sequence[float] | Tensor, power: float = 0.0, position: Sequence[int] = ()
    ) -> None:
        try:
            values = torch.as_tensor(vector, dtype=torch.float64).detach().cpu()
        except (TypeError, ValueError):
            values = torch.empty(0)
        if values.ndim != 1 or not values.isfinite().all() or not values.any():
            raise InputError(
                f"Direction(vector={reprlib.repr(vector)}): must be finite numbers, one per unit, not all 0"
            )
        if not power >= 0:
            raise InputError(f"Direction(power={power}): must be at least 0")
        object.__setattr__(self, "layer", LayerCall.parse(layer) if isinstance(layer, str) else layer)
        object.__setattr__(self, "vector", tuple(values.tolist()))
        object.__setattr__(self, "power", power)
        object.__setattr__(self, "position", tuple(position))

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layer."""
        return frozenset({self.layer})

    @property
    @override
    def units(self) -> tuple[Unit, ...]:
        # The last unit that the vector needs: a layer with fewer is refused before anything is made.
        return (Unit(self.layer.layer, len(self.vector) - 1, self.position, self.layer.call, output=self.layer.output),)

    @property
    @override
    def kind(self) -> Hashable:
        return type(self), self.layer, len(self.vector), self.power, bool(self.position)

    @override
    def __call__(self, activations: Activations) -> Tensor:
        return self.stack([self] * len(activations[self.layer].tensor))(activations)

    @override
    @classmethod
    def stack(cls, objectives: Sequence["Direction"]) -> Scorer:
        layer, power = objectives[0].layer, objectives[0].power
        vectors = moved_once(torch.tensor([objective.vector for objective in objectives]))
        positions = [objective.position for objective in objectives]

        def score(activations: Activations) -> Tensor:
            values = values_at(activations[layer], positions)
            directions = vectors(values.device)[0].to(values.dtype)[:, :, None]
            if directions.shape[1] != values.shape[1]:
                problem = f"{directions.shape[1]} numbers for the {values.shape[1]} units of layer {str(layer)!r}"
                raise InputError(f"Direction(vector=...): {problem}; give one per unit")
            dots = (values * directions).sum(1)
            if not power:
                return dots.mean(1)
            norms = torch.linalg.vector_norm(values, dim=1) * torch.linalg.vector_norm(directions, dim=1)
            cosines = dots / norms.clamp(min=torch.finfo(dots.dtype).tiny)
            scores: Tensor = (dots * cosines.clamp(min=_SMALLEST_COSINE) ** power).mean(1)
            return scores

        return score

    def __str__(self) -> str:
        digest = blake2b(repr(self.vector).encode(), digest_size=4).hexdigest()
        place = "@" + ",".join(map(str, self.position)) if self.position else ""
        return f"Direction({self.layer}{place}, {digest}, power={short(self.power)})"


def _pick(tensor: Tensor, rows: Tensor, channels: Tensor, *position: Tensor) -> Tensor:
    """Return the map of one channel of each row, ``(B, *positions)``, or its value at one position, ``(B,)``."""
    # The index keeps the order of the channels in memory: the gradient has it too, and is not reordered on its way.
    if tensor.is_contiguous():
        return tensor[(rows, channels, *position)]
    return tensor.movedim(1, -1)[(rows, *(position or [slice(None)] * (tensor.ndim - 2)), channels)]


def values_at(activation: Activation, positions: Sequence[tuple[int, ...]]) -> Tensor:
    """Return activations ``(B, C, P)``: at each picture's position, or at all positions that belong to the picture."""
    tensor = activation.tensor
    if positions[0]:
        rows = [row[(slice(None), *place)] for row, place in zip(tensor, positions, strict=True)]
        return torch.stack(rows)[:, :, None]
    if tensor.ndim == 3:
        tensor = tensor[:, :, activation.prefix_tokens :]
    if tensor.is_contiguous():
        return tensor.reshape(*tensor.shape[:2], -1)
    # With the channels last in memory, this order of dimensions copies nothing.
    return tensor.movedim(1, -1).reshape(len(tensor), -1, tensor.shape[1]).movedim(-1, 1)
