"""How far pictures are from natural images, as a network sees them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.features.capture.capture import Activation, device_and_dtype, find_layer, layout
from fvlightning.features.capture.isolation import frozen, isolated_rng
from fvlightning.features.capture.survey import survey_layers

_CHUNK = 1024


class FeatureSpace:
    """What a network's last layer sees of pictures: of a classifier, the features that the classes are told apart by.

    The last layer is the one without layers of its own that is called last. Of a map or a sequence the features are the
    means over its positions.

    Args:
        network: Any module that takes pictures; of one with a ``net``, the last layer of that.
        image_shape: ``(C, H, W)`` of the pictures.

    Attributes:
        layer: Path of the last layer.

    Raises:
        InputError: The network cannot take such pictures.
    """

    def __init__(self, network: nn.Module, image_shape: Sequence[int]) -> None:
        paths = [found.layer.layer for found in survey_layers(network, image_shape)]
        leaves = [path for path in paths if not any(find_layer(network, path).children())]
        self.layer = leaves[-1]
        self._network = network

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the features ``(B, D)``, where the network is, of pictures ``(B, C, H, W)`` in [0, 1]."""
        layer = find_layer(self._network, self.layer)
        device, dtype = device_and_dtype(self._network)
        seen: list[Tensor] = []

        def take(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            activation = Activation.of(inputs, channels_last=layout(layer, pictures.shape[2:]))
            seen.append(activation.values.flatten(2).mean(2) if activation.positions else activation.values)

        handle = layer.register_forward_pre_hook(take)
        try:
            with isolated_rng(), frozen(self._network), torch.no_grad():
                self._network(pictures.to(device, dtype))
        finally:
            handle.remove()
        return seen[-1].float()


def nearest_distances(features: Tensor, references: Tensor, same: Sequence[int] | None = None) -> Tensor:
    """Return the Euclidean distance of each row to the nearest of others (Fel et al. 2023's plausibility).

    https://arxiv.org/abs/2306.06805

    Args:
        features: ``(B, D)``.
        references: ``(N, D)``.
        same: Which of the references each row is itself, and is not measured against. Default: none.

    Returns:
        ``(B,)``; infinite where there is nothing to measure against.
    """
    found = []
    for first in range(0, len(features), _CHUNK):
        distances = torch.cdist(features[first : first + _CHUNK], references)
        if same is not None:
            rows = torch.arange(len(distances), device=distances.device)
            distances[rows, torch.tensor(same[first : first + _CHUNK], device=distances.device)] = torch.inf
        found.append(distances.amin(1))
    return torch.cat(found)
