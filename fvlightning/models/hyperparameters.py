"""Hyperparameters as plain values, so that checkpoints can be read without running code."""

import inspect
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters


def is_plain(value: object) -> bool:
    """Return whether `value` is None, a bool, a number, a text, or a list, tuple or dict of such."""
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(is_plain, value))
    if isinstance(value, dict):
        return type(value) is dict and all(is_plain(part) for pair in value.items() for part in pair)
    return value is None or type(value) in (bool, int, float, str)


def save_plain_hyperparameters(module: L.LightningModule, arguments: Mapping[str, Any]) -> None:
    """Save a module's arguments for its checkpoints, as far as they are plain values.

    A module that LightningCLI builds keeps its part of the configuration, which is plain and names every object by its
    class path: `load_from_checkpoint(path)` builds the same again. A module that Python code builds keeps those of
    `arguments` that are plain; objects (a network, a function that makes an optimiser) are left out, since pickled in a
    checkpoint they would be refused by `weights_only=True`, and are to be given again:
    `load_from_checkpoint(path, network=...)`.

    Args:
        module: The module, in its `__init__`.
        arguments: The arguments of its `__init__` by name. Those that a subclass does not take are left out.
    """
    # `save_hyperparameters` cannot tell the two cases apart when it is told what to ignore: it would drop the
    # configuration's plain entry for the network along with the object. The context variable is how the CLI tells it.
    if _given_hyperparameters.get() is not None:
        module.save_hyperparameters()
        return
    parameters = inspect.signature(type(module)).parameters
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    plain = {name: value for name, value in arguments.items() if is_plain(value) and (passes_on or name in parameters)}
    if plain:
        module.save_hyperparameters(plain)
