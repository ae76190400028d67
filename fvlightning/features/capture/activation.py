"""The activations of a layer, from any output of its module, in one layout for all kinds of layers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, Self

from torch import Tensor, nn

from fvlightning.errors import InputError, did_you_mean
from fvlightning.features.units import LayerCall


@dataclass(frozen=True)
class Activation:
    """The activations of one call of a layer.

    Args:
        tensor: ``(B, C, *positions)``: ``(B, C)`` of a linear layer, ``(B, C, H, W)`` of a convolution, ``(B, C, T)``
            of a sequence of tokens. In memory the channels may be last.
        prefix_tokens: How many tokens at the start are class and register tokens, not part of the picture.
    """

    tensor: Tensor
    prefix_tokens: int = 0

    @cached_property
    def values(self) -> Tensor:
        """The `tensor`, contiguous in memory."""
        return self.tensor.contiguous()

    @classmethod
    def of(
        cls, output: Any, key: str | None = None, module: nn.Module | None = None, picture_size: Sequence[int] = ()
    ) -> Self:
        """Select one tensor from a module's output and move its channels to the second dimension.

        Args:
            output: A tensor ``(B,)``, ``(B, C)``, ``(B, T, C)``, ``(B, H, W, C)`` or ``(B, C, *positions)``, or a
                tuple, list, mapping or dataclass that holds one.
            key: Position or name of the part whose first tensor is taken. Default: the first tensor of all.
            module: The module, which decides whether a map has its channels last. Default: they are first.
            picture_size: ``(H, W)`` of the pictures; the proportions tell a map from channels.

        Raises:
            InputError: The output holds no such tensor, or one without a batch dimension.
        """
        values = tensor_of(output, key)
        if values.ndim == 0:
            raise InputError("its output, a single number, has no activations; choose a layer with one row per picture")
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim == 3 or (values.ndim == 4 and _channels_are_last(values.shape[1:], module, picture_size)):
            values = values.movedim(-1, 1)
        return cls(values)


Activations = Mapping[LayerCall, Activation]


def _channels_are_last(sizes: Sequence[int], module: nn.Module | None, picture_size: Sequence[int]) -> bool:
    """Return whether the last of a map's three sizes is its channels, rather than the first.

    For modules other than convolutions and linear layers (a block, an activation function) the proportions decide: a
    map has those of the pictures, so for square pictures Swin's ``(7, 7, 768)`` has its channels last.
    """
    if isinstance(module, nn.Linear):
        return True
    if module is None or type(module).__name__.lower().endswith("2d") or len(picture_size) != 2:
        return False

    def distortion(height: int, width: int) -> float:
        return abs(math.log(height / width) - math.log(picture_size[0] / picture_size[1]))

    # By a factor of two: a convolution without padding changes the proportions of a small map.
    return distortion(sizes[0], sizes[1]) < 0.5 * distortion(sizes[1], sizes[2])


def tensor_of(output: Any, key: str | None = None) -> Tensor:
    """Return the first tensor of a module's output, or of the part with a key.

    Raises:
        InputError: There is no part with that key, or no tensor in it.
    """
    tensor = _first_tensor(output) if key is None else _tensors(output).get(key)
    if tensor is not None:
        return tensor
    kind, keys = type(output).__name__, tensor_keys(output)
    if key is None:
        raise InputError(f"its output, {kind}, has no activations; choose a layer that gives a tensor")
    if isinstance(output, Tensor):
        raise InputError(f"no output [{key}]: its output is one tensor; leave '[{key}]' out")
    valid = ", ".join(keys) or "none"
    raise InputError(f"no tensor [{key}] in its output, {kind}; valid: {valid}{did_you_mean(key, keys)}")


def tensor_keys(output: Any) -> list[str]:
    """Return the keys of all parts that hold a tensor, in order; a single tensor has none."""
    # A part of a named tuple has a position and a name: the names alone.
    names = getattr(output, "_fields", None)
    return [key for key in _tensors(output) if names is None or key in names]


def _tensors(output: Any) -> dict[str, Tensor]:
    """Return the first tensor of each part that holds one, by position or name."""
    parts: dict[str, Any] = {}
    if isinstance(output, Mapping):
        parts = {str(key): part for key, part in output.items()}
    elif isinstance(output, tuple | list):
        parts = {str(place): part for place, part in enumerate(output)}
        parts |= zip(getattr(output, "_fields", ()), output, strict=False)
    elif is_dataclass(output):
        parts = {field.name: getattr(output, field.name) for field in fields(output)}
    return {key: tensor for key, part in parts.items() if (tensor := _first_tensor(part)) is not None}


def _first_tensor(output: Any) -> Tensor | None:
    return output if isinstance(output, Tensor) else next(iter(_tensors(output).values()), None)
