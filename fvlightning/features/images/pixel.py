"""Pictures by their pixels."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.checks import check_max_rms, check_std
from fvlightning.features.images.contrast import limit_rms
from fvlightning.features.images.display import from_display, to_display
from fvlightning.features.images.resampling import resample


class PixelImage(Parametrization):
    """Every pixel is a parameter.

    Args:
        bound: What keeps pixels in [0, 1]: ``"sigmoid"`` of the parameter, or ``"clip"``, where the parameter is the
            pixel itself and is put back into [0, 1] after each step.
        std: Standard deviation of the starting noise: around 0 before the sigmoid, around 0.5 with ``"clip"``.
        decorrelate: Whether the parameters of three channels are decorrelated colours (`correlate_colors`). It needs
            the sigmoid: a clip of correlated colours would be no clip of the parameters. Default: with the sigmoid.
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black ground.

    Raises:
        InputError: `bound` is neither of the two, `std` is negative, `max_rms` is not in (0, 1], or colours are to be
            decorrelated with a clip.
    """

    def __init__(
        self,
        bound: Literal["sigmoid", "clip"] = "sigmoid",
        std: float = 0.01,
        decorrelate: bool | None = None,
        max_rms: float | None = None,
    ) -> None:
        if bound not in ("sigmoid", "clip"):
            raise InputError(f"PixelImage(bound={bound!r}): valid are 'sigmoid' and 'clip'")
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
