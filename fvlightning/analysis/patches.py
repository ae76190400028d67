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
        position: In the unit's map, ``(row, column)``, or ``(token,)``; empty for a unit without positions.
        box: What that activation depends on, in pixels of the picture; None without positions, or without a gradient.
    """

    position: tuple[int, ...]
    box: Window | None


def find_patches(
    network: nn.Module, units: Sequence[Unit], pictures: Tensor, *, lowest: Sequence[bool] | None = None
) -> list[Patch]:
    """Return the patch of each picture that its unit responds to most: the support of the activation's gradient.

    The activation is the strongest one in the unit's map, at the first position of several equal ones. Its patch is the
    bounding box of the pixels with ``|∂ activation / ∂ pixel| > 0``.

    Args:
        network: Any module that takes the pictures.
        units: A unit for each picture, with indices, all of one layer.
        pictures: ``(B, C, H, W)`` in [0, 1].
        lowest: For each picture, whether the lowest activation counts rather than the highest. Default: none.
    """
    layer = units[0].layer_call
    device, dtype = device_and_dtype(network)
    with isolated_rng(), frozen(network):
        inputs = pictures.detach().to(device, dtype, copy=True).requires_grad_()
        activation = Capture(network, {layer})(inputs)[layer]
        sizes = activation.tensor.shape[2:]
        if not sizes:
            return [Patch((), None)] * len(units)
        rows = torch.arange(len(units), device=device)
        maps = activation.tensor[rows, torch.tensor([unit.index for unit in units], device=device)].flatten(1)
        signs = torch.tensor([-1.0 if low else 1.0 for low in lowest or [False] * len(units)], device=device)
        ranked = (maps.detach() * signs[:, None]).nan_to_num(nan=-torch.inf)
        if len(sizes) == 1:
            ranked[:, : activation.prefix_tokens] = -torch.inf
        places = ranked.argmax(1)
        for row, unit in enumerate(units):
            if unit.position:
                places[row] = int(torch.tensor(unit.position) @ torch.tensor([*sizes[1:], 1]))
        slopes = torch.zeros_like(inputs)
        if maps.requires_grad:
            (slopes,) = torch.autograd.grad(maps[rows, places].sum(), inputs, materialize_grads=True)
    steepest = slopes.abs().amax(1).cpu()
    boxes = [_bounding_box(support) for support in steepest > _NEGLIGIBLE * steepest.amax((1, 2), keepdim=True)]
    positions = torch.stack(torch.unravel_index(places.cpu(), sizes), dim=1).tolist()
    return [Patch(tuple(position), box) for position, box in zip(positions, boxes, strict=True)]


def _bounding_box(support: Tensor) -> Window | None:
    """Return the smallest box with all that is True in ``(H, W)``, or None if nothing is."""
    rows, columns = (support.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    if not rows:
        return None
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
