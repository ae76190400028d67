"""A user's own images."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from fvlightning.data.augment import PaddingMode
from fvlightning.data.base import ImageDataModule, Splits
from fvlightning.data.file_images import FileImages, OnError, Problem, measure, report
from fvlightning.data.folders import LabelledFiles, find_classes, find_parts, list_files, require_images
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import ImageSet
from fvlightning.errors import InputError

_HELD_OUT = 0.1  # of the images, for each of validation and test
_LARGEST_IN_MEMORY = 2**31  # bytes: all of CIFAR-10 eleven times, or 14,000 colour images of 224x224


class ImageFolderDataModule(ImageDataModule):
    """Images in a folder with a subfolder for each class, of any size, in any format that Pillow reads.

    The folder has `train/CLASS/*`, and may have `val/CLASS/*` and `test/CLASS/*`; a part that it does not have is held
    out of the training images, stratified and seeded. Or it has `CLASS/*` only, and both are held out.

    Small sets are read into memory as bytes, once; large ones are read by worker processes, batch by batch. Images of
    other sizes than `image_size` are scaled until they cover it, and what is over on two sides is cut off. Grey,
    palette, transparent (on white) and 16-bit images are converted, and photographs are turned upright. Every process
    of a run has a copy of its own in memory.
    """

    def __init__(
        self,
        data_dir: str | Path,
        image_size: int | tuple[int, int] | None = None,
        channels: Literal[1, 3] = 3,
        batch_size: int = 64,
        val_size: int | float | None = None,
        test_size: int | float | None = None,
        seed: int = 0,
        crop_padding: int = 0,
        padding_mode: PaddingMode = "reflect",
        flip: bool = False,
        crop_area: tuple[float, float] | None = None,
        in_memory: bool | Literal["auto"] = "auto",
        num_workers: int | None = None,
        on_error: OnError = "skip",
    ) -> None:
        """Check and keep the settings; nothing is read yet.

        Args:
            data_dir: The folder.
            image_size: Side, or height and width, of the pictures in pixels; by default that of the images, which must
                all be alike then.
            channels: 3 for RGB, 1 for grey.
            batch_size: Images in a batch, of each device.
            val_size: Images held out of the training images for validation where the folder has no `val`: a number, or
                a share below 1 of them; 0.1 by default, 0 for none.
            test_size: The same for testing, where the folder has no `test`.
            seed: Seed of the splits, and of the order and the variations of the training images, which change with
                every epoch.
            crop_padding: Pixels that training pictures are shifted by at most, up or down and left or right.
            padding_mode: What comes in at the edge: `reflect`, the picture mirrored, or `zeros`, black.
            flip: Whether every other training picture is mirrored, left and right exchanged.
            crop_area: Least and greatest area of the random window of an image that a training picture shows, as shares
                of the image's area, for example `[0.35, 1]`. The windows are cut out of the files, so these are not
                kept in memory.
            in_memory: Whether the pictures are kept in memory; `auto` for those of less than 2 GiB in all.
            num_workers: Processes that read images which are not kept in memory; by default as many as there are cores,
                eight at most.
            on_error: Whether files that are no images or are damaged are named in a warning and left out (`skip`), or
                in an error (`raise`).

        Raises:
            InputError: If a setting is out of its range.
        """
        super().__init__(
            batch_size=batch_size, seed=seed, crop_padding=crop_padding, padding_mode=padding_mode, flip=flip
        )
        if channels not in (1, 3):
            raise InputError(f"channels must be 3 for RGB or 1 for grey, got {channels!r}.")
        for name, size in (("val_size", val_size), ("test_size", test_size)):
            _check_held_out(name, size)
        if crop_area is not None and not 0 < crop_area[0] <= crop_area[1] <= 1:
            raise InputError(f"crop_area must be two shares with 0 < least <= greatest <= 1, got {list(crop_area)}.")
        if in_memory not in (True, False, "auto"):
            raise InputError(f"in_memory must be true, false or 'auto', got {in_memory!r}.")
        if in_memory is True and crop_area is not None:
            raise InputError("crop_area cuts windows out of the files: leave out in_memory: true, or crop_area.")
        if num_workers is not None and num_workers < 0:
            raise InputError(f"num_workers must be at least 0, got {num_workers}.")
        if on_error not in ("skip", "raise"):
            raise InputError(f"on_error must be 'skip' or 'raise', got {on_error!r}.")
        self.data_dir = Path(data_dir)
        self.image_size = _as_size(image_size)
        self.channels = channels
        self.val_size = val_size
        self.test_size = test_size
        self.crop_area = crop_area
        self.in_memory = in_memory
        self.on_error = on_error
        self._workers_wanted = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        if self.image_size is not None:
            self.image_shape = (channels, *self.image_size)
        # Wanted before the images are read; what is wrong with the folder is said then.
        with suppress(InputError, OSError):
            self.class_names = find_classes(find_parts(self.data_dir)["train"])

    @override
    def read(self) -> Splits:
        """List the images, read them if there are few, and split them.

        Raises:
            InputError: If the folder is not as described, the images' sizes differ and no `image_size` says what to do,
                or a setting does not fit the images.
        """
        folders = find_parts(self.data_dir)
        class_names = find_classes(folders["train"])
        listed = {part: list_files(folder, class_names) for part, folder in folders.items()}
        total = sum(len(files.paths) for files in listed.values())
        files: dict[str, LabelledFiles] = {}
        sizes: dict[tuple[int, int], Path] = {}
        problems: list[Problem] = []
        for part, candidates in listed.items():
            files[part], part_sizes, unreadable = measure(candidates)
            sizes = part_sizes | sizes
            problems += unreadable
        if self.on_error == "raise":
            report(problems, total, self.on_error)
        require_images(folders["train"], class_names, files["train"].labels)

        shape = (self.channels, *(self.image_size or _only_size(sizes)))
        in_memory = self._fits_in_memory(sum(len(part_files.paths) for part_files in files.values()), shape)
        parts: dict[str, ImageSet] = {}
        for part, part_files in files.items():
            images = FileImages(part_files, shape, self.crop_area, self.on_error)
            parts[part] = images
            if in_memory:
                parts[part], damaged = images.load()
                problems += damaged
        report(problems, total, self.on_error)
        require_images(folders["train"], class_names, parts["train"].labels.tolist())
        splits = self._split(parts)
        self.image_shape, self.class_names = shape, class_names
        self.num_workers = 0 if in_memory else self._workers_wanted
        return splits

    @override
    def _varies_training_images(self) -> bool:
        return self.augmentation.is_active or self.crop_area is not None

    def _fits_in_memory(self, images: int, shape: tuple[int, int, int]) -> bool:
        if self.in_memory == "auto":
            return self.crop_area is None and images * math.prod(shape) <= _LARGEST_IN_MEMORY
        return self.in_memory

    def _split(self, parts: dict[str, ImageSet]) -> Splits:
        """Hold the parts that are missing out of the training images."""
        train = parts["train"]
        total, kept = len(train), torch.arange(len(train))
        held_out: dict[str, ImageSet] = {}
        for part, size in (("val", self.val_size), ("test", self.test_size)):
            if part in parts:
                if size is not None:
                    rank_zero_warn(f"{part}_size has no effect: {self.data_dir} has a folder {part}.", stacklevel=2)
                held_out[part] = parts[part]
                continue
            wanted = _HELD_OUT if size is None else size
            count = wanted if isinstance(wanted, int) else round(wanted * total)
            if count >= len(kept):
                raise InputError(
                    f"{part}_size must leave some of the {len(kept)} training images to train on, got {count}."
                )
            rest, chosen = stratified_split(train.labels[kept], count, self.seed)
            held_out[part] = train.subset(kept[chosen])
            kept = kept[rest]
        return Splits(train if len(kept) == total else train.subset(kept), held_out["val"], held_out["test"])


def _check_held_out(name: str, size: int | float | None) -> None:
    if size is not None and (size < 0 or (isinstance(size, float) and size >= 1)):
        raise InputError(f"{name} must be a number of images, at least 0, or a share in [0, 1), got {size}.")


def _as_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise InputError(f"image_size must be at least 1 pixel, got {size}.")
    return height, width


def _only_size(sizes: dict[tuple[int, int], Path]) -> tuple[int, int]:
    """Return the one size of all images; of each size that there is, one image is given."""
    if len(sizes) > 1:
        two = list(sizes.items())[:2]
        examples = " and ".join(f"{height}x{width} ({path.name})" for (height, width), path in two)
        raise InputError(
            f"the images have {len(sizes)} different sizes, for example {examples}: set image_size, the side of the "
            "pictures in pixels."
        )
    return next(iter(sizes))
