"""Times that can be compared: taken in turns, so that what else the machine does meets all alike."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

import torch

Clock = Callable[[], float]


class Skipped(Exception):
    """Something cannot be measured here; the message says why."""


@dataclass
class Line:
    """What was measured of one contestant.

    Args:
        name: Who it is.
        values: One value for each repeat, in the case's unit.
        note: What else there is to know, as what its pictures score.
    """

    name: str
    values: list[float] = field(default_factory=list)
    note: str = ""


@dataclass
class Report:
    """What was measured in a case.

    Args:
        title: What all contestants did.
        unit: Of the values: ``"ms"``, ``"pictures / s"``.
        reference: The name of the contestant that the others are compared with.
        lines: The contestants.
        goals: What the ratio to the reference should be, by contestant, in words.
    """

    title: str
    unit: str
    reference: str
    lines: list[Line]
    goals: Mapping[str, str] = field(default_factory=dict)

    def ratios(self, line: Line) -> list[float]:
        """Return a contestant's values over those of the reference, repeat by repeat."""
        (reference,) = (other for other in self.lines if other.name == self.reference)
        if not line.values or len(line.values) != len(reference.values):
            return []
        return [value / of_reference for value, of_reference in zip(line.values, reference.values, strict=True)]

    def ratio(self, line: Line) -> float | None:
        """Return the median of `ratios`, if there are any."""
        ratios = self.ratios(line)
        return median(ratios) if ratios else None


def take_turns(contestants: Mapping[str, Callable[[], float]], repeats: int, warm_up: bool = False) -> list[Line]:
    """Let contestants measure themselves in turns, each repeat beginning with another one.

    Args:
        contestants: By name, functions that return one value. One that raises `Skipped` is left out from then on.
        repeats: How many values each gives.
        warm_up: Whether each is called once before, in vain.

    Returns:
        A line for each; one that was skipped has no values, and the reason as its note.
    """
    lines = {name: Line(name) for name in contestants}
    names = list(contestants)
    if warm_up:
        for measure in contestants.values():
            measure()
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in [*names[turn:], *names[:turn]]:
            if lines[name].note:
                continue
            try:
                lines[name].values.append(contestants[name]())
            except Skipped as reason:
                lines[name] = Line(name, note=f"skipped: {reason}")
            said = f"{lines[name].values[-1]:.4g}" if lines[name].values else lines[name].note
            print(f"  {repeat + 1}/{repeats} {name}: {said}", file=sys.stderr, flush=True)
    return list(lines.values())


def seconds_of(work: Callable[[], object], device: str = "cpu", clock: Clock = time.perf_counter) -> float:
    """Return how long something takes by a clock, with all that it has left to the device."""
    wait(device)
    started = clock()
    work()
    wait(device)
    return clock() - started


def wait(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
