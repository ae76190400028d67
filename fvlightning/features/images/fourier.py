"""Pictures by their Fourier coefficients."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Image
from fvlightning.features.images.contrast import check_max_rms
from fvlightning.features.images.display import from_display, to_display


class FourierImage(Image):
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
        if not std >= 0:
            raise InputError(f"FourierImage(std={std}): the standard deviation of the start must be at least 0")
        self.decay = decay
        self.std = std
        self.decorrelate = decorrelate
        self.max_rms = check_max_rms("FourierImage", max_rms)

    @override
    def start(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        channels, height, width = image_shape
        return self.std * torch.randn((channels, height, width // 2 + 1, 2), generator=generator)

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        height, width = image_shape[-2:]
        spectra = torch.view_as_complex(parameters * self._scale(height, width, parameters.device))
        colors = torch.fft.irfft2(spectra, s=(height, width)) / 4
        return to_display(colors, self.decorrelate, self.max_rms)

    @override
    def invert(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        spectra = torch.fft.rfft2(4 * from_display(pictures, self.decorrelate))
        return torch.view_as_real(spectra) / self._scale(height, width, pictures.device)

    def _scale(self, height: int, width: int, device: torch.device) -> Tensor:
        rows = torch.fft.fftfreq(height, device=device)[:, None]
        columns = torch.fft.rfftfreq(width, device=device)
        frequencies = torch.hypot(rows, columns).clamp(min=1 / max(width, height))
        scale: Tensor = (width * height) ** 0.5 / frequencies**self.decay
        return scale[..., None]
