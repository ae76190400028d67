"""Attributes that users' modules may have: ``net``, ``input_shape``, ``crop_pct``, ``class_names``, ``model_name``."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, SupportsIndex

import numpy as np
from torch import Tensor, nn

from fvlightning.errors import InputError


def named_network(module: nn.Module) -> nn.Module:
    """Return the network whose module paths the units name: the module's ``net``, or the module itself."""
    net = getattr(module, "net", None)
    return net if isinstance(net, nn.Module) else module


def has_forward(module: nn.Module) -> bool:
    """Return whether a module can be called: neither `nn.Module` nor a LightningModule has a ``forward`` by itself."""
    missing = ("_forward_unimplemented", "LightningModule.forward")
    return getattr(module.forward, "__qualname__", None) not in missing


def picture_network(module: nn.Module) -> nn.Module:
    """Return what takes the pictures: the module itself, or its ``net`` if it has no ``forward``."""
    return module if has_forward(module) else named_network(module)


def model_name(module: nn.Module) -> str:
    """Return the name of a model: its ``model_name`` (``tf_efficientnet_lite0``), or the class of its network."""
    network = named_network(module)
    name = getattr(module, "model_name", None) or getattr(network, "model_name", None)
    return name if isinstance(name, str) else type(network).__name__


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Return the shape of pictures as a tuple, or raise `InputError` if it is not a list of whole numbers."""
    if not (isinstance(shape, Iterable) and all(isinstance(side, SupportsIndex) for side in shape)):
        raise InputError(f"image_shape={shape!r}: must be whole numbers, (C, H, W)")
    return tuple(shape)


def picture_shape(
    module: nn.Module, datamodule: object = None, image_shape: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return the shape ``(C, H, W)`` of a module's pictures, or raise `InputError` if no source knows it.

    The sources are `image_shape`, the module's ``input_shape``, the data's ``image_shape``, and the module's
    ``example_input_array``, in this order.
    """
    example: Any = getattr(module, "example_input_array", None)
    for shape in (
        image_shape,
        getattr(module, "input_shape", None),
        getattr(datamodule, "image_shape", None),
        example.shape[1:] if isinstance(example, Tensor) else None,
    ):
        if shape is not None:
            return checked_shape(shape)
    name = type(module).__name__
    raise InputError(
        f"the shape of {name}'s pictures is not known; give image_shape (C, H, W), or set {name}.input_shape"
    )


def read_crop_pct(module: nn.Module) -> float:
    """Return how much of the side of an image file a module is to see, its ``crop_pct``: by default 1, all of it."""
    crop_pct: float = getattr(module, "crop_pct", 1.0)
    return crop_pct


def read_class_names(source: object) -> tuple[str, ...]:
    """Return the ``class_names`` of a data module or a LightningModule; empty if that attribute is no sequence."""
    # A property may need data that are not read yet, and a missing name must not end a run.
    with suppress(Exception):
        names = getattr(source, "class_names", None)
        if isinstance(names, list | tuple | np.ndarray):
            return tuple(map(str, names))
    return ()
