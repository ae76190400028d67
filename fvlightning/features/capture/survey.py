"""A survey of a network's layers: what `visualize --list_layers` prints."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features.capture.capture import Activation, find_layer, layout
from fvlightning.features.capture.layers import grey_picture, measuring
from fvlightning.features.capture.outputs import tensor_keys
from fvlightning.features.objectives import Objective
from fvlightning.features.units import LayerCall, Unit
from fvlightning.protocols import named_network


@dataclass(frozen=True)
class LayerSurvey:
    """What a layer gives for one picture.

    Args:
        layer: The call of the module.
        kind: The module's class.
        shape: The shape of its output without the batch, in the layer's own order.
        n_units: How many units it has.
    """

    layer: LayerCall
    kind: str
    shape: tuple[int, ...]
    n_units: int


def survey_layers(network: nn.Module, image_shape: Sequence[int]) -> list[LayerSurvey]:
    """Run one grey picture through the network and describe every call of a module in it, in the order of their ends.

    Of a call that gives several tensors each has an entry: the first, which a unit means that names no output, by the
    layer's name alone, and the others by theirs.

    Args:
        network: Any module that takes pictures; of one with a ``net``, the layers of that.
        image_shape: ``(C, H, W)`` of the pictures that the network takes.

    Raises:
        InputError: The network cannot take a picture of that size.
    """
    found: list[LayerSurvey] = []
    calls: dict[str, int] = {}

    def note(path: str, module: nn.Module, _inputs: Any, output: Any) -> None:
        call = calls.get(path, 0)
        calls[path] = call + 1
        for key in (None, *tensor_keys(output)[1:]):
            try:
                activation = Activation.of(output, channels_last=layout(module, image_shape[1:]), key=key)
            except InputError:
                continue  # without a tensor that has a row a picture there are no units
            n_units, positions = activation.n_units, activation.positions
            shape = (*positions, n_units) if len(positions) == 1 else (n_units, *positions)
            found.append(LayerSurvey(LayerCall(path, call, key), type(module).__name__, shape, n_units))

    modules = {path: module for path, module in named_network(network).named_modules() if path}
    _watch(network, modules, note, image_shape)
    return found


def output_layers(
    network: nn.Module, layers: Collection[LayerCall], image_shape: Sequence[int]
) -> dict[LayerCall, int]:
    """Return those of some layers that give the network's output, ``(B, K)``, each with K.

    What such a layer gives is the output itself: a layer before a softmax does not count, nor does another one of K
    units. Of a network whose output is no tensor of two dimensions there is none.

    Args:
        network: As in `survey_layers`, whose output is that of its ``net``, if it has one.
        layers: Calls of modules that the network has.
        image_shape: ``(C, H, W)`` of the pictures that the network takes.

    Raises:
        InputError: The network cannot take a picture of that size.
    """
    outputs: dict[LayerCall, Any] = {}
    calls: Counter[str] = Counter()

    def note(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs[LayerCall(path, calls[path])] = output
        calls[path] += 1

    watched = {layer.layer: find_layer(network, layer.layer) for layer in layers} | {"": named_network(network)}
    _watch(network, watched, note, image_shape)
    result = outputs.get(LayerCall("", calls[""] - 1))
    if not isinstance(result, Tensor) or result.ndim != 2:
        return {}
    n_classes = result.shape[1]
    return {layer: n_classes for layer in layers if outputs.get(layer) is result}


def class_layers(
    network: nn.Module, units: Iterable[Unit | Objective], image_shape: Sequence[int]
) -> dict[LayerCall, int]:
    """Return the layers whose units are classes, as of `output_layers`, among those of units with an index.

    There are none if the network cannot take a picture of that size: early layers take some that those behind them fail
    at in any way, and what is known of classes is not worth a run.
    """
    layers = {unit.layer_call for unit in units if isinstance(unit, Unit) and unit.index is not None}
    if not layers:
        return {}
    with suppress(Exception):
        return output_layers(network, layers, image_shape)
    return {}


def _watch(
    network: nn.Module,
    modules: Mapping[str, nn.Module],
    note: Callable[[str, nn.Module, Any, Any], None],
    image_shape: Sequence[int],
) -> None:
    """Run one grey picture through a network, and have each call of some modules noted, in the order of their ends.

    Args:
        network: Any module that takes pictures.
        modules: Those that are watched, by their paths.
        note: Gets the path, the module, what it was given and what it gives.
        image_shape: ``(C, H, W)`` of the picture.
    """
    handles = [module.register_forward_hook(partial(note, path)) for path, module in modules.items()]
    try:
        with measuring(network, image_shape):
            network(grey_picture(network, image_shape))
    finally:
        for handle in handles:
            handle.remove()
