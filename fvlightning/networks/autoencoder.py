"""The networks of a variational autoencoder."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fvlightning.errors import InputError

# Keeps the logarithm finite where softplus underflows.
_SMALLEST_STD = 1e-6


class Encoder(nn.Module):
    """Map pictures to the normal distributions of their codes: 4x4 convolutions that halve the size, then a linear map.

    For the arguments see `Autoencoder`.
    """

    def __init__(self, image_shape: Sequence[int], latent_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([channels, *widths]):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        n_features = widths[-1] * (height >> len(widths)) * (width >> len(widths))
        self.code = nn.Linear(n_features, 2 * latent_size)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations, both ``(B, latent_size)``, for pictures ``(B, C, H, W)`` in [0, 1]."""
        features = self.convolutions(2 * pictures.to(self.code.weight.dtype) - 1).flatten(1)
        mean, raw_std = self.code(features).chunk(2, dim=1)
        return mean, F.softplus(raw_std) + _SMALLEST_STD


class Decoder(nn.Module):
    """Map codes to pictures: a linear map and the `Encoder`'s convolutions mirrored, then ``(tanh + 1) / 2``.

    For the arguments see `Autoencoder`; `image_shape` and `latent_size` are attributes as well.
    """

    def __init__(self, image_shape: Sequence[int], latent_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.latent_size = latent_size
        first = (widths[-1], height >> len(widths), width >> len(widths))
        self.code = nn.Linear(latent_size, first[0] * first[1] * first[2])
        layers: list[nn.Module] = [nn.Unflatten(1, first), nn.BatchNorm2d(first[0]), nn.ReLU()]
        for inputs, outputs in pairwise(reversed(widths)):
            # A kernel of 4 with a stride of 2 covers all positions equally often: no checkerboard,
            # https://distill.pub/2016/deconv-checkerboard/.
            layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(widths[0], channels, 4, stride=2, padding=1))
        self.convolutions = nn.Sequential(*layers)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes ``(B, latent_size)`` to pictures ``(B, C, H, W)`` in [0, 1]."""
        return to_pictures(self.levels(codes))

    def levels(self, codes: Tensor) -> Tensor:
        """Map codes ``(B, latent_size)`` to the unbounded levels ``(B, C, H, W)`` from which `to_pictures` starts."""
        levels: Tensor = self.convolutions(self.code(codes.to(self.code.weight.dtype)))
        return levels


def to_pictures(levels: Tensor) -> Tensor:
    """Return ``(tanh(levels) + 1) / 2``, in [0, 1]: the pixels whose logits are twice the levels, of any shape."""
    return (torch.tanh(levels) + 1) / 2


class Autoencoder(nn.Module):
    """A convolutional variational autoencoder, an `encoder` and a `decoder` (https://arxiv.org/abs/1312.6114).

    For arguments and errors see `fvlightning.models.VAEModule`.
    """

    def __init__(
        self, image_shape: Sequence[int] = (3, 32, 32), latent_size: int = 512, widths: Sequence[int] = (64, 128)
    ) -> None:
        super().__init__()
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise InputError(f"Autoencoder(image_shape={tuple(image_shape)}): must be (C, H, W), each at least 1")
        if latent_size < 1:
            raise InputError(f"Autoencoder(latent_size={latent_size}): must be at least 1")
        if not widths or min(widths) < 1:
            raise InputError(f"Autoencoder(widths={list(widths)}): must be numbers of channels, each at least 1")
        if any(size % 2 ** len(widths) for size in image_shape[1:]):
            raise InputError(
                f"pictures of shape {tuple(image_shape)} cannot be halved {len(widths)} times, once for each of the "
                f"widths {list(widths)}; give fewer, or a height and a width that are multiples of {2 ** len(widths)}"
            )
        self.encoder = Encoder(image_shape, latent_size, widths)
        self.decoder = Decoder(image_shape, latent_size, widths)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reconstructions of pictures, both ``(B, C, H, W)`` in [0, 1], from the means of their codes."""
        reconstructions: Tensor = self.decoder(self.encoder(pictures)[0])
        return reconstructions


def draw_codes(mean: Tensor, std: Tensor) -> Tensor:
    """Draw ``mean + std * noise``, one code ``(B, L)`` from each normal distribution, differentiable in both."""
    return mean + std * torch.randn_like(std)


def draw_alike(codes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` codes from the normal distribution with the mean and covariance of two or more codes ``(B, L)``.

    The codes of pictures never match the prior in full, so a decoder's pictures of these codes are nearer to what it
    was trained on (Ghosh et al. 2020, https://arxiv.org/abs/1903.12436, section 4). The generator is on the CPU.
    """
    # Mixing codes with random weights gives their covariance however few they are.
    weights: Tensor = torch.randn(count, len(codes), generator=generator).to(codes) / (len(codes) - 1) ** 0.5
    mean = codes.mean(0)
    return mean + weights @ (codes - mean)


def kl_from_prior(mean: Tensor, std: Tensor) -> Tensor:
    """Return ``(mean² + std² - 1) / 2 - log std``, the KL divergence ``(B, L)`` from the standard normal, in nats."""
    return 0.5 * (mean.square() + std.square() - 1) - std.log()
