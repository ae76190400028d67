"""Compare the speed of this project with that of other packages, and with that of the network alone.

The contestants take turns in one run, and only ratios between them are compared: other times and other machines give
other milliseconds. A Markdown table is printed for each case:

    python tools/benchmark.py                                          # all that suits the device
    python tools/benchmark.py --cases layer3 mnist --repeats 5 --json before.json
    python tools/benchmark.py --cases layer3 mnist --repeats 5 --compare before.json

The other packages are installed by hand (`benchmarks/peers.py` says how); one that is absent is skipped, with a note.
Two limits stand beside them: `bare` runs the whole frozen network forward and back to the pictures, `floor` only as far
as the layer, with batch norm folded into the convolutions and channels last. Some ratios have a goal beside them. On a
machine that others use at the same time, ``--threads 1 --clock process`` counts only the time that this process
computes; the case `epoch` ignores this option. `tools/benchmark_devices.py` compares two processes with one.
"""

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks import memory, steps, tricks, whole
from benchmarks.measure import Report
from benchmarks.peers import peer_versions
from benchmarks.steps import Options
from benchmarks.tables import changes, record, table

import fvlightning
from fvlightning.cli import freed_memory_kept

CASES: dict[str, Callable[[Options], Report]] = {
    "layer3": steps.layer3,
    "layer1": steps.layer1,
    "mnist": steps.mnist,
    "score": whole.time_to_score,
    "batch": steps.batch_sizes,
    "memory": memory.peak_memory,
    "training": whole.training,
    "epoch": whole.epoch,
    "resnet50": steps.resnet50,
    "tricks_layer1": tricks.layer1,
    "tricks_layer3": tricks.layer3,
    "tricks_mnist": tricks.mnist,
    "tricks_classes": tricks.classes,
}
# Left out unless named: resnet50 takes hours on a CPU, and the tricks are a question about the package alone.
_NOT_BY_DEFAULT = {"cpu": ("resnet50", "tricks"), "cuda": ("tricks",)}


def main() -> None:
    """Measure and print."""
    arguments = _parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    then = json.loads(arguments.compare.read_text())["cases"] if arguments.compare else None
    options = Options(
        device=arguments.device,
        repeats=arguments.repeats,
        steps=arguments.steps,
        peers=not arguments.no_peers,
        data_dir=arguments.data_dir,
        clock=time.process_time if arguments.clock == "process" else time.perf_counter,
    )
    # Lightning sets it in every process that imports it, and each step of torch's Adam then takes longer. The users of
    # other packages have not imported it.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    warnings.simplefilter("ignore")  # peers call deprecated functions
    names = arguments.cases or [name for name in CASES if not name.startswith(_NOT_BY_DEFAULT[arguments.device])]
    made_with = _made_with(arguments.device)
    print(", ".join(f"{name} {value}" for name, value in made_with.items() if value is not None), end="\n\n")
    cases: dict[str, Any] = {}
    for name in names:
        print(f"{name}:", file=sys.stderr)
        # As on the command line, and for all contestants alike.
        with freed_memory_kept():
            report = CASES[name](options)
        cases[name] = record(report)
        print(table(report), end="\n\n", flush=True)
        if arguments.json:
            # After each case: what has been measured is not lost when a later one breaks.
            arguments.json.write_text(json.dumps({"made_with": made_with, "cases": cases}, indent=1))
    if then is not None:
        print(f"Change from {arguments.compare}:\n\n{changes(cases, then)}")


def _parse() -> argparse.Namespace:
    listed = "\n".join(f"  {name:<15} {(case.__doc__ or '').splitlines()[0]}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\ncases:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=list(CASES), metavar="CASE", help="default: all for the device")
    parser.add_argument("--repeats", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="threads of the CPU; default: torch's")
    parser.add_argument("--clock", default="wall", choices=["wall", "process"], help="process: on a CPU, see above")
    parser.add_argument("--steps", type=int, help="number of steps; default: that of each case")
    parser.add_argument("--no_peers", action="store_true", help="leave out the other packages")
    parser.add_argument("--data_dir", help="folder that has MNIST/raw; default: the digits of the extra 'samples'")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--compare", type=Path, help="file of an earlier run to compare with")
    arguments = parser.parse_args()
    if arguments.repeats < 1 or (arguments.steps is not None and arguments.steps < 1):
        parser.error("--repeats and --steps must be at least 1")
    if arguments.compare and not arguments.compare.is_file():
        parser.error(f"no file {arguments.compare} to compare with")
    if arguments.device == "cuda" and arguments.clock == "process":
        parser.error("--clock process: must be wall on a GPU, whose time it does not count")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    return arguments


def _made_with(device: str) -> dict[str, str | None]:
    """Return what the figures depend on."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "fvlightning": fvlightning.__version__,
        **peer_versions(),
    }


if __name__ == "__main__":
    main()
