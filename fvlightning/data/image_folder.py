"""A user's own images."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import filterfalse
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from fvlightning.data.base import ImageDataModule, Splits
from fvlightning.data.file_images import FileImages, LabelledFile, OnError, for_each_file, report_unreadable
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import ImageSet
from fvlightning.errors import InputError
from fvlightning.io import UnreadableImageError, image_size

_HELD_OUT = 0.1  # of the images, for each of validation and test
_MOST_OPENED = 100_000  # files, before training
_LARGEST_IN_MEMORY = 2**31  # bytes: all of CIFAR-10 eleven times, or 14,000 colour images of 224x224


class ImageFolderDataModule(ImageDataModule):
    """Images in a folder with a subfolder for each class, of any size, in any format that Pillow reads.

    The folder has ``train/CLASS/*``, and may have ``val/CLASS/*`` and ``test/CLASS/*``; a missing part is held out of
    the training images, stratified and seeded. Or it has ``CLASS/*`` only, and both parts are held out. Classes
    whose folders have the names of ImageNet's, ``train/n02099601``, have readable names, "golden retriever".

    Small sets are read into memory as bytes, once on each process of a run; worker processes read large ones batch by
    batch. Images of other sizes than `image_size` are scaled until they cover it and cropped to their middle. Grey,
    palette, transparent (on white) and 16-bit images are converted, and photographs are turned upright.

    Args:
        data_dir: The folder.
        image_size: Side, or height and width, of the images in pixels. Default: the size that all files have.
        channels: 3 for RGB, 1 for grey.
        val_size: Images held out of the training images for validation if the folder has no ``val``: a number, or a
            fraction below 1. Default: 0.1; 0 for none.
        test_size: The same for testing, if the folder has no ``test``.
        crop_area: Least and greatest area of the random window of a file's image that a training image shows, as
            fractions of its area, for example ``[0.35, 1]``. The windows are cut out of the files, so these are not
            kept in memory.
        in_memory: Whether the images are kept in memory; ``auto`` for less than 2 GiB in all.
        on_error: Whether files that are damaged or not images are named in a warning and left out (``skip``), or in an
            error (``raise``).
        **settings: See `ImageDataModule`.
    """

    def __init__(
        self,
        data_dir: str | Path,
        *,
        image_size: int | tuple[int, int] | None = None,
        channels: Literal[1, 3] = 3,
        val_size: int | float | None = None,
        test_size: int | float | None = None,
        crop_area: tuple[float, float] | None = None,
        in_memory: bool | Literal["auto"] = "auto",
        on_error: OnError = "skip",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self._require(channels in (1, 3), "must be 3 for RGB or 1 for grey", channels=channels)
        self._require(size is None or min(size) >= 1, "must be at least 1 pixel", image_size=image_size)
        for name, held_out in (("val_size", val_size), ("test_size", test_size)):
            self._require(
                held_out is None or (held_out >= 0 and (isinstance(held_out, int) or held_out < 1)),
                "must be a number of images, at least 0, or a fraction in [0, 1)",
                **{name: held_out},
            )
        self._require(
            crop_area is None or 0 < crop_area[0] <= crop_area[1] <= 1,
            "must be two fractions with 0 < least <= greatest <= 1",
            crop_area=crop_area,
        )
        self._require(in_memory in (True, False, "auto"), "must be true, false or 'auto'", in_memory=in_memory)
        self._require(
            crop_area is None or in_memory is not True,
            "cuts windows out of the files; leave out in_memory: true, or crop_area",
            crop_area=crop_area,
        )
        self._require(on_error in ("skip", "raise"), "must be 'skip' or 'raise'", on_error=on_error)
        self.data_dir = Path(data_dir)
        self.image_size = size
        self.channels = channels
        self.val_size = val_size
        self.test_size = test_size
        self.crop_area = crop_area
        self.in_memory = in_memory
        self.on_error = on_error
        self._draws_variations |= crop_area is not None
        if size is not None:
            self.image_shape = (channels, *size)
        # Models ask for the names before the images are read; `read` reports problems with the folder.
        with suppress(InputError, OSError):
            self.class_names = _readable_names(_find_classes(_find_parts(self.data_dir)["train"]))

    @override
    def read(self) -> Splits:
        """List the images, read them if they are few, and split them; raise `InputError` if they cannot be used."""
        folders = _find_parts(self.data_dir)
        class_names = _find_classes(folders["train"])
        candidates = [(part, file) for part in folders for file in _list_files(folders[part], class_names)]
        labelled = [file for _, file in candidates]
        # Opening very many files takes minutes, so their damage is left for the workers to notice.
        opens_all = self.image_size is None or len(labelled) <= _MOST_OPENED
        measured: list[tuple[int, int] | UnreadableImageError] = [(0, 0)] * len(labelled)
        sizes = for_each_file(lambda index: image_size(labelled[index].path), labelled) if opens_all else measured
        files: dict[str, list[LabelledFile]] = {part: [] for part in folders}
        examples: dict[tuple[int, int], Path] = {}  # an image of each size
        errors: list[UnreadableImageError] = []
        for (part, file), size in zip(candidates, sizes, strict=True):
            if isinstance(size, UnreadableImageError):
                errors.append(size)
            else:
                files[part].append(file)
                examples.setdefault(size, file.path)
        if self.on_error == "raise":
            report_unreadable(errors, len(candidates), self.on_error)
        _require_images(folders["train"], class_names, {file.label for file in files["train"]}, errors)

        shape = (self.channels, *(self.image_size or _common_size(examples)))
        n_bytes = sum(map(len, files.values())) * math.prod(shape)
        is_small = self.crop_area is None and n_bytes <= _LARGEST_IN_MEMORY
        in_memory = is_small if self.in_memory == "auto" else self.in_memory
        parts: dict[str, ImageSet] = {}
        for part, readable in files.items():
            parts[part] = images = FileImages(readable, shape, self.crop_area, self.on_error)
            if in_memory:
                parts[part], damage = images.load()
                errors += damage
        report_unreadable(errors, len(candidates), self.on_error)
        _require_images(folders["train"], class_names, set(parts["train"].labels.tolist()), errors)
        splits = self._split(parts)
        self.image_shape, self.class_names = shape, _readable_names(class_names)
        return splits

    def _split(self, parts: dict[str, ImageSet]) -> Splits:
        """Hold missing parts out of the training images."""
        train = parts["train"]
        total, remaining = len(train), torch.arange(len(train))
        held_out: dict[str, ImageSet] = {}
        for part, size in (("val", self.val_size), ("test", self.test_size)):
            if part in parts:
                if size is not None:
                    rank_zero_warn(f"{part}_size has no effect: {self.data_dir} has a folder {part}", stacklevel=2)
                held_out[part] = parts[part]
                continue
            share = _HELD_OUT if size is None else size
            count = share if isinstance(share, int) else round(share * total)
            requirement = f"must leave some of the {len(remaining)} training images to train on"
            self._require(count < len(remaining), requirement, **{f"{part}_size": count})
            rest, chosen = stratified_split(train.labels[remaining], count, self.seed)
            held_out[part] = train.subset(remaining[chosen])
            remaining = remaining[rest]
        return Splits(train if len(remaining) == total else train.subset(remaining), held_out["val"], held_out["test"])


def _readable_names(folder_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first names of ImageNet's classes in place of WordNet ids; other names stay."""
    if not all(re.fullmatch(r"n\d{8}", name) for name in folder_names):
        return folder_names
    from timm.data.imagenet_info import ImageNetInfo

    names = ImageNetInfo("imagenet-22k").label_descriptions(as_dict=True)
    return tuple(names.get(name, name).partition(",")[0] for name in folder_names)  # type: ignore[union-attr]


def _find_parts(folder: Path) -> dict[str, Path]:
    """Return the folders of a set's parts; a folder without parts has the training images itself."""
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"data_dir {problem}: {folder}; give a folder with a subfolder of images for each class")
    parts = {part: folder / part for part in ("train", "val", "test") if (folder / part).is_dir()}
    if not parts:
        if len(_find_classes(folder)) == 1 and (train := next(_find_train(folder), None)) is not None:
            raise InputError(f"{folder} has one folder alone, and in it a set of images: give data_dir {train.parent}")
        return {"train": folder}
    if "train" not in parts:
        raise InputError(f"{folder} has {' and '.join(parts)} but no train; put the training images in {folder}/train")
    return parts


def _find_train(folder: Path) -> Iterator[Path]:
    """Yield the folders ``train`` below a folder, as deep as in ImageNet's own archive, ILSVRC/Data/CLS-LOC/train."""
    return (path for depth in range(1, 4) for path in folder.glob("*/" * depth + "train") if path.is_dir())


def _find_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the subfolders that are not hidden, sorted."""
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not _is_hidden(entry.name)))
    if not classes:
        raise InputError(
            f"{folder} has no classes; put images in {folder}/CLASS/, a subfolder for each class (one of any name if "
            "classes do not matter)"
        )
    return classes


def _list_files(folder: Path, class_names: Sequence[str]) -> list[LabelledFile]:
    """List the files in and below the folders of classes, by class and name, without hidden files."""
    if unknown := sorted(set(_find_classes(folder)) - set(class_names)):
        raise InputError(
            f"{folder} has classes that the training images do not have: {_some(unknown)}; their classes: "
            f"{', '.join(class_names)}; rename or remove the folders"
        )
    files = []
    for label, name in enumerate(class_names):
        for parent, subfolders, file_names in os.walk(folder / name, followlinks=True):
            subfolders[:] = sorted(filterfalse(_is_hidden, subfolders))
            files += [LabelledFile(Path(parent, file), label) for file in sorted(filterfalse(_is_hidden, file_names))]
    return files


def _require_images(
    folder: Path, class_names: Sequence[str], labels: set[int], errors: Sequence[UnreadableImageError]
) -> None:
    """Check that every class is among the labels of the images in a folder; name the first file with an error."""
    if empty := [name for label, name in enumerate(class_names) if label not in labels]:
        reasons = [f" ({one.path}: {one.reason})" for one in errors if folder / empty[0] in Path(one.path).parents]
        raise InputError(
            f"no image of {_some(empty)} can be read in {folder}{''.join(reasons[:1])}; add images there, or remove "
            "their folders"
        )


def _some(class_names: Sequence[str]) -> str:
    more = f" and {len(class_names) - 10} more" if len(class_names) > 10 else ""
    return ", ".join(map(repr, class_names[:10])) + more


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _common_size(examples: dict[tuple[int, int], Path]) -> tuple[int, int]:
    """Return the only size, or raise an error that names an image each of two sizes."""
    if len(examples) == 1:
        return next(iter(examples))
    names = [f"{height}x{width} ({path.name})" for (height, width), path in examples.items()]
    raise InputError(
        f"the images have {len(examples)} different sizes, for example {' and '.join(names[:2])}; set image_size, "
        "the side of the images in pixels"
    )
