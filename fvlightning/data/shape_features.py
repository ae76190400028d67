"""Measure the features that define the classes of `fvlightning.data.shapes`, without a network."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fvlightning.data.shapes import CLASS_NAMES, HUES, STRIPE_DIRECTIONS


class ShapeFeatures(NamedTuple):
    """Measured values, ``(N,)`` each.

    The first four are means over the spectrum of the brightness (the mean of the channels), weighted by the square of
    power times frequency: noise hardly counts, and a slow change of brightness does not hide a fine pattern.
    """

    direction: Tensor
    """Direction in which the brightness changes, degrees in [0, 180): 0 for vertical stripes, 90 for horizontal."""
    directedness: Tensor
    """Dominance of one direction, 0 for none, 1 for perfect stripes: the length of the mean of e^(2i angle)."""
    crossing: Tensor
    """1 for horizontal, vertical or both, -1 for the diagonals, 0 for none: the mean of cos(4 angle)."""
    frequency: Tensor
    """Mean frequency, in cycles across the picture."""
    hue: Tensor
    """Mean hue, weighted by the strength of colours, degrees in [0, 360): red 0, green 120, blue 240."""
    purity: Tensor
    """Dominance of that hue: 0 for all hues alike, 1 for a single one."""
    chroma: Tensor
    """Strength of the colours, root mean square: 0 for grey, at most 1."""


def measure_shapes(pictures: Tensor) -> ShapeFeatures:
    """Measure pictures in [0, 1], float ``(N, 3, H, W)``, H = W, at least 16."""
    pictures = pictures.detach().double().cpu()
    side = pictures.shape[-1]
    brightness = pictures.mean(1)
    window = torch.hann_window(side, periodic=False, dtype=torch.float64)
    flat = (brightness - brightness.mean((1, 2), keepdim=True)) * window * window[:, None]
    axis = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    angle, radius = torch.atan2(axis[:, None], axis), torch.hypot(axis[:, None], axis)
    weight = (radius * torch.fft.fft2(flat).abs().square()).square()
    weight = weight / weight.sum((1, 2), keepdim=True).clamp(min=1e-30)
    doubled = (weight * torch.exp(2j * angle)).sum((1, 2))

    # Averaged over a few pixels, since the noise of single ones has strong colours of all hues.
    red, green, blue = F.avg_pool2d(pictures, max(1, side // 8)).unbind(1)
    colour = torch.complex(red - (green + blue) / 2, (green - blue) * math.sqrt(3) / 2)
    squared = colour.abs().square()
    mean_hue = (squared * torch.exp(1j * colour.angle())).mean((1, 2))
    return ShapeFeatures(
        direction=torch.rad2deg(doubled.angle() / 2) % 180,
        directedness=doubled.abs(),
        crossing=(weight * torch.cos(4 * angle)).sum((1, 2)),
        frequency=(weight * radius).sum((1, 2)),
        hue=torch.rad2deg(mean_hue.angle()) % 360,
        purity=mean_hue.abs() / squared.mean((1, 2)).clamp(min=1e-30),
        chroma=squared.mean((1, 2)).sqrt(),
    )


def shows_class(pictures: Tensor, class_name: str) -> Tensor:
    """Return whether pictures have the feature that defines a class, bool ``(N,)``, whatever else they show.

    See `measure_shapes` for the pictures; `class_name` is one of `CLASS_NAMES`.
    """
    assert class_name in CLASS_NAMES, f"no class {class_name!r}"
    measured = measure_shapes(pictures)
    if class_name in STRIPE_DIRECTIONS:
        off = (measured.direction - STRIPE_DIRECTIONS[class_name] + 90) % 180 - 90
        return (off.abs() < 20) & (measured.directedness > 0.7)
    if class_name in HUES:
        off = (measured.hue - HUES[class_name] + 180) % 360 - 180
        return (off.abs() < 40) & (measured.purity > 0.5) & (measured.chroma > 0.08)
    if class_name == "checks":
        return (measured.crossing > 0.6) & (measured.directedness < 0.8)
    return measured.frequency < 4 if class_name == "coarse" else measured.frequency > 10
