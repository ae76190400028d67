"""Which units and objectives texts name in a network."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import nn

from fvlightning.errors import InputError
from fvlightning.features.capture.layers import LayerSize, measure_layers
from fvlightning.features.objectives import Objective, Pooling, parse_objective
from fvlightning.features.units import LayerCall, Unit, UnitRange, is_weighted_sum

_Given = TypeVar("_Given", bound=str | Unit | Objective)


def resolve_units(network: nn.Module, units: Sequence[str | Unit], image_shape: Sequence[int]) -> list[Unit]:
    """Turn texts into units, each once, in the order given, and check each against the network.

    Args:
        network: Any module that takes pictures.
        units: Text forms, such as ``"conv2:*"``, or units.
        image_shape: ``(C, H, W)`` of the pictures that the network takes.

    Raises:
        InputError: No units are given, or one is malformed, a weighted sum, outside of its layer, or in a layer that is
            unknown or not reached.
    """
    ranges = [_range_of(unit) for unit in _listed(units)]
    sizes = measure_layers(network, {units_of_text.layer_call for units_of_text in ranges}, image_shape)
    return list(dict.fromkeys(unit for units_of_text in ranges for unit in _expand(units_of_text, sizes)))


def resolve_objectives(
    network: nn.Module,
    units: Sequence[str | Unit | Objective],
    image_shape: Sequence[int],
    pooling: Pooling = "mean",
) -> list[Unit | Objective]:
    """Turn texts into units and weighted sums, in the order given, and check each against the network.

    Args:
        network: Any module that takes pictures.
        units: Text forms of units, such as ``"conv2:*"``, or of weighted sums, ``"fc2:7 - 0.5*fc2:3"``; units; or
            objectives.
        image_shape: ``(C, H, W)`` of the pictures that the network takes.
        pooling: As in `UnitActivation`, for the weighted sums.

    Returns:
        Units and objectives. What is named twice is there once.

    Raises:
        InputError: As of `resolve_units`; or an objective needs a unit or a layer that the network does not have.
    """
    parsed: list[Objective | UnitRange] = []
    for unit in _listed(units):
        if isinstance(unit, str) and is_weighted_sum(unit):
            parsed.append(parse_objective(unit, pooling))
        else:
            parsed.append(unit if isinstance(unit, Objective) else _range_of(unit))
    objectives = [given for given in parsed if isinstance(given, Objective)]
    needed = [UnitRange.of(unit) for objective in objectives for unit in objective.units]
    ranges = [given for given in parsed if isinstance(given, UnitRange)]
    layers = {units_of_text.layer_call for units_of_text in (*ranges, *needed)}
    sizes = measure_layers(network, layers.union(*(objective.layers for objective in objectives)), image_shape)
    for units_of_text in needed:
        _expand(units_of_text, sizes)
    resolved: list[Unit | Objective] = []
    seen: set[Unit] = set()
    for given in parsed:
        if isinstance(given, Objective):
            resolved += [given] if given not in resolved else []
        else:
            found = [unit for unit in _expand(given, sizes) if unit not in seen]
            seen.update(found)
            resolved += found
    return resolved


def _listed(units: Sequence[_Given] | _Given) -> list[_Given]:
    listed = [units] if isinstance(units, str | Unit | Objective) else list(units)
    if not listed:
        raise InputError("no units are given; name at least one, for example 'conv2:0-15'")
    return listed


def _range_of(unit: str | Unit) -> UnitRange:
    return UnitRange.of(unit) if isinstance(unit, Unit) else UnitRange.parse(unit)


def _expand(units: UnitRange, sizes: Mapping[LayerCall, LayerSize]) -> list[Unit]:
    size = sizes[units.layer_call]
    _check_position(units, size)
    return units.expand(size.n_units)


def _check_position(units: UnitRange, size: LayerSize) -> None:
    if not units.position:
        return
    inside = len(units.position) == len(size.positions) and all(
        place < length for place, length in zip(units.position, size.positions, strict=True)
    )
    if not inside:
        given = ",".join(map(str, units.position))
        valid = ",".join(f"0-{length - 1}" for length in size.positions)
        fix = f"its positions are {valid}" if valid else "it has no positions: leave '@' out"
        raise InputError(f"no position @{given} in layer {str(units.layer_call)!r}; {fix}")
