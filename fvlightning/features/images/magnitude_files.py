"""Magnitude spectra as files, read without running code."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.io.loading import load_plain

_HOW = "write one with `python -m fvlightning magnitude`, or with save_magnitude(measure_magnitude(...), path)"
_SUFFIXES = (".safetensors", ".pt")


def save_magnitude(magnitude: Tensor, path: str | Path, settings: Mapping[str, Any] | None = None) -> None:
    """Write a magnitude spectrum ``(C, H, W // 2 + 1)`` to a file, which is there whole or not at all.

    Args:
        magnitude: The spectrum.
        path: A ``.safetensors`` or a ``.pt`` file.
        settings: How it was measured, plain values, for `read_settings`.

    Raises:
        InputError: The name ends otherwise, or the tensor is no magnitude spectrum.
    """
    path = Path(path)
    check_magnitude_name(path)
    saved = _checked(magnitude, "the tensor").contiguous()
    text = json.dumps(dict(settings or {}))
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        if path.suffix == ".pt":
            torch.save({"magnitude": saved, "settings": text}, temporary)
        else:
            from safetensors.torch import save

            temporary.write_bytes(save({"magnitude": saved}, {"settings": text}))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_magnitude(path: str | Path) -> Tensor:
    """Read a magnitude spectrum that `save_magnitude` wrote, or a ``.pt`` file of one tensor.

    Returns:
        ``(C, H, W // 2 + 1)``, float32, on the CPU.

    Raises:
        InputError: The file is missing, damaged, holds code or holds no magnitude spectrum.
    """
    path = Path(path)
    check_magnitude_name(path)
    if not path.is_file():
        raise InputError(f"no magnitude spectrum '{path}'; {_HOW}, or leave it out for that of natural images")
    content = _read(path)
    return _checked(content.get("magnitude") if isinstance(content, dict) else content, f"'{path}'")


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return how the spectrum in a file was measured, as `save_magnitude` was told; empty if it does not say.

    Raises:
        InputError: The file is damaged, or holds code.
    """
    content = _read(Path(path))
    text = content.get("settings") if isinstance(content, dict) else None
    settings: dict[str, Any] = json.loads(text) if isinstance(text, str) else {}
    return settings


def check_magnitude_name(path: Path) -> None:
    """Check that a file's name has an ending of magnitude spectra.

    Raises:
        InputError: It has not.
    """
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
