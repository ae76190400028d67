"""Objectives and their sums."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.capture import Activations
from fvlightning.features.units import LayerCall, Unit

Pooling = Literal["mean", "rms"]
Scorer = Callable[[Activations], Tensor]


class Objective(ABC):
    """A score of a picture, computed from activations."""

    @property
    @abstractmethod
    def layers(self) -> frozenset[LayerCall]:
        """The layers that the score needs."""

    @abstractmethod
    def __call__(self, activations: Activations) -> Tensor:
        """Return one score per picture, ``(B,)``, each from its own row of the activations alone."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units to check against the network. By default none."""
        return ()

    def prepared(self, network: nn.Module, image_shape: Sequence[int]) -> "Objective":
        """Return the objective with what it has to know of the network, before the first score; by default itself.

        Args:
            network: The network whose activations will be scored.
            image_shape: ``(C, H, W)`` of the pictures.

        Raises:
            InputError: The objective needs something that the network does not give, or that cannot be read.
        """
        return self

    @property
    def needs_means_only(self) -> bool:
        """Whether maps averaged over their positions give the same score as whole ones. By default not."""
        return False

    def __str__(self) -> str:
        """Return the class with its settings. Together with the seed, this text determines the picture.

        Raises:
            InputError: A setting is not a plain value, a unit or an objective; the message names it.
        """
        name = type(self).__name__
        return f"{name}({', '.join(f'{key}={_text(value, name, key)}' for key, value in vars(self).items())})"

    @property
    def kind(self) -> Hashable:
        """Objectives of one kind are scored together by `stack`. By default each is a kind of its own."""
        return id(self)

    @classmethod
    def stack(cls, objectives: Sequence[Any]) -> Scorer:
        """Return a function that scores row i by ``objectives[i]``; all are of this class and of one `kind`."""
        objective: Objective = objectives[0]
        return objective

    def __add__(self, other: "Objective | float") -> "Objective":
        if isinstance(other, Objective):
            return WeightedSum((*_terms(self), *_terms(other)))
        if not isinstance(other, int | float):
            return NotImplemented
        # 0 is where Python's `sum` begins.
        return WeightedSum((*_terms(self), (other, _Constant()))) if other else self

    __radd__ = __add__

    def __sub__(self, other: "Objective | float") -> "Objective":
        return self + -1.0 * other if isinstance(other, Objective | int | float) else NotImplemented

    def __rsub__(self, other: float) -> "Objective":
        return -self + other

    def __mul__(self, weight: float) -> "Objective":
        if not isinstance(weight, int | float):
            return NotImplemented
        return WeightedSum([(weight * factor, term) for factor, term in _terms(self)])

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Objective":
        if not isinstance(divisor, int | float):
            return NotImplemented
        return WeightedSum([(factor / divisor, term) for factor, term in _terms(self)])

    def __neg__(self) -> "Objective":
        return self * -1.0


@dataclass(frozen=True)
class _Constant(Objective):
    """The score 1 of every picture: the numbers in sums are its multiples."""

    @property
    def layers(self) -> frozenset[LayerCall]:
        """No layers."""
        return frozenset()

    @property
    @override
    def needs_means_only(self) -> bool:
        return True

    @property
    @override
    def kind(self) -> Hashable:
        return type(self)

    @override
    def __call__(self, activations: Activations) -> Tensor:
        tensor = next(iter(activations.values())).tensor
        return tensor.new_ones(len(tensor))


@dataclass(frozen=True)
class WeightedSum(Objective):
    """A sum of objectives with weights.

    Args:
        terms: Pairs of a weight and an objective.

    Raises:
        InputError: There are no terms, or one is not an objective.
    """

    terms: tuple[tuple[float, Objective], ...]

    def __init__(self, terms: Sequence[tuple[float, Objective]]) -> None:
        if not terms:
            raise InputError("WeightedSum(terms=[]): needs at least one term")
        if strangers := [term for _, term in terms if not isinstance(term, Objective)]:
            raise InputError(f"WeightedSum(terms=...): {strangers[0]!r} is not an objective; use objective_of")
        object.__setattr__(self, "terms", tuple((weight, term) for weight, term in terms))

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layers of all terms."""
        return frozenset().union(*(term.layers for _, term in self.terms))

    @property
    @override
    def units(self) -> tuple[Unit, ...]:
        return tuple(unit for _, term in self.terms for unit in term.units)

    @override
    def prepared(self, network: nn.Module, image_shape: Sequence[int]) -> Objective:
        return WeightedSum([(weight, term.prepared(network, image_shape)) for weight, term in self.terms])

    @property
    @override
    def needs_means_only(self) -> bool:
        return all(term.needs_means_only for _, term in self.terms)

    @property
    @override
    def kind(self) -> Hashable:
        return type(self), tuple(term.kind for _, term in self.terms)

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
        # `objective_of` reads it if all terms are units or layers.
        text = ""
        for weight, term in self.terms:
            negative, size = math.copysign(1, weight) < 0, abs(weight)
            sign = (" - " if negative else " + ") if text else "-" if negative else ""
            number = short(size)
            # A single term with neither sign nor weight would be the term itself.
            factor = "" if size == 1 and (negative or len(self.terms) > 1) else f"{number}*"
            if isinstance(term, _Constant):  # in brackets, because a layer may be called "2"
                text += f"{sign}({number})"
            else:
                text += f"{sign}{factor}" + (f"({term})" if " " in str(term) else str(term))
        return text


def short(number: float) -> str:
    """Return the shortest text that stands for exactly this number."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def stack_objectives(objectives: Sequence[Objective]) -> Scorer:
    """Return one function that scores row i by ``objectives[i]``: one call for all the objectives of a kind."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, objective in enumerate(objectives):
        groups[objective.kind].append(row)
    scorers = [type(objectives[rows[0]]).stack([objectives[row] for row in rows]) for rows in groups.values()]
    if len(scorers) == 1:
        return scorers[0]
    rows_of_groups = [torch.tensor(rows) for rows in groups.values()]
    on_device = moved_once(torch.cat(rows_of_groups).argsort(), *rows_of_groups)

    def score(activations: Activations) -> Tensor:
        order, *groups = on_device(next(iter(activations.values())).values.device)
        parts = [
            scorer({layer: replace(value, tensor=value.tensor[rows]) for layer, value in activations.items()})
            for scorer, rows in zip(scorers, groups, strict=True)
        ]
        return torch.cat(parts)[order]

    return score


def moved_once(*tensors: Tensor) -> Callable[[torch.device], tuple[Tensor, ...]]:
    """Return a function that gives the tensors on a device, and copies them once, so that later steps do not wait."""
    return cache(lambda device: tuple(tensor.to(device) for tensor in tensors))


def _text(setting: object, class_name: str, name: str) -> str:
    if isinstance(setting, dict):
        setting = tuple(setting.items())
    if isinstance(setting, tuple | list):
        return f"({', '.join(_text(entry, class_name, name) for entry in setting)})"
    if setting is None or isinstance(setting, bool | int | float | str | Path | Unit | LayerCall | Objective):
        return str(setting)
    raise InputError(
        f"{class_name}.__str__: '{name}' is a {type(setting).__name__}, whose text may differ from run to run; "
        "override __str__ and put a digest in its place"
    )


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)
