"""How much the channels of a network's layers matter to a score."""

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.features.capture import Activation, Capture, find_layer, frozen, tensor_of, watched
from fvlightning.features.objectives.base import Objective
from fvlightning.features.rng import isolated_rng
from fvlightning.features.units import LayerCall


def channel_relevance(
    network: nn.Module, layers: Collection[LayerCall], objective: Objective, pictures: Tensor
) -> dict[LayerCall, Tensor]:
    """Return the relevance of each channel of some layers, ``(B, C)``, at least 0, to the scores of pictures.

    It is the largest product of activation and gradient over the positions of a channel (Shrikumar et al. 2016,
    https://arxiv.org/abs/1605.01713). Layers that do not feed into the score are left out.

    Args:
        network: Any module that takes pictures.
        layers: The layers.
        objective: The score.
        pictures: ``(B, C, H, W)`` in [0, 1], on the device of the network.
    """
    relevance: dict[LayerCall, Tensor] = {}
    size = pictures.shape[2:]

    def note(call: LayerCall, module: nn.Module, output: Any) -> None:
        for layer in (layer for layer in layers if layer.is_output_of(call)):
            tensor = tensor_of(output, layer.output)
            if tensor.requires_grad:
                # Now: an operation in place may follow, behind which both would be those of its result.
                values = Activation.of(tensor.detach().clone(), None, module, size).tensor
                tensor.register_hook(partial(add, layer, module, values))  # type: ignore[no-untyped-call]

    def add(layer: LayerCall, module: nn.Module, values: Tensor, gradient: Tensor) -> None:
        products = values * Activation.of(gradient, None, module, size).tensor
        relevance[layer] = products.reshape(*products.shape[:2], -1).amax(2).clamp(min=0)

    modules = {layer.layer: find_layer(network, layer.layer) for layer in layers}
    with isolated_rng(), frozen(network), watched(modules, note):
        pictures = pictures.detach().requires_grad_()
        scores = objective(Capture(network, objective.layers)(pictures))
        if scores.requires_grad:
            torch.autograd.grad(scores.sum(), pictures, allow_unused=True)
    return relevance
