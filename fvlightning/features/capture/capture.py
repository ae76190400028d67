"""Run a network only as far as the layers that are needed, and take their activations."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError, did_you_mean
from fvlightning.features.capture.outputs import tensor_of
from fvlightning.features.units import LayerCall
from fvlightning.protocols import named_network


@dataclass(frozen=True)
class Activation:
    """What one call of a layer gave, in one layout for all kinds of layers.

    Args:
        tensor: ``(B, C, *positions)``: ``(B, C)`` of a linear layer, ``(B, C, H, W)`` of a convolution, ``(B, C, T)``
            of a sequence of tokens. In memory the channels may be last.
        prefix_tokens: How many of the T tokens, at the start, are class and register tokens and no part of the picture.
    """

    tensor: Tensor
    prefix_tokens: int = 0

    @cached_property
    def values(self) -> Tensor:
        """The same as `tensor`, contiguous in memory: objectives need not know in which order the network has it."""
        return self.tensor.contiguous()

    @classmethod
    def of(
        cls,
        output: Any,
        prefix_tokens: int = 0,
        channels_last: Callable[[Sequence[int]], bool] | None = None,
        key: str | None = None,
    ) -> Self:
        """Take a tensor of a module's output and bring its channels to the second place.

        Args:
            output: A tensor ``(B,)``, ``(B, C)``, ``(B, T, C)``, ``(B, H, W, C)`` or ``(B, C, *positions)``, or a
                tuple, list, mapping or dataclass that holds one.
            prefix_tokens: As in `Activation`; used for sequences only.
            channels_last: Tells of the three sizes behind the batch whether the channels are the last of them. Default:
                they are the first.
            key: Which part of the output is taken, as in `tensor_of`. Default: the first tensor.

        Raises:
            InputError: The output holds no such tensor, or one without a batch dimension.
        """
        values = tensor_of(output, key)
        if values.ndim == 0:
            raise InputError("what it gives, a single number, has no activations; choose one with a row a picture")
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim == 3:
            return cls(values.movedim(2, 1), prefix_tokens)
        if values.ndim == 4 and channels_last is not None and channels_last(values.shape[1:]):
            return cls(values.movedim(3, 1))
        return cls(values)

    @property
    def n_units(self) -> int:
        """The number of channels, C."""
        return self.tensor.shape[1]

    @property
    def positions(self) -> tuple[int, ...]:
        """The size of the map, ``(H, W)``, ``(T,)`` or ``()``."""
        return tuple(self.tensor.shape[2:])

    def rows(self, rows: Tensor) -> Self:
        """Return the activations of some of the pictures, by their places ``(b,)`` in the batch."""
        return type(self)(self.tensor[rows], self.prefix_tokens)


Activations = Mapping[LayerCall, Activation]


class _Reached(BaseException):
    """Leaves the forward pass once all that is wanted was seen. No `Exception`, so that networks do not catch it."""


class Capture:
    """Runs a network up to the last layer that is wanted.

    Args:
        network: Any module that takes pictures ``(B, C, H, W)``.
        layers: What to capture.

    Raises:
        InputError: A layer is not in the network.
    """

    def __init__(self, network: nn.Module, layers: Iterable[LayerCall]) -> None:
        self.network = network
        self.layers = frozenset(layers)
        self._modules = {path: find_layer(network, path) for path in sorted({layer.layer for layer in self.layers})}

    def __call__(self, pictures: Tensor) -> dict[LayerCall, Activation]:
        """Return the activations, with their graph.

        Args:
            pictures: ``(B, C, H, W)`` in [0, 1].

        Raises:
            InputError: The forward pass ended without a layer, or without that call of it.
        """
        found: dict[LayerCall, Activation] = {}
        calls = dict.fromkeys(self._modules, 0)
        problem: InputError | None = None

        def take(path: str, output: Any) -> None:
            nonlocal problem
            call = calls[path]
            calls[path] += 1
            # Several if several of its outputs are wanted.
            wanted = [layer for layer in self.layers if (layer.layer, layer.call) == (path, call)]
            if not wanted:
                return
            try:
                activations = {layer: self._activation(layer, output, pictures.shape) for layer in wanted}
            except InputError as error:
                # Raised behind the forward pass, which may catch exceptions.
                problem = error
                raise _Reached from error
            if len(found) + len(wanted) == len(self.layers):
                found.update(activations)
                raise _Reached
            # An in-place operation behind this layer (ReLU(inplace=True)) would overwrite what it gave.
            found.update({layer: replace(taken, tensor=taken.tensor.clone()) for layer, taken in activations.items()})

        handles = [
            module.register_forward_hook(lambda _module, _inputs, output, path=path: take(path, output))
            for path, module in self._modules.items()
        ]
        try:
            # A copy, into which the network may write.
            self.network(pictures.clone())
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        if problem is not None:
            raise problem
        if missing := self.layers - found.keys():
            raise InputError(self._unreached(min(missing, key=str), calls))
        return found

    def _activation(self, layer: LayerCall, output: Any, shape: Sequence[int]) -> Activation:
        channels_last = layout(self._modules[layer.layer], shape[2:])
        try:
            activation = Activation.of(output, channels_last=channels_last, key=layer.output)
        except InputError as error:
            raise InputError(f"layer {str(layer)!r}: {error}") from error
        if len(activation.tensor) != shape[0]:
            raise InputError(
                f"layer {str(layer)!r} gives {len(activation.tensor)} rows for {shape[0]} pictures (windows, perhaps); "
                "choose a layer that gives one row a picture"
            )
        if len(activation.positions) == 1:
            return replace(activation, prefix_tokens=_prefix_tokens(self.network, *activation.positions))
        return activation

    def _unreached(self, layer: LayerCall, calls: Mapping[str, int]) -> str:
        name = type(self.network).__name__
        if n_calls := calls[layer.layer]:
            return f"no call {layer.call} of layer {layer.layer!r}: {name} calls it {n_calls} times, counted from 0"
        return f"the forward pass of {name} never reaches layer {layer.layer!r}; choose a layer that it runs"


def find_layer(network: nn.Module, path: str) -> nn.Module:
    """Return the module at `path`; where `network` has a ``net`` (a LightningModule, say), a path in that will do.

    Raises:
        InputError: There is none; the message lists the layers and names the closest.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    for candidate in (path, f"net.{path}"):
        if path and candidate in modules:
            found: nn.Module = modules[candidate]
            return found
    # Of a LightningModule with a net, that is what units name; its metrics and losses are modules, too.
    named = dict(named_network(network).named_modules())
    names = [name for name, child in named.items() if name and not any(child.children())]
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    name = type(named_network(network)).__name__
    raise InputError(f"no layer {path!r} in {name}; layers: {shown}.{did_you_mean(path, filter(None, named))}")


def _prefix_tokens(network: nn.Module, n_tokens: int) -> int:
    """Return how many of `n_tokens` are class and register tokens, by timm's count of them.

    The patches' embedding comes before these tokens are added: it has as many tokens as there are patches, a number
    that timm's models tell and that is a square in others.
    """
    network = named_network(network)
    prefix = int(getattr(network, "num_prefix_tokens", 0) or 0)
    n_patches = getattr(getattr(network, "patch_embed", None), "num_patches", None)
    if n_patches is None:
        return 0 if _is_square(n_tokens) and not _is_square(n_tokens - prefix) else prefix
    return 0 if n_tokens == n_patches else prefix


def layout(module: nn.Module, picture_size: Sequence[int]) -> Callable[[Sequence[int]], bool]:
    """Return a function that tells whether a map ``(?, ?, ?)`` that `module` gave has its channels last.

    Convolutions and their kin have them first, linear layers last. Of others (a block, an activation function) the
    proportions tell, which a map has of the pictures: Swin's ``(7, 7, 768)`` of square ones has its channels last.

    Args:
        module: The module.
        picture_size: ``(H, W)`` of the pictures.
    """
    if isinstance(module, nn.Linear):
        return lambda _: True
    if type(module).__name__.lower().endswith("2d") or len(picture_size) != 2:
        return lambda _: False
    rows, columns = picture_size

    def distortion(height: int, width: int) -> float:
        return abs(math.log(height / width) - math.log(rows / columns))

    # Not by a hair: a convolution without padding changes the proportions of a small map.
    return lambda sizes: distortion(sizes[0], sizes[1]) < 0.5 * distortion(sizes[1], sizes[2])


def _is_square(number: int) -> bool:
    return number >= 0 and math.isqrt(number) ** 2 == number


def device_and_dtype(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return where the network's weights are, and the type of number that it computes with."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32
