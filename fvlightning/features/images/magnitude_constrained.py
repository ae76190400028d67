"""Pictures by their phases alone."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.checks import check_max_rms
from fvlightning.features.images.display import from_display, to_display
from fvlightning.features.images.magnitude import natural_magnitude, resample_magnitude
from fvlightning.features.images.magnitude_files import load_magnitude
from fvlightning.io.digests import digest_of_file


class MagnitudeConstrainedImage(Parametrization):
    """The parameters are the phases of a picture's frequencies; how much of each there is, is fixed to natural images'.

    MaCo (Fel et al. 2023, https://arxiv.org/abs/2306.06805): ``picture = sigmoid(colour(irfft2(r · exp(iφ))))``, with φ
    the parameters and r the mean magnitude spectrum of natural images. A picture cannot fill with the high frequencies
    that networks fall for, and cannot saturate. The sigmoid bounds it to [0, 1]; r is that of the colours before it, so
    that nothing is clipped. The few frequencies that are their own mirror image, the mean among them, are real: they
    have the value r · cos(φ).

    The parameters of a picture are ``(C, H, W // 2 + 1)`` radians, which start uniform over the circle. Any number of
    channels and any size, odd ones too. Made for Adam with a learning rate of 0.05, with crops and noise as views:
    without crops a picture spreads over small copies of what is wanted. Of `torch.optim.NAdam` rates of about 0.2 do,
    with crops that shrink over the run (`ZoomingCrop`); the rate of 1 that the paper reports did badly at 224 pixels,
    with its crops as with larger ones.

    Args:
        magnitude: File of a spectrum that `save_magnitude` wrote after `measure_magnitude`; for pictures of another
            size it is resampled (`resample_magnitude`). None takes `natural_magnitude`.
        decay: How fast the spectrum falls with the frequency, without a file.
        contrast: Factor of all magnitudes. Less than 1 makes paler pictures.
        decorrelate: Whether the frequencies of three channels are those of decorrelated colours (`correlate_colors`). A
            spectrum in a file has to be measured likewise.
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black ground.

    Attributes:
        digest: Fingerprint of the file, so that settings tell one spectrum from another of the same name.

    Raises:
        InputError: A setting is out of its range, or the file cannot be used; when pictures are made, that the
            spectrum has another number of channels.
    """

    # A slot, and not in the instance's dictionary, which holds the settings, as plain values.
    __slots__ = ("_measured",)

    def __init__(
        self,
        magnitude: str | Path | None = None,
        decay: float = 1.5,
        contrast: float = 1.0,
        decorrelate: bool = True,
        max_rms: float | None = None,
    ) -> None:
        if not math.isfinite(decay):
            raise InputError(f"MagnitudeConstrainedImage(decay={decay}): must be finite; 1.5 is natural")
        if not 0 < contrast < math.inf:
            raise InputError(f"MagnitudeConstrainedImage(contrast={contrast}): must be greater than 0 and finite")
        self._measured = None if magnitude is None else load_magnitude(magnitude)
        self.magnitude = None if magnitude is None else str(magnitude)
        self.digest = None if magnitude is None else digest_of_file(magnitude)
        self.decay = decay
        self.contrast = contrast
        self.decorrelate = decorrelate
        self.max_rms = check_max_rms("MagnitudeConstrainedImage", max_rms)

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        channels, height, width = image_shape
        return (2 * torch.rand((channels, height, width // 2 + 1), generator=generator) - 1) * math.pi

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        height, width = image_shape[-2:]
        magnitude = self.spectrum(image_shape).to(parameters).expand_as(parameters)
        phases = _antisymmetric(parameters, width)
        colors = torch.fft.irfft2(torch.polar(magnitude, phases), s=(height, width))
        return to_display(colors, self.decorrelate, self.max_rms)

    @override
    def invert(self, pictures: Tensor) -> Tensor:
        """Return the phases of pictures: the same shapes, but with the contrasts that the spectrum gives them."""
        phases: Tensor = torch.fft.rfft2(from_display(pictures, self.decorrelate)).angle()
        return phases

    def spectrum(self, image_shape: Sequence[int]) -> Tensor:
        """Return the magnitudes ``(C, H, W // 2 + 1)`` of pictures of a shape, on the CPU."""
        if self._measured is None:
            return self.contrast * natural_magnitude(image_shape, self.decay)
        return self.contrast * resample_magnitude(self._measured, image_shape)


def _antisymmetric(phases: Tensor, width: int) -> Tensor:
    """Give the columns that are their own mirror image phases that are: without, half of their magnitude is lost."""
    first, rest = _mirror(phases[..., :1]), phases[..., 1:]
    if width % 2 or not rest.shape[-1]:
        return torch.cat([first, rest], dim=-1)
    return torch.cat([first, rest[..., :-1], _mirror(rest[..., -1:])], dim=-1)


def _mirror(column: Tensor) -> Tensor:
    height = column.shape[-2]
    n_mirrored = (height - 1) // 2
    kept = column[..., : height - n_mirrored, :]
    return torch.cat([kept, -column[..., 1 : 1 + n_mirrored, :].flip(-2)], dim=-2)
