"""Cases in which all contestants make so many steps of the same pictures: what does a step cost?"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from benchmarks.limits import bare, floor, fvlightning
from benchmarks.measure import Clock, Report, seconds_of, take_turns
from benchmarks.peers import PEERS
from benchmarks.work import Work, mnist_work, resnet_work
from fvlightning import Maximizer

OURS = "fvlightning"


@dataclass(frozen=True)
class Options:
    """What a user of the benchmark chooses.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        repeats: How often everything is measured.
        steps: Number of steps; None for that of each case.
        peers: Whether other packages are measured, too.
        data_dir: Folder that has MNIST/raw; None for the digits of the extra ``samples``.
        clock: Returns seconds: `time.perf_counter`, or `time.process_time`, which leaves out what others compute.
    """

    device: str = "cpu"
    repeats: int = 3
    steps: int | None = None
    peers: bool = True
    data_dir: str | None = None
    clock: Clock = time.perf_counter


def layer3(options: Options) -> Report:
    """resnet18, layer3: eight channels at 224 pixels."""
    work = resnet_work("resnet18", "layer3", 8, options.steps or 64, options.device)
    goals = {"torch-lucent": ">= 3.2", "dreamlens": ">= 1.75", "floor": f">= {1 / 1.15:.2f}"}
    return _contest("resnet18 layer3, 224 px, 8 channels", work, options, goals)


def layer1(options: Options) -> Report:
    """resnet18, layer1: eight channels at 224 pixels."""
    work = resnet_work("resnet18", "layer1", 8, options.steps or 64, options.device)
    return _contest(
        "resnet18 layer1, 224 px, 8 channels", work, options, {"torch-lucent": ">= 4.5", "dreamlens": ">= 2.9"}
    )


def mnist(options: Options) -> Report:
    """MnistCNN, conv2: ten channels at 28 pixels."""
    work = mnist_work(options.steps or 128, options.device)
    return _contest("MnistCNN conv2, 28 px, 10 channels", work, options, {"torch-lucent": ">= 15"})


def resnet50(options: Options) -> Report:
    """resnet50, layer3: all 1,024 channels at 224 pixels, this project in bfloat16; for a GPU."""
    work = resnet_work("resnet50", "layer3", 1024, options.steps or 256, options.device)
    ours = replace(work, network=resnet_work("resnet50", "layer3", 1, 1, options.device).network.to(torch.bfloat16))
    # The peers are measured on one batch, of as many pictures as this project takes at once.
    batch = work.first(64, min(work.steps, 32))
    contestants = {OURS: _timed(ours, _making(fvlightning))}
    for name in ("torch-lucent", "torch-lucent, batch") if options.peers else ():
        contestants[name] = _timed(PEERS[name].share(batch), _making(PEERS[name].make))
    contestants |= {
        "floor, bfloat16": _timed(batch, partial(floor, dtype=torch.bfloat16)),
        "floor": _timed(batch, floor),
    }
    lines = take_turns(contestants, options.repeats)
    goals = {"torch-lucent": ">= 30", "floor, bfloat16": ">= 0.80"}
    title = f"resnet50 layer3, 224 px, {len(work.indices):,} channels in bfloat16, {work.steps} steps"
    return Report(title, "ms a step and picture", OURS, lines, goals)


def batch_sizes(options: Options) -> Report:
    """Units a second against the number of pictures at once."""
    work = resnet_work("resnet18", "layer3", 64, options.steps or 8, options.device)
    fvlightning(work.first(8, 2))  # the costs of a first call are left out
    contestants = {}
    for size in (1, 2, 4, 8, 16, 32, 64):
        part = work.first(max(8, size), work.steps)
        contestants[f"{size} at once"] = _rate(part, size, options.clock)
    lines = take_turns(contestants, options.repeats)
    return Report(
        "resnet18 layer3, 224 px, fvlightning: units a second, of 256 steps each", "units / s", "1 at once", lines
    )


def _contest(title: str, work: Work, options: Options, goals: Mapping[str, str]) -> Report:
    """Let this project, its peers and the limits do the same work, and score their pictures."""
    made: dict[str, Tensor] = {}
    contestants = {OURS: _timed(work, _making(fvlightning, made, OURS), options.clock)}
    for name, peer in PEERS.items() if options.peers else ():
        contestants[name] = _timed(peer.share(work), _making(peer.make, made, name), options.clock)
    contestants |= {"bare": _timed(work, bare, options.clock), "floor": _timed(work, floor, options.clock)}
    lines = take_turns(contestants, options.repeats)
    for line in lines:
        if line.name in made:
            pictures = made[line.name]
            done = work.first(len(pictures), work.steps)
            line.note = _worth(done.starting_score(), mean(done.scores(pictures).tolist()))
    return Report(f"{title}, {work.steps} steps", "ms a step and picture", OURS, lines, goals)


def _worth(start: float, reached: float) -> str:
    text = f"clean activation {start:.3g} -> {reached:.3g}"
    return text if math.isfinite(reached) and reached > start else f"{text}: DOES NOT EXCITE ITS CHANNELS"


def _making(
    make: Callable[[Work], Tensor], made: dict[str, Tensor] | None = None, name: str = ""
) -> Callable[[Work], Callable[[], None]]:
    """Return a function that prepares the making of pictures: the last ones are kept in `made`."""

    def prepare(work: Work) -> Callable[[], None]:
        def run() -> None:
            pictures = make(work)
            if made is not None:
                made[name] = pictures.detach().cpu()

        return run

    return prepare


def _timed(
    work: Work, prepare: Callable[[Work], Callable[[], None]], clock: Clock = time.perf_counter
) -> Callable[[], float]:
    """Return a function that takes the time of all steps, and returns milliseconds for one of one picture."""
    prepared: list[Callable[[], None]] = []

    def milliseconds() -> float:
        if not prepared:
            # The costs of a first call (imports, memory, plans of the device) belong to no step.
            prepare(replace(work, steps=2))()
            prepared.append(prepare(work))
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - peers draw from it
        return 1000 * seconds_of(prepared[0], work.device.type, clock) / work.picture_steps

    return milliseconds


def _rate(work: Work, size: int, clock: Clock) -> Callable[[], float]:
    def units_a_second() -> float:
        maximizer = Maximizer(steps=work.steps, batch_size=size)
        seconds = seconds_of(partial(maximizer.maximize, work.network, work.units, work.shape), work.device.type, clock)
        return len(work.indices) * work.steps / 256 / seconds

    return units_a_second
