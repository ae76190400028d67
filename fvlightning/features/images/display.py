"""Between the unbounded colours that are optimised and the pictures that are shown."""

import torch
from torch import Tensor

from fvlightning.features.images.color import correlate_colors, decorrelate_colors
from fvlightning.features.images.contrast import limit_rms

# Pictures are kept this far from 0 and 1 before the inverse of the sigmoid, which is infinite there. Nearer to the ends
# the sigmoid is so flat that optimisation from such a start would hardly move.
_MARGIN = 0.01


def to_display(colors: Tensor, decorrelated: bool = True, max_rms: float | None = None) -> Tensor:
    """Return the pictures ``(B, C, H, W)`` in [0, 1] of unbounded colours of the same shape.

    Args:
        colors: What the sigmoid is taken of.
        decorrelated: Whether three channels are decorrelated colours (`correlate_colors`).
        max_rms: Bound on the root mean square of a picture (`limit_rms`).
    """
    return limit_rms((correlate_colors(colors) if decorrelated else colors).sigmoid(), max_rms)


def from_display(pictures: Tensor, decorrelated: bool = True) -> Tensor:
    """Return the unbounded colours of pictures: `to_display` of them are the pictures, clamped to [0.01, 0.99].

    Args:
        pictures: ``(B, C, H, W)`` in [0, 1].
        decorrelated: Whether three channels are to be decorrelated colours (`decorrelate_colors`).
    """
    colors = torch.logit(pictures.clamp(_MARGIN, 1 - _MARGIN))
    return decorrelate_colors(colors) if decorrelated else colors
