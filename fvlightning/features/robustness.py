"""Robustness: random views of the pictures, so that a picture excites its unit however one looks at it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError


class View(ABC):
    """A random transformation. Each picture has its own draw.

    Attributes:
        n_draws: How many random numbers one view of one picture takes.
    """

    n_draws: int

    @abstractmethod
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        """Return one view of each picture.

        Args:
            pictures: ``(B, C, H, W)`` in [0, 1].
            draws: ``(B, n_draws)``, uniform in [0, 1), each row from its picture's own generator.
        """


class RandomAffine(View):
    """Jitter, scale and rotation in one warp, which keeps the pictures' size.

    After lucid's jitter, scale and rotation (Olah et al. 2017, https://distill.pub/2017/feature-visualization/), but
    relative to the size of the picture, so that one setting serves 28 pixels and 224.

    Args:
        shift: Largest jitter, up and down, left and right, as a share of the side.
        scale: Smallest and largest factor by which the picture is enlarged.
        degrees: Largest rotation, either way.
        border: What is seen outside of the picture: ``"reflection"``, ``"border"`` (the nearest pixel) or ``"grey"``.

    Raises:
        InputError: A setting is out of its range.
    """

    n_draws = 4

    def __init__(
        self,
        shift: float = 0.05,
        scale: tuple[float, float] = (0.9, 1.1),
        degrees: float = 10.0,
        border: Literal["reflection", "border", "grey"] = "reflection",
    ) -> None:
        if not 0 <= shift < 1:
            raise InputError(f"RandomAffine(shift={shift}): a share of the side, at least 0 and less than 1")
        if not 0 < scale[0] <= scale[1]:
            raise InputError(f"RandomAffine(scale={scale}): smallest and largest factor, greater than 0")
        if not math.isfinite(degrees):
            raise InputError(f"RandomAffine(degrees={degrees}): the largest rotation must be a number of degrees")
        if border not in ("reflection", "border", "grey"):
            raise InputError(f"RandomAffine(border={border!r}): valid are 'reflection', 'border' and 'grey'")
        self.shift = shift
        self.scale = tuple(scale)
        self.degrees = degrees
        self.border = border

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        warped = F.affine_grid(self._matrices(pictures, draws), list(pictures.shape), align_corners=False)
        if self.border == "grey":
            return F.grid_sample(pictures - 0.5, warped, padding_mode="zeros", align_corners=False) + 0.5
        return F.grid_sample(pictures, warped, padding_mode=self.border, align_corners=False)

    def _matrices(self, pictures: Tensor, draws: Tensor) -> Tensor:
        """Return ``(B, 2, 3)``: from places in the view to places in the picture, both in [-1, 1]."""
        height, width = pictures.shape[-2:]
        shifts = (2 * draws[:, :2] - 1) * 2 * self.shift
        low, high = self.scale
        inverse_scales = 1 / (low + (high - low) * draws[:, 2])
        angles = (2 * draws[:, 3] - 1) * math.radians(self.degrees)
        cosines, sines = inverse_scales * angles.cos(), inverse_scales * angles.sin()
        # Coordinates run from -1 to 1 over both sides, so a rotation of a picture that is not square shears them.
        rows = [cosines, -sines * (height / width), shifts[:, 0], sines * (width / height), cosines, shifts[:, 1]]
        return torch.stack(rows, dim=1).reshape(-1, 2, 3)


class Draws:
    """The random numbers of a batch of pictures, each picture's from its own generator, on the pictures' device.

    They are drawn for many steps at once: one transfer to the device, and no wait for it, in every `block` steps.

    Args:
        generators: One a picture, on the CPU.
        n_draws: How many numbers one step of one picture takes.
        device: Where they are wanted.
        block: For how many steps they are drawn at once.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], n_draws: int, device: torch.device, block: int = 32
    ) -> None:
        self._generators = list(generators)
        self._n_draws = n_draws
        self._device = device
        self._block = block
        self._drawn = torch.empty(0, len(self._generators), n_draws)
        self._next = block

    def step(self) -> Tensor:
        """Return the next step's numbers, ``(B, n_draws)``, uniform in [0, 1)."""
        if self._next == self._block:
            shape = (self._block, self._n_draws)
            drawn = torch.stack([torch.rand(shape, generator=generator) for generator in self._generators], dim=1)
            self._drawn = drawn.to(self._device, non_blocking=True)
            self._next = 0
        self._next += 1
        return self._drawn[self._next - 1]

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all pictures but those at `rows`."""
        self._generators = [self._generators[row] for row in rows]
        self._drawn = self._drawn[:, list(rows)]


def random_views(pictures: Tensor, views: Sequence[View], draws: Tensor) -> Tensor:
    """Apply all `views` in turn.

    Args:
        pictures: ``(B, C, H, W)``.
        views: The transformations.
        draws: ``(B, n)``, with n the sum of the views' ``n_draws``.
    """
    draws = draws.to(pictures.dtype)
    first = 0
    for view in views:
        pictures = view(pictures, draws[:, first : first + view.n_draws])
        first += view.n_draws
    return pictures
