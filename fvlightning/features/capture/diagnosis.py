"""What the errors of a network mean, each in one line with its fix."""

import inspect
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fvlightning.errors import InputError, one_line
from fvlightning.protocols import has_forward, picture_network

# Messages of allocators that have no exception class: those of the CPU, MPS and cuDNN.
_OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator|not enough memory|out of memory|CUDNN_STATUS_ALLOC_FAILED", re.IGNORECASE
)
_ALLOCATION = re.compile(r"tried to allocate (\d+(?:\.\d+)? \w+)", re.IGNORECASE)


@contextmanager
def explained(network: nn.Module, image_shape: Sequence[int]) -> Iterator[None]:
    """Explain the errors of a network that gets a picture ``(C, H, W)`` inside the context.

    Raises:
        InputError: The network cannot take the picture, or its weights have no values yet.
    """
    _require_weights(network)
    _require_forward(network)
    try:
        yield
    except InputError:
        raise
    except (AttributeError, ArithmeticError, KeyError) as error:  # a fault in a user's own forward
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {one_line(error)} ({place.filename}:{place.lineno})"
        name = type(picture_network(network)).__name__
        raise InputError(f"{name} fails on a picture of shape {tuple(image_shape)}: {reason}") from error
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, image_shape) from error
        raise InputError(_explanation(picture_network(network), image_shape, error)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of a device or of the CPU did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def out_of_memory(error: BaseException, image_shape: Sequence[int]) -> InputError:
    """Return the error to raise where the memory does not suffice for a single picture ``(C, H, W)``."""
    allocation = _ALLOCATION.search(str(error))
    size = f" (the last allocation was {allocation[1]})" if allocation else ""
    return InputError(
        f"out of memory with one picture of shape {tuple(image_shape)}{size}; give a smaller image_shape, a layer "
        "nearer to the input, or a device with more memory"
    )


def quantized_layers(network: nn.Module) -> list[str]:
    """Return the paths of the layers that compute in whole numbers, which have no gradients."""
    classes = {path: type(module).__module__ for path, module in network.named_modules()}
    return [path for path, module in classes.items() if module.startswith("torch.") and ".quantized" in module]


def _require_weights(network: nn.Module) -> None:
    name = type(network).__name__
    for path, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            raise InputError(f"{name} does not know the size of {path!r} yet; run a batch through it once")
        if tensor.is_meta:
            raise InputError(f"{name} has no values for {path!r}, which is on the device 'meta'; load its weights")


def _require_forward(network: nn.Module) -> None:
    if has_forward(picture_network(network)):
        return
    name = type(network).__name__
    candidates = [path for path, child in network.named_children() if has_forward(child) and [*child.parameters()]]
    if not candidates:
        raise InputError(f"{name} has no forward that takes pictures; define it, or name the network 'net'")
    raise InputError(
        f"{name} has no forward that takes pictures; name its network 'net' instead of "
        f"{' or '.join(map(repr, candidates))}, define forward, or give the network itself, module.{candidates[0]}"
    )


def _explanation(network: nn.Module, image_shape: Sequence[int], error: Exception) -> str:
    name = type(network).__name__
    if isinstance(network, torch.jit.ScriptModule):
        return f"{name} is a TorchScript module, whose layers cannot be watched; give the module that it was made from"
    if isinstance(error, TypeError) and len(inputs := _required_inputs(network)) > 1:
        return (
            f"{name} takes {len(inputs)} inputs ({', '.join(inputs)}), but gets one, the picture; wrap it in a module "
            "whose forward takes the picture alone and adds the others"
        )
    refusal = f"{name} cannot take a picture of shape {tuple(image_shape)}: {one_line(error)}"
    if layers := quantized_layers(network):
        return f"{refusal}; its layer {layers[0]!r} is quantised: use the network as it was before"
    return f"{refusal}; give the image_shape (C, H, W) that the network was made for"


def _required_inputs(network: nn.Module) -> list[str]:
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):  # a compiled forward has no signature
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in variable]
