"""Pictures by their Fourier coefficients."""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.images._spectra import frequencies, resize_spectra
from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.display import check_max_rms, check_std, from_display, to_display
from fvlightning.features.images.magnitude import check_channels, contrast, resample_magnitude
from fvlightning.features.images.statistics import ImageStatistics, load_statistics
from fvlightning.io import digest_of_file

# The default of `decay`.
_DECAY = 1.4

# The weakest frequency of a measured spectrum, as a share of the strongest: one of 0 could show nothing.
_SMALLEST_SHARE = 1e-4


class FourierImage(Parametrization):
    """The parameters are Fourier coefficients, scaled so that a step changes each frequency as natural images do.

    ``picture = sigmoid(colour(irfft2(scale * parameters) / 4))``, with ``scale = sqrt(W * H) / max(f, 1 / max(W, H)) **
    decay`` at the frequency f in cycles per pixel (Olah et al. 2017, https://distill.pub/2017/feature-visualization/,
    and lucid's optvis/param/spatial.py). Any number of channels and any size, odd ones too.

    Adam makes steps of one size in all coefficients. Their waves carry pixels of small weight to the wrong end of the
    sigmoid, where the gradient vanishes, so pictures of linear units fall up to a tenth short of the optimum in the
    unit box. `PixelImage` reaches it, and so does ``FourierImage(decay=0, decorrelate=False)`` by steps along the
    gradient: ``Maximizer(steps=1500, transforms=[], optimizer=partial(torch.optim.SGD, lr=2.0, momentum=0.9),
    normalize_gradients=True)``.

    With `statistics`, the prior is that of other images than photographs: the scale is their mean magnitude spectrum
    (that of all channels together, at the size of the default decay, so that learning rates keep their meaning), and
    parameters of 0 are their mean colour, from which colours differ as in them.

    Args:
        decay: How fast the scale falls with the frequency, without `statistics`. 1 is that of natural images; 0 makes
            all frequencies equal; larger values make smoother pictures. The default gives pictures of ImageNet classes
            the spectrum of photographs: steps of one size leave more in the fine frequencies than their scale.
        std: Standard deviation of the initial coefficients.
        decorrelate: Whether the parameters of three channels, or with `statistics` of any number, are decorrelated
            colours (`correlate_colors`).
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black background.
        statistics: File of the statistics of your own images, written by ``python -m fvlightning magnitude``, or by
            `save_magnitude` after `measure_statistics`. They are resampled for pictures of another size.

    Attributes:
        digest: Digest of the file, so that settings tell statistics of the same name apart; None without a file.

    Raises:
        InputError: A setting is out of its range, or the file cannot be used; when pictures are made: the statistics
            have another number of channels.
    """

    derived = frozenset({"_measured"})

    def __init__(
        self,
        decay: float = _DECAY,
        std: float = 0.01,
        decorrelate: bool = True,
        max_rms: float | None = None,
        statistics: str | Path | None = None,
    ) -> None:
        self._measured = None if statistics is None else load_statistics(statistics)
        self.statistics = None if statistics is None else str(statistics)
        self.digest = None if statistics is None else digest_of_file(statistics)
        self.decay = decay
        self.std = check_std("FourierImage", std)
        self.decorrelate = decorrelate
        self.max_rms = check_max_rms("FourierImage", max_rms)

    @property
    @override
    def weight_decay(self) -> float:
        # A bound on light bounds contrast as well.
        return 0.45 if self.max_rms is None else 0.0

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        channels, height, width = image_shape
        if self._measured is not None:
            check_channels(self._measured.magnitude, image_shape)
        return self.std * torch.randn((channels, height, width // 2 + 1, 2), generator=generator)

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        colors = self._colors(parameters, image_shape)
        if self._measured is None:
            return to_display(colors, self.decorrelate, self.max_rms)
        return to_display(self._measured.to_colors(colors, self.decorrelate), False, self.max_rms)

    @override
    def invert(self, pictures: Tensor) -> Tensor:
        if self._measured is None:
            colors = from_display(pictures, self.decorrelate)
        else:
            colors = self._measured.from_colors(from_display(pictures, False), self.decorrelate)
        return self._coefficients(torch.fft.rfft2(colors), pictures.shape[1:])

    @override
    def resize(
        self, parameters: Tensor, image_shape: Sequence[int], new_shape: Sequence[int], blur: float = 0.0
    ) -> Tensor:
        """Keep every wave that the new size can show as it is (`resize_spectra`)."""
        # Through the colours: the inverse transform ignores some parameters that would count at another size.
        spectra = torch.fft.rfft2(self._colors(parameters, image_shape))
        resized = resize_spectra(spectra, image_shape[-2:], new_shape[-2:])
        height, width = new_shape[-2:]
        fading = torch.exp(-2 * (math.pi * blur * frequencies(height, width, resized.device)).square())
        return self._coefficients(resized * fading, new_shape)

    def _colors(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        spectra = torch.view_as_complex(parameters * self._scales(image_shape, parameters.device))
        colors: Tensor = torch.fft.irfft2(spectra, s=tuple(image_shape[-2:]))
        return colors

    def _coefficients(self, spectra: Tensor, image_shape: Sequence[int]) -> Tensor:
        return torch.view_as_real(spectra) / self._scales(image_shape, spectra.device)

    def _scales(self, image_shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the factors of a picture's parameters, ``(H, W // 2 + 1, 2)``."""
        if self._measured is None:
            return _falling_scales(*image_shape[-2:], self.decay, device)
        return _measured_scales(self._measured, tuple(image_shape), device)


@lru_cache(maxsize=16)  # needed at every step
def _falling_scales(height: int, width: int, decay: float, device: torch.device) -> Tensor:
    """Return factors that fall with the frequency, the quarter included, ``(H, W // 2 + 1, 2)``."""
    with torch.inference_mode(False):  # a tensor made in inference mode cannot take part in a gradient
        bounded = frequencies(height, width, device).clamp(min=1 / max(width, height))
        scales: Tensor = (width * height) ** 0.5 / bounded**decay / 4
        # Repeated for the real and the imaginary part: a product that broadcasts takes twice as long.
        return scales[..., None].repeat(1, 1, 2)


@lru_cache(maxsize=16)
def _measured_scales(statistics: ImageStatistics, image_shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Return factors that are a measured spectrum, ``(H, W // 2 + 1, 2)``, which make pictures of the usual size."""
    with torch.inference_mode(False):
        height, width = image_shape[-2:]
        # By frequency only: the colours have their own statistics.
        scales = resample_magnitude(statistics.magnitude, image_shape).square().mean(0).sqrt()
        scales[0, 0] = 0  # the mean is no frequency; it changes as the slowest waves do
        scales = scales.clamp(min=_SMALLEST_SHARE * float(scales.max()))
        slowest = [scales[row, column] for row, column in ((1, 0), (0, 1)) if row < height and column <= width // 2]
        if slowest:
            scales[0, 0] = torch.stack(slowest).mean()
        usual = _falling_scales(height, width, _DECAY, torch.device("cpu"))[..., 0]
        size = contrast(usual[None], width) / contrast(scales[None], width)
        scales = scales * size if bool(size.isfinite()) else usual  # images of one colour have no spectrum
        return scales.to(device)[..., None].repeat(1, 1, 2)
