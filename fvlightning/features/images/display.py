"""From the unbounded colours that are optimised to the pictures that are shown, and back."""

import math

import torch
from torch import Tensor

from fvlightning.errors import InputError

# Square root of the colour covariance of natural images, divided by its largest column norm, 0.461952: lucid's
# optvis/param/color.py, https://github.com/tensorflow/lucid.
COLOR_CORRELATION = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.461952
_COLOR_DECORRELATION = torch.linalg.inv(COLOR_CORRELATION.double())
# Pictures are kept this far from 0 and 1 before the inverse of the sigmoid, which is infinite there. Nearer to the ends
# the sigmoid is so flat that an optimisation from there would hardly move.
_MARGIN = 0.01


def to_display(colors: Tensor, decorrelated: bool = True, max_rms: float | None = None) -> Tensor:
    """Return the pictures ``(B, C, H, W)`` in [0, 1] of unbounded colours of the same shape.

    Args:
        colors: The argument of the sigmoid.
        decorrelated: Whether three channels are decorrelated colours (`correlate_colors`).
        max_rms: Bound on the root mean square of a picture (`limit_rms`).
    """
    return limit_rms((correlate_colors(colors) if decorrelated else colors).sigmoid(), max_rms)


def from_display(pictures: Tensor, decorrelated: bool = True) -> Tensor:
    """Return the unbounded colours of pictures: `to_display` turns them into the pictures, clamped to [0.01, 0.99].

    Args:
        pictures: ``(B, C, H, W)`` in [0, 1].
        decorrelated: Whether to decorrelate the colours of three channels (`decorrelate_colors`).
    """
    colors = torch.logit(pictures.clamp(_MARGIN, 1 - _MARGIN))
    return decorrelate_colors(colors) if decorrelated else colors


def correlate_colors(colors: Tensor) -> Tensor:
    """Turn decorrelated colours into colours that are correlated as in natural images.

    A step on the first channel changes brightness, a step on the others the hue. So brightness changes the fastest, as
    in natural images (Olah et al. 2017, https://distill.pub/2017/feature-visualization/#d-footnote-8).

    Args:
        colors: ``(B, 3, H, W)``; any other number of channels is returned as it is.
    """
    return mix_channels(COLOR_CORRELATION, colors)


def decorrelate_colors(colors: Tensor) -> Tensor:
    """Undo `correlate_colors`."""
    return mix_channels(_COLOR_DECORRELATION, colors)


def mix_channels(matrix: Tensor, colors: Tensor) -> Tensor:
    """Multiply colours ``(B, C, H, W)`` by a matrix ``(C, C)``; any other number of channels is returned as it is."""
    if colors.shape[1] != len(matrix):
        return colors
    # One product per picture: `torch.einsum` copies all pictures into one matrix and back.
    return torch.matmul(matrix.to(colors), colors.flatten(2)).view_as(colors)


def limit_rms(pictures: Tensor, max_rms: float | None) -> Tensor:
    """Darken the pictures ``(B, C, H, W)`` whose root mean square is above a bound.

    For data on a black background, such as MNIST, whose digits have a root mean square of about 0.33: without a bound
    the optimum of most units is full contrast everywhere. With it light is a budget for the strokes that matter, and
    the picture of a linear unit is parallel to the positive part of its weights. Scaling in the forward pass makes
    the gradient tangential to the bound, so that every optimiser converges to that.

    Args:
        pictures: ``(B, C, H, W)`` in [0, 1].
        max_rms: The bound, in (0, 1]; None for no bound.
    """
    if max_rms is None:
        return pictures
    rms = pictures.flatten(1).square().mean(1).clamp(min=1e-12).sqrt()
    return pictures * (max_rms / rms).clamp(max=1.0)[:, None, None, None]


def check_max_rms(class_name: str, max_rms: float | None) -> float | None:
    """Return the bound on the root mean square of a picture; raise `InputError` if it is not in (0, 1] or None."""
    if max_rms is not None and not 0 < max_rms <= 1:
        raise InputError(f"{class_name}(max_rms={max_rms}): must be greater than 0 and at most 1, or None for no bound")
    return max_rms


def check_std(class_name: str, std: float) -> float:
    """Return the standard deviation of the initial noise; raise `InputError` if it is negative or not finite."""
    if not 0 <= std < math.inf:
        raise InputError(f"{class_name}(std={std}): must be at least 0 and finite")
    return std
