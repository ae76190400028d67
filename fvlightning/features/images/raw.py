"""Inputs that are no pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.checks import check_std


class RawInput(Parametrization):
    """Unbounded inputs of any shape, for networks whose input is no picture, and for closed forms.

    Where a linear unit's input is bounded by its norm, the optimum is parallel to the unit's weights; with a penalty
    ``‖x‖²`` on ``w·x + b`` it is ``w / 2``.

    Args:
        max_norm: Largest Euclidean norm of an input; a longer one is scaled back. None is no bound.
        std: Standard deviation of the starting noise around 0.

    Raises:
        InputError: `max_norm` is not positive, or `std` is negative.
    """

    bounded = False

    def __init__(self, max_norm: float | None = None, std: float = 0.01) -> None:
        if max_norm is not None and not max_norm > 0:
            raise InputError(f"RawInput(max_norm={max_norm}): the bound must be greater than 0, or None for no bound")
        self.max_norm = max_norm
        self.std = check_std("RawInput", std)

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return self.std * torch.randn(tuple(image_shape), generator=generator)

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        if self.max_norm is None:
            return parameters
        # Scaled in the forward pass and not after the step: the gradient is then tangential to the sphere and vanishes
        # at the optimum, to which Adam, whose steps are not along the gradient, would not come otherwise.
        norms: Tensor = torch.linalg.vector_norm(parameters.flatten(1), dim=1).clamp(min=1e-12)
        factors: Tensor = (self.max_norm / norms).clamp(max=1.0)
        bounded: Tensor = parameters * factors.reshape(-1, *[1] * (parameters.ndim - 1))
        return bounded
