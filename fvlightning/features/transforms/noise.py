"""Noise on every pixel."""

import copy
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, Self

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.transforms.base import Transform, between, bounds_of, check_share

# How many numbers a table has: these are 16 MB; or those of so many fields end to end, of large pictures.
_LEAST_LENGTH = 2**22
_LEAST_FIELDS = 4


class GaussianNoise(Transform):
    """Normal noise on every pixel of every channel, by itself.

    Args:
        std: Its standard deviation; of a pair, each view draws its own between the two.
        warmup: In which first part of the run, or of each round of `scales`, the noise grows, evenly and from none, to
            that: what is faint at first takes shape before noise hides it. 0: it is there from the first step on.
            `patience` begins behind it.

    Raises:
        InputError: `std` is negative, or a pair that runs backwards; or `warmup` is negative, or not less than 1.
    """

    n_draws = 2

    def __init__(self, std: float | tuple[float, float] = 0.1, warmup: float = 0.0) -> None:
        self.std = bounds_of("GaussianNoise", "std", std)
        self.warmup = check_share("GaussianNoise", "warmup", warmup, below=1)

    @override
    def at(self, progress: float) -> Self:
        if progress >= self.warmup:
            return self
        now = copy.copy(self)
        least, most = self.std
        now.std = (least * progress / self.warmup, most * progress / self.warmup)
        return now

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        stds = between(draws[:, 0], self.std)[:, None, None, None]
        return torch.addcmul(pictures, stds, normal_fields(draws[:, 1], pictures.shape[1:]))


class UniformNoise(Transform):
    """Uniform noise on every pixel of every channel, by itself.

    Args:
        amplitude: The largest, either way; of a pair, each view draws its own between the two.

    Raises:
        InputError: `amplitude` is negative, or a pair that runs backwards.
    """

    n_draws = 2

    def __init__(self, amplitude: float | tuple[float, float] = 0.1) -> None:
        self.amplitude = bounds_of("UniformNoise", "amplitude", amplitude)

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        amplitudes = between(draws[:, 0], self.amplitude)[:, None, None, None]
        return torch.addcmul(pictures, amplitudes, 2 * uniform_fields(draws[:, 1], pictures.shape[1:]) - 1)


def uniform_fields(draws: Tensor, shape: Sequence[int]) -> Tensor:
    """Return random numbers for each pixel, as `normal_fields` does, uniform in [0, 1)."""
    return _stretches(draws, shape, "uniform")


def normal_fields(draws: Tensor, shape: Sequence[int]) -> Tensor:
    """Return random numbers for each pixel: of each picture a stretch of one long table, from the place that is drawn.

    The table is the same in every process and on every device, and so is the noise of a picture, whatever else is in
    the batch. A generator a picture would have to make its numbers on the CPU and move them to the device; to compute
    them from hashes of their places took a twentieth of a step of a ResNet. In one field all numbers are independent;
    those of another may have some in common with it, at other places.

    Args:
        draws: ``(B,)``, uniform in [0, 1), of at least 24 bits of precision.
        shape: ``(C, H, W)``. The table has 16 MB, and for pictures of over a megapixel four times their size.

    Returns:
        ``(B, C, H, W)`` of mean 0 and standard deviation 1.
    """
    return _stretches(draws, shape, "normal")


def _stretches(draws: Tensor, shape: Sequence[int], kind: Literal["normal", "uniform"]) -> Tensor:
    n_numbers = math.prod(shape)
    length = max(_LEAST_LENGTH, 2 ** math.ceil(math.log2(_LEAST_FIELDS * n_numbers)))
    stretches = _table(kind, length, draws.device).unfold(0, n_numbers, 1)
    # Not by indexing in Python, for which the CPU would wait for a GPU.
    places = (draws * len(stretches)).long().clamp(max=len(stretches) - 1)
    return stretches.index_select(0, places).to(draws.dtype).reshape(-1, *shape)


@lru_cache(maxsize=4)  # asked for at every step
def _table(kind: Literal["normal", "uniform"], length: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False):  # or it would be of no use to those who want gradients
        make = torch.randn if kind == "normal" else torch.rand
        return make(length, generator=generator, dtype=torch.float32).to(device)
