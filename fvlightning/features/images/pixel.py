"""Pictures by their pixels, and inputs that are not pictures."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Parametrization, resample
from fvlightning.features.images.display import check_max_rms, check_std, from_display, limit_rms, to_display


class PixelImage(Parametrization):
    """Every pixel is a parameter.

    Args:
        bound: What keeps pixels in [0, 1]: ``"sigmoid"``, or ``"clip"``, where the parameters are the pixels and are
            clipped after each step.
        std: Standard deviation of the initial noise: around 0 before the sigmoid, around 0.5 with ``"clip"``.
        decorrelate: Whether the parameters of three channels are decorrelated colours (`correlate_colors`). Default:
            with the sigmoid only, since a clip bounds parameters, not the colours that are mixed from them.
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black background.

    Raises:
        InputError: A setting is out of its range, or `decorrelate` is set with a clip.
    """

    def __init__(
        self,
        bound: Literal["sigmoid", "clip"] = "sigmoid",
        std: float = 0.01,
        decorrelate: bool | None = None,
        max_rms: float | None = None,
    ) -> None:
        if bound not in ("sigmoid", "clip"):
            raise InputError(f"PixelImage(bound={bound!r}): must be 'sigmoid' or 'clip'")
        if decorrelate and bound == "clip":
            raise InputError("PixelImage(bound='clip', decorrelate=True): use bound='sigmoid' to decorrelate colours")
        self.bound = bound
        self.std = check_std("PixelImage", std)
        self.decorrelate = bound == "sigmoid" if decorrelate is None else decorrelate
        self.max_rms = check_max_rms("PixelImage", max_rms)

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        noise = self.std * torch.randn(tuple(image_shape), generator=generator)
        return noise if self.bound == "sigmoid" else (0.5 + noise).clamp(0, 1)

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        if self.bound == "clip":
            return limit_rms(parameters, self.max_rms)
        return to_display(parameters, self.decorrelate, self.max_rms)

    @override
    def invert(self, pictures: Tensor) -> Tensor:
        return pictures.clamp(0, 1) if self.bound == "clip" else from_display(pictures, self.decorrelate)

    @override
    def resize(
        self, parameters: Tensor, image_shape: Sequence[int], new_shape: Sequence[int], blur: float = 0.0
    ) -> Tensor:
        resized = resample(parameters, new_shape[-2:], blur)
        self.project(resized)
        return resized

    @override
    def project(self, parameters: Tensor) -> None:
        if self.bound == "clip":
            parameters.clamp_(0, 1)


class RawInput(Parametrization):
    """Unbounded inputs of any shape, for networks whose input is not a picture, and for closed forms.

    Bounded by its norm, the best input of a linear unit is parallel to its weights; with a penalty ``‖x‖²`` on
    ``w·x + b`` it is ``w / 2``.

    Args:
        max_norm: Largest Euclidean norm of an input; a longer one is scaled back. None for no bound.
        std: Standard deviation of the initial noise around 0.

    Raises:
        InputError: A setting is out of its range.
    """

    bounded = False

    def __init__(self, max_norm: float | None = None, std: float = 0.01) -> None:
        if max_norm is not None and not max_norm > 0:
            raise InputError(f"RawInput(max_norm={max_norm}): must be greater than 0, or None for no bound")
        self.max_norm = max_norm
        self.std = check_std("RawInput", std)

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return self.std * torch.randn(tuple(image_shape), generator=generator)

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        if self.max_norm is None:
            return parameters
        # Scaled in the forward pass, not after the step: the gradient is then tangential to the sphere and vanishes at
        # the optimum. Adam, whose steps are not along the gradient, would not converge to it otherwise.
        norms: Tensor = torch.linalg.vector_norm(parameters.flatten(1), dim=1).clamp(min=1e-12)
        factors: Tensor = (self.max_norm / norms).clamp(max=1.0)
        bounded: Tensor = parameters * factors.reshape(-1, *[1] * (parameters.ndim - 1))
        return bounded
