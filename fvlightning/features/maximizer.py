"""Activation maximisation: the loop and its settings."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture import Capture, device_and_dtype
from fvlightning.features.feature import Feature
from fvlightning.features.images import FourierImage, Image
from fvlightning.features.isolation import frozen, isolated_rng, picture_generator
from fvlightning.features.layers import resolve_units
from fvlightning.features.objectives import Objective, Pooling, objective_of, stack_objectives
from fvlightning.features.penalties import Penalty
from fvlightning.features.robustness import Draws, RandomAffine, View, random_views
from fvlightning.features.rows import OptimizedRows, OptimizerCallable
from fvlightning.features.tracking import Tracker
from fvlightning.features.units import Unit

# How often clean pictures are judged when the steps see random views, and how often stopped pictures are looked for. A
# clean forward pass costs about a third of a step, so this adds two per cent.
_CHECK_EVERY = 16


@dataclass(frozen=True)
class _Job:
    """One picture to be made."""

    place: int
    unit: Unit | Objective
    objective: Objective
    repeat: int
    start: Tensor | None


class Maximizer:
    """Makes pictures that excite units: activation maximisation (Erhan et al. 2009; Olah et al. 2017).

    Every picture stands alone: its start and its views come from a generator seeded by (`seed`, unit, repeat), the loss
    is a sum over pictures, and the optimiser's state, early stopping and the best picture so far are its own. Whatever
    shares its batch or its device, it is the same picture up to floating-point error.

    Args:
        steps: How many steps each picture is optimised.
        image: The parametrisation. Default: `FourierImage`.
        optimizer: Makes a torch optimiser of a list of parameters. Default: Adam with a learning rate of 0.05.
        robustness: Random views that are applied in turn at each step. Default: one `RandomAffine`. Empty: none.
        penalties: Priors that are subtracted from the score.
        patience: A picture stops after so many steps in which its score less penalties has not improved. Default:
            never.
        min_delta: What counts as an improvement, in units of the score.
        repeats: How many pictures a unit gets, from different starts.
        seed: Seed of all pictures.
        batch_size: How many pictures are optimised at once. It changes the memory that is needed, not the pictures.
        pooling: What is maximised of a channel: the ``"mean"`` over its positions, or the root mean square, ``"rms"``
            (`UnitActivation`). A unit with a position, and one of a layer without positions, has no use for it.

    Raises:
        InputError: A setting is out of its range.

    Example:
        >>> features = Maximizer(steps=256).maximize(network, ["conv2:*", "fc2:7"], image_shape=(1, 28, 28))
        >>> features[0].unit, features[0].image.shape, features[0].score
    """

    def __init__(
        self,
        steps: int = 256,
        image: Image | None = None,
        optimizer: OptimizerCallable | None = None,
        robustness: Sequence[View] | None = None,
        penalties: Sequence[Penalty] = (),
        patience: int | None = None,
        min_delta: float = 0.0,
        repeats: int = 1,
        seed: int = 0,
        batch_size: int = 64,
        pooling: Pooling = "mean",
    ) -> None:
        for name, value in {"steps": steps, "repeats": repeats, "batch_size": batch_size, "patience": patience}.items():
            if value is not None and value < 1:
                raise InputError(f"Maximizer({name}={value}): must be at least 1")
        if pooling not in ("mean", "rms"):
            raise InputError(f"Maximizer(pooling={pooling!r}): valid are 'mean' and 'rms'")
        if min_delta < 0:
            raise InputError(f"Maximizer(min_delta={min_delta}): must be at least 0")
        self.steps = steps
        self.image = image if image is not None else FourierImage()
        self.optimizer = optimizer if optimizer is not None else partial(torch.optim.Adam, lr=0.05, fused=True)
        self.robustness = [RandomAffine()] if robustness is None else list(robustness)
        self.penalties = list(penalties)
        self.patience = patience
        self.min_delta = min_delta
        self.repeats = repeats
        self.seed = seed
        self.batch_size = batch_size
        self.pooling: Pooling = pooling

    @property
    def settings(self) -> dict[str, Any]:
        """What determines a picture, apart from the unit and the network, as plain values."""
        optimizer = self.optimizer([nn.Parameter(torch.zeros(1))])
        plain = (bool, int, float, str, tuple, list)
        defaults = {key: value for key, value in optimizer.defaults.items() if isinstance(value, plain)}
        return {
            "steps": self.steps,
            "image": _describe(self.image),
            "optimizer": {"class": type(optimizer).__name__, **defaults},
            "robustness": [_describe(view) for view in self.robustness],
            "penalties": [_describe(penalty) for penalty in self.penalties],
            "patience": self.patience,
            "min_delta": self.min_delta,
            "pooling": self.pooling,
            "seed": self.seed,
        }

    def maximize(
        self,
        network: nn.Module,
        units: Sequence[str | Unit | Objective],
        image_shape: Sequence[int],
        **options: Any,
    ) -> list[Feature]:
        """Make a picture of each unit.

        Args:
            network: Any module that takes pictures ``(B, C, H, W)`` in [0, 1], on any device. It is left as it was.
            units: Text forms (`Unit`), units, or objectives.
            image_shape: ``(C, H, W)`` of the pictures that the network takes.
            **options: As of `stream`.

        Returns:
            One feature for each unit and repeat, in the order of the units, the repeats of a unit together.

        Raises:
            InputError: A unit cannot be used (see `resolve_units`), or the network cannot take such pictures.
        """
        placed = sorted(self.stream(network, units, image_shape, **options), key=lambda pair: pair[0])
        return [feature for _, feature in placed]

    def stream(
        self,
        network: nn.Module,
        units: Sequence[str | Unit | Objective],
        image_shape: Sequence[int],
        *,
        start: Mapping[tuple[str, int], Tensor] | None = None,
        steps: int | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, Feature]]:
        """Make a picture of each unit, and hand out each as soon as its batch is done.

        Args:
            network: As in `maximize`.
            units: As in `maximize`.
            image_shape: As in `maximize`.
            start: Parameters to go on from, by the text form of the unit and the repeat: of earlier features
                ``{(f.name, f.repeat): f.parameters}``. Pictures that have none start anew.
            steps: How many steps to make, if not the maximizer's own number.
            on_step: Called after each step with the number of pictures that made it; in all it adds up to the number of
                pictures times the number of steps.

        Yields:
            Pairs of a place in the list that `maximize` returns, and the feature that belongs there. The layers come
            one after the other, because the forward pass goes only as far as the units of a batch need.

        Raises:
            InputError: As in `maximize`.
        """
        steps = self.steps if steps is None else steps
        jobs = self._jobs(network, units, image_shape, start or {})
        by_layers: dict[frozenset[Any], list[_Job]] = defaultdict(list)
        for job in jobs:
            by_layers[job.objective.layers].append(job)
        for group in by_layers.values():
            for first in range(0, len(group), self.batch_size):
                batch = group[first : first + self.batch_size]
                with isolated_rng(), frozen(network):
                    features = self._optimize(network, batch, image_shape, steps, on_step or (lambda _: None))
                yield from zip((job.place for job in batch), features, strict=True)

    def _jobs(
        self,
        network: nn.Module,
        units: Sequence[str | Unit | Objective],
        image_shape: Sequence[int],
        starts: Mapping[tuple[str, int], Tensor],
    ) -> list[_Job]:
        listed = [units] if isinstance(units, str | Unit | Objective) else list(units)
        named = [unit for unit in listed if not isinstance(unit, Objective)]
        resolved: list[Unit | Objective] = []
        if named or not listed:
            resolved.extend(resolve_units(network, named, image_shape))
        resolved.extend(unit for unit in listed if isinstance(unit, Objective))
        return [
            _Job(
                place=place,
                unit=unit,
                objective=objective_of(unit, self.pooling) if isinstance(unit, Unit) else unit,
                repeat=repeat,
                start=starts.get((str(unit), repeat)),
            )
            for place, (unit, repeat) in enumerate(product(resolved, range(self.repeats)))
        ]

    def _optimize(
        self,
        network: nn.Module,
        jobs: Sequence[_Job],
        image_shape: Sequence[int],
        steps: int,
        on_step: Callable[[int], None],
    ) -> list[Feature]:
        device, dtype = device_and_dtype(network)
        capture = Capture(network, jobs[0].objective.layers)
        generators = [picture_generator(self.seed, str(job.unit), job.repeat) for job in jobs]
        started = [self._start(job, image_shape, g) for job, g in zip(jobs, generators, strict=True)]
        rows = OptimizedRows(torch.stack(started).to(device), self.optimizer)
        draws = Draws(generators, sum(view.n_draws for view in self.robustness), device)
        tracker = Tracker(rows.batch, steps, self.patience, self.min_delta)
        scorer = stack_objectives([job.objective for job in jobs])

        def totals_of(pictures: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
            scores = scorer(capture(views.to(dtype))).float()
            return scores, scores - sum((penalty(pictures) for penalty in self.penalties), scores.new_zeros(()))

        def judge(step: int) -> None:
            with torch.no_grad():
                pictures = self.image(rows.batch, image_shape)
                tracker.offer(step, rows.batch, totals_of(pictures, pictures)[1])

        for step in range(steps):
            if step % _CHECK_EVERY == 0:
                if (stays := tracker.drop_stopped()) is not None:
                    places = stays.tolist()
                    on_step((len(rows.batch) - len(places)) * (steps - step))
                    if not places:
                        break
                    rows.keep(places)
                    draws.keep(places)
                    scorer = stack_objectives([jobs[place].objective for place in tracker.active.tolist()])
                if self.robustness:
                    judge(step)
            pictures = self.image(rows.batch, image_shape)
            views = random_views(pictures, self.robustness, draws.step()) if self.robustness else pictures
            scores, totals = totals_of(pictures, views)
            (gradients,) = torch.autograd.grad(-totals.sum(), rows.batch)
            if not self.robustness:
                tracker.offer(step, rows.batch, totals.detach())
            tracker.record(step, scores.detach(), totals.detach(), gradients)
            rows.step(gradients)
            with torch.no_grad():
                self.image.project(rows.batch)
            on_step(len(rows.batch))
        else:
            judge(steps)
        return self._features(capture, jobs, tracker, image_shape, dtype)

    def _start(self, job: _Job, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        fresh = self.image.start(image_shape, generator)
        if job.start is None:
            return fresh
        if job.start.shape != fresh.shape:
            raise InputError(
                f"cannot go on from the picture of {job.unit}: its parameters have the shape {tuple(job.start.shape)}, "
                f"{type(self.image).__name__} of {tuple(image_shape)} has {tuple(fresh.shape)}; start anew"
            )
        return job.start

    def _features(
        self,
        capture: Capture,
        jobs: Sequence[_Job],
        tracker: Tracker,
        image_shape: Sequence[int],
        dtype: torch.dtype,
    ) -> list[Feature]:
        scorer = stack_objectives([job.objective for job in jobs])
        with torch.no_grad():
            pictures = self.image(tracker.best_parameters, image_shape)
            if self.image.bounded:
                pictures = (pictures * 255).round() / 255
            scores = scorer(capture(pictures.to(dtype))).float()
        columns = (pictures, tracker.best_parameters, scores, tracker.history.T, tracker.steps_made, tracker.best_step)
        flags = torch.stack([tracker.failed | ~scores.isfinite(), tracker.moved], dim=1)
        settings = self.settings
        return [
            Feature(
                unit=job.unit,
                repeat=job.repeat,
                image=picture.clone(),
                score=score.item(),
                history=history[:made].clone(),
                best_step=int(best),
                seed=self.seed,
                status="non-finite" if failed else "ok" if moved and not self._is_flat(history[:made]) else "dead",
                parameters=parameters.clone(),
                settings=settings,
            )
            for job, picture, parameters, score, history, made, best, (failed, moved) in zip(
                jobs, *(column.cpu() for column in columns), flags.tolist(), strict=True
            )
        ]

    def _is_flat(self, history: Tensor) -> bool:
        """Whether a unit did not answer at all, while penalties moved its picture."""
        return bool(self.penalties) and len(history) > 1 and bool((history == history[0]).all())


def _describe(setting: object) -> dict[str, Any]:
    values: Mapping[str, Any] = vars(setting)
    return {"class": type(setting).__name__, **values}
