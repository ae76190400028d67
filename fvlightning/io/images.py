"""Image files as they are seen: upright, in 8 bits, with white behind transparent parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from fvlightning.errors import InputError, one_line

Window = tuple[int, int, int, int]
"""A part of an image, in pixels: top, left, height, width."""

_ORIENTATION = 0x0112  # EXIF's tag; from 5 on the image lies on its side
_LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue, ITU-R BT.601


class UnreadableImageError(InputError):
    """A file, `path`, cannot be read as an image; `reason` says why, in one line without the name of the file."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read '{path}' as an image: {reason}; give a PNG, JPEG or other image file")
        self.path, self.reason = path, reason


@contextmanager
def opened_image(path: str | Path, stream: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """Yield an image file, opened. Whatever goes wrong inside the context is an `UnreadableImageError`.

    Args:
        path: The file.
        stream: An image that is no file; `path` is then its name in the error.
    """
    try:
        with Image.open(path if stream is None else stream) as image:
            yield image
    # The errors of damaged files depend on the format: OSError, ValueError, SyntaxError, struct.error and more.
    except Exception as error:
        raise UnreadableImageError(path, _reason(error)) from error


def image_size(path: str | Path, stream: IO[bytes] | None = None) -> tuple[int, int]:
    """Return the height and width in pixels of an image that stands upright, from the header of its file.

    For the arguments see `opened_image`.

    Raises:
        UnreadableImageError: The file is not an image.
    """
    with opened_image(path, stream) as image:
        # Pillow would read all pixels of a PNG without EXIF, to look for EXIF behind them.
        may_lie = image.format != "PNG" or "exif" in image.info
        lies = may_lie and image.getexif().get(_ORIENTATION, 1) >= 5
        return (image.width, image.height) if lies else (image.height, image.width)


def read_image(path: str | Path, channels: int = 3, stream: IO[bytes] | None = None) -> Image.Image:
    """Read an image, turn it upright, and convert it to RGB or, for one channel, to grey, with 8 bits a channel.

    Values of 16 bits are divided, transparent parts become white, and the first of several frames is read. For `path`
    and `stream` see `opened_image`.

    Raises:
        UnreadableImageError: The file is missing, is not an image, is damaged, or has pixels of unknown range.
    """
    with opened_image(path, stream) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            image = _from_16_bits(image)
        elif image.mode == "F":
            raise ValueError("its pixels are floats of unknown range")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("L" if channels == 1 else "RGB")


def list_image_files(folder: str | Path) -> list[Path]:
    """Return the files in a folder and its subfolders whose names end like those of images, sorted.

    Raises:
        InputError: There is no such folder, or no image file in it.
    """
    if not Path(folder).is_dir():
        raise InputError(f"no folder '{folder}'; give one with images")
    endings = Image.registered_extensions()
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in endings and path.is_file())
    if not files:
        raise InputError(f"no image files in '{folder}' or its subfolders; give a folder with PNG or JPEG files")
    return files


def to_tensor(image: Image.Image) -> Tensor:
    """Return the pixels of an image of mode ``RGB`` or ``L`` as uint8 ``(C, H, W)``."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def central_window(source: Sequence[int], target: Sequence[int], crop_pct: float = 1.0) -> Window:
    """Return a window in the middle of a source ``(H, W)`` with the proportions of a target ``(H, W)``.

    Its sides are `crop_pct`, in (0, 1], of those of the largest such window.
    """
    scale = crop_pct * min(source[0] / target[0], source[1] / target[1])
    height, width = max(1, round(target[0] * scale)), max(1, round(target[1] * scale))
    return (source[0] - height) // 2, (source[1] - width) // 2, height, width


def fit_picture(picture: Tensor, image_shape: Sequence[int], crop_pct: float = 1.0) -> Tensor:
    """Return the middle of a picture ``(C, H, W)`` as one of `image_shape`, in [0, 1] (bicubic, antialiased).

    Three channels become one by their brightness; one becomes several by copies. For `crop_pct` see `central_window`.

    Raises:
        InputError: The numbers of channels do not fit.
    """
    channels, *size = image_shape
    if len(picture) == 3 and channels == 1:
        picture = torch.einsum("c,chw->hw", picture.new_tensor(_LUMA), picture)[None]
    elif len(picture) == 1:
        picture = picture.expand(channels, -1, -1)
    if len(picture) != channels:
        raise InputError(
            f"a picture of {len(picture)} channels does not fit the shape {tuple(image_shape)}; give one of {channels}"
        )
    top, left, height, width = central_window(picture.shape[1:], size, crop_pct)
    middle = picture[None, :, top : top + height, left : left + width]
    return F.interpolate(middle, size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Convert 16 bits of grey, which some versions of Pillow read as 32 bits, to 8 bits."""
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError("its pixels have 32 bits and an unknown range")
    return Image.fromarray(((pixels * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error)
