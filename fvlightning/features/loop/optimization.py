"""The loop: a batch of pictures, from their start to what is reported of them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fvlightning.features.capture.capture import device_and_dtype
from fvlightning.features.capture.precision import CastingCapture, Precision, loss_scale
from fvlightning.features.capture.relus import open_relus
from fvlightning.features.feature import Feature
from fvlightning.features.loop.cohort import Cohort
from fvlightning.features.loop.jobs import Job
from fvlightning.features.objectives import stack_objectives
from fvlightning.features.objectives.joint import Pairs
from fvlightning.features.objectives.rivals import Rivals
from fvlightning.features.scales import Round
from fvlightning.features.transforms import apply_transforms

if TYPE_CHECKING:
    from fvlightning.features.maximizer import Maximizer

# How often clean pictures are judged when the steps see random views, and how often stopped pictures are looked for. A
# clean forward pass costs about a third of a step, so this adds two per cent.
_CHECK_EVERY = 16
# What part of a batch has to be free before others join it. Each cohort has an optimiser of its own, whose cost does
# not depend on how many pictures it has: few large cohorts take less than many small ones.
_FREE_PART = 4


class Optimization:
    """Pictures that are optimised together; all their objectives need the same layers.

    Pictures that have stopped leave the batch, and waiting ones join it, as a cohort that makes its own first step
    then. The network always gets all cohorts in one batch. As they join only where the others are looked through for
    stopped pictures, every cohort is looked through after the same numbers of its own steps, whenever it began.

    The network has to be frozen (`fvlightning.features.capture.isolation.frozen`) as long as `run` computes.

    Args:
        settings: How the pictures are made.
        network: Any module that takes pictures.
        quick: A copy of it that takes less time (`fast_copy`), or the network itself. The steps are made with this
            one; what is reported of a picture is what the network itself gives.
        jobs: The pictures.
        part: Their size, and how many steps are made at most: the whole, or one round of several.
        precision: What forward passes of the network have. All else is in full precision, as long as this lasts
            (`fvlightning.features.capture.precision.full_precision`).
        failed: ``(B,)``, whether a picture has failed in an earlier round, and stays as it is. Default: none has.
        waiting: More pictures, which join as others stop. Not with joint_objectives or `open_relu_steps`, for which all
            pictures of a batch are at the same step.

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
        precision: Precision,
        failed: Sequence[bool] | None = None,
        waiting: Sequence[Job] = (),
    ) -> None:
        device, network_dtype = device_and_dtype(network)
        full = torch.promote_types(network_dtype, torch.float32)
        self._settings = settings
        self._part = part
        self._shape = part.image_shape
        layers = [*(job.objective.layers for job in jobs), *(coupling.layers for coupling in settings.joint_objectives)]
        self._capture = CastingCapture(network, frozenset().union(*layers), precision)
        self._quick_capture = CastingCapture(quick, self._capture.layers, precision)
        self._loss_scale = loss_scale(precision.autocast)
        self._like = torch.empty(0, dtype=full, device=device)
        self._n_places = len(jobs)
        self._waiting = deque(enumerate(waiting, start=len(jobs)))
        self._set_cohorts([Cohort(settings, list(enumerate(jobs)), part, self._like, failed)])

    def run(self, on_step: Callable[[int], None]) -> Iterator[list[tuple[int, Feature]]]:
        """Make the steps, and hand out features as their pictures are done.

        Args:
            on_step: Called with the number of pictures that made a step, or need not make it any more.

        Yields:
            Features, each with its place among the jobs, behind which the waiting ones are counted.
        """
        yield from self._look_through(self._cohorts, on_step)
        while self._cohorts or self._waiting:
            if self._cohorts:
                self._make_step()
                on_step(len(self._batch))
                yield from self._end_cohorts()
            if not self._cohorts or self._cohorts[0].step % _CHECK_EVERY == 0:
                yield from self._look_through(self._cohorts, on_step)
                yield from self._look_through(self._join(), on_step)

    def _set_cohorts(self, cohorts: Sequence[Cohort]) -> None:
        """Put together what goes through the network at once."""
        self._cohorts = [cohort for cohort in cohorts if len(cohort)]
        self._batch = _Batch(self._settings, self._cohorts)

    def _join(self) -> list[Cohort]:
        """Let waiting pictures join where enough places are free. Return them."""
        n_free = self._n_places - len(self._batch)
        if not self._waiting or n_free * _FREE_PART < self._n_places:
            return []
        jobs = [self._waiting.popleft() for _ in range(min(n_free, len(self._waiting)))]
        cohort = Cohort(self._settings, jobs, self._part, self._like)
        self._set_cohorts([*self._cohorts, cohort])
        return [cohort]

    def _look_through(
        self, cohorts: Sequence[Cohort], on_step: Callable[[int], None]
    ) -> Iterator[list[tuple[int, Feature]]]:
        """Judge the clean pictures where that is needed, leave out those that have stopped, and hand these out."""
        running = [cohort.tracker.running() for cohort in cohorts]
        n_stopped = sum(len(cohort) - len(places) for cohort, places in zip(cohorts, running, strict=True))
        if n_stopped or (self._settings.transforms and any(cohort.is_worth_judging for cohort in cohorts)):
            self._offer_clean(cohorts)
        if n_stopped:
            leaving = []
            for cohort, places in zip(cohorts, running, strict=True):
                if len(places) < len(cohort):
                    on_step((len(cohort) - len(places)) * (self._part.steps - cohort.step))
                    leaving.append((cohort, cohort.leave(places)))
            self._set_cohorts(self._cohorts)
            yield self._features(leaving)

    def _end_cohorts(self) -> Iterator[list[tuple[int, Feature]]]:
        """Hand out the pictures that have made all their steps."""
        if done := [cohort for cohort in self._cohorts if cohort.is_done]:
            self._offer_clean(done)
            leaving = [(cohort, cohort.active) for cohort in done]
            self._set_cohorts([cohort for cohort in self._cohorts if not cohort.is_done])
            yield self._features(leaving)

    def _make_step(self) -> None:
        settings, batch = self._settings, self._batch
        parameters = batch.parameters()
        pictures = settings.image(parameters, self._shape)
        # What the units see is apart from what the penalties see, so that its gradient is without these.
        seen = pictures.view_as(pictures) if settings.importance else pictures
        inputs = [parameters, seen] if settings.importance else [parameters]
        made = self._part.first_step + self._cohorts[0].step
        with open_relus() if made < settings.open_relu_steps else nullcontext():
            scores, totals = self._judge(batch, parameters, pictures, batch.views(seen))
        gradients, *of_seen = _gradients(-totals.sum(), inputs, self._loss_scale)
        batch.make_step(scores.detach(), totals.detach(), gradients, *of_seen)

    def _judge(
        self, batch: "_Batch", parameters: Tensor, pictures: Tensor, views: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the pictures' scores ``(B,)``, each the mean of its views', and these with penalties and joint_objectives.

        Without views the pictures themselves are judged.
        """
        scorer = batch.scorer if views is None else batch.view_scorer
        activations = self._quick_capture(pictures if views is None else views)
        scores = scorer(activations).to(pictures.dtype)
        if len(scores) > len(pictures):
            scores = scores.reshape(len(pictures), -1).mean(1)
        totals = scores
        for penalty in self._settings.penalties:
            totals = totals - penalty(pictures)
        if (prior := self._settings.image.prior(parameters)) is not None:
            totals = totals - prior
        if batch.rivals is not None:
            totals = totals - self._settings.log_odds * batch.rivals(activations, totals.dtype)
        for coupling, pairs in zip(self._settings.joint_objectives, batch.pairs, strict=True):
            totals = totals + coupling(pictures, activations, pairs)
        return scores, totals

    def _offer_clean(self, cohorts: Sequence[Cohort]) -> None:
        batch = self._batch if list(cohorts) == self._cohorts else _Batch(self._settings, cohorts)
        with torch.no_grad():
            parameters = batch.parameters()
            totals = self._judge(batch, parameters, self._settings.image(parameters, self._shape))[1]
            for cohort, own in zip(cohorts, torch.split(totals, [len(cohort) for cohort in cohorts]), strict=True):
                cohort.tracker.offer(cohort.rows.batch, own)

    def _features(self, leaving: Sequence[tuple[Cohort, Sequence[int]]]) -> list[tuple[int, Feature]]:
        """Return what is reported of pictures, which are given by their cohorts and their rows in these."""
        best = torch.cat([cohort.tracker.best_parameters[list(rows)] for cohort, rows in leaving])
        scorer = stack_objectives([objective for cohort, rows in leaving for objective in cohort.objectives(rows)])
        with torch.no_grad():
            pictures = leaving[0][0].displayed(best)
            scores = scorer(self._capture(pictures)).to(pictures.dtype)
        features, first = [], 0
        for cohort, rows in leaving:
            last = first + len(rows)
            features += cohort.features(rows, pictures[first:last], scores[first:last])
            first = last
        return features


class _Batch:
    """Cohorts that go through the network together, and what scores them.

    Args:
        settings: How the pictures are made.
        cohorts: The cohorts; of only one, its tensors are used as they are.
    """

    def __init__(self, settings: "Maximizer", cohorts: Sequence[Cohort]) -> None:
        self._settings = settings
        self._cohorts = list(cohorts)
        self._sizes = [len(cohort) for cohort in cohorts]
        if not cohorts:
            return
        jobs = [job for cohort in cohorts for job in cohort.jobs]
        self.scorer = self.view_scorer = stack_objectives([job.objective for job in jobs])
        if (n_views := settings.views) > 1:
            self.view_scorer = stack_objectives([job.objective for job in jobs for _ in range(n_views)])
        classes = [job.class_unit for job in jobs]
        self.rivals = Rivals(classes) if any(classes) else None
        names = [(str(job.unit), job.repeat) for job in jobs]
        device = cohorts[0].rows.batch.device
        self.pairs = [Pairs.of(coupling, names, device) for coupling in settings.joint_objectives]

    def __len__(self) -> int:
        """How many pictures there are."""
        return sum(self._sizes)

    def parameters(self) -> Tensor:
        """Return the parameters of all pictures, ``(B, ...)``, to which gradients can be asked for."""
        if len(self._cohorts) == 1:
            return self._cohorts[0].rows.batch
        return torch.cat([cohort.rows.batch.detach() for cohort in self._cohorts]).requires_grad_()

    def views(self, pictures: Tensor) -> Tensor:
        """Return the views of a step, ``(B * views, C, H, W)``, those of a picture together."""
        settings = self._settings
        if not settings.transforms:
            return pictures
        # A copy also of one view each, into which a view may write.
        pictures = pictures.repeat_interleave(settings.views, 0)
        draws = [cohort.draws() for cohort in self._cohorts]
        views = [[view.at(cohort.progress) for view in settings.transforms] for cohort in self._cohorts]
        if all(own is first for each in views for own, first in zip(each, views[0], strict=True)):
            return apply_transforms(pictures, views[0], draws[0] if len(draws) == 1 else torch.cat(draws))
        # Views that change on the way are seen from where each cohort stands.
        parts = torch.split(pictures, [len(drawn) for drawn in draws])
        return torch.cat([apply_transforms(*each) for each in zip(parts, views, draws, strict=True)])

    def make_step(self, scores: Tensor, totals: Tensor, *gradients: Tensor) -> None:
        """Make a step of each cohort: `Cohort.make_step`, with the tensors of all pictures."""
        parts = [torch.split(tensor, self._sizes) for tensor in (scores, totals, *gradients)]
        for cohort, own in zip(self._cohorts, zip(*parts, strict=True), strict=True):
            cohort.make_step(*own)


def _gradients(loss: Tensor, inputs: Sequence[Tensor], scale: float) -> Sequence[Tensor]:
    """Return the gradients to the inputs: zero where none leads to them, as behind a decision or a constant.

    Args:
        loss: What is differentiated.
        inputs: To what.
        scale: What the loss is multiplied by on the way (`loss_scale`).
    """
    if not loss.requires_grad:
        return [torch.zeros_like(tensor) for tensor in inputs]
    gradients = torch.autograd.grad(loss * scale, inputs, materialize_grads=True)
    return gradients if scale == 1 else [gradient / scale for gradient in gradients]
