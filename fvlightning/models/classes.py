"""How many classes a network tells apart, and what to do where the data have others."""

import inspect

from torch import nn

from fvlightning.errors import InputError


def count_classes(network: nn.Module) -> int | None:
    """Return a network's number of classes: its `num_classes`, or else the outputs of its last layer with weights.

    The last layer is the last linear or two-dimensional convolutional one in the order in which the network has them.

    Returns:
        The number, or None if it has neither.
    """
    own = getattr(network, "num_classes", None)
    if isinstance(own, int) and own > 0:
        return own
    for layer in reversed(list(network.modules())):
        if isinstance(layer, nn.Linear):
            return layer.out_features
        if isinstance(layer, nn.Conv2d):
            return layer.out_channels
    return None


def misfit(
    module: nn.Module,
    network: nn.Module,
    takes: tuple[tuple[int, ...] | None, int],
    data: object,
    has: tuple[tuple[int, ...] | None, int | None],
) -> InputError:
    """Return the error that tells how data and a model do not fit, with the options that make them.

    Args:
        module: The LightningModule.
        network: Its network.
        takes: Shape of a picture, `(C, H, W)`, and number of classes of the model.
        data: The data module.
        has: Shape of a picture and number of classes of the data, each None where they are not known.
    """
    fixes = []
    if has[0] is not None and takes[0] is not None and has[0] != takes[0]:
        fixes.append(_fix_shape(data, has[0], takes[0]))
    if has[1] is not None and has[1] != takes[1]:
        fixes.append(_fix_classes(module, network, has[1]))
    return InputError(
        f"data and model do not fit: {type(data).__name__} has images of shape {has[0]} in {has[1]} classes, "
        f"{type(module).__name__} with {type(network).__name__} takes {takes[0]} and {takes[1]} classes; give "
        f"{' and '.join(fixes)}, or other data (a model from a checkpoint keeps its own numbers)"
    )


def wrong_outputs(module: nn.Module, network: nn.Module, classes: int, shape: tuple[int, ...]) -> InputError:
    """Return the error that tells that a network gives no logits of as many classes as its LightningModule has.

    Args:
        module: The LightningModule.
        network: Its network.
        classes: How many classes it has.
        shape: Shape of the network's outputs; `(B, classes)` is needed.
    """
    if len(shape) != 2:
        fix = "a network that gives one number a class"
    elif count_classes(network) == classes:  # which may be a guess
        fix = f"--model.num_classes {shape[1]}"
    else:
        fix = f"{_fix_classes(module, network, classes)}, or leave num_classes out"
    return InputError(
        f"{type(network).__name__} gives outputs of shape {tuple(shape)}, but num_classes is {classes}: "
        f"({shape[0]}, {classes}) is needed; give {fix}"
    )


def _fix_classes(module: nn.Module, network: nn.Module, classes: int) -> str:
    makes_its_network = "network" not in inspect.signature(type(module)).parameters
    if makes_its_network or count_classes(network) == classes:
        return f"--model.num_classes {classes}"
    if "num_classes" in inspect.signature(type(network)).parameters:
        return f"--model.network.num_classes {classes}"
    return f"a network with {classes} outputs"


def _fix_shape(data: object, has: tuple[int, ...], takes: tuple[int, ...]) -> str:
    channels, height, width = takes
    if not hasattr(data, "image_size"):
        return f"a network for pictures of shape {has}"
    options = []
    if has[0] != channels:
        options.append(f"--data.channels {channels}")
    if has[1:] != takes[1:]:
        options.append(f"--data.image_size {height}" if height == width else f"--data.image_size '[{height}, {width}]'")
    return " ".join(options)
