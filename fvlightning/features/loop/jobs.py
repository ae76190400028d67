"""The pictures that are to be made: each unit with each repeat."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture.layers import measure_layers
from fvlightning.features.capture.survey import class_layers
from fvlightning.features.objectives import Objective, objective_of
from fvlightning.features.objectives.joint import held_together
from fvlightning.features.objectives.resolving import resolve_objectives
from fvlightning.features.units import LayerCall, Unit

if TYPE_CHECKING:
    from fvlightning.features.maximizer import Maximizer


@dataclass(frozen=True)
class Job:
    """One picture to be made.

    Args:
        unit: What is maximised, as it was given.
        objective: The score.
        repeat: Which picture of the unit it is.
        start: Parameters to go on from, or None to start anew.
        class_unit: The unit, if it is one of several of the network's output, and wanted to be large.
    """

    unit: Unit | Objective
    objective: Objective
    repeat: int
    start: Tensor | None = None
    class_unit: Unit | None = None


def list_jobs(
    settings: "Maximizer",
    network: nn.Module,
    units: Sequence[str | Unit | Objective],
    image_shape: Sequence[int],
    starts: Mapping[tuple[str, int], Tensor],
) -> list[Job]:
    """Return the pictures to be made, in the order of the units, the repeats of a unit together.

    Args:
        settings: How the pictures are made.
        network: Any module that takes pictures.
        units: Text forms of units or of weighted sums, units, or objectives; what is named twice gets one picture.
        image_shape: ``(C, H, W)`` of the pictures.
        starts: Parameters to go on from, by the text form of the unit and the repeat.

    Raises:
        InputError: There are no units, one cannot be used, or the network or a setting has no use for such pictures.
    """
    if settings.image.bounded and (len(image_shape) != 3 or min(image_shape) < 1):
        raise InputError(
            f"{type(settings.image).__name__} cannot take a picture of shape {tuple(image_shape)}: give (C, H, W)"
        )
    if settings.transforms and len(image_shape) != 3:
        raise InputError(f"inputs of shape {tuple(image_shape)} are no pictures: transforms=[] leaves out the views")
    resolved = resolve_objectives(network, units, image_shape, settings.pooling)
    measure_layers(
        network, frozenset().union(*(coupling.layers for coupling in settings.joint_objectives)), image_shape
    )
    return [
        Job(
            unit=unit,
            objective=objective_of(unit, settings.pooling) if isinstance(unit, Unit) else unit,
            repeat=repeat,
            start=starts.get((str(unit), repeat)),
        )
        for unit, repeat in product(resolved, range(settings.repeats))
    ]


def mark_classes(network: nn.Module, jobs: Sequence[Job], image_shape: Sequence[int]) -> list[Job]:
    """Return the jobs, each with its `class_unit`.

    Args:
        network: Any module that takes pictures.
        jobs: The pictures. Objectives are none of a class, whatever they are made of: they say what is maximised.
        image_shape: ``(C, H, W)`` of the pictures.
    """
    sizes = class_layers(network, (job.unit for job in jobs), image_shape)

    def class_unit(unit: Unit | Objective) -> Unit | None:
        if not isinstance(unit, Unit) or unit.index is None or unit.minimize:
            return None
        return unit if sizes.get(unit.layer_call, 0) > 1 else None

    return [replace(job, class_unit=class_unit(job.unit)) for job in jobs]


def group_jobs(settings: "Maximizer", jobs: Sequence[Job]) -> list[list[list[int]]]:
    """Return which pictures can share a batch: those that need the same layers.

    Args:
        settings: How the pictures are made.
        jobs: The pictures.

    Returns:
        Groups of sets of places among the jobs. A set is what joint_objectives hold together: without any, one picture.
    """
    sets: dict[Hashable, list[int]] = defaultdict(list)
    for place, job in enumerate(jobs):
        sets[held_together(settings.joint_objectives, str(job.unit), job.repeat)].append(place)
    groups: dict[tuple[frozenset[LayerCall], bool], list[list[int]]] = defaultdict(list)
    for places in sets.values():
        layers: frozenset[LayerCall] = frozenset().union(*(jobs[place].objective.layers for place in places))
        # Pictures that go on from earlier ones have no rounds to make.
        going_on = bool(settings.scales) and all(jobs[place].start is not None for place in places)
        groups[layers, going_on].append(places)
    return list(groups.values())
