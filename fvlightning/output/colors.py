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
