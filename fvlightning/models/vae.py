"""The LightningModule that trains a variational autoencoder."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from fvlightning.errors import InputError
from fvlightning.models._base import BaseModule, Interval, pictures_of
from fvlightning.networks import Autoencoder, draw_codes, kl_from_prior, to_pictures


class VAEModule(BaseModule):
    """Train a variational `Autoencoder`, its `net`, to encode pictures as codes and to decode codes into pictures.

    It takes float pictures ``(B, C, H, W)`` in [0, 1], and ignores labels. The loss is

        reconstruction + kl_weight * min(epoch / kl_warmup, 1) * KL

    where the reconstruction is a mean over pixels, KL is the divergence of a picture's code from the standard normal
    prior, summed over the code, and epochs count from 0. The evidence lower bound has a `kl_weight` of 1 / (C·H·W),
    3.3e-4 for ``(3, 32, 32)``; a smaller weight gives sharper reconstructions, a larger one better samples.

    It logs ``train/reconstruction`` and ``train/kl`` (both in nats, unweighted) and ``train/loss`` as means over an
    epoch, and the same for ``val`` and ``test``. Training draws the codes. Validation and test use their means, and the
    full `kl_weight`. The cross-entropy of a value in [0, 1] with itself is its entropy, not 0: on CIFAR-10's test
    images (JPEG copies) no network gets below 0.5485 a pixel.

    Args:
        input_shape: ``(C, H, W)`` of the pictures; H and W are multiples of 2 to the power of the number of `widths`.
        latent_size: Numbers in a code.
        widths: Channels of the encoder's convolutions, each of which halves the size; the decoder mirrors them.
        likelihood: ``bce``, the cross-entropy of the pixels, or ``gaussian``, half the squared error.
        kl_weight: Weight of the KL divergence after the warm-up.
        kl_warmup: Epochs in which the weight rises from 0; 0 for no warm-up.
        free_bits: KL, in nats and averaged over a batch, that each number of a code may have at no further cost (Kingma
            et al. 2016, https://arxiv.org/abs/1606.04934). It keeps the numbers of a code in use.
        optimizer, scheduler, scheduler_interval: See `BaseModule`.

    Raises:
        InputError: A setting is out of its range, or the pictures cannot be halved as often as `widths` asks.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        latent_size: int = 512,
        widths: Sequence[int] = (64, 128),
        likelihood: Literal["bce", "gaussian"] = "bce",
        kl_weight: float = 1e-4,
        kl_warmup: float = 10.0,
        free_bits: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Interval = "epoch",
    ) -> None:
        super().__init__(optimizer, scheduler, scheduler_interval)
        self._save_plain_hyperparameters(locals() | {"input_shape": list(input_shape), "widths": list(widths)})
        if likelihood not in ("bce", "gaussian"):
            raise InputError(f"VAEModule(likelihood={likelihood!r}): must be 'bce' or 'gaussian'")
        for name, value in {"kl_weight": kl_weight, "kl_warmup": kl_warmup, "free_bits": free_bits}.items():
            if not 0 <= value < math.inf:
                raise InputError(f"VAEModule({name}={value}): must be at least 0 and finite")
        self.net = Autoencoder(input_shape, latent_size, widths)
        self.input_shape = self.net.decoder.image_shape
        self.latent_size = latent_size
        self.likelihood = likelihood
        self.kl_weight = kl_weight
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits

    def setup(self, stage: str) -> None:
        """Raise `InputError` if the data have another shape than this module."""
        data = getattr(self.trainer, "datamodule", None)
        shape = getattr(data, "image_shape", None)
        if shape is not None and tuple(shape) != self.input_shape:
            raise InputError(
                f"data and model do not fit: {type(data).__name__} has images of shape {tuple(shape)}, VAEModule takes "
                f"{self.input_shape}; give --model.input_shape '{list(shape)}', or other data"
            )

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reconstructions of pictures, both ``(B, C, H, W)`` in [0, 1], from the means of their codes."""
        reconstructions: Tensor = self.net(pictures)
        return reconstructions

    def training_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch of pictures ``(B, C, H, W)``, with or without labels."""
        return self._losses(batch, "train")

    def validation_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> None:
        """Log the losses of the validation images."""
        self._losses(batch, "val")

    def test_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> None:
        """Log the losses of the test images."""
        self._losses(batch, "test")

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the means of the codes, ``(B, latent_size)``."""
        mean: Tensor = self.net.encoder(pictures_of(batch))[0]
        return mean

    @property
    def kl_weight_now(self) -> float:
        """Weight of the KL divergence in the current epoch of training."""
        return self.kl_weight * (min(self.current_epoch / self.kl_warmup, 1.0) if self.kl_warmup > 0 else 1.0)

    def reconstruction_error(self, pictures: Tensor, levels: Tensor) -> Tensor:
        """Return the mean negative log-likelihood, in nats, of pictures ``(B, C, H, W)`` under the decoder's levels."""
        # In full precision: late in training, rounding in a low one would exceed what is left to learn.
        levels, pictures = _at_least_float(levels), _at_least_float(pictures)
        if self.likelihood == "bce":
            return F.binary_cross_entropy_with_logits(2 * levels, pictures)
        return 0.5 * F.mse_loss(to_pictures(levels), pictures)

    def _losses(self, batch: Tensor | Sequence[Tensor], stage: Literal["train", "val", "test"]) -> Tensor:
        pictures = pictures_of(batch)
        mean, std = (_at_least_float(part) for part in self.net.encoder(pictures))
        codes = draw_codes(mean, std) if stage == "train" else mean
        reconstruction = self.reconstruction_error(pictures, self.net.decoder.levels(codes))
        kl = kl_from_prior(mean, std).mean(0)
        # Validation and test losses have no warm-up, so that epochs can be compared.
        weight = self.kl_weight_now if stage == "train" else self.kl_weight
        loss = reconstruction + weight * kl.clamp(min=self.free_bits).sum()
        values = {"reconstruction": reconstruction, "kl": kl.sum(), "loss": loss}
        self.log_dict(
            {f"{stage}/{name}": value.detach() for name, value in values.items()},
            prog_bar=stage != "test",
            on_step=False,
            on_epoch=True,
            batch_size=len(pictures),
            sync_dist=True,
        )
        return loss


def _at_least_float(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
