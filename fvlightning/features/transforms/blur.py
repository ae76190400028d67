"""Blur."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from fvlightning.features.transforms.base import Transform, between, bounds_of


class Blur(Transform):
    """A Gaussian blur; what lies outside of the picture is as its nearest pixel.

    Args:
        sigma: Its standard deviation in pixels; of a pair, each view draws its own between the two. 0 is no blur.

    Raises:
        InputError: `sigma` is negative, or a pair that runs backwards.
    """

    n_draws = 1

    def __init__(self, sigma: float | tuple[float, float] = (0.0, 1.0)) -> None:
        self.sigma = bounds_of("Blur", "sigma", sigma)

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        n_pictures, channels, height, width = pictures.shape
        radius = max(1, math.ceil(3 * self.sigma[1]))
        offsets = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
        # A sigma of almost 0 leaves the middle of the kernel alone, as one of 0 would.
        sigmas = between(draws, self.sigma).clamp(min=1e-2)
        kernels = (-0.5 * (offsets / sigmas).square()).softmax(1).repeat_interleave(channels, 0)
        # Each picture has its own kernel: as channels of one picture, in groups of one.
        planes = F.pad(pictures.reshape(1, -1, height, width), [radius] * 4, mode="replicate")
        blurred = F.conv2d(planes, kernels[:, None, :, None], groups=n_pictures * channels)
        blurred = F.conv2d(blurred, kernels[:, None, None, :], groups=n_pictures * channels)
        return blurred.reshape_as(pictures)
