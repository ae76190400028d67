"""How large the layers of a network are."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture.capture import Capture, device_and_dtype
from fvlightning.features.capture.isolation import frozen, isolated_rng
from fvlightning.features.units import LayerCall


@dataclass(frozen=True)
class LayerSize:
    """The size of what one call of a layer gives for one picture.

    Args:
        n_units: Channels of a convolution, features of a linear layer or a token.
        positions: ``(H, W)`` of a map, ``(T,)`` of a sequence, ``()`` of a linear layer.
    """

    n_units: int
    positions: tuple[int, ...]


def measure_layers(
    network: nn.Module, layers: Iterable[LayerCall], image_shape: Sequence[int]
) -> dict[LayerCall, LayerSize]:
    """Run one grey picture through the network and return the sizes of the layers.

    Args:
        network: Any module that takes pictures.
        layers: The layers to measure.
        image_shape: ``(C, H, W)`` of the pictures that the network takes.

    Raises:
        InputError: A layer is unknown or not reached, or the network cannot take a picture of that size.
    """
    capture = Capture(network, layers)
    if not capture.layers:
        return {}
    with measuring(network, image_shape):
        activations = capture(grey_picture(network, image_shape))
    return {layer: LayerSize(found.n_units, found.positions) for layer, found in activations.items()}


def grey_picture(network: nn.Module, image_shape: Sequence[int]) -> Tensor:
    """Return a batch of one grey picture, ``(1, C, H, W)``, where the network is and of its type of number.

    Raises:
        InputError: A side is less than 1.
    """
    if not image_shape or any(side < 1 for side in image_shape):
        raise InputError(
            f"{type(network).__name__} cannot take a picture of shape {tuple(image_shape)}; give (C, H, W)"
        )
    device, dtype = device_and_dtype(network)
    return torch.full((1, *image_shape), 0.5, device=device, dtype=dtype)


@contextmanager
def measuring(network: nn.Module, image_shape: Sequence[int]) -> Iterator[None]:
    """Run the network for sizes alone, and say so where it cannot take pictures of this shape.

    Raises:
        InputError: The network cannot take them.
    """
    with isolated_rng(), frozen(network), torch.no_grad():
        try:
            yield
        except InputError:
            raise
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(
                f"{type(network).__name__} cannot take a picture of shape {tuple(image_shape)}: {reason}; "
                "give the image_shape (C, H, W) that the network was made for"
            ) from error
