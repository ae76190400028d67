"""Activation maximisation: the front door."""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture import (
    Capture,
    Precision,
    device_and_dtype,
    frozen,
    full_precision,
    is_out_of_memory,
    out_of_memory,
    remembers_passes,
    warn_of_batch_statistics,
)
from fvlightning.features.fast import fast_copy
from fvlightning.features.feature import Feature
from fvlightning.features.images import FourierImage, Parametrization
from fvlightning.features.loop import (
    Networks,
    OptimizerCallable,
    SchedulerCallable,
    Settings,
    automatic_batch_size,
    batch_size_alone,
    group_jobs,
    in_batches,
    list_jobs_of_rounds,
    mark_classes,
    run_rounds,
)
from fvlightning.features.objectives import JointObjective, Objective, Pooling, check_responses
from fvlightning.features.penalties import Penalty
from fvlightning.features.rng import isolated_rng
from fvlightning.features.scales import Scale, plan_rounds
from fvlightning.features.starts import InitialPicture
from fvlightning.features.transforms import GaussianNoise, RandomResizedCrop, Transform, transformed_shapes
from fvlightning.features.units import LayerCall, Unit
from fvlightning.protocols import checked_shape


class Maximizer:
    """Makes pictures that excite units: activation maximisation (Erhan et al. 2009; Olah et al. 2017).

    Every picture stands alone: its initial picture and its transforms come from a generator seeded by (`seed`, unit,
    repeat), the loss is a sum over pictures, and each has its own optimiser state, early stopping and best picture so
    far. Whatever shares its batch or its device, it is the same picture up to floating-point error.

    Under the caller's `torch.autocast` only the network's forward pass has low precision. Scores are what the network
    gives in the caller's precision.

    Args:
        steps: The number of steps of each picture. Default: 256, or the sum over the rounds of `scales`; another number
            is spread over these rounds in proportion.
        image: The parametrisation. Default: `FourierImage`.
        optimizer: Makes a torch optimiser of a list of parameters. Default: AdamW with a learning rate of 0.2, betas
            of (0.8, 0.99), an ``eps`` of 1e-3, and the weight decay of the parametrisation
            (`Parametrization.weight_decay`).
        transforms: Random transforms, applied in turn at each step. Default: `RandomResizedCrop` of .35 to 1.1 of the
            side and at least 64 pixels, rotated by up to 15 degrees, of which the smallest come after .4 of the steps,
            and `GaussianNoise` that grows to .1 over the first .3 of the steps. Empty: none.
        penalties: Priors on the picture, subtracted from the score.
        patience: A picture stops after this many steps without a better score less penalties. Steps in which
            transforms still grow do not count: by default the first four tenths. Default: never.
        min_delta: The smallest improvement that counts, in units of the score.
        repeats: The number of pictures of each unit, from different noise.
        seed: Seed of all pictures.
        batch_size: The largest number of pictures that are optimised at once. It changes the memory that is needed, not
            the pictures. Where the memory does not suffice, it is halved, with a warning, down to one picture. Default:
            what the device holds (`automatic_batch_size`).
        pooling: How the map of a channel becomes one number: the ``"mean"`` over its positions, or the root mean
            square, ``"rms"`` (`UnitActivation`). Units with a position, or without a map, ignore it.
        normalize_gradients: Whether each picture's gradient is divided by the largest root mean square of its gradients
            so far. Scores of any scale then take the same steps, and with the default AdamW, whose ``eps`` is 1e-3,
            rounding errors, which differ between batches and devices, do not become full steps. Default: with the
            default optimiser only.
        scheduler: Makes a learning-rate schedule of the optimiser: any of `torch.optim.lr_scheduler` that needs no
            metric, or `CosineWithWarmup`, which gets the number of steps. Default: `CosineWithWarmup` with the default
            optimiser, else a constant rate.
        transforms_per_step: The number of transformed copies of each picture whose mean score a step takes. Each costs
            as much as a picture.
        open_relu_steps: The number of first steps in which a picture whose whole gradient is blocked by ReLUs, because
            its unit is off everywhere, gets some of it through (`open_relus`); lucid has 16. A unit that stays off is
            reported as dead.
        snapshots: Numbers of steps after which the feature's ``snapshots`` keep the picture, beside the best one.
        joint_objectives: Scores of pictures by each other, added to the others: `Diversity` of the repeats of a unit,
            `Alignment` of neighbours in the list of units. Pictures that they tie together are optimised together.
        scales: Rounds at different sizes, one after the other (`Scale`). The best picture of a round is resized for
            the next, where optimiser, schedule and patience begin anew; the last round gives the picture. The
            `image_shape` then gives the proportions only. Empty: one round, at that size.
        initial_picture: Image file, or picture ``(C, H, W)`` in [0, 1], that all pictures without a warm start start
            from, cropped to the middle and resized (`fit_picture`). Default: the noise of the parametrisation.
        importance: Whether features say how strongly their scores depended on each pixel (`Importance`).
        log_odds: For classes, the share of the log-sum-exp of the other logits that is subtracted from the logit. 0 is
            the logit alone, 1 is the logarithm of the odds, log(p / (1 - p)). A small share tells a class from those
            alike; the whole makes faint pictures. Classes are units, not objectives, of the layer that gives the
            network's output, ``(B, K)``. Reported scores are logits in any case.

    Attributes:
        settings: The settings, checked and frozen.

    Raises:
        InputError: A setting is out of its range.

    Example:
        >>> features = Maximizer(steps=256).maximize(network, ["conv2:*", "fc2:7"], image_shape=(1, 28, 28))
        >>> features[0].unit, features[0].image.shape, features[0].score
    """

    def __init__(
        self,
        steps: int | None = None,
        *,
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
        transforms_per_step: int = 1,
        open_relu_steps: int = 0,
        snapshots: Sequence[int] = (),
        joint_objectives: Sequence[JointObjective] = (),
        scales: Sequence[Scale] = (),
        initial_picture: str | Path | Tensor | None = None,
        importance: bool = False,
        log_odds: float = 0.0,
    ) -> None:
        self.settings = Settings(
            steps=steps if steps is not None else sum(scale.steps for scale in scales) or 256,
            image=image if image is not None else FourierImage(),
            optimizer=optimizer,
            transforms=_default_transforms() if transforms is None else tuple(transforms),
            penalties=tuple(penalties),
            patience=patience,
            min_delta=min_delta,
            repeats=repeats,
            seed=seed,
            batch_size=batch_size,
            pooling=pooling,
            normalize_gradients=normalize_gradients,
            scheduler=scheduler,
            transforms_per_step=transforms_per_step,
            open_relu_steps=open_relu_steps,
            snapshots=tuple(snapshots),
            joint_objectives=tuple(joint_objectives),
            scales=tuple(scales),
            initial_picture=None if initial_picture is None else InitialPicture(initial_picture),
            importance=importance,
            log_odds=log_odds,
        )

    def replace(self, **changes: Any) -> Self:
        """Return a maximizer with some settings changed; this one stays as it is.

        Args:
            **changes: Fields of `Settings`: tuples where the constructor takes any sequence.

        Raises:
            InputError: A setting is out of its range.
        """
        other = copy.copy(self)
        other.settings = dataclasses.replace(self.settings, **changes)
        return other

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
            **options: The keyword arguments of `stream`.

        Returns:
            One feature for each unit and repeat, in the order of the units, the repeats of a unit together.

        Raises:
            InputError: A unit cannot be used (see `resolve_objectives` and `check_responses`), the network cannot take
                such pictures, or the memory does not suffice for one of them.
        """
        placed = sorted(self.stream(network, units, image_shape, **options), key=lambda pair: pair[0])
        return [feature for _, feature in placed]

    def stream(
        self,
        network: nn.Module,
        units: Sequence[str | Unit | Objective],
        image_shape: Sequence[int],
        *,
        warm_starts: Mapping[tuple[str, int], Tensor] | None = None,
        steps: int | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, Feature]]:
        """Make a picture of each unit, and yield each as soon as it is done.

        Args:
            network: The same as in `maximize`.
            units: The same as in `maximize`.
            image_shape: The same as in `maximize`.
            warm_starts: Parameters to go on from, by the text form of the unit and the repeat: for earlier features
                ``{(f.name, f.repeat): f.parameters}``. Pictures without one start anew. With `scales` these are
                parameters of the last size, at which all steps are made.
            steps: The number of steps. Default: that of the maximizer. With fewer steps, a picture with a warm start
                makes the last ones: learning rate and transforms begin as they are there.
            on_step: Called after each step with the number of pictures that made it. The numbers add up to the number
                of pictures times the number of steps.

        Yields:
            Pairs of a place in the list that `maximize` returns, and the feature that belongs there. The layers come
            one after the other, because the forward pass goes only as far as the units of a batch need.

        Raises:
            InputError: The same as in `maximize`.
        """
        if steps is not None and steps < 1:
            raise InputError(f"Maximizer.stream(steps={steps}): must be at least 1")
        settings = self.settings if steps is None else dataclasses.replace(self.settings, steps=steps)
        settings.describe()  # raises before the first picture if a record cannot hold a setting
        device = device_and_dtype(network)[0]
        shape = checked_shape(image_shape)
        rounds = plan_rounds(settings.scales, shape, settings.steps)
        all_steps = plan_rounds(settings.scales, shape, self.settings.steps)[-1].steps
        rounds[-1] = dataclasses.replace(rounds[-1], skipped=max(0, all_steps - settings.steps))
        if steps is None:
            settings.warn_of_idle_patience(max(part.steps for part in rounds))
        jobs = list_jobs_of_rounds(settings, network, units, rounds, warm_starts or {})
        shape = rounds[-1].image_shape
        objectives = [job.objective for job in jobs[:: settings.repeats]]
        if problem := check_responses(network, objectives, shape):
            warnings.warn(problem, stacklevel=2)
        prepared = [objective.prepared(network, shape) for objective in objectives]
        jobs = [dataclasses.replace(job, objective=prepared[i // settings.repeats]) for i, job in enumerate(jobs)]
        if settings.log_odds:
            jobs = mark_classes(network, jobs, shape)
        if settings.batch_size != 1:
            warn_of_batch_statistics(network)

        with isolated_rng(), frozen(network) as held:
            joints = settings.joint_objectives
            layers = frozenset().union(*(job.objective.layers for job in jobs), *(joint.layers for joint in joints))
            shapes = [
                shape
                for part in rounds
                for shape in [part.image_shape, *transformed_shapes(settings.transforms, part.image_shape)]
            ]
            remembers = remembers_passes(network, layers, shapes[0])
            precision = Precision.of_caller(device)
            run_frozen = partial(frozen, network, forgetful=remembers, writes_weights=held.writes_weights)

            @lru_cache(maxsize=1)  # copies have weights of their own
            def copy_for(layers: frozenset[LayerCall]) -> nn.Module:
                if remembers:
                    return network
                group = [job.objective for job in jobs if job.objective.layers <= layers]
                only_means = not joints and all(objective.needs_means_only for objective in group)
                with isolated_rng(), run_frozen():
                    return fast_copy(network, layers, shapes, only_means)

            if remembers:
                # In one pass as well, a mean of the batch, say, ties the pictures together.
                batch_size = batch_size_alone(settings.batch_size)
            else:
                batch_size = settings.batch_size or automatic_batch_size(
                    Capture(copy_for(layers), layers, precision), shapes, settings.transforms_per_step
                )

        def make(places: Sequence[int], on_step: Callable[[int], None]) -> Iterator[tuple[int, Feature]]:
            batch = [jobs[place] for place in places]
            # A copy has the same bits whatever other layers the caller shows.
            needed = layers if joints else frozenset().union(*(job.objective.layers for job in batch))
            parts = run_rounds(settings, Networks(network, copy_for(needed), precision), batch, rounds, on_step)
            n_left = len(batch)
            while n_left:
                # Between features, the network and the random state are as the caller left them.
                with isolated_rng(), run_frozen(), full_precision(device):
                    done = next(parts)
                yield from ((places[i], feature) for i, feature in done)
                n_left -= len(done)

        groups = group_jobs(settings, jobs, rounds)
        try:
            yield from in_batches(groups, batch_size, make, on_step or (lambda _: None), settings.steps)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(error, shape) from error


def _default_transforms() -> tuple[Transform, ...]:
    crop = RandomResizedCrop(side=(0.35, 1.1), degrees=15, smallest=64, warmup=0.4)
    return crop, GaussianNoise((0.0, 0.1), warmup=0.3)
