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
        unit: What was maximised.
        repeat: Which picture of the unit this is, counted from 0.
        image: ``(C, H, W)`` in [0, 1], rounded to the 8 bits that a file of it holds, on the CPU. Of a `RawInput`: the
            input as it is.
        score: What the objective is on `image`, without views or penalties: feed it to the network to have it again.
        history: ``(steps,)``, the objective on the views of each step that was made, before the step.
        best_step: The number of steps after which the picture was best; `image` is the picture of then.
        seed: The maximizer's seed. With the unit and the repeat it determines the picture.
        status: ``"ok"``; ``"dead"``: the objective was the same at every step, no gradient reached the picture;
            ``"non-finite"``: the objective or its gradient became infinite or not a number, and the picture is the best
            from before that.
        parameters: The parameters of `image`, before rounding, to go on from.
        settings: The maximizer's settings, plain values.
        importance: ``(H, W)`` in [0, 1], how much the unit has asked of each pixel (`Importance`), if the maximizer was
            asked for it; of a multi-scale schedule, in the last round. None otherwise.
        snapshots: ``(C, H, W)`` each, the picture as it was after so many steps, for the steps that the maximizer was
            asked for and that were made. Of a picture that had stopped: what it stopped at. Those of the rounds of a
            multi-scale schedule have the rounds' sizes.
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
