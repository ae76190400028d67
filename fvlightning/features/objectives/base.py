"""What an objective is, and how objectives compose."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.capture.capture import Activations
from fvlightning.features.units import LayerCall, Unit

Scorer = Callable[[Activations], Tensor]


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
    def units(self) -> tuple[Unit, ...]:
        """The units that the score names, which are checked against the network. By default none."""
        return ()

    @property
    def needs_means_only(self) -> bool:
        """Whether maps that are averaged over their positions get the same score as whole ones. By default not."""
        return False

    def __str__(self) -> str:
        """Return the class with its settings, the same in every run: with the seed it determines the picture.

        Settings that are no plain values, units or objectives are left out: their text could hold an address.
        """
        plain = (bool, int, float, str, Unit, LayerCall, Objective)
        shown = [f"{name}={value}" for name, value in vars(self).items() if isinstance(value, plain)]
        return f"{type(self).__name__}({', '.join(shown)})"

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

    def __radd__(self, other: object) -> "Objective":
        """Return the objective itself as a sum with 0, from which Python's `sum` begins."""
        return self if other == 0 else NotImplemented

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
    def units(self) -> tuple[Unit, ...]:
        return tuple(unit for _, term in self.terms for unit in term.units)

    @property
    @override
    def needs_means_only(self) -> bool:
        return all(term.needs_means_only for _, term in self.terms)

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
        """Return the text form, ``A - 0.5*B``, which `parse_objective` reads if all terms are units or layers."""
        if len(self.terms) == 1 and self.terms[0][0] == 1:
            return f"1*{_in_sum(self.terms[0][1])}"  # without the weight it would be the term itself
        text = ""
        for weight, term in self.terms:
            negative = math.copysign(1, weight) < 0
            sign = (" - " if negative else " + ") if text else "-" if negative else ""
            factor = "" if abs(weight) == 1 else f"{_number(abs(weight))}*"
            text += f"{sign}{factor}{_in_sum(term)}"
        return text


def stack_objectives(objectives: Sequence[Objective]) -> Scorer:
    """Return one function that scores row i by ``objectives[i]``: one call for all the objectives of a kind."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, objective in enumerate(objectives):
        groups[objective.kind].append(row)
    scorers = [type(objectives[rows[0]]).stack([objectives[row] for row in rows]) for rows in groups.values()]
    if len(scorers) == 1:
        return scorers[0]
    rows_of_groups = [torch.tensor(rows) for rows in groups.values()]
    on_device = MovedOnce(torch.cat(rows_of_groups).argsort(), *rows_of_groups)

    def score(activations: Activations) -> Tensor:
        order, *groups = on_device(next(iter(activations.values())).values.device)
        parts = [
            scorer({layer: found.rows(rows) for layer, found in activations.items()})
            for scorer, rows in zip(scorers, groups, strict=True)
        ]
        return torch.cat(parts)[order]

    return score


class MovedOnce:
    """Index tensors that follow the activations to their device at the first step, and wait for no copy after it."""

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors

    def __call__(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return the tensors on `device`."""
        if self._tensors[0].device != device:
            self._tensors = tuple(tensor.to(device) for tensor in self._tensors)
        return self._tensors


def _number(weight: float) -> str:
    short = f"{weight:g}"
    return short if float(short) == weight else repr(weight)


def _in_sum(term: Objective) -> str:
    text = str(term)
    return f"({text})" if " " in text else text


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)
