"""Sizes and kinds of a network's layers, by one pass of a grey picture."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture.activation import Activation, tensor_keys
from fvlightning.features.capture.capture import Capture, device_and_dtype, find_layer, watched
from fvlightning.features.capture.diagnosis import explained
from fvlightning.features.capture.frozen import frozen
from fvlightning.features.rng import isolated_rng
from fvlightning.features.units import LayerCall
from fvlightning.protocols import named_network, picture_network


@dataclass(frozen=True)
class LayerSurvey:
    """A call of a layer, its class, the shape of its output for one picture, and the number of its units."""

    layer: LayerCall
    kind: str
    shape: tuple[int, ...]
    n_units: int


def measure_layers(
    network: nn.Module, layers: Iterable[LayerCall], image_shape: Sequence[int]
) -> dict[LayerCall, tuple[int, ...]]:
    """Run one grey picture ``(C, H, W)`` through the network and return the sizes of some layers.

    A size is the number of units and then of positions: ``(C, H, W)``, ``(C, T)`` of a sequence of tokens, or ``(C,)``.

    Raises:
        InputError: A layer is unknown or not reached, or the network cannot take a picture of that size.
    """
    capture = Capture(network, layers)
    if not capture.layers:
        return {}
    with _grey_picture(network, image_shape) as picture:
        activations = capture(picture)
    return {layer: tuple(activation.tensor.shape[1:]) for layer, activation in activations.items()}


def survey_layers(network: nn.Module, image_shape: Sequence[int]) -> list[LayerSurvey]:
    """Run one grey picture ``(C, H, W)`` through the network and describe every call of a module, in order.

    A call that gives several tensors has an entry for each: the first under the layer's name alone, each of the others
    with its key, ``attn[1]``. If the network has a ``net``, its layers are described.

    Raises:
        InputError: The network cannot take a picture of that size.
    """
    surveys: list[LayerSurvey] = []
    modules = {path: module for path, module in named_network(network).named_modules() if path}
    for layer, module, output in _calls(network, modules, image_shape):
        for key in (None, *tensor_keys(output)[1:]):
            try:
                activation = Activation.of(output, key, module, image_shape[1:])
            except InputError:
                continue  # an output without one row per picture has no units
            n_units, *positions = activation.tensor.shape[1:]
            shape = (*positions, n_units) if len(positions) == 1 else (n_units, *positions)
            surveys.append(LayerSurvey(replace(layer, output=key), type(module).__name__, shape, n_units))
    return surveys


def class_layers(network: nn.Module, layers: Iterable[LayerCall], image_shape: Sequence[int]) -> dict[LayerCall, int]:
    """Return K for those of some layers that give the network's output, ``(B, K)``: their units are classes.

    Only a layer that gives the output itself counts, not one before a softmax. If the network has a ``net``, the output
    is that of the ``net``. A network that fails on such a picture has none; its early layers may still take it.
    """
    layers = set(layers)
    if not layers:
        return {}
    with suppress(Exception):
        modules = {layer.layer: find_layer(network, layer.layer) for layer in layers}
        calls = _calls(network, modules | {"": named_network(network)}, image_shape)
        outputs = {layer: output for layer, _, output in calls}
        result = [output for layer, output in outputs.items() if not layer.layer][-1]
        if isinstance(result, Tensor) and result.ndim == 2:
            n_classes = result.shape[1]
            return {layer: n_classes for layer in layers if outputs.get(layer) is result}
    return {}


def remembers_passes(network: nn.Module, layers: Iterable[LayerCall], image_shape: Sequence[int]) -> bool:
    """Return whether the activations of a frozen network depend on the pictures that it was given before.

    A picture ``(C, H, W)`` goes through the network as it is, and again after another one, with the same random
    numbers: a running mean that is fed back into the output shows, and a mere counter does not.
    """
    device, dtype = device_and_dtype(network)
    capture = Capture(network, layers)

    def run(brightness: float) -> list[Tensor]:
        torch.manual_seed(0)
        activations = capture(torch.full((1, *image_shape), brightness, device=device, dtype=dtype))
        return [activations[layer].tensor.clone() for layer in sorted(activations, key=str)]

    with torch.no_grad():
        with frozen(network):
            first = run(0.5)
        run(1.0)
        return not all(map(torch.equal, first, run(0.5)))


def _calls(
    network: nn.Module, modules: Mapping[str, nn.Module], image_shape: Sequence[int]
) -> list[tuple[LayerCall, nn.Module, Any]]:
    """Run one grey picture through a network and return each call of some modules, the module and its output."""
    calls: list[tuple[LayerCall, nn.Module, Any]] = []
    with _grey_picture(network, image_shape) as picture, watched(modules, lambda *call: calls.append(call)):
        picture_network(network)(picture)
    return calls


@contextmanager
def _grey_picture(network: nn.Module, image_shape: Sequence[int]) -> Iterator[Tensor]:
    """Yield a batch of one grey picture, ``(1, C, H, W)``, and explain errors of the network inside the context."""
    if not image_shape or any(side < 1 for side in image_shape):
        name = type(network).__name__
        raise InputError(f"{name} cannot take a picture of shape {tuple(image_shape)}; give (C, H, W)")
    with explained(network, image_shape), isolated_rng(), frozen(network), torch.no_grad():
        device, dtype = device_and_dtype(network)
        yield torch.full((1, *image_shape), 0.5, device=device, dtype=dtype)
