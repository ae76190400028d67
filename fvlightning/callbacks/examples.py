"""The real images that excite units, while a network trains."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from typing_extensions import override

from fvlightning.analysis import find_examples, illustrate
from fvlightning.callbacks.epoch_pictures import EpochPictures, picture_source
from fvlightning.callbacks.visualization import VisualizationCallback
from fvlightning.data import PictureSelection
from fvlightning.features import Objective, Unit, isolated_rng, resolve_objectives
from fvlightning.features.capture import find_layer
from fvlightning.features.objectives import Pooling, layers_of
from fvlightning.io import digest_of_weights
from fvlightning.output import Pixels, class_names, epoch_label, log_scalars, picture_columns, write_examples
from fvlightning.protocols import picture_shape, read_class_names


class ExamplesCallback(EpochPictures):
    """Shows the real images that excite units most and least, at the end of each epoch.

    The images are a fixed random sample of the validation images, or of the training images if there are no others.
    Each layer has a sheet, ``examples/LAYER``, as `fvlightning examples` makes it, and a scalar,
    ``examples/LAYER/active``: the share of images on which a unit is active, as the mean over the units. Sheets and
    ``examples.json`` are in ``examples/epoch_NNNN`` in the run's folder. If a `fvlightning.VisualizationCallback` that
    is listed before this callback has made pictures of the same units at the same epoch, these stand beside the images.
    The callback does not affect training.

    Args:
        units: See `fvlightning.VisualizationCallback`.
        k: How many of the strongest and of the weakest images are shown of each unit.
        n_images: How many images are looked at.
        pooling: How a map becomes one number. See `fvlightning.features.UnitActivation`.
        image_shape: ``(C, H, W)`` of the images. Default: see `fvlightning.VisualizationCallback`.
        **settings: See `EpochPictures`.

    Raises:
        InputError: A setting is out of its range; when training starts: a unit cannot be used, the folder cannot be
            written, or the shape of the images is not known.
    """

    subfolder = group = "examples"

    def __init__(
        self,
        units: Sequence[str | Objective] | str,
        *,
        k: int = 5,
        n_images: int = 500,
        pooling: Pooling = "mean",
        image_shape: tuple[int, int, int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._require(k >= 1, "must be at least 1", k=k)
        self._require(n_images >= 1, "must be at least 1", n_images=n_images)
        self.layers = {layer.layer for layer in layers_of(units)}
        self.units = [units] if isinstance(units, str | Objective) else list(units)
        self.k = k
        self.n_images = n_images
        self.pooling = pooling
        self.image_shape = image_shape
        self._resolved: list[Unit | Objective] = []
        self._shape: tuple[int, ...] = ()

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # As early as possible, before the run has a folder.
        if stage == "fit":
            for layer in sorted(self.layers):
                find_layer(pl_module, layer)

    @override
    def prepare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._shape = picture_shape(pl_module, getattr(trainer, "datamodule", None), self.image_shape)
        self._resolved = resolve_objectives(pl_module, self.units, self._shape, self.pooling)
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined] # which Lightning sets
        for callback in callbacks[callbacks.index(self) :]:
            if isinstance(callback, VisualizationCallback) and callback.layers & self.layers:
                rank_zero_warn(
                    "ExamplesCallback shows the pictures of a VisualizationCallback only if that is listed before it; "
                    "change their order"
                )

    @override
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        datamodule = getattr(trainer, "datamodule", None)
        with isolated_rng():
            source = picture_source(trainer, "val")
            selection = PictureSelection(source, "val", image_shape=self._shape, limit=self.n_images)
            pages = list(
                illustrate(
                    pl_module,
                    self._resolved,
                    find_examples(pl_module, self._resolved, selection, k=self.k, pooling=self.pooling),
                    selection,
                    class_names=read_class_names(datamodule),
                    unit_classes=class_names(pl_module, datamodule, self._resolved, self._shape),
                )
            )
        pictures = self._pictures(trainer, pl_module, epoch)
        for page in pages:
            self.publish(trainer, page.name, page.sheet(epoch_label(epoch), pictures), epoch)
            active = fmean(unit.active for unit in page.examples)
            log_scalars(trainer.loggers, {f"{self.group}/{page.name}/active": active}, trainer.global_step)
        if (folder := self.epoch_folder(epoch)) is not None:
            settings = {"epoch": epoch, "image_shape": self._shape, "pooling": self.pooling, "k": self.k}
            units = [unit for page in pages for unit in page.examples]
            write_examples(units, settings, folder / "examples.json")

    def _pictures(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> dict[str, dict[str, Pixels]]:
        """Return the columns of pictures of the units, as far as they were made with the weights of now."""
        columns: dict[str, dict[str, Pixels]] = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined] # which Lightning sets
            folder = callback.epoch_folder(epoch) if isinstance(callback, VisualizationCallback) else None
            if folder is not None and (folder / "features.json").exists():
                pictures, records = picture_columns(folder, list(map(str, self._resolved)))
                if {record.weights for record in records} == {digest_of_weights(pl_module)}:
                    columns |= {heading: columns.get(heading, {}) | column for heading, column in pictures.items()}
        return columns
