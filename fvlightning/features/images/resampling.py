"""Pictures at another size."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from fvlightning.features.transforms import Blur


def resample(pictures: Tensor, size: Sequence[int], blur: float = 0.0) -> Tensor:
    """Return pictures of another size, by bicubic interpolation, which goes a little beyond the values at edges.

    Args:
        pictures: ``(B, C, H, W)``.
        size: ``(H', W')``. Where it is smaller, what is too fine for it is averaged.
        blur: Standard deviation of a Gaussian blur afterwards, in pixels of the new size; 0 is none.

    Returns:
        ``(B, C, H', W')``.
    """
    resized = F.interpolate(pictures, size=list(size), mode="bicubic", antialias=True, align_corners=False)
    return Blur(blur)(resized, resized.new_zeros(len(resized), 1)) if blur else resized
