"""Helpers of the tests of `visualize`: a command that takes a second, in this process or in one of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEPS = "--maximizer=fvlightning.Maximizer", "--maximizer.steps=8"
COMMON = ["visualize", "--model", "digits.Classifier", "--trainer.accelerator", "cpu", *STEPS]


def records(folder: str = "out") -> list[dict[str, Any]]:
    return json.loads(Path(folder, "features.json").read_text())


def files(folder: str = "out") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def start(
    *arguments: str,
    program: Sequence[str] = ("-m", "fvlightning"),
    common: Sequence[str] = tuple(COMMON),
    **options: Any,
) -> subprocess.Popen[str]:
    root = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests"), *sys.path]),
    }
    command = [sys.executable, *program, *common, *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}

    def answer_to_interrupts() -> None:
        # In a shell without job control, background commands, perhaps the tests, ignore Ctrl+C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command, env=environment, text=True, preexec_fn=answer_to_interrupts, **{**streams, **options}
    )


def wait_for_pictures(process: subprocess.Popen[str], count: int, folder: str = "out") -> None:
    deadline = time.monotonic() + 60
    while len(list(Path(folder).glob("*/*.png"))) < count and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
