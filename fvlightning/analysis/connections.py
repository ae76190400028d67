"""What feeds what in a network: its branches, and the weights that tie units of one layer to those of the next."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.features import LayerCall, isolated_rng
from fvlightning.features.capture import device_and_dtype, find_layer, frozen
from fvlightning.protocols import named_network, picture_network

# Operations after which unit i is still unit i, by the names of their nodes in the autograd graph.
# fmt: off
_UNITWISE = frozenset((
    "Relu", "LeakyRelu", "Prelu", "RreluWithNoise", "Elu", "Gelu", "Silu", "Mish", "Celu", "Sigmoid", "Tanh",
    "Softplus", "Hardtanh", "Hardswish", "Hardsigmoid", "Threshold", "Clamp", "ClampMin", "ClampMax", "NativeBatchNorm",
    "CudnnBatchNorm", "NativeGroupNorm", "NativeLayerNorm", "NativeDropout", "MaxPool2DWithIndices", "MaxPool1D",
    "AvgPool1D", "AvgPool2D", "AdaptiveAvgPool2D", "AdaptiveMaxPool2D", "MkldnnAdaptiveAvgPool2D", "Mean", "View",
    "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Clone", "Add", "Mul", "Div", "ConstantPadNd",
))
# fmt: on
_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


class Connections:
    """Which calls of modules take the outputs of which others, by the autograd graph of one grey picture.

    A module without parts is one call; one with parts counts only if it ends in an operation of its own, for example
    the sum of a residual block. A network whose pictures take no gradient has no known connections.

    Args:
        network: Any module that takes pictures.
        image_shape: ``(C, H, W)`` of the pictures.

    Attributes:
        sources: The calls whose outputs a call takes, in the order of the calls; none for the first.
        feeds: For each linear layer and convolution, those whose units it takes one by one: between them are only
            activation functions, norms, pooling, sums and the like.
    """

    def __init__(self, network: nn.Module, image_shape: Sequence[int]) -> None:
        self.sources: dict[LayerCall, list[LayerCall]] = {}
        self.feeds: dict[LayerCall, list[LayerCall]] = {}
        self._network = network
        self._n_calls: Counter[str] = Counter()
        self._inputs: dict[LayerCall, list[LayerCall]] = {}
        # The nodes are kept, or Python would make new objects for them.
        self._owners: dict[Any, LayerCall] = {}
        self._weighted: dict[Any, LayerCall] = {}
        device, dtype = device_and_dtype(network)
        # Hooks that are added inside go with everything else that has changed.
        with suppress(RuntimeError), isolated_rng(), frozen(network):
            for path, module in named_network(network).named_modules():
                if path:
                    module.register_forward_pre_hook(partial(self._before, path), with_kwargs=True)
                    module.register_forward_hook(partial(self._after, path))
            picture = torch.full((1, *image_shape), 0.5, device=device, dtype=dtype, requires_grad=True)
            picture_network(network)(picture.clone())  # which, unlike a leaf, may be changed in place
        self._owners.clear()
        self._weighted.clear()

    def _before(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if any(module.children()):
            return
        # Now: an operation in place may change the inputs.
        nodes = [node for tensor in _tensors((args, kwargs)) if (node := tensor.grad_fn) is not None]
        call = LayerCall(path, self._n_calls[path])
        self._inputs[call] = _reached(nodes, self._owners)
        if isinstance(module, nn.Linear | _Convolution):
            self.feeds[call] = _reached(nodes, self._weighted, _UNITWISE)

    def _after(self, path: str, module: nn.Module, _args: Any, output: Any) -> None:
        call = LayerCall(path, self._n_calls[path])
        self._n_calls[path] += 1
        nodes = [node for tensor in _tensors(output) if (node := tensor.grad_fn) is not None]
        if call not in self._inputs:
            nodes = [node for node in nodes if node not in self._owners]
            if not nodes:
                return  # its output is that of one of its parts
            self._inputs[call] = _reached(nodes, self._owners)
        self.sources[call] = self._inputs.pop(call)
        self._owners |= dict.fromkeys(nodes, call)
        if call in self.feeds:
            self._weighted |= dict.fromkeys(nodes, call)

    def ties(self, before: LayerCall, after: LayerCall) -> Tensor | None:
        """Return the weights from each unit of a layer to each of another that it feeds, ``(after, before)``.

        Of several weights, those of a kernel, it is their norm, with a minus if their sum is below 0. None if the
        weights do not belong to the units one by one.
        """
        first, second = (find_layer(self._network, call.layer) for call in (before, after))
        weight = second.weight
        if not isinstance(weight, Tensor) or not isinstance(first.weight, Tensor):
            return None  # quantized
        n_before = len(first.weight)
        weight = weight.detach().float().cpu()
        if isinstance(second, nn.Linear):
            # A map that is flattened has the positions of a channel one after the other, tokens have not.
            if second.in_features % n_before or (isinstance(first, nn.Linear) and second.in_features != n_before):
                return None
            kernels = weight.reshape(len(weight), n_before, -1)
        else:
            kernels = weight.flatten(2)
        norms, sums = kernels.norm(dim=2), kernels.sum(2)
        signed = torch.where(sums < 0, -norms, norms)
        if isinstance(second, _Convolution) and second.groups > 1:
            blocks = torch.zeros(second.groups, len(signed) // second.groups, second.groups, signed.shape[1])
            groups = torch.arange(second.groups)
            blocks[groups, :, groups] = signed.reshape(second.groups, -1, signed.shape[1])
            signed = blocks.reshape(len(signed), -1)
        return signed if signed.shape[1] == n_before else None


def _reached(
    nodes: Sequence[Any], ends: Mapping[Any, LayerCall], passes: frozenset[str] | None = None
) -> list[LayerCall]:
    """Return the ends that are reached back from some nodes of the graph, through all or only through some kinds."""
    found: dict[LayerCall, None] = {}
    seen = set(nodes)
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node in ends:
            found[ends[node]] = None
        elif passes is None or node.name().partition("Backward")[0] in passes:
            earlier = {previous for previous, _ in node.next_functions if previous is not None} - seen
            seen |= earlier
            waiting.extend(earlier)
    return sorted(found, key=list(dict.fromkeys(ends.values())).index)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)
