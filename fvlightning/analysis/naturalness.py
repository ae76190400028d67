"""How natural pictures are by their pixels alone: the fall of the spectrum, and the total variation."""

import torch
from torch import Tensor

_SMALLEST_POWER = 1e-12


def spectral_slope(pictures: Tensor) -> Tensor:
    """Return the slope of the logarithmic power over the logarithmic frequency, of the mean of the channels.

    The power is the mean over each ring of whole cycles a picture, from 2 up to half of the side, under a Hann window.
    Photographs have about -2 to -3 (Field 1987, https://doi.org/10.1364/JOSAA.4.002379), noise has 0.

    Args:
        pictures: ``(B, C, H, W)`` in [0, 1]; of one that is not square, its top left square counts.

    Returns:
        ``(B,)``. 0 of a picture of one colour; not a number of pictures with a side of less than 8 pixels, which have
        fewer than two rings.
    """
    side = min(pictures.shape[-2:])
    radii = torch.arange(2, side // 2, device=pictures.device)
    if len(radii) < 2:
        return pictures.new_full((len(pictures),), torch.nan)
    grey = pictures.mean(1)[:, :side, :side]
    grey = grey - grey.mean((1, 2), keepdim=True)
    window = torch.hann_window(side, periodic=False, device=pictures.device, dtype=pictures.dtype)
    power = torch.fft.fft2(grey * window[:, None] * window).abs().square()
    frequencies = torch.fft.fftfreq(side, 1 / side, device=pictures.device)
    rings = torch.hypot(frequencies[:, None], frequencies).round().long().flatten()
    counts = rings.bincount()
    sums = power.new_zeros(len(pictures), len(counts)).index_add(1, rings, power.flatten(1))
    levels = (sums / counts)[:, radii].clamp(min=_SMALLEST_POWER).log()
    # The least-squares line.
    places = radii.to(levels).log()
    places = places - places.mean()
    slopes: Tensor = (levels * places).sum(1) / places.square().sum()
    return slopes


def total_variation(pictures: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours, down and across together.

    Args:
        pictures: ``(B, C, H, W)`` in [0, 1], of at least 2x2 pixels.

    Returns:
        ``(B,)``, 0 of a picture of one colour, 2 of a checkerboard of black and white pixels.
    """
    down, across = pictures.diff(dim=2).abs(), pictures.diff(dim=3).abs()
    return down.mean((1, 2, 3)) + across.mean((1, 2, 3))
