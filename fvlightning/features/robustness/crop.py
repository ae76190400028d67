"""Resized crops."""

import math

from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.robustness.base import amounts, between
from fvlightning.features.robustness.warp import Border, Warp


class RandomResizedCrop(Warp):
    """A part of the picture, enlarged to the full size, in one warp with a rotation and a flip.

    Parts from a quarter of the side to all of it are the strongest single means against pictures that excite the
    network that they were made for and no other: a unit has to be excited by a detail as well as by the whole.

    Args:
        side: Smallest and largest side of the part, as a share of the picture's side; its place is uniform among those
            that lie inside of the picture. Of a side greater than 1 the view shows the whole picture and `border`
            around it.
        degrees: Largest rotation, either way.
        border: What is seen outside of the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.
        flip: Whether every other view, by chance, is mirrored left to right.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(
        self,
        side: tuple[float, float] = (0.25, 1.0),
        degrees: float = 0.0,
        border: Border = "reflection",
        flip: bool = False,
    ) -> None:
        super().__init__(degrees, border, flip)
        if not (len(side) == 2 and 0 < side[0] <= side[1] and math.isfinite(side[1])):
            raise InputError(f"RandomResizedCrop(side={side}): smallest and largest share of the side, greater than 0")
        self.side = tuple(side)

    @override
    def part(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        sides = between(draws[:, 2], (self.side[0], self.side[1]))
        return amounts(draws[:, :2]) * (1 - sides).abs()[:, None], sides
