"""How a view looks at other places of its picture: one interpolation, whatever the geometry."""

import math
from abc import abstractmethod
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.transforms.base import Transform, amounts

Border = Literal["reflection", "border", "grey"]


class Warp(Transform):
    """A part of the picture, enlarged or reduced to the full size, rotated and flipped, in one interpolation.

    Args:
        degrees: Largest rotation, either way.
        border: What is seen outside of the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.
        flip: Whether every other view, by chance, is mirrored left to right.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(self, degrees: float, border: Border, flip: bool) -> None:
        name = type(self).__name__
        if not math.isfinite(degrees):
            raise InputError(f"{name}(degrees={degrees}): the largest rotation must be a number of degrees")
        self.degrees = degrees
        self.border = check_border(name, border)
        self.flip = flip

    @abstractmethod
    def part(self, draws: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
        """Return which part of each picture is seen.

        Args:
            draws: ``(B, 3)``, uniform in [0, 1).
            shorter: The shorter side of the pictures, in pixels.

        Returns:
            Where its middle is, ``(B, 2)``, across and down, from -1 to 1 over the picture; and its side, ``(B,)``, as
            a share of the picture's side.
        """

    @property
    @override
    def n_draws(self) -> int:
        return 5 if self.flip else 4

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        shifts, sides = self.part(draws[:, :3], min(pictures.shape[-2:]))
        angles = amounts(draws[:, 3]) * math.radians(self.degrees)
        flipped = draws[:, 4] < 0.5 if self.flip else None
        return warp_affine(pictures, shifts, sides, angles, flipped, self.border)


def warp(pictures: Tensor, places: Tensor, border: Border) -> Tensor:
    """Interpolate pictures at the places that their views look at.

    Args:
        pictures: ``(B, C, H, W)``.
        places: ``(B, H, W, 2)``, across and down, from -1 to 1 between the outer edges of the picture.
        border: What is seen outside of the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.

    Returns:
        ``(B, C, H, W)``.
    """
    if border == "grey":
        return F.grid_sample(pictures - 0.5, places, padding_mode="zeros", align_corners=False) + 0.5
    return F.grid_sample(pictures, places, padding_mode=border, align_corners=False)


def warp_affine(
    pictures: Tensor, shifts: Tensor, sides: Tensor, angles: Tensor, flipped: Tensor | None, border: Border
) -> Tensor:
    """Flip, rotate, resize and shift each picture, in one interpolation.

    Args:
        pictures: ``(B, C, H, W)``.
        shifts: ``(B, 2)``, where the middle of the view looks, across and down, from -1 to 1 over the picture.
        sides: ``(B,)``, the side of what the view shows, as a share of the picture's side.
        angles: ``(B,)``, in radians.
        flipped: ``(B,)``, whether the view is mirrored left to right. None: no view is.
        border: As in `warp`.

    Returns:
        ``(B, C, H, W)``.
    """
    height, width = pictures.shape[-2:]
    places = _places(height, width, pictures.dtype, pictures.device)
    if flipped is not None:
        places = torch.where(flipped[:, None, None], -places.conj(), places)
    # A complex number turns and resizes another one, which takes a tenth of the time of the product of matrices.
    turns, middles = torch.polar(sides, angles), torch.complex(shifts[:, 0], shifts[:, 1] * (height / width))
    seen = torch.view_as_real((places * turns[:, None, None]).add_(middles[:, None, None]))
    if height != width:
        seen = seen * seen.new_tensor([1, width / height])
    return warp(pictures, seen, border)


@lru_cache(maxsize=16)  # asked for at every step
def _places(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return where the pixels of a picture are, ``(H, W)``, complex: across and i times down, in half its width."""
    with torch.inference_mode(False):  # or it would be of no use to those who want gradients
        across = (2 * torch.arange(width, dtype=dtype, device=device) + 1 - width) / width
        down = (2 * torch.arange(height, dtype=dtype, device=device) + 1 - height) / width
        return torch.complex(across.expand(height, width), down[:, None].expand(height, width))


def check_border(view: str, border: Border) -> Border:
    """Return the border, if it is one.

    Raises:
        InputError: It is not.
    """
    if border not in get_args(Border):
        raise InputError(f"{view}(border={border!r}): valid are 'reflection', 'border' and 'grey'")
    return border
