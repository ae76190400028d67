"""What a network makes of a few images, while it trains."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from typing_extensions import override

from fvlightning.analysis import Inspection, inspect_picture
from fvlightning.callbacks.epoch_pictures import EpochPictures, picture_source
from fvlightning.data import read_pictures
from fvlightning.errors import InputError
from fvlightning.features import LayerCall, isolated_rng, measure_layers
from fvlightning.features.capture import find_layer
from fvlightning.io import write_json
from fvlightning.output import contact_sheet, epoch_label, file_names, maps_sheets, strongest_sheet, to_pixels
from fvlightning.protocols import picture_shape, read_class_names, read_crop_pct

_MOST_READ = 500  # images in which one of each class is looked for


class InspectionCallback(EpochPictures):
    """Shows what the network makes of a few fixed images: its predictions and feature maps, at the end of each epoch.

    ``inspection/predictions`` has the images with their most probable class. Each image and layer has the maps of all
    filters, ``inspection/IMAGE/LAYER_maps``, and the maps of the filters with the largest means over the image,
    ``inspection/IMAGE/LAYER_top``. The sheets, and all figures as ``inspection.json``, are in ``inspection/epoch_NNNN``
    in the run's folder. The callback does not affect training.

    Args:
        layers: Layers with positions, for example ``["conv2", "relu#1"]``, where ``relu#1`` is the second call.
        images: Image files, brought to the shape of the pictures. Default: validation images, one of each class, named
            by class; or training images if there are no others. Without labels they are numbered.
        n_images: How many of the validation images are shown.
        top: How many filters of each layer are laid over the image.
        classes: Whether the outputs are classes. Default: see `fvlightning.analysis.inspect_picture`.
        image_shape: ``(C, H, W)`` of the images. Default: see `fvlightning.VisualizationCallback`.
        **settings: See `EpochPictures`.

    Raises:
        InputError: A setting is out of its range; when training starts: a layer cannot be used or has no positions, no
            image can be read, the folder cannot be written, or the shape of the images is not known.
    """

    subfolder = group = "inspection"

    def __init__(
        self,
        layers: Sequence[str] | str,
        images: Sequence[str] | str = (),
        *,
        n_images: int = 4,
        top: int = 5,
        classes: bool | None = None,
        image_shape: tuple[int, int, int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._require(n_images >= 1, "must be at least 1", n_images=n_images)
        self._require(top >= 1, "must be at least 1", top=top)
        self.layers = [layers] if isinstance(layers, str) else list(layers)
        self._require(bool(self.layers), "name at least one, for example 'conv2'", layers=layers)
        self._calls = list(map(LayerCall.parse, self.layers))
        self.images = [images] if isinstance(images, str) else list(images)
        self.n_images = n_images
        self.top = top
        self.classes = classes
        self.image_shape = image_shape
        self._shape: tuple[int, ...] = ()
        self._pictures: dict[str, Tensor] = {}

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # As early as possible, before the run has a folder.
        if stage == "fit":
            for call in self._calls:
                find_layer(pl_module, call.layer)

    @override
    def prepare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._shape = picture_shape(pl_module, getattr(trainer, "datamodule", None), self.image_shape)
        for call, size in measure_layers(pl_module, self._calls, self._shape).items():
            if len(size) == 1:
                raise InputError(f"layer {str(call)!r} has no positions, so it has no maps; choose a layer before it")

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            with isolated_rng():
                self._pictures = self._read_pictures(trainer, pl_module)
        super().on_train_start(trainer, pl_module)

    @override
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        data = getattr(trainer, "datamodule", None)
        inspections = {
            name: inspect_picture(pl_module, self.layers, picture, datamodule=data, classes=self.classes)
            for name, picture in self._pictures.items()
        }
        if any(inspection.predictions for inspection in inspections.values()):
            labels = [f"{name}: {inspection.predicted(1)}" for name, inspection in inspections.items()]
            tiles = [to_pixels(picture) for picture in self._pictures.values()]
            sheet = contact_sheet(tiles, labels, f"predictions, {epoch_label(epoch)}")
            self.publish(trainer, "predictions", sheet, epoch)
        for name, inspection in inspections.items():
            self._show_maps(trainer, name, inspection, epoch)
        if (folder := self.epoch_folder(epoch)) is not None:
            images = [{"image": name, **inspection.figures(self.top)} for name, inspection in inspections.items()]
            write_json(folder / "inspection.json", {"epoch": epoch, "image_shape": self._shape, "images": images})

    def _show_maps(self, trainer: pl.Trainer, name: str, inspection: Inspection, epoch: int) -> None:
        predicted = inspection.predicted(1)
        for layer, response in inspection.responses.items():
            if response.maps is None:  # tokens that are no grid over the picture
                continue
            title = f"{layer}: {name}{predicted and f', predicted {predicted}'}, {epoch_label(epoch)}"
            for end, sheet in maps_sheets(response.maps, title).items():
                self.publish(trainer, f"{name}/{layer}_maps{end}", sheet, epoch)
            if filters := {index: str(index) for index in response.strongest(self.top)}:
                image = to_pixels(inspection.picture)
                sheet = strongest_sheet(image, filters, response.means, response.maps, [], title=title)
                self.publish(trainer, f"{name}/{layer}_top", sheet, epoch)

    def _read_pictures(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        """Return the images by name, each ``(C, H, W)``."""
        if self.images:
            files = list(map(Path, self.images))
            names = file_names(files)
            crop_pct = read_crop_pct(pl_module)
            return {
                names[files[place]]: picture
                for batch in read_pictures(files, image_shape=self._shape, crop_pct=crop_pct)
                for picture, place in zip(batch.pictures, batch.indices.tolist(), strict=True)
            }
        classes = read_class_names(getattr(trainer, "datamodule", None))
        pictures: dict[int, Tensor] = {}
        source = picture_source(trainer, "val")
        for batch in read_pictures(source, "val", image_shape=self._shape, limit=_MOST_READ, seed=0):
            if batch.labels is None:
                classes = ()
            for row, picture in enumerate(batch.pictures):
                label = len(pictures) if batch.labels is None else int(batch.labels[row])
                if len(pictures) < self.n_images:
                    pictures.setdefault(label, picture.clone())  # a view would keep the whole batch in memory
            if len(pictures) == self.n_images:
                break
        return {
            classes[label] if 0 <= label < len(classes) else str(label): pictures[label] for label in sorted(pictures)
        }
