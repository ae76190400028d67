"""Activation maximisation: its settings, and the pictures of many units."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.feature import Feature
from fvlightning.features.images import FourierImage, Image
from fvlightning.features.isolation import frozen, isolated_rng, warn_of_batch_statistics
from fvlightning.features.layers import expand_units, measure_layers
from fvlightning.features.objectives import Objective, Pooling, objective_of
from fvlightning.features.optimization import Job, Optimization
from fvlightning.features.penalties import Penalty
from fvlightning.features.robustness import RandomAffine, View
from fvlightning.features.rows import OptimizerCallable
from fvlightning.features.units import LayerCall, Unit


class Maximizer:
    """Makes pictures that excite units: activation maximisation (Erhan et al. 2009; Olah et al. 2017).

    Every picture stands alone: its start and its views come from a generator seeded by (`seed`, unit, repeat), the loss
    is a sum over pictures, and the optimiser's state, early stopping and the best picture so far are its own. Whatever
    shares its batch or its device, it is the same picture up to floating-point error.

    Args:
        steps: How many steps each picture is optimised.
        image: The parametrisation. Default: `FourierImage`.
        optimizer: Makes a torch optimiser of a list of parameters. Default: Adam with a learning rate of 0.05 and an
            ``eps`` of 1e-3.
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
        normalize_gradients: Whether each picture's gradient is divided by the largest root mean square that it has had
            so far. Scores of any scale then take the same steps, and with the default Adam, whose ``eps`` is 1e-3,
            rounding errors of the gradient, which differ between batches and devices, do not become full steps.
            Default: with the default optimiser, but not with a given one.

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
        normalize_gradients: bool | None = None,
    ) -> None:
        for name, value in {"steps": steps, "repeats": repeats, "batch_size": batch_size, "patience": patience}.items():
            if value is not None and value < 1:
                raise InputError(f"Maximizer({name}={value}): must be at least 1")
        if pooling not in ("mean", "rms"):
            raise InputError(f"Maximizer(pooling={pooling!r}): valid are 'mean' and 'rms'")
        if not min_delta >= 0:
            raise InputError(f"Maximizer(min_delta={min_delta}): must be at least 0")
        self.steps = steps
        self.image = image if image is not None else FourierImage()
        self.optimizer = (
            optimizer if optimizer is not None else partial(torch.optim.Adam, lr=0.05, eps=1e-3, fused=True)
        )
        self.normalize_gradients = optimizer is None if normalize_gradients is None else normalize_gradients
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
            "normalize_gradients": self.normalize_gradients,
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
        if steps < 1:
            raise InputError(f"steps={steps}: must be at least 1")
        jobs = self._jobs(network, units, image_shape, start or {})
        if self.batch_size > 1:
            warn_of_batch_statistics(network)
        by_layers: dict[frozenset[LayerCall], list[int]] = defaultdict(list)
        for place, job in enumerate(jobs):
            by_layers[job.objective.layers].append(place)
        for group in by_layers.values():
            for first in range(0, len(group), self.batch_size):
                places = group[first : first + self.batch_size]
                with isolated_rng(), frozen(network):
                    optimization = Optimization(self, network, [jobs[place] for place in places], image_shape)
                    features = optimization.run(steps, on_step or (lambda _: None))
                yield from zip(places, features, strict=True)

    def _jobs(
        self,
        network: nn.Module,
        units: Sequence[str | Unit | Objective],
        image_shape: Sequence[int],
        starts: Mapping[tuple[str, int], Tensor],
    ) -> list[Job]:
        listed = [units] if isinstance(units, str | Unit | Objective) else list(units)
        if not listed:
            raise InputError("no units are given; name at least one, for example 'conv2:0-15'")
        if self.image.bounded and (len(image_shape) != 3 or min(image_shape) < 1):
            raise InputError(
                f"{type(self.image).__name__} cannot take a picture of shape {tuple(image_shape)}: give (C, H, W)"
            )
        if self.robustness and len(image_shape) != 3:
            raise InputError(
                f"inputs of shape {tuple(image_shape)} are no pictures: robustness=[] leaves out the views"
            )
        objectives = [unit for unit in listed if isinstance(unit, Objective)]
        expand_units(network, [unit for objective in objectives for unit in objective.units], image_shape)
        measure_layers(network, {layer for objective in objectives for layer in objective.layers}, image_shape)
        named = iter(expand_units(network, [u for u in listed if not isinstance(u, Objective)], image_shape))
        resolved: list[Unit | Objective] = []
        for given in listed:
            found = [given] if isinstance(given, Objective) else next(named)
            resolved += [unit for unit in found if isinstance(unit, Objective) or unit not in resolved]
        return [
            Job(
                unit=unit,
                objective=objective_of(unit, self.pooling) if isinstance(unit, Unit) else unit,
                repeat=repeat,
                start=starts.get((str(unit), repeat)),
            )
            for unit, repeat in product(resolved, range(self.repeats))
        ]


def _describe(setting: object) -> dict[str, Any]:
    values: Mapping[str, Any] = vars(setting)
    return {"class": type(setting).__name__, **values}
