"""The weights of a first layer as pictures."""

from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from typing_extensions import override

from fvlightning.analysis import first_layer, weight_images
from fvlightning.callbacks.epoch_pictures import EpochPictures
from fvlightning.output import card_parts, contact_sheet, epoch_label, weight_pixels


class WeightImagesCallback(EpochPictures):
    """Shows the weights of a first linear or convolutional layer as pictures, at the end of each epoch.

    Each unit has one picture: the weights of a linear layer in the shape of the network's input, or the kernel of a
    convolution. Several input channels stand side by side with gaps between them, three in the order red, green, blue.
    Blue is negative, white is zero, red is positive; the legend gives the scale, which all pictures of a sheet share.

    Args:
        layer: Path of the layer in the network. Default: the first linear or two-dimensional convolutional layer.
        max_units: The largest number of units to show, from the first on.
        **settings: See `EpochPictures`.

    Raises:
        InputError: A setting is out of its range; when training starts: there is no such layer, it is neither linear
            nor a two-dimensional convolution, or a linear layer's inputs are not the pixels of a picture.
    """

    subfolder = group = "weights"

    def __init__(self, layer: str | None = None, max_units: int = 64, **settings: Any) -> None:
        super().__init__(**settings)
        self._require(max_units >= 1, "must be at least 1", max_units=max_units)
        self.layer = layer
        self.max_units = max_units

    @override
    def prepare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._weights(pl_module)

    @override
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        name, weights = self._weights(pl_module)
        limit = float(weights.abs().max()) or 1.0  # units that are not shown count as well
        pictures = [weight_pixels(image, limit) for image in weights[: self.max_units]]
        channels = ", each unit's red, green, blue" if weights.shape[1] == 3 else ""
        title = f"{name} weights{channels}, {epoch_label(epoch)}"
        labels = [str(unit) for unit in range(len(pictures))]
        sheet = contact_sheet(pictures, labels, title, limit=limit)
        cards = {
            f"{name}/{units}": contact_sheet(pictures[part], labels[part], title, limit=limit)
            for units, part in card_parts(labels).items()
        }
        self.publish(trainer, name, sheet, epoch, cards)

    def _weights(self, pl_module: pl.LightningModule) -> tuple[str, Tensor]:
        """Return the layer's name and its weights ``(units, C, H, W)``."""
        name = self.layer or first_layer(pl_module)
        return name, weight_images(pl_module, name, getattr(pl_module, "input_shape", None))
