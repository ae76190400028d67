"""Pixels, 8-bit colours as arrays ``(H, W, 3)``, or ``(H, W, 4)`` with an alpha channel, and their files."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from fvlightning.io import UnreadableImageError, opened_image, write_atomically

Pixels = npt.NDArray[np.uint8]
_FRAME_MS = 500
_WEIGHT_SIDE = 4  # in pixels


def to_pixels(picture: Tensor, limit: float | None = None, *, signed: bool = True) -> Pixels:
    """Turn a picture, or other values with a `limit`, into 8-bit colours.

    Args:
        picture: ``(C, H, W)`` in [0, 1]. One channel becomes grey and three become colours; any other number of
            channels is shown in grey, side by side, ``(H, C * W, 3)``, as channels of values with a limit always are.
        limit: For signed values, the value of the strongest red; its negative is the strongest blue, and zero is white.
            For values of one sign, that of yellow; zero is dark violet. Greater than 0.
        signed: Whether values with a limit may be negative.
    """
    side_by_side = picture.movedim(0, 1).flatten(1)
    pixels: Pixels
    if limit is not None:
        from matplotlib import colormaps

        values = side_by_side.detach().float().cpu().numpy()
        shares = values / limit
        colormap = colormaps["RdBu_r" if signed else "viridis"]
        pixels = colormap(0.5 + 0.5 * shares if signed else shares, bytes=True)[..., :3]
    else:
        colors = picture.movedim(0, 2) if len(picture) == 3 else side_by_side[..., None].expand(-1, -1, 3)
        pixels = (colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
    return pixels


def from_pixels(pixels: Pixels, n_channels: int) -> Tensor:
    """Return the picture ``(C, H, W)`` in [0, 1] that `to_pixels` has turned into pixels, without their alpha."""
    values = torch.from_numpy(pixels[..., :3].copy()) / 255
    if n_channels == 3:
        return values.permute(2, 0, 1)
    # Any other number of channels is side by side.
    return torch.stack(values[..., 0].chunk(n_channels, dim=1))


def weight_pixels(weights: Tensor, limit: float) -> Pixels:
    """Turn the channels of a unit's weights, ``(C, H, W)``, into signed colours, side by side on white paper."""
    if len(weights) == 1:
        return to_pixels(weights, limit)
    # A gap is narrower than a weight, so a weight is several pixels. The gaps at the ends keep units further apart.
    side = _WEIGHT_SIDE
    channels = [to_pixels(channel[None], limit).repeat(side, 0).repeat(side, 1) for channel in weights]
    height = channels[0].shape[0]
    gap = np.full((height, max(1, height // 12), 3), 255, np.uint8)
    return np.hstack([gap, *(part for channel in channels for part in (channel, gap))])


def value_limit(pictures: Iterable[Tensor]) -> float:
    """Return the largest finite absolute value in pictures of signed values, or 1 if all values are 0."""
    return max(float(picture.abs().nan_to_num(0, 0).max()) for picture in pictures) or 1.0


def with_alpha(pixels: Pixels, importance: Tensor) -> Pixels:
    """Add importance ``(H, W)`` in [0, 1] as an alpha channel, 0 for transparent; channels side by side all get it."""
    alpha = (importance.clamp(0, 1) * 255).round().byte().cpu().numpy()
    return np.dstack([pixels, np.tile(alpha, (1, pixels.shape[1] // alpha.shape[1]))])


def on_grey(pixels: Pixels) -> Pixels:
    """Blend pixels that have an alpha channel with medium grey; return others as they are.

    White would hide the bright strokes of a digit, and black dark ones.
    """
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    blended: Pixels = (pixels[..., :3] * alpha + 128 * (1 - alpha)).round().astype(np.uint8)
    return blended


def resized(pixels: Pixels, width: int, height: int, *, enlarge_smoothly: bool = True) -> Pixels:
    """Resize pixels with Lanczos resampling, or enlarge them by repeating each if `enlarge_smoothly` is False."""
    image = PILImage.fromarray(pixels)
    smooth = enlarge_smoothly or width < image.width
    method = PILImage.Resampling.LANCZOS if smooth else PILImage.Resampling.NEAREST
    return np.asarray(image.resize((width, height), method))


def shrunk(pixels: Pixels, largest: int) -> Pixels:
    """Return pixels in the same proportions, with neither side longer than `largest`."""
    height, width = pixels.shape[:2]
    share = largest / max(height, width)
    return pixels if share >= 1 else resized(pixels, max(1, round(share * width)), max(1, round(share * height)))


def save_png(image: PILImage.Image | Pixels, path: Path, info: PngInfo | None = None) -> None:
    """Write an image or pixels as PNG, with the texts `info`, whole or not at all; missing folders are made."""
    picture = image if isinstance(image, PILImage.Image) else PILImage.fromarray(image)
    write_atomically(path, lambda file: write_png(picture, file, info))


def write_png(image: PILImage.Image, file: IO[bytes], info: PngInfo | None = None) -> None:
    """Write an image as PNG, with the texts `info`, into an open file."""
    # Pillow's own level takes twice the time, and saves about a tenth of the space.
    image.save(file, format="PNG", pnginfo=info, compress_level=3)


def read_pixels(path: Path) -> Pixels:
    """Return the pixels of an image file.

    Raises:
        UnreadableImageError: The file is missing, is not an image, or is damaged.
    """
    with opened_image(path) as picture:
        return as_pixels(picture)


def as_pixels(picture: PILImage.Image) -> Pixels:
    """Return the pixels of an image, with its alpha channel if it has one."""
    return np.asarray(picture.convert("RGBA" if "A" in picture.getbands() else "RGB"))


def save_animation(frames: Sequence[Path], path: Path) -> None:
    """Join image files, in order, into an animated WebP that loops for ever and rests on its last frame.

    Smaller images get a white margin at the right and below. Damaged ones are left out, with a warning.
    """
    pictures = []
    for frame in frames:
        try:
            pictures.append(PILImage.fromarray(read_pixels(frame)))
        except UnreadableImageError as error:
            warnings.warn(f"'{path}' leaves out '{frame}': {error.reason}", stacklevel=2)
    if not pictures:
        return
    size = max(picture.width for picture in pictures), max(picture.height for picture in pictures)
    images = [PILImage.new("RGB", size, "white") for _ in pictures]
    for image, picture in zip(images, pictures, strict=True):
        image.paste(picture, (0, 0))
    durations = [_FRAME_MS] * (len(images) - 1) + [3 * _FRAME_MS]
    options = {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0, "quality": 80}
    write_atomically(path, lambda file: images[0].save(file, format="WEBP", **options))
