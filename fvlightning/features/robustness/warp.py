"""How a view looks at other places of its picture: one interpolation, whatever the geometry."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fvlightning.errors import InputError

Border = Literal["reflection", "border", "grey"]


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
    cosines, sines = sides * angles.cos(), sides * angles.sin()
    signs = torch.where(flipped, -1.0, 1.0).to(sides) if flipped is not None else torch.ones_like(sides)
    # Coordinates run from -1 to 1 over both sides, so a rotation of a picture that is not square shears them.
    across = [signs * cosines, -sines * (height / width), shifts[:, 0]]
    down = [signs * sines * (width / height), cosines, shifts[:, 1]]
    matrices = torch.stack([*across, *down], dim=1).reshape(-1, 2, 3)
    return warp(pictures, F.affine_grid(matrices, list(pictures.shape), align_corners=False), border)


def check_border(view: str, border: Border) -> Border:
    """Return the border, if it is one.

    Raises:
        InputError: It is not.
    """
    if border not in get_args(Border):
        raise InputError(f"{view}(border={border!r}): valid are 'reflection', 'border' and 'grey'")
    return border


def check_degrees(view: str, degrees: float) -> float:
    """Return the largest rotation, if it is a number.

    Raises:
        InputError: It is not.
    """
    if not math.isfinite(degrees):
        raise InputError(f"{view}(degrees={degrees}): the largest rotation must be a number of degrees")
    return degrees
