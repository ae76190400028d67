"""Transforms of the values of pixels: noise, colours, blur."""

import copy
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from fvlightning.features.transforms.base import Transform, between, check_bounds, check_share, signed

# A table of random numbers has 16 MB, and for large pictures the length of four fields.
_LEAST_LENGTH = 2**22
_LEAST_FIELDS = 4


class GaussianNoise(Transform):
    """Independent normal noise on every pixel of every channel.

    Args:
        std: Standard deviation; from a pair, each picture draws its own between the two.
        warmup: The first share of the run, or of each round of `scales`, in which the noise grows linearly from none:
            faint shapes form before noise hides them. 0 for full noise from the first step on. `patience` begins after
            it.

    Raises:
        InputError: `std` is negative or a pair in descending order, or `warmup` is not in [0, 1).
    """

    n_draws = 2

    def __init__(self, std: float | tuple[float, float] = 0.1, warmup: float = 0.0) -> None:
        self.std = check_bounds("GaussianNoise", "std", std)
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
        return torch.addcmul(pictures, stds, random_fields(draws[:, 1], pictures.shape[1:], "normal"))


class UniformNoise(Transform):
    """Independent uniform noise on every pixel of every channel.

    Args:
        amplitude: Largest value, either way; from a pair, each picture draws its own between the two.

    Raises:
        InputError: `amplitude` is negative, or a pair in descending order.
    """

    n_draws = 2

    def __init__(self, amplitude: float | tuple[float, float] = 0.1) -> None:
        self.amplitude = check_bounds("UniformNoise", "amplitude", amplitude)

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        amplitudes = between(draws[:, 0], self.amplitude)[:, None, None, None]
        return torch.addcmul(pictures, amplitudes, 2 * random_fields(draws[:, 1], pictures.shape[1:], "uniform") - 1)


class ColorJitter(Transform):
    """Random brightness, contrast, saturation and tint of each picture.

    Colours may leave [0, 1]: clipping would stop the gradient of the brightest and darkest places.

    Args:
        brightness: Largest change of all channels together, added.
        contrast: Largest change of the distance to the picture's mean, as a share of it.
        saturation: Largest change of the distance to the channels' mean at each place, as a share of it. It changes
            nothing with one channel.
        shift: Largest change of each channel by itself, added: a tint, or brightness with one channel.

    Raises:
        InputError: A setting is negative, or contrast or saturation is 1 or more.
    """

    def __init__(
        self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, shift: float = 0.1
    ) -> None:
        self.brightness = check_share("ColorJitter", "brightness", brightness)
        self.contrast = check_share("ColorJitter", "contrast", contrast, below=1)
        self.saturation = check_share("ColorJitter", "saturation", saturation, below=1)
        self.shift = check_share("ColorJitter", "shift", shift)

    # The number of channels with a tint of their own; further channels share these in turn.
    _N_TINTS = 4
    n_draws = 3 + _N_TINTS

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        strengths = signed(draws)[:, :, None, None]
        brightness, contrast, saturation = (strengths[:, place : place + 1] for place in range(3))
        means, greys = pictures.mean((1, 2, 3), keepdim=True), pictures.mean(1, keepdim=True)
        vivid = greys + (1 + self.saturation * saturation) * (pictures - greys)
        places = 3 + torch.arange(pictures.shape[1], device=pictures.device) % self._N_TINTS
        tints = self.shift * strengths[:, places]
        return means + (1 + self.contrast * contrast) * (vivid - means) + self.brightness * brightness + tints


class Blur(Transform):
    """A Gaussian blur; beyond its border the picture continues with the nearest pixel.

    Args:
        sigma: Standard deviation in pixels; from a pair, each picture draws its own between the two. 0 for no blur.

    Raises:
        InputError: `sigma` is negative, or a pair in descending order.
    """

    n_draws = 1

    def __init__(self, sigma: float | tuple[float, float] = (0.0, 1.0)) -> None:
        self.sigma = check_bounds("Blur", "sigma", sigma)

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        n_pictures, channels, height, width = pictures.shape
        radius = max(1, math.ceil(3 * self.sigma[1]))
        offsets = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
        # A sigma of almost 0 leaves only the middle of the kernel, as 0 would.
        sigmas = between(draws, self.sigma).clamp(min=1e-2)
        kernels = (-0.5 * (offsets / sigmas).square()).softmax(1).repeat_interleave(channels, 0)
        # Each picture has its own kernel: as channels of one picture, in groups of one.
        planes = F.pad(pictures.reshape(1, -1, height, width), [radius] * 4, mode="replicate")
        blurred = F.conv2d(planes, kernels[:, None, :, None], groups=n_pictures * channels)
        blurred = F.conv2d(blurred, kernels[:, None, None, :], groups=n_pictures * channels)
        return blurred.reshape_as(pictures)


def random_fields(draws: Tensor, shape: Sequence[int], kind: Literal["normal", "uniform"]) -> Tensor:
    """Return random numbers ``(B, C, H, W)``: for each picture a stretch of one long table, from a random place on.

    The table is the same in every process and on every device, and so is the noise of a picture, whatever else is in
    the batch. A generator for each picture would have to make its numbers on the CPU and move them to the device;
    hashes of the places took a twentieth of a step of a ResNet. All numbers of one field are independent; two fields
    may share some, at different places.

    Args:
        draws: ``(B,)``, uniform in [0, 1), with at least 24 bits of precision.
        shape: ``(C, H, W)``.
        kind: Standard normal, or uniform in [0, 1).
    """
    n_numbers = math.prod(shape)
    length = max(_LEAST_LENGTH, 2 ** math.ceil(math.log2(_LEAST_FIELDS * n_numbers)))
    stretches = _table(kind, length, draws.device).unfold(0, n_numbers, 1)
    # Slices in Python would make the CPU wait for a GPU.
    places = (draws * len(stretches)).long().clamp(max=len(stretches) - 1)
    return stretches.index_select(0, places).to(draws.dtype).reshape(-1, *shape)


@lru_cache(maxsize=4)  # needed at every step
def _table(kind: Literal["normal", "uniform"], length: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False):  # a tensor made in inference mode cannot take part in a gradient
        make = torch.randn if kind == "normal" else torch.rand
        return make(length, generator=generator, dtype=torch.float32).to(device)
