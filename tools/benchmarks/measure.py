"""Times that can be compared: taken in turns, so that other load on the machine affects all alike."""

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
    """The measurements of one contestant.

    Args:
        name: Name of the contestant.
        values: One value for each repeat, in the case's unit.
        note: A remark, for example the score of its pictures.
    """

    name: str
    values: list[float] = field(default_factory=list)
    note: str = ""


@dataclass
class Report:
    """The measurements of a case.

    Args:
        title: The work of all contestants.
        unit: Unit of the values: ``"ms"``, ``"pictures / s"``.
        reference: The name of the contestant that the others are compared with.
        lines: The contestants.
        goals: The desired ratio to the reference, by contestant, in words.
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
        warm_up: Whether each is called once before, unmeasured.

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
            shown = f"{lines[name].values[-1]:.4g}" if lines[name].values else lines[name].note
            print(f"  {repeat + 1}/{repeats} {name}: {shown}", file=sys.stderr, flush=True)
    return list(lines.values())


def seconds_of(work: Callable[[], object], device: str = "cpu", clock: Clock = time.perf_counter) -> float:
    """Return the seconds that some work takes by a clock, including its work on the device."""
    wait(device)
    started = clock()
    work()
    wait(device)
    return clock() - started


def wait(device: str) -> None:
    """Wait until the device has finished its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
