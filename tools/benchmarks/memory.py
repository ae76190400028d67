"""The case that needs processes of its own: peak memory."""

import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import Report, take_turns
from benchmarks.steps import Options
from benchmarks.work import resnet_work
from fvlightning import Maximizer


def peak_memory(options: Options) -> Report:
    """Peak memory against the number of units, eight at once: of the process, or on the GPU."""
    counts = (8, 16, 32, 64)
    contestants = {f"{count} units": partial(_in_new_process, options.device, count) for count in counts}
    lines = take_turns(contestants, options.repeats)
    goals = {f"{count} units": "1.0" for count in counts[1:]}
    return Report("resnet18 layer1, 224 px, 8 at once: peak memory", "MB", "8 units", lines, goals)


def _in_new_process(device: str, n_units: int) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_megabytes, device, n_units, torch.get_num_threads()).result()


def _peak_megabytes(device: str, n_units: int, threads: int) -> float:
    torch.set_num_threads(threads)
    work = resnet_work("resnet18", "layer1", n_units, 2, device)
    for _ in Maximizer(steps=work.steps, batch_size=8).stream(work.network, work.units, work.shape):
        pass  # each is dropped, as by a writer of files
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if status.is_file():
        # The peak of this program alone: on Linux, that of getrusage includes the parent.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
