"""Run a network only as far as the layers that are needed, and take their activations."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError, did_you_mean
from fvlightning.features.capture.activation import Activation
from fvlightning.features.capture.frozen import Precision
from fvlightning.features.units import LayerCall
from fvlightning.protocols import named_network, picture_network


class _Reached(BaseException):
    """Leaves the forward pass at the last layer needed. Not an `Exception`, so that networks do not catch it."""


class Capture:
    """Runs a network up to the last layer that is needed.

    Args:
        network: Any module that takes pictures ``(B, C, H, W)``.
        layers: What to capture.
        precision: Precision of the forward pass; pictures are cast to the dtype of the weights, and activations back.
            Default: nothing is changed or cast.

    Raises:
        InputError: A layer is not in the network.
    """

    def __init__(self, network: nn.Module, layers: Iterable[LayerCall], precision: Precision | None = None) -> None:
        self.network = network
        self.layers = frozenset(layers)
        self._precision = precision
        self._device, self._dtype = device_and_dtype(network)
        self._modules = {path: find_layer(network, path) for path in sorted({layer.layer for layer in self.layers})}

    def __call__(self, pictures: Tensor) -> dict[LayerCall, Activation]:
        """Return the activations, with their graph, for pictures ``(B, C, H, W)`` in [0, 1].

        Raises:
            InputError: The forward pass ended without a layer, or without that call of it.
        """
        if self._precision is None:
            return self._run(pictures)
        with self._precision.used(self._device):
            activations = self._run(pictures.to(self._dtype))
        for layer, activation in activations.items():
            if activation.tensor.is_floating_point():
                activations[layer] = replace(activation, tensor=activation.tensor.to(pictures.dtype))
        return activations

    def _run(self, pictures: Tensor) -> dict[LayerCall, Activation]:
        activations: dict[LayerCall, Activation] = {}
        problem: InputError | None = None

        def take(call: LayerCall, _module: nn.Module, output: Any) -> None:
            nonlocal problem
            # A call has several layers if several of its outputs are needed.
            layers = [layer for layer in self.layers if layer.is_output_of(call)]
            if not layers:
                return
            try:
                taken = {layer: self._activation(layer, output, pictures.shape) for layer in layers}
            except InputError as error:
                # Raised after the forward pass, which may catch exceptions.
                problem = error
                raise _Reached from error
            if len(activations) + len(layers) == len(self.layers):
                activations.update(taken)
                raise _Reached
            # An in-place operation behind this layer (ReLU(inplace=True)) would overwrite its output.
            activations.update({layer: replace(one, tensor=one.tensor.clone()) for layer, one in taken.items()})

        with suppress(_Reached), watched(self._modules, take) as n_calls:
            # A clone, because the network may overwrite its input.
            picture_network(self.network)(pictures.clone())
        if problem is not None:
            raise problem
        for layer in sorted(self.layers - activations.keys(), key=str):
            name, path = type(self.network).__name__, layer.layer
            if n_calls[path]:
                times = f"{name} calls it {n_calls[path]} times, counted from 0"
                raise InputError(f"no call {layer.call} of layer {path!r}: {times}")
            raise InputError(f"the forward pass of {name} never reaches layer {path!r}; choose a layer that it runs")
        return activations

    def _activation(self, layer: LayerCall, output: Any, shape: Sequence[int]) -> Activation:
        try:
            activation = Activation.of(output, layer.output, self._modules[layer.layer], shape[2:])
        except InputError as error:
            raise InputError(f"layer {str(layer)!r}: {error}") from error
        if (n_rows := len(activation.tensor)) != shape[0]:
            problem = f"layer {str(layer)!r} gives {n_rows} rows for {shape[0]} pictures (windows, perhaps)"
            raise InputError(f"{problem}; choose a layer that gives one row per picture")
        if activation.tensor.ndim == 3:
            return replace(activation, prefix_tokens=_prefix_tokens(self.network, activation.tensor.shape[2]))
        return activation


@contextmanager
def watched(
    modules: Mapping[str, nn.Module], note: Callable[[LayerCall, nn.Module, Any], None]
) -> Iterator[Counter[str]]:
    """Pass each call of some modules, the module and its output to `note`; yield the numbers of calls by path."""
    n_calls: Counter[str] = Counter()

    def hook(path: str, module: nn.Module, _inputs: Any, output: Any) -> None:
        n_calls[path] += 1
        note(LayerCall(path, n_calls[path] - 1), module, output)

    handles = [module.register_forward_hook(partial(hook, path)) for path, module in modules.items()]
    try:
        yield n_calls
    finally:
        for handle in handles:
            handle.remove()


def find_layer(network: nn.Module, path: str) -> nn.Module:
    """Return the module at `path` in `network`, or in its ``net`` if it has one (as a LightningModule does).

    Raises:
        InputError: There is no such module.
    """
    for full_path in (path, f"net.{path}") if path else ():
        if (layer := _submodule(network, full_path)) is not None:
            return layer
    # Only the net's layers: the metrics and losses of a LightningModule are modules as well.
    named = dict(named_network(network).named_modules())
    names = [name for name, child in named.items() if name and not any(child.children())]
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    name = type(named_network(network)).__name__
    raise InputError(f"no layer {path!r} in {name}; layers: {shown}{did_you_mean(path, filter(None, named))}")


def _submodule(network: nn.Module, path: str) -> nn.Module | None:
    # By the registers, because a property may have any effect, and a walk through all modules takes longer.
    layer: nn.Module | None = network
    for name in path.split("."):
        layer = layer._modules.get(name) if layer is not None else None
    return layer


def _prefix_tokens(network: nn.Module, n_tokens: int) -> int:
    """Return how many of `n_tokens` are class and register tokens, by timm's count of them.

    The patch embedding runs before these are added, with one token a patch. Models other than timm's have a square.
    """
    network = named_network(network)
    prefix = int(getattr(network, "num_prefix_tokens", 0) or 0)
    n_patches = getattr(getattr(network, "patch_embed", None), "num_patches", None)
    if n_patches is None:
        with_prefix, without = (n >= 0 and math.isqrt(n) ** 2 == n for n in (n_tokens, n_tokens - prefix))
        return 0 if with_prefix and not without else prefix
    return 0 if n_tokens == n_patches else prefix


def device_and_dtype(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and the dtype of the network's weights.

    Raises:
        InputError: The network is not a module.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"the network must be a torch.nn.Module, not {network!r}")
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32
