"""The pictures that are to be made: each unit with each repeat."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.layers import measure_layers
from fvlightning.features.objectives import Objective, objective_of
from fvlightning.features.resolving import resolve_objectives
from fvlightning.features.survey import output_layers
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
        is_class: Whether the unit is one of several of the network's output, and wanted to be large.
    """

    unit: Unit | Objective
    objective: Objective
    repeat: int
    start: Tensor | None = None
    is_class: bool = False


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
    if settings.robustness and len(image_shape) != 3:
        raise InputError(f"inputs of shape {tuple(image_shape)} are no pictures: robustness=[] leaves out the views")
    resolved = resolve_objectives(network, units, image_shape, settings.pooling)
    measure_layers(network, frozenset().union(*(coupling.layers for coupling in settings.couplings)), image_shape)
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
    """Return the jobs, and of each whether it `is_class`.

    Args:
        network: Any module that takes pictures.
        jobs: The pictures. Objectives are none of a class, whatever they are made of: they say what is maximised.
        image_shape: ``(C, H, W)`` of the pictures.
    """
    possible = [job.unit for job in jobs if isinstance(job.unit, Unit) and not job.unit.minimize]
    outputs: dict[LayerCall, int] = {}
    # Early layers take pictures that those behind them may fail at in any way; classes are not among these then.
    with suppress(Exception):
        outputs = output_layers(network, {unit.layer_call for unit in possible if unit.index is not None}, image_shape)
    classes = {unit for unit in possible if unit.index is not None and outputs.get(unit.layer_call, 0) > 1}
    return [replace(job, is_class=isinstance(job.unit, Unit) and job.unit in classes) for job in jobs]
