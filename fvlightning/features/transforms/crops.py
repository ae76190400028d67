"""Crops, jitter, rotation and flips."""

import copy
import math
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.transforms.base import Transform, between, check_share, normal, signed
from fvlightning.features.transforms.warp import Border, Warp

_SMALLEST_SIDE = 0.02


class RandomAffine(Warp):
    """Jitter, scale and rotation in one warp, which keeps the pictures' size.

    After lucid's jitter, scale and rotation (Olah et al. 2017, https://distill.pub/2017/feature-visualization/), but
    relative to the size of the picture, so that one setting serves 28 pixels and 224.

    Args:
        shift: Largest jitter, up and down, left and right, as a share of the side.
        scale: Smallest and largest factor of enlargement.
        degrees: Largest rotation, either way.
        border: What surrounds the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.
        flip: Whether to mirror a picture left to right, with a probability of one half.

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
            raise InputError(f"RandomAffine(shift={shift}): must be at least 0 and less than 1, a share of the side")
        if not 0 < scale[0] <= scale[1]:
            raise InputError(f"RandomAffine(scale={scale}): must be the smallest and largest factor, greater than 0")
        self.shift = shift
        self.scale = tuple(scale)

    @override
    def part(self, draws: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
        sides = 1 / between(draws[:, 2], (self.scale[0], self.scale[1]))
        return signed(draws[:, :2]) * 2 * self.shift, sides


class RandomResizedCrop(Warp):
    """A part of the picture, enlarged to the full size, in one warp with a rotation and a flip.

    Parts from a quarter of the side to all of it are the strongest single remedy for pictures that excite only the
    network that they were made for: details have to excite the unit as well as the whole.

    Args:
        side: Smallest and largest side of the part, as a share of the picture's side; its place is uniform among those
            inside the picture. A side greater than 1 shows the whole picture and `border` around it.
        degrees: Largest rotation, either way.
        border: What surrounds the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.
        flip: Whether to mirror a picture left to right, with a probability of one half.
        smallest: Smallest side of a part in pixels, but at most nine tenths of the side. Details of small pictures
            show little; this makes one setting serve 28 pixels and 224.
        warmup: The first share of the run, or of each round of `scales`, in which the smallest parts shrink linearly
            from the whole picture: objects form before their details. `patience` begins after it.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(
        self,
        side: tuple[float, float] = (0.25, 1.0),
        degrees: float = 0.0,
        border: Border = "reflection",
        flip: bool = False,
        smallest: int = 0,
        warmup: float = 0.0,
    ) -> None:
        super().__init__(degrees, border, flip)
        if not (len(side) == 2 and 0 < side[0] <= side[1] and math.isfinite(side[1])):
            raise InputError(f"RandomResizedCrop(side={side}): must be smallest and largest share, greater than 0")
        if smallest < 0:
            raise InputError(f"RandomResizedCrop(smallest={smallest}): must be at least 0")
        self.side = tuple(side)
        self.smallest = smallest
        self.warmup = check_share("RandomResizedCrop", "warmup", warmup, below=1)

    @override
    def at(self, progress: float) -> Self:
        if progress >= self.warmup:
            return self
        now = copy.copy(self)
        least, most = self.side
        whole = max(least, min(1.0, most))
        now.side = (whole + (least - whole) * progress / self.warmup, most)
        return now

    @override
    def part(self, draws: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
        largest = self.side[1]
        sides = between(draws[:, 2], (min(max(self.side[0], min(self.smallest / shorter, 0.9)), largest), largest))
        return signed(draws[:, :2]) * (1 - sides).abs()[:, None], sides


class ZoomingCrop(Warp):
    """A part of the picture near its middle, enlarged to the full size; the part shrinks from step to step.

    The crops of MaCo (Fel et al. 2023, https://arxiv.org/abs/2306.06805): large ones form the whole picture, small ones
    its details. Their middle is normal about the picture's, so that the unit's feature grows there.

    Args:
        side: Side of the part at the first and at the last step, as a share of the picture's side; it changes linearly.
        side_std: Standard deviation of the side about this value, as a share of it.
        center_std: Standard deviation of the middle about the picture's, across and down, as a share of the side.
        degrees: Largest rotation, either way.
        border: What surrounds the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.
        flip: Whether to mirror a picture left to right, with a probability of one half.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(
        self,
        side: tuple[float, float] = (0.5, 0.05),
        side_std: float = 0.0,
        center_std: float = 0.15,
        degrees: float = 0.0,
        border: Border = "reflection",
        flip: bool = False,
    ) -> None:
        super().__init__(degrees, border, flip)
        if not (len(side) == 2 and all(0 < share <= 1 for share in side)):
            raise InputError(f"ZoomingCrop(side={side}): must be two shares of the side, greater than 0 and at most 1")
        self.side = tuple(side)
        self.side_std = check_share("ZoomingCrop", "side_std", side_std)
        self.center_std = check_share("ZoomingCrop", "center_std", center_std)

    @override
    def at(self, progress: float) -> Self:
        now = copy.copy(self)
        first, last = self.side
        now.side = (first + (last - first) * progress,) * 2
        return now

    @override
    def part(self, draws: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
        sides = self.side[0] * (1 + self.side_std * normal(draws[:, 2]))
        return 2 * self.center_std * normal(draws[:, :2]), sides.clamp(_SMALLEST_SIDE, 1)


class RandomFlip(Transform):
    """Mirrors some of the pictures left to right.

    Args:
        probability: The probability of a flip.

    Raises:
        InputError: `probability` is not in [0, 1].
    """

    n_draws = 1

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise InputError(f"RandomFlip(probability={probability}): must be at least 0 and at most 1")
        self.probability = probability

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return torch.where(draws[:, :, None, None] < self.probability, pictures.flip(-1), pictures)
