"""Penalties: priors on pictures, of shape ``(B,)``, subtracted from the scores."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.description import Described


class Penalty(Described, ABC):
    """A prior on pictures.

    Args:
        weight: Factor of the penalty.

    Raises:
        InputError: `weight` is negative, which would be a reward.
    """

    def __init__(self, weight: float = 1.0) -> None:
        if not weight >= 0:
            raise InputError(f"{type(self).__name__}(weight={weight}): must be at least 0")
        self.weight = weight

    @abstractmethod
    def measure(self, pictures: Tensor) -> Tensor:
        """Return the penalty ``(B,)`` of pictures ``(B, C, H, W)``, without its weight."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the weighted penalty ``(B,)`` of pictures ``(B, C, H, W)``."""
        return self.weight * self.measure(pictures)


class L1(Penalty):
    """The sum of absolute values, ``Σ|x|``."""

    @override
    def measure(self, pictures: Tensor) -> Tensor:
        return pictures.abs().flatten(1).sum(1)


class L2(Penalty):
    """The Euclidean norm, ``‖x‖₂``, or its square.

    Args:
        squared: Whether the norm is squared.
    """

    def __init__(self, weight: float = 1.0, squared: bool = False) -> None:
        super().__init__(weight)
        self.squared = squared

    @override
    def measure(self, pictures: Tensor) -> Tensor:
        if self.squared:
            return pictures.square().flatten(1).sum(1)
        norms: Tensor = torch.linalg.vector_norm(pictures.flatten(1), dim=1)
        return norms


class TotalVariation(Penalty):
    """The sum of absolute differences between neighbouring pixels (`total_variation`)."""

    @override
    def measure(self, pictures: Tensor) -> Tensor:
        return total_variation(pictures)


def total_variation(pictures: Tensor, *, mean: bool = False) -> Tensor:
    """Return the anisotropic total variation, ``Σ|x[i, j] - x[i + 1, j]| + Σ|x[i, j] - x[i, j + 1]|``.

    Args:
        pictures: ``(B, C, H, W)``.
        mean: Take the mean of each sum instead, which does not depend on the size; needs at least 2x2 pixels.

    Returns:
        ``(B,)``. The mean is 0 for one colour and 2 for a checkerboard of black and white pixels.
    """
    down, across = pictures.diff(dim=-2).abs(), pictures.diff(dim=-1).abs()
    if mean:
        return down.mean((1, 2, 3)) + across.mean((1, 2, 3))
    return down.flatten(1).sum(1) + across.flatten(1).sum(1)
