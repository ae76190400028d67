"""One optimiser over the parameters of many pictures, with a state of its own for each."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fvlightning.errors import InputError
from fvlightning.schedules import CosineWithWarmup

OptimizerCallable = Callable[[Iterable[Any]], Optimizer]
SchedulerCallable = Callable[[Optimizer], LRScheduler]

# The usual ones need no trial, which takes longer than a step of a small network.
_ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
_GRAPH_CHECK = "_accelerator_graph_capture_health_check"


class PictureOptimizer:
    """The parameters of a batch of pictures, and an optimiser that treats each picture by itself.

    An optimiser that works element by element (SGD, Adam and most others) gets the batch as one parameter, which is
    fast. One whose step depends on the whole of a parameter (a norm, a factorised moment, as in Adafactor) gets one
    parameter per picture, so that pictures do not leak into each other. A trial run decides which of the two it is.

    Args:
        parameters: ``(B, ...)``, what the pictures start from.
        optimizer: Makes the optimiser of a list of parameters.
        normalize: Whether each picture's gradient is divided by the largest root mean square of its gradients so far.
        scheduler: Makes the schedule of the learning rate, which moves on after each step. None: a constant rate.
        steps: The number of steps, for schedules that need it.
        skipped: The number of steps of the schedule that are passed over before the first.

    Attributes:
        parameters: ``(B, ...)``, those of the pictures that are still in the batch; they take gradients.

    Raises:
        InputError: The optimiser cannot make a step by gradients alone (`torch.optim.LBFGS` needs a closure) or refuses
            such parameters, or the scheduler needs a metric.
    """

    def __init__(
        self,
        parameters: Tensor,
        optimizer: OptimizerCallable,
        normalize: bool = False,
        scheduler: SchedulerCallable | None = None,
        steps: int = 1,
        skipped: int = 0,
    ) -> None:
        self.parameters = parameters.detach().clone().requires_grad_()
        memory = self.parameters.detach()
        # The slots share the memory of the batch, so that nothing is copied between the optimiser and the forward pass.
        self._slots = [nn.Parameter(memory)] if _is_elementwise(optimizer) else [nn.Parameter(row) for row in memory]
        self._optimizer = optimizer(self._slots)
        if memory.device.type == "cpu" and hasattr(self._optimizer, _GRAPH_CHECK):
            # Adam asks at each step whether a GPU records its work. On the CPU the answer is of no use, and where
            # Lightning has torch ask NVML, the question takes longer than the step. Only this instance stops asking.
            setattr(self._optimizer, _GRAPH_CHECK, lambda: None)
        self._schedule = None
        if scheduler is not None:
            self._schedule = start_schedule(scheduler, self._optimizer, skipped + steps)
            with warnings.catch_warnings(action="ignore"):  # of steps of the schedule alone
                for _ in range(skipped):
                    _move_on(self._schedule)
        self._scales = torch.zeros(len(memory), device=memory.device) if normalize else None

    def step(self, gradients: Tensor, hold: Tensor | None = None) -> None:
        """Make one step of every picture.

        Args:
            gradients: ``(B, ...)``, of the loss to the parameters.
            hold: ``(B,)``, the pictures that stay as they are.
        """
        before = self.parameters.detach().clone() if hold is not None else None
        if self._scales is not None:
            norms = torch.linalg.vector_norm(gradients.flatten(1), dim=1)
            self._scales = torch.maximum(self._scales, norms / math.sqrt(gradients[0].numel()))
            gradients = gradients / self._scales.clamp(min=1e-30).reshape(-1, *[1] * (gradients.ndim - 1))
        if len(self._slots) == 1:
            # In the batch's own layout: fused optimisers go through the memory of both side by side.
            self._slots[0].grad = gradients.reshape_as(self._slots[0]).contiguous()
        else:
            for slot, gradient in zip(self._slots, gradients.unbind(), strict=True):
                slot.grad = gradient.contiguous()
        self._optimizer.step()
        if self._schedule is not None:
            _move_on(self._schedule)
        if before is not None and hold is not None:
            batch = self.parameters.detach()
            batch.copy_(torch.where(hold.reshape(-1, *[1] * (batch.ndim - 1)), before, batch))

    def keep(self, places: Sequence[int]) -> None:
        """Drop all pictures but those at `places`, with their part of the optimiser's state."""
        by_row = self._slots[0].shape != self.parameters.shape
        rows = list(places)
        self._scales = self._scales[rows] if self._scales is not None else None
        self.parameters = self.parameters.detach()[rows].requires_grad_()
        memory = self.parameters.detach()
        if by_row:
            slots = [self._slots[place] for place in rows]
            for slot in set(self._slots) - set(slots):
                self._optimizer.state.pop(slot, None)
            for slot, row in zip(slots, memory, strict=True):
                slot.data = row
            self._slots = slots
            self._optimizer.param_groups[0]["params"] = list(slots)
            return
        (slot,) = self._slots
        state = self._optimizer.state[slot]
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == slot.shape:
                state[name] = value[rows]
        slot.data = memory


def start_schedule(scheduler: SchedulerCallable, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Make the schedule of an optimiser that will make `steps` steps.

    Raises:
        InputError: The schedule needs a metric, or refuses its settings.
    """
    try:
        schedule = scheduler(optimizer)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"Maximizer(scheduler=...): cannot be used for pictures ({error})") from error
    if isinstance(schedule, ReduceLROnPlateau):
        raise InputError(
            "Maximizer(scheduler=ReduceLROnPlateau): follows one score, and each picture has its own; use a schedule "
            "of the steps, such as CosineWithWarmup"
        )
    if isinstance(schedule, CosineWithWarmup):
        schedule.spread(steps)
    return schedule


def _move_on(schedule: LRScheduler) -> None:
    try:
        schedule.step()
    except (ArithmeticError, ValueError) as error:
        raise InputError(f"Maximizer(scheduler=...): cannot make a step ({error})") from error


def _is_elementwise(optimizer: OptimizerCallable) -> bool:
    """Whether rows that are optimised in one parameter move as they do in a parameter each."""
    start, gradients = torch.linspace(-1, 1, 12).reshape(2, 2, 3), torch.linspace(3, -2, 12).reshape(2, 2, 3)
    gradients[1] *= 7
    together: list[Tensor] = [nn.Parameter(start.clone())]
    apart: list[Tensor] = [nn.Parameter(row.clone()) for row in start]
    for slots in (together, apart):
        try:
            trial = optimizer(slots)
            if type(trial) in _ELEMENTWISE:
                return True
            for _ in range(2):
                for slot, gradient in zip(slots, gradients[None] if slots is together else gradients, strict=True):
                    slot.grad = gradient.clone()
                trial.step()
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"Maximizer(optimizer=...): cannot optimise pictures by their gradients alone ({error}); use one "
                "such as torch.optim.Adam"
            ) from error
    return torch.allclose(together[0], torch.stack(apart), rtol=1e-6, atol=1e-7)
