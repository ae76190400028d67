"""Views from aside."""

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.transforms.base import Transform, amounts, check_share
from fvlightning.features.transforms.warp import Border, check_border, warp


class Perspective(Transform):
    """The picture as a plane seen from aside: each corner of the view looks at a place near the picture's corner.

    Args:
        distortion: How far from the picture's corner that place may be, across and down, inwards and outwards, as a
            share of half the side.
        border: What is seen outside of the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.

    Raises:
        InputError: `distortion` is not in [0, 0.5), where four corners always span a plane, or `border` is unknown.
    """

    n_draws = 8

    def __init__(self, distortion: float = 0.2, border: Border = "reflection") -> None:
        self.distortion = check_share("Perspective", "distortion", distortion, below=0.5)
        self.border = check_border("Perspective", border)

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        corners = pictures.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        corners = corners + self.distortion * amounts(draws).reshape(-1, 4, 2)
        rows = (torch.arange(height, device=pictures.device, dtype=pictures.dtype) + 0.5) / height
        columns = (torch.arange(width, device=pictures.device, dtype=pictures.dtype) + 0.5) / width
        ones = rows.new_ones(height, width)
        # In homogeneous coordinates, from the unit square.
        square = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width), ones], dim=-1)
        seen = torch.einsum("bij,hwj->bhwi", _plane(corners), square)
        return warp(pictures, seen[..., :2] / seen[..., 2:], self.border)


def _plane(corners: Tensor) -> Tensor:
    """Return the projective maps ``(B, 3, 3)`` from the unit square to quadrilaterals ``(B, 4, 2)``.

    Heckbert 1989, Fundamentals of Texture Mapping and Image Warping, section 2.2.3:
    https://www.cs.cmu.edu/~ph/texfund/texfund.pdf.
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
