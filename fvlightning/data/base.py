"""What the data modules of images share."""

import warnings
from abc import abstractmethod
from typing import Any, NamedTuple

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from fvlightning.data.augment import CropAndFlip, DrawingBatchSampler, DrawnImages, PaddingMode
from fvlightning.data.tensors import (
    ImageSet,
    OrderedBatchSampler,
    ShuffledBatchSampler,
    TensorImages,
    batch_loader,
    channel_statistics,
    to_unit_range,
)
from fvlightning.errors import InputError

Batch = tuple[Tensor, Tensor]

# The statistics of a set that is read from files are those of so many of its images, drawn by the seed.
_STATISTICS_IMAGES = 1000


class Splits(NamedTuple):
    """The three parts of a set. `val` and `test` may be empty."""

    train: ImageSet
    val: ImageSet
    test: ImageSet


class ImageDataModule(L.LightningDataModule):
    """Images in classes, of one size.

    A subclass sets `image_shape` and `class_names`, in its `__init__` or in `read`, and implements `read`, which gives
    the three parts; it may override `prepare_data` to download. Everything else is here: whole batches by index, each
    rank's own part, random variations of the training images and the conversion to [0, 1] on the device, and the
    statistics that the model's normalisation layer takes.

    Batches reach the model as float32 of shape `(B, C, H, W)` in [0, 1] and int64 labels of shape `(B,)`. They are not
    normalised: that is a layer of the model. The name of the class is a hyperparameter, `data`, of every run.

    Attributes:
        image_shape: `(C, H, W)`.
        class_names: Name of each class, in the order of the labels.
        splits: The three parts, after `setup`.
        num_workers: Processes that read images; 0 where they are in memory.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    def __init__(
        self,
        batch_size: int = 64,
        seed: int = 0,
        crop_padding: int = 0,
        padding_mode: PaddingMode = "reflect",
        flip: bool = False,
    ) -> None:
        """Check and keep the settings.

        Args:
            batch_size: Images in a batch, of each device.
            seed: Seed of the splits, and of the order and the variations of the training images, which change with
                every epoch.
            crop_padding: Pixels that training images are shifted by at most, up or down and left or right.
            padding_mode: What comes in at the edge: `reflect`, the image mirrored, or `zeros`, black.
            flip: Whether every other training image is mirrored, left and right exchanged.

        Raises:
            InputError: If a setting is out of its range.
        """
        super().__init__()
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}.")
        self.save_hyperparameters({"data": type(self).__name__})
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = 0
        self.augmentation = CropAndFlip(crop_padding, padding_mode, flip)
        self._splits: Splits | None = None
        self._statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @abstractmethod
    def read(self) -> Splits:
        """Read the set and return its three parts."""

    def setup(self, stage: str | None = None) -> None:
        """Read the set, once, on every process.

        Raises:
            InputError: If there is no data, or a setting does not fit it.
        """
        if self._splits is None:
            splits = self.read()
            self.augmentation.check(*self.image_shape[1:])
            self._splits = splits

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def splits(self) -> Splits:
        """The three parts; known after `setup`."""
        if self._splits is None:
            raise RuntimeError(f"{type(self).__name__} has not read its data yet; call setup() first.")
        return self._splits

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training images, of values in [0, 1]; known after `setup`."""
        return self._channel_statistics()[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training images, of values in [0, 1]; known after `setup`."""
        return self._channel_statistics()[1]

    def _channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self._statistics is None:
            train = self.splits.train
            if isinstance(train, TensorImages):
                images = train.images
            else:
                order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))
                images, _ = train[order[:_STATISTICS_IMAGES]]
            self._statistics = channel_statistics(images)
        return self._statistics

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training images, in a new order, with new variations, every epoch."""
        # Under `overfit_batches` the same few batches come again and again.
        if self.trainer is not None and getattr(self.trainer, "overfit_batches", 0) > 0:
            return self._ordered_loader(self.splits.train)
        train, settings = self.splits.train, (self.batch_size, *self._ranks(), self.seed)
        _silence_advice_on_workers()
        if self._varies_training_images():
            return batch_loader(DrawnImages(train), DrawingBatchSampler(train, *settings), self.num_workers)
        return batch_loader(train, ShuffledBatchSampler(train, *settings), self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return the loader of the images for validation, in their order; none if there are no such images."""
        return self._ordered_loader(self.splits.val) if len(self.splits.val) else self._no_loader()

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return the loader of the test images, in their order; none if there are no such images."""
        return self._ordered_loader(self.splits.test) if len(self.splits.test) else self._no_loader()

    def predict_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return the loader of the test images, in their order; none if there are no such images."""
        return self.test_dataloader()

    @override
    def on_after_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """Vary training images, and turn bytes into pictures in [0, 1], on the device that they are on now."""
        if isinstance(batch, list | tuple) and len(batch) in (2, 3):
            images, labels, *draws = batch
            if isinstance(images, Tensor) and images.dtype == torch.uint8:
                if draws and self.augmentation.is_active:
                    images = self.augmentation(images, *draws)
                return to_unit_range(images), labels
        return batch

    def _varies_training_images(self) -> bool:
        return self.augmentation.is_active

    def _ranks(self) -> tuple[int, int]:
        """Return the number of ranks, and which one this is."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _ordered_loader(self, images: ImageSet) -> DataLoader[Batch]:
        _silence_advice_on_workers()
        return batch_loader(images, OrderedBatchSampler(images, self.batch_size, *self._ranks()), self.num_workers)

    def _no_loader(self) -> list[DataLoader[Batch]]:
        # Lightning asks whether this was the intention; it was, by `val_size` or `test_size`.
        warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
        return []


def _silence_advice_on_workers() -> None:
    # Lightning recommends worker processes for any loader that has none or few; in memory they would only slow it down,
    # and otherwise their number is the user's decision.
    # https://lightning.ai/docs/pytorch/stable/advanced/warnings.html
    warnings.filterwarnings("ignore", r"The '\w+_dataloader' does not have many workers", PossibleUserWarning)
