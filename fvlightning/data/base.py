"""What the data modules of sets that fit into memory share."""

import warnings
from abc import abstractmethod
from typing import NamedTuple

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import Tensor
from torch.utils.data import DataLoader

from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import (
    OrderedBatchSampler,
    ShuffledBatchSampler,
    TensorImages,
    batch_loader,
    channel_statistics,
    to_unit_range,
)
from fvlightning.errors import InputError

Batch = tuple[Tensor, Tensor]


class Splits(NamedTuple):
    """The three parts of a set. `val` may be empty."""

    train: TensorImages
    val: TensorImages
    test: TensorImages


class InMemoryDataModule(L.LightningDataModule):
    """A set of images that lives in memory as bytes.

    A subclass sets `image_shape` and `class_names` in its `__init__` and implements `load`, which reads the images for
    training and those for testing; it may override `prepare_data` to download. Everything else is here: the split for
    validation, batches by slicing, each rank's own part, the conversion to [0, 1] on the device, and the statistics
    that the model's normalisation layer takes.

    Batches reach the model as float32 of shape `(B, C, H, W)` in [0, 1] and int64 labels of shape `(B,)`. They are not
    normalised: that is a layer of the model.

    Attributes:
        image_shape: `(C, H, W)`.
        class_names: Name of each class, in the order of the labels.
        splits: The three parts, after `setup`.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    def __init__(self, batch_size: int = 64, val_size: int = 0, seed: int = 0) -> None:
        """Check and keep the settings.

        Args:
            batch_size: Images in a batch, of each device.
            val_size: Number of training images that are held out for validation; 0 for no validation.
            seed: Seed of the splits and of the order of the training images, which changes with every epoch.

        Raises:
            InputError: If `batch_size` is not positive or `val_size` is negative.
        """
        super().__init__()
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}.")
        if val_size < 0:
            raise InputError(f"val_size must be at least 0, got {val_size}.")
        self.batch_size = batch_size
        self.val_size = val_size
        self.seed = seed
        self._splits: Splits | None = None
        self._statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @abstractmethod
    def load(self) -> tuple[TensorImages, TensorImages]:
        """Read the images for training, those for validation among them, and the images for testing."""

    def setup(self, stage: str | None = None) -> None:
        """Read and split the set, once, on every process.

        Raises:
            InputError: If there is no data, or `val_size` leaves nothing to train on.
        """
        if self._splits is not None:
            return
        train, test = self.load()
        if self.val_size >= len(train):
            raise InputError(f"val_size must be less than the {len(train)} training images, got {self.val_size}.")
        kept, held_out = stratified_split(train.labels, self.val_size, self.seed)
        self._splits = Splits(train.subset(kept), train.subset(held_out), test)

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
            self._statistics = channel_statistics(self.splits.train.images)
        return self._statistics

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the training images, in a new order every epoch."""
        # Under `overfit_batches` the same few batches come again and again.
        overfit = self.trainer is not None and getattr(self.trainer, "overfit_batches", 0) > 0
        return self._loader(self.splits.train, shuffle=not overfit)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return the loader of the images held out for validation, in their order; none if there are no such images."""
        if not len(self.splits.val):
            # Lightning asks whether this was the intention; it was, by `val_size`.
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
            return []
        return self._loader(self.splits.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the test images, in their order."""
        return self._loader(self.splits.test)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the test images, in their order."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        """Turn the bytes of a batch into pictures in [0, 1], on the device that they are on now."""
        if isinstance(batch, list | tuple) and len(batch) == 2:
            images, labels = batch
            if isinstance(images, Tensor) and images.dtype == torch.uint8:
                return to_unit_range(images), labels
        return batch

    def _loader(self, images: TensorImages, shuffle: bool = False) -> DataLoader[Batch]:
        # Lightning recommends worker processes for any loader that has none; here they would only slow it down.
        # https://lightning.ai/docs/pytorch/stable/advanced/warnings.html
        warnings.filterwarnings("ignore", r"The '\w+_dataloader' does not have many workers", PossibleUserWarning)
        ranks, rank = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        if shuffle:
            return batch_loader(images, ShuffledBatchSampler(images, self.batch_size, ranks, rank, self.seed))
        return batch_loader(images, OrderedBatchSampler(images, self.batch_size, ranks, rank))
