"""Makes the classes that options name, so that what a constructor refuses is one line with the option."""

import functools
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

import fvlightning
from fvlightning.errors import InputError, one_line

Make = Callable[..., Any]


def refusals_named(make: Make, settings: object) -> Make:
    """Return `make`, which makes an instance of a class, with errors that name the option and the class.

    An `InputError`, a `MisconfigurationException` and an error about a file say enough, and pass through.

    Args:
        make: Called with the class and the arguments of its constructor.
        settings: The options as nested dictionaries and lists.
    """

    @functools.wraps(make)  # jsonargparse looks at the parameters
    def made(class_type: type, *args: Any, **kwargs: Any) -> Any:
        try:
            return make(class_type, *args, **kwargs)
        except (InputError, MisconfigurationException):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise
            name = f"{' or '.join(_options_that_make(class_type, kwargs, settings))} {class_type.__name__}".lstrip()
            kind = "" if isinstance(error, ValueError) or not str(error) else f"{type(error).__name__}: "
            raise InputError(f"{name}: {kind}{one_line(error)}{_place(error)}") from error

    return made


def make_by_default(class_type: type, *args: Any, **kwargs: Any) -> Any:
    """Call a class."""
    return class_type(*args, **kwargs)


def _options_that_make(
    class_type: type, arguments: dict[str, Any], settings: object, option: str = "-"
) -> Iterator[str]:
    """Yield the options, such as ``--model.optimizer``, whose class path and plain values are those of a call."""
    if isinstance(settings, list):
        for value in settings:
            yield from _options_that_make(class_type, arguments, value, option)
    elif isinstance(settings, dict):
        if str(settings.get("class_path")).rpartition(".")[2] == class_type.__name__:
            values = settings.get("init_args", {})
            if all(
                values.get(name, value) == value
                for name, value in arguments.items()
                if type(value) in (int, float, str)
            ):
                yield option
        for name, value in settings.items():
            inner = option if name == "init_args" else f"{option}{'-' if option == '-' else '.'}{name}"
            yield from _options_that_make(class_type, arguments, value, inner)


def _place(error: Exception) -> str:
    """Return ``" (FILE:LINE)"``, the last line of the user's own code on the way to an error, or ``""``."""
    package = str(Path(fvlightning.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if not frame.filename.startswith((package, "<")) and "-packages" not in frame.filename
    ]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
