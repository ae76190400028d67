"""A generated set that needs no download."""

import torch
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from fvlightning.data.in_memory import InMemoryDataModule
from fvlightning.data.shapes import CLASS_NAMES, SIDE, draw_shapes
from fvlightning.data.tensors import TensorImages
from fvlightning.errors import InputError


class ShapesDataModule(InMemoryDataModule):
    """Generated 32x32 colour pictures of stripes, grain and shapes in ten classes: no photographs, no download.

    What defines a class is known, a direction, a hue or a fineness, and everything else about its pictures is random,
    so it can be measured whether a picture shows it: `fvlightning.data.shows_class`. The classes are `horizontal`,
    `vertical`, `rising` and `falling` stripes, `checks`, shapes of `red`, `green` and `blue`, `coarse` and `fine`
    grain.

    Training pictures are neither shifted nor mirrored: a mirror would turn rising stripes into falling ones.
    """

    def __init__(
        self,
        train_size: int = 5000,
        test_size: int = 1000,
        val_size: int = 500,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        """Check and keep the settings; nothing is drawn yet.

        Args:
            train_size: Pictures for training, those for validation among them; of each class equally many.
            test_size: Pictures for testing.
            val_size: Number of training pictures that are held out for validation; 0 for none.
            batch_size: Pictures in a batch, of each device.
            seed: Seed of the pictures, of the split, and of the order of the training pictures, which changes with
                every epoch.

        Raises:
            InputError: If a setting is out of its range.
        """
        super().__init__(batch_size=batch_size, val_size=val_size, seed=seed)
        for name, size in (("train_size", train_size), ("test_size", test_size)):
            if size < len(CLASS_NAMES):
                raise InputError(f"{name} must be at least {len(CLASS_NAMES)}, one for each class, got {size}.")
        self.train_size = train_size
        self.test_size = test_size
        self.image_shape = (3, SIDE, SIDE)
        self.class_names = CLASS_NAMES

    @override
    def load(self) -> tuple[TensorImages, TensorImages]:
        """Draw the pictures."""
        rank_zero_info("ShapesDataModule: the pictures are generated shapes and patterns, no photographs.")
        labels = torch.arange(self.train_size + self.test_size) % len(CLASS_NAMES)
        pictures = TensorImages(draw_shapes(labels, self.seed), labels)
        return (
            pictures.subset(torch.arange(self.train_size)),
            pictures.subset(torch.arange(self.train_size, len(pictures))),
        )
