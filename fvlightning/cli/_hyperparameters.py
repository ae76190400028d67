"""The model that the hyperparameters of a checkpoint describe, taken without running code that the file names."""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from fvlightning.errors import InputError
from fvlightning.io import imported_class

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_IMPORTED = re.compile(r"Callable|[Tt]ype\b")  # in the annotations of parameters whose texts are imported


def model_of_checkpoint(checkpoint: Mapping[str, Any], class_path: str, ckpt_path: str) -> dict[str, Any]:
    """Return the model that a checkpoint's hyperparameters describe, as in a config; empty if it has none.

    Args:
        checkpoint: What `read_checkpoint` returns.
        class_path: The class of the model, for checkpoints of a trainer in a script. They may have hyperparameters
            that the class does not take, which Lightning leaves out as well.
        ckpt_path: The file, for messages.

    Raises:
        InputError: A text among the hyperparameters names something to import or to call.
    """
    hyperparameters = dict(checkpoint.get("hyper_parameters", {}))
    hyperparameters.pop("_instantiator", None)
    if saved_path := hyperparameters.pop("_class_path", None):
        _check([{"class_path": saved_path, "init_args": hyperparameters}], ckpt_path)
        return {"class_path": saved_path, "dict_kwargs": hyperparameters}
    parameters = _parameters(class_path)
    names = {name for name, parameter in parameters.items() if parameter.kind not in _VARIADIC}
    # `save_hyperparameters(config)` saves the entries of the parameter `config`.
    if checkpoint.get("hparams_name") in names:
        hyperparameters = {checkpoint["hparams_name"]: hyperparameters}
    takes_others = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    others = {name: value for name, value in hyperparameters.items() if name not in names}
    model = {
        "class_path": class_path,
        "init_args": {name: value for name, value in hyperparameters.items() if name in names},
        "dict_kwargs": others if takes_others else {},
    }
    _check([model], ckpt_path)
    return model if hyperparameters else {}


def as_option(value: Any) -> str:
    """Return a hyperparameter as the text of an option.

    Raises:
        InputError: It is a tensor, or holds one.
    """
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except TypeError as error:
        raise InputError(f"a hyperparameter of the checkpoint cannot be an option: {error}; give it by hand") from error


def _check(values: Iterable[Any], ckpt_path: str, *, are_imported: bool = False) -> None:
    """Raise `InputError` for a text that would be imported, unless it names a harmless class that is imported already.

    Args:
        values: What a checkpoint gives for some parameters.
        ckpt_path: The file, for messages.
        are_imported: Whether the annotation of the parameter makes the parser import texts.
    """
    for value in values:
        text = value if isinstance(value, str) and are_imported else None
        if isinstance(value, Mapping) and "class_path" in value:
            text = value["class_path"]
        if text is not None and not (text.startswith("fvlightning.") or imported_class(text)):
            raise InputError(
                f"the checkpoint '{ckpt_path}' names {text!r}, which is not a class of layers, optimisers or schedules "
                "that the model's file imports, and is refused: importing it could run code"
            )
        if isinstance(value, Mapping) and "class_path" in value:
            parameters = _parameters(value["class_path"])
            for name, argument in {**value.get("init_args", {}), **value.get("dict_kwargs", {})}.items():
                _check([argument], ckpt_path, are_imported=_imports_texts(parameters.get(name)))
        elif isinstance(value, Mapping | list | tuple):
            inner = value.values() if isinstance(value, Mapping) else value
            _check(inner, ckpt_path, are_imported=are_imported)


def _imports_texts(parameter: inspect.Parameter | None) -> bool:
    if parameter is None:
        return False
    has_function = parameter.default is not parameter.empty and callable(parameter.default)
    return has_function or bool(_IMPORTED.search(str(parameter.annotation)))


def _parameters(class_path: str) -> Mapping[str, inspect.Parameter]:
    module, _, name = class_path.rpartition(".")
    return inspect.signature(getattr(import_module(module), name)).parameters
