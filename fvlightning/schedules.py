"""Learning rates that change from step to step, for the training of networks and of pictures alike."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from fvlightning.errors import InputError

_WARMUP = 10


class CosineWithWarmup(LRScheduler):
    """A learning rate that rises in a line, and then falls to 0 along half a cosine.

    In step t, counted from 1, it is ``t / warmup`` of the optimiser's own up to the end of the warm-up, and
    ``(1 + cos(π · (t - warmup) / (steps - warmup + 1))) / 2`` of it after that.

    Args:
        optimizer: Whose learning rate it is.
        warmup: How many steps the rate rises. Default: 10, but at most a quarter of all steps.
        steps: How many steps there are in all. Default: as many as the training, or the maximizer, makes.

    Raises:
        InputError: `warmup` is negative, or `steps` is not positive.
    """

    def __init__(self, optimizer: Optimizer, warmup: int | None = None, steps: int | None = None) -> None:
        if warmup is not None and warmup < 0:
            raise InputError(f"CosineWithWarmup(warmup={warmup}): must be at least 0")
        if steps is not None and steps < 1:
            raise InputError(f"CosineWithWarmup(steps={steps}): must be at least 1, or None for all that are made")
        self._shortens = warmup is None
        self.warmup = _WARMUP if warmup is None else warmup
        self.steps = steps
        self._shorten()
        super().__init__(optimizer)

    def spread(self, steps: int) -> None:
        """Take `steps` as their number, if none was given."""
        if self.steps is None:
            self.steps = steps
            self._shorten()
            for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
                group["lr"] = rate

    @override
    def get_lr(self) -> list[Any]:
        return [rate * self._factor(self.last_epoch + 1) for rate in self.base_lrs]

    def _shorten(self) -> None:
        if self._shortens and self.steps is not None:
            self.warmup = min(_WARMUP, self.steps // 4)

    def _factor(self, step: int) -> float:
        if step <= self.warmup:
            return step / self.warmup
        if self.steps is None:  # asked before the first step of a schedule without warm-up
            return 1.0
        left = self.steps - self.warmup + 1
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup) / left)))
