"""The loop: a batch of pictures, from their start to what is reported of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture import Capture, device_and_dtype
from fvlightning.features.feature import Feature, Status
from fvlightning.features.isolation import picture_generator
from fvlightning.features.objectives import Objective, stack_objectives
from fvlightning.features.robustness import Draws, random_views
from fvlightning.features.rows import OptimizedRows
from fvlightning.features.tracking import Tracker
from fvlightning.features.units import Unit

if TYPE_CHECKING:
    from fvlightning.features.maximizer import Maximizer

# How often clean pictures are judged when the steps see random views, and how often stopped pictures are looked for. A
# clean forward pass costs about a third of a step, so this adds two per cent.
_CHECK_EVERY = 16


@dataclass(frozen=True)
class Job:
    """One picture to be made.

    Args:
        unit: What is maximised, as it was given.
        objective: The score.
        repeat: Which picture of the unit it is.
        start: Parameters to go on from, or None to start anew.
    """

    unit: Unit | Objective
    objective: Objective
    repeat: int
    start: Tensor | None = None


class Optimization:
    """Pictures that are optimised together; all their objectives need the same layers.

    The network has to be frozen (`fvlightning.features.isolation.frozen`) as long as this is used.

    Args:
        settings: How the pictures are made.
        network: Any module that takes pictures.
        jobs: The pictures.
        image_shape: ``(C, H, W)`` of the pictures.

    Raises:
        InputError: A job's start does not fit the parametrisation.
    """

    def __init__(
        self, settings: "Maximizer", network: nn.Module, jobs: Sequence[Job], image_shape: Sequence[int]
    ) -> None:
        device, self._network_dtype = device_and_dtype(network)
        precision = torch.float64 if self._network_dtype == torch.float64 else torch.float32
        self._settings = settings
        self._jobs = jobs
        self._shape = tuple(image_shape)
        self._capture = Capture(network, jobs[0].objective.layers)
        self._scorer = stack_objectives([job.objective for job in jobs])
        generators = [picture_generator(settings.seed, str(job.unit), job.repeat) for job in jobs]
        starts = torch.stack([self._start(job, generator) for job, generator in zip(jobs, generators, strict=True)])
        self._rows = OptimizedRows(starts.to(device, precision), settings.optimizer, settings.normalize_gradients)
        self._draws = Draws(generators, sum(view.n_draws for view in settings.robustness), device)

    def run(self, steps: int, on_step: Callable[[int], None]) -> list[Feature]:
        """Make the steps, and return the features in the order of the jobs.

        Args:
            steps: How many steps are made at most.
            on_step: Called with the number of pictures that made a step, or need not make it any more.
        """
        settings = self._settings
        tracker = Tracker(self._rows.batch, steps, settings.patience, settings.min_delta)
        for step in range(steps):
            if step % _CHECK_EVERY == 0:
                if n_stopped := self._drop_stopped(tracker):
                    on_step(n_stopped * (steps - step))
                if not len(tracker.active):
                    return self._features(tracker)
            pictures = settings.image(self._rows.batch, self._shape)
            views = random_views(pictures, settings.robustness, self._draws.step()) if settings.robustness else pictures
            scores, totals = self._judge(pictures, views)
            gradients = _gradients(-totals.sum(), self._rows.batch)
            if not settings.robustness:
                tracker.offer(self._rows.batch, totals.detach())
            stopped = tracker.stopped[tracker.active] if settings.patience is not None else None
            tracker.record(step, scores.detach(), totals.detach(), gradients)
            self._rows.step(gradients, hold=stopped)
            with torch.no_grad():
                settings.image.project(self._rows.batch)
            on_step(len(self._rows.batch))
        self._offer_clean(tracker)
        return self._features(tracker)

    def _start(self, job: Job, generator: torch.Generator) -> Tensor:
        fresh = self._settings.image.start(self._shape, generator)
        if job.start is None:
            return fresh
        if job.start.shape != fresh.shape:
            image = type(self._settings.image).__name__
            raise InputError(
                f"cannot go on from the picture of {job.unit}: its parameters have the shape {tuple(job.start.shape)}, "
                f"{image} of {self._shape} has {tuple(fresh.shape)}; start anew"
            )
        return job.start

    def _judge(self, pictures: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores ``(B,)`` of the views, and these less the penalties on the pictures."""
        scores = self._scorer(self._capture(views.to(self._network_dtype))).to(pictures.dtype)
        penalties = (penalty(pictures) for penalty in self._settings.penalties)
        return scores, scores - sum(penalties, scores.new_zeros(()))

    def _offer_clean(self, tracker: Tracker) -> None:
        with torch.no_grad():
            pictures = self._settings.image(self._rows.batch, self._shape)
            tracker.offer(self._rows.batch, self._judge(pictures, pictures)[1])

    def _drop_stopped(self, tracker: Tracker) -> int:
        """Judge the clean pictures where that is due, and leave out those that have stopped. Return their number."""
        running = tracker.running()
        n_stopped = len(self._rows.batch) - len(running)
        if self._settings.robustness or n_stopped:
            self._offer_clean(tracker)
        if n_stopped:
            tracker.keep(running)
        if n_stopped and running:
            self._rows.keep(running)
            self._draws.keep(running)
            self._scorer = stack_objectives([self._jobs[place].objective for place in tracker.active.tolist()])
        return n_stopped

    def _features(self, tracker: Tracker) -> list[Feature]:
        image, settings = self._settings.image, {**self._settings.settings, "steps": len(tracker.history)}
        scorer = stack_objectives([job.objective for job in self._jobs])
        with torch.no_grad():
            pictures = image(tracker.best_parameters, self._shape)
            if image.bounded:
                pictures = (pictures * 255).round() / 255
            scores = scorer(self._capture(pictures.to(self._network_dtype))).to(pictures.dtype)
        failed = (tracker.failed | ~scores.isfinite()).tolist()
        best_steps, steps_made = tracker.best_step.tolist(), tracker.steps_made.tolist()
        pictures, parameters, histories = (t.cpu() for t in (pictures, tracker.best_parameters, tracker.history.T))
        moved = tracker.moved.tolist()
        features = []
        for row, (job, score) in enumerate(zip(self._jobs, scores.tolist(), strict=True)):
            history = histories[row, : steps_made[row]].clone()
            features.append(
                Feature(
                    unit=job.unit,
                    repeat=job.repeat,
                    image=pictures[row].clone(),
                    score=score,
                    history=history,
                    best_step=best_steps[row],
                    seed=self._settings.seed,
                    status=self._status(failed[row], moved[row], history),
                    parameters=parameters[row].clone(),
                    settings=settings,
                )
            )
        return features

    def _status(self, failed: bool, moved: bool, history: Tensor) -> Status:
        if failed:
            return "non-finite"
        # Penalties move the picture of a unit that does not answer at all.
        unanswered = bool(self._settings.penalties) and len(history) > 1 and bool((history == history[0]).all())
        return "ok" if moved and not unanswered else "dead"


def _gradients(loss: Tensor, parameters: Tensor) -> Tensor:
    """Return the gradient to the parameters: zero where none leads to them, as behind a decision or a constant."""
    if not loss.requires_grad:
        return torch.zeros_like(parameters)
    (gradients,) = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return gradients
