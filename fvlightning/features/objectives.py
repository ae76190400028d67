"""Objectives: activations -> scores of shape ``(B,)``, one a picture, to be made large.

Objectives compose by ``+``, ``-`` and multiplication by a number. An operation makes a new objective and leaves its
operands as they are, and the weights of a sum are what they say: ``1 * a + 3 * b - 5 * c`` has the weights 1, 3 and -5.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.capture import Activations
from fvlightning.features.units import LayerCall, Unit

Scorer = Callable[[Activations], Tensor]
Pooling = Literal["mean", "rms"]


class Objective(ABC):
    """A score of a picture, computed from activations."""

    @property
    @abstractmethod
    def layers(self) -> frozenset[LayerCall]:
        """The layers that the score needs."""

    @abstractmethod
    def __call__(self, activations: Activations) -> Tensor:
        """Return one score a picture, ``(B,)``, each from its own row of the activations alone."""

    @property
    def kind(self) -> Hashable:
        """Objectives of one kind are scored together by `stack`. By default each is a kind of its own."""
        return id(self)

    @classmethod
    def stack(cls, objectives: Sequence[Any]) -> Scorer:
        """Return a function that scores row i by ``objectives[i]``; all are of this class and of one `kind`."""
        objective: Objective = objectives[0]
        return objective

    def __add__(self, other: "Objective") -> "Objective":
        """Return the sum of two objectives."""
        if not isinstance(other, Objective):
            return NotImplemented
        return WeightedSum((*_terms(self), *_terms(other)))

    def __sub__(self, other: "Objective") -> "Objective":
        """Return the difference of two objectives."""
        if not isinstance(other, Objective):
            return NotImplemented
        return self + -1.0 * other

    def __mul__(self, weight: float) -> "Objective":
        """Return the objective times a number."""
        if not isinstance(weight, int | float):
            return NotImplemented
        return WeightedSum(tuple((weight * own, term) for own, term in _terms(self)))

    __rmul__ = __mul__

    def __neg__(self) -> "Objective":
        """Return the objective that is large where this one is small."""
        return self * -1.0


@dataclass(frozen=True)
class UnitActivation(Objective):
    """The activation of one unit; over a map or a sequence, that of one position, or pooled over all of them.

    Of a vision transformer's tokens the pooling leaves out the class and register tokens.

    Args:
        unit: A unit with an index. Its ``minimize`` is not looked at: see `objective_of`.
        pooling: How the positions become one number: ``"mean"``, or ``"rms"``, the root of the mean square. A layer
            with nothing but linear layers before it needs the second: the mean of a convolution over a picture is
            (apart from the borders) the picture's mean times a constant, and shows nothing of the kernel.
    """

    unit: Unit
    pooling: Pooling = "mean"

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The unit's layer."""
        return frozenset({self.unit.layer_call})

    @property
    @override
    def kind(self) -> Hashable:
        return UnitActivation, self.unit.layer_call, bool(self.unit.position), self.pooling

    @override
    def __call__(self, activations: Activations) -> Tensor:
        n_pictures = activations[self.unit.layer_call].values.shape[0]
        return self.stack([self] * n_pictures)(activations)

    @override
    @classmethod
    def stack(cls, objectives: Sequence["UnitActivation"]) -> Scorer:
        units = [objective.unit for objective in objectives]
        layer, pooling = units[0].layer_call, objectives[0].pooling
        places = list(zip(*((row, unit.index, *unit.position) for row, unit in enumerate(units)), strict=True))
        on_device = _MovedOnce(*(torch.tensor(place) for place in places))

        def score(activations: Activations) -> Tensor:
            values = activations[layer].values
            maps = values[on_device(values.device)]
            if maps.ndim == 2:
                maps = maps[:, activations[layer].prefix_tokens :]
            if maps.ndim > 1:
                maps = maps.flatten(1)
                maps = _root_mean_square(maps) if pooling == "rms" else maps.mean(1)
            scores: Tensor = maps
            return scores

        return score

    def __str__(self) -> str:
        """Return the unit's text form."""
        return str(self.unit)


@dataclass(frozen=True)
class LayerEnergy(Objective):
    """The mean square of a whole layer: 'DeepDream' (https://research.google/blog/inceptionism-going-deeper-into-neural-networks/).

    Args:
        layer: The layer.
    """

    layer: LayerCall

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layer."""
        return frozenset({self.layer})

    @property
    @override
    def kind(self) -> Hashable:
        return LayerEnergy, self.layer

    @override
    def __call__(self, activations: Activations) -> Tensor:
        activation = activations[self.layer]
        values = activation.values[:, :, activation.prefix_tokens :] if activation.prefix_tokens else activation.values
        return values.flatten(1).square().mean(1)

    def __str__(self) -> str:
        """Return the layer's text form."""
        return str(self.layer)


@dataclass(frozen=True)
class Target(Objective):
    """How near an objective is to a value: ``-(objective - value)²``, which is 0 at the best.

    Args:
        objective: What is to reach the value.
        value: The value to be reached.
    """

    objective: Objective
    value: float

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layers of the objective."""
        return self.objective.layers

    @override
    def __call__(self, activations: Activations) -> Tensor:
        return -(self.objective(activations) - self.value).square()

    def __str__(self) -> str:
        """Return the objective and the value."""
        return f"{self.objective} -> {self.value:g}"


@dataclass(frozen=True)
class WeightedSum(Objective):
    """A sum of objectives with weights.

    Args:
        terms: Pairs of a weight and an objective.
    """

    terms: tuple[tuple[float, Objective], ...]

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layers of all terms."""
        return frozenset().union(*(term.layers for _, term in self.terms))

    @property
    @override
    def kind(self) -> Hashable:
        return WeightedSum, tuple(term.kind for _, term in self.terms)

    @override
    def __call__(self, activations: Activations) -> Tensor:
        return torch.stack([weight * term(activations) for weight, term in self.terms]).sum(0)

    @override
    @classmethod
    def stack(cls, objectives: Sequence["WeightedSum"]) -> Scorer:
        weights = torch.tensor([[weight for weight, _ in objective.terms] for objective in objectives]).T
        columns = zip(*([term for _, term in objective.terms] for objective in objectives), strict=True)
        scorers = [type(column[0]).stack(column) for column in columns]

        def score(activations: Activations) -> Tensor:
            scores = torch.stack([scorer(activations) for scorer in scorers])
            return (weights.to(scores) * scores).sum(0)

        return score

    def __str__(self) -> str:
        """Return the sum as it would be written."""
        return " ".join(f"{weight:+g}·{term}" for weight, term in self.terms)


def objective_of(unit: Unit, pooling: Pooling = "mean") -> Objective:
    """Return what is maximised for a unit: its activation or its layer's energy, negated if it is to be minimised."""
    objective = LayerEnergy(unit.layer_call) if unit.index is None else UnitActivation(unit, pooling)
    return -objective if unit.minimize else objective


def stack_objectives(objectives: Sequence[Objective]) -> Scorer:
    """Return one function that scores row i by ``objectives[i]``: one call for all the objectives of a kind."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, objective in enumerate(objectives):
        groups[objective.kind].append(row)
    scorers = [type(objectives[rows[0]]).stack([objectives[row] for row in rows]) for rows in groups.values()]
    if len(scorers) == 1:
        return scorers[0]
    rows_of_groups = [torch.tensor(rows) for rows in groups.values()]
    on_device = _MovedOnce(torch.cat(rows_of_groups).argsort(), *rows_of_groups)

    def score(activations: Activations) -> Tensor:
        order, *groups = on_device(next(iter(activations.values())).values.device)
        parts = [
            scorer({layer: found.rows(rows) for layer, found in activations.items()})
            for scorer, rows in zip(scorers, groups, strict=True)
        ]
        return torch.cat(parts)[order]

    return score


class _MovedOnce:
    """Index tensors that follow the activations to their device at the first step, and wait for no copy after it."""

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors

    def __call__(self, device: torch.device) -> tuple[Tensor, ...]:
        if self._tensors[0].device != device:
            self._tensors = tuple(tensor.to(device) for tensor in self._tensors)
        return self._tensors


def _root_mean_square(rows: Tensor) -> Tensor:
    # By the norm, whose gradient is 0 where all of a row is 0: that of a square root would be infinite.
    root: Tensor = torch.linalg.vector_norm(rows, dim=1) / math.sqrt(rows.shape[1])
    return root


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)
