"""Which tensor is taken of what a module gives."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from fvlightning.errors import InputError, did_you_mean


def tensor_of(output: Any, key: str | None = None) -> Tensor:
    """Return one tensor of a module's output.

    Args:
        output: A tensor, or a tuple, list, mapping or dataclass that holds some, at any depth.
        key: Position in a tuple or list, or name in a mapping, dataclass or named tuple, of the part whose first tensor
            is taken. None takes the first of all.

    Raises:
        InputError: There is no part of that key, or no tensor in it.
    """
    if key is None:
        tensor = _first_tensor(output)
        if tensor is None:
            raise InputError(f"what it gives, {type(output).__name__}, has no activations; choose one with a tensor")
        return tensor
    if isinstance(output, Tensor):
        raise InputError(f"no output [{key}]: it gives one tensor; leave '[{key}]' out")
    tensor = _first_tensor(_parts(output).get(key))
    if tensor is None:
        keys = tensor_keys(output)
        raise InputError(
            f"no tensor [{key}] in what it gives, {type(output).__name__}; "
            f"valid: {', '.join(keys) or 'none'}.{did_you_mean(key, keys)}"
        )
    return tensor


def tensor_keys(output: Any) -> list[str]:
    """Return the keys by which `tensor_of` gets a tensor, in order; of a single tensor there are none."""
    parts = _parts(output)
    # Of a named tuple, whose parts have a position and a name, the names.
    names: tuple[str, ...] = getattr(output, "_fields", ()) if isinstance(output, tuple) else ()
    return [key for key, part in parts.items() if _first_tensor(part) is not None and (not names or key in names)]


def _parts(output: Any) -> dict[str, Any]:
    if isinstance(output, Mapping):
        return {str(key): part for key, part in output.items()}
    if isinstance(output, tuple | list):
        parts = {str(place): part for place, part in enumerate(output)}
        return parts | dict(zip(getattr(output, "_fields", ()), output, strict=False))
    if is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    return {}


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    return next((tensor for part in _parts(output).values() if (tensor := _first_tensor(part)) is not None), None)
