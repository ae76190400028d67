"""Magnitude spectra: how much of each frequency pictures have, wherever it is in them."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.images.display import from_display
from fvlightning.features.images.spectra import frequencies

# Contrast and brightness of natural images before the sigmoid, by channel: the standard deviation of a picture that has
# their mean magnitude, and the mean absolute mean of a picture. Measured (periodic=False) on 200 ImageNet photos of 224
# pixels, three decorrelated colours; for any other number of channels, those of the grey values of the same photos.
_COLOR_CONTRASTS, _COLOR_MEANS = (1.85, 1.55, 1.61), (1.01, 1.59, 1.16)
_GREY_CONTRAST, _GREY_MEAN = 1.03, 0.56
# The spectra of natural images fall about like this; what is left of one after it is taken out is smooth.
_NATURAL_DECAY = 1.5


def natural_magnitude(image_shape: Sequence[int], decay: float = _NATURAL_DECAY) -> Tensor:
    """Return a magnitude spectrum that falls as ``f ** -decay``, with the contrast of natural images.

    Args:
        image_shape: ``(C, H, W)``.
        decay: How fast it falls with the frequency f; about 1.5 in natural images.

    Returns:
        ``(C, H, W // 2 + 1)``, of `torch.fft.rfft2` of the colours before the sigmoid (`from_display`).
    """
    channels, height, width = image_shape
    fall = frequencies(height, width).clamp(min=1 / max(height, width)) ** -decay
    magnitude = fall.expand(channels, -1, -1).clone()
    colored = channels == 3
    contrasts = torch.tensor(_COLOR_CONTRASTS if colored else [_GREY_CONTRAST] * channels)
    means = torch.tensor(_COLOR_MEANS if colored else [_GREY_MEAN] * channels)
    magnitude *= (contrasts / contrast(magnitude, width))[:, None, None]
    magnitude[:, 0, 0] = means * height * width
    return magnitude


def measure_magnitude(
    pictures: Iterable[object], image_shape: Sequence[int], decorrelate: bool = True, periodic: bool = True
) -> Tensor:
    """Return the mean magnitude spectrum of pictures, for `MagnitudeConstrainedImage`.

    It is ``E |rfft2(x)|`` (Fel et al. 2023, https://arxiv.org/abs/2306.06805), where x are the picture's colours before
    the sigmoid (`from_display`): the space in which phases are optimised.

    Args:
        pictures: Pictures ``(C, H, W)`` or batches ``(B, C, H, W)`` in [0, 1], or tuples or lists that begin with
            them, as data loaders give. They are read once, one after the other.
        image_shape: ``(C, H, W)``, which all pictures must have.
        decorrelate: Whether the colours of three channels are decorrelated, as `MagnitudeConstrainedImage` has it.
        periodic: Whether the jumps from the right border to the left and from the bottom to the top, which a Fourier
            transform takes for edges, are left out (Moisan 2011, https://doi.org/10.1007/s10851-010-0227-1). The paper
            has them in; pictures are then more hatched along both axes.

    Returns:
        ``(C, H, W // 2 + 1)``, float32, on the CPU.

    Raises:
        InputError: There are no pictures, or one has another shape, or values that are not in [0, 1].
    """
    shape = tuple(image_shape)
    total, count = torch.zeros(shape[0], shape[1], shape[2] // 2 + 1, dtype=torch.float64), 0
    for given in pictures:
        batch = given[0] if isinstance(given, tuple | list) and given else given
        if not isinstance(batch, Tensor) or batch.shape[-3:] != shape or batch.ndim not in (3, 4):
            found = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"type {type(batch).__name__}"
            raise InputError(f"a magnitude spectrum of pictures {shape} cannot take one of {found}; resize or crop all")
        # Not `min() < 0 or max() > 1`, which lets NaN pass.
        if not bool(((batch >= 0) & (batch <= 1)).all()):
            raise InputError(
                "magnitudes are measured of pictures in [0, 1]; leave out normalisation, divide bytes by 255"
            )
        colors = from_display(batch.detach().float().reshape(-1, *shape), decorrelate)
        spectra = torch.fft.rfft2(colors)
        if periodic:
            spectra = spectra - _border_spectra(colors)
        total += spectra.abs().sum(0, dtype=torch.float64).cpu()
        count += len(colors)
    if not count:
        raise InputError("a magnitude spectrum cannot be measured without pictures; give at least one")
    return (total / count).float()


def resample_magnitude(magnitude: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Return the magnitude spectrum for pictures of another size, which have the same contrast and mean.

    The frequencies are taken in cycles a pixel, between them the logarithm is interpolated after the natural fall, f **
    -1.5, has been taken out, and beyond the lowest one measured the natural fall goes on: natural images are alike at
    all scales (Field 1987, https://doi.org/10.1364/JOSAA.4.002379).

    Args:
        magnitude: ``(C, H, W // 2 + 1)``.
        image_shape: ``(C, H', W')``, of what is wanted.

    Raises:
        InputError: The number of channels differs.
    """
    channels, height, width = image_shape
    if len(magnitude) != channels:
        raise InputError(
            f"the magnitude spectrum has {len(magnitude)} channels, the pictures have {channels}; measure it of "
            f"pictures of {channels} channels: `python -m fvlightning magnitude --output FILE --images FOLDER "
            f"--image_shape '[{channels}, {height}, {width}]'`, or measure_magnitude"
        )
    if magnitude.shape[1:] == (height, width // 2 + 1):
        return magnitude
    old_height, n_columns = magnitude.shape[1:]
    # The half spectrum does not tell odd widths from even ones: a square is taken where it could be one.
    old_width = old_height if old_height // 2 + 1 == n_columns else max(2 * (n_columns - 1), 1)
    old, new = frequencies(old_height, old_width), frequencies(height, width)
    tiny = torch.finfo(magnitude.dtype).tiny
    levels = magnitude.clamp(min=tiny).log() + _NATURAL_DECAY * old.clamp(min=tiny).log()
    if levels[0].numel() > 1:
        # The mean is no frequency: its place is filled, so that the lowest frequencies are not interpolated towards it.
        neighbours = torch.cat([levels[:, 1:2, 0], levels[:, 0, 1:2]], dim=1)
        levels[:, 0, 0] = neighbours.mean(1)
    # Rows in the order of their frequencies, from the most negative one, so that a place in the map is linear in them.
    levels = levels.roll(old_height // 2, dims=1)
    rows = (torch.fft.fftfreq(height) * old_height + old_height // 2) * 2 / max(old_height - 1, 1) - 1
    columns = torch.fft.rfftfreq(width) * old_width * 2 / max(n_columns - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    sampled = F.grid_sample(levels[None], grid, padding_mode="border", align_corners=True)[0]
    resampled = (sampled - _NATURAL_DECAY * new.clamp(min=1 / max(height, width)).log()).exp()
    resampled[:, 0, 0] = 0
    factors = contrast(magnitude, old_width) / contrast(resampled, width).clamp(min=tiny)
    resampled *= factors[:, None, None]
    resampled[:, 0, 0] = magnitude[:, 0, 0] * (height * width) / (old_height * old_width)
    return resampled


def contrast(magnitude: Tensor, width: int) -> Tensor:
    """Return the standard deviations ``(C,)`` of the channels of a picture that has these magnitudes.

    By Parseval's theorem; the mean, which is the first frequency, has no part in it.

    Args:
        magnitude: ``(C, H, W // 2 + 1)``.
        width: W.
    """
    height, n_columns = magnitude.shape[1:]
    # A half spectrum stands for the other half too, but for the columns that are their own mirror image.
    twice = magnitude.new_full((n_columns,), 2.0)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    energy = magnitude.square() * twice
    return (energy.sum((1, 2)) - energy[:, 0, 0]).clamp(min=0).sqrt() / (height * width)


def _border_spectra(colors: Tensor) -> Tensor:
    """Return the spectra of the smooth pictures that have the jumps across the borders of `colors`, ``(B, C, H, W)``.

    They solve Poisson's equation for the jumps, and have a mean of 0.
    """
    height, width = colors.shape[-2:]
    jumps = torch.zeros_like(colors)
    rows, columns = colors[..., -1, :] - colors[..., 0, :], colors[..., -1] - colors[..., 0]
    jumps[..., 0, :] += rows
    jumps[..., -1, :] -= rows
    jumps[..., 0] += columns
    jumps[..., -1] -= columns
    y = torch.fft.fftfreq(height, device=colors.device)[:, None]
    x = torch.fft.rfftfreq(width, device=colors.device)
    laplacian = 2 * torch.cos(2 * torch.pi * y) + 2 * torch.cos(2 * torch.pi * x) - 4
    laplacian[0, 0] = 1
    spectra: Tensor = torch.fft.rfft2(jumps) / laplacian
    spectra[..., 0, 0] = 0
    return spectra
