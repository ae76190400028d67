"""Resized crops."""

import math

from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.transforms.base import amounts, between
from fvlightning.features.transforms.warp import Border, Warp


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
        smallest: No part has a side of fewer pixels than this, unless it has nine tenths of the side: there is little
            to see in the details of small pictures, and this makes one setting serve 28 pixels and 224.

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
    ) -> None:
        super().__init__(degrees, border, flip)
        if not (len(side) == 2 and 0 < side[0] <= side[1] and math.isfinite(side[1])):
            raise InputError(f"RandomResizedCrop(side={side}): smallest and largest share of the side, greater than 0")
        if smallest < 0:
            raise InputError(f"RandomResizedCrop(smallest={smallest}): a number of pixels, at least 0")
        self.side = tuple(side)
        self.smallest = smallest

    @override
    def part(self, draws: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
        largest = self.side[1]
        sides = between(draws[:, 2], (min(max(self.side[0], min(self.smallest / shorter, 0.9)), largest), largest))
        return amounts(draws[:, :2]) * (1 - sides).abs()[:, None], sides
