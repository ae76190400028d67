"""Random variations of training images that depend only on the seed, the epoch and the image, not on the batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from typing_extensions import override

from fvlightning.data.tensors import ImageSet, ShuffledBatchSampler
from fvlightning.errors import InputError

N_DRAWS = 7
"""Random numbers for an image: three for `CropAndFlip`, four for `fvlightning.data.file_images.random_window`."""

DRAW_LIMIT = 2**31
"""The numbers are integers in ``[0, DRAW_LIMIT)``, since Lightning converts floats to the precision of the run."""

PaddingMode = Literal["reflect", "zeros"]


@dataclass(frozen=True)
class CropAndFlip:
    """Shift each image by up to `padding` pixels, and mirror half of them horizontally.

    All shifts are equally likely (He et al., https://arxiv.org/abs/1512.03385, section 4.2).

    Args:
        padding: Width of the border in pixels; 0 for no shift.
        padding_mode: Content of the border: the image's mirror image, or black.
        flip: Whether images are mirrored, each with probability 1/2.
    """

    padding: int = 0
    padding_mode: PaddingMode = "reflect"
    flip: bool = False

    @property
    def is_active(self) -> bool:
        """Whether images change at all."""
        return self.padding > 0 or self.flip

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Vary images ``(B, C, H, W)`` of any dtype by the first three of their random numbers, ``(B, N_DRAWS)``."""
        _, channels, height, width = images.shape
        shifts = draws[:, :2] % (2 * self.padding + 1) - self.padding
        rows = torch.arange(height, device=images.device) + shifts[:, :1]  # of the source, (B, H)
        columns = torch.arange(width, device=images.device) + shifts[:, 1:]
        if self.flip:
            columns = torch.where(draws[:, 2:3] % 2 == 1, columns.flip(1), columns)
        # One gather for the whole batch, many times faster than indexing with rows and columns apart.
        source = (_reflect(rows, height)[:, :, None] * width + _reflect(columns, width)[:, None, :]).flatten(1)
        varied = images.flatten(2).gather(2, source[:, None].expand(-1, channels, -1)).view_as(images)
        if self.padding and self.padding_mode == "zeros":
            is_row, is_column = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
            varied *= is_row[:, None, :, None] & is_column[:, None, None, :]
        return varied


class DrawingBatchSampler(ShuffledBatchSampler):
    """Yield the indices ``(B,)`` of `ShuffledBatchSampler` with each image's random numbers, ``(B, N_DRAWS)``."""

    @override
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]
        generator = self._epoch_generator()
        torch.randperm(self.size, generator=generator)  # draws past the order, on which the numbers must not depend
        draws = torch.randint(DRAW_LIMIT, (self.size, N_DRAWS), generator=generator)
        for indices in super().__iter__():
            yield indices, draws[indices]


class DrawnImages(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """A set for `DrawingBatchSampler`: batches of images ``(B, C, H, W)``, labels ``(B,)`` and random numbers.

    Each image goes through the `transforms` with a random state of its own, so that it does not matter which worker
    process reads it, and with which other images.
    """

    def __init__(self, images: ImageSet, transforms: Sequence[nn.Module] = ()) -> None:
        self.images = images
        self.transforms = transforms

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @override
    def __getitem__(self, drawn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        indices, draws = drawn
        images, is_read = self.images.read(indices, draws)
        draws = draws[is_read]
        if self.transforms:
            with torch.random.fork_rng(devices=[]):
                images = torch.stack(
                    [self._transform(*pair) for pair in zip(images, draws[:, 0].tolist(), strict=True)]
                )
        return images, self.images.labels[indices[is_read]], draws

    def _transform(self, image: Tensor, seed: int) -> Tensor:
        torch.default_generator.manual_seed(seed)
        for transform in self.transforms:
            before, image = image, transform(image)
            if image.shape != before.shape or image.dtype != torch.uint8:
                raise InputError(
                    f"transforms: {type(transform).__name__} makes {image.dtype} {tuple(image.shape)} of uint8 "
                    f"{tuple(before.shape)}; give transforms that keep bytes and size (image_size and crop_area set it)"
                )
        return image


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Mirror positions outside ``[0, size)`` at the outermost pixels, which are not repeated."""
    last = size - 1
    # One reflection at each end is enough, since data modules limit the padding. Black borders hide clamped positions.
    return (last - (last - positions.abs()).abs()).clamp_(0, last)
