"""From the tensors of a batch to features."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from fvlightning.features.feature import Feature, Status
from fvlightning.features.loop._tracking import Tracker
from fvlightning.features.loop.jobs import Job
from fvlightning.features.loop.settings import Settings
from fvlightning.features.scales import Round


def make_features(
    settings: Settings,
    jobs: Sequence[Job],
    tracker: Tracker,
    rows: list[int],
    *,
    pictures: Tensor,
    scores: Tensor,
    importance: Tensor | None,
    snapshots: Sequence[Mapping[int, Tensor]],
    part: Round,
) -> Iterator[Feature]:
    """Yield the features of pictures that leave a batch, on the CPU. This waits for the device.

    Args:
        settings: How the pictures were made.
        jobs: The n pictures.
        tracker: Follows all pictures of the batch.
        rows: The rows of the n pictures in the tracker.
        pictures: ``(n, C, H, W)``, the best ones, as saved.
        scores: ``(n,)`` of these.
        importance: ``(n, H, W)``, or None.
        snapshots: For each picture, ``(C, H, W)`` by step.
        part: The round that they leave.
    """
    best = tracker.best_parameters[rows]
    # These move the picture of a unit that does not respond at all.
    has_prior = settings.image.prior(best) is not None
    moves_anyway = bool(settings.penalties or settings.joint_objectives or settings.open_relu_steps) or has_prior
    failed = (tracker.failed[rows] | ~scores.isfinite()).tolist()
    moved, best_steps = tracker.moved[rows].tolist(), tracker.best_step[rows].tolist()
    steps_made, scores_of_jobs = tracker.steps_made[rows].tolist(), scores.tolist()
    pictures, parameters, histories = (t.cpu() for t in (pictures, best, tracker.history.T[rows]))
    importance = importance.cpu() if importance is not None else None
    described = {**settings.describe(part.skipped), "steps": part.last_step}
    for i, job in enumerate(jobs):
        history = histories[i, : steps_made[i]].clone()
        yield Feature(
            unit=job.unit,
            repeat=job.repeat,
            image=pictures[i].clone(),
            score=scores_of_jobs[i],
            history=history,
            best_step=best_steps[i],
            seed=settings.seed,
            status=_status(failed[i], moved[i], moves_anyway or job.class_unit is not None, history),
            parameters=parameters[i].clone(),
            settings=described,
            importance=importance[i].clone() if importance is not None else None,
            snapshots=dict(snapshots[i]),
        )


def _status(failed: bool, moved: bool, moves_anyway: bool, history: Tensor) -> Status:
    """Return how a picture ended; `moves_anyway` says that it moves even if its unit does not respond."""
    if failed:
        return "non-finite"
    unanswered = moves_anyway and len(history) > 1 and bool((history == history[0]).all())
    return "ok" if moved and not unanswered else "dead"
