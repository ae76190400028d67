"""The result for one unit."""

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from fvlightning.features.objectives import Objective
from fvlightning.features.units import Unit

Status = Literal["ok", "dead", "non-finite"]


@dataclass(frozen=True)
class Feature:
    """The picture that a maximizer made for one unit.

    Args:
        unit: The unit or objective that was maximised.
        repeat: Which picture of the unit this is, counted from 0.
        image: ``(C, H, W)`` in [0, 1], rounded to the 8 bits that a file holds, on the CPU. With `RawInput`, the input
            as it is.
        score: The objective on `image`, without transforms or penalties. Feed `image` to the network to get it again.
        history: ``(steps,)``, the objective on the transformed pictures of each step, before the step.
        best_step: The number of steps after which the picture was best; `image` is that picture.
        seed: The maximizer's seed. With the unit and the repeat it determines the picture.
        status: ``"ok"``; ``"dead"``: the objective was the same at every step, no gradient reached the picture;
            ``"non-finite"``: the objective or its gradient became infinite or not a number, and the picture is the best
            from before that.
        parameters: The parameters of `image`, before rounding, to go on from.
        settings: The maximizer's settings, plain values.
        importance: ``(H, W)`` in [0, 1], how strongly the score depended on each pixel (`Importance`) in the last
            round; None if the maximizer does not measure it.
        snapshots: ``(C, H, W)`` each, by the number of steps: the picture at that time, or as it was when it
            stopped before. Rounds of a multi-scale schedule have their own sizes.
    """

    unit: Unit | Objective
    repeat: int
    image: Tensor
    score: float
    history: Tensor
    best_step: int
    seed: int
    status: Status
    parameters: Tensor = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    importance: Tensor | None = field(default=None, repr=False)
    snapshots: dict[int, Tensor] = field(default_factory=dict, repr=False)

    @property
    def steps(self) -> int:
        """The number of steps that were made."""
        return len(self.history)

    @property
    def name(self) -> str:
        """The text form of the unit."""
        return str(self.unit)
