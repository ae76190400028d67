"""Sets of images that are read from files."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from typing_extensions import override

from fvlightning.data.decoding import UnreadableImageError, fit, image_size, random_window, read_image
from fvlightning.data.folders import LabelledFiles
from fvlightning.data.tensors import ImageSet, TensorImages
from fvlightning.errors import InputError

OnError = Literal["skip", "raise"]
Problem = tuple[Path, str]
"""A file that cannot be read, and why."""

_NAMED = 10  # files in one message
_LARGE_FILE = 2**14  # bytes


class FileImages(ImageSet):
    """Images that are read from their files when they are asked for.

    A file that turns out to be damaged is left out of its batch with a warning, or ends the run.
    """

    def __init__(
        self,
        files: LabelledFiles,
        shape: tuple[int, int, int],
        crop_area: tuple[float, float] | None = None,
        on_error: OnError = "skip",
    ) -> None:
        """Keep the names of the files.

        Args:
            files: The files and their classes.
            shape: `(C, H, W)` of the pictures that are made of them; C is 1 or 3.
            crop_area: Least and greatest area of the random window that a training picture shows, as shares of the
                image's; by default it is the largest window in the middle, as for evaluation.
            on_error: Whether a file that cannot be read is left out or ends the run.
        """
        self.files = files
        self.labels = torch.tensor(files.labels, dtype=torch.int64)
        self.shape = shape
        self.crop_area = crop_area
        self.on_error = on_error

    @override
    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Read the images at `index`, int64 of shape `(B,)`: uint8 of shape `(B, C, H, W)`, and labels."""
        images, kept = self._read(index)
        return images, self.labels[index[kept]]

    @override
    def training_batch(self, indices: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read images for training: where there is a `crop_area`, the window that the last four draws say."""
        images, kept = self._read(indices, draws if self.crop_area is not None else None)
        return images, self.labels[indices[kept]], draws[kept]

    @override
    def subset(self, indices: Tensor) -> "FileImages":
        """Return the images at `indices`, int64 of shape `(M,)`, in that order; nothing is read."""
        return FileImages(self.files.subset(indices.tolist()), self.shape, self.crop_area, self.on_error)

    def load(self) -> tuple[TensorImages, list[Problem]]:
        """Read all images into memory; return those that can be read, and the files that cannot."""
        images = torch.empty(len(self), *self.shape, dtype=torch.uint8)

        def read(index: int) -> None:
            images[index] = fit(read_image(self.files.paths[index], self.shape[0]), self.shape[1:])

        errors = _each(read, self.files)
        if not any(errors):
            return TensorImages(images, self.labels), []
        kept = torch.tensor([error is None for error in errors])
        return TensorImages(images[kept], self.labels[kept]), _problems(self.files, errors)

    def _read(self, indices: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the images that can be read, and which of the indices they are, bool of shape `(B,)`."""
        images, problems = [], []
        kept = torch.ones(len(indices), dtype=torch.bool)
        for row, index in enumerate(indices.tolist()):
            path = self.files.paths[index]
            try:
                image = read_image(path, self.shape[0])
            except UnreadableImageError as error:
                problems.append((path, str(error)))
                kept[row] = False
                continue
            window = None
            if draws is not None and self.crop_area is not None:
                window = random_window((image.height, image.width), self.crop_area, draws[row, 3:].tolist())
            images.append(fit(image, self.shape[1:], window))
        report(problems, len(indices), self.on_error, warnings.warn)  # each process has other images
        if not images:
            raise InputError(f"none of the {len(indices)} images of a batch can be read: {problems[0][0]} and others.")
        return torch.stack(images), kept


def measure(files: LabelledFiles) -> tuple[LabelledFiles, dict[tuple[int, int], Path], list[Problem]]:
    """Find out which files are images, and of what size, by their headers.

    Returns:
        The images; each size `(H, W)` that there is, with the first image of it; and the files that are no images.
    """
    sizes: list[tuple[int, int] | None] = [None] * len(files.paths)

    def measure_one(index: int) -> None:
        sizes[index] = image_size(files.paths[index])

    errors = _each(measure_one, files)
    images = files.subset([index for index, error in enumerate(errors) if error is None])
    examples: dict[tuple[int, int], Path] = {}
    for path, size in zip(files.paths, sizes, strict=True):
        if size is not None:
            examples.setdefault(size, path)
    return images, examples, _problems(files, errors)


def report(
    problems: Sequence[Problem], total: int, on_error: OnError, warn: Callable[..., None] = rank_zero_warn
) -> None:
    """Name the files that cannot be read, in one warning, if there are any.

    Args:
        problems: The files.
        total: How many files there are, with those that can be read.
        on_error: Whether it is an error instead.
        warn: Gives the warning; by default only one of the processes of a run does.

    Raises:
        InputError: With the same message, if `on_error` is `raise`.
    """
    if not problems:
        return
    named = "; ".join(f"{path} ({reason})" for path, reason in problems[:_NAMED])
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    message = f"{len(problems)} of {total} files cannot be read as images: {named}{more}"
    if on_error == "raise":
        raise InputError(f"{message}. Remove them, or set on_error: skip to do without them.")
    warn(f"{message}. They are skipped.", stacklevel=2)


def _problems(files: LabelledFiles, errors: Sequence[UnreadableImageError | None]) -> list[Problem]:
    return [(path, str(error)) for path, error in zip(files.paths, errors, strict=True) if error is not None]


def _each(function: Callable[[int], None], files: LabelledFiles) -> list[UnreadableImageError | None]:
    """Call a function with the index of each file, in threads if the files are large.

    Returns:
        What each call has raised, if anything.
    """

    def attempt(index: int) -> UnreadableImageError | None:
        try:
            function(index)
        except UnreadableImageError as error:
            return error
        return None

    indices = range(len(files.paths))
    # Decoding runs in parallel, the rest does not: with small images threads only wait for each other.
    if not files.paths or not _is_large(files.paths[len(indices) // 2]):
        return [attempt(index) for index in indices]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(attempt, indices))


def _is_large(path: Path) -> bool:
    try:
        return path.stat().st_size >= _LARGE_FILE
    except OSError:  # a link that leads nowhere
        return False
