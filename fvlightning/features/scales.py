"""Pictures that grow: rounds of optimisation, each at a size of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fvlightning.errors import InputError


@dataclass(frozen=True)
class Scale:
    """One round of a multi-scale schedule.

    Large shapes are found while the picture is small, where they take few steps, and details are added to them as it
    grows (the octaves of DeepDream; https://github.com/fg91/visualizing-cnn-feature-maps goes from 56 to 408 pixels).

    Args:
        side: Length of the picture's shorter side, in pixels. The longer one keeps the proportions.
        steps: How many steps the round has.
        blur: Standard deviation of a Gaussian blur of the picture that the round takes over, in pixels of the round's
            own size. It removes what only the smaller size was good for. 0 is none.

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
        """Refuse what is out of range."""
        for name, value in {"side": self.side, "steps": self.steps}.items():
            if value < 1:
                raise InputError(f"Scale({name}={value}): must be at least 1")
        if not 0 <= self.blur < math.inf:
            raise InputError(f"Scale(blur={self.blur}): a standard deviation in pixels, at least 0 and finite")

    @classmethod
    def geometric(cls, first: int, factor: float, rounds: int, steps: int, blur: float = 0.0) -> tuple[Self, ...]:
        """Return rounds whose sides are each `factor` times the one before, rounded down.

        Args:
            first: The side of the first round.
            factor: By how much each is larger than the one before; less than 1 shrinks.
            rounds: How many there are.
            steps: How many steps each has.
            blur: As in `Scale`, of all rounds but the first, which takes over no picture.

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
    """What one round of a picture is.

    Args:
        image_shape: ``(C, H, W)``.
        steps: How many steps it has at most.
        first_step: How many steps all rounds before it have.
        blur: As in `Scale`.
    """

    image_shape: tuple[int, ...]
    steps: int
    first_step: int = 0
    blur: float = 0.0

    @property
    def last_step(self) -> int:
        """How many steps this round and all before it have."""
        return self.first_step + self.steps


def plan_rounds(scales: Sequence[Scale], image_shape: Sequence[int], steps: int) -> list[Round]:
    """Return the rounds that a picture goes through.

    Args:
        scales: The schedule. Empty: there is one round, of `image_shape` as it is.
        image_shape: ``(C, H, W)``: the number of channels, and the proportions.
        steps: How many steps there are in all. If the schedule has another number, they are spread over its rounds in
            proportion, rounds that get none are left out, and the last one always is there.

    Raises:
        InputError: There is a schedule for inputs that are no pictures.
    """
    if not scales:
        return [Round(tuple(image_shape), steps)]
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise InputError(f"inputs of shape {tuple(image_shape)} are no pictures (C, H, W): leave out scales")
    total, before = sum(scale.steps for scale in scales), 0
    rounds: list[Round] = []
    for scale in scales:
        before += scale.steps
        first = rounds[-1].last_step if rounds else 0
        if (own := before * steps // total - first) > 0:
            rounds.append(Round(_shape_of(scale, image_shape), own, first, scale.blur))
    return rounds


def _shape_of(scale: Scale, image_shape: Sequence[int]) -> tuple[int, ...]:
    channels, height, width = image_shape
    shorter = min(height, width)
    return channels, round(height * scale.side / shorter), round(width * scale.side / shorter)
