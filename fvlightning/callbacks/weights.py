"""Weights of a first layer as images."""

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.callbacks.epoch_pictures import EpochPictures
from fvlightning.errors import InputError
from fvlightning.features.capture.capture import find_layer
from fvlightning.output import contact_sheet, to_signed_pixels
from fvlightning.output.colors import Pixels

_PIXELS = 4


class WeightImagesCallback(EpochPictures):
    """Shows the weights of a first linear or convolutional layer as images, at the end of each epoch.

    Each unit's weights are one image: those of a linear layer in the shape of the network's input, those of a
    convolution as its kernel, several input channels side by side with a gap between them, three in the order red,
    green, blue. Blue is negative, white is zero, red is positive; all images of a sheet share one scale, whose ends the
    legend below gives.

    Args:
        layer: Path of the layer in the network. Default: the first linear or two-dimensional convolutional layer.
        max_units: How many units are shown at most, the first ones.
        every_n_epochs: Images are made after every so many epochs.
        before_training: Whether there are images of the untrained network, as epoch 0.
        animate: Whether an animation is made at the end, ``weights/LAYER.webp``.
        dirpath: Folder of the files. Default: ``weights`` in the run's folder.

    Raises:
        InputError: A setting is out of its range; when training starts: there is no such layer, it is neither linear
            nor a two-dimensional convolution, or a linear layer's inputs are not the pixels of a picture.
    """

    subfolder = "weights"

    def __init__(
        self,
        layer: str | None = None,
        max_units: int = 64,
        every_n_epochs: int = 1,
        before_training: bool = True,
        animate: bool = True,
        dirpath: str | None = None,
    ) -> None:
        super().__init__(every_n_epochs, before_training, animate, dirpath)
        if max_units < 1:
            raise InputError(f"WeightImagesCallback(max_units={max_units}): must be at least 1")
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
        # All units set the scale, also those that are not shown.
        limit = float(weights.abs().max()) or 1.0
        images = [_side_by_side(image, limit) for image in weights[: self.max_units]]
        channels = ", each unit's red, green, blue" if weights.shape[1] == 3 else ""
        title = f"{name} weights{channels}, " + (f"epoch {epoch}" if epoch else "untrained")
        sheet = contact_sheet(images, [str(unit) for unit in range(len(images))], title, limit=limit)
        self.publish(trainer, name, sheet, epoch)

    def _weights(self, pl_module: pl.LightningModule) -> tuple[str, Tensor]:
        """Return the layer's name and its weights ``(units, C, H, W)``."""
        name = self.layer or _first_layer(pl_module)
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
    """Return the channels of a unit's weights, ``(C, H, W)``, as pixels, one beside the other on white paper."""
    if len(weights) == 1:
        return to_signed_pixels(weights, limit)
    # Each weight is a few pixels, so that a gap is narrower. One at either end keeps units further apart than channels.
    parts = [to_signed_pixels(channel[None], limit).repeat(_PIXELS, 0).repeat(_PIXELS, 1) for channel in weights]
    height = parts[0].shape[0]
    gap = np.full((height, max(1, height // 12), 3), 255, np.uint8)
    return np.hstack([gap, *(piece for part in parts for piece in (part, gap))])


def _first_layer(pl_module: pl.LightningModule) -> str:
    for name, module in pl_module.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            return str(name).removeprefix("net.")
    raise InputError(f"{type(pl_module).__name__} has no Linear or Conv2d layer whose weights could be shown")
