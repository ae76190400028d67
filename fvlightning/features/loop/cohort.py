"""Pictures that began together, and all that is kept of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.capture.isolation import picture_generator
from fvlightning.features.feature import Feature, Status
from fvlightning.features.loop.importance import Importance
from fvlightning.features.loop.jobs import Job
from fvlightning.features.loop.optimizer import OptimizedRows
from fvlightning.features.loop.snapshots import Snapshots
from fvlightning.features.loop.tracking import Tracker
from fvlightning.features.objectives import Objective
from fvlightning.features.scales import Round
from fvlightning.features.transforms import Draws, longest_warmup

if TYPE_CHECKING:
    from fvlightning.features.maximizer import Maximizer


class Cohort:
    """Pictures that began together: they have one optimiser, and count their steps from their own first one.

    Several cohorts may share a batch (`fvlightning.features.loop.optimization`); none knows of the others.

    Args:
        settings: How the pictures are made.
        jobs: The pictures, each with its place in the list of all that the optimisation makes.
        part: Their size, and how many steps are made at most.
        like: A tensor of the device and the type of number of the parameters.
        failed: ``(N,)``, whether a picture has failed in an earlier round, and stays as it is. Default: none has.

    Attributes:
        step: How many steps were made.
        rows: The parameters of the pictures that are still in the batch, ``(b, ...)``, and their optimiser.
        tracker: The best of all of them so far, and how far each got.

    Raises:
        InputError: A job's start does not fit the parametrisation.
    """

    def __init__(
        self,
        settings: "Maximizer",
        jobs: Sequence[tuple[int, Job]],
        part: Round,
        like: Tensor,
        failed: Sequence[bool] | None = None,
    ) -> None:
        self._settings = settings
        self._places = [place for place, _ in jobs]
        self._jobs = [job for _, job in jobs]
        self._part = part
        # The rows of the tracker that are still in the batch, which it has itself only on the device.
        self._active = list(range(len(jobs)))
        self.step = 0
        presentable = [job.start is not None for job in self._jobs]
        self._starts_presentable = any(presentable)
        # Each round has views of its own.
        suffix = f"/{part.first_step}" if part.first_step else ""
        generators = [picture_generator(settings.seed, f"{job.unit}{suffix}", job.repeat) for job in self._jobs]
        starts = [self._start(job, generator) for job, generator in zip(self._jobs, generators, strict=True)]
        self.rows = OptimizedRows(
            torch.stack(starts).to(like),
            settings.optimizer,
            settings.normalize_gradients,
            settings.scheduler,
            part.steps,
        )
        self.tracker = Tracker(
            self.rows.batch,
            part.steps,
            settings.patience,
            settings.min_delta,
            torch.tensor(presentable, device=like.device),
        )
        if failed is not None:
            self.tracker.failed |= torch.tensor(failed, device=like.device)
            self.tracker.stopped |= self.tracker.failed
        self._draws = Draws(generators, settings.views * sum(view.n_draws for view in settings.transforms), like.device)
        self._warmup = longest_warmup(settings.transforms)
        self._snapshots = Snapshots([step for step in settings.snapshots if step > part.first_step], len(jobs))
        size = part.image_shape[1:]
        self._importance = Importance(len(jobs), size, self.rows.batch) if settings.importance else None

    def __len__(self) -> int:
        """How many of the pictures are still in the batch."""
        return len(self._active)

    @property
    def active(self) -> list[int]:
        """The pictures that are still in the batch, by their rows in the tracker."""
        return list(self._active)

    @property
    def jobs(self) -> list[Job]:
        """The pictures that are still in the batch."""
        return [self._jobs[row] for row in self._active]

    @property
    def is_worth_judging(self) -> bool:
        """Whether a picture could be the best so far: noise never is."""
        return self.step > 0 or self._starts_presentable

    @property
    def progress(self) -> float:
        """The part of the way that is gone: 0 at the first step, 1 at the last."""
        return self.step / max(self._part.steps - 1, 1)

    @property
    def is_done(self) -> bool:
        """Whether all steps were made."""
        return self.step == self._part.steps

    def draws(self) -> Tensor:
        """Return the random numbers of the next step's views, ``(b * views, n_draws)``."""
        return self._draws.step().reshape(len(self) * self._settings.views, -1)

    def make_step(self, scores: Tensor, totals: Tensor, gradients: Tensor, importance: Tensor | None = None) -> None:
        """Make a step.

        Args:
            scores: ``(b,)``, on the views.
            totals: ``(b,)``, the scores with penalties and joint_objectives.
            gradients: ``(b, ...)`` of what is minimised to the parameters.
            importance: ``(b, C, H, W)``, the gradients to the pictures as the units see them, if that is wanted.
        """
        settings, tracker = self._settings, self.tracker
        if not settings.transforms:
            tracker.offer(self.rows.batch, totals)
        stopped = tracker.stopped[tracker.active]
        tracker.record(self.step, scores, totals, gradients, warming_up=self.progress < self._warmup)
        if self._importance is not None and importance is not None:
            self._importance.add(tracker.active, importance, ~(stopped | tracker.failed[tracker.active]))
        self.rows.step(gradients, hold=stopped if settings.patience is not None else None)
        self.step += 1
        with torch.no_grad():
            settings.image.project(self.rows.batch)
            if self._snapshots.is_due(made := self._part.first_step + self.step):
                self._snapshots.take(made, self._active, self._now())

    def leave(self, running: Sequence[int]) -> list[int]:
        """Leave out all pictures but those at the places `running` in the batch; return the rows of the others."""
        gone = sorted(set(range(len(self))) - set(running))
        rows = [self._active[place] for place in gone]
        if self._snapshots.are_pending:
            with torch.no_grad():
                self._snapshots.hold(rows, self._now()[gone])
        self.tracker.keep(running)
        self._active = [self._active[place] for place in running]
        if running:
            self.rows.keep(running)
            self._draws.keep(running)
        return rows

    def objectives(self, rows: Sequence[int]) -> list[Objective]:
        """Return what scores the pictures of these rows of the tracker."""
        return [self._jobs[row].objective for row in rows]

    def features(self, rows: Sequence[int], pictures: Tensor, scores: Tensor) -> list[tuple[int, Feature]]:
        """Return what is reported of pictures, with their places in the list of all. This waits for the device.

        Args:
            rows: ``(n,)``, their rows in the tracker.
            pictures: ``(n, C, H, W)``, as they are shown at their best.
            scores: ``(n,)`` of these.
        """
        settings, tracker, chosen = self._settings, self.tracker, list(rows)
        best = tracker.best_parameters[chosen]
        # Penalties, rivals and open ReLUs move the picture of a unit that does not answer at all.
        has_prior = settings.image.prior(best) is not None
        moved_anyway = bool(settings.penalties) or has_prior or settings.open_relu_steps > 0
        failed = (tracker.failed[chosen] | ~scores.isfinite()).tolist()
        moved, best_steps = tracker.moved[chosen].tolist(), tracker.best_step[chosen].tolist()
        steps_made = tracker.steps_made[chosen].tolist()
        maps = self._importance.maps(chosen).cpu() if self._importance is not None else None
        pictures, parameters, histories = (t.cpu() for t in (pictures, best, tracker.history.T[chosen]))
        described = {**settings.settings, "steps": self._part.last_step}
        features = []
        for i, (row, score) in enumerate(zip(chosen, scores.tolist(), strict=True)):
            job, history = self._jobs[row], histories[i, : steps_made[i]].clone()
            feature = Feature(
                unit=job.unit,
                repeat=job.repeat,
                image=pictures[i].clone(),
                score=score,
                history=history,
                best_step=best_steps[i],
                seed=settings.seed,
                status=_status(failed[i], moved[i], moved_anyway or job.class_unit is not None, history),
                parameters=parameters[i].clone(),
                settings=described,
                importance=maps[i].clone() if maps is not None else None,
                snapshots=self._snapshots.of(row, self._part.last_step),
            )
            features.append((self._places[row], feature))
        return features

    def displayed(self, parameters: Tensor) -> Tensor:
        """Return the pictures of parameters as a file holds them, in 8 bits."""
        pictures = self._settings.image(parameters, self._part.image_shape)
        return (pictures * 255).round() / 255 if self._settings.image.bounded else pictures

    def _now(self) -> Tensor:
        """Return the pictures that are in the batch as they are shown; those that have failed as they were at best."""
        batch, tracker = self.rows.batch.detach(), self.tracker
        failed = tracker.failed[tracker.active].reshape(-1, *[1] * (batch.ndim - 1))
        return self.displayed(torch.where(failed, tracker.best_parameters[tracker.active], batch))

    def _start(self, job: Job, generator: torch.Generator) -> Tensor:
        fresh = self._settings.image.initial_parameters(self._part.image_shape, generator)
        if job.start is None:
            return fresh
        if job.start.shape != fresh.shape:
            image = type(self._settings.image).__name__
            raise InputError(
                f"cannot go on from the picture of {job.unit}: its parameters have the shape {tuple(job.start.shape)}, "
                f"{image} of {self._part.image_shape} has {tuple(fresh.shape)}; start anew"
            )
        return job.start


def _status(failed: bool, moved: bool, moved_anyway: bool, history: Tensor) -> Status:
    """Return how a picture ended; `moved_anyway` says that it moves even if its unit does not answer."""
    if failed:
        return "non-finite"
    unanswered = moved_anyway and len(history) > 1 and bool((history == history[0]).all())
    return "ok" if moved and not unanswered else "dead"
