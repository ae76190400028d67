"""What a network holds, kept so that it can be put back."""

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


class State:
    """What a network holds now: attributes of its modules, entries of their containers, and values of tensors.

    Attributes include flags, counters and what a forward pass may keep. Containers are the registers of weights,
    buffers and hooks, and users' own dictionaries, lists and sets. Tensors are also found where they are no buffers: as
    attributes and in containers.

    Args:
        network: Any module.
    """

    def __init__(self, network: nn.Module) -> None:
        self._attributes = [(attributes, dict(attributes)) for attributes in map(vars, network.modules())]
        self._containers: dict[int, tuple[Any, Any, bool]] = {}
        # The modules of TorchScript have no register of tensors in Python.
        held: list[Any] = [*network.parameters(), *network.buffers()]
        for attributes, _ in self._attributes:
            held += attributes.values()
            for name, value in attributes.items():
                if isinstance(value, dict):
                    self._containers[id(value)] = value, dict(value), "_hooks" in name
                    held += value.values()
                elif isinstance(value, list | set | deque):
                    self._containers[id(value)] = value, list(value), False
                    held += value
        tensors = {id(value): value for value in held if isinstance(value, Tensor) and _has_values(value)}
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors.values()]

    def put_back(self, *, hooks: bool = True) -> None:
        """Put back whatever has changed; hooks only if asked to."""
        for attributes, before in self._attributes:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)
        for container, before, holds_hooks in self._containers.values():
            if hooks or not holds_hooks:
                container.clear()
                container.update(before) if isinstance(container, dict | set) else container.extend(before)
        if self._values:
            # A write through `data` counts no version, so graphs of the caller that have saved a tensor stay valid.
            targets = [tensor if tensor.is_inference() else tensor.data for tensor, _ in self._values]
            with torch.inference_mode():
                torch._foreach_copy_(targets, [value for _, value in self._values])


def _has_values(tensor: Tensor) -> bool:
    return not (tensor.is_meta or is_lazy(tensor))
