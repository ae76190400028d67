"""Directions in the space of a layer's activations."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.capture.capture import Activation, Activations
from fvlightning.features.objectives.base import MovedOnce, Objective, Scorer
from fvlightning.features.units import LayerCall, Unit, UnitRange

# Below this cosine the power of it is constant, so that a picture that starts far from the direction has a gradient.
_SMALLEST_COSINE = 0.1


@dataclass(frozen=True)
class Direction(Objective):
    """How far a layer's activations go in a direction: their dot product with it, times a power of the cosine.

    ``mean over positions of (a · v) · max(cos(a, v), 0.1)^power``, each picture by itself. With a power of 0 it is a
    weighted sum of units. A larger one asks for activations that have little besides the direction (Carter et al. 2019,
    https://distill.pub/2019/activation-atlas/, and `direction` in lucid's optvis/objectives.py).

    Args:
        layer: The layer, or its text form, ``"conv2"`` or ``"conv2#1"``.
        vector: ``(C,)``, one number for each of the layer's units, a tensor or a sequence.
        power: The cosine's power, at least 0.
        position: ``(row, column)`` or ``(token,)``. Empty is the mean over all positions (of a vision transformer: over
            the patch tokens).

    Raises:
        InputError: The vector is no list of finite numbers or is 0, or the power is negative.
    """

    layer: LayerCall
    vector: tuple[float, ...]
    power: float
    position: tuple[int, ...]

    def __init__(
        self,
        layer: LayerCall | str,
        vector: Tensor | Sequence[float],
        power: float = 0.0,
        position: tuple[int, ...] = (),
    ) -> None:
        values = torch.as_tensor(vector, dtype=torch.float64).detach().cpu()
        if values.ndim != 1 or not values.isfinite().all() or not values.any():
            raise InputError(
                f"Direction(vector=...) of shape {tuple(values.shape)}: one finite number a unit, not all 0"
            )
        if not power >= 0:
            raise InputError(f"Direction(power={power}): must be at least 0")
        object.__setattr__(self, "layer", UnitRange.parse(layer).layer_call if isinstance(layer, str) else layer)
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
        # The last that the vector needs: a layer with fewer is refused before anything is made.
        return (Unit(self.layer.layer, len(self.vector) - 1, self.position, self.layer.call, output=self.layer.output),)

    @property
    @override
    def kind(self) -> Hashable:
        return Direction, self.layer, len(self.vector), self.power, bool(self.position)

    @override
    def __call__(self, activations: Activations) -> Tensor:
        return self.stack([self] * len(activations[self.layer].tensor))(activations)

    @override
    @classmethod
    def stack(cls, objectives: Sequence["Direction"]) -> Scorer:
        layer, power = objectives[0].layer, objectives[0].power
        vectors = MovedOnce(torch.tensor([objective.vector for objective in objectives]))
        positions = [objective.position for objective in objectives]

        def score(activations: Activations) -> Tensor:
            values = _at(activations[layer], positions)
            (directions,) = (vector.to(values.dtype)[:, :, None] for vector in vectors(values.device))
            if directions.shape[1] != values.shape[1]:
                raise InputError(
                    f"Direction(vector=...) has {directions.shape[1]} numbers, and layer {str(layer)!r} has "
                    f"{values.shape[1]} units: give one a unit"
                )
            dots = (values * directions).sum(1)
            if not power:
                return dots.mean(1)
            norms = torch.linalg.vector_norm(values, dim=1) * torch.linalg.vector_norm(directions, dim=1)
            cosines = dots / norms.clamp(min=torch.finfo(dots.dtype).tiny)
            scores: Tensor = (dots * cosines.clamp(min=_SMALLEST_COSINE) ** power).mean(1)
            return scores

        return score

    def __str__(self) -> str:
        """Return the layer with a digest of the vector, by which directions are told apart."""
        digest = blake2b(repr(self.vector).encode(), digest_size=4).hexdigest()
        place = "@" + ",".join(map(str, self.position)) if self.position else ""
        return f"Direction({self.layer}{place}, {digest}, power={self.power:g})"


def _at(activation: Activation, positions: Sequence[tuple[int, ...]]) -> Tensor:
    """Return activations ``(B, C, P)`` at each picture's position, or at all that are part of the picture."""
    tensor = activation.tensor
    if positions[0]:
        seen = [row[(slice(None), *place)] for row, place in zip(tensor, positions, strict=True)]
        return torch.stack(seen)[:, :, None]
    if tensor.ndim == 3:
        tensor = tensor[:, :, activation.prefix_tokens :]
    if tensor.is_contiguous():
        return tensor.reshape(*tensor.shape[:2], -1)
    # Where the channels are last in memory, they are the last of a matrix, too, and nothing is copied.
    return tensor.movedim(1, -1).reshape(len(tensor), -1, tensor.shape[1]).movedim(-1, 1)
