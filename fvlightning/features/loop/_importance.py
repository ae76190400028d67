"""Where a picture matters to its unit."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Pixels above this quantile are equally important: a few large values would leave the rest transparent.
_CLIPPED_AT = 0.8


class Importance:
    """Spatial importance: how strongly the score depended on each pixel (MaCo, Fel et al. 2023).

    ``Σ over steps of |∂score/∂x|`` at the picture x, the mean over its channels: parts that optimisation never cared
    for have small values (https://arxiv.org/abs/2306.06805, section 3.2). Penalties do not count.

    Args:
        n_pictures: The number of pictures in the initial batch.
        size: ``(H, W)``.
        like: A tensor with the device and dtype of the sums.
    """

    def __init__(self, n_pictures: int, size: tuple[int, ...], like: Tensor) -> None:
        self._sums = like.new_zeros(n_pictures, *size)

    def add(self, rows: Tensor, gradients: Tensor, counted: Tensor) -> None:
        """Add a step.

        Args:
            rows: ``(b,)``, the pictures, by their rows in the initial batch.
            gradients: ``(b, C, H, W)``, of the scores to the pictures.
            counted: ``(b,)``, whether the picture made the step.
        """
        amounts = gradients.abs().mean(1)
        self._sums[rows] += torch.where(counted[:, None, None], amounts, 0.0)

    def maps(self, rows: Sequence[int]) -> Tensor:
        """Return the importance of each pixel, ``(n, H, W)`` in [0, 1]; it is 1 above the picture's 80th percentile.

        A picture that no gradient has reached is 0 everywhere. If more than four fifths of the pixels are 0, as for a
        unit that sees a small part, only the largest is 1.
        """
        sums = self._sums[list(rows)]
        flat = sums.flatten(1)
        # One by one: `quantile` refuses more than 16 million numbers at once.
        highest = torch.stack([row.quantile(_CLIPPED_AT) for row in flat])
        highest = torch.where(highest > 0, highest, flat.amax(1))[:, None, None]
        return torch.where(highest > 0, sums / highest, 0.0).clamp(max=1)
