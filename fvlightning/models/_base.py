"""The base of the LightningModules: optimiser, schedule, and hyperparameters that are plain values."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import lightning.pytorch as L
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fvlightning.errors import Checked, InputError
from fvlightning.schedules import CosineWithWarmup

Interval = Literal["epoch", "step"]


class BaseModule(Checked, L.LightningModule):
    """Base class of modules with an optimiser and a schedule.

    Args:
        optimizer: Makes the optimiser of given parameters.
        scheduler: Makes the learning rate's schedule of a given optimiser. Default: a constant rate.
        scheduler_interval: Whether the schedule advances after each ``epoch`` or each optimiser ``step``.
    """

    def __init__(
        self, optimizer: OptimizerCallable, scheduler: LRSchedulerCallable | None, scheduler_interval: Interval
    ) -> None:
        super().__init__()
        is_interval = scheduler_interval in ("epoch", "step")
        self._require(is_interval, "must be 'epoch' or 'step'", scheduler_interval=scheduler_interval)
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._scheduler_interval = scheduler_interval

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser of the parameters that are not frozen, and its schedule.

        A `CosineWithWarmup` without a number of steps gets that of the training, which must have an end.
        """
        optimizer = self._make_optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        if self._make_scheduler is None:
            return optimizer
        scheduler = self._make_scheduler(optimizer)
        # The name is that of LearningRateMonitor's scalar.
        settings: dict[str, Any] = {"scheduler": scheduler, "interval": self._scheduler_interval, "name": "train/lr"}
        if isinstance(scheduler, ReduceLROnPlateau):
            settings["monitor"] = getattr(scheduler, "monitor", "val/loss")
        if isinstance(scheduler, CosineWithWarmup) and scheduler.steps is None and self._trainer is not None:
            by_step = self._scheduler_interval == "step"
            length = self.trainer.estimated_stepping_batches if by_step else self.trainer.max_epochs
            if length is None or not 0 < length < math.inf:
                raise InputError("CosineWithWarmup(steps=None): must be a number in a training without max_epochs")
            scheduler.spread(int(length))
        return {"optimizer": optimizer, "lr_scheduler": settings}  # type: ignore[return-value]

    def parameter_groups(self) -> list[Any]:
        """Return what the optimiser is made of: the parameters that are not frozen, or groups of them.

        A group's ``"lr_scale"``, if it has one, multiplies its learning rate.
        """
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _save_plain_hyperparameters(self, arguments: Mapping[str, Any]) -> None:
        """Save the plain values among the ``locals()`` of `__init__`, except those that a subclass does not take.

        If Python code builds the module, objects (a network, a function that makes an optimiser) are not saved: they
        would be pickled, which `weights_only=True` refuses. `load_from_checkpoint(path, network=...)` gives them again.
        """
        # LightningCLI sets this context variable to its configuration, which is plain: it names objects by class path.
        if _given_hyperparameters.get() is not None:
            self.save_hyperparameters()
            return
        parameters = inspect.signature(type(self)).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        plain = {name: value for name, value in arguments.items() if _is_plain(value)}
        self.save_hyperparameters({name: plain[name] for name in plain if takes_any or name in parameters})


def pictures_of(batch: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the pictures ``(B, C, H, W)`` of a batch with or without labels."""
    return batch if isinstance(batch, Tensor) else batch[0]


def _is_plain(value: Any) -> bool:
    """Return whether `value` is None, a bool, a number, a text, or a list, tuple or dict of such values."""
    if type(value) is dict:
        value = [*value.keys(), *value.values()]
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
