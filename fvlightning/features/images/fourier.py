"""Pictures by their Fourier coefficients."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.display import check_max_rms, check_std, from_display, to_display


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

    Args:
        decay: How fast the scale falls with the frequency. 1 is that of natural images; 0 makes all frequencies equal;
            larger values make smoother pictures. The default gives pictures of ImageNet classes the spectrum of
            photographs: steps of one size leave more in the fine frequencies than their scale.
        std: Standard deviation of the initial coefficients.
        decorrelate: Whether the parameters of three channels are decorrelated colours (`correlate_colors`).
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black background.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(
        self, decay: float = 1.3, std: float = 0.01, decorrelate: bool = True, max_rms: float | None = None
    ) -> None:
        self.decay = decay
        self.std = check_std("FourierImage", std)
        self.decorrelate = decorrelate
        self.max_rms = check_max_rms("FourierImage", max_rms)

    @property
    @override
    def weight_decay(self) -> float:
        # A bound on light bounds contrast as well.
        return 0.27 if self.max_rms is None else 0.0

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
        # Through the colours: the inverse transform ignores some parameters that would count at another size.
        spectra = torch.fft.rfft2(self._colors(parameters, image_shape))
        resized = resize_spectra(spectra, image_shape[-2:], new_shape[-2:])
        height, width = new_shape[-2:]
        fading = torch.exp(-2 * (math.pi * blur * frequencies(height, width, resized.device)).square())
        return self._coefficients(resized * fading, new_shape)

    def _colors(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        spectra = torch.view_as_complex(parameters * _scales(*image_shape[-2:], self.decay, parameters.device))
        colors: Tensor = torch.fft.irfft2(spectra, s=tuple(image_shape[-2:]))
        return colors

    def _coefficients(self, spectra: Tensor, image_shape: Sequence[int]) -> Tensor:
        return torch.view_as_real(spectra) / _scales(*image_shape[-2:], self.decay, spectra.device)


@lru_cache(maxsize=16)  # needed at every step
def _scales(height: int, width: int, decay: float, device: torch.device) -> Tensor:
    """Return the factors of a picture's parameters, the quarter included, ``(H, W // 2 + 1, 2)``."""
    with torch.inference_mode(False):  # a tensor made in inference mode cannot take part in a gradient
        bounded = frequencies(height, width, device).clamp(min=1 / max(width, height))
        scales: Tensor = (width * height) ** 0.5 / bounded**decay / 4
        # Repeated for the real and the imaginary part: a product that broadcasts takes twice as long.
        return scales[..., None].repeat(1, 1, 2)


def frequencies(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the frequencies of `torch.fft.rfft2` in cycles per pixel, ``(H, W // 2 + 1)``."""
    rows = torch.fft.fftfreq(height, device=device)[:, None]
    return torch.hypot(rows, torch.fft.rfftfreq(width, device=device))


def resize_spectra(spectra: Tensor, size: Sequence[int], new_size: Sequence[int]) -> Tensor:
    """Return the spectra ``(..., H', W' // 2 + 1)`` of the same pictures at another size.

    The waves stay as they are, except that those too fine for the new size are left out. So at twice the size every
    other pixel is an old one.

    Args:
        spectra: ``(..., H, W // 2 + 1)``, from `torch.fft.rfft2` of real pictures.
        size: ``(H, W)``.
        new_size: ``(H', W')``.
    """
    (height, width), (new_height, new_width) = size, new_size
    n_rows, n_columns = min(height, new_height), min(width, new_width)
    columns = n_columns // 2 + 1
    resized = spectra.new_zeros(*spectra.shape[:-2], new_height, new_width // 2 + 1)
    upper, lower = slice(0, (n_rows + 1) // 2), slice(-(n_rows // 2), None)
    resized[..., upper, :columns] = spectra[..., upper, :columns]
    if n_rows > 1:
        resized[..., lower, :columns] = spectra[..., lower, :columns]
    # At an even size the finest wave is its own mirror image; at a larger size the two are apart, with half each.
    if n_rows % 2 == 0 and height != new_height:
        middle = n_rows // 2
        if new_height > height:
            resized[..., -middle, :] /= 2
            resized[..., middle, :] = resized[..., -middle, :]
        else:
            resized[..., middle, :columns] += spectra[..., middle, :columns]
    if n_columns % 2 == 0 and width != new_width:
        # A half spectrum does not hold the mirror image.
        resized[..., columns - 1] *= 0.5 if new_width > width else 2
    return resized * (new_height * new_width / (height * width))
