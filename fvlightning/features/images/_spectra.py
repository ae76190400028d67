"""Spectra of real pictures: their frequencies, and the same waves at another size."""

from collections.abc import Sequence

import torch
from torch import Tensor


def frequencies(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the frequencies of `torch.fft.rfft2` in cycles per pixel, ``(H, W // 2 + 1)``."""
    rows = torch.fft.fftfreq(height, device=device)[:, None]
    return torch.hypot(rows, torch.fft.rfftfreq(width, device=device))


def resize_spectra(spectra: Tensor, size: Sequence[int], new_size: Sequence[int]) -> Tensor:
    """Return the spectra ``(..., H', W' // 2 + 1)`` of the same pictures at another size.

    The waves stay as they are, except that those too fine for the new size are left out. So at twice the size every
    other pixel is an old one.

    Args:
        spectra: ``(..., H, W // 2 + 1)``, from `torch.fft.rfft2` of real pictures.
        size: ``(H, W)``.
        new_size: ``(H', W')``.
    """
    (height, width), (new_height, new_width) = size, new_size
    n_rows, n_columns = min(height, new_height), min(width, new_width)
    columns = n_columns // 2 + 1
    resized = spectra.new_zeros(*spectra.shape[:-2], new_height, new_width // 2 + 1)
    upper, lower = slice(0, (n_rows + 1) // 2), slice(-(n_rows // 2), None)
    resized[..., upper, :columns] = spectra[..., upper, :columns]
    if n_rows > 1:
        resized[..., lower, :columns] = spectra[..., lower, :columns]
    # At an even size the finest wave is its own mirror image; at a larger size the two are apart, with half each.
    if n_rows % 2 == 0 and height != new_height:
        middle = n_rows // 2
        if new_height > height:
            resized[..., -middle, :] /= 2
            resized[..., middle, :] = resized[..., -middle, :]
        else:
            resized[..., middle, :columns] += spectra[..., middle, :columns]
    if n_columns % 2 == 0 and width != new_width:
        # A half spectrum does not hold the mirror image.
        resized[..., columns - 1] *= 0.5 if new_width > width else 2
    return resized * (new_height * new_width / (height * width))
