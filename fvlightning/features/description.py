"""Settings as plain values, for records and to tell one from another."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fvlightning.features.loop.optimizer import OptimizerCallable
from fvlightning.features.loop.schedules import SchedulerCallable, start_schedule

_PLAIN = (bool, int, float, str, tuple, list)


def describe(setting: object) -> dict[str, Any]:
    """Return the class of an object that holds settings only, and the settings."""
    values: Mapping[str, Any] = vars(setting)
    return {"class": type(setting).__name__, **values}


def describe_optimizer(
    optimizer: OptimizerCallable, scheduler: SchedulerCallable | None, steps: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what an optimiser is and its settings, and the same of its schedule, if there is one.

    Args:
        optimizer: Makes the optimiser of a list of parameters.
        scheduler: Makes the schedule of the optimiser.
        steps: How many steps there are, for schedules that want to know.
    """
    made = optimizer([nn.Parameter(torch.zeros(1))])
    defaults = {key: value for key, value in made.defaults.items() if isinstance(value, _PLAIN)}
    described = {"class": type(made).__name__, **defaults}
    return described, None if scheduler is None else _describe_schedule(scheduler, made, steps)


def _describe_schedule(scheduler: SchedulerCallable, optimizer: Optimizer, steps: int) -> dict[str, Any]:
    schedule = start_schedule(scheduler, optimizer, steps)
    hidden = {"base_lrs", "last_epoch"}
    own = {
        key: value
        for key, value in vars(schedule).items()
        if isinstance(value, _PLAIN) and not key.startswith("_") and key not in hidden
    }
    return {"class": type(schedule).__name__, **own}
