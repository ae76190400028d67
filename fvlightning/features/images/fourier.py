"""Pictures by their Fourier coefficients."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.checks import check_max_rms, check_std
from fvlightning.features.images.display import from_display, to_display
from fvlightning.features.images.spectra import frequencies, resize_spectra


class FourierImage(Parametrization):
    """The parameters are Fourier coefficients, scaled so that a step changes each frequency as natural images do.

    ``picture = sigmoid(colour(irfft2(scale * parameters) / 4))``, with ``scale = sqrt(W * H) / max(f, 1 / max(W, H)) **
    decay`` at the frequency f in cycles a pixel (Olah et al. 2017, https://distill.pub/2017/feature-visualization/, and
    lucid's optvis/param/spatial.py). Any number of channels and any size, odd ones too.

    Args:
        decay: How fast the scale falls with the frequency. 1 is that of natural images; 0 makes all frequencies equal;
            larger values make smoother pictures.
        std: Standard deviation of the starting coefficients.
        decorrelate: Whether the parameters of three channels are decorrelated colours (`correlate_colors`).
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black ground.

    Raises:
        InputError: `std` is negative, or `max_rms` is not in (0, 1].
    """

    def __init__(
        self, decay: float = 1.0, std: float = 0.01, decorrelate: bool = True, max_rms: float | None = None
    ) -> None:
        self.decay = decay
        self.std = check_std("FourierImage", std)
        self.decorrelate = decorrelate
        self.max_rms = check_max_rms("FourierImage", max_rms)

    @property
    @override
    def weight_decay(self) -> float:
        # Where light is bounded, contrast is, too.
        return 0.3 if self.max_rms is None else 0.0

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        channels, height, width = image_shape
        return self.std * torch.randn((channels, height, width // 2 + 1, 2), generator=generator)

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        return to_display(self._colors(parameters, image_shape), self.decorrelate, self.max_rms)

    @override
    def invert(self, pictures: Tensor) -> Tensor:
        return self._coefficients(torch.fft.rfft2(from_display(pictures, self.decorrelate)), pictures.shape)

    @override
    def resize(
        self, parameters: Tensor, image_shape: Sequence[int], new_shape: Sequence[int], blur: float = 0.0
    ) -> Tensor:
        """Keep every wave that the new size can show as it is (`resize_spectra`)."""
        # By way of the colours: the inverse transform has no use for part of the parameters, at another size it would.
        spectra = torch.fft.rfft2(self._colors(parameters, image_shape))
        resized = resize_spectra(spectra, image_shape[-2:], new_shape[-2:])
        height, width = new_shape[-2:]
        faded = torch.exp(-2 * (math.pi * blur * frequencies(height, width, resized.device)).square())
        return self._coefficients(resized * faded, new_shape)

    def _colors(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        spectra = torch.view_as_complex(parameters * self._scale(image_shape, parameters.device))
        colors: Tensor = torch.fft.irfft2(spectra, s=tuple(image_shape[-2:]))
        return colors

    def _coefficients(self, spectra: Tensor, image_shape: Sequence[int]) -> Tensor:
        return torch.view_as_real(spectra) / self._scale(image_shape, spectra.device)

    def _scale(self, image_shape: Sequence[int], device: torch.device) -> Tensor:
        """Return what the parameters of a picture are multiplied by, the quarter included, ``(H, W // 2 + 1, 2)``."""
        height, width = image_shape[-2:]
        return _scales(height, width, self.decay, device)


@lru_cache(maxsize=16)  # asked for at every step
def _scales(height: int, width: int, decay: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or it would be of no use to those who want gradients
        bounded = frequencies(height, width, device).clamp(min=1 / max(width, height))
        scales: Tensor = (width * height) ** 0.5 / bounded**decay / 4
        # Of real and imaginary parts each its own: the product with numbers that have to be spread takes twice as long.
        return scales[..., None].repeat(1, 1, 2)
