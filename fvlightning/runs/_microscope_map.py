"""The map of a network for the page of `microscope`: its layers and branches, and the units that are tied."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    layers = {name: number for number, name in enumerate(groups)}
    # Only whole units: the weights of a position are those of its channel.
    places = {
        name: {unit.index: at for at, unit in enumerate(units) if isinstance(unit, Unit) and _is_plain(unit)}
        for name, units in groups.items()
    }
    for second, sources in connections.feeds.items():
        for first in sources:
            if not places.get(str(first)) or not places.get(str(second)):
                continue
            if (weights := connections.ties(first, second)) is None:
                continue
            befores, afters = places[str(first)], places[str(second)]
            part = weights[list(afters)][:, list(befores)]
            for side, matrix, of, others, layer in (
                (ties.before, part, (second, afters), befores, first),
                (ties.after, part.T, (first, befores), afters, second),
            ):
                strongest = matrix.abs().topk(min(_N_TIES, matrix.shape[1])).indices
                for index, row, columns in zip(of[1], matrix, strongest.tolist(), strict=True):
                    found = side[f"{of[0]}:{index}"]
                    found += [
                        (layers[str(layer)], list(others.values())[column], rounded(float(row[column])) or 0)
                        for column in columns
                        if row[column] != 0
                    ]
    for side in (ties.before, ties.after):
        for name, found in side.items():
            side[name] = sorted(found, key=lambda tie: -abs(tie[2]))[:_N_TIES]
    return ties


def _is_plain(unit: Unit) -> bool:
    return unit.index is not None and unit == Unit(unit.layer, unit.index, call=unit.call)
