"""Random variations of training images, a whole batch at once on the device that it is on.

The random numbers come with the batch instead of being drawn where it is varied: they depend on the seed, the epoch and
the image alone. So a run that is resumed, or that has other batches, ranks or devices, varies each image as before, and
torch's own random state is left as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from fvlightning.data.tensors import ImageSet, ShuffledBatchSampler
from fvlightning.errors import InputError

N_DRAWS = 7
"""Random numbers of an image: three of `CropAndFlip`, four of `fvlightning.data.decoding.random_window`."""

DRAW_LIMIT = 2**31
"""The numbers are whole, in `[0, DRAW_LIMIT)`: Lightning converts floats to the precision of the run."""

PaddingMode = Literal["reflect", "zeros"]


@dataclass(frozen=True)
class CropAndFlip:
    """Shift each image at random, and mirror every other one, left and right exchanged.

    It is the crop of the image's own size out of the image with a border around it: each of the `(2 padding + 1)^2`
    shifts is equally likely (He et al., https://arxiv.org/abs/1512.03385, section 4.2).

    Attributes:
        padding: Width of the border in pixels; 0 for no shift.
        padding_mode: What is in the border: the image's mirror image, or black.
        flip: Whether images are mirrored, each with probability 1/2.
    """

    padding: int = 0
    padding_mode: PaddingMode = "reflect"
    flip: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.padding < 0:
            raise InputError(f"crop_padding must be at least 0 pixels, got {self.padding}.")
        if self.padding_mode not in ("reflect", "zeros"):
            raise InputError(f"padding_mode must be 'reflect' or 'zeros', got {self.padding_mode!r}.")

    @property
    def is_active(self) -> bool:
        """Whether it changes anything."""
        return self.padding > 0 or self.flip

    def check(self, height: int, width: int) -> None:
        """Refuse images that are too small to be mirrored in the border.

        Raises:
            InputError: If the padding does not fit.
        """
        if self.padding_mode == "reflect" and self.padding >= min(height, width):
            raise InputError(
                f"crop_padding must be less than the {min(height, width)} pixels of the images' shorter side, got "
                f"{self.padding}; give a smaller one, or padding_mode: zeros."
            )

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Vary a batch.

        Args:
            images: `(B, C, H, W)` of any dtype.
            draws: Whole numbers in `[0, DRAW_LIMIT)`, of shape `(B, N_DRAWS)`; the first three columns are used.
        """
        _, channels, height, width = images.shape
        shifts = draws[:, :2] % (2 * self.padding + 1) - self.padding
        rows = torch.arange(height, device=images.device) + shifts[:, :1]  # of the source, (B, H)
        columns = torch.arange(width, device=images.device) + shifts[:, 1:]
        if self.flip:
            columns = torch.where(draws[:, 2:3] % 2 == 1, columns.flip(1), columns)
        # One gather for the whole batch, many times faster than indexing with rows and columns apart.
        source = (_reflected(rows, height)[:, :, None] * width + _reflected(columns, width)[:, None, :]).flatten(1)
        varied = images.flatten(2).gather(2, source[:, None].expand(-1, channels, -1)).view_as(images)
        if self.padding and self.padding_mode == "zeros":
            inside = _is_inside(rows, height)[:, :, None] & _is_inside(columns, width)[:, None, :]
            varied *= inside[:, None]
        return varied


class DrawingBatchSampler(ShuffledBatchSampler):
    """Yield the indices that `ShuffledBatchSampler` yields, and the random numbers of each image for this epoch."""

    @override
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]
        """Yield int64 tensors of shapes `(B,)` and `(B, N_DRAWS)`."""
        generator = self._generator()
        torch.randperm(self.size, generator=generator)  # is the order: what is drawn after it does not depend on it
        draws = torch.randint(DRAW_LIMIT, (self.size, N_DRAWS), generator=generator)
        for indices in super().__iter__():
            yield indices, draws[indices]


class DrawnImages(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """A set for `DrawingBatchSampler`: its batches carry the random numbers that each image is varied by."""

    def __init__(self, images: ImageSet) -> None:
        """Keep the set."""
        self.images = images

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @override
    def __getitem__(self, drawn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return images `(B, C, H, W)`, labels `(B,)` and random numbers `(B, N_DRAWS)`, for what was drawn."""
        return self.images.training_batch(*drawn)


def _reflected(positions: Tensor, size: int) -> Tensor:
    """Mirror positions outside of `[0, size)` at the outermost pixels, which are not repeated."""
    last = size - 1
    # Once at each end is enough for what `check` lets pass; with black borders the clamped ones are not seen.
    return (last - (last - positions.abs()).abs()).clamp_(0, last)


def _is_inside(positions: Tensor, size: int) -> Tensor:
    return (positions >= 0) & (positions < size)
