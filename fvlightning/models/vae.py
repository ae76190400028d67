"""The LightningModule that trains a variational autoencoder."""

import math
from collections.abc import Sequence
from typing import Literal

import lightning.pytorch as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from fvlightning.errors import InputError
from fvlightning.models.hyperparameters import save_plain_hyperparameters
from fvlightning.models.schedule import check_interval, configure
from fvlightning.networks.autoencoder import Autoencoder, draw_codes, kl_from_prior, to_pictures

Likelihood = Literal["bce", "gaussian"]


class VAEModule(L.LightningModule):
    """Train a variational autoencoder: to describe pictures by codes, and to make pictures of codes.

    (Kingma and Welling 2013, https://arxiv.org/abs/1312.6114.) It takes pictures in [0, 1], float of shape
    `(B, C, H, W)`, with or without labels, which it has no use for. The loss is

        reconstruction + kl_weight * min(epoch / kl_warmup, 1) * KL

    with the reconstruction as a mean over pixels, the KL divergence of a picture's code from the standard normal prior,
    summed over the numbers of the code, and epochs counted from 0. The evidence lower bound has a `kl_weight` of 1 over
    the number of values in a picture, 3.3e-4 for (3, 32, 32); less gives sharper reconstructions, more gives better
    samples. For each part of the data it logs, as means over an epoch, ``train/reconstruction`` and ``train/kl`` (both
    in nats, without weights) and ``train/loss``, and so for ``val`` and ``test``. Codes are drawn in training; the
    others use the means of the codes, so that their reconstruction is that of what `forward` returns, and the full
    weight.

    The cross-entropy of a value in [0, 1] is least for itself, and then its own entropy, not 0: over the test images of
    CIFAR-10 these have a mean of 0.5485 a pixel (of their JPEG copies), below which no network comes. What exceeds it
    is about 2.3 times the mean squared error.

    Attributes:
        net: The `Autoencoder`, with the parts `encoder` and `decoder`.
        input_shape: `(C, H, W)` of the pictures.
        latent_size: Numbers in a code.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        latent_size: int = 512,
        widths: Sequence[int] = (64, 128),
        likelihood: Likelihood = "bce",
        kl_weight: float = 1e-4,
        kl_warmup: float = 10.0,
        free_bits: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        """Make the networks.

        Args:
            input_shape: `(C, H, W)` of the pictures; H and W are multiples of 2 to the power of the number of `widths`.
            latent_size: Numbers in a code.
            widths: Channels of the encoder's convolutions, each of which halves the size; the decoder mirrors them.
            likelihood: ``bce``, the cross-entropy of the pixels, or ``gaussian``, half the squared error: the negative
                log-likelihood of a normal distribution with variance 1, less its constant.
            kl_weight: Weight of the KL divergence after the warm-up.
            kl_warmup: Epochs in which the weight rises from 0; 0 for none.
            free_bits: How much the KL of each number of a code, in nats and averaged over a batch, may be without
                costing anything (Kingma et al. 2016, https://arxiv.org/abs/1606.04934); against codes that carry
                nothing.
            optimizer: Makes the optimiser of given parameters.
            scheduler: Makes the learning rate's schedule of a given optimiser; none by default.
            scheduler_interval: Whether the schedule goes on after each epoch or after each optimiser step.

        Raises:
            InputError: A setting is out of its range.
        """
        super().__init__()
        if likelihood not in ("bce", "gaussian"):
            raise InputError(f"likelihood must be 'bce' or 'gaussian', got {likelihood!r}.")
        for name, value in {"kl_weight": kl_weight, "kl_warmup": kl_warmup, "free_bits": free_bits}.items():
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be at least 0 and finite, got {value}.")
        self.net = Autoencoder(input_shape, latent_size, widths)
        channels, height, width = input_shape
        save_plain_hyperparameters(
            self,
            {
                "input_shape": [channels, height, width],
                "latent_size": latent_size,
                "widths": list(widths),
                "likelihood": likelihood,
                "kl_weight": kl_weight,
                "kl_warmup": kl_warmup,
                "free_bits": free_bits,
                "optimizer": optimizer,
                "scheduler": scheduler,
                "scheduler_interval": scheduler_interval,
            },
        )
        self.input_shape = (channels, height, width)
        self.latent_size = latent_size
        self.likelihood = likelihood
        self.kl_weight = kl_weight
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._scheduler_interval = check_interval(scheduler_interval)

    def setup(self, stage: str) -> None:
        """Check that the data fit.

        Raises:
            InputError: The data have another shape than this module.
        """
        data = getattr(self.trainer, "datamodule", None)
        shape = getattr(data, "image_shape", None)
        if shape is not None and tuple(shape) != self.input_shape:
            raise InputError(
                f"data and model do not fit: {type(data).__name__} has images of shape {tuple(shape)}, VAEModule takes "
                f"{self.input_shape}; set input_shape or other data."
            )

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reconstructions of pictures, both `(B, C, H, W)` in [0, 1], from the means of their codes."""
        reconstructions: Tensor = self.net(pictures)
        return reconstructions

    def training_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch of pictures `(B, C, H, W)`, with or without labels."""
        return self._losses(batch, "train")

    def validation_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> None:
        """Log the losses of the validation images."""
        self._losses(batch, "val")

    def test_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> None:
        """Log the losses of the test images."""
        self._losses(batch, "test")

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the means of the codes, `(B, latent_size)`."""
        mean: Tensor = self.net.encoder(_pictures(batch))[0]
        return mean

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser and its schedule."""
        return configure(self, self._make_optimizer, self._make_scheduler, self._scheduler_interval)

    @property
    def kl_weight_now(self) -> float:
        """Weight of the KL divergence in the current epoch of training."""
        share = min(self.current_epoch / self.kl_warmup, 1.0) if self.kl_warmup > 0 else 1.0
        return self.kl_weight * share

    def reconstruction_error(self, pictures: Tensor, levels: Tensor) -> Tensor:
        """Return the negative log-likelihood of pictures, averaged over all values.

        Args:
            pictures: `(B, C, H, W)` in [0, 1].
            levels: What the decoder gives before `to_pictures`, of the same shape.

        Returns:
            A scalar, in nats.
        """
        # In full precision: in a low one rounding would be larger than what is left to be learnt.
        levels, pictures = _at_least_float(levels), _at_least_float(pictures)
        if self.likelihood == "bce":
            return F.binary_cross_entropy_with_logits(2 * levels, pictures)
        return 0.5 * F.mse_loss(to_pictures(levels), pictures)

    def _losses(self, batch: Tensor | Sequence[Tensor], stage: Literal["train", "val", "test"]) -> Tensor:
        pictures = _pictures(batch)
        mean, std = (_at_least_float(part) for part in self.net.encoder(pictures))
        codes = draw_codes(mean, std) if stage == "train" else mean
        reconstruction = self.reconstruction_error(pictures, self.net.decoder.levels(codes))
        kl = kl_from_prior(mean, std).mean(0)
        # Of other data all epochs are to be compared: without the warm-up.
        weight = self.kl_weight_now if stage == "train" else self.kl_weight
        loss = reconstruction + weight * kl.clamp(min=self.free_bits).sum()
        values = {"reconstruction": reconstruction, "kl": kl.sum(), "loss": loss}
        self.log_dict(
            {f"{stage}/{name}": value.detach() for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(pictures),
            sync_dist=True,
            prog_bar=stage != "test",
        )
        return loss


def _pictures(batch: Tensor | Sequence[Tensor]) -> Tensor:
    return batch if isinstance(batch, Tensor) else batch[0]


def _at_least_float(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
