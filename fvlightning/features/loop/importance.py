"""Where a picture matters to its unit."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Above this share of the pixels all are equally important: a few large values would leave the rest transparent.
_CLIPPED_AT = 0.8


class Importance:
    """Spatial importance: how much the unit has asked of each pixel (MaCo, Fel et al. 2023).

    ``Σ over steps of |∂score/∂x|``, at the picture x, the mean over its channels: what optimisation never cared for
    shows itself by small values (https://arxiv.org/abs/2306.06805, section 3.2). Penalties have no part in it.

    Args:
        n_pictures: How many pictures the batch has at first.
        size: ``(H, W)``.
        like: A tensor of the device and the type of number that it is summed with.
    """

    def __init__(self, n_pictures: int, size: tuple[int, ...], like: Tensor) -> None:
        self._sums = like.new_zeros(n_pictures, *size)

    def add(self, places: Tensor, gradients: Tensor, counted: Tensor) -> None:
        """Add a step.

        Args:
            places: ``(b,)``, which of the batch's pictures at first they are.
            gradients: ``(b, C, H, W)`` of the scores to the pictures.
            counted: ``(b,)``, whether the picture made the step.
        """
        amounts = gradients.abs().mean(1)
        self._sums[places] += torch.where(counted[:, None, None], amounts, 0.0)

    def maps(self, places: Sequence[int]) -> Tensor:
        """Return the importance of each pixel, ``(n, H, W)`` in [0, 1]: 1 from the 80th percentile of the picture on.

        A picture that no gradient has reached has none, 0 everywhere. Where more than four fifths of the pixels have
        none, as of a unit that sees only a small part, only the largest is 1.

        Args:
            places: ``(n,)``, which of the batch's pictures at first they are.
        """
        sums = self._sums[list(places)]
        flat = sums.flatten(1)
        # One by one: `quantile` refuses more than 16 million numbers at once.
        highest = torch.stack([row.quantile(_CLIPPED_AT) for row in flat])
        highest = torch.where(highest > 0, highest, flat.amax(1))[:, None, None]
        return torch.where(highest > 0, sums / highest, 0.0).clamp(max=1)
