"""What a data set looks like: its frequencies and colours. Measured, and in files."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.images._spectra import frequencies
from fvlightning.features.images.display import decorrelate_colors, from_display, mix_channels
from fvlightning.features.images.magnitude import border_spectra
from fvlightning.io import load_plain, write_atomically

# The smallest variance of a direction of colours: as a share of the largest, and in itself.
_SMALLEST_SHARE, _SMALLEST_VARIANCE = 1e-4, 1e-8
# Colours nearer to black and white would lie where the sigmoid is flat.
_MARGIN = 0.01

_HOW = "write one with `python -m fvlightning magnitude`, or with save_magnitude(measure_statistics(...), path)"
_SUFFIXES = (".safetensors", ".pt")
_COLORS = ("color_correlation", "mean_color", "contrast", "slope")


@dataclass(frozen=True, eq=False)
class ImageStatistics:
    """Statistics of a set of pictures.

    Attributes:
        magnitude: The mean magnitude spectrum, ``(C, H, W // 2 + 1)`` (`measure_magnitude`).
        color_correlation: A square root of the covariance of the colours before the sigmoid, ``(C, C)``. Its columns
            are the principal directions of the colours, the strongest first, in three channels usually brightness. The
            weakest are a hundredth of the strongest, so that grey images in three channels have an inverse as well.
        mean_color: The mean colour, ``(C,)`` in [0, 1].
        contrast: The mean over pictures of the standard deviation of all their values.
        slope: The slope of the logarithmic power of the spectrum over the logarithmic frequency, -2 to -3 in nature;
            NaN for sides of less than 8 pixels.
    """

    magnitude: Tensor
    color_correlation: Tensor
    mean_color: Tensor
    contrast: float
    slope: float

    def to_colors(self, colors: Tensor, decorrelated: bool) -> Tensor:
        """Turn colours around 0 into the argument of the sigmoid, around the mean colour.

        Args:
            colors: ``(B, C, H, W)``.
            decorrelated: Whether they get the correlation of the data as well.
        """
        return (mix_channels(self._mixing, colors) if decorrelated else colors) + self._center.to(colors)

    def from_colors(self, colors: Tensor, decorrelated: bool) -> Tensor:
        """Undo `to_colors`."""
        centred = colors - self._center.to(colors)
        return mix_channels(torch.linalg.inv(self._mixing.double()), centred) if decorrelated else centred

    @cached_property
    def _mixing(self) -> Tensor:
        """The correlation at the size of that of natural images: its longest column is 1."""
        mixing: Tensor = self.color_correlation / torch.linalg.vector_norm(self.color_correlation, dim=0).max()
        return mixing

    @cached_property
    def _center(self) -> Tensor:
        return torch.logit(self.mean_color.clamp(_MARGIN, 1 - _MARGIN))[:, None, None]


def measure_statistics(
    pictures: Iterable[object], image_shape: Sequence[int], decorrelate: bool = True, periodic: bool = True
) -> ImageStatistics:
    """Return the statistics of pictures, for `FourierImage` and `MagnitudeConstrainedImage`.

    Args:
        pictures: Pictures ``(C, H, W)`` or batches ``(B, C, H, W)`` in [0, 1], or tuples or lists that begin with one,
            as data loaders yield. They are read once, one after the other.
        image_shape: ``(C, H, W)`` of all pictures.
        decorrelate: Whether the spectrum is that of decorrelated colours, for three channels; the same as in
            `MagnitudeConstrainedImage`. `FourierImage` takes either.
        periodic: Whether to leave out the jumps from the right border to the left and from the bottom to the top, which
            a Fourier transform takes for edges (Moisan 2011, https://doi.org/10.1007/s10851-010-0227-1). The paper of
            MaCo keeps them; pictures are then more hatched along both axes.

    Raises:
        InputError: There are no pictures, or one has another shape or values outside [0, 1].
    """
    shape = tuple(image_shape)
    n_channels, height, width = shape
    spectrum = torch.zeros(n_channels, height, width // 2 + 1, dtype=torch.float64)
    squares = torch.zeros(n_channels, n_channels, dtype=torch.float64)
    sums, light = torch.zeros(n_channels, dtype=torch.float64), torch.zeros(n_channels, dtype=torch.float64)
    contrast, count = 0.0, 0
    for item in pictures:
        batch = _checked_batch(item, shape)
        colors = from_display(batch, False)
        values = decorrelate_colors(colors) if decorrelate else colors
        spectra = torch.fft.rfft2(values)
        if periodic:
            spectra = spectra - border_spectra(values)
        spectrum += spectra.abs().sum(0, dtype=torch.float64).cpu()
        pixels = colors.movedim(1, 0).flatten(1).double()
        squares += (pixels @ pixels.T).cpu()
        sums += pixels.sum(1).cpu()
        light += batch.sum((0, 2, 3), dtype=torch.float64).cpu()
        contrast += float(batch.flatten(1).std(1, correction=0).sum())
        count += len(batch)
    if not count:
        raise InputError("a magnitude spectrum cannot be measured without pictures; give at least one")
    magnitude, n_pixels = (spectrum / count).float(), count * height * width
    covariance = squares / n_pixels - torch.outer(sums, sums) / n_pixels**2
    mean_color = (light / n_pixels).float()
    return ImageStatistics(magnitude, _square_root(covariance), mean_color, contrast / count, _slope(magnitude, width))


def measure_magnitude(
    pictures: Iterable[object], image_shape: Sequence[int], decorrelate: bool = True, periodic: bool = True
) -> Tensor:
    """Return the mean magnitude spectrum of pictures alone, ``(C, H, W // 2 + 1)``, float32, on the CPU.

    It is ``E |rfft2(x)|`` (Fel et al. 2023, https://arxiv.org/abs/2306.06805), where x are the picture's colours before
    the sigmoid: the space in which phases are optimised. See `measure_statistics` for arguments and errors.
    """
    return measure_statistics(pictures, image_shape, decorrelate, periodic).magnitude


def _checked_batch(item: object, shape: tuple[int, ...]) -> Tensor:
    batch = item[0] if isinstance(item, tuple | list) and item else item
    if not isinstance(batch, Tensor) or batch.shape[-3:] != shape or batch.ndim not in (3, 4):
        kind = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"type {type(batch).__name__}"
        raise InputError(f"a magnitude spectrum of pictures {shape} cannot take one of {kind}; resize or crop all")
    # Not `min() < 0 or max() > 1`, which lets NaN pass.
    if not bool(((batch >= 0) & (batch <= 1)).all()):
        raise InputError("magnitudes need pictures in [0, 1]; leave out normalisation, divide bytes by 255")
    return batch.detach().float().reshape(-1, *shape)


def _square_root(covariance: Tensor) -> Tensor:
    """Return the principal directions of a covariance ``(C, C)`` as columns, as long as their standard deviations."""
    variances, directions = torch.linalg.eigh(covariance)
    # Each direction points to more light, so that it is the same on each machine.
    directions = directions * torch.where(directions.sum(0) < 0, -1.0, 1.0)
    variances = variances.clamp(min=max(_SMALLEST_SHARE * float(variances.max()), _SMALLEST_VARIANCE))
    root: Tensor = (directions * variances.sqrt()).flip(1).float()
    return root


def _slope(magnitude: Tensor, width: int) -> float:
    """Return the slope of the mean power of rings of whole cycles, from 2 to half of the shorter side."""
    side = min(magnitude.shape[1], width)
    radii = torch.arange(2, side // 2)
    if len(radii) < 2:
        return math.nan
    rings = (frequencies(magnitude.shape[1], width) * side).round().long().flatten()
    power = magnitude.double().square().mean(0).flatten()
    sums = power.new_zeros(int(rings.max()) + 1).index_add(0, rings, power)
    log_power = (sums / rings.bincount())[radii].clamp(min=1e-12).log()
    log_frequency = radii.double().log()
    log_frequency -= log_frequency.mean()
    return float(log_power @ log_frequency / log_frequency.square().sum())


def save_magnitude(
    measured: Tensor | ImageStatistics, path: str | Path, settings: Mapping[str, Any] | None = None
) -> None:
    """Write statistics, or a magnitude spectrum ``(C, H, W // 2 + 1)`` alone, to a file, whole or not at all.

    Args:
        measured: The statistics, or the spectrum, which suffices for `MagnitudeConstrainedImage`.
        path: A ``.safetensors`` or ``.pt`` file.
        settings: How it was measured, in plain values, for `read_magnitude_settings`.

    Raises:
        InputError: The name has another ending, or the tensor is not a magnitude spectrum.
    """
    path = Path(path)
    check_magnitude_name(path)
    magnitude = measured if isinstance(measured, Tensor) else measured.magnitude
    tensors = {"magnitude": _checked(magnitude, "the tensor").contiguous()}
    if isinstance(measured, ImageStatistics):
        tensors |= {name: torch.as_tensor(getattr(measured, name)).contiguous() for name in _COLORS}
    metadata = {"settings": json.dumps(dict(settings or {}))}
    if path.suffix == ".pt":
        write_atomically(path, lambda file: torch.save(tensors | metadata, file))
    else:
        from safetensors.torch import save

        write_atomically(path, lambda file: file.write(save(tensors, metadata)))


def load_magnitude(path: str | Path) -> Tensor:
    """Read a magnitude spectrum that `save_magnitude` wrote, or a ``.pt`` file of one tensor.

    Returns:
        ``(C, H, W // 2 + 1)``, float32, on the CPU.

    Raises:
        InputError: The file is missing or damaged, holds code, or does not hold a magnitude spectrum.
    """
    path = Path(path)
    check_magnitude_name(path)
    if not path.is_file():
        raise InputError(f"no magnitude spectrum '{path}'; {_HOW}, or leave it out for that of natural images")
    content = _read(path)
    return _checked(content.get("magnitude") if isinstance(content, dict) else content, f"'{path}'")


def load_statistics(path: str | Path) -> ImageStatistics:
    """Read the statistics that `save_magnitude` wrote.

    Raises:
        InputError: The file is missing or damaged, holds code, or does not hold statistics.
    """
    magnitude = load_magnitude(path)
    content = _read(Path(path))
    colors = {name: content.get(name) for name in _COLORS} if isinstance(content, dict) else {}
    n_channels = len(magnitude)
    shapes = {name: tuple(part.shape) for name, part in colors.items() if isinstance(part, Tensor)}
    if shapes != dict(zip(_COLORS, ((n_channels, n_channels), (n_channels,), (), ()), strict=True)):
        raise InputError(
            f"'{path}' holds a magnitude spectrum, but not the colours of the images; measure them again with "
            "`python -m fvlightning magnitude --overwrite true`"
        )
    correlation, mean_color, contrast, slope = (torch.as_tensor(colors[name]).float().cpu() for name in _COLORS)
    if not bool(correlation.isfinite().all() & (mean_color >= 0).all() & (mean_color <= 1).all()):
        raise InputError(f"'{path}' holds colours that are not finite, or not in [0, 1]; {_HOW}")
    return ImageStatistics(magnitude, correlation, mean_color, float(contrast), float(slope))


def read_magnitude_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings that `save_magnitude` wrote into a file; empty if it holds none.

    Raises:
        InputError: The file is damaged, or holds code.
    """
    content = _read(Path(path))
    text = content.get("settings") if isinstance(content, dict) else None
    return dict(json.loads(text)) if isinstance(text, str) else {}


def check_magnitude_name(path: Path) -> None:
    """Raise `InputError` if the name of a file does not end as those of magnitude spectra do."""
    if path.suffix not in _SUFFIXES:
        raise InputError(f"'{path}' is not the name of a magnitude spectrum; it ends with {' or '.join(_SUFFIXES)}")


def _checked(content: object, name: str) -> Tensor:
    if not isinstance(content, Tensor) or content.ndim != 3 or not content.numel() or content.is_complex():
        kind = f"shape {tuple(content.shape)}" if isinstance(content, Tensor) else type(content).__name__
        raise InputError(f"{name} holds no magnitude spectrum (C, H, W // 2 + 1), but {kind}; {_HOW}")
    magnitude = content.detach().float().cpu()
    if not bool((magnitude.isfinite() & (magnitude >= 0)).all()):
        raise InputError(f"{name} holds magnitudes that are negative or not finite; {_HOW}")
    return magnitude


def _read(path: Path) -> object:
    if path.suffix == ".pt":
        problem = f"'{path}' is damaged, or holds more than a tensor, which is not run; {_HOW}"
        return load_plain(path, refused=problem, damaged=problem)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {**(file.metadata() or {}), **{name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"'{path}' is not a safetensors file, or it is damaged; {_HOW}") from error
