"""What a network holds, kept so that it can be put back."""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

# Subclasses may refuse writes.
_MAPPINGS = (dict, OrderedDict, defaultdict)
_SEQUENCES = (list, set, deque)


class State:
    """What a network holds now: attributes of its modules, entries of their containers, and values of tensors.

    Attributes include flags, counters and what a forward pass may keep. Containers are the registers of weights,
    buffers and hooks, and users' own dictionaries, lists and sets. Tensors are also found where they are no buffers: as
    attributes and in containers. What lies deeper, in tuples, nested containers or other objects, is not put back.

    Args:
        network: Any module.
        copies_weights: Whether weights are copied like other tensors. They are many, and few networks write them in a
            forward pass: `saved_weights` copies those that a pass is about to write.
    """

    def __init__(self, network: nn.Module, copies_weights: bool) -> None:
        self._attributes = [(attributes, dict(attributes)) for attributes in map(vars, network.modules())]
        self._containers: dict[int, tuple[Any, Any, bool]] = {}
        # The modules of TorchScript have no register of tensors in Python.
        held: list[Any] = [*network.parameters(), *network.buffers()]
        for attributes, _ in self._attributes:
            held += attributes.values()
            for name, value in attributes.items():
                if type(value) in _MAPPINGS:
                    self._containers[id(value)] = value, dict(value), "_hooks" in name
                    held += value.values()
                elif type(value) in _SEQUENCES:
                    self._containers[id(value)] = value, list(value), False
                    held += value
        tensors = {id(value): value for value in held if isinstance(value, Tensor) and _has_values(value)}.values()
        # A weight may get other memory (`weight.data = ...`): this is what it had.
        self._weights = [(tensor, tensor.data) for tensor in tensors if isinstance(tensor, nn.Parameter)]
        copied = [tensor for tensor in tensors if copies_weights or not isinstance(tensor, nn.Parameter)]
        self._values = [(tensor, tensor.detach().clone()) for tensor in copied]
        self.writes_weights = copies_weights

    def saved_weights(self) -> TorchDispatchMode:
        """Return a context in which a weight is copied before it is written; `writes_weights` then says so."""
        return _SavedWeights(self)

    def save_weights(self, storage: int) -> None:
        """Copy the weights in the memory at an address, which is about to be written."""
        for weight, data in self._weights:
            if data.untyped_storage().data_ptr() == storage and all(weight is not saved for saved, _ in self._values):
                self._values.append((weight, data.clone()))
                self.writes_weights = True

    def put_back(self, *, hooks: bool = True) -> None:
        """Put back whatever has changed; hooks only if asked to."""
        for attributes, before in self._attributes:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)
        for container, contents, holds_hooks in self._containers.values():
            if hooks or not holds_hooks:
                container.clear()
                container.extend(contents) if isinstance(container, list | deque) else container.update(contents)
        for weight, data in self._weights:
            if weight.data_ptr() != data.data_ptr():
                weight.data = data
        for tensor, value in self._values:
            if not _is_same(tensor, value):
                # A write through `data` counts no version, so graphs of the caller that have saved the tensor stay
                # valid.
                with torch.inference_mode():
                    (tensor if tensor.is_inference() else tensor.data).copy_(value)


class _SavedWeights(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, state: State) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._state = state

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for place, argument in enumerate(func._schema.arguments):
                value = kwargs.get(argument.name, args[place] if place < len(args) else None)
                if argument.alias_info is not None and argument.alias_info.is_write:
                    for tensor in value if isinstance(value, list | tuple) else [value]:
                        if isinstance(tensor, Tensor):
                            self._state.save_weights(tensor.untyped_storage().data_ptr())
        return func(*args, **kwargs)


def _has_values(tensor: Tensor) -> bool:
    return not (tensor.is_meta or is_lazy(tensor))


def _is_same(tensor: Tensor, value: Tensor) -> bool:
    return tensor.layout == torch.strided and torch.equal(tensor, value)
