"""Sets of images that are decoded when they are asked for, in files or elsewhere."""

import copy
import math
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Literal, NamedTuple, Self, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from typing_extensions import override

from fvlightning.data._augment import DRAW_LIMIT
from fvlightning.data.tensors import ImageSet, TensorImages
from fvlightning.errors import InputError
from fvlightning.io import UnreadableImageError, Window, central_window, image_size, read_image, to_tensor

OnError = Literal["skip", "raise"]
_T = TypeVar("_T")

_MOST_NAMED = 10  # files in one message
_LARGE_IMAGE = 2**14  # bytes


class LabelledFile(NamedTuple):
    """A file, which may or may not be an image, and the index of its class."""

    path: Path
    label: int


class EncodedImages(ImageSet):
    """Images that are decoded when they are asked for.

    A subclass implements `encoded`, and extends `subset`.

    Args:
        labels: Class indices, int64 ``(N,)``.

    Attributes:
        shape: ``(C, H, W)`` of the images after scaling and cropping; C is 1 or 3.
        crop_area: See `EncodedDataModule`.
        on_error: Whether damaged images are left out of their batch with a warning (``skip``) or end the run.
    """

    shape: tuple[int, int, int]
    crop_area: tuple[float, float] | None = None
    on_error: OnError = "skip"

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    @abstractmethod
    def encoded(self, index: int) -> tuple[str | Path, IO[bytes] | None]:
        """Return the file of an image and None; or, of an image without a file, its name for messages and a stream.

        Raises:
            UnreadableImageError: There is nothing to read.
        """

    @override
    def subset(self, indices: Tensor) -> Self:
        images = copy.copy(self)
        images.labels = self.labels[indices]
        return images

    @override
    def read(self, indices: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        images, errors = [], []
        is_read = torch.ones(len(indices), dtype=torch.bool)
        for row, index in enumerate(indices.tolist()):
            try:
                image = self._decode(index)
            except UnreadableImageError as error:
                errors.append(error)
                is_read[row] = False
                continue
            window = None
            if draws is not None and self.crop_area is not None:
                window = random_window((image.height, image.width), self.crop_area, draws[row, 3:].tolist())
            images.append(fit(image, self.shape[1:], window))
        report_unreadable(errors, len(indices), self.on_error, warnings.warn)  # each process has other images
        if not images:
            raise InputError(f"none of the {len(indices)} images of a batch can be read: {errors[0].path} and others")
        return torch.stack(images), is_read

    def measure(self) -> list[tuple[int, int] | UnreadableImageError]:
        """Return the height and width of each image as it is stored, or why it cannot be read."""
        return self._for_each(lambda index: image_size(*self.encoded(index)))

    def load(self) -> tuple[TensorImages, list[UnreadableImageError]]:
        """Read all images into memory; return those that can be read, and the errors of the others."""
        images = torch.empty(len(self), *self.shape, dtype=torch.uint8)

        def load_one(index: int) -> None:
            images[index] = fit(self._decode(index), self.shape[1:])

        results = self._for_each(load_one)
        errors = [result for result in results if result is not None]
        everything = TensorImages(images, self.labels, self.paths)
        if not errors:
            return everything, []
        is_read = torch.tensor([result is None for result in results])
        return everything.subset(is_read.nonzero().flatten()), errors

    def _decode(self, index: int) -> Image.Image:
        name, stream = self.encoded(index)
        return read_image(name, self.shape[0], stream)

    def _for_each(self, function: Callable[[int], _T]) -> list[_T | UnreadableImageError]:
        """Call a function with each index, in threads if the images are large; return results or errors."""

        def attempt(index: int) -> _T | UnreadableImageError:
            try:
                return function(index)
            except UnreadableImageError as error:
                return UnreadableImageError(error.path, error.reason)  # without the frames of the traceback

        indices = range(len(self))
        # Only decoding runs in parallel: with small images threads just wait for each other.
        if not len(self) or self._size_of(len(self) // 2) < _LARGE_IMAGE:
            return [attempt(index) for index in indices]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            return list(threads.map(attempt, indices))

    def _size_of(self, index: int) -> int:
        """Return the number of bytes of an image, 0 if it cannot be read."""
        try:
            name, stream = self.encoded(index)
            return os.path.getsize(name) if stream is None else stream.seek(0, os.SEEK_END)
        except (OSError, UnreadableImageError):  # a link may lead nowhere
            return 0


class FileImages(EncodedImages):
    """Images in files of their own.

    Args:
        files: The files and their classes.
    """

    paths: list[Path]

    def __init__(self, files: Sequence[LabelledFile]) -> None:
        super().__init__(torch.tensor([file.label for file in files], dtype=torch.int64))
        self.paths = [file.path for file in files]

    @override
    def encoded(self, index: int) -> tuple[Path, None]:
        return self.paths[index], None

    @override
    def subset(self, indices: Tensor) -> Self:
        images = super().subset(indices)
        images.paths = [self.paths[index] for index in indices.tolist()]
        return images


def report_unreadable(
    errors: Sequence[UnreadableImageError],
    total: int,
    on_error: OnError = "skip",
    warn: Callable[..., None] = rank_zero_warn,
) -> None:
    """Name the files that cannot be read, among `total` files, in one warning, or in an `InputError` (``raise``)."""
    if not errors:
        return
    names = "; ".join(f"{error.path} ({error.reason})" for error in errors[:_MOST_NAMED])
    more = f"; and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
    message = f"{len(errors)} of {total} files cannot be read as images"
    if on_error == "raise":
        raise InputError(f"{message}: {names}{more}; remove them, or set on_error: skip to leave them out")
    warn(f"{message} and are left out: {names}{more}", stacklevel=2)


def fit(image: Image.Image, size: tuple[int, int], window: Window | None = None) -> Tensor:
    """Crop an image of mode ``RGB`` or ``L`` to a window and scale it, with antialiasing.

    Args:
        image: The image.
        size: Height and width of the result.
        window: The part that is shown. Default: the largest window in the middle with the proportions of `size`.

    Returns:
        uint8 ``(C, H, W)``.
    """
    window = window or central_window((image.height, image.width), size)
    if window != (0, 0, *size) or (image.height, image.width) != size:
        from torchvision.transforms.v2 import functional

        image = functional.resized_crop(image, *window, size=list(size), antialias=True)
    return to_tensor(image)


def random_window(source: tuple[int, int], area: tuple[float, float], draws: Sequence[int]) -> Window:
    """Return a random window of a source ``(H, W)``, cut at the image's border.

    Its area is uniform between two fractions of the image's, its width over height log-uniform between 3/4 and 4/3
    (Szegedy et al., https://arxiv.org/abs/1409.4842). `draws` are four integers in ``[0, DRAW_LIMIT)``.
    """
    area_draw, shape_draw, down, right = (draw / DRAW_LIMIT for draw in draws)
    pixels = source[0] * source[1] * (area[0] + (area[1] - area[0]) * area_draw)
    aspect = math.exp(math.log(4 / 3) * (2 * shape_draw - 1))
    height = min(source[0], max(1, round(math.sqrt(pixels / aspect))))
    width = min(source[1], max(1, round(math.sqrt(pixels * aspect))))
    return int(down * (source[0] - height + 1)), int(right * (source[1] - width + 1)), height, width
