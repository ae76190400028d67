"""Couplings: what pictures ask of each other, of shape ``(B,)``, added to their scores.

All pictures that a coupling holds together are optimised in one batch. Whatever else shares that batch, they come out
the same up to floating-point error.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.capture.capture import Activations
from fvlightning.features.units import LayerCall, UnitRange


class JointObjective(ABC):
    """A score of each picture that depends on others.

    Args:
        weight: What it is multiplied by; activations have no common scale, so try several.
        layer: Text form of the layer whose activations are compared, ``"conv2"``. None: see the subclass.

    Attributes:
        across: Which pictures it holds together: the ``"repeats"`` of each unit, or the ``"units"`` of each repeat.

    Raises:
        InputError: `weight` is negative, or `layer` is not a layer alone.
    """

    across: Literal["repeats", "units"]

    def __init__(self, weight: float, layer: str | None) -> None:
        name = type(self).__name__
        if not weight >= 0:
            raise InputError(f"{name}(weight={weight}): the weight of a coupling must be at least 0")
        if layer is not None and str(call := UnitRange.parse(layer).layer_call) != layer:
            raise InputError(f"{name}(layer={layer!r}): give the layer alone, {str(call)!r}")
        self.weight = weight
        self.layer = layer

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layers that it needs beside those of the objectives."""
        return frozenset() if self.layer is None else frozenset({UnitRange.parse(self.layer).layer_call})

    @abstractmethod
    def pair_weights(self, pictures: Sequence[tuple[str, int]]) -> Tensor:
        """Return how much each picture is compared with each other, ``(B, B)``, symmetric, at least 0.

        Args:
            pictures: The text form of the unit and the repeat of each, in the order in which the units were given.
        """

    @abstractmethod
    def compare(self, pictures: Tensor, activations: Activations, pairs: "Pairs") -> Tensor:
        """Return how alike the pictures of each pair are, ``(P,)``; what is large is wanted.

        Args:
            pictures: ``(B, C, H, W)``.
            activations: Those of ``B * views`` views, the views of a picture together.
            pairs: Which pictures are compared.
        """

    def __call__(self, pictures: Tensor, activations: Activations, pairs: "Pairs") -> Tensor:
        """Return the weighted score ``(B,)``, with the arguments of `compare`."""
        compared = self.weight * pairs.weight * self.compare(pictures, activations, pairs)
        return compared.new_zeros(len(pictures)).index_add(0, pairs.first, compared)


class Diversity(JointObjective):
    """Makes the repeats of a unit differ: minus the mean cosine of a picture's Gram matrix with those of the others.

    The Gram matrix of a layer, ``Σ over positions of a · aᵀ``, says which features occur together, wherever they are:
    the 'style' of a picture (Olah et al. 2017, https://distill.pub/2017/feature-visualization/#diversity). So a unit
    that answers to several things shows each of them in a picture of its own.

    Args:
        weight: What it is multiplied by.
        layer: The layer that is compared. Default: that of the unit. Of a layer without positions, as of logits, a
            Gram matrix tells little: name a convolution before it.
    """

    across = "repeats"

    def __init__(self, weight: float = 1.0, layer: str | None = None) -> None:
        super().__init__(weight, layer)

    @override
    def pair_weights(self, pictures: Sequence[tuple[str, int]]) -> Tensor:
        names = [name for name, _ in pictures]
        places = torch.tensor([names.index(name) for name in names])
        together = (places[:, None] == places).float().fill_diagonal_(0)
        return together / together.sum(1, keepdim=True).clamp(min=1)

    @override
    def compare(self, pictures: Tensor, activations: Activations, pairs: "Pairs") -> Tensor:
        layers = sorted(self.layers or activations.keys(), key=str)
        cosines = torch.stack([_gram_cosines(activations[layer].values, len(pictures)) for layer in layers]).mean(0)
        return -cosines[pairs.first, pairs.second]


class Alignment(JointObjective):
    """Makes neighbours in the list of units alike: minus the mean square of the differences to the neighbours.

    For pictures that lead from one unit to another (`interpolate`): each shows its mixture in the same pose and place
    (Olah et al. 2017, https://distill.pub/2017/feature-visualization/#interaction, and `alignment` in lucid's
    optvis/objectives.py). The nearest neighbours count once, those at a distance of d half as much as those at d - 1,
    up to 3.

    Args:
        weight: What it is multiplied by.
        layer: The layer that is compared, on the views, which are each picture's own. Default: the pictures themselves.
    """

    across = "units"
    _REACH = 3

    def __init__(self, weight: float = 1.0, layer: str | None = None) -> None:
        super().__init__(weight, layer)

    @override
    def pair_weights(self, pictures: Sequence[tuple[str, int]]) -> Tensor:
        order = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in pictures))}
        places = torch.tensor([order[name] for name, _ in pictures])
        repeats = torch.tensor([repeat for _, repeat in pictures])
        distances = (places[:, None] - places).abs()
        near = (repeats[:, None] == repeats) & (distances > 0) & (distances <= self._REACH)
        return torch.where(near, 0.5 ** (distances - 1.0), 0.0)

    @override
    def compare(self, pictures: Tensor, activations: Activations, pairs: "Pairs") -> Tensor:
        (compared,) = [activations[layer].values for layer in self.layers] or [pictures]
        rows = compared.reshape(len(pictures), -1)
        return -(rows[pairs.first] - rows[pairs.second]).square().mean(1)


@dataclass(frozen=True)
class Pairs:
    """Which pictures of a batch are compared with which.

    Args:
        first: ``(P,)``, places in the batch; each pair is there in both orders.
        second: ``(P,)``, the others' places.
        weight: ``(P,)``, how much each pair counts.
    """

    first: Tensor
    second: Tensor
    weight: Tensor

    @classmethod
    def of(cls, coupling: JointObjective, pictures: Sequence[tuple[str, int]], device: torch.device) -> Self:
        """Return the pairs of a batch, on its device, by the pictures' units and repeats."""
        weights = coupling.pair_weights(pictures)
        first, second = weights.nonzero(as_tuple=True)
        return cls(first.to(device), second.to(device), weights[first, second].to(device))


def held_together(joint_objectives: Sequence[JointObjective], unit: str, repeat: int) -> Hashable:
    """Return a name of the pictures that have to be in one batch with the picture of a unit."""
    across = {coupling.across for coupling in joint_objectives}
    return None if "units" in across else unit, None if "repeats" in across else repeat


def _gram_cosines(values: Tensor, n_pictures: int) -> Tensor:
    """Return the cosines ``(B, B)`` between the Gram matrices of activations ``(B * views, C, *positions)``."""
    views = values.reshape(n_pictures, -1, *values.shape[1:])
    features = views.transpose(1, 2).flatten(2)
    grams = torch.bmm(features, features.transpose(1, 2)).flatten(1)
    normed = torch.nn.functional.normalize(grams, dim=1)
    return normed @ normed.T
