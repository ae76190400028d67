"""Joint objectives: scores of pictures by each other, of shape ``(B,)``, added to the scores of their objectives."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.capture import Activations
from fvlightning.features.description import Described
from fvlightning.features.units import LayerCall


class Pairs(NamedTuple):
    """Pairs of pictures to compare, in both orders: their places in the batch and their weights, each ``(P,)``."""

    first: Tensor
    second: Tensor
    weight: Tensor


class JointObjective(Described, ABC):
    """A score of each picture that depends on other pictures, which are optimised in the same batch.

    Args:
        weight: The factor of the score. Activations have no common scale, so try several.
        layer: Text form of the layer whose activations are compared, ``"conv2"``.

    Attributes:
        across: Which pictures are compared: the ``"repeats"`` of each unit, or the ``"units"`` of each repeat.

    Raises:
        InputError: `weight` is negative, or `layer` is not a layer.
    """

    across: Literal["repeats", "units"]

    def __init__(self, weight: float = 1.0, layer: str | None = None) -> None:
        if not weight >= 0:
            raise InputError(f"{type(self).__name__}(weight={weight}): must be at least 0")
        self.weight = weight
        self.layer = None if layer is None else str(LayerCall.parse(layer))

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layers that it needs besides those of the objectives."""
        return frozenset() if self.layer is None else frozenset({LayerCall.parse(self.layer)})

    @abstractmethod
    def pair_weights(self, units: Tensor, repeats: Tensor) -> Tensor:
        """Return the weight of each pair of pictures, ``(B, B)``, from the numbers of their units and repeats."""

    @abstractmethod
    def compare(self, pictures: Tensor, activations: Activations, pairs: Pairs) -> Tensor:
        """Return a score, to be maximised, for each pair among pictures ``(B, C, H, W)``, ``(P,)``.

        The activations are those of ``B * n`` transformed pictures, the n of a picture next to each other.
        """

    def pairs(self, pictures: Sequence[tuple[str, int]], device: torch.device) -> Pairs:
        """Return the pairs of a batch, on its device, from each picture's unit and repeat."""
        names, repeats = zip(*pictures, strict=True)
        order = {name: number for number, name in enumerate(dict.fromkeys(names))}
        weights = self.pair_weights(torch.tensor([order[name] for name in names]), torch.tensor(repeats))
        first, second = weights.nonzero(as_tuple=True)
        return Pairs(first.to(device), second.to(device), weights[first, second].to(device))

    def __call__(self, pictures: Tensor, activations: Activations, pairs: Pairs) -> Tensor:
        """Return the weighted score ``(B,)``, with the arguments of `compare`."""
        scores = self.weight * pairs.weight * self.compare(pictures, activations, pairs)
        return scores.new_zeros(len(pictures)).index_add(0, pairs.first, scores)


class Diversity(JointObjective):
    """Makes the repeats of a unit differ: minus the mean cosine of a picture's Gram matrix with those of the others.

    The Gram matrix of a layer, ``Σ over positions of a · aᵀ``, says which features occur together, wherever they are
    (Olah et al. 2017, https://distill.pub/2017/feature-visualization/#diversity). A unit that responds to several
    things then shows each of them in a picture of its own.

    Args:
        layer: The layer to compare. Default: that of the unit. For logits, name a convolution before them.
    """

    across = "repeats"

    @override
    def pair_weights(self, units: Tensor, repeats: Tensor) -> Tensor:
        same_unit = (units[:, None] == units).float().fill_diagonal_(0)
        return same_unit / same_unit.sum(1, keepdim=True).clamp(min=1)

    @override
    def compare(self, pictures: Tensor, activations: Activations, pairs: Pairs) -> Tensor:
        layers = sorted(self.layers or activations.keys(), key=str)
        cosines = torch.stack([_gram_cosines(activations[layer].values, len(pictures)) for layer in layers]).mean(0)
        return -cosines[pairs.first, pairs.second]


class Alignment(JointObjective):
    """Makes neighbours in the list of units alike: minus the mean square of the differences to the neighbours.

    For pictures that lead from one unit to another (`interpolate`): each shows its mixture in the same pose and place
    (Olah et al. 2017, https://distill.pub/2017/feature-visualization/#interaction, and `alignment` in lucid's
    optvis/objectives.py). The neighbours at distances 1, 2 and 3 have the weights 1, 0.5 and 0.25.

    Args:
        layer: The layer to compare, on the transformed pictures. Default: the pictures themselves.
    """

    across = "units"
    _REACH = 3

    @override
    def pair_weights(self, units: Tensor, repeats: Tensor) -> Tensor:
        distances = (units[:, None] - units).abs()
        near = (repeats[:, None] == repeats) & (distances > 0) & (distances <= self._REACH)
        return torch.where(near, 0.5 ** (distances - 1.0), 0.0)

    @override
    def compare(self, pictures: Tensor, activations: Activations, pairs: Pairs) -> Tensor:
        (compared,) = [activations[layer].values for layer in self.layers] or [pictures]
        rows = compared.reshape(len(pictures), -1)
        return -(rows[pairs.first] - rows[pairs.second]).square().mean(1)


def joint_key(joint_objectives: Sequence[JointObjective], unit: str, repeat: int) -> Hashable:
    """Return the key of the pictures that must be in one batch with this picture of a unit."""
    across = {joint_objective.across for joint_objective in joint_objectives}
    return None if "units" in across else unit, None if "repeats" in across else repeat


def _gram_cosines(values: Tensor, n_pictures: int) -> Tensor:
    """Return the cosines ``(B, B)`` between the Gram matrices of activations ``(B * n, C, *positions)``."""
    features = values.reshape(n_pictures, -1, *values.shape[1:]).transpose(1, 2).flatten(2)
    grams = torch.bmm(features, features.transpose(1, 2)).flatten(1)
    normed = torch.nn.functional.normalize(grams, dim=1)
    return normed @ normed.T
