"""Magnitude spectra as files, read without running code."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.pickles import load_plain

_HOW = "write one with save_magnitude(measure_magnitude(pictures, image_shape), path)"
_SUFFIXES = (".safetensors", ".pt")


def save_magnitude(magnitude: Tensor, path: str | Path) -> None:
    """Write a magnitude spectrum ``(C, H, W // 2 + 1)`` to a ``.safetensors`` or a ``.pt`` file.

    Raises:
        InputError: The name ends otherwise, or the tensor is no magnitude spectrum.
    """
    path = Path(path)
    _check_suffix(path)
    saved = _checked(magnitude, "the tensor").contiguous()
    if path.suffix == ".pt":
        torch.save(saved, path)
        return
    from safetensors.torch import save_file

    save_file({"magnitude": saved}, path)


def load_magnitude(path: str | Path) -> Tensor:
    """Read a magnitude spectrum that `save_magnitude` wrote, or a ``.pt`` file of one tensor.

    Returns:
        ``(C, H, W // 2 + 1)``, float32, on the CPU.

    Raises:
        InputError: The file is missing, damaged, holds code or holds no magnitude spectrum.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise InputError(f"no magnitude spectrum '{path}'; {_HOW}, or leave it out for that of natural images")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    return _checked(content.get("magnitude") if isinstance(content, dict) else content, f"'{path}'")


def digest_of(path: str | Path) -> str:
    """Return a short fingerprint of a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _check_suffix(path: Path) -> None:
    if path.suffix not in _SUFFIXES:
        raise InputError(f"'{path}' is no name of a magnitude spectrum; it ends with {' or '.join(_SUFFIXES)}")


def _checked(content: object, name: str) -> Tensor:
    if not isinstance(content, Tensor) or content.ndim != 3 or not content.numel() or content.is_complex():
        found = f"shape {tuple(content.shape)}" if isinstance(content, Tensor) else type(content).__name__
        raise InputError(f"{name} holds no magnitude spectrum (C, H, W // 2 + 1), but {found}; {_HOW}")
    magnitude = content.detach().float().cpu()
    if not bool((magnitude.isfinite() & (magnitude >= 0)).all()):
        raise InputError(f"{name} holds magnitudes that are negative or not finite; {_HOW}")
    return magnitude


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"'{path}' is not a safetensors file, or it is damaged; {_HOW}") from error


def _read_pickle(path: Path) -> object:
    problem = f"'{path}' is damaged, or holds more than a tensor, which is not run; {_HOW}"
    return load_plain(path, refused=problem, damaged=problem)
