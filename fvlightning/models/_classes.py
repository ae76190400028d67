"""The number of classes of a network, and the errors if data or outputs do not match it."""

import inspect

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from fvlightning.errors import InputError, some_of
from fvlightning.protocols import named_network, read_class_names


def count_classes(network: nn.Module) -> int | None:
    """Return a network's `num_classes`, or else the number of outputs of its last linear or 2D convolutional layer."""
    num_classes = getattr(network, "num_classes", None)
    if isinstance(num_classes, int) and num_classes > 0:
        return num_classes
    for layer in reversed(list(network.modules())):
        if isinstance(layer, nn.Linear):
            return layer.out_features
        if isinstance(layer, nn.Conv2d):
            return layer.out_channels
    return None


def check_data(
    module: nn.Module, input_shape: tuple[int, ...] | None, num_classes: int, data: object, *, may_have_fewer: bool
) -> tuple[int, ...] | None:
    """Return `input_shape`, or else that of the data; raise `InputError`, with the fix, if shape or classes differ.

    Warn of data that may have fewer classes than the network, in which case their labels are its first outputs.
    """
    image_shape, data_classes = getattr(data, "image_shape", None), getattr(data, "num_classes", None)
    data_shape = tuple(image_shape) if image_shape is not None else None
    input_shape = input_shape if input_shape is not None else data_shape
    names, own_names = read_class_names(data), read_class_names(module)
    fixes, more = [], ""
    if data_shape is not None and input_shape is not None and data_shape != input_shape:
        fixes.append(_fix_shape(data, data_shape, input_shape))
    if data_classes is not None and data_classes != num_classes:
        # Or a label would be another class's output.
        is_alike = not own_names or (names != () and names == own_names[: len(names)])
        can_take_more = data_classes < num_classes == count_classes(named_network(module)) and is_alike
        if not (can_take_more and may_have_fewer):
            fixes.append(_fix_classes(module, data_classes))
            more = f", or --model.num_classes {num_classes} for classes to come" if can_take_more else ""
    if fixes:
        raise InputError(
            f"data and model do not fit: {type(data).__name__} has images of shape {data_shape} in {data_classes} "
            f"classes, {type(module).__name__} with {type(named_network(module)).__name__} takes {input_shape} and "
            f"{num_classes} classes; give {' and '.join(fixes)}{more}, or other data (a model from a checkpoint keeps "
            "its own numbers)"
        )
    if data_classes is not None and data_classes < num_classes:
        rank_zero_warn(
            f"{type(data).__name__} has {data_classes} of the {num_classes} classes of {type(module).__name__}: the "
            f"first outputs stand for {some_of(names or range(data_classes))}, the others for none"
        )
    return input_shape


def check_outputs(module: nn.Module, num_classes: int, shape: tuple[int, ...]) -> None:
    """Raise `InputError`, with the fix, if a network's outputs are not of shape ``(B, num_classes)``."""
    if len(shape) == 2 and shape[1] == num_classes:
        return
    network = named_network(module)
    if len(shape) != 2:
        fix = "a network with one output for each class"
    elif count_classes(network) == num_classes:  # the count may be a guess
        fix = f"--model.num_classes {shape[1]}"
    else:
        fix = f"{_fix_classes(module, num_classes)}, or leave num_classes out"
    raise InputError(
        f"{type(network).__name__} gives outputs of shape {tuple(shape)}, but num_classes is {num_classes}: "
        f"({shape[0]}, {num_classes}) is needed; give {fix}"
    )


def _fix_classes(module: nn.Module, classes: int) -> str:
    network = named_network(module)
    takes_network = "network" in inspect.signature(type(module)).parameters
    if not takes_network or count_classes(network) == classes:
        return f"--model.num_classes {classes}"
    if "num_classes" in inspect.signature(type(network)).parameters:
        return f"--model.network.num_classes {classes}"
    return f"a network with {classes} outputs"


def _fix_shape(data: object, data_shape: tuple[int, ...], input_shape: tuple[int, ...]) -> str:
    if not hasattr(data, "image_size"):
        return f"a network for pictures of shape {data_shape}"
    channels, height, width = input_shape
    options = [f"--data.channels {channels}"] if data_shape[0] != channels else []
    if data_shape[1:] != (height, width):
        options.append(f"--data.image_size {height}" if height == width else f"--data.image_size '[{height}, {width}]'")
    return " ".join(options)
