"""What a view is, and how views are applied in turn."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from fvlightning.errors import InputError


class Transform(ABC):
    """A random transformation. Each picture has its own draw.

    Attributes:
        n_draws: How many random numbers one view of one picture takes.
        warmup: In which first part of the run, or of each round of `scales`, the view grows stronger, in [0, 1). Scores
            then fall by themselves: `patience` begins behind it.
    """

    warmup: float = 0.0

    @property
    @abstractmethod
    def n_draws(self) -> int:
        """How many random numbers one view of one picture takes; a class attribute will do."""

    @abstractmethod
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        """Return one view of each picture.

        Args:
            pictures: ``(B, C, H, W)`` in [0, 1].
            draws: ``(B, n_draws)``, uniform in [0, 1), each row from its picture's own generator.
        """

    def at(self, progress: float) -> "Transform":
        """Return the view for a part of the run, by default itself: one that changes over the steps overrides this.

        One that grows stronger tells by `warmup` how long.

        Args:
            progress: 0 at the first step, 1 at the last; of several rounds, in each.

        Returns:
            A view with the same `n_draws`.
        """
        return self


def apply_transforms(pictures: Tensor, views: Sequence[Transform], draws: Tensor) -> Tensor:
    """Apply all `views` in turn.

    Args:
        pictures: ``(B, C, H, W)``.
        views: The transformations.
        draws: ``(B, n)``, with n the sum of the views' ``n_draws``.
    """
    draws = draws.to(pictures.dtype)
    first = 0
    for view in views:
        pictures = view(pictures, draws[:, first : first + view.n_draws])
        first += view.n_draws
    return pictures


def longest_warmup(views: Sequence[Transform]) -> float:
    """Return in which first part of the run any of the views grows stronger, in [0, 1).

    Raises:
        InputError: A view says something else.
    """
    for view in views:
        if not 0 <= view.warmup < 1:
            raise InputError(f"{type(view).__name__}.warmup={view.warmup}: a part of the run, at least 0, less than 1")
    return max((view.warmup for view in views), default=0.0)


def normal(draws: Tensor) -> Tensor:
    """Return draws from [0, 1), of any shape, as normal numbers of mean 0 and standard deviation 1, within ±4.4."""
    return math.sqrt(2) * torch.erfinv(amounts(draws).clamp(-1 + 1e-5, 1 - 1e-5))


def amounts(draws: Tensor) -> Tensor:
    """Return draws ``(B, n)`` from [0, 1) as numbers from [-1, 1), ``(B, n)``."""
    return 2 * draws - 1


def between(draws: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return draws from [0, 1), of any shape, as numbers between two bounds."""
    low, high = bounds
    return low + (high - low) * draws


def bounds_of(view: str, name: str, value: float | Sequence[float]) -> tuple[float, float]:
    """Return a setting, which is a number or a pair of the smallest and the largest, as such a pair.

    Args:
        view: The class that has the setting, for the message.
        name: The setting's name, for the message.
        value: What was given.

    Raises:
        InputError: A number is negative or not finite, or the pair is no pair, or runs backwards.
    """
    low, high = (value, value) if isinstance(value, int | float) else _pair(view, name, value)
    if not (0 <= low <= high and math.isfinite(high)):
        raise InputError(f"{view}({name}={value}): a number of at least 0, or the smallest and the largest such number")
    return float(low), float(high)


def check_share(view: str, name: str, value: float, below: float = math.inf) -> float:
    """Return a strength.

    Args:
        view: The class that has the setting, for the message.
        name: The setting's name, for the message.
        value: What was given.
        below: What it must be less than.

    Raises:
        InputError: It is negative, not a number or too large.
    """
    if not 0 <= value < below:
        limit = f" and less than {below:g}" if math.isfinite(below) else " and finite"
        raise InputError(f"{view}({name}={value}): must be at least 0{limit}")
    return value


def _pair(view: str, name: str, value: Sequence[float]) -> tuple[float, float]:
    if len(value) != 2:
        raise InputError(f"{view}({name}={value}): a number, or the smallest and the largest number")
    return value[0], value[1]
