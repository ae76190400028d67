"""A bound on how much light a picture holds."""

from torch import Tensor


def limit_rms(pictures: Tensor, max_rms: float | None) -> Tensor:
    """Darken the pictures whose root mean square is above a bound.

    For data on a black ground, such as MNIST, whose digits have a root mean square of about 0.33: without a bound the
    optimum of most units is full contrast everywhere. With it light is a budget that goes to the strokes that matter,
    and the picture of a linear unit is parallel to the positive part of its weights. Scaling in the forward pass makes
    the gradient tangential to the bound, so that every optimiser converges to that.

    Args:
        pictures: ``(B, C, H, W)`` in [0, 1].
        max_rms: The bound, in (0, 1]; None is no bound.

    Returns:
        ``(B, C, H, W)`` in [0, 1].
    """
    if max_rms is None:
        return pictures
    rms = pictures.flatten(1).square().mean(1).clamp(min=1e-12).sqrt()
    return pictures * (max_rms / rms).clamp(max=1.0)[:, None, None, None]
