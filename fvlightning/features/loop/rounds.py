"""The rounds of a batch of pictures, one after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, pairwise
from operator import itemgetter

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture import full_precision
from fvlightning.features.feature import Feature, Status
from fvlightning.features.loop.jobs import Job, list_jobs
from fvlightning.features.loop.optimization import Networks, Optimization
from fvlightning.features.loop.settings import Settings
from fvlightning.features.objectives import Objective
from fvlightning.features.scales import Round
from fvlightning.features.units import Unit
from fvlightning.io import fit_picture


def list_jobs_of_rounds(
    settings: Settings,
    network: nn.Module,
    units: Sequence[str | Unit | Objective],
    rounds: Sequence[Round],
    warm_starts: Mapping[tuple[str, int], Tensor],
) -> list[Job]:
    """Return the pictures to be made, after a check, before anything is computed, that all rounds can be made.

    The arguments are those of `list_jobs`, with the rounds of the pictures instead of their shape.

    Raises:
        InputError: A unit cannot be used; the network, a unit's position or the parametrisation does not fit the size
            of a round; the parametrisation cannot start from a picture; or inputs that are not pictures should get
            importance.
    """
    first, last = rounds[0], rounds[-1]
    if settings.importance and len(first.image_shape) != 3:
        raise InputError(f"inputs of shape {first.image_shape} are not pictures; leave out importance")
    _inverted_initial_picture(settings, first)
    if not settings.scales:
        return list_jobs(settings, network, units, last.image_shape, warm_starts)
    with _named(last):
        jobs = list_jobs(settings, network, units, last.image_shape, warm_starts)
    parameters = settings.image.initial_parameters(first.image_shape, torch.Generator())[None]
    for before, after in pairwise(rounds):
        with _named(before):
            list_jobs(settings, network, [job.unit for job in jobs[:: settings.repeats]], before.image_shape, {})
        with _named(after):
            parameters = settings.image.resize(parameters, before.image_shape, after.image_shape, after.blur)
    return jobs


def run_rounds(
    settings: Settings,
    networks: Networks,
    jobs: Sequence[Job],
    rounds: Sequence[Round],
    on_step: Callable[[int], None],
) -> Iterator[list[tuple[int, Feature]]]:
    """Make the pictures round by round, and yield the features, each with its place among the jobs.

    At the end of a round the best picture is resized for the next, where optimiser and schedule begin anew.
    Pictures that all have a warm start make all their steps at the last size, and skip what that round says.

    Args:
        settings: How the pictures are made.
        networks: The network, frozen.
        jobs: The pictures. With several rounds, either all have a warm start, or those that have one begin anew.
        rounds: Their rounds.
        on_step: Called with the number of pictures that made a step, or do not need to make it any more.
    """
    if all(job.warm_start is not None for job in jobs):
        rounds = [Round(rounds[-1].image_shape, rounds[-1].last_step, skipped=rounds[-1].skipped)]
    else:
        rounds = [replace(part, skipped=0) for part in rounds]
        if len(rounds) > 1:
            jobs = [replace(job, warm_start=None) for job in jobs]
    initial = _inverted_initial_picture(settings, rounds[0])
    jobs = [replace(job, warm_start=initial) if job.warm_start is None else job for job in jobs]
    optimization = Optimization(settings, networks, jobs, rounds[0])
    # Pictures of a joint objective are handed out together, and after an out-of-memory made again together.
    if len(rounds) == 1 and not settings.joint_objectives:
        yield from optimization.run(on_step)
        return
    features = _in_order(optimization.run(on_step))
    for before, after in pairwise(rounds):
        parameters = torch.stack([feature.parameters for feature in features])
        resized = settings.image.resize(parameters, before.image_shape, after.image_shape, after.blur)
        jobs = [replace(job, warm_start=row) for job, row in zip(jobs, resized, strict=True)]
        failed = [feature.status == "non-finite" for feature in features]
        made = _in_order(Optimization(settings, networks, jobs, after, failed).run(on_step))
        features = [_joined(earlier, later) for earlier, later in zip(features, made, strict=True)]
    yield list(enumerate(features))


def _in_order(parts: Iterator[list[tuple[int, Feature]]]) -> list[Feature]:
    return [feature for _, feature in sorted(chain.from_iterable(parts), key=itemgetter(0))]


@contextmanager
def _named(part: Round) -> Iterator[None]:
    """Name the round of a schedule in an error that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"Maximizer(scales=...): no round of {min(part.image_shape[-2:])} pixels: {error}") from error


def _inverted_initial_picture(settings: Settings, first: Round) -> Tensor | None:
    """Return the parameters of the initial picture that the maximizer was given, if any."""
    if settings.initial_picture is None:
        return None
    with full_precision(torch.device("cpu")):  # this also runs outside of the optimisation
        return settings.image.invert(fit_picture(settings.initial_picture.picture, first.image_shape)[None])[0]


def _joined(earlier: Feature, later: Feature) -> Feature:
    """Return the feature of a round together with that of the rounds before it."""
    dead = earlier.status == later.status == "dead"
    status: Status = "non-finite" if later.status == "non-finite" else "dead" if dead else "ok"
    return replace(
        later,
        history=torch.cat([earlier.history, later.history]),
        # If no step of a round improves on its initial picture, that is the best picture of the round before.
        best_step=earlier.steps + later.best_step if later.best_step else earlier.best_step,
        status=status,
        snapshots=earlier.snapshots | later.snapshots,
    )
