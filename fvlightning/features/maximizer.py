"""Activation maximisation: its settings, and the pictures of many units."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.cli.allocation import freed_memory_kept
from fvlightning.errors import InputError
from fvlightning.features.capture.capture import device_and_dtype
from fvlightning.features.capture.isolation import frozen, isolated_rng, warn_of_batch_statistics
from fvlightning.features.capture.precision import CastingCapture, callers_precision, full_precision
from fvlightning.features.description import describe, describe_optimizer
from fvlightning.features.fast.fast_copy import fast_copy
from fvlightning.features.feature import Feature
from fvlightning.features.images import FourierImage, Parametrization
from fvlightning.features.loop.batch_size import automatic_batch_size
from fvlightning.features.loop.batches import in_batches
from fvlightning.features.loop.jobs import group_jobs, mark_classes
from fvlightning.features.loop.optimizer import OptimizerCallable
from fvlightning.features.loop.rounds import list_jobs_of_rounds, refills, run_rounds
from fvlightning.features.loop.schedules import CosineWithWarmup, SchedulerCallable
from fvlightning.features.loop.tracking import warn_of_idle_patience
from fvlightning.features.objectives import Objective, Pooling
from fvlightning.features.objectives.joint import JointObjective
from fvlightning.features.penalties import Penalty
from fvlightning.features.scales import Scale, plan_rounds
from fvlightning.features.starts import describe_start, load_start
from fvlightning.features.transforms import GaussianNoise, RandomResizedCrop, Transform, longest_warmup
from fvlightning.features.units import Unit


class Maximizer:
    """Makes pictures that excite units: activation maximisation (Erhan et al. 2009; Olah et al. 2017).

    Every picture stands alone: its start and its views come from a generator seeded by (`seed`, unit, repeat), the loss
    is a sum over pictures, and the optimiser's state, early stopping and the best picture so far are its own. Whatever
    shares its batch or its device, it is the same picture up to floating-point error.

    Under the caller's `torch.autocast` the network's forward pass has the precision of that, and all else (pictures,
    views, penalties, optimiser) the full one. Scores are what the network gives in the caller's precision.

    Args:
        steps: How many steps each picture is optimised. Default: 256, or as many as the rounds of `scales` have;
            another number is spread over these rounds in proportion.
        image: The parametrisation. Default: `FourierImage`.
        optimizer: Makes a torch optimiser of a list of parameters. Default: AdamW with a learning rate of 0.08, an
            ``eps`` of 1e-3, and the weight decay of the parametrisation (`Image.weight_decay`).
        transforms: Random views that are applied in turn at each step. Default: `RandomResizedCrop` of .35 to 1.1 of
            the side and at least 64 pixels, rotated by up to 15 degrees, and `GaussianNoise` that grows to .3 over the
            first .3 of the steps. Empty: none.
        penalties: Priors that are subtracted from the score.
        patience: A picture stops after so many steps in which its score less penalties has not improved. Those in which
            views still grow do not count: of the default ones three tenths of all. Default: never.
        min_delta: What counts as an improvement, in units of the score.
        repeats: How many pictures a unit gets, from different starts.
        seed: Seed of all pictures.
        batch_size: How many pictures are optimised at once, at most. It changes the memory that is needed, not the
            pictures. Where the memory does not suffice, the batch is halved, with a warning, down to one picture.
            Default: what the device holds (`automatic_batch_size`).
        pooling: What is maximised of a channel: the ``"mean"`` over its positions, or the root mean square, ``"rms"``
            (`UnitActivation`). A unit with a position, and one of a layer without positions, has no use for it.
        normalize_gradients: Whether each picture's gradient is divided by the largest root mean square that it has had
            so far. Scores of any scale then take the same steps, and with the default AdamW, whose ``eps`` is 1e-3,
            rounding errors of the gradient, which differ between batches and devices, do not become full steps.
            Default: with the default optimiser, but not with a given one.
        scheduler: Makes a learning-rate schedule of the optimiser, any of `torch.optim.lr_scheduler` that needs no
            metric, or `CosineWithWarmup`, which knows the number of steps. Default: the latter with the default
            optimiser, and a constant rate with a given one.
        views: How many views of each picture a step takes the mean score of. Each costs as much as a picture of its
            own. It needs `robustness`, without which all would be the same.
        open_relu_steps: In so many of the first steps a picture whose whole gradient is blocked by ReLUs, because its
            unit is off everywhere, gets some of it through (`open_relus`); lucid has 16. A unit that stays off is
            reported as dead.
        snapshots: After which steps the picture is kept in the feature's ``snapshots``, beside the best one.
        joint_objectives: What pictures ask of each other, added to their scores: `Diversity` of the repeats of a unit,
            `Alignment` of neighbours in the list of units. These pictures then stand together, and only together alone.
        scales: Rounds at sizes of their own, one after the other (`Scale`). The best picture of a round goes over to
            the size of the next, where optimiser, schedule and patience begin anew; the last gives the picture. Only
            the proportions of the `image_shape` are used then. Empty: one round, at that size.
        start: Image file, or picture ``(C, H, W)`` in [0, 1], that all pictures start from which have no parameters to
            go on from; its middle is taken, and resized (`fit_picture`). Default: noise, as the parametrisation has it.
        importance: Whether features tell how much their units have asked of each pixel (`Importance`).
        log_odds: How far what is maximised of a class is the logarithm of its odds: from its logit, so much of the
            log-sum-exp of the other logits is subtracted. 0 is the logit alone, 1 is log(p / (1 - p)). Some of it tells
            a class from those that look alike, all of it makes faint pictures. Classes are units, not objectives, of
            the layer that gives the network's output, ``(B, K)``, which is taken for logits. The scores that are
            reported are logits in any case; `importance` is that of what is maximised.

    Raises:
        InputError: A setting is out of its range.

    Example:
        >>> features = Maximizer(steps=256).maximize(network, ["conv2:*", "fc2:7"], image_shape=(1, 28, 28))
        >>> features[0].unit, features[0].image.shape, features[0].score
    """

    def __init__(
        self,
        steps: int | None = None,
        image: Parametrization | None = None,
        optimizer: OptimizerCallable | None = None,
        transforms: Sequence[Transform] | None = None,
        penalties: Sequence[Penalty] = (),
        patience: int | None = None,
        min_delta: float = 0.0,
        repeats: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
        pooling: Pooling = "mean",
        normalize_gradients: bool | None = None,
        scheduler: SchedulerCallable | None = None,
        views: int = 1,
        open_relu_steps: int = 0,
        snapshots: Sequence[int] = (),
        joint_objectives: Sequence[JointObjective] = (),
        scales: Sequence[Scale] = (),
        start: str | Path | Tensor | None = None,
        importance: bool = False,
        log_odds: float = 0.0,
    ) -> None:
        counts = {"steps": steps, "repeats": repeats, "batch_size": batch_size, "patience": patience, "views": views}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise InputError(f"Maximizer({name}={value}): must be at least 1")
        if views > 1 and transforms is not None and not transforms:
            raise InputError(
                f"Maximizer(transforms_per_step={views}): without transforms all views are the same; leave it out"
            )
        if open_relu_steps < 0:
            raise InputError(f"Maximizer(open_relu_steps={open_relu_steps}): must be at least 0")
        if any(step < 1 for step in snapshots):
            raise InputError(f"Maximizer(snapshots={list(snapshots)}): numbers of steps, each at least 1")
        if repeats < 2 and any(coupling.across == "repeats" for coupling in joint_objectives):
            raise InputError(f"Maximizer(repeats={repeats}): a coupling of repeats, as Diversity is, needs at least 2")
        if pooling not in ("mean", "rms"):
            raise InputError(f"Maximizer(pooling={pooling!r}): valid are 'mean' and 'rms'")
        if not 0 <= log_odds <= 1:
            raise InputError(f"Maximizer(log_odds={log_odds}): must be at least 0, for logits, and at most 1")
        if not min_delta >= 0:
            raise InputError(f"Maximizer(min_delta={min_delta}): must be at least 0")
        if scales and scales[0].blur:
            raise InputError(
                f"Maximizer(scales): the first round has no picture to blur by {scales[0].blur}: set it to 0"
            )
        self.steps = steps if steps is not None else sum(scale.steps for scale in scales) or 256
        self.image = image if image is not None else FourierImage()
        given = optimizer is not None
        self.optimizer = optimizer if optimizer is not None else _default_optimizer(self.image)
        self.normalize_gradients = not given if normalize_gradients is None else normalize_gradients
        self.transforms = _default_views() if transforms is None else list(transforms)
        self.penalties = list(penalties)
        self.patience = patience
        self.min_delta = min_delta
        self.repeats = repeats
        self.seed = seed
        self.batch_size = batch_size
        self.pooling: Pooling = pooling
        self.scheduler = scheduler if scheduler is not None or given else CosineWithWarmup
        self.views = views
        self.open_relu_steps = open_relu_steps
        self.snapshots = tuple(snapshots)
        self.joint_objectives = list(joint_objectives)
        self.scales = list(scales)
        self.start_picture = None if start is None else load_start(start)
        self._start = describe_start(start, self.start_picture)
        self.importance = importance
        self.log_odds = log_odds
        longest_warmup(self.transforms)  # which refuses what is none

    @property
    def settings(self) -> dict[str, Any]:
        """What determines a picture, apart from the unit and the network, as plain values."""
        optimizer, schedule = describe_optimizer(self.optimizer, self.scheduler, self.steps)
        return {
            "steps": self.steps,
            "image": describe(self.image),
            "optimizer": optimizer,
            "transforms": [describe(view) for view in self.transforms],
            "penalties": [describe(penalty) for penalty in self.penalties],
            "patience": self.patience,
            "min_delta": self.min_delta,
            "pooling": self.pooling,
            "normalize_gradients": self.normalize_gradients,
            "scheduler": schedule,
            "views": self.views,
            "open_relu_steps": self.open_relu_steps,
            "joint_objectives": [describe(coupling) for coupling in self.joint_objectives],
            "scales": [asdict(scale) for scale in self.scales],
            "start": self._start,
            "importance": self.importance,
            "log_odds": self.log_odds,
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
        """Make a picture of each unit, and hand out each as soon as it is done.

        With `patience`, pictures that stop early are replaced in the batch by the next that need the same layers.

        Args:
            network: As in `maximize`.
            units: As in `maximize`.
            image_shape: As in `maximize`.
            start: Parameters to go on from, by the text form of the unit and the repeat: of earlier features
                ``{(f.name, f.repeat): f.parameters}``. Pictures that have none start anew. With `scales` these are
                parameters of the last size, at which all steps are made.
            steps: How many steps to make, if not the maximizer's own number.
            on_step: Called after each step with the number of pictures that made it; in all it adds up to the number of
                pictures times the number of steps.

        Yields:
            Pairs of a place in the list that `maximize` returns, and the feature that belongs there. The layers come
            one after the other, because the forward pass goes only as far as the units of a batch need.

        Raises:
            InputError: As in `maximize`.
        """
        own, steps = steps is None, self.steps if steps is None else steps
        if steps < 1:
            raise InputError(f"steps={steps}: must be at least 1")
        device = device_and_dtype(network)[0]
        precision = callers_precision(device)
        rounds = plan_rounds(self.scales, image_shape, steps)
        if own:
            warn_of_idle_patience(self.patience, longest_warmup(self.transforms), max(part.steps for part in rounds))
        jobs = list_jobs_of_rounds(self, network, units, rounds, start or {})
        if self.log_odds:
            jobs = mark_classes(network, jobs, rounds[-1].image_shape)
        if self.batch_size != 1:
            warn_of_batch_statistics(network)

        with isolated_rng(), frozen(network):
            wanted = [*(job.objective.layers for job in jobs), *(coupling.layers for coupling in self.joint_objectives)]
            shapes = [part.image_shape for part in rounds]
            only_means = not self.joint_objectives and all(job.objective.needs_means_only for job in jobs)
            exact_relus = self.open_relu_steps > 0
            quick = fast_copy(network, frozenset().union(*wanted), shapes, only_means, exact_relus)
            capture = CastingCapture(quick, frozenset().union(*wanted), precision)
            batch_size = self.batch_size or automatic_batch_size(capture, shapes, self.views)

        def make(
            batch: Sequence[int], waiting: Sequence[int], on_step: Callable[[int], None]
        ) -> Iterator[tuple[int, Feature]]:
            first, others = ([jobs[place] for place in places] for places in (batch, waiting))
            parts = run_rounds(self, network, quick, first, others, rounds, on_step, precision)
            places = [*batch, *waiting]
            done: list[tuple[int, Feature]] | None = []
            while done is not None:
                yield from ((places[i], feature) for i, feature in done)
                # Between the features all is as the caller has it.
                with isolated_rng(), frozen(network), freed_memory_kept(), full_precision(device):
                    done = next(parts, None)

        groups = group_jobs(self, jobs)
        yield from in_batches(groups, batch_size, make, on_step or (lambda _: None), steps, even=not refills(self))


# Chosen on EfficientNet-Lite0 by what networks that the pictures were not made for see in them: tools/quality.py.
def _default_optimizer(image: Parametrization) -> OptimizerCallable:
    return partial(torch.optim.AdamW, lr=0.08, eps=1e-3, weight_decay=image.weight_decay, fused=True)


def _default_views() -> list[Transform]:
    return [RandomResizedCrop(side=(0.35, 1.1), degrees=15, smallest=64), GaussianNoise((0.0, 0.3), warmup=0.3)]
