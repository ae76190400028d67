"""Jitter, scale, rotation and flips."""

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.transforms.base import Transform, amounts, between
from fvlightning.features.transforms.warp import Border, Warp


class RandomAffine(Warp):
    """Jitter, scale and rotation in one warp, which keeps the pictures' size.

    After lucid's jitter, scale and rotation (Olah et al. 2017, https://distill.pub/2017/feature-visualization/), but
    relative to the size of the picture, so that one setting serves 28 pixels and 224.

    Args:
        shift: Largest jitter, up and down, left and right, as a share of the side.
        scale: Smallest and largest factor by which the picture is enlarged.
        degrees: Largest rotation, either way.
        border: What is seen outside of the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.
        flip: Whether every other view, by chance, is mirrored left to right.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(
        self,
        shift: float = 0.05,
        scale: tuple[float, float] = (0.9, 1.1),
        degrees: float = 10.0,
        border: Border = "reflection",
        flip: bool = False,
    ) -> None:
        super().__init__(degrees, border, flip)
        if not 0 <= shift < 1:
            raise InputError(f"RandomAffine(shift={shift}): a share of the side, at least 0 and less than 1")
        if not 0 < scale[0] <= scale[1]:
            raise InputError(f"RandomAffine(scale={scale}): smallest and largest factor, greater than 0")
        self.shift = shift
        self.scale = tuple(scale)

    @override
    def part(self, draws: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
        sides = 1 / between(draws[:, 2], (self.scale[0], self.scale[1]))
        return amounts(draws[:, :2]) * 2 * self.shift, sides


class RandomFlip(Transform):
    """Some of the views, by chance, are mirrored left to right.

    Args:
        probability: How many of them.

    Raises:
        InputError: `probability` is no probability.
    """

    n_draws = 1

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise InputError(f"RandomFlip(probability={probability}): must be at least 0 and at most 1")
        self.probability = probability

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return torch.where(draws[:, :, None, None] < self.probability, pictures.flip(-1), pictures)
