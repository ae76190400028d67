"""What pictures do to units: their activations, clean and over random views."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fvlightning.features.capture.capture import Capture, device_and_dtype
from fvlightning.features.capture.isolation import frozen, isolated_rng, picture_generator
from fvlightning.features.objectives import Objective, stack_objectives
from fvlightning.features.transforms import RandomResizedCrop, apply_transforms

# Crops of half of the area or more. No flips: a unit may be one for a direction.
_VIEWS = [RandomResizedCrop(side=(0.5**0.5, 1.0))]
N_VIEWS = 16


def all_activations(network: nn.Module, objectives: Sequence[Objective], pictures: Tensor) -> Tensor:
    """Return what each picture does to each objective.

    Args:
        network: Any module that takes the pictures, on any device.
        objectives: The objectives.
        pictures: ``(B, C, H, W)`` in [0, 1].

    Returns:
        ``(B, len(objectives))``, where the network is.
    """
    with isolated_rng(), frozen(network), torch.no_grad():
        activations = _capture(network, objectives)(_for(network, pictures))
        return torch.stack([objective(activations) for objective in objectives], dim=1).float()


def own_activations(network: nn.Module, objectives: Sequence[Objective], pictures: Tensor) -> Tensor:
    """Return what each picture does to its own objective.

    Args:
        network: Any module that takes the pictures, on any device.
        objectives: One a picture.
        pictures: ``(B, C, H, W)`` in [0, 1].

    Returns:
        ``(B,)``, where the network is.
    """
    with isolated_rng(), frozen(network), torch.no_grad():
        activations = _capture(network, objectives)(_for(network, pictures))
        return stack_objectives(objectives)(activations).float()


def robust_activations(
    network: nn.Module, objectives: Sequence[Objective], pictures: Tensor, n_views: int = N_VIEWS
) -> Tensor:
    """Return the mean of what random views of each picture do to its own objective.

    A view is a crop of half to all of the area, enlarged to the picture's size. Each picture has its own, the same for
    one objective whatever shares its batch.

    Args:
        network: Any module that takes the pictures, on any device.
        objectives: One a picture.
        pictures: ``(B, C, H, W)`` in [0, 1].
        n_views: How many views of each.

    Returns:
        ``(B,)``, where the network is.
    """
    n_draws = sum(view.n_draws for view in _VIEWS)
    generators = [picture_generator(0, f"views of {objective}", 0) for objective in objectives]
    draws = torch.stack([torch.rand(n_views, n_draws, generator=generator) for generator in generators], dim=1)
    pictures = pictures.to(device_and_dtype(network)[0])
    views = (apply_transforms(pictures, _VIEWS, of_view.to(pictures)) for of_view in draws)
    return torch.stack([own_activations(network, objectives, view) for view in views]).mean(0)


def _capture(network: nn.Module, objectives: Sequence[Objective]) -> Capture:
    return Capture(network, frozenset().union(*(objective.layers for objective in objectives)))


def _for(network: nn.Module, pictures: Tensor) -> Tensor:
    device, dtype = device_and_dtype(network)
    return pictures.to(device, dtype)
