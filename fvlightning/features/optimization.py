"""The loop: a batch of pictures, from their start to what is reported of them."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture import Capture, device_and_dtype
from fvlightning.features.couplings import Pairs
from fvlightning.features.feature import Feature, Status
from fvlightning.features.importance import Importance
from fvlightning.features.isolation import picture_generator
from fvlightning.features.jobs import Job
from fvlightning.features.objectives import Scorer, stack_objectives
from fvlightning.features.relus import open_relus
from fvlightning.features.robustness import Draws, random_views
from fvlightning.features.rows import OptimizedRows
from fvlightning.features.scales import Round
from fvlightning.features.snapshots import Snapshots
from fvlightning.features.tracking import Tracker

if TYPE_CHECKING:
    from fvlightning.features.maximizer import Maximizer

# How often clean pictures are judged when the steps see random views, and how often stopped pictures are looked for. A
# clean forward pass costs about a third of a step, so this adds two per cent.
_CHECK_EVERY = 16


class Optimization:
    """Pictures that are optimised together; all their objectives need the same layers.

    The network has to be frozen (`fvlightning.features.isolation.frozen`) as long as this is used.

    Args:
        settings: How the pictures are made.
        network: Any module that takes pictures.
        quick: A copy of it that takes less time (`inference_copy`), or the network itself. The steps are made with this
            one; what is reported of a picture is what the network itself gives.
        jobs: The pictures.
        part: Their size, and how many steps are made at most: the whole, or one round of several.
        failed: ``(B,)``, whether a picture has failed in an earlier round, and stays as it is. Default: none has.

    Raises:
        InputError: A job's start does not fit the parametrisation.
    """

    def __init__(
        self,
        settings: "Maximizer",
        network: nn.Module,
        quick: nn.Module,
        jobs: Sequence[Job],
        part: Round,
        failed: Sequence[bool] | None = None,
    ) -> None:
        device, self._network_dtype = device_and_dtype(network)
        precision = torch.float64 if self._network_dtype == torch.float64 else torch.float32
        self._settings = settings
        self._jobs = jobs
        self._part = part
        self._shape = part.image_shape
        layers = [*(job.objective.layers for job in jobs), *(coupling.layers for coupling in settings.couplings)]
        self._capture = Capture(network, frozenset().union(*layers))
        self._quick_capture = Capture(quick, self._capture.layers)
        self._device = device
        self._failed = torch.tensor(failed if failed is not None else [False] * len(jobs), device=device)
        self._score_jobs(range(len(jobs)))
        # Each round has views of its own.
        suffix = f"/{part.first_step}" if part.first_step else ""
        generators = [picture_generator(settings.seed, f"{job.unit}{suffix}", job.repeat) for job in jobs]
        starts = torch.stack([self._start(job, generator) for job, generator in zip(jobs, generators, strict=True)])
        self._rows = OptimizedRows(
            starts.to(device, precision),
            settings.optimizer,
            settings.normalize_gradients,
            settings.scheduler,
            part.steps,
        )
        self._draws = Draws(generators, settings.views * sum(view.n_draws for view in settings.robustness), device)
        self._snapshots = Snapshots([step for step in settings.snapshots if step > part.first_step], len(jobs))
        self._importance = Importance(len(jobs), self._shape[1:], self._rows.batch) if settings.importance else None

    def run(self, on_step: Callable[[int], None]) -> list[Feature]:
        """Make the steps, and return the features in the order of the jobs.

        Args:
            on_step: Called with the number of pictures that made a step, or need not make it any more.
        """
        settings, steps, first_step = self._settings, self._part.steps, self._part.first_step
        going_on = [job.start is not None for job in self._jobs]
        presentable = torch.tensor(going_on, device=self._device)
        tracker = Tracker(self._rows.batch, steps, settings.patience, settings.min_delta, presentable)
        tracker.failed |= self._failed
        tracker.stopped |= self._failed
        for step in range(steps):
            if step % _CHECK_EVERY == 0:
                # Noise is judged in vain: it is never the best.
                if n_stopped := self._drop_stopped(tracker, judge=step > 0 or any(going_on)):
                    on_step(n_stopped * (steps - step))
                if not len(tracker.active):
                    return self._features(tracker)
            pictures = settings.image(self._rows.batch, self._shape)
            # What the units see is apart from what the penalties see, so that its gradient is that of the scores.
            seen = pictures if self._importance is None else pictures.view_as(pictures)
            inputs = [self._rows.batch] if self._importance is None else [self._rows.batch, seen]
            with open_relus() if first_step + step < settings.open_relu_steps else nullcontext():
                scores, totals = self._judge(pictures, self._views(seen, step), self._view_scorer)
            gradients, *of_seen = _gradients(-totals.sum(), inputs)
            if not settings.robustness:
                tracker.offer(self._rows.batch, totals.detach())
            stopped = tracker.stopped[tracker.active]
            tracker.record(step, scores.detach(), totals.detach(), gradients)
            if self._importance is not None:
                self._importance.add(tracker.active, of_seen[0], ~(stopped | tracker.failed[tracker.active]))
            self._rows.step(gradients, hold=stopped if settings.patience is not None else None)
            with torch.no_grad():
                settings.image.project(self._rows.batch)
                if self._snapshots.is_due(made := first_step + step + 1):
                    self._snapshots.take(made, tracker.active.tolist(), self._now(tracker))
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

    def _score_jobs(self, places: Sequence[int]) -> None:
        """Make the functions that score the pictures of these jobs, and all the views of each; pair them."""
        objectives = [self._jobs[place].objective for place in places]
        self._scorer = self._view_scorer = stack_objectives(objectives)
        if (n_views := self._settings.views) > 1:
            self._view_scorer = stack_objectives([objective for objective in objectives for _ in range(n_views)])
        names = [(str(self._jobs[place].unit), self._jobs[place].repeat) for place in places]
        self._pairs = [Pairs.of(coupling, names, self._device) for coupling in self._settings.couplings]

    def _views(self, pictures: Tensor, step: int) -> Tensor:
        """Return the views of a step, ``(B * views, C, H, W)``, those of a picture together."""
        settings = self._settings
        if not settings.robustness:
            return pictures
        draws = self._draws.step().reshape(len(pictures) * settings.views, -1)
        progress = step / max(self._part.steps - 1, 1)
        views = [view.at(progress) for view in settings.robustness]
        return random_views(pictures.repeat_interleave(settings.views, 0), views, draws)

    def _displayed(self, parameters: Tensor) -> Tensor:
        """Return pictures as a file holds them, in 8 bits."""
        pictures = self._settings.image(parameters, self._shape)
        return (pictures * 255).round() / 255 if self._settings.image.bounded else pictures

    def _now(self, tracker: Tracker) -> Tensor:
        """Return the pictures that are in the batch as they are shown; those that have failed as they were at best."""
        batch = self._rows.batch.detach()
        failed = tracker.failed[tracker.active].reshape(-1, *[1] * (batch.ndim - 1))
        return self._displayed(torch.where(failed, tracker.best_parameters[tracker.active], batch))

    def _judge(self, pictures: Tensor, views: Tensor, scorer: Scorer) -> tuple[Tensor, Tensor]:
        """Return the pictures' scores ``(B,)``, each the mean of its views', and these with penalties and couplings."""
        activations = self._quick_capture(views.to(self._network_dtype))
        scores = scorer(activations).to(pictures.dtype).reshape(len(pictures), -1).mean(1)
        totals = scores
        for penalty in self._settings.penalties:
            totals = totals - penalty(pictures)
        if (prior := self._settings.image.penalty(self._rows.batch)) is not None:
            totals = totals - prior
        for coupling, pairs in zip(self._settings.couplings, self._pairs, strict=True):
            totals = totals + coupling(pictures, activations, pairs)
        return scores, totals

    def _offer_clean(self, tracker: Tracker) -> None:
        with torch.no_grad():
            pictures = self._settings.image(self._rows.batch, self._shape)
            tracker.offer(self._rows.batch, self._judge(pictures, pictures, self._scorer)[1])

    def _drop_stopped(self, tracker: Tracker, judge: bool) -> int:
        """Judge the clean pictures where that is needed, and leave out those that have stopped. Return their number."""
        running = tracker.running()
        n_stopped = len(self._rows.batch) - len(running)
        if (self._settings.robustness and judge) or n_stopped:
            self._offer_clean(tracker)
        if n_stopped:
            gone = sorted(set(range(len(self._rows.batch))) - set(running))
            with torch.no_grad():
                self._snapshots.hold(tracker.active[gone].tolist(), self._now(tracker)[gone])
            tracker.keep(running)
        if n_stopped and running:
            self._rows.keep(running)
            self._draws.keep(running)
            self._score_jobs(tracker.active.tolist())
        return n_stopped

    def _features(self, tracker: Tracker) -> list[Feature]:
        settings = {**self._settings.settings, "steps": self._part.last_step}
        scorer = stack_objectives([job.objective for job in self._jobs])
        with torch.no_grad():
            pictures = self._displayed(tracker.best_parameters)
            scores = scorer(self._capture(pictures.to(self._network_dtype))).to(pictures.dtype)
        failed = (tracker.failed | ~scores.isfinite()).tolist()
        best_steps, steps_made = tracker.best_step.tolist(), tracker.steps_made.tolist()
        pictures, parameters, histories = (t.cpu() for t in (pictures, tracker.best_parameters, tracker.history.T))
        moved = tracker.moved.tolist()
        # Penalties and open ReLUs move the picture of a unit that does not answer at all.
        has_prior = self._settings.image.penalty(tracker.best_parameters) is not None
        moved_anyway = bool(self._settings.penalties) or has_prior or self._settings.open_relu_steps > 0
        maps = self._importance.maps().cpu() if self._importance is not None else None
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
                    status=_status(failed[row], moved[row], moved_anyway, history),
                    parameters=parameters[row].clone(),
                    settings=settings,
                    importance=maps[row].clone() if maps is not None else None,
                    snapshots=self._snapshots.of(row, self._part.last_step),
                )
            )
        return features


def _status(failed: bool, moved: bool, moved_anyway: bool, history: Tensor) -> Status:
    """Return how a picture ended; `moved_anyway` says that it moves even if its unit does not answer."""
    if failed:
        return "non-finite"
    unanswered = moved_anyway and len(history) > 1 and bool((history == history[0]).all())
    return "ok" if moved and not unanswered else "dead"


def _gradients(loss: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the gradients to the inputs: zero where none leads to them, as behind a decision or a constant."""
    if not loss.requires_grad:
        return [torch.zeros_like(tensor) for tensor in inputs]
    return torch.autograd.grad(loss, inputs, materialize_grads=True)
