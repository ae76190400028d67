"""Pictures that grow: rounds of optimisation at different sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fvlightning.errors import InputError


@dataclass(frozen=True)
class Scale:
    """One round of a multi-scale schedule.

    Large shapes form in few steps while the picture is small; details follow as it grows (the octaves of DeepDream;
    https://github.com/fg91/visualizing-cnn-feature-maps goes from 56 to 408 pixels).

    Args:
        side: The picture's shorter side, in pixels. The longer one keeps the proportions.
        steps: Number of steps.
        blur: Standard deviation, in pixels of this round, of a Gaussian blur of the picture that it takes over.

    Raises:
        InputError: `side` or `steps` is less than 1, or `blur` is negative or not finite.

    Example:
        >>> Scale.geometric(first=56, factor=1.2, rounds=3, steps=20, blur=1.4)
        (Scale(side=56, steps=20, blur=0.0), Scale(side=67, steps=20, blur=1.4), Scale(side=80, steps=20, blur=1.4))
    """

    side: int
    steps: int
    blur: float = 0.0

    def __post_init__(self) -> None:
        for name in ("side", "steps"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"Scale({name}={value}): must be at least 1")
        if not 0 <= self.blur < math.inf:
            raise InputError(f"Scale(blur={self.blur}): must be at least 0 and finite")

    @classmethod
    def geometric(cls, first: int, factor: float, rounds: int, steps: int, blur: float = 0.0) -> tuple[Self, ...]:
        """Return `rounds` rounds of `steps` steps, each side `factor` times the one before, rounded down.

        The first round takes over no picture and has no blur.

        Raises:
            InputError: `rounds` is less than 1, `factor` is not positive and finite, or a side is less than 1.
        """
        if rounds < 1:
            raise InputError(f"Scale.geometric(rounds={rounds}): must be at least 1")
        if not 0 < factor < math.inf:
            raise InputError(f"Scale.geometric(factor={factor}): must be greater than 0 and finite")
        scales = [cls(first, steps)]
        while len(scales) < rounds:
            scales.append(cls(int(scales[-1].side * factor), steps, blur))
        return tuple(scales)


@dataclass(frozen=True)
class Round:
    """A round at one size, ``(C, H, W)``.

    Args:
        image_shape: The size.
        steps: Number of steps.
        first_step: The number of steps of all rounds before it.
        blur: See `Scale`.
        skipped: The number of steps that a warm start saves: schedule and transforms begin as they are after these.
    """

    image_shape: tuple[int, ...]
    steps: int
    first_step: int = 0
    blur: float = 0.0
    skipped: int = 0

    @property
    def last_step(self) -> int:
        """The number of steps of this round and all before it."""
        return self.first_step + self.steps


def plan_rounds(scales: Sequence[Scale], image_shape: Sequence[int], steps: int) -> list[Round]:
    """Return the rounds of a picture of shape ``(C, H, W)``, which is one round without a schedule.

    The rounds share `steps` in proportion to their own; those that get none are left out, but never the last.

    Raises:
        InputError: There is a schedule for inputs that are not pictures.
    """
    if not scales:
        return [Round(tuple(image_shape), steps)]
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise InputError(f"inputs of shape {tuple(image_shape)} are not pictures (C, H, W); leave out scales")
    channels, height, width = image_shape
    total, before = sum(scale.steps for scale in scales), 0
    rounds: list[Round] = []
    for scale in scales:
        before += scale.steps
        first = rounds[-1].last_step if rounds else 0
        if (n_steps := before * steps // total - first) > 0:
            size = (round(side * scale.side / min(height, width)) for side in (height, width))
            rounds.append(Round((channels, *size), n_steps, first, scale.blur))
    return rounds
