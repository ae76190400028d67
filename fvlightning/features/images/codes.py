"""Codes of a trained autoencoder: its checkpoint, and the statistics of the codes of many pictures."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.io import digest_of_file, digest_of_tensors, load_plain, read_checkpoint, write_atomically
from fvlightning.networks import Autoencoder

_HOW = "write one with measure_codes(checkpoint, pictures).save(path), or train with VAEPicturesCallback"
# Added to the variances, relative to their mean: the covariance of codes with constant numbers is singular.
_JITTER = 1e-6


@dataclass(frozen=True)
class CodeStatistics:
    """Mean and covariance of the codes of many pictures.

    Attributes:
        mean: ``(L,)``, float64.
        covariance: ``(L, L)``, float64, as measured: singular unless there are more codes than numbers in a code.
        count: The number of codes.
        digest: Digest of the checkpoint file that made the codes, or None if a module made them.
    """

    mean: Tensor
    covariance: Tensor
    count: int
    digest: str | None = None

    def factor(self) -> Tensor:
        """Return the lower triangular F with F·Fᵀ the covariance, ``(L, L)``, float64.

        Unless there are more codes than numbers in a code, the covariance is first shrunk towards a multiple of the
        identity, with a warning (oracle-approximating shrinkage, Chen et al. 2010, https://arxiv.org/abs/0907.4698).
        """
        covariance, size = self.covariance, len(self.mean)
        identity = torch.eye(size, dtype=covariance.dtype)
        if self.count <= size:
            share = _shrinkage(covariance, self.count)
            warnings.warn(
                f"{self.count} codes are too few for the covariance of {size} numbers: it is shrunk by {share:.0%} "
                "towards a multiple of the identity; measure the codes of more pictures",
                stacklevel=3,
            )
            covariance = (1 - share) * covariance + share * covariance.diagonal().mean() * identity
        jitter = (_JITTER * covariance.diagonal().mean()).clamp(min=1e-12)
        factor: Tensor = torch.linalg.cholesky(covariance + jitter * identity)
        return factor

    def fingerprint(self) -> str:
        """Return a digest of the statistics."""
        return digest_of_tensors(self.mean, self.covariance)

    def save(self, path: str | Path) -> None:
        """Write the statistics to a file that `load_codes` reads, whole or not at all."""
        write_atomically(Path(path), lambda file: torch.save(vars(self), file))


def measure_codes(encoder: str | Path | nn.Module, pictures: Iterable[Tensor] | Tensor) -> CodeStatistics:
    """Encode pictures, and return the statistics of the means of their codes.

    Args:
        encoder: A checkpoint of `VAEModule`, an `Autoencoder`, or an encoder: a module that maps pictures to means and
            standard deviations ``(B, L)``.
        pictures: Batches ``(B, C, H, W)`` in [0, 1], or one batch; they are encoded on the encoder's device.

    Raises:
        InputError: There are fewer than two pictures, or the checkpoint cannot be used (see `load_autoencoder`).
    """
    module = encoder if isinstance(encoder, nn.Module) else load_autoencoder(encoder)
    digest = None if isinstance(encoder, nn.Module) else digest_of_file(encoder)
    encode = getattr(module, "encoder", module)
    flags = {part: part.training for part in encode.modules()}
    device = next(encode.parameters()).device
    moments: _Moments | None = None
    try:
        for part in flags:
            part.training = False
        with torch.no_grad():
            for batch in [pictures] if isinstance(pictures, Tensor) else pictures:
                codes = encode(batch.to(device))[0].cpu().double()  # not every device has float64
                moments = _Moments(codes.mean(0)) if moments is None else moments
                moments.add(codes)
    finally:
        for part, flag in flags.items():
            part.training = flag
    if moments is None or moments.count < 2:
        raise InputError("measure_codes: a covariance needs at least 2 pictures; give more")
    return CodeStatistics(*moments.mean_and_covariance(), moments.count, digest)


def codes_file(checkpoint: str | Path) -> Path:
    """Return the file of the statistics of a checkpoint's codes: the checkpoint's name and ``.codes.pt``.

    Among the names of a checkpoint, such as ``last.ckpt`` and ``epoch=2-step=84.ckpt``, the one that is not a link has
    priority, unless only the file of a link exists.
    """
    checkpoint = Path(checkpoint)
    file = checkpoint.resolve() if checkpoint.is_symlink() else checkpoint
    # Not `samefile`, which fails at a broken link.
    links = [path for path in file.parent.glob("*.ckpt") if path.is_symlink() and path.resolve() == file.resolve()]
    names = [Path(f"{path}.codes.pt") for path in (file, checkpoint, *links)]
    return next((name for name in names if name.is_file()), names[0])


def load_codes(path: str | Path) -> CodeStatistics:
    """Read statistics that `CodeStatistics.save` wrote, without running code.

    Raises:
        InputError: The file is missing or damaged, holds code, or does not hold such statistics.
    """
    if not Path(path).is_file():
        raise InputError(f"no statistics of codes '{path}'; {_HOW}")
    problem = f"'{path}' is damaged, or holds more than tensors and plain values, which is not run; {_HOW}"
    content = load_plain(path, refused=problem, damaged=problem)
    if not isinstance(content, dict) or content.keys() != {"mean", "covariance", "count", "digest"}:
        raise InputError(f"'{path}' holds no statistics of codes; {_HOW}")
    return CodeStatistics(**content)


def load_autoencoder(path: str | Path) -> Autoencoder:
    """Return the autoencoder of a checkpoint of `VAEModule`, read without running code, in eval mode on the CPU.

    Raises:
        InputError: The file is missing or damaged, holds code, or is not a checkpoint of a VAE.
    """
    if not Path(path).is_file():
        raise InputError(
            f"no checkpoint '{path}' of a VAE; train one, for example with configs/mnist_vae.yaml (1x28x28) or "
            "configs/cifar10_vae.yaml (3x32x32)"
        )
    checkpoint = read_checkpoint(str(path))
    settings = checkpoint.get("hyper_parameters", {})
    weights = {
        name.removeprefix("net."): value for name, value in checkpoint["state_dict"].items() if name.startswith("net.")
    }
    try:
        network = Autoencoder(settings["input_shape"], settings["latent_size"], settings["widths"])
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"'{path}' is not a checkpoint of a VAE: its network is not that of VAEModule; give one of VAEModule"
        ) from error
    return network.eval()


class _Moments:
    """Sums of codes and of their products, about a point near the mean, to keep the covariance precise."""

    def __init__(self, origin: Tensor) -> None:
        self.count = 0
        self._origin = origin
        self._sums = torch.zeros_like(origin)
        self._products = origin.new_zeros(len(origin), len(origin))

    def add(self, codes: Tensor) -> None:
        deviations = codes - self._origin
        self.count += len(codes)
        self._sums += deviations.sum(0)
        self._products += deviations.T @ deviations

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        shift = self._sums / self.count
        covariance = (self._products - self.count * torch.outer(shift, shift)) / (self.count - 1)
        return self._origin + shift, covariance


def _shrinkage(covariance: Tensor, count: int) -> float:
    """Return the share of the identity, in [0, 1], of the oracle-approximating shrinkage."""
    size = len(covariance)
    squares, trace = covariance.square().sum().item(), covariance.trace().item()
    above = (1 - 2 / size) * squares + trace**2
    below = (count + 1 - 2 / size) * (squares - trace**2 / size)
    return min(1.0, above / below) if below > 0 else 1.0
