"""The first steps on smaller pictures, which take less time."""

import copy
from collections.abc import Sequence
from typing import Self

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.transforms.base import Transform, check_share


class CoarseToFine(Transform):
    """Reduces the pictures that the network sees in the first part of the run.

    Large shapes form first, and at 134 pixels a network takes 0.4 of the time that it takes at 224. Unlike with
    `scales`, the picture has its full size from the first step on, and the optimiser keeps its state.

    It belongs behind crops and before noise. The network has to take pictures of several sizes, as convolutional
    networks with global pooling do, and units with a position have to exist at both.

    Args:
        side: Side of the reduced picture as a share of the full one.
        share: The share of the steps, or of each round of `scales`, that see reduced pictures.

    Raises:
        InputError: A setting is out of its range.
    """

    n_draws = 0

    def __init__(self, side: float = 0.6, share: float = 0.75) -> None:
        if not 0 < side <= 1:
            raise InputError(f"CoarseToFine(side={side}): must be greater than 0 and at most 1")
        self.side = side
        self.share = check_share("CoarseToFine", "share", share, below=1)

    @override
    def at(self, progress: float) -> Self:
        if progress < self.share:
            return self
        now = copy.copy(self)
        now.side = 1.0
        return now

    @override
    def shapes(self, image_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [(image_shape[0], *self._size(image_shape[1:])), image_shape]

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        if self.side == 1:
            return pictures
        size = self._size(pictures.shape[-2:])
        return F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)

    def _size(self, size: Sequence[int]) -> list[int]:
        return [max(1, round(self.side * length)) for length in size]
