"""Magnitude spectra: how much of each frequency pictures have, anywhere in them. Measured, resampled, and in files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.images.display import from_display
from fvlightning.features.images.fourier import frequencies
from fvlightning.io import load_plain, write_atomically

# Contrast and brightness of natural images before the sigmoid, by channel: the standard deviation of a picture that has
# their mean magnitude, and the mean absolute mean of a picture. Measured (periodic=False) on 200 ImageNet photos of 224
# pixels, three decorrelated colours; for any other number of channels, on the grey values of the same photos.
_COLOR_CONTRASTS, _COLOR_MEANS = (1.85, 1.55, 1.61), (1.01, 1.59, 1.16)
_GREY_CONTRAST, _GREY_MEAN = 1.03, 0.56
# The spectra of natural images fall about like this; divided by the fall, a spectrum is smooth.
_NATURAL_DECAY = 1.5

_HOW = "write one with `python -m fvlightning magnitude`, or with save_magnitude(measure_magnitude(...), path)"
_SUFFIXES = (".safetensors", ".pt")


def natural_magnitude(image_shape: Sequence[int], decay: float = _NATURAL_DECAY) -> Tensor:
    """Return a magnitude spectrum ``(C, H, W // 2 + 1)`` that falls as ``f ** -decay``, with natural contrast.

    Args:
        image_shape: ``(C, H, W)``.
        decay: How fast it falls with the frequency f; about 1.5 in natural images.
    """
    channels, height, width = image_shape
    fall = frequencies(height, width).clamp(min=1 / max(height, width)) ** -decay
    magnitude = fall.expand(channels, -1, -1).clone()
    colored = channels == 3
    contrasts = torch.tensor(_COLOR_CONTRASTS if colored else [_GREY_CONTRAST] * channels)
    means = torch.tensor(_COLOR_MEANS if colored else [_GREY_MEAN] * channels)
    magnitude *= (contrasts / contrast(magnitude, width))[:, None, None]
    magnitude[:, 0, 0] = means * height * width
    return magnitude


def measure_magnitude(
    pictures: Iterable[object], image_shape: Sequence[int], decorrelate: bool = True, periodic: bool = True
) -> Tensor:
    """Return the mean magnitude spectrum of pictures, for `MagnitudeConstrainedImage`.

    It is ``E |rfft2(x)|`` (Fel et al. 2023, https://arxiv.org/abs/2306.06805), where x are the picture's colours before
    the sigmoid: the space in which phases are optimised.

    Args:
        pictures: Pictures ``(C, H, W)`` or batches ``(B, C, H, W)`` in [0, 1], or tuples or lists that begin with one,
            as data loaders yield. They are read once, one after the other.
        image_shape: ``(C, H, W)`` of all pictures.
        decorrelate: Whether to decorrelate the colours of three channels; the same as in `MagnitudeConstrainedImage`.
        periodic: Whether to leave out the jumps from the right border to the left and from the bottom to the top, which
            a Fourier transform takes for edges (Moisan 2011, https://doi.org/10.1007/s10851-010-0227-1). The paper
            keeps them; pictures are then more hatched along both axes.

    Returns:
        ``(C, H, W // 2 + 1)``, float32, on the CPU.

    Raises:
        InputError: There are no pictures, or one has another shape or values outside [0, 1].
    """
    shape = tuple(image_shape)
    total, count = torch.zeros(shape[0], shape[1], shape[2] // 2 + 1, dtype=torch.float64), 0
    for item in pictures:
        batch = item[0] if isinstance(item, tuple | list) and item else item
        if not isinstance(batch, Tensor) or batch.shape[-3:] != shape or batch.ndim not in (3, 4):
            kind = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"type {type(batch).__name__}"
            raise InputError(f"a magnitude spectrum of pictures {shape} cannot take one of {kind}; resize or crop all")
        # Not `min() < 0 or max() > 1`, which lets NaN pass.
        if not bool(((batch >= 0) & (batch <= 1)).all()):
            raise InputError("magnitudes need pictures in [0, 1]; leave out normalisation, divide bytes by 255")
        colors = from_display(batch.detach().float().reshape(-1, *shape), decorrelate)
        spectra = torch.fft.rfft2(colors)
        if periodic:
            spectra = spectra - _border_spectra(colors)
        total += spectra.abs().sum(0, dtype=torch.float64).cpu()
        count += len(colors)
    if not count:
        raise InputError("a magnitude spectrum cannot be measured without pictures; give at least one")
    return (total / count).float()


def resample_magnitude(magnitude: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Return the magnitude spectrum ``(C, H', W' // 2 + 1)`` for another size, with the same contrast and mean.

    Frequencies are in cycles per pixel. The logarithm, without the natural fall of ``f ** -1.5``, is interpolated
    between them; below the lowest measured one the natural fall goes on, since natural images are alike at all scales
    (Field 1987, https://doi.org/10.1364/JOSAA.4.002379).

    Args:
        magnitude: ``(C, H, W // 2 + 1)``.
        image_shape: ``(C, H', W')``.

    Raises:
        InputError: The number of channels differs.
    """
    channels, height, width = image_shape
    if len(magnitude) != channels:
        raise InputError(
            f"the magnitude spectrum has {len(magnitude)} channels, the pictures have {channels}; measure it on "
            f"pictures of {channels} channels: `python -m fvlightning magnitude --output FILE --images FOLDER "
            f"--image_shape '[{channels}, {height}, {width}]'`, or measure_magnitude"
        )
    if magnitude.shape[1:] == (height, width // 2 + 1):
        return magnitude
    old_height, n_columns = magnitude.shape[1:]
    # A half spectrum does not tell odd widths from even ones: assume a square where it could be one.
    old_width = old_height if old_height // 2 + 1 == n_columns else max(2 * (n_columns - 1), 1)
    old, new = frequencies(old_height, old_width), frequencies(height, width)
    tiny = torch.finfo(magnitude.dtype).tiny
    levels = magnitude.clamp(min=tiny).log() + _NATURAL_DECAY * old.clamp(min=tiny).log()
    if levels[0].numel() > 1:
        # The mean is not a frequency: its place is filled, so that the lowest frequencies do not draw on it.
        neighbours = torch.cat([levels[:, 1:2, 0], levels[:, 0, 1:2]], dim=1)
        levels[:, 0, 0] = neighbours.mean(1)
    # Rows in the order of their frequencies, from the most negative one, so that a place in the map is linear in them.
    levels = levels.roll(old_height // 2, dims=1)
    rows = (torch.fft.fftfreq(height) * old_height + old_height // 2) * 2 / max(old_height - 1, 1) - 1
    columns = torch.fft.rfftfreq(width) * old_width * 2 / max(n_columns - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    sampled = F.grid_sample(levels[None], grid, padding_mode="border", align_corners=True)[0]
    resampled = (sampled - _NATURAL_DECAY * new.clamp(min=1 / max(height, width)).log()).exp()
    resampled[:, 0, 0] = 0
    factors = contrast(magnitude, old_width) / contrast(resampled, width).clamp(min=tiny)
    resampled *= factors[:, None, None]
    resampled[:, 0, 0] = magnitude[:, 0, 0] * (height * width) / (old_height * old_width)
    return resampled


def contrast(magnitude: Tensor, width: int) -> Tensor:
    """Return the standard deviations ``(C,)`` of a picture's channels from its magnitudes ``(C, H, W // 2 + 1)``."""
    height, n_columns = magnitude.shape[1:]
    # By Parseval's theorem. Columns of a half spectrum count twice, except those that are their own mirror image.
    twice = magnitude.new_full((n_columns,), 2.0)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    energy = magnitude.square() * twice
    return (energy.sum((1, 2)) - energy[:, 0, 0]).clamp(min=0).sqrt() / (height * width)


def _border_spectra(colors: Tensor) -> Tensor:
    """Return the spectra of smooth pictures of mean 0 that solve Poisson's equation for jumps across the borders."""
    height, width = colors.shape[-2:]
    jumps = torch.zeros_like(colors)
    rows, columns = colors[..., -1, :] - colors[..., 0, :], colors[..., -1] - colors[..., 0]
    jumps[..., 0, :] += rows
    jumps[..., -1, :] -= rows
    jumps[..., 0] += columns
    jumps[..., -1] -= columns
    y = torch.fft.fftfreq(height, device=colors.device)[:, None]
    x = torch.fft.rfftfreq(width, device=colors.device)
    laplacian = 2 * torch.cos(2 * torch.pi * y) + 2 * torch.cos(2 * torch.pi * x) - 4
    laplacian[0, 0] = 1
    spectra: Tensor = torch.fft.rfft2(jumps) / laplacian
    spectra[..., 0, 0] = 0
    return spectra


def save_magnitude(magnitude: Tensor, path: str | Path, settings: Mapping[str, Any] | None = None) -> None:
    """Write a magnitude spectrum ``(C, H, W // 2 + 1)`` to a file, whole or not at all.

    Args:
        magnitude: The spectrum.
        path: A ``.safetensors`` or ``.pt`` file.
        settings: How it was measured, in plain values, for `read_magnitude_settings`.

    Raises:
        InputError: The name has another ending, or the tensor is not a magnitude spectrum.
    """
    path = Path(path)
    check_magnitude_name(path)
    tensors = {"magnitude": _checked(magnitude, "the tensor").contiguous()}
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
