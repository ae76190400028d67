"""Pictures to start from: images of the user's own."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageOps
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.images.resampling import resample

# What Pillow raises of files that it cannot read: broken ones, ones of another kind, and ones that are too large.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, PILImage.DecompressionBombError)
# Brightness of red, green and blue, ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


def read_image(path: str | Path) -> Tensor:
    """Read an image file of any kind that Pillow knows.

    Args:
        path: The file. It may be grey, of 8 or 16 bits, have a palette, or an alpha channel, which is left out; it is
            turned upright if a camera has noted how it was held.

    Returns:
        ``(3, H, W)`` in [0, 1], red, green and blue.

    Raises:
        InputError: The file is missing, or is no image that can be read.
    """
    if not Path(path).is_file():
        raise InputError(f"no image file '{path}'; give a PNG, JPEG or other image that Pillow reads")
    try:
        # Pillow warns of odd metadata, which has no part in the picture.
        with warnings.catch_warnings(action="ignore"), PILImage.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I"):  # 16 bits, which a conversion to 8 would cut off at 255
                grey = torch.from_numpy(np.asarray(upright, dtype=np.float32)) / 65535
                return grey.clamp(0, 1).expand(3, -1, -1).clone()
            pixels = np.array(upright.convert("RGBA").convert("RGB"))
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read '{path}' as an image: {reason}; give a PNG, JPEG or other image") from error
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


def fit_picture(picture: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Return the middle of a picture, in the proportions and the size that are wanted.

    Args:
        picture: ``(C, H, W)`` in [0, 1].
        image_shape: ``(C', H', W')``. Of three channels one is made by their brightness, of one any number by copies.

    Returns:
        ``(C', H', W')`` in [0, 1].

    Raises:
        InputError: The numbers of channels do not fit.
    """
    channels, height, width = image_shape
    if len(picture) == 3 and channels == 1:
        picture = torch.einsum("c,chw->hw", picture.new_tensor(_LUMA), picture)[None]
    elif len(picture) == 1:
        picture = picture.expand(channels, -1, -1)
    if len(picture) != channels:
        raise InputError(f"a picture of {len(picture)} channels is no start for pictures of {channels}; give a tensor")
    rows, columns = picture.shape[1:]
    scale = min(rows / height, columns / width)
    kept = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (rows - kept[0]) // 2, (columns - kept[1]) // 2
    middle = picture[:, top : top + kept[0], left : left + kept[1]]
    return resample(middle[None], (height, width))[0].clamp(0, 1)


def load_start(start: str | Path | Tensor) -> Tensor:
    """Return the picture that a maximizer is given to start from, ``(C, H, W)`` in [0, 1], on the CPU.

    Args:
        start: An image file, or a tensor ``(C, H, W)`` in [0, 1].

    Raises:
        InputError: The file cannot be read, or the tensor is no picture.
    """
    if not isinstance(start, Tensor):
        return read_image(start)
    if start.ndim != 3 or not start.numel() or not start.is_floating_point():
        raise InputError(
            f"Maximizer(start): {start.dtype} of shape {tuple(start.shape)} is no picture; give (C, H, W) in [0, 1]"
        )
    # Not `min() < 0 or max() > 1`, which lets NaN pass.
    if not bool(((start >= 0) & (start <= 1)).all()):
        raise InputError("Maximizer(start): the picture has values that are not in [0, 1]; divide bytes by 255")
    return start.detach().float().cpu()


def describe_start(start: str | Path | Tensor | None, picture: Tensor | None) -> dict[str, Any] | None:
    """Return what tells one start from another, as plain values: the file's name, and a digest of the picture."""
    if picture is None:
        return None
    digest = hashlib.sha256(picture.contiguous().numpy().tobytes()).hexdigest()[:16]
    return {"file": None if isinstance(start, Tensor) else str(start), "digest": digest}
