"""Noise on every pixel."""

import copy
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.robustness.base import View, between, bounds_of, check_share


class GaussianNoise(View):
    """Normal noise on every pixel of every channel, by itself.

    Args:
        std: Its standard deviation; of a pair, each view draws its own between the two.
        warmup: In which first part of the run the noise grows, evenly and from none, to that: what is faint at first
            takes shape before noise hides it. 0: it is there from the first step on.

    Raises:
        InputError: `std` is negative, or a pair that runs backwards; or `warmup` is negative, or not less than 1.
    """

    n_draws = 3

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
        return pictures + stds * normal_fields(draws[:, 1:3], pictures.shape[1:])


class UniformNoise(View):
    """Uniform noise on every pixel of every channel, by itself.

    Args:
        amplitude: The largest, either way; of a pair, each view draws its own between the two.

    Raises:
        InputError: `amplitude` is negative, or a pair that runs backwards.
    """

    n_draws = 3

    def __init__(self, amplitude: float | tuple[float, float] = 0.1) -> None:
        self.amplitude = bounds_of("UniformNoise", "amplitude", amplitude)

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        amplitudes = between(draws[:, 0], self.amplitude)[:, None, None, None]
        return pictures + amplitudes * (2 * uniform_fields(draws[:, 1:3], pictures.shape[1:]) - 1)


def uniform_fields(draws: Tensor, shape: Sequence[int]) -> Tensor:
    """Return as many random numbers as a picture has pixels, all from two.

    A generator a picture would have to make them on the CPU and move them to the device. Here each number is a hash of
    its place, keyed by the picture's draws: the same on every device, whatever else is in the batch.

    Args:
        draws: ``(B, 2)``, uniform in [0, 1), of at least 32 bits of precision.
        shape: ``(C, H, W)``.

    Returns:
        ``(B, C, H, W)``, uniform in [0, 1).
    """
    keys = (draws * 2**24).to(torch.int32)
    hashed = _hash(_hash(_counters(math.prod(shape), draws.device) + keys[:, :1]).bitwise_xor_(keys[:, 1:]))
    return _shift(hashed, 8).to(draws.dtype).div_(2**24).reshape(-1, *shape)


def normal_fields(draws: Tensor, shape: Sequence[int]) -> Tensor:
    """Return as many normal numbers as a picture has pixels, by Box and Muller of `uniform_fields`.

    Args:
        draws: ``(B, 2)``, uniform in [0, 1), of at least 32 bits of precision.
        shape: ``(C, H, W)``.

    Returns:
        ``(B, C, H, W)`` of mean 0 and standard deviation 1.
    """
    n_numbers = math.prod(shape)
    radii, angles = uniform_fields(draws, (2, (n_numbers + 1) // 2)).unbind(1)
    # 1 - u is exact, and in (0, 1], of which the logarithm is finite. `torch.log1p` takes eight times as long.
    radii, angles = (1 - radii).log_().mul_(-2).sqrt_(), 2 * math.pi * angles
    fields = torch.cat([radii * angles.cos(), radii * angles.sin()], dim=1)
    return fields[:, :n_numbers].reshape(-1, *shape)


@lru_cache(maxsize=16)  # asked for at every step
def _counters(count: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or it would be of no use to those who want gradients
        return torch.arange(count, dtype=torch.int32, device=device) + 0x3C6EF372


def _hash(numbers: Tensor) -> Tensor:
    """Mix the bits of 32-bit numbers: 'lowbias32' of https://github.com/skeeto/hash-prospector."""
    # In place, but for the first: fresh memory for as many numbers costs more than the arithmetic.
    numbers = (numbers ^ _shift(numbers, 16)).mul_(0x7FEB352D)
    numbers.bitwise_xor_(_shift(numbers, 15)).mul_(0x846CA68B - 2**32)
    return numbers.bitwise_xor_(_shift(numbers, 16))


def _shift(numbers: Tensor, places: int) -> Tensor:
    # The shift of signed numbers repeats their sign, which is masked.
    return (numbers >> places).bitwise_and_((1 << (32 - places)) - 1)
