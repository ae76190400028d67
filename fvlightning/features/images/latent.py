"""Pictures by the codes of a trained autoencoder."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.codes import CodeStatistics, codes_file, load_autoencoder, load_codes
from fvlightning.features.images.display import check_std
from fvlightning.io import digest_of_file, digest_of_weights


class LatentImage(Parametrization):
    """The parameters are the code from which the decoder of a variational autoencoder makes the picture.

    ``picture = decoder(z)``: pictures stay within what the decoder has learnt to draw, and look like its training data
    (Nguyen et al. 2016, https://arxiv.org/abs/1605.09304). The parameters of a picture are z, ``(L,)``, and start as
    standard normal noise, as in the decoder's prior. All pictures have the size of the decoder's.

    Args:
        decoder: A checkpoint of `VAEModule`, read without running code; or an `Autoencoder`; or any module that maps
            codes ``(B, L)`` to pictures ``(B, C, H, W)`` in [0, 1] and has the attributes ``latent_size``, L, and
            ``image_shape``, ``(C, H, W)``. A module is copied as it is now.
        prior_weight: Weight of a penalty on the code, ``prior_weight · ‖z‖² / 2``: the negative logarithm of its
            density under the prior, less a constant. Subtracted from the score like any penalty; 0 for none.
        std: Standard deviation of the initial codes.

    Attributes:
        digest: Digest of the weights, so that settings tell decoders of the same name apart.

    Raises:
        InputError: A setting is out of its range, or the checkpoint is missing or damaged, holds code or is not one of
            a VAE; when pictures are made: the network takes pictures of another size than the decoder makes.
    """

    derived = frozenset({"_decoder", "_encoder"})

    def __init__(self, decoder: str | Path | nn.Module, prior_weight: float = 0.0, std: float = 1.0) -> None:
        name = type(self).__name__
        if not 0 <= prior_weight < math.inf:
            raise InputError(f"{name}(prior_weight={prior_weight}): must be at least 0 and finite")
        check_std(name, std)
        if isinstance(decoder, nn.Module):
            module, self.decoder, self.digest = decoder, type(decoder).__name__, digest_of_weights(decoder)
        else:
            module, self.decoder, self.digest = load_autoencoder(decoder), str(decoder), digest_of_file(decoder)
        self._encoder: nn.Module | None = _frozen_copy(getattr(module, "encoder", None))
        self._decoder: Any = _frozen_copy(getattr(module, "decoder", module))
        for attribute in ("latent_size", "image_shape"):
            if not hasattr(self._decoder, attribute):
                raise InputError(
                    f"{name}: {type(self._decoder).__name__} has no attribute '{attribute}'; a decoder needs "
                    "latent_size and image_shape, or give an Autoencoder or a checkpoint of VAEModule"
                )
        self.prior_weight = prior_weight
        self.std = std

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        self._check_shape(image_shape)
        return self.std * torch.randn(self._decoder.latent_size, generator=generator)

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        self._check_shape(image_shape)
        pictures: Tensor = self._decoder.to(parameters)(self._codes(parameters))
        return pictures

    @override
    def invert(self, pictures: Tensor) -> Tensor:
        """Return the means of the codes of pictures; `__call__` turns them into reconstructions."""
        if self._encoder is None:
            raise InputError(
                f"{type(self).__name__} cannot start from a picture: a decoder alone has no encoder; give an "
                "Autoencoder or a checkpoint"
            )
        self._check_shape(pictures.shape[1:])
        with torch.no_grad():
            means: Tensor = self._encoder.to(pictures)(pictures)[0]
        return self._whiten(means)

    @override
    def prior(self, parameters: Tensor) -> Tensor | None:
        return self.prior_weight * 0.5 * parameters.square().sum(1) if self.prior_weight else None

    def _codes(self, parameters: Tensor) -> Tensor:
        """Return the codes ``(B, L)`` of parameters ``(B, L)``."""
        return parameters

    def _whiten(self, codes: Tensor) -> Tensor:
        """Undo `_codes`."""
        return codes

    def _check_shape(self, image_shape: Sequence[int]) -> None:
        if tuple(image_shape) != tuple(self._decoder.image_shape):
            raise InputError(
                f"the decoder '{self.decoder}' makes pictures of shape {tuple(self._decoder.image_shape)}, and the "
                f"network takes {tuple(image_shape)}; use a decoder that was trained on pictures of that shape"
            )


class DecorrelatedLatentImage(LatentImage):
    """The parameters are a decorrelated code, so that steps follow the differences within the training data.

    ``picture = decoder(μ + F·u)``, with μ and F·Fᵀ the mean and the covariance of the training set's codes
    (`measure_codes`), and u the parameters, ``(L,)``, which start as standard normal noise: the initial picture
    looks like one drawn from the data, and no direction is easier than another. The penalty is on u.

    Args:
        decoder: The same as in `LatentImage`.
        codes: The statistics, or a file of them. Default: the file that `VAEPicturesCallback` writes at the end of a
            training, with the checkpoint's name and ``.codes.pt`` (for a link, the name of its target).
        prior_weight: Weight of a penalty on u, ``prior_weight · ‖u‖² / 2``.
        std: Standard deviation of the initial u.

    Raises:
        InputError: See `LatentImage`; or the statistics are missing, or those of other weights or another size.
    """

    derived = LatentImage.derived | {"_factor", "_mean"}

    def __init__(
        self,
        decoder: str | Path | nn.Module,
        codes: str | Path | CodeStatistics | None = None,
        prior_weight: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__(decoder, prior_weight, std)
        if codes is None:
            if isinstance(decoder, nn.Module):
                raise InputError("DecorrelatedLatentImage(codes=None): give measure_codes(module, pictures)")
            codes = codes_file(decoder)
        statistics = codes if isinstance(codes, CodeStatistics) else load_codes(codes)
        if len(statistics.mean) != self._decoder.latent_size:
            raise InputError(
                f"the statistics are of codes of {len(statistics.mean)} numbers, the decoder '{self.decoder}' takes "
                f"{self._decoder.latent_size}; measure those of this decoder with measure_codes"
            )
        if not isinstance(decoder, nn.Module) and statistics.digest not in (None, self.digest):
            raise InputError(
                f"the statistics of the codes are of other weights than those of '{self.decoder}'; measure new ones "
                "with measure_codes"
            )
        self.codes = statistics.fingerprint()
        self._mean = statistics.mean
        self._factor = statistics.factor()

    @override
    def _codes(self, parameters: Tensor) -> Tensor:
        return self._mean.to(parameters) + parameters @ self._factor.T.to(parameters)

    @override
    def _whiten(self, codes: Tensor) -> Tensor:
        deviations = (codes.double().cpu() - self._mean).T
        whitened: Tensor = torch.linalg.solve_triangular(self._factor, deviations, upper=False).T.to(codes)
        return whitened


def _frozen_copy(module: nn.Module | None) -> nn.Module | None:
    """Return a copy in eval mode that no training changes."""
    return None if module is None else copy.deepcopy(module).eval().requires_grad_(False)
