"""What a variational autoencoder makes of pictures and of codes, while it trains."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from typing_extensions import override

from fvlightning.callbacks.epoch_pictures import EpochPictures
from fvlightning.data.reading import BATCH, names_of, read_batches, some_of_each_class, some_pictures
from fvlightning.errors import InputError
from fvlightning.features.capture.isolation import frozen, isolated_rng
from fvlightning.features.images.codes import codes_file, load_autoencoder, measure_codes
from fvlightning.io.digests import digest_of_file
from fvlightning.networks.autoencoder import Autoencoder, draw_alike
from fvlightning.output import contact_sheet, to_pixels

_COLUMNS = 8
_MOST_CLASSES = 16  # what fits a sheet


class VAEPicturesCallback(EpochPictures):
    """Shows, at the end of each epoch, what a `VAEModule` has learnt.

    Four sheets, to every logger that takes images and as files in ``vae/epoch_NNNN`` of the run's folder:
    ``reconstructions`` of held-out pictures, below the originals; ``samples``, pictures of codes drawn from the prior,
    the same codes at each epoch; ``class_samples``, a row for each of the first 16 classes that have more than one
    picture, of codes drawn from the normal distribution with the mean and the covariance of its pictures' codes
    (`draw_alike`); ``interpolations`` between the codes of two held-out pictures, one pair a row. Held out are the data
    module's validation images; without any, its training images are shown.

    When training ends, the codes of held-out pictures go to TensorBoard's projector (PCA, t-SNE, UMAP) with their
    pictures and classes, and the mean and covariance of the codes of the training set are saved beside the last
    checkpoint, as ``CHECKPOINT.codes.pt`` (if that is a link, with the name of the file that it leads to), for
    `DecorrelatedLatentImage`.

    Training does not notice any of it.

    Args:
        pictures: How many held-out pictures are reconstructed. The first of them are the interpolations' ends.
        samples: How many codes are drawn from the prior.
        class_codes: How many training pictures of each class are encoded for its samples, at least 2; 0 for no such
            sheet, as there is none for data without labels.
        interpolations: How many pairs are interpolated between.
        embeddings: How many codes go to the projector; 0 for none.
        save_codes: Whether the statistics of the training set's codes are saved.
        every_n_epochs: Pictures are made after every so many epochs.
        before_training: Whether there are pictures of the untrained network, as epoch 0.
        animate: Whether an animation of each sheet is made at the end, ``vae/SHEET.webp``.
        dirpath: Folder of the files. Default: ``vae`` in the run's folder.

    Raises:
        InputError: A setting is out of its range; when training starts: the module has no `Autoencoder` as its ``net``.
    """

    subfolder = "vae"

    def __init__(
        self,
        pictures: int = 16,
        samples: int = 32,
        class_codes: int = 100,
        interpolations: int = 4,
        embeddings: int = 1000,
        save_codes: bool = True,
        every_n_epochs: int = 1,
        before_training: bool = True,
        animate: bool = True,
        dirpath: str | None = None,
    ) -> None:
        super().__init__(every_n_epochs, before_training, animate, dirpath)
        for name, value in {"pictures": pictures, "samples": samples}.items():
            if value < 1:
                raise InputError(f"VAEPicturesCallback({name}={value}): must be at least 1")
        if class_codes < 0 or class_codes == 1:
            raise InputError(f"VAEPicturesCallback(class_codes={class_codes}): must be at least 2, or 0 for none")
        if not 0 <= interpolations <= pictures // 2:
            raise InputError(
                f"VAEPicturesCallback(interpolations={interpolations}): must be 0 to {pictures // 2}, each between two "
                f"of the {pictures} pictures"
            )
        if embeddings < 0:
            raise InputError(f"VAEPicturesCallback(embeddings={embeddings}): must be at least 0")
        self.pictures = pictures
        self.samples = samples
        self.class_codes = class_codes
        self.interpolations = interpolations
        self.embeddings = embeddings
        self.save_codes = save_codes
        self._held_out: tuple[Tensor, Tensor | None] | None = None
        self._of_classes: dict[int, Tensor] = {}

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            _autoencoder(pl_module)

    @override
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        network = _autoencoder(pl_module)
        with isolated_rng(), frozen(pl_module), torch.no_grad():
            if self._held_out is None:
                self._held_out = some_pictures(trainer, self.pictures)
                if self.class_codes:
                    found = some_of_each_class(trainer, self.class_codes, _MOST_CLASSES)
                    self._of_classes = {label: pictures for label, pictures in found.items() if len(pictures) > 1}
            originals, labels = self._held_out
            codes = network.encoder(originals.to(pl_module.device))[0]
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(self.samples, codes.shape[1], generator=generator).to(codes)
            pairs = min(self.interpolations, len(codes) // 2)
            mixed = _between(codes[:pairs], codes[pairs : 2 * pairs])
            reconstructions, drawn = network.decoder(codes), network.decoder(noise)
            between = network.decoder(mixed.flatten(0, 1)) if pairs else None
            of_classes = [_samples(network, pictures.to(codes)) for pictures in self._of_classes.values()]
        names = _captions(trainer, labels, len(originals))
        self._publish(trainer, epoch, "reconstructions", *_below_each_other(originals, reconstructions.cpu(), names))
        self._publish(trainer, epoch, "samples", drawn, [""] * self.samples)
        if of_classes:
            rows = names_of(trainer, torch.tensor(list(self._of_classes)))
            captions = [name for name in rows for _ in range(_COLUMNS)]
            self._publish(trainer, epoch, "class_samples", torch.cat(of_classes), captions)
        if between is not None:
            shares = [f"{step / (_COLUMNS - 1):.2f}" for step in range(_COLUMNS)] * pairs
            self._publish(trainer, epoch, "interpolations", between, shares)

    def _publish(
        self, trainer: pl.Trainer, epoch: int, name: str, pictures: Iterable[Tensor], captions: Sequence[str]
    ) -> None:
        title = f"{name.replace('_', ' ')}, {f'epoch {epoch}' if epoch else 'untrained'}"
        sheet = contact_sheet([to_pixels(picture.float()) for picture in pictures], captions, title, _COLUMNS)
        self.publish(trainer, name, sheet, epoch)

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
        pictures, labels = some_pictures(trainer, self.embeddings)
        encoder = _autoencoder(pl_module).encoder
        parts = torch.tensor_split(pictures, -(-len(pictures) // BATCH))
        codes = torch.cat([encoder(part.to(pl_module.device))[0].float().cpu() for part in parts])
        names = _captions(trainer, labels, len(pictures))
        # The projector's sprites are of three channels.
        sprites = pictures if pictures.shape[1] == 3 else pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        for writer in writers:
            writer.add_embedding(codes, names, sprites, global_step=trainer.global_step, tag="codes")


def _autoencoder(pl_module: pl.LightningModule) -> Autoencoder:
    network = getattr(pl_module, "net", None)
    if not isinstance(network, Autoencoder):
        raise InputError(
            f"VAEPicturesCallback shows what an Autoencoder makes, and the net of {type(pl_module).__name__} is a "
            f"{type(network).__name__}; train VAEModule, or leave the callback out"
        )
    return network


def _save_codes(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Write the statistics of the training set's codes beside the last checkpoint."""
    callback: Any = trainer.checkpoint_callback
    path = getattr(callback, "last_model_path", "") or getattr(callback, "best_model_path", "")
    if not path or not Path(path).is_file():
        rank_zero_info("No checkpoint was kept, so no statistics of the codes beside it either.")
        return
    network = load_autoencoder(path).to(pl_module.device)
    batches = (pictures for pictures, _ in read_batches(trainer, "train"))
    statistics = replace(measure_codes(network, batches), digest=digest_of_file(path))
    # Under the name that is no link: it stays with these weights when the link goes on to others.
    statistics.save(codes_file(Path(path).resolve()))


def _samples(network: Autoencoder, pictures: Tensor) -> Tensor:
    """Return pictures of codes like those of given ones, both `(B, C, H, W)`; the same random numbers at each call."""
    codes = network.encoder(pictures)[0]
    samples: Tensor = network.decoder(draw_alike(codes, _COLUMNS, torch.Generator().manual_seed(0)))
    return samples


def _captions(trainer: pl.Trainer, labels: Tensor | None, count: int) -> list[str]:
    """Return the names of the pictures' classes, or the pictures' numbers."""
    return [str(place) for place in range(count)] if labels is None else names_of(trainer, labels)


def _below_each_other(above: Tensor, below: Tensor, names: Sequence[str]) -> tuple[list[Tensor], list[str]]:
    """Return what fills a sheet of `_COLUMNS`: a row of `above`, the same of `below`, and so on; and the captions."""
    tiles: list[Tensor] = []
    captions: list[str] = []
    for first in range(0, len(above), _COLUMNS):
        part = slice(first, first + _COLUMNS)
        paper = [torch.ones_like(above[0])] * (_COLUMNS - len(above[part]))
        tiles += [*above[part], *paper, *below[part], *paper]
        captions += [*names[part], *[""] * (_COLUMNS + len(paper))]
    return tiles, captions


def _between(start: Tensor, end: Tensor) -> Tensor:
    """Return the codes on the way from `start` to `end`, both `(B, L)`, as `(B, steps, L)`."""
    shares = torch.linspace(0, 1, _COLUMNS).to(start)[None, :, None]
    return torch.lerp(start[:, None], end[:, None], shares)
