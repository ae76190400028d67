"""Whether units respond to pictures at all, which nothing but a trial shows."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError, some_of
from fvlightning.features.capture import (
    Activation,
    Activations,
    Capture,
    device_and_dtype,
    explained,
    frozen,
    quantized_layers,
)
from fvlightning.features.objectives.base import Objective, Pooling
from fvlightning.features.objectives.text import objective_of
from fvlightning.features.rng import isolated_rng
from fvlightning.features.units import LayerCall, Unit

# Each has another brightness. Two pictures may share a unit's mean by chance; four hardly do.
_N_PICTURES = 4
# How much of a map's changes may be left in its mean, by rounding.
_ROUNDING = 1e-5


def check_responses(
    network: nn.Module, units: Sequence[Unit | Objective], image_shape: Sequence[int], pooling: Pooling = "mean"
) -> str | None:
    """Check by a few random pictures that units can be maximised.

    Args:
        network: Any module that takes pictures of shape `image_shape`.
        units: Units and objectives that fit the network (`resolve_objectives`).
        image_shape: ``(C, H, W)``.
        pooling: See `UnitActivation`.

    Returns:
        What to do about units the mean of whose map is the same for every picture, as normalisation over the positions
        makes it; None without any. An untrained network may have such units, and get over it.

    Raises:
        InputError: No gradient leads from a layer to the picture.
    """
    objectives = {str(unit): objective_of(unit, pooling) for unit in units}
    capture = Capture(network, frozenset().union(*(objective.layers for objective in objectives.values())))
    if not capture.layers:
        return None
    device, dtype = device_and_dtype(network)
    generator = torch.Generator().manual_seed(0)

    def run(power: int) -> tuple[Tensor, Activations]:
        with explained(network, image_shape):
            noise = torch.rand(1, *image_shape, generator=generator) ** power
            picture = noise.to(device, dtype).requires_grad_()
            return picture, capture(picture)

    with isolated_rng(), frozen(network):
        picture, first = run(1)
        cut_off = {layer for layer in capture.layers if not _reaches(first[layer].tensor, picture)}
        for objective in objectives.values():
            if objective.layers and objective.layers <= cut_off:
                layer = min(objective.layers, key=str)
                outputs = [run(power)[1][layer].tensor for power in range(1, _N_PICTURES + 1)]
                raise InputError(_reason(network, layer, outputs))
        # Most runs end after the second picture.
        suspects = {
            name: objective.units
            for name, objective in objectives.items()
            if objective.needs_means_only
            and objective.units
            and all(first[unit.layer_call].tensor.ndim > 2 for unit in objective.units)
        }
        with torch.no_grad():
            for power in range(2, _N_PICTURES + 1):
                if not suspects:
                    return None
                later = run(power)[1]
                layers = {unit.layer_call for parts in suspects.values() for unit in parts}
                constant = {layer: _constant_means(first[layer], later[layer]) for layer in layers}
                suspects = {
                    name: parts
                    for name, parts in suspects.items()
                    if all(constant[unit.layer_call][unit.index or 0] for unit in parts)
                }
    return _advice(list(suspects), next(iter(suspects.values()))[0], first) if suspects else None


def _reaches(tensor: Tensor, picture: Tensor) -> bool:
    """Return whether gradients of a tensor reach the picture. The graph says so without a backward pass."""
    nodes: list[Any] = [tensor.grad_fn]
    seen: set[Any] = {None}
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", None) is picture:
            return True
        # Quantised operations are in the graph, but have no gradient.
        if "NotImplemented" not in node.name():
            nodes += [source for source, _ in node.next_functions]
    return False


def _reason(network: nn.Module, layer: LayerCall, outputs: Sequence[Tensor]) -> str:
    """Return why no gradient leads from a layer to the picture, by its outputs for several pictures."""
    problem = f"no gradient leads from layer {str(layer)!r} of {type(network).__name__} to the picture"
    if quantized := quantized_layers(network):
        return f"{problem}: quantised layers, such as {quantized[0]!r}, have none; use the network as it was before"
    if all(torch.equal(outputs[0], output) for output in outputs):
        return f"{problem}: {len(outputs)} random pictures give the same output; choose a layer that depends on them"
    if not outputs[0].is_floating_point():
        return f"{problem}: it gives whole numbers ({outputs[0].dtype}); choose a layer before it"
    return (
        f"{problem}: the network runs it, or what is before it, under torch.no_grad, detaches it or rounds it; remove "
        "that, or choose another layer"
    )


def _constant_means(first: Activation, second: Activation) -> list[bool]:
    """Return of each unit whether its map differs between two pictures, ``(1, C, *positions)``, and its mean does not.

    Positive and negative changes then cancel to nothing but rounding.
    """
    before, after = (one.tensor.flatten(2)[0, :, one.prefix_tokens :].float() for one in (first, second))
    changes = after - before
    sizes = changes.abs().mean(1)
    differs = sizes > _ROUNDING * before.abs().mean(1)
    return (differs & (changes.mean(1).abs() <= _ROUNDING * sizes)).tolist()


def _advice(names: Sequence[str], unit: Unit, activations: Activations) -> str:
    middle = ",".join(str(size // 2) for size in activations[unit.layer_call].tensor.shape[2:])
    at_position = f"{unit.layer_call}:{unit.index}@{middle}"
    n_units = f"{len(names)} {'unit' if len(names) == 1 else 'units'}"
    return (
        f"the mean over all positions of {n_units} is the same for every picture, as normalisation makes it: "
        f"{some_of(names)}; give a position, {at_position!r}, the pooling 'rms', or a layer before the "
        "normalisation"
    )
