"""What a network makes of one picture: its output, and the response of each filter of some layers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fvlightning.features import LayerCall, isolated_rng
from fvlightning.features.capture import Activation, Capture, device_and_dtype, frozen
from fvlightning.protocols import picture_network


@dataclass(frozen=True)
class LayerResponse:
    """How the filters of a layer respond to a picture.

    Attributes:
        means: The mean activation of each filter over all positions, or patch tokens, float32 ``(C,)``.
        maps: The activations, float32 ``(C, H, W)``; None for a layer without positions, or whose positions are no grid
            over the picture.
    """

    means: Tensor
    maps: Tensor | None

    def strongest(self, count: int) -> list[int]:
        """Return the filters with the largest finite means, the largest first; equal ones in their order."""
        order = self.means.nan_to_num(-torch.inf, -torch.inf).argsort(descending=True, stable=True)
        return order[: min(count, len(order) - len(self.not_finite))].tolist()

    @property
    def not_finite(self) -> list[int]:
        """The filters whose means are not finite."""
        return (~self.means.isfinite()).nonzero().flatten().tolist()


def inspect_picture(
    network: nn.Module, layers: Iterable[LayerCall], picture: Tensor
) -> tuple[Tensor | None, dict[LayerCall, LayerResponse]]:
    """Run a picture through a network in evaluation mode, and leave the network as it was.

    Args:
        network: Any module that takes pictures.
        layers: The layers whose responses are returned.
        picture: ``(C, H, W)`` in [0, 1].

    Returns:
        On the CPU, the output, float32 ``(K,)``, or None unless it is a tensor ``(1, K)``; and the responses by layer.

    Raises:
        InputError: A layer is unknown or not reached.
    """
    device, dtype = device_and_dtype(network)
    with isolated_rng(), frozen(network), torch.no_grad():
        pictures = picture[None].to(device, dtype)
        output = picture_network(network)(pictures.clone())  # which the network may overwrite
        activations = Capture(network, layers)(pictures)
    logits = output[0].float().cpu() if isinstance(output, Tensor) and output.ndim == 2 else None
    return logits, {layer: _response(activation, picture.shape[1:]) for layer, activation in activations.items()}


def _response(activation: Activation, picture_size: Sequence[int]) -> LayerResponse:
    values = activation.values[0].float().cpu()
    if values.ndim == 1:
        return LayerResponse(values, None)
    maps = values if values.ndim == 3 else None
    if values.ndim == 2:
        values = values[:, activation.prefix_tokens :]
        height, width = _grid(values.shape[1], picture_size)
        maps = values.reshape(-1, height, width) if height * width == values.shape[1] else None
    return LayerResponse(values.flatten(1).mean(1), maps)


def _grid(n_tokens: int, picture_size: Sequence[int]) -> tuple[int, int]:
    """Return the rows and columns of a grid of about `n_tokens` with the proportions of a picture ``(H, W)``."""
    aspect = picture_size[0] / picture_size[1]
    return round(math.sqrt(n_tokens * aspect)), round(math.sqrt(n_tokens / aspect))
