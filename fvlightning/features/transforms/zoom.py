"""Crops about the middle, which become smaller over the run."""

import copy
from typing import Self

from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.transforms.base import check_share, normal
from fvlightning.features.transforms.warp import Border, Warp

_SMALLEST_SIDE = 0.02


class ZoomingCrop(Warp):
    """A part of the picture about its middle, enlarged to the full size; from step to step the part becomes smaller.

    The crops of MaCo (Fel et al. 2023, https://arxiv.org/abs/2306.06805): large ones make the whole of the picture,
    small ones its details. Their middle is normal about the picture's, so what the unit looks for grows there.

    Args:
        side: Side of the part at the first and at the last step, as a share of the picture's side; between them it
            changes evenly.
        side_std: Standard deviation of the side about that, as a share of it.
        center_std: Standard deviation of the middle about the picture's, across and down, as a share of the side.
        degrees: Largest rotation, either way.
        border: What is seen outside of the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.
        flip: Whether every other view, by chance, is mirrored left to right.

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
            raise InputError(
                f"ZoomingCrop(side={side}): first and last share of the side, greater than 0 and at most 1"
            )
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
