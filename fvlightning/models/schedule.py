"""The optimiser of a module and the schedule of its learning rate, from the functions that make them."""

import math
from typing import Any, Literal

import lightning.pytorch as L
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fvlightning.errors import InputError
from fvlightning.schedules import CosineWithWarmup

Interval = Literal["epoch", "step"]


def check_interval(interval: str) -> Interval:
    """Return the interval, if it is one.

    Raises:
        InputError: It is neither ``epoch`` nor ``step``.
    """
    if interval == "epoch":
        return "epoch"
    if interval == "step":
        return "step"
    raise InputError(f"scheduler_interval must be 'epoch' or 'step', got {interval!r}.")


def configure(
    module: L.LightningModule,
    make_optimizer: OptimizerCallable,
    make_scheduler: LRSchedulerCallable | None,
    interval: Interval,
) -> OptimizerLRScheduler:
    """Return what `LightningModule.configure_optimizers` returns.

    A `CosineWithWarmup` without a number of steps of its own gets that of the training.

    Args:
        module: The module; the optimiser gets those of its parameters that are not frozen.
        make_optimizer: Makes the optimiser of given parameters.
        make_scheduler: Makes the schedule of a given optimiser; None for a constant rate.
        interval: Whether the schedule goes on after each epoch or after each optimiser step.

    Raises:
        InputError: The schedule needs to know where the training ends, and it has no end.
    """
    optimizer = make_optimizer([parameter for parameter in module.parameters() if parameter.requires_grad])
    if make_scheduler is None:
        return optimizer
    scheduler = make_scheduler(optimizer)
    settings: dict[str, Any] = {"scheduler": scheduler, "interval": interval}
    if isinstance(scheduler, ReduceLROnPlateau):
        settings["monitor"] = getattr(scheduler, "monitor", "val/loss")
    if isinstance(scheduler, CosineWithWarmup) and scheduler.steps is None and module._trainer is not None:
        scheduler.spread(_length(module, interval))
    return {"optimizer": optimizer, "lr_scheduler": settings}  # type: ignore[return-value]


def _length(module: L.LightningModule, interval: Interval) -> int:
    """Return the number of optimiser steps or epochs of the training."""
    steps = module.trainer.estimated_stepping_batches if interval == "step" else module.trainer.max_epochs
    if steps is None or not 0 < steps < math.inf:
        raise InputError("CosineWithWarmup falls to 0 at the end of the training: give max_epochs, or its steps.")
    return int(steps)
