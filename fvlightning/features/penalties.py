"""Penalties: priors on the picture, of shape ``(B,)``, which are subtracted from the scores."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError


class Penalty(ABC):
    """A prior on the picture.

    Args:
        weight: What the penalty is multiplied by.

    Raises:
        InputError: `weight` is negative: that would be a reward.
    """

    def __init__(self, weight: float = 1.0) -> None:
        if not weight >= 0:
            raise InputError(f"{type(self).__name__}(weight={weight}): the weight of a penalty must be at least 0")
        self.weight = weight

    @abstractmethod
    def measure(self, pictures: Tensor) -> Tensor:
        """Return what is penalised, ``(B,)``, of pictures ``(B, C, H, W)``."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the weighted penalty ``(B,)`` of pictures ``(B, C, H, W)``."""
        return self.weight * self.measure(pictures)


class L1(Penalty):
    """The sum of the pixels' sizes, ``Σ|x|``.

    Args:
        weight: What it is multiplied by.
    """

    @override
    def measure(self, pictures: Tensor) -> Tensor:
        return pictures.abs().flatten(1).sum(1)


class L2(Penalty):
    """The Euclidean norm, ``‖x‖₂``, or its square.

    Args:
        weight: What it is multiplied by.
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
    """The anisotropic total variation: the sum of the differences between neighbours, down and across.

    ``Σ|x[i, j] - x[i + 1, j]| + Σ|x[i, j] - x[i, j + 1]|``.

    Args:
        weight: What it is multiplied by.
    """

    @override
    def measure(self, pictures: Tensor) -> Tensor:
        rows = pictures.diff(dim=-2).abs().flatten(1).sum(1)
        columns = pictures.diff(dim=-1).abs().flatten(1).sum(1)
        return rows + columns
