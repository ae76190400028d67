"""Transforms of the geometry: where each pixel of a transformed picture looks, and one interpolation there."""

import math
from abc import abstractmethod
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.transforms.base import Transform, check_share, signed

Border = Literal["reflection", "border", "grey"]


class Warp(Transform):
    """A part of the picture, enlarged or reduced to the full size, rotated and flipped, in one interpolation.

    Args:
        degrees: Largest rotation, either way.
        border: What surrounds the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.
        flip: Whether to mirror a picture left to right, with a probability of one half.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(self, degrees: float, border: Border, flip: bool) -> None:
        name = type(self).__name__
        if not math.isfinite(degrees):
            raise InputError(f"{name}(degrees={degrees}): must be a finite number of degrees")
        self.degrees = degrees
        self.border = _check_border(name, border)
        self.flip = flip

    @abstractmethod
    def part(self, draws: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
        """Return the part of each picture that is shown.

        Args:
            draws: ``(B, 3)``, uniform in [0, 1).
            shorter: The shorter side of the pictures, in pixels.

        Returns:
            Its middle, ``(B, 2)``, across and down, from -1 to 1 over the picture; and its side, ``(B,)``, as a share
            of the picture's side.
        """

    @property
    @override
    def n_draws(self) -> int:
        return 5 if self.flip else 4

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        shifts, sides = self.part(draws[:, :3], min(pictures.shape[-2:]))
        height, width = pictures.shape[-2:]
        places = _places(height, width, pictures.dtype, pictures.device)
        if self.flip:
            places = torch.where((draws[:, 4] < 0.5)[:, None, None], -places.conj(), places)
        # A complex number rotates and scales another one, in a tenth of the time of a product of matrices.
        turns = torch.polar(sides, signed(draws[:, 3]) * math.radians(self.degrees))
        middles = torch.complex(shifts[:, 0], shifts[:, 1] * (height / width))
        seen = torch.view_as_real((places * turns[:, None, None]).add_(middles[:, None, None]))
        if height != width:
            seen = seen * seen.new_tensor([1, width / height])
        return _sample(pictures, seen, self.border)


class Perspective(Transform):
    """The picture as a plane seen from an angle: each corner looks at a place near the picture's corner.

    Args:
        distortion: Largest distance of that place from the picture's corner, across and down, inwards and outwards, as
            a share of half the side.
        border: What surrounds the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.

    Raises:
        InputError: `distortion` is not in [0, 0.5), where four corners always span a plane, or `border` is unknown.
    """

    n_draws = 8

    def __init__(self, distortion: float = 0.2, border: Border = "reflection") -> None:
        self.distortion = check_share("Perspective", "distortion", distortion, below=0.5)
        self.border = _check_border("Perspective", border)

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        corners = pictures.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        corners = corners + self.distortion * signed(draws).reshape(-1, 4, 2)
        rows = (torch.arange(height, device=pictures.device, dtype=pictures.dtype) + 0.5) / height
        columns = (torch.arange(width, device=pictures.device, dtype=pictures.dtype) + 0.5) / width
        ones = rows.new_ones(height, width)
        # In homogeneous coordinates, from the unit square.
        square = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width), ones], dim=-1)
        seen = torch.einsum("bij,hwj->bhwi", _projections(corners), square)
        return _sample(pictures, seen[..., :2] / seen[..., 2:], self.border)


def _sample(pictures: Tensor, places: Tensor, border: Border) -> Tensor:
    """Interpolate pictures at places ``(B, H, W, 2)``, across and down, from -1 to 1 between the outer edges."""
    if border == "grey":
        return F.grid_sample(pictures - 0.5, places, padding_mode="zeros", align_corners=False) + 0.5
    return F.grid_sample(pictures, places, padding_mode=border, align_corners=False)


@lru_cache(maxsize=16)  # needed at every step
def _places(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return where the pixels of a picture are, ``(H, W)``, complex: across and i times down, in half its width."""
    with torch.inference_mode(False):  # a tensor made in inference mode cannot take part in a gradient
        across = (2 * torch.arange(width, dtype=dtype, device=device) + 1 - width) / width
        down = (2 * torch.arange(height, dtype=dtype, device=device) + 1 - height) / width
        return torch.complex(across.expand(height, width), down[:, None].expand(height, width))


def _projections(corners: Tensor) -> Tensor:
    """Return the projective maps ``(B, 3, 3)`` from the unit square to quadrilaterals ``(B, 4, 2)``.

    Heckbert 1989, section 2.2.3, https://www.cs.cmu.edu/~ph/texfund/texfund.pdf.
    """
    first, second, third, fourth = corners.unbind(1)
    right, left, excess = second - third, fourth - third, first - second + third - fourth
    area = _cross(right, left)
    g, h = _cross(excess, left) / area, _cross(right, excess) / area
    columns = [second - first + g[:, None] * second, fourth - first + h[:, None] * fourth, first]
    top = torch.stack(columns, dim=2)
    return torch.cat([top, torch.stack([g, h, torch.ones_like(g)], dim=1)[:, None]], dim=1)


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


def _check_border(class_name: str, border: Border) -> Border:
    if border not in get_args(Border):
        raise InputError(f"{class_name}(border={border!r}): must be 'reflection', 'border' or 'grey'")
    return border
