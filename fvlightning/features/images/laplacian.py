"""Pictures by a pyramid of resolutions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Parametrization, resample
from fvlightning.features.images.display import check_max_rms, check_std, from_display, to_display


class LaplacianImage(Parametrization):
    """The parameters are the levels of a Laplacian pyramid: pictures of finer and finer resolution, which add up.

    ``picture = sigmoid(colour(up(... up(level_n) + level_n-1 ...) + level_0))``, where ``up`` is bilinear and each
    level has half the side of the one before, rounded up (Burt and Adelson 1983,
    https://doi.org/10.1109/TCOM.1983.1095851, and lucid's optvis/param/spatial.py). A step moves large shapes as
    readily as details, as with `FourierImage`, but locally. The parameters of a picture are one vector, level after
    level, the finest first. Any number of channels and any size, odd ones too. Made for Adam with a learning rate of
    0.05.

    Args:
        levels: Number of resolutions, the picture's own included; halving ends at a single pixel in any case. None
            halves until the shorter side has fewer than 8 pixels.
        decay: How fast a level's weight falls with its frequency: ``2 ** (level * (decay - 1))``, scaled to a mean
            square of 1. At 1 a step changes all levels equally, as the contrast of natural images is spread over
            octaves; larger values make smoother pictures, without the fine texture that networks fall for.
        std: Standard deviation of the initial noise of each level.
        decorrelate: Whether the parameters of three channels are decorrelated colours (`correlate_colors`).
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black background.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(
        self,
        levels: int | None = None,
        decay: float = 1.5,
        std: float = 0.01,
        decorrelate: bool = True,
        max_rms: float | None = None,
    ) -> None:
        if levels is not None and levels < 1:
            raise InputError(f"LaplacianImage(levels={levels}): must be at least 1, or None for as many as fit")
        if not math.isfinite(decay):
            raise InputError(f"LaplacianImage(decay={decay}): must be a finite number; 1 weighs all levels equally")
        self.levels = levels
        self.decay = decay
        self.std = check_std("LaplacianImage", std)
        self.decorrelate = decorrelate
        self.max_rms = check_max_rms("LaplacianImage", max_rms)

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        channels, height, width = image_shape
        count = channels * sum(math.prod(size) for size in self._sizes(height, width))
        return self.std * torch.randn(count, generator=generator)

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        return to_display(self._colors(parameters, image_shape), self.decorrelate, self.max_rms)

    @override
    def invert(self, pictures: Tensor) -> Tensor:
        return self._levels_of(from_display(pictures, self.decorrelate))

    @override
    def resize(
        self, parameters: Tensor, image_shape: Sequence[int], new_shape: Sequence[int], blur: float = 0.0
    ) -> Tensor:
        return self._levels_of(resample(self._colors(parameters, image_shape), new_shape[-2:], blur))

    def _colors(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        channels, height, width = image_shape
        sizes = self._sizes(height, width)
        flat = torch.split_with_sizes(parameters, [channels * math.prod(size) for size in sizes], dim=1)
        weights = self._weights(len(sizes))
        levels = [
            weight * level.reshape(-1, channels, *size)
            for weight, level, size in zip(weights, flat, sizes, strict=True)
        ]
        colors = levels.pop()
        while levels:
            finer = levels.pop()
            colors = finer + _resize(colors, finer.shape[-2:])
        return colors

    def _levels_of(self, colors: Tensor) -> Tensor:
        """Return the parameters ``(B, N)`` whose levels add up to these colours ``(B, C, H, W)``."""
        finer = colors
        levels: list[Tensor] = []
        for size in self._sizes(*colors.shape[-2:])[1:]:
            # Each level holds what the next coarser one lacks, so their sum is the picture with any way to coarsen.
            coarser = F.adaptive_avg_pool2d(finer, size)
            levels.append(finer - _resize(coarser, finer.shape[-2:]))
            finer = coarser
        levels.append(finer)
        weights = self._weights(len(levels))
        return torch.cat([level.flatten(1) / weight for weight, level in zip(weights, levels, strict=True)], dim=1)

    def _sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the sizes of the levels, the finest first."""
        sizes = [(height, width)]
        while sizes[-1] != (1, 1) and (len(sizes) < self.levels if self.levels else min(sizes[-1]) >= 8):
            height, width = (height + 1) // 2, (width + 1) // 2
            sizes.append((height, width))
        return sizes

    def _weights(self, n_levels: int) -> list[float]:
        """Return the factor of each level, the finest first. Their mean square is 1, whatever the decay."""
        weights = [2.0 ** (level * (self.decay - 1)) for level in range(n_levels)]
        root_mean_square = math.sqrt(sum(weight**2 for weight in weights) / n_levels)
        return [weight / root_mean_square for weight in weights]


def _resize(colors: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(colors, size=list(size), mode="bilinear", align_corners=False)
