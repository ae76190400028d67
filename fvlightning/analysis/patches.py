"""The patch of a picture that excites a unit."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fvlightning.features import Capture, Unit, isolated_rng
from fvlightning.features.capture import device_and_dtype, frozen
from fvlightning.io import Window

# Relative to the largest gradient: fast convolutions leave rounding errors where the gradient is 0.
_NEGLIGIBLE = 1e-6


class Patch(NamedTuple):
    """Where a unit responds to a picture.

    Attributes:
        position: In the unit's map, ``(row, column)``, or ``(token,)``.
        box: What that activation depends on, in pixels of the picture; None without a gradient.
    """

    position: tuple[int, ...]
    box: Window | None


def find_patches(
    network: nn.Module, unit: Unit | Sequence[Unit], pictures: Tensor, *, lowest: bool | Sequence[bool] = False
) -> list[Patch]:
    """Return the patch of each picture that a unit responds to most: the support of the activation's gradient.

    The activation is that at the unit's position, or else the strongest one in its map, the first of several equal
    ones. Its patch is the bounding box of the pixels with ``|∂ activation / ∂ pixel| > 0``.

    Args:
        network: Any module that takes the pictures.
        unit: A unit with an index, of a layer with positions; or one for each picture, all of one layer.
        pictures: ``(B, C, H, W)`` in [0, 1].
        lowest: Whether the lowest activation of the map counts rather than the highest; or this for each picture.
    """
    units = [unit] * len(pictures) if isinstance(unit, Unit) else unit
    device, dtype = device_and_dtype(network)
    with isolated_rng(), frozen(network):
        inputs = pictures.detach().to(device, dtype, copy=True).requires_grad_()
        activation = Capture(network, {units[0].layer_call})(inputs)[units[0].layer_call]
        rows = torch.arange(len(units), device=device)
        maps = activation.tensor[rows, torch.tensor([one.index for one in units], device=device)]  # (B, *positions)
        is_lowest = torch.tensor(lowest, device=device).expand(len(units)).view(-1, *[1] * (maps.ndim - 1))
        ranked = torch.where(is_lowest, -maps, maps).detach().nan_to_num(nan=-torch.inf)
        if maps.ndim == 2:
            ranked[:, : activation.prefix_tokens] = -torch.inf
        places = torch.stack(torch.unravel_index(ranked.flatten(1).argmax(1), maps.shape[1:]), dim=1)
        for place, one in zip(places, units, strict=True):
            if one.position:
                place[:] = torch.tensor(one.position)
        slopes = torch.zeros_like(inputs)
        if maps.requires_grad:
            (slopes,) = torch.autograd.grad(maps[(rows, *places.T)].sum(), inputs, materialize_grads=True)
    steepest = slopes.abs().amax(1).cpu()
    supports = steepest > _NEGLIGIBLE * steepest.amax((1, 2), keepdim=True)
    return [
        Patch(tuple(place), _bounding_box(support)) for place, support in zip(places.tolist(), supports, strict=True)
    ]


def _bounding_box(support: Tensor) -> Window | None:
    """Return the smallest box with all that is True in ``(H, W)``, or None if nothing is."""
    rows, columns = (support.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    if not rows:
        return None
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
