"""Scores of pictures, and their gradients."""

from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture import Capture, device_and_dtype, frozen
from fvlightning.features.objectives import Objective, objective_of, resolve_objectives, stack_objectives
from fvlightning.features.rng import isolated_rng
from fvlightning.features.units import Unit

Objectives = Sequence[str | Unit | Objective]


@overload
def score(
    network: nn.Module, objectives: Objectives, pictures: Tensor, *, gradients: Literal[False] = ..., paired: bool = ...
) -> Tensor: ...
@overload
def score(
    network: nn.Module, objectives: Objectives, pictures: Tensor, *, gradients: Literal[True], paired: bool = ...
) -> tuple[Tensor, Tensor]: ...
def score(
    network: nn.Module, objectives: Objectives, pictures: Tensor, *, gradients: bool = False, paired: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the scores that a network gives to pictures, and how they change with each pixel.

    The network runs in evaluation mode, all pictures at once, and is left as it was.

    Args:
        network: Any module that takes the pictures, on any device.
        objectives: U objectives, units, or text forms of a unit (``"fc2:7"``) or a sum (``"fc2:7 - 0.5*fc2:3"``).
        pictures: ``(B, C, H, W)`` in [0, 1].
        gradients: Whether to return the gradients of the scores to the pictures as well.
        paired: Whether the objectives belong to the pictures one by one, so that U = B.

    Returns:
        Scores ``(B, U)``, or ``(B,)`` if paired, float32, on the network's device. With `gradients` a pair: these, and
        the gradients ``(B, U, C, H, W)``, or ``(B, C, H, W)`` if paired.

    Raises:
        InputError: An objective does not fit the network (see `resolve_objectives`), or the numbers of pairs differ.
    """
    listed = [objectives] if isinstance(objectives, str | Unit | Objective) else objectives
    scored = [objective_of(objective) for objective in listed]
    # Checks the objectives against the network; their order and duplicates stay as given.
    resolve_objectives(network, scored, pictures.shape[1:])
    if paired and len(scored) != len(pictures):
        numbers = f"{len(scored)} objectives for {len(pictures)} pictures"
        raise InputError(f"score(paired=True): {numbers}; give one per picture")
    scored = [objective.prepared(network, pictures.shape[1:]) for objective in scored]
    device, dtype = device_and_dtype(network)
    with isolated_rng(), frozen(network), torch.set_grad_enabled(gradients):
        # A copy, because tensors of inference mode take no gradients.
        inputs = pictures.detach().to(device, dtype, copy=True).requires_grad_(gradients)
        activations = Capture(network, frozenset().union(*(objective.layers for objective in scored)))(inputs)
        scorers = [stack_objectives(scored)] if paired else scored
        columns = [scorer(activations).float() for scorer in scorers]
        scores = torch.stack(columns, dim=1).detach()
        scores = scores[:, 0] if paired else scores
        if not gradients:
            return scores
        # Each picture's score depends on its own pixels alone, so the gradient of the sum holds those of all.
        slopes = [
            torch.autograd.grad(column.sum(), inputs, retain_graph=True, materialize_grads=True)[0]
            if column.requires_grad
            else torch.zeros_like(inputs)
            for column in columns
        ]
    return scores, (slopes[0] if paired else torch.stack(slopes, dim=1)).float()
