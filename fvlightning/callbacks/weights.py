"""The weights of a first layer as pictures."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.callbacks.epoch_pictures import EpochPictures
from fvlightning.errors import InputError
from fvlightning.features.capture import find_layer
from fvlightning.output import Pixels, card_parts, contact_sheet, epoch_label, to_pixels

_SIDE = 4  # of a weight, in pixels


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
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._weights(pl_module)
        super().on_fit_start(trainer, pl_module)

    @override
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        name, weights = self._weights(pl_module)
        limit = float(weights.abs().max()) or 1.0  # units that are not shown count as well
        pictures = [_side_by_side(image, limit) for image in weights[: self.max_units]]
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
        paths = (path for path, module in pl_module.named_modules() if isinstance(module, nn.Linear | nn.Conv2d))
        name = self.layer or str(next(paths, "")).removeprefix("net.")
        if not name:
            raise InputError(f"{type(pl_module).__name__} has no Linear or Conv2d layer whose weights could be shown")
        layer = find_layer(pl_module, name)
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise InputError(
                f"layer {name!r} is a {type(layer).__name__}; WeightImagesCallback shows Linear and Conv2d layers"
            )
        weights = layer.weight.detach().float().cpu()
        if isinstance(layer, nn.Conv2d):
            return name, weights
        shape = getattr(pl_module, "input_shape", None)
        if shape is None or torch.Size(shape).numel() != layer.in_features:
            raise InputError(
                f"layer {name!r} takes {layer.in_features} inputs, which are not the pixels of a picture of shape "
                f"{shape}; choose the first layer of the network"
            )
        return name, weights.reshape(-1, *shape)


def _side_by_side(weights: Tensor, limit: float) -> Pixels:
    """Return the channels of a unit's weights, ``(C, H, W)``, as pixels, side by side on white paper."""
    if len(weights) == 1:
        return to_pixels(weights, limit)
    # A gap is narrower than a weight, so a weight is several pixels. The gaps at the ends keep units further apart.
    channels = [to_pixels(channel[None], limit).repeat(_SIDE, 0).repeat(_SIDE, 1) for channel in weights]
    height = channels[0].shape[0]
    gap = np.full((height, max(1, height // 12), 3), 255, np.uint8)
    return np.hstack([gap, *(part for channel in channels for part in (channel, gap))])
