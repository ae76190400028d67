"""Objectives from text forms and from other objectives."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.capture import Activations, measure_layers
from fvlightning.features.objectives.activations import LayerEnergy, UnitActivation
from fvlightning.features.objectives.base import Objective, Pooling, WeightedSum, short
from fvlightning.features.units import LayerCall, Unit, UnitRange, is_weighted_sum

Units = Sequence[str | Unit | Objective] | str | Unit | Objective

_GRAMMAR = "a sum is terms 'UNIT' or 'NUMBER*UNIT' with ' + ' or ' - ' between them"
_SIGNS = re.compile(r"\s+([+-])\s+")
_WEIGHT = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\*")


def objective_of(unit: str | Unit | Objective, pooling: Pooling = "mean") -> Objective:
    """Return the objective of a unit: its activation, or its layer's energy, negated if it is to be minimised.

    Args:
        unit: A unit, or the text form of a unit (`Unit.parse`) or of a weighted sum: units with ``+`` or ``-`` between
            spaces, and a number with ``*`` before some: ``"classifier:207 - 0.5*classifier:208 + 2*blocks.3:5@1,2"``.
            The ``str`` of the sum is the same text. An objective is returned as it is.
        pooling: See `UnitActivation`. It is not part of the text.

    Raises:
        InputError: The text is malformed, or a term names several units.
    """
    if isinstance(unit, Objective):
        return unit
    if isinstance(unit, str) and is_weighted_sum(unit):
        return _parse_sum(unit, pooling)
    if not isinstance(unit, Unit):
        unit = Unit.parse(unit)
    if unit.minimize:
        return -objective_of(replace(unit, minimize=False), pooling)
    return LayerEnergy(unit.layer_call) if unit.index is None else UnitActivation(unit, pooling)


def interpolate(
    first: str | Unit | Objective, second: str | Unit | Objective, n_pictures: int = 5, pooling: Pooling = "mean"
) -> Sequence[Objective]:
    """Return `n_pictures` objectives that lead from one to another: ``(1 - t) · first + t · second`` for t from 0 to 1.

    See `objective_of` for the arguments, and Olah et al. 2017,
    https://distill.pub/2017/feature-visualization/#interaction.

    Raises:
        InputError: `n_pictures` is less than 2, or a text is malformed or names several units.
    """
    if n_pictures < 2:
        raise InputError(f"interpolate(n_pictures={n_pictures}): must be at least 2, the two ends")
    start, end = (objective_of(unit, pooling) for unit in (first, second))
    shares = [place / (n_pictures - 1) for place in range(n_pictures)]
    return [(1 - share) * start + share * end for share in shares]


@dataclass(frozen=True)
class Target(Objective):
    """How near an objective is to a value: ``-(objective - value)²``, at best 0.

    Args:
        objective: An objective, or its text form (then with the pooling ``"mean"``).
        value: The value to reach.
    """

    objective: Objective
    value: float

    def __init__(self, objective: str | Objective, value: float) -> None:
        object.__setattr__(self, "objective", objective_of(objective))
        object.__setattr__(self, "value", value)

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layers of the objective."""
        return self.objective.layers

    @property
    @override
    def units(self) -> tuple[Unit, ...]:
        return self.objective.units

    @override
    def prepared(self, network: nn.Module, image_shape: Sequence[int]) -> Objective:
        return Target(self.objective.prepared(network, image_shape), self.value)

    @override
    def __call__(self, activations: Activations) -> Tensor:
        return -(self.objective(activations) - self.value).square()

    def __str__(self) -> str:
        return f"{self.objective} -> {short(self.value)}"


def resolve_objectives(
    network: nn.Module, units: Units, image_shape: Sequence[int], pooling: Pooling = "mean"
) -> list[Unit | Objective]:
    """Turn text forms into units and weighted sums, in the order given, and check each against the network.

    Args:
        network: Any module that takes pictures of shape `image_shape`.
        units: One or several units, objectives, or text forms, ``"conv2:*"``. Duplicates are left out.
        image_shape: ``(C, H, W)``.
        pooling: See `UnitActivation`; used for the weighted sums.

    Raises:
        InputError: No units are given, or one is malformed, outside its layer, or of a layer that is not reached.
    """
    parsed = _parse(units, pooling)
    sizes = measure_layers(network, _layers(parsed), image_shape)
    resolved: list[Unit | Objective] = []
    seen: set[Unit] = set()
    for entry in parsed:
        if isinstance(entry, Objective):
            for unit in entry.units:
                _expand(UnitRange(unit), sizes)
            resolved += [entry] if entry not in resolved else []
        else:
            new = [unit for unit in _expand(entry, sizes) if unit not in seen]
            seen.update(new)
            resolved += new
    return resolved


def layers_of(units: Units) -> frozenset[LayerCall]:
    """Return the layers that units need, see `resolve_objectives`, without a network to check them against."""
    return _layers(_parse(units, "mean"))


def _parse_sum(text: str, pooling: Pooling) -> WeightedSum:
    first, *others = _SIGNS.split(text.strip())
    parts = ["-" if first.startswith("-") else "+", first.removeprefix("-"), *others]
    terms = []
    for sign, term in zip(parts[::2], parts[1::2], strict=True):
        match = _WEIGHT.match(term)
        number, unit_text = (match[1], term[match.end() :]) if match else ("1", term)
        try:
            unit = Unit.parse(unit_text)
        except InputError as error:
            raise InputError(f"malformed sum {text!r}: {error}") from error
        if unit.minimize:
            raise InputError(f"malformed sum {text!r}: {unit_text!r} has a sign of its own; {_GRAMMAR}")
        if not math.isfinite(weight := float(sign + number)):
            raise InputError(f"malformed sum {text!r}: {number} is too large a number")
        terms.append((weight, objective_of(unit, pooling)))
    return WeightedSum(terms)


def _parse(units: Units, pooling: Pooling) -> list[UnitRange | Objective]:
    if not isinstance(units, str | Unit | Objective | Iterable):
        raise InputError(f"units={units!r}: must be texts, such as 'conv2:0-15', units or objectives")
    entries = [units] if isinstance(units, str | Unit | Objective) else list(units)
    if not entries:
        raise InputError("no units are given; name at least one, for example 'conv2:0-15'")
    parsed: list[UnitRange | Objective] = []
    for entry in entries:
        if isinstance(entry, Objective) or (isinstance(entry, str) and is_weighted_sum(entry)):
            parsed.append(objective_of(entry, pooling))
        else:
            parsed.append(UnitRange(entry) if isinstance(entry, Unit) else UnitRange.parse(entry))
    return parsed


def _layers(parsed: Sequence[UnitRange | Objective]) -> frozenset[LayerCall]:
    units = [unit for entry in parsed for unit in (entry.units if isinstance(entry, Objective) else [entry.first])]
    layers = [entry.layers for entry in parsed if isinstance(entry, Objective)]
    return frozenset(unit.layer_call for unit in units).union(*layers)


def _expand(units: UnitRange, sizes: Mapping[LayerCall, tuple[int, ...]]) -> list[Unit]:
    layer, position = units.first.layer_call, units.first.position
    n_units, *lengths = sizes[layer]
    inside = len(position) == len(lengths) and all(place < n for place, n in zip(position, lengths, strict=True))
    if position and not inside:
        valid = ",".join(f"0-{length - 1}" for length in lengths)
        fix = f"its positions are {valid}" if valid else "it has no positions: leave '@' out"
        raise InputError(f"no position @{','.join(map(str, position))} in layer {str(layer)!r}; {fix}")
    return units.expand(n_units)
