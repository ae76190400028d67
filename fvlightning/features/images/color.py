"""Colour decorrelation."""

import torch
from torch import Tensor

# Square root of the colour covariance of natural images, with its largest column norm, 0.461952, divided out: lucid's
# optvis/param/color.py, https://github.com/tensorflow/lucid.
COLOR_CORRELATION = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.461952
_COLOR_DECORRELATION = torch.linalg.inv(COLOR_CORRELATION.double())


def correlate_colors(colors: Tensor) -> Tensor:
    """Turn decorrelated colours into correlated ones, whose steps are as likely as those of natural images.

    A step on the first channel changes brightness, on the other two the hue; brightness then changes the fastest, as in
    natural images (Olah et al. 2017, https://distill.pub/2017/feature-visualization/#d-footnote-8).

    Args:
        colors: ``(B, 3, H, W)``; with any other number of channels they are returned as they are.
    """
    return _mix_channels(COLOR_CORRELATION, colors)


def decorrelate_colors(colors: Tensor) -> Tensor:
    """Undo `correlate_colors`.

    Args:
        colors: ``(B, 3, H, W)``; with any other number of channels they are returned as they are.
    """
    return _mix_channels(_COLOR_DECORRELATION, colors)


def _mix_channels(matrix: Tensor, colors: Tensor) -> Tensor:
    if colors.shape[1] != 3:
        return colors
    # Of each picture by itself: `torch.einsum` copies all of them, so that they are one matrix, there and back.
    return torch.matmul(matrix.to(colors), colors.flatten(2)).view_as(colors)
