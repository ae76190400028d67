"""Pictures by their phases alone."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.display import check_max_rms, from_display, to_display
from fvlightning.features.images.magnitude import natural_magnitude, resample_magnitude
from fvlightning.features.images.statistics import load_magnitude
from fvlightning.io import digest_of_file


class MagnitudeConstrainedImage(Parametrization):
    """The parameters are the phases of a picture's frequencies; their magnitudes are those of natural images.

    MaCo (Fel et al. 2023, https://arxiv.org/abs/2306.06805): ``picture = sigmoid(colour(irfft2(r · exp(iφ))))``, with φ
    the parameters and r the mean magnitude spectrum of natural images. A picture cannot fill with the high frequencies
    that networks fall for, and cannot saturate. The sigmoid bounds it to [0, 1]; r belongs to the colours before it, so
    that nothing is clipped. The few frequencies that are their own mirror image, such as the mean, are real, with the
    value r · cos(φ).

    The parameters of a picture are ``(C, H, W // 2 + 1)`` radians, which start uniform over the circle. Any number of
    channels and any size, odd ones too. Made for Adam with a learning rate of 0.05, with crops and noise: without crops
    a picture fills with small copies. `torch.optim.NAdam` needs rates of about 0.2, with crops that shrink over the run
    (`ZoomingCrop`); the paper's rate of 1 did badly at 224 pixels, with its crops and with larger ones.

    Args:
        magnitude: File of a spectrum, written by `save_magnitude` after `measure_magnitude`, and resampled for pictures
            of another size (`resample_magnitude`). None for `natural_magnitude`.
        decay: How fast the spectrum falls with the frequency, without a file.
        contrast: Factor of all magnitudes. Less than 1 makes paler pictures.
        decorrelate: Whether the frequencies of three channels are those of decorrelated colours (`correlate_colors`);
            it must match the setting with which the spectrum of a file was measured.
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black background.

    Attributes:
        digest: Digest of the file, so that settings tell spectra of the same name apart; None without a file.

    Raises:
        InputError: A setting is out of its range, or the file cannot be used; when pictures are made: the spectrum has
            another number of channels.
    """

    derived = frozenset({"_measured"})

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
        """Return the phases of pictures, which keep their shapes and take their contrast from the spectrum."""
        phases: Tensor = torch.fft.rfft2(from_display(pictures, self.decorrelate)).angle()
        return phases

    def spectrum(self, image_shape: Sequence[int]) -> Tensor:
        """Return the magnitudes ``(C, H, W // 2 + 1)`` of pictures of a shape, on the CPU."""
        if self._measured is None:
            return self.contrast * natural_magnitude(image_shape, self.decay)
        return self.contrast * resample_magnitude(self._measured, image_shape)


def _antisymmetric(phases: Tensor, width: int) -> Tensor:
    """Mirror the phases of columns that are their own mirror image; otherwise these lose half of their magnitude."""
    first, rest = _mirror(phases[..., :1]), phases[..., 1:]
    if width % 2 or not rest.shape[-1]:
        return torch.cat([first, rest], dim=-1)
    return torch.cat([first, rest[..., :-1], _mirror(rest[..., -1:])], dim=-1)


def _mirror(column: Tensor) -> Tensor:
    height = column.shape[-2]
    n_mirrored = (height - 1) // 2
    first = column[..., : height - n_mirrored, :]
    return torch.cat([first, -column[..., 1 : 1 + n_mirrored, :].flip(-2)], dim=-2)
