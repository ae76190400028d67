"""Makes the classes that options name, so that what a constructor refuses is one line with the option."""

import functools
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import fvlightning
from fvlightning import features
from fvlightning.errors import InputError, did_you_mean, one_line
from fvlightning.features.capture import is_out_of_memory

Make = Callable[..., Any]
# What errors of torch mean that come of a user's own model.
_EXPLAINED = {
    "Cannot copy out of meta tensor": "the model has weights without values, on the device 'meta'; load its weights",
    "does not require grad and does not have a grad_fn": (
        "the loss depends on no weight that is trained; training_step must return it with its gradient, and some "
        "weights must have requires_grad"
    ),
    "got mixed torch.Tensor and DTensor": (
        "--trainer.strategy fsdp2 is for networks that run as a whole, by their forward; use ddp"
    ),
}


def refusals_named(make: Make, settings: object) -> Make:
    """Return `make`, which makes an instance of a class, with errors that name the option and the class.

    Only errors that do not say enough are changed.

    Args:
        make: Called with the class and the arguments of its constructor.
        settings: The options as nested dictionaries and lists.
    """

    @functools.wraps(make)  # jsonargparse looks at the parameters
    def made(class_type: type, *args: Any, **kwargs: Any) -> Any:
        try:
            return make(class_type, *args, **kwargs)
        except Exception as error:
            if says_enough(error):
                raise
            plain = {name: value for name, value in kwargs.items() if type(value) in (int, float, str)}
            options = [
                option
                for option, name, values in _named(settings)
                if name == class_type.__name__ and plain == {key: values.get(key, plain[key]) for key in plain}
            ]
            raise InputError(f"{' or '.join(options)} {class_type.__name__}: {_reason(error)}".lstrip()) from error

    return made


def make_by_default(class_type: type, *args: Any, **kwargs: Any) -> Any:
    """Call a class."""
    return class_type(*args, **kwargs)


def says_enough(error: Exception) -> bool:
    """Return whether the command line prints the message of an error as it is."""
    is_of_file = isinstance(error, OSError) and error.filename is not None
    return is_of_file or isinstance(error, InputError | MisconfigurationException)


def refusal(error: ValueError, settings: object) -> Exception:
    """Return the error behind the page that jsonargparse writes about the types that it has tried."""
    cause: Exception = error
    while not says_enough(cause) and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    if says_enough(cause):
        return cause
    # The cause may be another member of a union, a text say. The page has the reasons of all.
    reasons = re.findall(r"^ +- (?!Expected an? |Does not validate )(.+)$", str(error), re.MULTILINE)
    if str(cause).startswith("Expected a") and reasons:
        return InputError(reasons[-1])
    # A function, such as torchvision.models.resnet18, may have raised it: `refusals_named` gets only classes.
    called = {frame.name for frame in traceback.extract_tb(cause.__traceback__)}
    functions = [f"{option} {name}: " for option, name, _ in _named(settings) if name in called]
    return InputError("".join(functions[-1:]) + _reason(cause))


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for settings of the trainer that Lightning takes, or whose error does not say enough."""
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        if (value := settings.get(name)) is not None and value < 1:  # Lightning would divide by it
            raise InputError(f"--trainer.{name} {value}: must be at least 1")
    devices = str(settings.get("devices"))
    if devices.lstrip("-").isdigit() and int(devices) < 1 and int(devices) != -1:  # Lightning's word for all
        raise InputError(f"--trainer.devices {devices}: must be at least 1; leave it out for all devices")
    accelerator, strategy = settings.get("accelerator"), settings.get("strategy")
    found = {"gpu": torch.accelerator.is_available(), "cuda": torch.cuda.is_available()}
    if isinstance(accelerator, str) and not found.get(accelerator, True):
        raise InputError(f"--trainer.accelerator {accelerator}: torch finds no GPU here; leave it out, or give cpu")
    if "spawn" in str(strategy):
        raise InputError(f"--trainer.strategy {strategy}: cannot pass the model to a process; use ddp")
    names = ["auto", *StrategyRegistry.available_strategies()]
    if isinstance(strategy, str) and strategy not in names:
        hint = did_you_mean(strategy, names)
        raise InputError(f"--trainer.strategy {strategy}: is none of auto, ddp, fsdp2, and Lightning's others{hint}")


def late_refusal(error: Exception) -> InputError | None:
    """Return the error of a setting that torch or Lightning checks only in a run, or None for a defect."""
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.filename.startswith(_folder(features)) for frame in frames):
        return None
    if is_out_of_memory(error):
        return InputError(
            "out of memory: lower --data.batch_size, with more --trainer.accumulate_grad_batches for steps of as many "
            "images, or set --trainer.precision bf16-mixed or --model.grad_checkpointing true"
        )
    if any(frame.name == "_format_checkpoint_name" for frame in frames):
        return InputError(f"--checkpoint.filename: {_reason(error)}; give a format such as '{{epoch}}-{{step}}'")
    if frames[-1].filename.startswith(_folder(torch.optim)):
        return InputError(f"the optimizer or scheduler of the model cannot make a step: {_reason(error)}")
    # Lightning checks some settings, and the modules that it gets, only in a run; fsspec the addresses of files.
    is_theirs = frames[-1].filename.startswith(_folder(lightning)) or "-packages/fsspec/" in frames[-1].filename
    if is_theirs and (frames[-1].line or "").startswith("raise "):
        return InputError(one_line(error))
    return next((InputError(line) for text, line in _EXPLAINED.items() if text in str(error)), None)


def _named(settings: object, option: str | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each option that names a class or function, such as ``--model.optimizer``, with its name and arguments."""
    if isinstance(settings, list):
        for value in settings:
            yield from _named(value, option)
    elif isinstance(settings, dict):
        if option is not None and "class_path" in settings:
            yield option, str(settings["class_path"]).rpartition(".")[2], settings.get("init_args", {})
        for name, value in settings.items():
            inner = f"--{name}" if option is None else f"{option}.{name}"
            yield from _named(value, option if name == "init_args" else inner)


def _reason(error: Exception) -> str:
    """Return the message of an error, with its kind unless that says nothing, and the line of the user's own code."""
    kind = "" if isinstance(error, ValueError) or not str(error) else f"{type(error).__name__}: "
    frames = traceback.extract_tb(error.__traceback__)
    foreign = (_folder(fvlightning), sysconfig.get_path("stdlib"), "<")
    own = [frame for frame in frames if not frame.filename.startswith(foreign) and "-packages" not in frame.filename]
    return f"{kind}{one_line(error)}" + (f" ({own[-1].filename}:{own[-1].lineno})" if own else "")


def _folder(package: ModuleType) -> str:
    return str(Path(str(package.__file__)).parent)
