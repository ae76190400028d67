"""Base class of the callbacks that show pictures at the end of an epoch."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from PIL import Image as PILImage
from typing_extensions import override

from fvlightning.averaging import averages_of
from fvlightning.errors import Checked
from fvlightning.io import check_writable, remove_unfinished
from fvlightning.output import layer_name, log_image, save_animation, save_png, takes_images
from fvlightning.sharding import whole_network


class EpochPictures(Checked, pl.Callback):
    """Shows pictures before training and at the end of epochs, and joins them into animations when training ends.

    Epoch 0 is the network before training, epoch n after n epochs. The pictures go to every logger that takes images
    and, as PNG files, to ``FOLDER/epoch_NNNN/``. Each animation is ``FOLDER/NAME.webp``.

    Args:
        every_n_epochs: Number of epochs from one set of pictures to the next.
        before_training: Whether there are pictures of the network before training, as epoch 0.
        animate: Whether each sheet becomes an animation at the end.
        averaged: Whether the pictures show the averaged weights of Lightning's `WeightAveraging`, such as
            `EMAWeightAveraging`, instead of those of the last step.
        dirpath: Folder of the files. Default: ``features``, ``examples``, ``inspection``, ``weights`` or ``vae`` in the
            run's folder: that of the first logger, or the trainer's ``default_root_dir`` without loggers.

    Raises:
        InputError: `every_n_epochs` is less than 1; when training starts: the folder cannot be written.
        MisconfigurationException: Another strategy than ``fsdp2`` splits the weights over devices (FSDP, DeepSpeed).
    """

    subfolder: str
    # The first part of the loggers' tags. TensorBoard sorts by it and opens the first: pictures follow train and val.
    group = "visualization"

    def __init__(
        self,
        *,
        every_n_epochs: int = 1,
        before_training: bool = True,
        animate: bool = True,
        averaged: bool = False,
        dirpath: str | None = None,
    ) -> None:
        self._require(every_n_epochs >= 1, "must be at least 1", every_n_epochs=every_n_epochs)
        self.every_n_epochs = every_n_epochs
        self.before_training = before_training
        self.animate = animate
        self.averaged = averaged
        self.dirpath = dirpath
        self._folder: Path | None = None

    def prepare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check what the callback needs of the module, before training. Called on every rank."""

    @abstractmethod
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        """Make the pictures of an epoch. Called on every rank."""

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with whole_network(trainer, pl_module):
            self.prepare(trainer, pl_module)
        folder = Path(self.dirpath) if self.dirpath else _run_folder(trainer) / self.subfolder
        # A trial run (fast_dev_run) leaves no files; it has no loggers either.
        if self.averaged and not averages_of(trainer):
            rank_zero_warn(f"{type(self).__name__}(averaged=True) has no effect without a WeightAveraging callback")
        self._folder = None if getattr(trainer, "fast_dev_run", False) else folder
        if self._folder is not None and trainer.is_global_zero:
            check_writable(self._folder)
            if not trainer.loggers:
                rank_zero_info(f"The pictures are in {self._folder}")
            elif not any(takes_images(logger) for logger in trainer.loggers):
                names = ", ".join(type(logger).__name__ for logger in trainer.loggers)
                rank_zero_warn(f"no logger takes images ({names}): the pictures are in {self._folder} only")

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.before_training and trainer.global_step == 0:
            with whole_network(trainer, pl_module):
                self.show(trainer, pl_module, 0)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0:
            # What these hooks do is to exchange the weights of the last step and the averaged ones.
            averages = averages_of(trainer) if self.averaged else []
            for average in averages:
                average.on_validation_epoch_start(trainer, pl_module)
            try:
                with whole_network(trainer, pl_module):
                    self.show(trainer, pl_module, epoch)
            finally:
                for average in averages:
                    average.on_validation_epoch_end(trainer, pl_module)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._animate(trainer)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._animate(trainer)

    def epoch_folder(self, epoch: int) -> Path | None:
        """Return the folder of an epoch's files, or None in a trial run."""
        return self._folder / f"epoch_{epoch:04d}" if self._folder else None

    def publish(
        self,
        trainer: pl.Trainer,
        name: str,
        sheet: PILImage.Image,
        epoch: int,
        cards: Mapping[str, PILImage.Image] | None = None,
    ) -> None:
        """Write a sheet of an epoch as a file, ``NAME.png``; pass its `cards`, or the sheet without any, to loggers.

        For rank zero.
        """
        if (folder := self.epoch_folder(epoch)) is not None:
            save_png(sheet, folder / f"{layer_name(name)}.png")
        self.log_sheets(trainer, cards or {name: sheet})

    def log_sheets(self, trainer: pl.Trainer, sheets: Mapping[str, PILImage.Image]) -> None:
        """Pass sheets, by name, to the loggers. For rank zero."""
        for name, sheet in sheets.items():
            log_image(trainer.loggers, f"{self.group}/{name}", sheet, trainer.global_step)

    def _animate(self, trainer: pl.Trainer) -> None:
        if not self.animate or self._folder is None or not trainer.is_global_zero:
            return
        remove_unfinished(self._folder)
        frames: dict[str, list[Path]] = {}
        for sheet in sorted(self._folder.glob("epoch_*/*.png")):
            frames.setdefault(sheet.stem, []).append(sheet)
        for name, sheets in frames.items():
            if len(sheets) > 1:
                save_animation(sheets, self._folder / f"{name}.webp")


def picture_source(trainer: pl.Trainer, part: str) -> Any:
    """Return the trainer's data module, or without one its loaders of a part; those for training if it has none."""
    if (datamodule := getattr(trainer, "datamodule", None)) is not None:
        return datamodule
    loaders = trainer.val_dataloaders if part == "val" else None
    return trainer.train_dataloader if loaders in (None, []) else loaders


def _run_folder(trainer: pl.Trainer) -> Path:
    """Return the run's own folder, which rank zero broadcasts: every rank has to call this."""
    logger = trainer.loggers[0] if trainer.loggers else None
    if logger is None or isinstance(logger, TensorBoardLogger | CSVLogger):
        return Path(trainer.log_dir or trainer.default_root_dir)
    folder = Path(logger.save_dir or trainer.default_root_dir, str(logger.name), str(logger.version))
    return trainer.strategy.broadcast(folder)
