"""The data module that all others of encoded images extend, in files or elsewhere."""

import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from fvlightning.data.base import ImageDataModule, Splits
from fvlightning.data.file_images import EncodedImages, OnError, report_unreadable
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import ImageSet
from fvlightning.errors import InputError
from fvlightning.io import UnreadableImageError

_HELD_OUT = 0.1  # of the images, for each of validation and test
_MOST_OPENED = 100_000  # images, before training
_LARGEST_IN_MEMORY = 2**31  # bytes: all of CIFAR-10 eleven times, or 14,000 colour images of 224x224


class EncodedDataModule(ImageDataModule):
    """Images of any size, in any format that Pillow reads.

    Small sets are read into memory as bytes, once on each process of a run; worker processes read large ones batch by
    batch. Images of other sizes than `image_size` are scaled until they cover it and cropped to their middle. Grey,
    palette, transparent (on white) and 16-bit images are converted, and photographs are turned upright.

    A subclass implements `find` and `require_classes`, and may set `class_names` in its `__init__`.

    Args:
        image_size: Side, or height and width, of the images in pixels. Default: the size that all images have.
        channels: 3 for RGB, 1 for grey.
        val_size: Images held out of the training images for validation if the set has none: a number, or a fraction
            below 1. Default: 0.1; 0 for none.
        test_size: The same for testing.
        crop_area: Least and greatest area of the random window of a stored image that a training image shows, as
            fractions of its area, for example ``[0.35, 1]``. The windows are cut out of the stored images, so these
            are not kept in memory.
        in_memory: Whether the images are kept in memory; ``auto`` for less than 2 GiB in all.
        on_error: Whether images that are damaged and files that are not images are named in a warning and left out
            (``skip``), or in an error (``raise``).
        **settings: See `ImageDataModule`.

    Attributes:
        place: Where the images are, for messages.
    """

    place: str | Path

    def __init__(
        self,
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
            "cuts windows out of the stored images; leave out in_memory: true, or crop_area",
            crop_area=crop_area,
        )
        self._require(on_error in ("skip", "raise"), "must be 'skip' or 'raise'", on_error=on_error)
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

    @abstractmethod
    def find(self) -> tuple[dict[str, EncodedImages], tuple[str, ...]]:
        """Find the images, and return them by part, with the names of their classes.

        The parts are ``train`` and, where the set has them, ``val`` and ``test``. Sizes, windows and errors of the
        images are set by `read`.
        """

    @abstractmethod
    def require_classes(
        self, labels: set[int], class_names: Sequence[str], errors: Sequence[UnreadableImageError]
    ) -> None:
        """Raise `InputError` if the labels of the training images that can be read do not suffice."""

    @override
    def read(self) -> Splits:
        """Find the images, read them if they are few, and split them; raise `InputError` if they cannot be used."""
        found, class_names = self.find()
        total = sum(map(len, found.values()))
        errors: list[UnreadableImageError] = []
        examples: dict[tuple[int, int], str] = {}  # an image of each size
        # Opening very many images takes minutes, so their damage is left for the workers to notice.
        if self.image_size is None or total <= _MOST_OPENED:
            for part, images in found.items():
                found[part] = _readable(images, errors, examples)
        if self.on_error == "raise":
            report_unreadable(errors, total, self.on_error)
        self.require_classes(set(found["train"].labels.tolist()), class_names, errors)

        shape = (self.channels, *(self.image_size or _common_size(examples)))
        n_bytes = sum(map(len, found.values())) * math.prod(shape)
        is_small = self.crop_area is None and n_bytes <= _LARGEST_IN_MEMORY
        in_memory = is_small if self.in_memory == "auto" else self.in_memory
        parts: dict[str, ImageSet] = {}
        for part, images in found.items():
            images.shape, images.crop_area, images.on_error = shape, self.crop_area, self.on_error
            parts[part] = images
            if in_memory:
                parts[part], damage = images.load()
                errors += damage
        report_unreadable(errors, total, self.on_error)
        self.require_classes(set(parts["train"].labels.tolist()), class_names, errors)
        splits = self._split(parts)
        self.image_shape, self.class_names = shape, readable_names(class_names)
        return splits

    def _split(self, parts: Mapping[str, ImageSet]) -> Splits:
        """Hold missing parts out of the training images."""
        train = parts["train"]
        total, remaining = len(train), torch.arange(len(train))
        held_out: dict[str, ImageSet] = {}
        for part, size in (("val", self.val_size), ("test", self.test_size)):
            if part in parts:
                if size is not None:
                    rank_zero_warn(f"{part}_size has no effect: {self.place} has {part} images", stacklevel=2)
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


def readable_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the first names of ImageNet's classes in place of WordNet ids and of lists of names; others stay.

    ``n02099601`` is a "golden retriever" if all names are ids, and "tench, Tinca tinca" is a "tench" in any case.
    """
    are_ids = all(re.fullmatch(r"n\d{8}", name) for name in class_names)
    if not are_ids and not any("," in name for name in class_names):
        return tuple(class_names)
    from timm.data.imagenet_info import ImageNetInfo

    names: dict[str, str] = {}
    for subset in ("imagenet-22k", "imagenet-1k"):  # the larger one lacks a few
        names |= ImageNetInfo(subset).label_descriptions(as_dict=True)  # type: ignore[arg-type]
    if are_ids:
        return tuple(names.get(name, name).partition(",")[0] for name in class_names)
    lists = set(names.values())
    return tuple(name.partition(",")[0] if name in lists else name for name in class_names)


def _readable(
    images: EncodedImages, errors: list[UnreadableImageError], examples: dict[tuple[int, int], str]
) -> EncodedImages:
    """Return the images whose sizes can be read, and note the errors of the others, and an image of each size."""
    indices = []
    for index, size in enumerate(images.measure()):
        if isinstance(size, UnreadableImageError):
            errors.append(size)
        else:
            indices.append(index)
            if size not in examples:
                examples[size] = Path(images.encoded(index)[0]).name
    return images if len(indices) == len(images) else images.subset(torch.tensor(indices, dtype=torch.int64))


def _common_size(examples: Mapping[tuple[int, int], str]) -> tuple[int, int]:
    """Return the only size, or raise an error that names an image each of two sizes."""
    if len(examples) == 1:
        return next(iter(examples))
    names = [f"{height}x{width} ({name})" for (height, width), name in examples.items()]
    raise InputError(
        f"the images have {len(examples)} different sizes, for example {' and '.join(names[:2])}; set image_size, "
        "the side of the images in pixels"
    )
