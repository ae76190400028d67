"""The base class of random transforms, their application in turn, and the random numbers that they use."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.description import Described


class Transform(Described, ABC):
    """A random transform of pictures. Each picture has its own draw.

    Attributes:
        warmup: The first share of the run, or of each round of `scales`, in which the transform grows stronger, in
            [0, 1). Scores then fall by themselves, so `patience` begins after it.
    """

    warmup: float = 0.0

    @property
    @abstractmethod
    def n_draws(self) -> int:
        """How many random numbers one picture takes; it may be a class attribute."""

    @abstractmethod
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        """Return the transformed pictures ``(B, C, H, W)``.

        Args:
            pictures: ``(B, C, H, W)`` in [0, 1].
            draws: ``(B, n_draws)``, uniform in [0, 1), each row from its picture's own generator.
        """

    def at(self, progress: float) -> Self:
        """Return the transform with the same `n_draws` for a point of the run; by default itself.

        One that grows stronger sets `warmup` as well.

        Args:
            progress: 0 at the first step, 1 at the last; with `scales`, of each round.
        """
        return self

    def shapes(self, image_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the shapes that pictures ``(C, H, W)`` have after it, at some step; by default their own alone."""
        return [image_shape]


class Draws:
    """The random numbers of a batch of pictures, each picture's from its own generator, on the pictures' device.

    They are drawn for many steps at once, so that the device gets one transfer, and does not wait, in `block` steps.

    Args:
        generators: One a picture, on the CPU.
        n_draws: How many numbers one step of one picture takes.
        device: The pictures' device.
        block: For how many steps to draw at once.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], n_draws: int, device: torch.device, block: int = 32
    ) -> None:
        self._generators = list(generators)
        self._n_draws = n_draws
        self._device = device
        self._block = block
        self._numbers = torch.empty(0, len(self._generators), n_draws)
        self._next = block

    def step(self) -> Tensor:
        """Return the next step's numbers, ``(B, n_draws)``, uniform in [0, 1)."""
        if self._next == self._block:
            shape = (self._block, self._n_draws)
            numbers = torch.stack([torch.rand(shape, generator=generator) for generator in self._generators], dim=1)
            self._numbers = numbers.to(self._device, non_blocking=True)
            self._next = 0
        self._next += 1
        return self._numbers[self._next - 1]

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all pictures except those at `rows`."""
        self._generators = [self._generators[row] for row in rows]
        self._numbers = self._numbers[:, list(rows)]


def apply_transforms(pictures: Tensor, transforms: Sequence[Transform], draws: Tensor) -> Tensor:
    """Apply transforms in turn to pictures ``(B, C, H, W)``, with draws ``(B, n)``, n the sum of their ``n_draws``."""
    draws = draws.to(pictures.dtype)
    first = 0
    for transform in transforms:
        pictures = transform(pictures, draws[:, first : first + transform.n_draws])
        first += transform.n_draws
    return pictures


def transformed_shapes(transforms: Sequence[Transform], image_shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shapes ``(C, H, W)`` that pictures of a shape have after the transforms, at some step of the run."""
    shapes = [tuple(image_shape)]
    for transform in transforms:
        shapes = [new for shape in shapes for new in transform.shapes(shape)]
    return list(dict.fromkeys(shapes))


def longest_warmup(transforms: Sequence[Transform]) -> float:
    """Return the longest `warmup` of some transforms, a share of the run in [0, 1).

    Raises:
        InputError: A transform has a warm-up outside [0, 1).
    """
    for transform in transforms:
        if not 0 <= transform.warmup < 1:
            raise InputError(f"{type(transform).__name__}(warmup={transform.warmup}): must be in [0, 1)")
    return max((transform.warmup for transform in transforms), default=0.0)


def signed(draws: Tensor) -> Tensor:
    """Return draws from [0, 1), of any shape, as numbers from [-1, 1)."""
    return 2 * draws - 1


def normal(draws: Tensor) -> Tensor:
    """Return draws from [0, 1), of any shape, as normal numbers of mean 0 and standard deviation 1, within ±4.4."""
    return math.sqrt(2) * torch.erfinv(signed(draws).clamp(-1 + 1e-5, 1 - 1e-5))


def between(draws: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return draws from [0, 1), of any shape, as numbers between two bounds."""
    low, high = bounds
    return low + (high - low) * draws


def check_bounds(class_name: str, name: str, value: float | Sequence[float]) -> tuple[float, float]:
    """Return a strength, given as a number or as a pair of the smallest and the largest, as a pair.

    Raises:
        InputError: A number is negative or not finite, or the pair is in descending order.
    """
    bounds = [value, value] if isinstance(value, int | float) else list(value)
    if not (len(bounds) == 2 and 0 <= bounds[0] <= bounds[1] and math.isfinite(bounds[1])):
        raise InputError(f"{class_name}({name}={value}): must be a number of at least 0, or smallest and largest")
    return float(bounds[0]), float(bounds[1])


def check_share(class_name: str, name: str, value: float, below: float = math.inf) -> float:
    """Return a strength; raise `InputError` if it is negative, not a number or not less than `below`."""
    if not 0 <= value < below:
        limit = f"less than {below:g}" if math.isfinite(below) else "finite"
        raise InputError(f"{class_name}({name}={value}): must be at least 0 and {limit}")
    return value
