"""The rounds of a batch of pictures, one after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture.precision import Precision, full_precision
from fvlightning.features.feature import Feature, Status
from fvlightning.features.loop.jobs import Job, list_jobs
from fvlightning.features.loop.optimization import Optimization
from fvlightning.features.objectives import Objective
from fvlightning.features.scales import Round
from fvlightning.features.starts import fit_picture
from fvlightning.features.units import Unit

if TYPE_CHECKING:
    from fvlightning.features.maximizer import Maximizer


def list_jobs_of_rounds(
    settings: "Maximizer",
    network: nn.Module,
    units: Sequence[str | Unit | Objective],
    rounds: Sequence[Round],
    starts: Mapping[tuple[str, int], Tensor],
) -> list[Job]:
    """Return the pictures to be made, and find out before anything is computed whether all rounds can be made.

    Args:
        settings: How the pictures are made.
        network: Any module that takes pictures.
        units: As of `list_jobs`.
        rounds: The rounds of the pictures.
        starts: As of `list_jobs`.

    Raises:
        InputError: As of `list_jobs`; or in one of several rounds the network cannot take pictures of that size, a unit
            has a position that is not in its map then, or the parametrisation cannot go over to that size; or it cannot
            start from a picture; or importance is asked of inputs that are no pictures.
    """
    first, last = rounds[0], rounds[-1]
    if settings.importance and len(first.image_shape) != 3:
        raise InputError(f"inputs of shape {first.image_shape} are no pictures: leave out importance")
    _given_start(settings, first)
    if not settings.scales:
        return list_jobs(settings, network, units, last.image_shape, starts)
    with _named(last):
        jobs = list_jobs(settings, network, units, last.image_shape, starts)
    parameters = settings.image.initial_parameters(first.image_shape, torch.Generator())[None]
    for before, after in pairwise(rounds):
        with _named(before):
            list_jobs(settings, network, [job.unit for job in jobs[:: settings.repeats]], before.image_shape, {})
        with _named(after):
            parameters = settings.image.resize(parameters, before.image_shape, after.image_shape, after.blur)
    return jobs


def run_rounds(
    settings: "Maximizer",
    network: nn.Module,
    quick: nn.Module,
    jobs: Sequence[Job],
    waiting: Sequence[Job],
    rounds: Sequence[Round],
    on_step: Callable[[int], None],
    precision: Precision,
) -> Iterator[list[tuple[int, Feature]]]:
    """Make the pictures round by round, and hand out the features as their pictures are done.

    At the end of a round its best picture goes over to the size of the next, where the optimiser and its schedule begin
    anew. Pictures that all go on from earlier ones make all of their steps at the last size.

    Args:
        settings: How the pictures are made.
        network: Any module that takes pictures, frozen.
        quick: As of `Optimization`.
        jobs: The pictures; all of them have a start, or those that have one begin anew if there are several rounds.
        waiting: More pictures, which take the places of those that stop early, where these can be taken (`refills`).
        rounds: Their rounds.
        on_step: Called with the number of pictures that made a step, or need not make it any more.
        precision: As of `Optimization`.

    Yields:
        Features, each with its place among the jobs, behind which the waiting ones are counted.
    """
    if all(job.start is not None for job in jobs):
        rounds = [Round(rounds[-1].image_shape, rounds[-1].last_step)]
    elif len(rounds) > 1:
        jobs = [replace(job, start=None) for job in jobs]
    given = _given_start(settings, rounds[0])
    jobs, waiting = (
        [replace(job, start=given) if job.start is None else job for job in some]
        for some in (jobs, waiting if refills(settings) else [])
    )
    first = Optimization(settings, network, quick, jobs, rounds[0], precision, waiting=waiting)
    # What is coupled is made, and if need be made again, together.
    if len(rounds) == 1 and not settings.joint_objectives:
        yield from first.run(on_step)
        return
    features = _in_order(first.run(on_step))
    for before, after in pairwise(rounds):
        parameters = torch.stack([feature.parameters for feature in features])
        starts = settings.image.resize(parameters, before.image_shape, after.image_shape, after.blur)
        jobs = [replace(job, start=start) for job, start in zip(jobs, starts, strict=True)]
        failed = [feature.status == "non-finite" for feature in features]
        made = _in_order(Optimization(settings, network, quick, jobs, after, precision, failed).run(on_step))
        features = [_joined(earlier, later) for earlier, later in zip(features, made, strict=True)]
    yield list(enumerate(features))


def refills(settings: "Maximizer") -> bool:
    """Whether waiting pictures take the places of those that stop early.

    Without patience pictures stop together. Where they go through rounds, are coupled, or have open ReLUs in their
    first steps, all of a batch have to be at the same step.
    """
    in_step = bool(settings.scales or settings.joint_objectives or settings.open_relu_steps)
    return settings.patience is not None and not in_step


def _in_order(parts: Iterator[list[tuple[int, Feature]]]) -> list[Feature]:
    return [feature for _, feature in sorted(chain.from_iterable(parts), key=itemgetter(0))]


@contextmanager
def _named(part: Round) -> Iterator[None]:
    """Say of what is wrong in a round of a schedule in which one it is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"scales: the round of {min(part.image_shape[-2:])} pixels cannot be made: {error}") from error


def _given_start(settings: "Maximizer", first: Round) -> Tensor | None:
    """Return the parameters of the picture that the maximizer starts from, if it was given one."""
    if settings.start_picture is None:
        return None
    # It is asked for outside of the optimisation, too.
    with full_precision(torch.device("cpu")):
        return settings.image.invert(fit_picture(settings.start_picture, first.image_shape)[None])[0]


def _joined(earlier: Feature, later: Feature) -> Feature:
    """Return the feature of a round together with that of the rounds before it."""
    dead = earlier.status == later.status == "dead"
    status: Status = "non-finite" if later.status == "non-finite" else "dead" if dead else "ok"
    return replace(
        later,
        history=torch.cat([earlier.history, later.history]),
        # A round whose start is its best picture shows that of the round before.
        best_step=earlier.steps + later.best_step if later.best_step else earlier.best_step,
        status=status,
        snapshots=earlier.snapshots | later.snapshots,
    )
