"""The pictures that are to be made: each unit with each repeat."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture import class_layers, measure_layers
from fvlightning.features.images import Parametrization
from fvlightning.features.loop.settings import Settings
from fvlightning.features.objectives import Objective, joint_key, objective_of, resolve_objectives
from fvlightning.features.scales import Round
from fvlightning.features.transforms import transformed_shapes
from fvlightning.features.units import LayerCall, Unit


@dataclass(frozen=True)
class Job:
    """One picture to be made.

    Args:
        unit: The unit or objective, as it was given.
        objective: The score.
        repeat: Which picture of the unit this is.
        warm_start: Parameters to go on from. None: the picture starts anew.
        class_unit: The unit, if it is a class of the network's output and is maximised.
    """

    unit: Unit | Objective
    objective: Objective
    repeat: int
    warm_start: Tensor | None = None
    class_unit: Unit | None = None

    def initial_parameters(
        self, image: Parametrization, image_shape: tuple[int, ...], generator: torch.Generator
    ) -> Tensor:
        """Return the parameters that the picture starts from: the warm start, or new ones.

        Raises:
            InputError: The warm start does not fit the parametrisation.
        """
        fresh = image.initial_parameters(image_shape, generator)
        if self.warm_start is None:
            return fresh
        if self.warm_start.shape != fresh.shape:
            raise InputError(
                f"cannot go on from the picture of {self.unit}: its parameters have the shape "
                f"{tuple(self.warm_start.shape)}, {type(image).__name__} of {image_shape} has {tuple(fresh.shape)}; "
                "start anew"
            )
        return self.warm_start


def list_jobs(
    settings: Settings,
    network: nn.Module,
    units: Sequence[str | Unit | Objective],
    image_shape: Sequence[int],
    warm_starts: Mapping[tuple[str, int], Tensor],
) -> list[Job]:
    """Return the pictures to be made, in the order of the units, the repeats of a unit together.

    Args:
        settings: How the pictures are made.
        network: Any module that takes pictures.
        units: Text forms of units or weighted sums, units, or objectives. One that is named twice gets one picture.
        image_shape: ``(C, H, W)`` of the pictures.
        warm_starts: Parameters to go on from, by the text form of the unit and the repeat.

    Raises:
        InputError: There are no units, one cannot be used, or the network or a setting does not accept such pictures.
    """
    if settings.image.bounded and (len(image_shape) != 3 or min(image_shape) < 1):
        raise InputError(
            f"{type(settings.image).__name__} cannot take a picture of shape {tuple(image_shape)}; give (C, H, W)"
        )
    if settings.transforms and len(image_shape) != 3:
        raise InputError(f"inputs of shape {tuple(image_shape)} are not pictures; leave out transforms (transforms=[])")
    resolved = resolve_objectives(network, units, image_shape, settings.pooling)
    for shape in transformed_shapes(settings.transforms, image_shape):
        if shape != tuple(image_shape):
            try:
                resolve_objectives(network, resolved, shape, settings.pooling)
            except InputError as error:
                size = " x ".join(map(str, shape[1:]))
                raise InputError(f"Maximizer(transforms=...): makes pictures of {size} pixels: {error}") from error
    measure_layers(network, frozenset().union(*(joint.layers for joint in settings.joint_objectives)), image_shape)
    return [
        Job(
            unit=unit,
            objective=objective_of(unit, settings.pooling),
            repeat=repeat,
            warm_start=warm_starts.get((str(unit), repeat)),
        )
        for unit, repeat in product(resolved, range(settings.repeats))
    ]


def mark_classes(network: nn.Module, jobs: Sequence[Job], image_shape: Sequence[int]) -> list[Job]:
    """Return the jobs, each with its `class_unit`. An objective has none: it already says what is maximised."""
    layers = {job.unit.layer_call for job in jobs if isinstance(job.unit, Unit) and job.unit.index is not None}
    sizes = class_layers(network, layers, image_shape)

    def class_unit(unit: Unit | Objective) -> Unit | None:
        if not isinstance(unit, Unit) or unit.index is None or unit.minimize:
            return None
        return unit if sizes.get(unit.layer_call, 0) > 1 else None

    return [replace(job, class_unit=class_unit(job.unit)) for job in jobs]


def group_jobs(settings: Settings, jobs: Sequence[Job], rounds: Sequence[Round]) -> list[list[list[int]]]:
    """Return which pictures can share a batch: those that need the same layers and make the same steps.

    Returns:
        Groups of sets of places among the jobs. A set holds the pictures that joint objectives tie together; without
        any, a single picture.
    """
    skips = len(rounds) > 1 or rounds[-1].skipped > 0
    sets: dict[Hashable, list[int]] = defaultdict(list)
    for place, job in enumerate(jobs):
        sets[joint_key(settings.joint_objectives, str(job.unit), job.repeat)].append(place)
    groups: dict[tuple[frozenset[LayerCall], bool], list[list[int]]] = defaultdict(list)
    for places in sets.values():
        layers: frozenset[LayerCall] = frozenset().union(*(jobs[place].objective.layers for place in places))
        # Pictures that all have a warm start skip the rounds before the last, and the first steps.
        all_warm = skips and all(jobs[place].warm_start is not None for place in places)
        groups[layers, all_warm].append(places)
    return list(groups.values())
