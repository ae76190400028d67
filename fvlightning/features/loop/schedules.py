"""Learning rates that change from step to step."""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fvlightning.errors import InputError
from fvlightning.schedules import CosineWithWarmup

__all__ = ["CosineWithWarmup", "SchedulerCallable", "start_schedule"]

SchedulerCallable = Callable[[Optimizer], LRScheduler]


def start_schedule(scheduler: SchedulerCallable, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Make the schedule of an optimiser that is to make `steps` steps.

    Raises:
        InputError: The schedule needs a metric, or refuses its settings.
    """
    try:
        schedule = scheduler(optimizer)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"this scheduler cannot be used for pictures ({error})") from error
    if isinstance(schedule, ReduceLROnPlateau):
        raise InputError(
            "ReduceLROnPlateau would follow one score, and each picture has its own: use a schedule of the steps, "
            "such as CosineWithWarmup"
        )
    if isinstance(schedule, CosineWithWarmup):
        schedule.spread(steps)
    return schedule
