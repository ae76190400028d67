"""From values to colours."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

Pixels = npt.NDArray[np.uint8]


def to_pixels(picture: Tensor) -> Pixels:
    """Turn a picture into 8-bit colours.

    Args:
        picture: ``(C, H, W)`` in [0, 1]. One channel becomes grey, three become colours; of any other number each
            channel is shown in grey, one beside the other.

    Returns:
        ``(H, W, 3)``, or ``(H, C * W, 3)``.
    """
    if len(picture) == 3:
        colors = picture.movedim(0, 2)
    else:
        colors = picture.movedim(0, 1).flatten(1)[..., None].expand(-1, -1, 3)
    rounded: Pixels = (colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
    return rounded


def to_signed_pixels(values: Tensor, limit: float) -> Pixels:
    """Turn signed values into the colours of a diverging map: negative blue, zero white, positive red.

    Args:
        values: ``(C, H, W)``; several channels are shown one beside the other.
        limit: The value that gets the strongest red, and its negative the strongest blue. Greater than 0.

    Returns:
        ``(H, C * W, 3)``.
    """
    from matplotlib import colormaps

    flat = values.detach().float().cpu().movedim(0, 1).flatten(1).numpy()
    colors: Pixels = colormaps["RdBu_r"](0.5 + 0.5 * flat / limit, bytes=True)[..., :3]
    return colors


def with_alpha(pixels: Pixels, importance: Tensor) -> Pixels:
    """Add an alpha channel to colours, which stay as they are.

    Args:
        pixels: ``(H, W, 3)``, or ``(H, C * W, 3)`` with channels side by side, each of which gets the same alpha.
        importance: ``(H, W)`` in [0, 1]: 0 is transparent.

    Returns:
        ``(H, W, 4)``, or ``(H, C * W, 4)``.
    """
    alpha = (importance.clamp(0, 1) * 255).round().byte().cpu().numpy()
    return np.dstack([pixels, np.tile(alpha, (1, pixels.shape[1] // alpha.shape[1]))])


def on_grey(pixels: Pixels) -> Pixels:
    """Return colours ``(H, W, 3)`` as they are, and those with an alpha channel, ``(H, W, 4)``, on medium grey.

    On white paper the bright strokes of a digit would be lost, on black paper dark ones.
    """
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    blended: Pixels = (pixels[..., :3] * alpha + 128 * (1 - alpha)).round().astype(np.uint8)
    return blended
