"""The networks of a variational autoencoder, in plain PyTorch: models train them, features draw pictures with them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fvlightning.errors import InputError

# Keeps the logarithm of a standard deviation finite where softplus underflows.
_SMALLEST_STD = 1e-6


class Encoder(nn.Module):
    """From pictures to the normal distributions of their codes.

    For each width a 4x4 convolution that halves the size, batch norm and ReLU; then a linear map to the means and, by
    softplus, to the standard deviations.

    Args:
        image_shape: `(C, H, W)` of the pictures; H and W are multiples of 2 to the power of the number of `widths`.
        latent_size: Numbers in a code.
        widths: Channels of the convolutions.
    """

    def __init__(self, image_shape: Sequence[int], latent_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for inputs, outputs in zip([channels, *widths], widths, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs)]
            layers.append(nn.ReLU())
        self.convolutions = nn.Sequential(*layers)
        n_features = widths[-1] * (height >> len(widths)) * (width >> len(widths))
        self.code = nn.Linear(n_features, 2 * latent_size)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations, both `(B, latent_size)`, of pictures `(B, C, H, W)` in [0, 1]."""
        # In the precision of the weights, whatever the data have.
        features = self.convolutions(2 * pictures.to(self.code.weight.dtype) - 1).flatten(1)
        mean, raw_std = self.code(features).chunk(2, dim=1)
        return mean, F.softplus(raw_std) + _SMALLEST_STD


class Decoder(nn.Module):
    """From codes to pictures.

    A linear map and the mirror image of the `Encoder`'s convolutions, then `(tanh + 1) / 2`.

    Args:
        image_shape: As of the `Encoder`.
        latent_size: As of the `Encoder`.
        widths: As of the `Encoder`, in the same order: the last one comes first here.

    Attributes:
        image_shape: `(C, H, W)` of the pictures.
        latent_size: Numbers in a code.
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
        """Return the pictures `(B, C, H, W)` in [0, 1] of codes `(B, latent_size)`."""
        return to_pictures(self.levels(codes))

    def levels(self, codes: Tensor) -> Tensor:
        """Return the unbounded levels that `to_pictures` makes pictures of, `(B, C, H, W)`."""
        levels: Tensor = self.convolutions(self.code(codes.to(self.code.weight.dtype)))
        return levels


def to_pictures(levels: Tensor) -> Tensor:
    """Return `(tanh(levels) + 1) / 2`, of any shape: pictures in [0, 1].

    It is the logistic function of twice the levels: these are the logits of the pixels.
    """
    return (torch.tanh(levels) + 1) / 2


class Autoencoder(nn.Module):
    """A convolutional variational autoencoder (Kingma and Welling 2013, https://arxiv.org/abs/1312.6114).

    Args:
        image_shape: `(C, H, W)` of the pictures; H and W are multiples of 2 to the power of the number of `widths`.
        latent_size: Numbers in a code.
        widths: Channels of the convolutions, each of which halves the size.

    Attributes:
        encoder: The `Encoder`.
        decoder: The `Decoder`.

    Raises:
        InputError: A number is not positive, or the size of the pictures cannot be halved so often.
    """

    def __init__(
        self, image_shape: Sequence[int] = (3, 32, 32), latent_size: int = 512, widths: Sequence[int] = (64, 128)
    ) -> None:
        super().__init__()
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise InputError(f"image_shape must be (C, H, W), each at least 1, got {tuple(image_shape)}.")
        if latent_size < 1:
            raise InputError(f"latent_size must be at least 1, got {latent_size}.")
        if not widths or min(widths) < 1:
            raise InputError(f"widths must be numbers of channels, each at least 1, got {list(widths)}.")
        if any(size % 2 ** len(widths) for size in image_shape[1:]):
            raise InputError(
                f"pictures of shape {tuple(image_shape)} cannot be halved {len(widths)} times, once for each of the "
                f"widths {list(widths)}; give fewer widths, or a height and a width that are multiples of "
                f"{2 ** len(widths)}."
            )
        self.encoder = Encoder(image_shape, latent_size, widths)
        self.decoder = Decoder(image_shape, latent_size, widths)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reconstructions of pictures, both `(B, C, H, W)` in [0, 1], from the means of their codes."""
        reconstructions: Tensor = self.decoder(self.encoder(pictures)[0])
        return reconstructions


def draw_codes(mean: Tensor, std: Tensor) -> Tensor:
    """Draw a code from each normal distribution, `mean + std * noise`, with its gradient to both (`(B, L)` each)."""
    return mean + std * torch.randn_like(std)


def draw_alike(codes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw codes from the normal distribution that has the mean and the covariance of given ones.

    A decoder's pictures of them are nearer to what it was trained on than those of codes from the prior, with which the
    codes of pictures never agree in full (Ghosh et al. 2020, https://arxiv.org/abs/1903.12436, section 4). The
    covariance is that of the given codes whatever their number: they are mixed with random weights.

    Args:
        codes: `(B, L)`, at least two.
        count: How many are drawn.
        generator: Of the CPU.

    Returns:
        `(count, L)`.
    """
    weights = torch.randn(count, len(codes), generator=generator).to(codes) / (len(codes) - 1) ** 0.5
    mean = codes.mean(0)
    drawn: Tensor = mean + weights @ (codes - mean)
    return drawn


def kl_from_prior(mean: Tensor, std: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of each code's distribution from the standard normal one, in nats.

    `(mean² + std² - 1) / 2 - log std`, of each of the numbers of the codes.

    Args:
        mean: `(B, L)`.
        std: `(B, L)`, positive.

    Returns:
        `(B, L)`, not negative; the sum over L is that of a code.
    """
    return 0.5 * (mean.square() + std.square() - 1) - std.log()
