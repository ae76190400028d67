"""Data modules of sets that fit into memory and have images for training and for testing."""

from abc import abstractmethod
from typing import Any

from typing_extensions import override

from fvlightning.data.base import ImageDataModule, Splits
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import TensorImages
from fvlightning.errors import InputError


class InMemoryDataModule(ImageDataModule):
    """A set of images that lives in memory as bytes, and has images for training and for testing.

    A subclass implements `load` instead of `read`; the images for validation are held out of those for training.
    """

    def __init__(self, batch_size: int = 64, val_size: int = 0, seed: int = 0, **augmentation: Any) -> None:
        """Check and keep the settings.

        Args:
            batch_size: Images in a batch, of each device.
            val_size: Number of training images that are held out for validation; 0 for no validation.
            seed: Seed of the splits, and of the order and the variations of the training images, which change with
                every epoch.
            **augmentation: `crop_padding`, `padding_mode` and `flip` of `ImageDataModule`.

        Raises:
            InputError: If a setting is out of its range.
        """
        super().__init__(batch_size=batch_size, seed=seed, **augmentation)
        if val_size < 0:
            raise InputError(f"val_size must be at least 0, got {val_size}.")
        self.val_size = val_size

    @abstractmethod
    def load(self) -> tuple[TensorImages, TensorImages]:
        """Read the images for training, those for validation among them, and the images for testing."""

    @override
    def read(self) -> Splits:
        """Read and split the set.

        Raises:
            InputError: If there is no data, or `val_size` leaves nothing to train on.
        """
        train, test = self.load()
        if self.val_size >= len(train):
            raise InputError(f"val_size must be less than the {len(train)} training images, got {self.val_size}.")
        kept, held_out = stratified_split(train.labels, self.val_size, self.seed)
        return Splits(train.subset(kept), train.subset(held_out), test)
