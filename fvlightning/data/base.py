"""The data modules that all others extend."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import override

from fvlightning.data._augment import CropAndFlip, DrawingBatchSampler, DrawnImages, PaddingMode
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import ImageSet, OrderedBatchSampler, ShuffledBatchSampler, TensorImages, batch_loader
from fvlightning.errors import Checked, InputError

Loader = DataLoader[tuple[Tensor, Tensor]]

_STATISTICS_IMAGES = 1000  # the most images that are read from files for the statistics


class Splits(NamedTuple):
    """The three parts of a set. `val` and `test` may be empty."""

    train: ImageSet
    val: ImageSet
    test: ImageSet


class ImageDataModule(Checked, pl.LightningDataModule):
    """Images of one size in classes.

    A subclass implements `read`, and sets `image_shape` and `class_names` there or in its `__init__`; it may override
    `prepare_data` to download.

    Batches reach the model as float32 ``(B, C, H, W)`` in [0, 1] and int64 labels ``(B,)``. They are not normalised:
    that is a layer of the model. Images are sent to the device as bytes, and varied and converted there. The name of
    the class is a hyperparameter, ``data``, of every run.

    Args:
        batch_size: Images in a batch on each device.
        seed: Seed of the splits, and of the order and the variations of the training images, which change with every
            epoch.
        crop_padding: Most pixels that training images are shifted by, up or down and left or right; 4 is usual.
        padding_mode: What comes in at the edge: ``reflect``, the image mirrored, or ``zeros``, black.
        flip: Whether half of the training images are mirrored, left and right exchanged.
        transforms: Random transforms of the training images by worker processes, any of
            `torchvision.transforms.v2` that take bytes and keep their size, such as ``RandAugment``,
            ``TrivialAugmentWide``, ``ColorJitter`` and ``RandomErasing``. They come before shifts and mirrors.
        num_workers: Processes that read and transform images; images in memory need none without `transforms`.
            Default: the number of cores for each device, at most 8.

    Attributes:
        image_shape: ``(C, H, W)``.
        class_names: Name of each class, in the order of the labels.

    Raises:
        InputError: A setting is out of its range.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    def __init__(
        self,
        *,
        batch_size: int = 64,
        seed: int = 0,
        crop_padding: int = 0,
        padding_mode: PaddingMode = "reflect",
        flip: bool = False,
        transforms: list[nn.Module] | None = None,
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self._require(batch_size >= 1, "must be at least 1", batch_size=batch_size)
        self._require(crop_padding >= 0, "must be at least 0 pixels", crop_padding=crop_padding)
        self._require(padding_mode in ("reflect", "zeros"), "must be 'reflect' or 'zeros'", padding_mode=padding_mode)
        self._require(num_workers is None or num_workers >= 0, "must be at least 0", num_workers=num_workers)
        self.save_hyperparameters({"data": type(self).__name__})
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.transforms = transforms or []
        self.augmentation = CropAndFlip(crop_padding, padding_mode, flip)
        self._draws_variations = self.augmentation.is_active or bool(self.transforms)
        self._splits: Splits | None = None

    @abstractmethod
    def read(self) -> Splits:
        """Read the set and return its three parts."""

    def setup(self, stage: str | None = None) -> None:
        """Read the set, once, on every process; raise `InputError` if it is missing, or a setting does not fit it."""
        if self._splits is None:
            splits = self.read()
            side, padding = min(self.image_shape[1:]), self.augmentation.padding
            self._require(
                self.augmentation.padding_mode == "zeros" or padding < side,
                f"must be less than the {side} pixels of the images' shorter side; or set padding_mode: zeros",
                crop_padding=padding,
            )
            self._splits = splits

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def splits(self) -> Splits:
        """The three parts; known after `setup`."""
        if self._splits is None:
            raise RuntimeError(f"{type(self).__name__} has not read its data yet; call setup() first")
        return self._splits

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training images, for values in [0, 1]; known after `setup`."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training images, for values in [0, 1]; known after `setup`."""
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        train = self.splits.train
        if isinstance(train, TensorImages):
            images = train.images
        else:
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))
            images, _ = train[order[:_STATISTICS_IMAGES]]
        values = torch.arange(256, dtype=torch.float64) / 255
        means, deviations = [], []
        for channel in images.unbind(1):
            # Counting the values is exact and needs no float copy of the set.
            share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
            mean = (share * values).sum()
            means.append(mean.item())
            deviations.append((share * (values - mean).square()).sum().sqrt().item())
        return tuple(means), tuple(deviations)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training images, in a new order, with new variations, every epoch."""
        train, settings = self.splits.train, self._batches()
        # With `overfit_batches` the same few batches come again and again.
        if getattr(self.trainer, "overfit_batches", 0) > 0:
            return batch_loader(train, OrderedBatchSampler(train, *settings), self._workers(train))
        if self._draws_variations:
            drawn = DrawnImages(train, self.transforms)
            return batch_loader(drawn, DrawingBatchSampler(train, *settings), self._workers(train, self.transforms))
        return batch_loader(train, ShuffledBatchSampler(train, *settings), self._workers(train))

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return the loader of the validation images, in order; an empty list if the part is empty."""
        return self._ordered_loader(self.splits.val)

    def test_dataloader(self) -> Loader | list[Loader]:
        """Return the loader of the test images, in order; an empty list if the part is empty.

        Raises:
            InputError: The part is empty, and a trainer is about to test.
        """
        if not len(self.splits.test) and self.trainer is not None and self.trainer.testing:
            raise InputError(
                f"{type(self).__name__} has no test images; run validate for the validation images, or set test_size"
            )
        return self._ordered_loader(self.splits.test)

    def predict_dataloader(self) -> Loader | list[Loader]:
        """Return the loader of the test images. See `test_dataloader`."""
        return self.test_dataloader()

    @override
    def on_after_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """Vary training images and convert bytes to pictures in [0, 1], on the batch's device."""
        if isinstance(batch, list | tuple) and len(batch) in (2, 3):
            images, labels, *draws = batch
            if isinstance(images, Tensor) and images.dtype == torch.uint8:
                if draws and self.augmentation.is_active:
                    images = self.augmentation(images, *draws)
                return images.to(torch.float32).div_(255), labels
        return batch

    def _ordered_loader(self, images: ImageSet) -> Loader | list[Loader]:
        if not len(images):
            return []
        return batch_loader(images, OrderedBatchSampler(images, *self._batches()), self._workers(images))

    def _workers(self, images: ImageSet, transforms: Sequence[nn.Module] = ()) -> int:
        """Return the number of worker processes for images."""
        if isinstance(images, TensorImages) and not transforms:
            return 0
        devices = getattr(self.trainer, "num_devices", 1)
        default = max(1, min(8, (os.cpu_count() or 1) // devices))
        return default if self.num_workers is None else self.num_workers

    def _batches(self) -> tuple[int, int, int, int]:
        """Return the batch size, the number of ranks, this rank, and the seed, for samplers."""
        n_ranks, rank = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        return self.batch_size, n_ranks, rank, self.seed


class InMemoryDataModule(ImageDataModule):
    """Images in memory, for training and for testing; those for validation are held out of the training images.

    A subclass implements `load` instead of `read`.

    Args:
        val_size: Number of training images that are held out for validation; 0 for none.
        **settings: See `ImageDataModule`.
    """

    def __init__(self, *, val_size: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self._require(val_size >= 0, "must be at least 0", val_size=val_size)
        self.val_size = val_size

    @abstractmethod
    def load(self) -> tuple[TensorImages, TensorImages]:
        """Read the images for training and validation, and the images for testing."""

    @override
    def read(self) -> Splits:
        train, test = self.load()
        requirement = f"must be less than the {len(train)} training images"
        self._require(self.val_size < len(train), requirement, val_size=self.val_size)
        train_indices, val_indices = stratified_split(train.labels, self.val_size, self.seed)
        return Splits(train.subset(train_indices), train.subset(val_indices), test)
