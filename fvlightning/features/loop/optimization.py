"""The loop: activation maximisation of a batch of pictures. `Optimization._step` is the algorithm."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fvlightning.features.capture import Activations, Capture, Precision, device_and_dtype, open_relus
from fvlightning.features.feature import Feature
from fvlightning.features.loop._importance import Importance
from fvlightning.features.loop._results import make_features
from fvlightning.features.loop._snapshots import Snapshots
from fvlightning.features.loop._tracking import Tracker
from fvlightning.features.loop.jobs import Job
from fvlightning.features.loop.optimizer import PictureOptimizer
from fvlightning.features.loop.settings import Settings
from fvlightning.features.objectives import RivalClasses, stack_objectives
from fvlightning.features.rng import picture_generator
from fvlightning.features.scales import Round
from fvlightning.features.transforms import Draws, apply_transforms

# The number of steps after which the clean pictures are judged, if the steps see transformed ones, and pictures that
# have stopped leave the batch. A clean forward pass costs about a third of a step, so this adds two per cent.
_CHECK_EVERY = 16


@dataclass(frozen=True)
class Networks:
    """A network as the loop runs it.

    Args:
        exact: The network itself, frozen. It gives the scores that are reported.
        fast: A copy that gives the same in less time (`fast_copy`), or the network itself. The steps run it.
        precision: The precision of the forward passes. Everything else is computed in full precision.
    """

    exact: nn.Module
    fast: nn.Module
    precision: Precision


class Optimization:
    """A batch of pictures that are optimised together; all their objectives need the same layers.

    Args:
        settings: How the pictures are made.
        networks: The network, frozen as long as `run` computes.
        jobs: The pictures.
        part: The size of the pictures and the number of steps: the whole run, or one round of several.
        failed: ``(B,)``, whether a picture failed in an earlier round, and stays as it is. Default: none did.

    Raises:
        InputError: A warm start does not fit the parametrisation.
    """

    def __init__(
        self,
        settings: Settings,
        networks: Networks,
        jobs: Sequence[Job],
        part: Round,
        failed: Sequence[bool] | None = None,
    ) -> None:
        device, network_dtype = device_and_dtype(networks.exact)
        like = torch.empty(0, dtype=torch.promote_types(network_dtype, torch.float32), device=device)
        layer_sets = [*(job.objective.layers for job in jobs), *(joint.layers for joint in settings.joint_objectives)]
        layers = frozenset().union(*layer_sets)
        self._settings, self._part, self._jobs = settings, part, list(jobs)
        self._exact = Capture(networks.exact, layers, networks.precision)
        self._fast = Capture(networks.fast, layers, networks.precision)
        self._loss_scale = networks.precision.loss_scale
        # Each round has random numbers of its own.
        suffix = f"/{part.first_step}" if part.first_step else ""
        generators = [picture_generator(settings.seed, f"{job.unit}{suffix}", job.repeat) for job in jobs]
        pairs = zip(jobs, generators, strict=True)
        initial = [job.initial_parameters(settings.image, part.image_shape, generator) for job, generator in pairs]
        self._optimizer = PictureOptimizer(
            torch.stack(initial).to(like),
            settings.make_optimizer,
            settings.normalizes_gradients,
            settings.make_schedule,
            part.steps,
            part.skipped,
        )
        presentable = torch.tensor([job.warm_start is not None for job in jobs], device=device)
        parameters = self._optimizer.parameters
        self._tracker = Tracker(parameters, part.steps, settings.patience, settings.min_delta, presentable)
        if failed is not None:
            self._tracker.failed |= torch.tensor(failed, device=device)
            self._tracker.stopped |= self._tracker.failed
        n_draws = settings.transforms_per_step * sum(transform.n_draws for transform in settings.transforms)
        self._draws = Draws(generators, n_draws, device)
        self._snapshots = Snapshots([step for step in settings.snapshots if step > part.first_step], len(jobs))
        self._importance = Importance(len(jobs), part.image_shape[1:], parameters) if settings.importance else None
        self._any_warm_start = any(job.warm_start is not None for job in jobs)
        self._steps_made = 0
        self._set_batch(range(len(jobs)))

    def run(self, on_step: Callable[[int], None]) -> Iterator[list[tuple[int, Feature]]]:
        """Make the steps, and yield the features, each with its place among the jobs, as their pictures are done.

        Args:
            on_step: Called with the number of pictures that made a step, or do not need to make it any more.
        """
        yield from self._release_stopped(on_step)
        while self._rows:
            self._step()
            on_step(len(self._rows))
            if self._steps_made == self._part.steps:
                self._offer_clean()
                yield self._features(self._rows)
                return
            if self._steps_made % _CHECK_EVERY == 0:
                yield from self._release_stopped(on_step)

    def _step(self) -> None:
        """Make one step of every picture in the batch."""
        settings, tracker, parameters = self._settings, self._tracker, self._optimizer.parameters
        pictures = settings.image(parameters, self._part.image_shape)
        # The network gets an alias of the pictures, so that its gradient leaves out the penalties.
        seen = pictures.view_as(pictures) if self._importance is not None else pictures
        opened = self._part.skipped + self._part.first_step + self._steps_made < settings.open_relu_steps
        with open_relus() if opened else nullcontext():
            activations = self._fast(self._transform(seen))
            scores = self._mean_scores(self._transformed_scorer(activations), pictures)
            totals = self._totals(scores, parameters, pictures, activations)
        inputs = [parameters] if self._importance is None else [parameters, seen]
        gradients, *gradients_of_seen = _gradients(-totals.sum(), inputs, self._loss_scale)
        scores, totals = scores.detach(), totals.detach()
        if not settings.transforms:
            tracker.offer(parameters, totals)
        stopped = tracker.stopped[tracker.active]
        tracker.record(self._steps_made, scores, totals, gradients, warming_up=self._progress < settings.warmup)
        if self._importance is not None:
            counted = ~(stopped | tracker.failed[tracker.active])
            self._importance.add(tracker.active, gradients_of_seen[0], counted)
        self._optimizer.step(gradients, hold=stopped if settings.patience is not None else None)
        self._steps_made += 1
        with torch.no_grad():
            settings.image.project(parameters)
            if self._snapshots.is_due(step := self._part.first_step + self._steps_made):
                self._snapshots.take(step, self._rows, self._displayed_now())

    def _transform(self, pictures: Tensor) -> Tensor:
        """Return the transformed pictures of a step, ``(B * transforms_per_step, C, H, W)``, copy by copy."""
        transforms, copies = self._settings.transforms, self._settings.transforms_per_step
        if not transforms:
            return pictures
        draws = self._draws.step().reshape(len(pictures) * copies, -1)
        # A transform may write into its pictures, so these are copies, even one of each.
        pictures = pictures.repeat_interleave(copies, 0)
        return apply_transforms(pictures, [transform.at(self._progress) for transform in transforms], draws)

    def _totals(self, scores: Tensor, parameters: Tensor, pictures: Tensor, activations: Activations) -> Tensor:
        """Return what is maximised, ``(B,)``: scores less penalties and priors, plus joint objectives."""
        settings, totals = self._settings, scores
        for penalty in settings.penalties:
            totals = totals - penalty(pictures)
        if (prior := settings.image.prior(parameters)) is not None:
            totals = totals - prior
        if self._rivals is not None:
            totals = totals - settings.log_odds * self._rivals(activations, totals.dtype)
        for joint, pairs in zip(settings.joint_objectives, self._pairs, strict=True):
            totals = totals + joint(pictures, activations, pairs)
        return totals

    def _mean_scores(self, scores: Tensor, pictures: Tensor) -> Tensor:
        """Return the mean score of each picture's transformed copies, ``(B,)``, in the precision of the pictures."""
        scores = scores.to(pictures.dtype)
        return scores if len(scores) == len(pictures) else scores.reshape(len(pictures), -1).mean(1)

    @property
    def _progress(self) -> float:
        """The fraction of steps completed, skipped ones included: 0 at the first step, 1 at the last."""
        skipped = self._part.skipped
        return (skipped + self._steps_made) / max(skipped + self._part.steps - 1, 1)

    def _set_batch(self, rows: Sequence[int]) -> None:
        """Put these pictures, by their rows in the tracker, into the batch, and prepare their scorers."""
        self._rows = list(rows)
        jobs = [self._jobs[row] for row in self._rows]
        if not jobs:
            return
        self._scorer = self._transformed_scorer = stack_objectives([job.objective for job in jobs])
        if (copies := self._settings.transforms_per_step) > 1:
            self._transformed_scorer = stack_objectives([job.objective for job in jobs for _ in range(copies)])
        classes = [job.class_unit for job in jobs]
        self._rivals = RivalClasses(classes) if any(classes) else None
        names, device = [(str(job.unit), job.repeat) for job in jobs], self._optimizer.parameters.device
        self._pairs = [joint.pairs(names, device) for joint in self._settings.joint_objectives]

    def _release_stopped(self, on_step: Callable[[int], None]) -> Iterator[list[tuple[int, Feature]]]:
        """Judge the clean pictures if a step could have improved them; those that have stopped leave the batch."""
        running = self._tracker.running()
        n_stopped = len(self._rows) - len(running)
        # An initial picture of noise is never the best.
        may_be_best = self._steps_made > 0 or self._any_warm_start
        if n_stopped or (self._settings.transforms and may_be_best):
            self._offer_clean()
        if n_stopped:
            on_step(n_stopped * (self._part.steps - self._steps_made))
            places = sorted(set(range(len(self._rows))) - set(running))
            stopped = [self._rows[place] for place in places]
            if self._snapshots.are_pending:
                with torch.no_grad():
                    self._snapshots.hold(stopped, self._displayed_now()[places])
            self._tracker.keep(running)
            if running:
                self._optimizer.keep(running)
                self._draws.keep(running)
            self._set_batch([self._rows[place] for place in running])
            yield self._features(stopped)

    def _offer_clean(self) -> None:
        """Judge the clean pictures, and keep those that are better than before."""
        parameters = self._optimizer.parameters
        with torch.no_grad():
            pictures = self._settings.image(parameters, self._part.image_shape)
            activations = self._fast(pictures)
            scores = self._mean_scores(self._scorer(activations), pictures)
            self._tracker.offer(parameters, self._totals(scores, parameters, pictures, activations))

    def _displayed(self, parameters: Tensor) -> Tensor:
        """Return the pictures of parameters as a file holds them, in 8 bits."""
        pictures = self._settings.image(parameters, self._part.image_shape)
        return (pictures * 255).round() / 255 if self._settings.image.bounded else pictures

    def _displayed_now(self) -> Tensor:
        """Return the pictures in the batch as they are shown; those that have failed as they were at their best."""
        parameters, tracker = self._optimizer.parameters.detach(), self._tracker
        failed = tracker.failed[tracker.active].reshape(-1, *[1] * (parameters.ndim - 1))
        return self._displayed(torch.where(failed, tracker.best_parameters[tracker.active], parameters))

    def _features(self, rows: Sequence[int]) -> list[tuple[int, Feature]]:
        """Return the results of pictures, by their rows, with their places among the jobs. This waits for the device.

        The scores are those that the network itself gives to the pictures as saved.
        """
        tracker, rows, jobs = self._tracker, list(rows), [self._jobs[row] for row in rows]
        scorer = stack_objectives([job.objective for job in jobs])
        with torch.no_grad():
            pictures = self._displayed(tracker.best_parameters[rows])
            scores = scorer(self._exact(pictures)).to(pictures.dtype)
        features = make_features(
            self._settings,
            jobs,
            tracker,
            rows,
            pictures=pictures,
            scores=scores,
            importance=self._importance.maps(rows) if self._importance is not None else None,
            snapshots=[self._snapshots.of(row, self._part.last_step) for row in rows],
            part=self._part,
        )
        return list(zip(rows, features, strict=True))


def _gradients(loss: Tensor, inputs: Sequence[Tensor], scale: float) -> Sequence[Tensor]:
    """Return the gradients of a loss, computed at `scale` times the loss; zero for inputs that do not affect it."""
    if not loss.requires_grad:
        return [torch.zeros_like(tensor) for tensor in inputs]
    gradients = torch.autograd.grad(loss * scale, inputs, materialize_grads=True)
    return gradients if scale == 1 else [gradient / scale for gradient in gradients]
