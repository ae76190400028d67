"""Reconstructions and samples of a variational autoencoder while it trains."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from typing_extensions import override

from fvlightning.callbacks.epoch_pictures import EpochPictures, picture_source
from fvlightning.data import pictures_by_class, read_pictures
from fvlightning.errors import InputError
from fvlightning.features import isolated_rng
from fvlightning.features.capture import frozen
from fvlightning.features.images import codes_file, load_autoencoder, measure_codes
from fvlightning.io import digest_of_file
from fvlightning.networks import Autoencoder, draw_alike
from fvlightning.output import contact_sheet, epoch_label, to_pixels
from fvlightning.protocols import read_class_names

_COLUMNS = 8
_MOST_CLASSES = 16  # as many as fit on a sheet
_BATCH_SIZE = 256


class VAEPicturesCallback(EpochPictures):
    """Shows, at the end of each epoch, what a `VAEModule` has learnt.

    Four sheets go to every logger that takes images and, as files, to ``vae/epoch_NNNN`` in the run's folder:

    - ``reconstructions``: held-out pictures, and below each its reconstruction.
    - ``samples``: pictures of codes drawn from the prior, the same codes at each epoch.
    - ``class_samples``: a row for each of the first 16 classes that have more than one picture. The codes are drawn
      from the normal distribution with the mean and covariance of the codes of the class (`draw_alike`).
    - ``interpolations``: pictures between the codes of two held-out pictures, one pair per row.

    Held-out pictures are the validation images, or the training images if there are no others.

    When training ends, the codes of held-out pictures go to TensorBoard's projector (PCA, t-SNE, UMAP) with their
    pictures and classes; up to 50 classes have colours there, under "Color by". The mean and covariance of the codes
    of the training set are saved for `DecorrelatedLatentImage`, beside the last checkpoint (the file itself, if that is
    a link) as ``CHECKPOINT.codes.pt``. The callback does not affect training.

    Args:
        pictures: Number of held-out pictures that are reconstructed. The first of them are the ends of interpolations.
        samples: Number of codes drawn from the prior.
        class_codes: Number of training pictures of each class that are encoded for its samples, at least 2; 0 for no
            such sheet. Data without labels have none either.
        interpolations: Number of pairs of pictures to interpolate between.
        embeddings: Number of codes for the projector; 0 for none.
        save_codes: Whether the statistics of the training set's codes are saved.
        **settings: See `EpochPictures`.

    Raises:
        InputError: A setting is out of its range; when training starts: the module has no `Autoencoder` as its ``net``.
    """

    subfolder = "vae"

    def __init__(
        self,
        *,
        pictures: int = 16,
        samples: int = 32,
        class_codes: int = 100,
        interpolations: int = 4,
        embeddings: int = 1000,
        save_codes: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._require(pictures >= 1, "must be at least 1", pictures=pictures)
        self._require(samples >= 1, "must be at least 1", samples=samples)
        self._require(embeddings >= 0, "must be at least 0", embeddings=embeddings)
        at_least_2 = "must be at least 2, or 0 for none"
        self._require(class_codes == 0 or class_codes >= 2, at_least_2, class_codes=class_codes)
        pairs = f"must be 0 to {pictures // 2}, each between two of the {pictures} pictures"
        self._require(0 <= interpolations <= pictures // 2, pairs, interpolations=interpolations)
        self.pictures = pictures
        self.samples = samples
        self.class_codes = class_codes
        self.interpolations = interpolations
        self.embeddings = embeddings
        self.save_codes = save_codes
        self._held_out: tuple[Tensor, list[str]] | None = None
        self._pictures_by_class: dict[int, Tensor] = {}

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            _autoencoder(pl_module)

    @override
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        network = _autoencoder(pl_module)
        sheets: dict[str, tuple[Tensor, list[str]]] = {}
        with isolated_rng(), frozen(pl_module), torch.no_grad():
            if self._held_out is None:
                self._held_out = _read_held_out(trainer, self.pictures)
                if self.class_codes:
                    by_class = pictures_by_class(picture_source(trainer, "train"), self.class_codes, _MOST_CLASSES)
                    self._pictures_by_class = {label: rows for label, rows in by_class.items() if len(rows) > 1}
            originals, names = self._held_out
            codes = network.encoder(originals.to(pl_module.device))[0]
            sheets["reconstructions"] = _one_above_the_other(originals, network.decoder(codes).cpu(), names)
            noise = torch.randn(self.samples, codes.shape[1], generator=torch.Generator().manual_seed(0))
            sheets["samples"] = network.decoder(noise.to(codes)), [""] * self.samples
            if self._pictures_by_class:
                rows = []
                for pictures in self._pictures_by_class.values():
                    codes_of_class = network.encoder(pictures.to(codes))[0]
                    drawn = draw_alike(codes_of_class, _COLUMNS, torch.Generator().manual_seed(0))
                    rows.append(network.decoder(drawn))
                captions = [name for name in _class_captions(trainer, self._pictures_by_class) for _ in range(_COLUMNS)]
                sheets["class_samples"] = torch.cat(rows), captions
            if n_pairs := min(self.interpolations, len(codes) // 2):
                shares = torch.linspace(0, 1, _COLUMNS).to(codes)[:, None]
                mixed = torch.lerp(codes[:n_pairs, None], codes[n_pairs : 2 * n_pairs, None], shares).flatten(0, 1)
                captions = [f"{step / (_COLUMNS - 1):.2f}" for step in range(_COLUMNS)] * n_pairs
                sheets["interpolations"] = network.decoder(mixed), captions
        for name, (pictures, captions) in sheets.items():
            title = f"{name.replace('_', ' ')}, {epoch_label(epoch)}"
            pixels = [to_pixels(picture.float()) for picture in pictures]
            self.publish(trainer, name, contact_sheet(pixels, captions, title, columns=_COLUMNS), epoch)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_fit_end(trainer, pl_module)
        if self._folder is None or not trainer.is_global_zero:
            return
        with isolated_rng(), frozen(pl_module), torch.no_grad():
            if self.embeddings:
                self._embed(trainer, pl_module)
            if self.save_codes:
                _save_codes(trainer, pl_module)

    def _embed(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        experiments: list[Any] = [getattr(logger, "experiment", None) for logger in trainer.loggers]
        writers = [experiment for experiment in experiments if hasattr(experiment, "add_embedding")]
        if not writers:
            return
        pictures, names = _read_held_out(trainer, self.embeddings)
        encoder = _autoencoder(pl_module).encoder
        batches = torch.split(pictures, _BATCH_SIZE)
        codes = torch.cat([encoder(batch.to(pl_module.device))[0].float().cpu() for batch in batches])
        # The projector's sprites have three channels.
        sprites = pictures if pictures.shape[1] == 3 else pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        for writer in writers:
            writer.add_embedding(
                codes, names, sprites, global_step=trainer.global_step, tag="codes of held-out pictures"
            )


def _autoencoder(pl_module: pl.LightningModule) -> Autoencoder:
    network = getattr(pl_module, "net", None)
    if not isinstance(network, Autoencoder):
        raise InputError(
            f"VAEPicturesCallback shows what an Autoencoder makes, and the net of {type(pl_module).__name__} is a "
            f"{type(network).__name__}; train VAEModule, or leave the callback out"
        )
    return network


def _read_held_out(trainer: pl.Trainer, count: int) -> tuple[Tensor, list[str]]:
    """Return pictures ``(B, C, H, W)`` in a random order, and their captions: their classes, or else their numbers."""
    batches = list(read_pictures(picture_source(trainer, "val"), "val", limit=count, seed=0))
    pictures = torch.cat([batch.pictures for batch in batches])
    labels = [label for batch in batches if batch.labels is not None for label in batch.labels.tolist()]
    return pictures, _class_captions(trainer, labels) if labels else [str(place) for place in range(len(pictures))]


def _class_captions(trainer: pl.Trainer, labels: Iterable[int]) -> list[str]:
    """Return the names of classes, or their numbers if the data module has no names."""
    names = read_class_names(getattr(trainer, "datamodule", None))
    return [names[label] if 0 <= label < len(names) else str(label) for label in labels]


def _save_codes(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Write the statistics of the training set's codes beside the last checkpoint."""
    callback: Any = trainer.checkpoint_callback
    path = getattr(callback, "last_model_path", "") or getattr(callback, "best_model_path", "")
    if not path or not Path(path).is_file():
        rank_zero_info("No checkpoint was kept, so the statistics of the codes are not saved either")
        return
    network = load_autoencoder(path).to(pl_module.device)
    batches = read_pictures(picture_source(trainer, "train"), "train", device=pl_module.device)
    statistics = replace(measure_codes(network, (batch.pictures for batch in batches)), digest=digest_of_file(path))
    # The target of a link keeps these weights when the link moves on.
    statistics.save(codes_file(Path(path).resolve()))


def _one_above_the_other(above: Tensor, below: Tensor, names: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Return the tiles of a sheet, a row of `above` before the same row of `below`, and the captions."""
    blank = above.new_ones(-len(above) % _COLUMNS, *above.shape[1:])
    rows = [torch.cat([pictures, blank]).view(-1, _COLUMNS, *above.shape[1:]) for pictures in (above, below)]
    captions: list[str] = []
    for first in range(0, len(names), _COLUMNS):
        captions += names[first : first + _COLUMNS]
        captions += [""] * (-len(captions) % _COLUMNS + _COLUMNS)
    return torch.stack(rows, 1).flatten(0, 2), captions
