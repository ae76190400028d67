"""The map of a network for the page of `microscope`: its layers and branches, and the units that are tied."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fvlightning.analysis import Connections
from fvlightning.features import LayerCall, Objective, Unit
from fvlightning.features.capture import LayerSurvey
from fvlightning.output import rounded

_N_TIES = 6
# A unit by the number of its layer and its place there, and the weight to it.
Tie = tuple[int, int, float]


@dataclass(frozen=True)
class Ties:
    """The units to which units are most tied by weights, the strongest first, by the names of the units."""

    before: dict[str, list[Tie]] = field(default_factory=lambda: defaultdict(list))
    after: dict[str, list[Tie]] = field(default_factory=lambda: defaultdict(list))


def map_rows(
    surveys: Sequence[LayerSurvey], connections: Connections, layers: Sequence[str]
) -> tuple[list[Any], list[tuple[int, int, str]]]:
    """Return the rows of the map, and which rows take what from which.

    A row is the number of a layer that is shown, or a list of the modules between, each with name, kind and shape. What
    a row takes is the number of the other row, its own, and the name of the module in the other.
    """
    numbers = {name: number for number, name in enumerate(layers)}
    containers = {survey.layer.layer.rpartition(".")[0] for survey in surveys}
    rows: list[Any] = []
    places: dict[LayerCall, int] = {}
    for survey in surveys:
        name = str(survey.layer)
        if name in numbers:
            rows.append(numbers.pop(name))
        elif survey.layer in connections.sources or survey.layer.layer not in containers:
            if not rows or isinstance(rows[-1], int):
                rows.append([])
            rows[-1].append((name, survey.kind, survey.shape))
        else:
            continue
        places[survey.layer] = len(rows) - 1
    flow = {
        (places[source], places[call]): str(source)
        for call, sources in connections.sources.items()
        for source in sources
        if call in places and source in places and places[source] < places[call]
    }
    return [*rows, *numbers.values()], [(*ends, name) for ends, name in sorted(flow.items())]


def strongest_ties(groups: Mapping[str, Sequence[Unit | Objective]], connections: Connections) -> Ties:
    """Return the units, of those on the page, that each unit is most tied to in the layers before and after it."""
    ties = Ties()
    # Only whole units: the weights of a position are those of its channel.
    places = {
        name: {unit.index: (number, at) for at, unit in enumerate(units) if isinstance(unit, Unit) and _is_whole(unit)}
        for number, (name, units) in enumerate(groups.items())
    }
    for second, sources in connections.feeds.items():
        for first in sources:
            befores, afters = places.get(str(first)), places.get(str(second))
            if not befores or not afters or (weights := connections.ties(first, second)) is None:
                continue
            part = weights[list(afters)][:, list(befores)]
            _note(ties.before, [f"{second}:{index}" for index in afters], part, list(befores.values()))
            _note(ties.after, [f"{first}:{index}" for index in befores], part.T, list(afters.values()))
    for side in (ties.before, ties.after):
        for name, noted in side.items():
            side[name] = sorted(noted, key=lambda tie: -abs(tie[2]))[:_N_TIES]
    return ties


def _note(ties: dict[str, list[Tie]], units: Sequence[str], matrix: Tensor, others: Sequence[tuple[int, int]]) -> None:
    """Note for each unit, a row of the matrix, those of the others with the largest weights in it."""
    for unit, row in zip(units, matrix, strict=True):
        for column in row.abs().topk(min(_N_TIES, len(row))).indices.tolist():
            if weight := rounded(float(row[column])):
                ties[unit].append((*others[column], weight))


def _is_whole(unit: Unit) -> bool:
    return unit.index is not None and unit == Unit(unit.layer, unit.index, call=unit.call)
