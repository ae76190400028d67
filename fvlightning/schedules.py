"""A learning rate that changes from step to step, for networks and pictures alike."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from fvlightning.errors import InputError

_WARMUP = 10


class CosineWithWarmup(LRScheduler):
    """A learning rate that rises linearly, and then falls to 0 along half a cosine.

    In step t, counted from 1, it is ``t / warmup`` of the optimiser's rate up to the end of the warm-up, and
    ``(1 + cos(π · (t - warmup) / (steps - warmup + 1))) / 2`` of it after that.

    Args:
        optimizer: The optimiser.
        warmup: Number of steps in which the rate rises. Default: 10, but at most a quarter of all steps.
        steps: Number of all steps. Default: as many as the training or the maximizer makes.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(self, optimizer: Optimizer, warmup: int | None = None, steps: int | None = None) -> None:
        if warmup is not None and warmup < 0:
            raise InputError(f"CosineWithWarmup(warmup={warmup}): must be at least 0")
        if steps is not None and steps < 1:
            raise InputError(f"CosineWithWarmup(steps={steps}): must be at least 1, or None for all steps")
        self._shortens = warmup is None
        self.warmup = _WARMUP if warmup is None else warmup
        self.steps = steps
        self._shorten()
        super().__init__(optimizer)

    def spread(self, steps: int) -> None:
        """Set the number of all steps, unless it was given."""
        if self.steps is None:
            self.steps = steps
            self._shorten()
            for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
                group["lr"] = rate

    @override
    def get_lr(self) -> list[Any]:
        step = self.last_epoch + 1
        if step <= self.warmup:
            factor = step / self.warmup
        elif self.steps is None:  # `spread` has not been called yet
            factor = 1.0
        else:
            share = (step - self.warmup) / (self.steps - self.warmup + 1)
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        return [rate * factor for rate in self.base_lrs]

    def _shorten(self) -> None:
        if self._shortens and self.steps is not None:
            self.warmup = min(_WARMUP, self.steps // 4)
