"""Magnitude spectra: how much of each frequency pictures have, anywhere in them. That of nature, and other sizes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.images._spectra import frequencies

# Contrast and brightness of natural images before the sigmoid, by channel: the standard deviation of a picture that has
# their mean magnitude, and the mean absolute mean of a picture. Measured (periodic=False) on 200 ImageNet photos of 224
# pixels, three decorrelated colours; for any other number of channels, on the grey values of the same photos.
_COLOR_CONTRASTS, _COLOR_MEANS = (1.85, 1.55, 1.61), (1.01, 1.59, 1.16)
_GREY_CONTRAST, _GREY_MEAN = 1.03, 0.56
# The spectra of natural images fall about like this; divided by the fall, a spectrum is smooth.
_NATURAL_DECAY = 1.5


def natural_magnitude(image_shape: Sequence[int], decay: float = _NATURAL_DECAY) -> Tensor:
    """Return a magnitude spectrum ``(C, H, W // 2 + 1)`` that falls as ``f ** -decay``, with natural contrast.

    Args:
        image_shape: ``(C, H, W)``.
        decay: How fast it falls with the frequency f; about 1.5 in natural images.
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


def resample_magnitude(magnitude: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Return the magnitude spectrum ``(C, H', W' // 2 + 1)`` for another size, with the same contrast and mean.

    Frequencies are in cycles per pixel. The logarithm, without the natural fall of ``f ** -1.5``, is interpolated
    between them; below the lowest measured one the natural fall goes on, since natural images are alike at all scales
    (Field 1987, https://doi.org/10.1364/JOSAA.4.002379).

    Args:
        magnitude: ``(C, H, W // 2 + 1)``.
        image_shape: ``(C, H', W')``.

    Raises:
        InputError: The number of channels differs.
    """
    check_channels(magnitude, image_shape)
    _, height, width = image_shape
    if magnitude.shape[1:] == (height, width // 2 + 1):
        return magnitude
    old_height, n_columns = magnitude.shape[1:]
    # A half spectrum does not tell odd widths from even ones: assume a square where it could be one.
    old_width = old_height if old_height // 2 + 1 == n_columns else max(2 * (n_columns - 1), 1)
    old, new = frequencies(old_height, old_width), frequencies(height, width)
    tiny = torch.finfo(magnitude.dtype).tiny
    levels = magnitude.clamp(min=tiny).log() + _NATURAL_DECAY * old.clamp(min=tiny).log()
    if levels[0].numel() > 1:
        # The mean is not a frequency: its place is filled, so that the lowest frequencies do not draw on it.
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


def check_channels(magnitude: Tensor, image_shape: Sequence[int]) -> None:
    """Raise `InputError` if a magnitude spectrum has another number of channels than pictures ``(C, H, W)``."""
    channels, height, width = image_shape
    if len(magnitude) != channels:
        raise InputError(
            f"the magnitude spectrum has {len(magnitude)} channels, the pictures have {channels}; measure it on "
            f"pictures of {channels} channels: `python -m fvlightning magnitude --output FILE --images FOLDER "
            f"--image_shape '[{channels}, {height}, {width}]'`, or measure_magnitude"
        )


def contrast(magnitude: Tensor, width: int) -> Tensor:
    """Return the standard deviations ``(C,)`` of a picture's channels from its magnitudes ``(C, H, W // 2 + 1)``."""
    height, n_columns = magnitude.shape[1:]
    # By Parseval's theorem. Columns of a half spectrum count twice, except those that are their own mirror image.
    twice = magnitude.new_full((n_columns,), 2.0)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    energy = magnitude.square() * twice
    return (energy.sum((1, 2)) - energy[:, 0, 0]).clamp(min=0).sqrt() / (height * width)


def border_spectra(colors: Tensor) -> Tensor:
    """Return the spectra of smooth pictures of mean 0 that solve Poisson's equation for jumps across the borders."""
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
