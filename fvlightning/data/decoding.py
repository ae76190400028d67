"""One image file -> the bytes of a picture of the size that is wanted."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fvlightning.data.augment import DRAW_LIMIT

Window = tuple[int, int, int, int]
"""A part of an image, in pixels: top, left, height, width."""

_ORIENTATION = 0x0112  # EXIF's tag; from 5 on the image lies on its side


class UnreadableImageError(Exception):
    """A file is no image, or none that can be read; it says why, in one line."""


def image_size(path: Path) -> tuple[int, int]:
    """Return the height and the width of an image as it is seen, upright, in pixels; only its header is read.

    Raises:
        UnreadableImageError: If it is no image.
    """
    try:
        with Image.open(path) as image:
            # Of a PNG without EXIF, Pillow would read all pixels to look for it behind them.
            may_lie = image.format != "PNG" or "exif" in image.info
            lies = may_lie and image.getexif().get(_ORIENTATION, 1) >= 5
            return (image.width, image.height) if lies else (image.height, image.width)
    # What a damaged file raises depends on its format: OSError, ValueError, SyntaxError, struct.error and more.
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def read_image(path: Path, channels: int) -> Image.Image:
    """Read an image, turn it upright, and convert it to 8 bits of grey or RGB.

    16 bits become 8 by division, transparent parts become white, and of several frames the first one counts.

    Args:
        path: The file, of any format that Pillow reads.
        channels: 3 for RGB, 1 for grey.

    Returns:
        An image of mode `RGB` or `L`.

    Raises:
        UnreadableImageError: If it is no image, is damaged, or has pixels of no known range.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16") or image.mode == "I":
                image = _of_16_bits(image)
            elif image.mode == "F":
                raise UnreadableImageError("its pixels are floats, whose range is not known")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("L" if channels == 1 else "RGB")
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def fit(image: Image.Image, size: tuple[int, int], window: Window | None = None) -> Tensor:
    """Cut a window out of an image and bring it to a size, with antialiasing.

    Args:
        image: Of mode `RGB` or `L`.
        size: Height and width that are wanted.
        window: What is cut out; by default the largest window in the middle that has the shape of `size`.

    Returns:
        Bytes, uint8 of shape `(C, H, W)`.
    """
    if window is None:
        window = central_window((image.height, image.width), size)
    if window != (0, 0, *size) or (image.height, image.width) != size:
        from torchvision.transforms.v2 import functional

        image = functional.resized_crop(image, *window, size=list(size), antialias=True)
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def central_window(source: tuple[int, int], target: tuple[int, int]) -> Window:
    """Return the largest window in the middle of a source `(H, W)` that has the shape of the target `(H, W)`."""
    scale = min(source[0] / target[0], source[1] / target[1])
    height, width = max(1, round(target[0] * scale)), max(1, round(target[1] * scale))
    return (source[0] - height) // 2, (source[1] - width) // 2, height, width


def random_window(source: tuple[int, int], area: tuple[float, float], draws: Sequence[int]) -> Window:
    """Return a random window of a source `(H, W)`: its area first, then its shape, then where it is.

    The shape, width over height, is between 3/4 and 4/3, log-uniform (Szegedy et al., https://arxiv.org/abs/1409.4842).
    A window that would be higher or wider than the image is cut at its border.

    Args:
        source: Height and width of the image.
        area: Least and greatest area of the window, as shares of the image's.
        draws: Four whole numbers in `[0, DRAW_LIMIT)`.
    """
    share, shape, down, right = (draw / DRAW_LIMIT for draw in draws)
    pixels = source[0] * source[1] * (area[0] + (area[1] - area[0]) * share)
    aspect = math.exp(math.log(4 / 3) * (2 * shape - 1))
    height = min(source[0], max(1, round(math.sqrt(pixels / aspect))))
    width = min(source[1], max(1, round(math.sqrt(pixels * aspect))))
    return int(down * (source[0] - height + 1)), int(right * (source[1] - width + 1)), height, width


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Convert grey of 16 bits, which some versions of Pillow give as 32 bits, to 8 bits."""
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise UnreadableImageError("its pixels have 32 bits, whose range is not known")
    return Image.fromarray(((pixels * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
